"""Secrets are taken out of texts: passwords and tokens in URLs, and the values of `--storage_options`."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


# `user:password@` of a URL. The `@` of a revision (hf://datasets/me/pets@main) stands behind a slash, and so may that
# of a password with a slash in it, which is told from a port by its letters.
_USER = re.compile(r"(?<=://)(?:[^/\s'\"]*|[^/\s'\"@:]*:(?!\d*/)[^\s'\"@]*)@")
# Signatures and tokens stand in the query or the fragment. A `?` without a `=` in the same part of a path is a glob's.
_QUERY = re.compile(r"(\w://[^\s'\"<>?#]*)[?#][^\s'\"<>/=]+=[^\s'\"<>]*")
# Shorter words occur in other words, and are looked for as whole words only.
_LONG = 6


def hide_secrets(text: str, options: Mapping[str, Any] | None = None) -> str:
    """A text with URLs without user, password, query and fragment, and `***` for every value of `options`."""
    for value in sorted(_words(options or {}), key=len, reverse=True):
        for form in {value, quote(value, safe=""), json.dumps(value)[1:-1]}:
            pattern = re.escape(form) if len(form) >= _LONG else rf"(?<!\w){re.escape(form)}(?!\w)"
            text = re.sub(pattern, "***", text)
    return _QUERY.sub(r"\1", _USER.sub("", text))


def names_of_options(options: str) -> str:
    """The JSON of `--storage_options` with `null` for every value, as config.yaml keeps it."""
    return json.dumps(dict.fromkeys(json.loads(options)))


def _words(value: Any) -> set[str]:
    """All texts and numbers inside options; `true`, `false` and nothing are no secret."""
    if isinstance(value, Mapping):
        return set().union(*map(_words, value.values()))
    if isinstance(value, list):
        return set().union(*map(_words, value))
    return set() if value is None or isinstance(value, bool) or value == "" else {str(value)}
