"""The YAML file of `--config`."""

from pathlib import Path

import yaml

from .errors import InputError


def yaml_as_flags(path: Path, *, known: set[str]) -> list[str]:
    """The YAML file as flags, so that file and command line share one set of types, choices and messages.

    Args:
        path (`Path`): A file of `flag: value` lines, or the config.yaml that a run left behind.
        known (`set[str]`): Names of the flags.

    Returns:
        `list[str]`: Flags and values as on a command line.

    Raises:
        InputError: The file can't be read, is not YAML, or has an unknown key.
    """
    try:
        # Plain strings: YAML's own reading would make `adaptation: off` a False; the flags have types of their own.
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise InputError(f"--config {path} can't be read: {error.strerror}.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--config {path} is not YAML: {' '.join(str(error).split())}.") from None
    if isinstance(values, dict) and isinstance(values.get("arguments"), dict):
        values = values["arguments"]  # the config.yaml that a run left behind
    if not isinstance(values, dict):
        raise InputError(f"--config {path} must hold `flag: value` lines, got a {type(values).__name__}.")
    if unknown := sorted(str(key) for key in values if key not in known):
        raise InputError(
            f"--config {path} has unknown keys: {', '.join(unknown)}. Known keys: {', '.join(sorted(known))}."
        )
    flags: list[str] = []
    for key, value in values.items():
        if isinstance(value, list):
            flags += [f"--{key}", *map(str, value)]
        elif value not in ("", "~", "null"):
            flags.append(f"--{key}={value}")
    return flags
