"""An action waits for the import of a library, and nobody else notices."""

import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_clipselect.runtime.import_hooks import when_imported


NAME = "library_of_the_test"
SOURCE = "import time\nfrom . import part\ntime.sleep(0.05)\ncomplete = True\n"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    (folder / "part.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield NAME
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture
def seen() -> list[bool]:
    return []


@pytest.fixture
def note(seen: list[bool]) -> Callable[[], None]:
    """Notes whether the library was complete when the action was called."""
    return lambda: seen.append(getattr(importlib.import_module(NAME), "complete", False))


def test_an_action_waits_for_the_whole_library_and_is_called_once(library, note, seen) -> None:
    finders = list(sys.meta_path)
    when_imported(library, note)
    assert importlib.util.find_spec(library) is not None and importlib.util.find_spec("csv") is not None
    assert library not in sys.modules and seen == []
    importlib.import_module(f"{library}.part")
    assert seen == [True] and sys.meta_path == finders
    module = sys.modules[library]
    assert inspect.getsource(module) == SOURCE and vars(module.__loader__).keys() == {"name", "path"}
    assert importlib.reload(module).complete and seen == [True]


def test_a_library_that_is_there_needs_no_waiting(library, note, seen) -> None:
    importlib.import_module(library)
    finders = list(sys.meta_path)
    when_imported(library, note)
    assert seen == [True] and sys.meta_path == finders


def test_two_actions_are_both_called(library, note, seen) -> None:
    finders = list(sys.meta_path)
    when_imported(library, note)
    when_imported(library, note)
    importlib.import_module(library)
    assert seen == [True, True] and sys.meta_path == finders


def test_threads_see_the_library_after_the_action(library, note, seen) -> None:
    when_imported(library, note)
    after: list[bool] = []

    def work() -> None:
        importlib.import_module(library)
        after.append(bool(seen))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert after == [True] * 8 and seen == [True]


def test_whoever_asks_while_a_thread_imports_waits_for_it(library, note, seen) -> None:
    thread = threading.Thread(target=importlib.import_module, args=(library,))
    thread.start()
    while library not in sys.modules:
        pass
    when_imported(library, note)
    thread.join()
    assert seen == [True]


def test_a_library_that_is_missing_stays_so(note, seen) -> None:
    finders = list(sys.meta_path)
    when_imported("no_such_library", note)
    try:
        assert importlib.util.find_spec("no_such_library") is None
        with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_library'"):
            importlib.import_module("no_such_library")
    finally:
        sys.meta_path[:] = finders
    assert seen == []


def test_an_error_of_the_action_comes_out_of_the_import(library) -> None:
    def fail() -> None:
        raise RuntimeError("the action failed")

    when_imported(library, fail)
    with pytest.raises(RuntimeError, match="the action failed"):
        importlib.import_module(library)
    assert importlib.import_module(library).complete
