"""Holds the package to its floor plan: the rooms that CONTRIBUTING.md lists, in that order, and what stands there."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "hf_clipselect"
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = sorted(PACKAGE.rglob("*.py"))

# "3. `config`: which settings there are." From the bottom up.
[_SECTION] = re.findall(r"^## Rooms\n(.*?)^## ", CONTRIBUTING, flags=re.MULTILINE | re.DOTALL)
ROOMS = re.findall(r"^\d+\. `(\w+)`: \S.*\.$", _SECTION, flags=re.MULTILINE)
# What stands in the package's root beside the rooms, and above them.
DOORS = ["__init__", "__main__"]

MAX_ROOMS = 15
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80

# Libraries that only these rooms may import.
ONLY = {"peft": {"adapters"}}
# Libraries that these rooms must not import.
ARRAYS_ALONE = {"scores", "selection", "errors"}
WITHOUT = {
    "transformers": ARRAYS_ALONE,
    "datasets": ARRAYS_ALONE | {"config"},
    "accelerate": ARRAYS_ALONE | {"config"},
    "torch": {"config", "errors"},
}


def where(path: Path, line: int | None = None) -> str:
    place = path.relative_to(REPOSITORY).as_posix()
    return place if line is None else f"{place}:{line}"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(path: Path) -> str:
    """The room that a file of the package lies in, or which of the doors it is."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(tree: ast.AST, path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute dotted names of all that a file imports, wherever the import stands, under TYPE_CHECKING too."""
    folder = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(folder[: len(folder) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            # `from . import mlp_adapter` imports a module, `from .data import x` a name of one.
            yield from ((".".join([*base, alias.name]), node) for alias in node.names)


@cache
def imports_of(path: Path) -> list[tuple[str, ast.stmt]]:
    return list(imported_names(parsed(path), path))


def imported_room(name: str) -> str | None:
    """The room of the package that a dotted name lies in."""
    parts = name.split(".")
    if parts[0] != "hf_clipselect":
        return None
    is_room = len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file())
    return parts[1] if is_room else "__init__"


def imported_files(name: str, importer: Path) -> set[Path]:
    """The files that run when `importer` imports a dotted name: the module's, and those of packages on the way to it.

    The packages that the importer itself lies in are running already.
    """
    files, place = [], REPOSITORY
    for part in name.split("."):
        place = place / part
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if not file.is_file():
            break  # not a module: a name in the last one
        files.append(file)
    running = {folder / "__init__.py" for folder in importer.parents}
    return {file for file in files if file == files[-1] or file not in running} - {importer, PACKAGE / "__init__.py"}


def room_graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {room_of(path): set() for path in FILES}
    for path in FILES:
        rooms = {imported_room(name) for name, _ in imports_of(path)}
        edges[room_of(path)] |= rooms - {None, room_of(path)}
    return edges


def find_cycle(edges: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str] | None:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return None
        for other in sorted(edges.get(node, ())):
            if cycle := visit(other, [*trail, node]):
                return cycle
        done.add(node)
        return None

    return next(filter(None, (visit(node, []) for node in sorted(edges))), None)


def module_level(tree: ast.Module) -> set[ast.stmt]:
    """The statements of a module that stand outside of functions and classes, those under TYPE_CHECKING among them."""
    checked = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    ]
    return {*tree.body, *(statement for node in checked for statement in node.body)}


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from a function's first statement to its last, comments, blank lines and inner functions included; the
    decorators, the signature and the docstring are not counted.
    """
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def library_users(library: str) -> set[str]:
    """The rooms that import a library."""
    return {
        room_of(path)
        for path in FILES
        for name, _ in imports_of(path)
        # The parser of the command line, which loads no model.
        if name.split(".")[0] == library and name != "transformers.HfArgumentParser"
    }


def test_reader_sees_every_kind_of_import() -> None:
    source = """
from typing import TYPE_CHECKING
import torch, numpy as np
from datasets.features import Image
from . import errors
from .data import load_source
from .. import prompts
from ..selection.exact import top
import hf_clipselect.report
from hf_clipselect import select_dataset
if TYPE_CHECKING:
    from peft import PeftModel
def f():
    from .cli import main
"""
    tree = ast.parse(source)
    names = dict(imported_names(tree, PACKAGE / "hub" / "cards.py"))
    assert set(names) == {
        "typing.TYPE_CHECKING",
        "torch",
        "numpy",
        "datasets.features.Image",
        "hf_clipselect.hub.errors",
        "hf_clipselect.hub.data.load_source",
        "hf_clipselect.prompts",
        "hf_clipselect.selection.exact.top",
        "hf_clipselect.report",
        "hf_clipselect.select_dataset",
        "peft.PeftModel",
        "hf_clipselect.hub.cli.main",
    }
    assert imported_room("hf_clipselect.selection.exact.top") == "selection"
    assert imported_room("hf_clipselect.select_dataset") == "__init__"
    assert imported_room("torch.nn") is None
    inside = {name for name, statement in names.items() if statement not in module_level(tree)}
    assert inside == {"hf_clipselect.hub.cli.main"}


def test_reader_finds_the_files_that_an_import_runs() -> None:
    def files(name: str, importer: str) -> set[str]:
        return {file.relative_to(PACKAGE).as_posix() for file in imported_files(name, PACKAGE / importer)}

    assert files("hf_clipselect.errors.InputError", "cli/commands.py") == {"errors.py"}
    assert files("hf_clipselect.adapters.mlp.layer.MlpLayer", "pipeline/run.py") == {
        "adapters/__init__.py",
        "adapters/mlp/__init__.py",
        "adapters/mlp/layer.py",
    }
    assert files("hf_clipselect.adapters.mlp.layer.MlpLayer", "adapters/training.py") == {
        "adapters/mlp/__init__.py",
        "adapters/mlp/layer.py",
    }
    assert files("hf_clipselect.adapters.losses.x", "adapters/__init__.py") == {"adapters/losses.py"}
    assert files("hf_clipselect.adapters.load_adapters", "adapters/training.py") == {"adapters/__init__.py"}
    assert files("torch.nn", "adapters/training.py") == set()


def test_cycles_are_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"b", "c"}}) is None
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_lines_of_functions_are_those_of_their_code() -> None:
    source = '''
@decorated
def f(
    x: int,
) -> int:
    """One line,
    and another.
    """
    # A comment before the first statement.
    y = x

    # One inside.
    return y

def g() -> None:
    """Nothing but words."""
'''
    f, g = ast.parse(source).body
    assert (function_lines(f), function_lines(g)) == (4, 0)


def test_contributing_lists_the_rooms_that_are_there() -> None:
    rooms = {room_of(path) for path in FILES} - set(DOORS)
    assert set(ROOMS) == rooms and len(ROOMS) == len(rooms)
    assert len(rooms) <= MAX_ROOMS


def test_nothing_but_rooms_lies_in_the_root() -> None:
    entries = {entry.name.removesuffix(".py") for entry in PACKAGE.iterdir()}
    assert entries - {*ROOMS, *DOORS, "py.typed", "__pycache__"} == set()


def test_imports_point_down() -> None:
    """To rooms that stand earlier in the list, so that no rooms import one another."""
    order = [*ROOMS, *DOORS]
    upward = [
        f"{room} imports {other}"
        for room, others in room_graph().items()
        for other in others
        if order.index(other) > order.index(room)
    ]
    assert upward == []


def test_no_modules_import_one_another() -> None:
    edges = {
        where(path): {where(file) for name, _ in imports_of(path) for file in imported_files(name, path)}
        for path in FILES
    }
    assert find_cycle(edges) is None


def test_the_product_does_without_the_evidence() -> None:
    assert [room for room, others in room_graph().items() if "evaluation" in others] == []


def test_package_is_not_imported_inside_functions() -> None:
    """It hides a cycle, and a missing name until the function runs. Only the command line does so, which prints its
    help before anything large is loaded.
    """
    hidden = [
        f"{where(path, statement.lineno)} {name}"
        for path in FILES
        if room_of(path) not in {"cli", *DOORS}
        for name, statement in imports_of(path)
        if imported_room(name) is not None and statement not in module_level(parsed(path))
    ]
    assert hidden == []


@pytest.mark.parametrize("library", ONLY)
def test_library_is_imported_only_where_it_belongs(library: str) -> None:
    assert library_users(library) == ONLY[library]


@pytest.mark.parametrize("library", WITHOUT)
def test_pure_rooms_do_without_a_library(library: str) -> None:
    assert library_users(library) & WITHOUT[library] == set()


def test_no_two_files_bear_one_name() -> None:
    counts = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert {name: count for name, count in counts.items() if count > 1} == {}


def test_files_stay_short() -> None:
    lengths = {where(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {file: length for file, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    lengths = {
        f"{where(path, node.lineno)} {node.name}": function_lines(node)
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {function: length for function, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_the_formatter_formats_everything() -> None:
    assert [where(path) for path in FILES if re.search(r"#\s*fmt:", path.read_text(encoding="utf-8"))] == []
    ruff = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert "E501" not in ruff["lint"]["ignore"] and "format" not in ruff and "exclude" not in ruff


def test_nothing_is_printed() -> None:
    """A library logs; the command line writes to its streams."""
    calls = [
        where(path, node.lineno)
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_tests_mirror_the_rooms() -> None:
    """Every room has a folder of tests; beside them are those of recipes/, and those of the whole in tests/ itself."""
    tests = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    folders = {path.relative_to(REPOSITORY / "tests").parent.as_posix() for path in tests}
    assert folders == {*ROOMS, "recipes", "."}
