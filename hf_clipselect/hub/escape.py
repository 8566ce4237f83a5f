"""Text of users inside Markdown: class names, column names and reasons may hold anything and must stay text.

What is already Markdown is a [`Markdown`]; everything else that a template prints goes through [`escape_markdown`].
"""

import json
import re

from ..runtime.terminal import UNPRINTABLE


# Entities, not backslashes, where a backslash would not help: HTML, and "|", which splits the cells of a table first.
_REPLACEMENTS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"} | {mark: f"\\{mark}" for mark in "\\`*_[]#~$@"}
_SPECIAL = re.compile("|".join(map(re.escape, _REPLACEMENTS)))
# A list, a heading underline or a rule would begin here.
_LEADING_MARK = re.compile(r"^(?:\d+(?=[.)](?:\s|$))|(?=[-+=]))")
# The Hub makes links of these, also where nobody wrote one.
_LINK_START = re.compile(r"://|\bwww\.", re.IGNORECASE)
_NOT_FOR_CODE_SPANS = re.compile(r"[`|<>&\\]")


class Markdown(str):
    """Text that is Markdown already and is printed as it is."""


def one_line(text: object) -> str:
    """Any text as one line of UTF-8: without line breaks, control characters and lone surrogates."""
    text = str(text).encode("utf-8", errors="replace").decode()
    return " ".join(UNPRINTABLE.sub(" ", text).split())


def escape_markdown(text: object) -> Markdown:
    """One line that shows as the text itself in a paragraph, a list, a heading or a cell of a table."""
    escaped = _SPECIAL.sub(lambda match: _REPLACEMENTS[match[0]], one_line(text))
    escaped = _LEADING_MARK.sub(r"\g<0>\\", escaped)
    return Markdown(_LINK_START.sub(lambda match: match[0].replace("/", "&#47;").replace(".", "&#46;"), escaped))


def code_span(text: object) -> Markdown:
    """A name in code letters, or merely escaped where a code span would not hold it in every place."""
    line = one_line(text)
    return escape_markdown(line) if not line or _NOT_FOR_CODE_SPANS.search(line) else Markdown(f"`{line}`")


def code_block(text: str, language: str) -> Markdown:
    """A fenced block that its content cannot close: the fence is longer than any run of backticks inside."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def python_literal(text: object) -> Markdown:
    """A string as Python code on one line, in double quotes."""
    return Markdown(json.dumps(one_line(text), ensure_ascii=False))
