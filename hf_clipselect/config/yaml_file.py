"""YAML files of `name: value` lines, for `--config` and for quotas. Values stay texts, which the flags give types."""

from pathlib import Path

import yaml

from ..errors import InputError
from ..runtime.words import in_one_line


def read_lines(path: str | Path, flag: str, *, within: str | None = None) -> list[tuple[str, yaml.Node]]:
    """The lines of a YAML file, which a flag names: names, each once, and what stands behind them.

    If the line of the name `within` holds lines itself, these are returned instead. Raises `InputError` where the file
    can't be read, is not YAML, is no mapping, or names something twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        # Nodes, not values: YAML's own reading would make `adaptation: off` a False, and copies of aliases.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(f"--{flag} {str(path)[:200]} can't be read: {error.strerror}.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--{flag} {path} is not YAML: {in_one_line(error)}.") from None
    except RecursionError:
        raise InputError(f"--{flag} {path} is nested too deeply; write one line `name: value` for each.") from None
    lines = _named(root, path, flag)
    inner = dict(lines).get(within) if within is not None else None
    return _named(inner, path, flag) if isinstance(inner, yaml.MappingNode) else lines


def _named(root: yaml.Node | None, path: str | Path, flag: str) -> list[tuple[str, yaml.Node]]:
    if not isinstance(root, yaml.MappingNode):
        given = "nothing" if root is None else _in_words(root)
        raise InputError(f"--{flag} {path} must hold lines `name: value`, got {given}.")
    names: set[str] = set()
    for key, _ in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(
                f"--{flag} {path}, line {key.start_mark.line + 1}, begins with {_in_words(key)}, not with a name."
            )
        if key.value in names:
            raise InputError(f"--{flag} {path} names {key.value} more than once; give it one line.")
        names.add(key.value)
    return [(key.value, value) for key, value in root.value]


def _in_words(node: yaml.Node) -> str:
    kinds = {yaml.ScalarNode: "a text", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    return kinds[type(node)]


def read_config(path: Path, *, known: set[str]) -> dict[str, str | list[str]]:
    """The file of `--config`, or the config.yaml that a run left behind: texts by the names of the flags.

    Flags without a value are left out; the types and choices of the others decide what the texts mean. Raises
    `InputError` as [`read_lines`], for an unknown key, and for a value that is neither a text nor a list of texts.
    """
    lines = read_lines(path, "config", within="arguments")
    if unknown := sorted(name for name, _ in lines if name not in known):
        raise InputError(
            f"--config {path} has unknown keys: {', '.join(unknown)}. Known keys: {', '.join(sorted(known))}."
        )
    values: dict[str, str | list[str]] = {}
    for name, node in lines:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(item, yaml.ScalarNode) for item in items):
            raise InputError(f"--config {path}: {name} must be one value or a list of values, not nested ones.")
        if isinstance(node, yaml.SequenceNode):
            values[name] = [item.value for item in items]
        elif node.value not in ("", "~", "null"):
            values[name] = node.value
    return values
