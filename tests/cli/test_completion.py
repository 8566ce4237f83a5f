"""`hf-clipselect completion`, in the shell that it is for."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from hf_clipselect.cli import main
from hf_clipselect.cli.command_table import COMMANDS


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    with pytest.MonkeyPatch.context() as patch, (folder / "script.bash").open("w") as file:
        patch.setattr("sys.stdout", file)
        assert main(["completion", "bash"]) == 0
    (folder / "results").mkdir()
    (folder / "recipe.yaml").touch()
    return folder / "script.bash"


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers behind these words, the last of which is being typed."""
    asks = f"""
        source {shlex.quote(str(script))}
        COMP_WORDS=(hf-clipselect {shlex.join(words)}) COMP_CWORD={len(words)}
        function=$(complete -p hf-clipselect | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function hf-clipselect "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", asks], capture_output=True, text=True, cwd=script.parent, check=True)
    return sorted(line for line in done.stdout.splitlines() if line)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sel"], ["select"]),
        (["select", "--selection"], ["--selection_count", "--selection_ratio"]),
        (["select", "--selection_ratio", "0.3", "0.5", "--obj"], ["--objective"]),
        (["select", "--objective", ""], ["clean", "diverse", "paper", "released", "robust"]),
        (["select", "--config", "re"], ["recipe.yaml", "results"]),
        (["select", "--output_dir", "re"], ["results"]),
        (["show", "re"], ["results"]),
        (["push", "results", "--hub_p"], ["--hub_private_repo"]),
        (["select", "--dataset-"], []),  # one spelling
    ],
)
def test_bash_completes(script: Path, words: list[str], offered: list[str]) -> None:
    assert completed(script, *words) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_knows_every_command(script: Path) -> None:
    assert completed(script, "") == sorted(COMMANDS)


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_scripts_of_other_shells_name_commands_and_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS) and "selection_ratio" in text and "robust" in text


def test_an_unknown_shell_is_told_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsah"]) == 2
    assert "did you mean bash?" in capsys.readouterr().err
