"""How a set of rows is named in one word: `NAME`, `NAME:SPLIT` or `NAME:CONFIG:SPLIT`."""

from ...data.places import SourceFlags
from ...errors import InputError


# What errors call the parts.
SET_FLAGS = SourceFlags(name="NAME", config="CONFIG", split="SPLIT", accept=None)


def set_name_parts(flag: str, name: str, split: str) -> tuple[str, str | None, str]:
    """Name, configuration and split; `split` where the name has none.

    Args:
        flag (`str`): What took the name, with its dashes.
        name (`str`): The name.
        split (`str`): The default.

    Returns:
        `tuple[str, str | None, str]`

    Raises:
        InputError: It has another form.
    """
    path, *details = name.split(":")
    if len(details) > 2 or not all([path, *details]):
        raise InputError(f"{flag} {name} must be NAME, NAME:SPLIT or NAME:CONFIG:SPLIT.")
    return path, details[0] if len(details) == 2 else None, details[-1] if details else split
