"""`hf-clipselect explore`: what it refuses, in one line."""

import socket
import subprocess
import sys

import pytest
from made_results import make_result

from hf_clipselect.cli import main


@pytest.fixture
def saved(images_dataset, tmp_path):
    make_result(images_dataset, report=True).save(tmp_path / "saved")
    return str(tmp_path / "saved")


def test_without_gradio_the_extra_is_named(saved):
    code = "import sys; sys.modules['gradio'] = None; from hf_clipselect.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "explore", saved], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: The explorer needs Gradio, which is not installed: pip install 'hf_clipselect[app]'"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere/at-all"], "nowhere/at-all"),
        (["SAVED", "--revision", "v1"], "a local folder, which has no revision 'v1'"),
        (["SAVED", "--dataset_name", "embedded/digits"], "not the one that the selection was made from"),
        (["SAVED", "--decisions", "SAVED/selection.json"], "selection.json can't be read"),
        (["SAVED", "--port", "TAKEN"], "can't be served: "),
    ],
)
def test_what_can_not_be_shown_is_told_in_one_line(saved, flags, message, capsys, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {"SAVED": saved, "TAKEN": str(taken.getsockname()[1])}
        for name, value in values.items():
            flags = [flag.replace(name, value) for flag in flags]
        assert main(["explore", *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
