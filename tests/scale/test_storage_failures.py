"""A storage that fails is told in a sentence, whatever its client raises; a bug keeps its traceback."""

import pickle
import socket
from concurrent.futures.process import _ExceptionWithTraceback
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile
from made_shard_scores import made_scores, write_scores

from hf_clipselect.scale.scale_command import main
from hf_clipselect.scale.storage_failures import is_of_storage


class OfClient(Exception):
    """Of no common class, as those of botocore."""


class BrokenFile(AbstractBufferedFile):
    """Can be opened, but not read."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        raise self.fs.raises


class BrokenStorage(MemoryFileSystem):
    """Memory, but for what `fails` at a path."""

    protocol = "broken"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    raises: Exception = OfClient("no credentials\nwere found.")
    fails: tuple[str, str] = ("", "")

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("broken://", "memory://"))

    def _check(self, call: str, path: str) -> None:
        if call == self.fails[0] and self.fails[1] in path:
            raise self.raises

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        self._check("find", path)
        return super().find(path, *args, **options)

    def isdir(self, path: str) -> bool:
        self._check("isdir", path)
        return super().isdir(path)

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        self._check("open", path)
        if self.fails[0] == "read" and self.fails[1] in path:
            return BrokenFile(self, path)
        return super()._open(path, *args, **options)

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self._check("put", rpath)
        super().put_file(lpath, rpath, **options)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> type[BrokenStorage]:
    fsspec.register_implementation("broken", BrokenStorage, clobber=True)
    monkeypatch.setattr(BrokenStorage, "store", {})
    monkeypatch.setattr(BrokenStorage, "pseudo_dirs", [""])
    monkeypatch.setattr("hf_clipselect.scale.shards._VERSIONS", ())
    return BrokenStorage


def run(step: str, data: object, work: object, *flags: str) -> int:
    return main([step, "--data_dir", str(data), "--work_dir", str(work), "--workers", "1", *flags])


def last_line(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("step", ["select", "write"])
def test_a_server_that_can_not_be_reached_is_told(step, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, work = write_scores(made_scores(20), tmp_path)
    assert run("select", data, work) == 0
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x"
        assert run(step, url, work) == 1
    told = last_line(capsys)
    assert told.startswith(f"error: The storage of --data_dir {url} failed: ") and "Check the URL, the network" in told


@pytest.mark.parametrize(
    ("step", "fails"),
    [
        ("select", ("isdir", "data")),
        ("select", ("find", "work/scores")),
        ("select", ("open", "reference.json")),
        ("select", ("open", "scores/part/0001")),
        ("select", ("read", "scores/part/0001")),
        ("select", ("put", "sorted")),
        ("write", ("put", "masks")),
        ("write", ("find", "data")),
    ],
)
@pytest.mark.parametrize("kind", [OfClient, ConnectionResetError])
def test_whatever_a_client_raises_is_told(
    storage, step, fails, kind, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, work = write_scores(made_scores(20), tmp_path, versions=False)
    filesystem = fsspec.filesystem("broken")
    filesystem.put(str(data), "/data", recursive=True)
    filesystem.put(str(work), "/work", recursive=True)
    if step == "write":
        assert run("select", "broken://data", "broken://work") == 0
    monkeypatch.setattr(storage, "fails", fails)
    monkeypatch.setattr(storage, "raises", kind("no credentials\nwere found."))
    assert run(step, "broken://data", "broken://work") == 1
    assert last_line(capsys).startswith(
        "error: The storage of --data_dir broken://data or --work_dir broken://work failed: "
        f"{kind.__name__}: no credentials were found. Check the URL"
    )


def test_a_failure_in_a_process_of_a_pool_is_known() -> None:
    def sent(call: Any) -> Exception:
        with pytest.raises(Exception) as raised:
            call()
        return pickle.loads(pickle.dumps(_ExceptionWithTraceback(raised.value, raised.tb)))

    assert is_of_storage(sent(lambda: fsspec.filesystem("memory").open("gone")))
    assert not is_of_storage(sent(lambda: {}["a bug"]))


def test_bugs_keep_their_tracebacks(storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, work = write_scores(made_scores(20), tmp_path)
    fsspec.filesystem("broken").put(str(data), "/data", recursive=True)
    monkeypatch.setattr("hf_clipselect.scale.shuffle.list_shards", lambda *_: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        run("select", "broken://data", work)


@pytest.mark.parametrize("name", ["sorted", "ranked/00000.parquet", "selected", "logs", "selection_quotas.json"])
def test_what_is_in_the_way_is_told(name, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, work = write_scores(made_scores(20), tmp_path)
    if "." in name:
        (work / name / "own").mkdir(parents=True)
    else:
        (work / name).write_text("my own")
    assert run("select", data, work) == 2
    assert last_line(capsys).startswith(f"error: {work / name} is in the way: it is ")
