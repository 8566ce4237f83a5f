"""Reads the imports of the package and decides whether they point down (design: one direction, no cycles)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "hf_clipselect"

# From the bottom up. A room imports rooms of lower tiers, or of its own without a cycle.
TIERS = [
    {"errors"},
    {"runtime"},
    {"config"},
    {"selection"},
    {"scores"},
    {"data", "embedded"},
    {"encoder"},
    {"adapters"},
    {"hub"},
    {"results"},
    {"pipeline"},
    {"cli", "evaluation"},
    {"__init__", "__main__"},
]
TIER = {module: tier for tier, modules in enumerate(TIERS) for module in modules}

# Libraries that only these rooms may import.
ONLY = {"peft": {"adapters"}}
# Libraries that these rooms must not import.
_PURE = {"scores", "selection", "errors"}
PURE = {
    "transformers": _PURE,
    "datasets": _PURE | {"config"},
    "torch": {"config", "errors"},
    "accelerate": _PURE | {"config"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The name under hf_clipselect; a folder with all its files is one module."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(tree: ast.AST, path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute dotted names of all that a file imports, wherever the import stands."""
    folder = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(folder[: len(folder) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            # `from . import mlp_adapter` imports a module, `from .data import x` a name of one.
            yield from ((".".join([*base, alias.name]), node) for alias in node.names)


def package_modules(name: str) -> str | None:
    """The module of the package that a dotted name lies in."""
    parts = name.split(".")
    if parts[0] != "hf_clipselect":
        return None
    is_module = len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file())
    return parts[1] if is_module else "__init__"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {module_of(path): set() for path in FILES}
    for path in FILES:
        for name, _ in imported_names(parsed(path), path):
            module = package_modules(name)
            if module is not None and module != module_of(path):
                edges[module_of(path)].add(module)
    return edges


def find_cycle(edges: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        for other in sorted(edges.get(module, ())):
            if cycle := visit(other, [*trail, module]):
                return cycle
        done.add(module)
        return None

    return next(filter(None, (visit(module, []) for module in sorted(edges))), None)


def test_reader_sees_every_kind_of_import() -> None:
    source = """
import torch, numpy as np
from datasets.features import Image
from . import errors
from .data import load_source
from .. import prompts
from ..selection.exact import top
import hf_clipselect.report
from hf_clipselect import select_dataset
def f():
    from .cli import main
"""
    names = {name for name, _ in imported_names(ast.parse(source), PACKAGE / "hub" / "cards.py")}
    assert names == {
        "torch",
        "numpy",
        "datasets.features.Image",
        "hf_clipselect.hub.errors",
        "hf_clipselect.hub.data.load_source",
        "hf_clipselect.prompts",
        "hf_clipselect.selection.exact.top",
        "hf_clipselect.report",
        "hf_clipselect.select_dataset",
        "hf_clipselect.hub.cli.main",
    }
    assert package_modules("hf_clipselect.selection.exact.top") == "selection"
    assert package_modules("hf_clipselect.select_dataset") == "__init__"
    assert package_modules("torch.nn") is None


def test_cycles_are_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"b", "c"}}) is None
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_every_module_has_a_tier() -> None:
    assert {module_of(path) for path in FILES} <= set(TIER)


def test_imports_point_down() -> None:
    upward = [
        f"{module} ({TIER[module]}) imports {other} ({TIER[other]})"
        for module, others in graph().items()
        for other in others
        if TIER[other] > TIER[module]
    ]
    assert upward == []


def test_no_cycles() -> None:
    assert find_cycle(graph()) is None


def test_package_is_not_imported_inside_functions() -> None:
    """It hides a cycle, and a missing name until the function runs. Only the command line, which nothing imports, does
    so, and the package itself, whose names load when they are used.
    """
    hidden = []
    for path in set(FILES) - {PACKAGE / "cli" / "commands.py", PACKAGE / "__init__.py"}:
        tree = parsed(path)
        hidden += [
            f"{path.relative_to(REPOSITORY)}:{node.lineno} {name}"
            for name, node in imported_names(tree, path)
            if node not in tree.body and package_modules(name) is not None
        ]
    assert hidden == []


@pytest.mark.parametrize("library", ONLY)
def test_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {
        module_of(path)
        for path in FILES
        for name, _ in imported_names(parsed(path), path)
        if name.split(".")[0] == library
    }
    assert users == ONLY[library]


@pytest.mark.parametrize("library", PURE)
def test_pure_modules_do_without(library: str) -> None:
    users = {
        module_of(path)
        for path in FILES
        for name, _ in imported_names(parsed(path), path)
        if name.split(".")[0] == library and name != "transformers.HfArgumentParser"
    }
    assert users & PURE[library] == set()


def test_files_stay_short() -> None:
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {file: length for file, length in lengths.items() if length > 400} == {}


def test_nothing_is_printed() -> None:
    """A library logs; the command line writes to its streams."""
    calls = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []
