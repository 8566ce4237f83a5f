"""Text for a terminal or a log: control characters in names of datasets and files are shown as escapes."""

import os
import re

from .words import in_one_line


# Control characters, line separators, marks that turn the reading direction, and surrogates, which no stream takes.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: object) -> str:
    """A text in one line: control characters and direction marks become escapes such as `\\x1b` and `\\u202e`."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def error_line(error: BaseException) -> str:
    """What a command prints of an error: "error: ..." in one line, whatever names the message holds."""
    return f"error: {printable(in_one_line(error))}\n"


def is_main_process() -> bool:
    """Whether this process is the one of a launch that talks to the user; a lone process is."""
    return os.environ.get("RANK", "0") == "0"  # as the launchers set it, before torch is imported
