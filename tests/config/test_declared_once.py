"""A knob is declared by its field of a dataclass; what says it again (Python's keywords, docs, messages) agrees."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from conftest import REPOSITORY
from transformers import TrainingArguments

from hf_clipselect import select_dataset, select_embeddings
from hf_clipselect.cli.command_parsers import parser_of
from hf_clipselect.cli.command_table import COMMANDS
from hf_clipselect.config.arguments import DEFAULT_MODEL, Arguments, SelectionArguments
from hf_clipselect.scale.scale_command import scale_parser
from hf_clipselect.selection import objective
from hf_clipselect.selection.objective import KNOBS, PRESETS, Objective


FIELDS = {field.name: field for group in dataclasses.fields(Arguments) for field in dataclasses.fields(group.type)}
HINTS = {name: hint for group in dataclasses.fields(Arguments) for name, hint in get_type_hints(group.type).items()}

# Keywords that take the thing itself where the flag takes a file of it.
FILES = {"class_names": "class_names_file", "class_quotas": "class_quotas_file"}
# Keywords without a flag: what the flags of the data and the model name.
THINGS = {"dataset", "reference", "model", "processor", "image_embeds", "text_embeds", "labels", "groups"}
# Rows and names may be given as they are.
TAKE_MORE = {*FILES, "must_keep", "must_drop", "decisions"}
# Defaults that differ on purpose: the command line leaves a folder, and its model goes with its dataset.
OTHER_DEFAULTS = {
    (select_dataset, "model_name_or_path"): DEFAULT_MODEL,
    (select_dataset, "output_dir"): None,
}
# A dataset that is in memory needs none of these; publishing is a method of the result.
COMMAND_LINE_ONLY = {
    "dataset_name",
    "dataset_config_name",
    "dataset_revision",
    "data_files",
    "data_dir",
    "storage_options",
    "allow_unread_files",
    "streaming",
    "train_split_name",
    "reference_split",
    "reference_dataset_name",
    "max_train_samples",
    "min_train_steps",
    "report_to",
    "push_to_hub",
    "hub_dataset_id",
    "hub_model_id",
    "hub_private_repo",
    "hub_revision",
    "hub_tag",
    "create_pr",
    "scores_only",
    "license",
}
DOORS = [select_dataset, select_embeddings]
KEYWORDS = [(door, name) for door in DOORS for name in inspect.signature(door).parameters if name not in THINGS]


def kinds(hint: Any) -> set[Any]:
    """What a value may be, one or several: choices are texts, a path may be a text."""
    if get_origin(hint) is Literal:
        return {str}
    if get_args(hint):
        return set().union(*map(kinds, get_args(hint)))
    return set() if hint in (NoneType, Path) else {hint}


def choices(hint: Any) -> tuple[str, ...]:
    parts = [hint, *get_args(hint)]
    return next((get_args(part) for part in parts if get_origin(part) is Literal), ())


def default_of(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def documented(function: Callable[..., Any]) -> dict[str, str]:
    """The entries under `Args:`, by name; names that share an entry share its text."""
    text = inspect.getdoc(function).split("Args:\n")[1].split("\nReturns:")[0].split("\nRaises:")[0]
    heads = list(re.finditer(r"^ {4}(?=\w)((?:\w+,\s+)*\w+)(?=:| \()", text, re.MULTILINE))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    entries = [text[head.start() : end] for head, end in zip(heads, ends, strict=True)]
    return {
        name: " ".join(entry.split())
        for head, entry in zip(heads, entries, strict=True)
        for name in re.split(r",\s+", head[1])
    }


@pytest.mark.parametrize(("door", "name"), KEYWORDS)
def test_a_keyword_is_its_field(door: Callable[..., Any], name: str) -> None:
    parameter, field = inspect.signature(door).parameters[name], FIELDS[FILES.get(name, name)]
    if name not in TAKE_MORE:
        assert kinds(get_type_hints(door)[name]) == kinds(HINTS[name])
    # None leaves the default to the field.
    assert parameter.default in (OTHER_DEFAULTS.get((door, name), default_of(field)), None)


def test_every_flag_has_a_keyword_or_is_for_the_command_line() -> None:
    keywords = {FILES.get(name, name) for door, name in KEYWORDS if door is select_dataset}
    assert keywords | COMMAND_LINE_ONLY == set(FIELDS) and not keywords & COMMAND_LINE_ONLY
    assert {name for door, name in KEYWORDS if door is select_embeddings} < {name for _, name in KEYWORDS}


@pytest.mark.parametrize("function", [*DOORS, Objective])
def test_docstrings_tell_of_every_keyword_with_its_default(function: Callable[..., Any]) -> None:
    told, parameters = documented(function), inspect.signature(function).parameters
    assert told.keys() == parameters.keys()
    for name, text in told.items():
        head = text.partition("):")[0]
        default = parameters[name].default
        if "defaults to" in head:
            given = ast.literal_eval(head.partition("defaults to ")[2].strip("`"))
            assert given == (objective.DEFAULT_PRESET if name == "objective" else default), name
        elif "(" in head:
            assert default in (None, inspect.Parameter.empty, DEFAULT_MODEL), name


@pytest.mark.parametrize("name", ["objective", "adaptation", "on_bad_image", "quality_checks"])
def test_docstrings_name_every_choice(name: str) -> None:
    told = documented(select_dataset)[name]
    assert set(re.findall(r'`"(\w+)"`', told)) == set(choices(HINTS[name]))


def test_knobs_of_an_objective() -> None:
    hints, flags = get_type_hints(Objective), SelectionArguments().knobs()
    assert {*flags, "class_quotas"} == set(KNOBS)
    for name in flags:
        assert kinds(hints[name]) == kinds(HINTS[name]), name
    assert choices(HINTS["objective"]) == tuple(PRESETS)
    told = documented(Objective)
    for name, allowed in {
        "alignment": objective.ALIGNMENTS,
        "normalization": objective.NORMALIZATIONS,
        "class_balance": objective.CLASS_BALANCES,
        "balance_by": objective.BALANCE_BY,
        "solver": objective.SOLVERS,
    }.items():
        assert choices(HINTS[name]) == allowed, name
        assert set(re.findall(r'"(\w+)"', told[name])) >= set(allowed), name


def flags_of_scripts() -> set[str]:
    """Those of the recipes other than select.py, by what their parsers are built from."""
    flags = {field.name for field in dataclasses.fields(TrainingArguments)}
    for path in REPOSITORY.glob("recipes/*.py"):
        flags |= set(re.findall(r"add_argument\(\s*\"--(\w+)\"", path.read_text()))
    for path in [*REPOSITORY.glob("recipes/*.py"), *REPOSITORY.glob("hf_clipselect/evaluation/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Arguments"):
                flags |= {part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}
    return flags


def flags_of_shards() -> set[str]:
    """Those of the steps of recipes/web_scale.py."""
    [steps] = scale_parser()._subparsers._group_actions
    actions = [action for step in steps.choices.values() for action in step._actions]
    return {option.removeprefix("--") for action in actions for option in action.option_strings}


def flags_of_command(name: str) -> set[str]:
    return {option.removeprefix("--") for action in parser_of(name, name)._actions for option in action.option_strings}


# Of every command, and of Accelerate's launcher.
OTHER_FLAGS = {"help", "help_all", "config", "version", "config_file", "num_processes", "multi_gpu"}
OTHER_FLAGS |= {"num_machines", "machine_rank", "main_process_ip", "main_process_port"}


@pytest.mark.parametrize("name", ["README.md", "recipes/README.md", "model_card.md", "CONTRIBUTING.md"])
def test_docs_name_flags_and_choices_that_there_are(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    commands = re.sub(r"^.*\b(pip|pytest|venv)\b.*$", "", text, flags=re.MULTILINE)
    told = set(re.findall(r"(?<![\w-])--([a-z]\w+)", commands))
    of_commands = set().union(flags_of_shards(), *map(flags_of_command, COMMANDS))
    assert told - of_commands - flags_of_scripts() - OTHER_FLAGS == set()
    for flag, listed in re.findall(r"--(\w+) (\w+(?:\|\w+)+)", commands):
        assert tuple(listed.split("|")) == choices(HINTS[flag]), flag


def test_the_table_of_objectives() -> None:
    table = re.findall(
        r"^\| `(\w+)`(.*?) \| (\w+) \| .*? \| (\w+) \| .* \|$", (REPOSITORY / "README.md").read_text(), re.M
    )
    told = {name: (alignment, balance) for name, _, alignment, balance in table if name in PRESETS}
    assert told == {name: (preset.alignment, preset.class_balance) for name, preset in PRESETS.items()}
    assert [name for name, mark, _, _ in table if mark.startswith(" (default")] == [objective.DEFAULT_PRESET]


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and not re.fullmatch(r"--\S+", node.value):  # alone it may be a flag of git
            yield node.value


def test_messages_name_flags_that_there_are() -> None:
    paths = set(REPOSITORY.glob("hf_clipselect/**/*.py")) - set(REPOSITORY.glob("hf_clipselect/evaluation/**/*.py"))
    told = {
        (path.name, flag)
        for path in paths
        for text in texts(ast.parse(path.read_text()))
        for flag in re.findall(r"(?<![\w/.-])--([a-z]\w+)(?![\w-])", text)
    }
    assert {flag for _, flag in told} > {"output_dir", "on_bad_image"}
    known = {
        (told_in, flag)
        for name in COMMANDS
        for flag in flags_of_command(name)
        for told_in in (f"{name}_command.py", "command_parsers.py")
    }
    known |= {(name, "revision") for name in ("given_selection.py", "run_summary.py", "space.py")}
    known |= {("space.py", "hub_space_id"), ("scale_command.py", "plan")}
    known |= {(path.name, flag) for path in paths if path.parent.name == "scale" for flag in flags_of_shards()}
    assert {(name, flag) for name, flag in told if flag not in {*FIELDS, *OTHER_FLAGS}} - known == set()
