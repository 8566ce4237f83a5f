"""The pieces of HTML that the page is made of."""

import itertools
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader


_SERIALS = itertools.count(1)


@cache
def _pieces() -> Any:
    environment = Environment(
        loader=PackageLoader("hf_clipselect.results.explorer", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("panels.html").module


def panel(name: str, *values: object) -> str:
    """A piece of panels.html by its name, with its values escaped."""
    text = str(getattr(_pieces(), name)(*values))
    # Gradio reads `${...}` and `{{...}}` in a piece as code; names and captions may hold them.
    return text.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")


def serial() -> int:
    """A number that no piece had before, by which the page tells that something new is shown."""
    return next(_SERIALS)
