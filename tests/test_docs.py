"""The README's commands and examples are what is run, and show what they print."""

import os
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from loopback_hub.server import LoopbackHub

from hf_clipselect.embedded import tiny_clip_path


README = (REPOSITORY / "README.md").read_text()
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", flags=re.DOTALL)
PUBLISHING = re.search(r"## Publish and load\n.*?(?=\n## )", README, flags=re.DOTALL)[0]
EXAMPLES = EXAMPLE.findall(README.replace(PUBLISHING, ""))


@pytest.mark.slow
@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_python_examples_print_what_the_readme_shows(code, output, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == output


def test_every_python_block_of_the_readme_is_one_of_the_examples_that_run():
    assert len(EXAMPLES) == 2 and len(EXAMPLE.findall(PUBLISHING)) == 1 and README.count("```python") == 3


@pytest.mark.slow
def test_publishing_and_loading_as_in_the_readme(tmp_path):
    """The command of the README pushes in one process, its lines load in another that starts with an empty cache."""
    [command] = re.findall(r"```bash\n(.*?)```", PUBLISHING, flags=re.DOTALL)
    [(code, output)] = EXAMPLE.findall(PUBLISHING)
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = hub.environment("hf_me_write")
        environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
        pushed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert pushed.returncode == 0, pushed.stderr[-2000:]
        loaded = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=hub.environment()
        )
        assert loaded.returncode == 0, loaded.stderr[-2000:]
        assert loaded.stdout == output
        assert hub.unknown == []


@pytest.mark.slow
def test_the_main_job_prints_what_the_readme_shows(tmp_path):
    command = [sys.executable, str(REPOSITORY / "recipes" / "select.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    [shown] = re.findall(r"```\n(\d+ rows of embedded/digits.*?)```", README, flags=re.DOTALL)
    percent = re.compile(r"[\d.]+(?=%)")  # another processor may move a row
    assert percent.sub("", done.stdout) == percent.sub("", shown)
    ours, theirs = ([float(share) for share in percent.findall(text)] for text in (done.stdout, shown))
    assert ours == pytest.approx(theirs, abs=0.5)


def test_ci_runs_the_readme_test_command():
    [command] = [line for line in README.splitlines() if line.endswith("&& .venv/bin/pytest")]
    assert command in (REPOSITORY / ".ci" / "run").read_text().splitlines()


def test_the_readme_states_the_measured_accuracy_of_the_tiny_clip():
    card = (tiny_clip_path() / "README.md").read_text()
    [accuracy] = re.findall(r"\| `A photo of a seven\.` \| ([\d.]+) \|", card)
    assert f"{accuracy} % zero-shot on all 1,797 digits" in README


def test_every_flag_that_the_readme_names_exists(capsys):
    from hf_clipselect.config.command_line import parse_arguments  # noqa: PLC0415

    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    flags = set(re.findall(r"--\w+", capsys.readouterr().out))
    launchers = {"--num_processes", "--multi_gpu", "--config_file"}
    recipes = {
        flag
        for name in ("benchmark.py", "label_noise.py")
        for flag in re.findall(r'"(--\w+)"', (REPOSITORY / "recipes" / name).read_text(encoding="utf-8"))
    }
    assert set(re.findall(r"--\w+", README)) - launchers - recipes <= flags
