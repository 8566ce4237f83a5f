"""Files of a folder that no row comes from: told in one sentence, and refused unless the user accepts them."""

import logging
from collections.abc import Iterable, Mapping

from ..errors import InputError
from ..runtime.words import listed


logger = logging.getLogger(__name__)

# Names that a sentence shows for each reason.
_SHOWN = 3


def check_unread(
    unread: Mapping[str, str], *, total: int, shown: str, accept: str | None, accepted: bool, kind: str = "image files"
) -> None:
    """Stop where files would be left out, or warn of them where the user accepts that.

    Args:
        unread (`Mapping[str, str]`): Path in the folder -> reason, in a few words: `"a link to nothing"`.
        total (`int`): How many there are with them.
        shown (`str`): The folder, as a message may name it.
        accept (`str`, *optional*): Flag that accepts the loss.
        accepted (`bool`): It was given.
        kind (`str`, *optional*, defaults to `"image files"`): What is counted.

    Raises:
        InputError: There are such files, and they are not accepted.
    """
    if not unread:
        return
    reasons: dict[str, list[str]] = {}
    for path, reason in unread.items():
        reasons.setdefault(reason, []).append(path)
    told = "; ".join(f"{first_names(paths)} ({reason})" for reason, paths in reasons.items())
    if accepted:
        logger.warning("%s of %s %s in %s are not read: %s.", f"{len(unread):,}", f"{total:,}", kind, shown, told)
        return
    without = "" if accept is None else f", or pass {accept} to go on without them"
    raise InputError(
        f"{len(unread):,} of {total:,} {kind} in {shown} would not be read: {told}. Mend or move these{without}."
    )


def first_names(paths: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    return listed(list(paths), limit=_SHOWN)
