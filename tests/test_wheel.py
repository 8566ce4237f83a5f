"""Somebody who has the wheel alone does every step of the README, in its order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import Visitor, opened_chromium, served
from conftest import REPOSITORY
from loopback_hub.server import LoopbackHub


pytestmark = pytest.mark.slow

README = (REPOSITORY / "README.md").read_text()
STEPS, PUBLISHING = re.findall(r"```bash\n(hf-clipselect .*?)```", README, flags=re.DOTALL)
CODE = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Of a shell in which `hf_clipselect` is that of the wheel, installed by name from the wheel's folder."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    # What it depends on is here; the name alone must do.
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", folder / "site"]
    subprocess.run([*install, "-f", folder / "dist", "hf_clipselect"], check=True, capture_output=True)
    path = os.pathsep.join([str(folder / "site" / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(folder / "site"), "PYTHONSAFEPATH": "1"}


def run(*command: object, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_package_is_that_of_the_wheel(environment, tmp_path):
    place = run("python", "-c", "import hf_clipselect; print(hf_clipselect.__file__)", cwd=tmp_path, env=environment)
    assert place.startswith(environment["PYTHONPATH"]) and not (Path(place).parents[1] / "recipes").exists()
    for command in ("select", "show", "suspects", "explore", "push", "pull", "completion"):
        assert f"hf-clipselect {command}" in run("hf-clipselect", command, "--help", cwd=tmp_path, env=environment)


def test_the_steps_of_the_readme(environment, tmp_path):
    """CIFAR-10 needs a network: the embedded digits stand for it."""
    pytest.importorskip("gradio")
    lines = [
        line.partition("#")[0].split() for line in STEPS.replace("uoft-cs/cifar10", "embedded/digits").splitlines()
    ]
    assert [line[1] for line in lines] == ["select", "explore", "select", "show"]
    select, explore, again, show = lines
    assert "recipes" not in run(*select, cwd=tmp_path, env=environment)
    run("hf-clipselect", "suspects", explore[2], cwd=tmp_path, env=environment)
    assert (tmp_path / "suspects" / "suspects.png").stat().st_size > 1000
    with opened_chromium() as browser, served(explore[2], tmp_path, env=environment) as url:
        visitor = Visitor(browser, url)
        visitor.page.keyboard.press("d")
        visitor.page.wait_for_function("document.querySelector('.cs-progress strong').innerText.startsWith('1 of')")
        visitor.leave()
    assert "decisions: 0 labels changed, 0 kept, 1 row dropped, 0 unsure\n" in run(
        *again, cwd=tmp_path, env=environment
    )
    shown = run(*show, cwd=tmp_path, env=environment)
    assert "ratio_30: " in shown and "1 row dropped" in shown and len(shown.splitlines()) <= 10


def test_what_is_published_comes_back(environment, tmp_path):
    [_, (code, output)] = CODE
    with LoopbackHub(tmp_path / "hub") as hub:
        run("bash", "-c", PUBLISHING, cwd=tmp_path, env=environment | hub_only(hub, "hf_me_write"))
        reader = environment | hub_only(hub)
        assert run("python", "-c", code, cwd=tmp_path, env=reader) == output
        pull = ["hf-clipselect", "pull", "me/digits-pruned", "--selection_ratio", "0.5", "--output_dir", "half"]
        run(*pull, cwd=tmp_path, env=reader)
        load = "import datasets; print(len(datasets.load_dataset('half', split='train')))"
        assert run("python", "-c", load, cwd=tmp_path, env=reader) == "649\n"
        push = ["hf-clipselect", "push", "clipselect_output", "--hub_dataset_id", "me/digits-pruned"]
        push += ["--hub_model_id", "me/digits-clip-adapters", "--dry_run"]
        told = run(*push, cwd=tmp_path, env=environment | hub_only(hub, "hf_me_write"))
        assert "nothing changes" in told.lower()


def hub_only(hub: LoopbackHub, *token: str) -> dict[str, str]:
    """What the Hub adds to the environment of the tests."""
    return {name: value for name, value in hub.environment(*token).items() if os.environ.get(name) != value}
