"""A command whose stdout or stderr is closed, full, gone or of few characters ends in order."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from hf_clipselect.cli import main
from hf_clipselect.cli.streams import lasting_streams


FULL = "/dev/full"
COMMAND = "import sys; from hf_clipselect.cli.commands import main; sys.exit(main())"


def broken_pipe() -> io.TextIOWrapper:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, images_dataset: Dataset, clip_folder: Path, tmp_path: Path):
    images_dataset.save_to_disk(tmp_path / "data")
    flags = [
        "--dataset_name",
        tmp_path / "data",
        "--model_name_or_path",
        clip_folder,
        "--adaptation",
        "off",
        "--use_cpu",
    ]

    def run_with(name: str, **streams: io.TextIOWrapper | None) -> int:
        """The exit code of a run with these streams, into a folder of this name."""
        with monkeypatch.context() as patch:
            for stream, value in streams.items():
                patch.setattr(sys, stream, value)
            return main(["select", *map(str, flags), "--output_dir", str(tmp_path / name)])

    return run_with


def test_streams_that_are_closed_or_that_nobody_reads(run, tmp_path: Path) -> None:
    assert run("closed", stdout=None, stderr=None) == 0
    with broken_pipe() as out, broken_pipe() as err:
        assert run("broken", stdout=out, stderr=err) == 0
    assert all((tmp_path / name / "report.html").exists() for name in ("closed", "broken"))


@pytest.mark.skipif(not os.path.exists(FULL), reason=f"no {FULL}")
def test_a_full_disk_for_stdout_is_told(run, tmp_path: Path) -> None:
    with open(FULL, "w") as out, open(tmp_path / "err", "w") as err:
        assert run("full", stdout=out, stderr=err) == 1
    told = f"error: stdout can't be written to: No space left on device. The results are in {tmp_path / 'full'}.\n"
    assert (tmp_path / "err").read_text().endswith(told)
    with open(FULL, "w") as err:
        assert run("full", stderr=err) == 0


def test_characters_that_a_stream_does_not_know(run, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w", encoding="ascii") as out:
        assert run("grün", stdout=out) == 0
    assert f'load_dataset("{tmp_path}/gr\\xfcn/subset"' in (tmp_path / "out").read_text()


def test_the_streams_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), lasting_streams():
        sys.stdout.write("kept")
        raise ZeroDivisionError
    assert (sys.stdout, sys.stderr) == before and capsys.readouterr().out == "kept"


@pytest.mark.parametrize(
    ("flags", "shell", "code"),
    [
        ("--help", ">&-", 0),
        ("--help", ">/dev/full", 1),
        ("--help", "| true", 0),
        ("wrong", "2>&-", 2),
        ("--help", "<&- >&- 2>&-", 0),
    ],
)
def test_the_end_of_the_process(flags: str, shell: str, code: int, tmp_path: Path) -> None:
    """What Python itself still writes when it ends is no traceback."""
    script = f'set -o pipefail; sleep 0.3 | "$0" -c "$1" {flags} {shell}'
    done = subprocess.run(["bash", "-c", script, sys.executable, COMMAND], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr in ("", "error: stdout can't be written to: No space left on device.\n")


def test_names_that_are_no_text(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("\udcff") == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: --output_dir holds bytes that are no UTF-8")
