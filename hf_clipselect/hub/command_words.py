"""The command or the arguments of a run in a card, for people who have not the disk of whoever ran it."""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from ..config.arguments import PLACE_FLAGS, Arguments
from ..runtime.hub_ids import EMBEDDED_PREFIX, hide_paths, is_hub_id, plain_name
from .escape import Markdown, code_block, code_span, escape_markdown, one_line


# What stands in a command for what only its user has.
_STAND_INS = {
    "dataset_name": "PATH_OF_YOUR_COPY",
    "data_files": "PATH_OF_YOUR_COPY",
    "model_name_or_path": "PATH_OF_THE_MODEL",
    "adapter_name_or_path": "PATH_OF_THE_ADAPTERS",
    "reference_dataset_name": "PATH_OF_THE_REFERENCE",
}
_STANDS_FOR = {
    "dataset_name": "your copy of the dataset",
    "model_name_or_path": "the model",
    "adapter_name_or_path": "the adapters",
    "reference_dataset_name": "the reference",
}
_FILE_FLAGS = ("class_names_file", "class_quotas_file", "peft_config", "decisions")


def command(report: Mapping[str, Any]) -> Markdown | None:
    """The command line that makes the same result, without paths on the user's disk; None for a dataset in memory.

    A word in capitals stands for each dataset, model or adapter that only the user has, see [`command_note`].
    """
    arguments, stand_ins = _arguments(report), _stand_ins(report)
    if not arguments.get("dataset_name") and not arguments.get("data_files"):
        return None
    words = ["hf-clipselect", "select"]
    for name, default in Arguments().to_dict().items():
        value = arguments.get(name)
        if (name == "dataset_name" and value) or (value not in (None, "", [], default) and name not in PLACE_FLAGS):
            words += _flag(name, stand_ins.get(name, hide_paths(value)))
    return code_block(shlex.join(map(one_line, words)), "bash")


def command_note(report: Mapping[str, Any]) -> Markdown | None:
    """What is to be put in the place of words of [`command`], and which files of the user it needs, as sentences."""
    arguments, stand_ins = _arguments(report), _stand_ins(report)
    notes = [
        f"{code_span(_STAND_INS[name])} is the path of {_STANDS_FOR[name]} "
        f"{escape_markdown(plain_name(arguments[name]))}."
        for name in stand_ins
        if name != "data_files"
    ]
    if "data_files" in stand_ins:
        notes += [f"{code_span(_STAND_INS['data_files'])} is the folder of your copy of the files."]
    files = [plain_name(str(arguments[name])) for name in _FILE_FLAGS if arguments.get(name)]
    if files:
        kind = "is a file" if len(files) == 1 else "are files"
        notes += [f"{', '.join(map(code_span, files))} {kind} of whoever ran it."]
    return Markdown(" ".join(notes)) if notes else None


def _arguments(report: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, of which those that name something are texts: a report of others may hold anything."""
    arguments = dict(report["arguments"])
    for name in _STAND_INS:
        value = arguments.get(name)
        if name == "data_files":
            arguments[name] = [str(file) for file in (value if isinstance(value, list) else [value])] if value else []
        elif value is not None:
            arguments[name] = str(value)
    return arguments


def _stand_ins(report: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of [`command`] that name what only the user has -> what stands there in the place of their values."""
    arguments, source, model = _arguments(report), report["source"], report["model"]
    revisions = {
        "dataset_name": source["revision"],
        "model_name_or_path": model["revision"],
        "adapter_name_or_path": None,
        "reference_dataset_name": None,
    }
    found: dict[str, Any] = {
        name: _STAND_INS[name]
        for name, revision in revisions.items()
        if arguments.get(name) and not _is_public(arguments[name], revision)
    }
    files = arguments.get("data_files") or []
    if files and not arguments.get("dataset_name") and not any("://" in file for file in files):
        found["data_files"] = [f"{_STAND_INS['data_files']}/{plain_name(file)}" for file in files]
    return found


def _is_public(name: str, revision: str | None) -> bool:
    """Whether a name means the same for everybody: a repository, a URL, or a part of this package."""
    return name.startswith(EMBEDDED_PREFIX) or "://" in name or is_hub_id(name, revision=revision)


def arguments_block(arguments: Mapping[str, Any]) -> Markdown:
    """The arguments that were set, as a YAML block without paths on the user's disk."""
    known = {name: value for name, value in arguments.items() if value not in (None, "") and name not in PLACE_FLAGS}
    return code_block(yaml.safe_dump(hide_paths(known), sort_keys=False, allow_unicode=True), "yaml")


def _flag(name: str, value: object) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    # A value that begins with a dash would be taken for a flag.
    return [f"--{name}={value}"] if str(value).startswith("-") else [f"--{name}", str(value)]
