"""Class names and the prompts made of them. Pure strings.

C classes, T prompt templates.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError


logger = logging.getLogger(__name__)

PLACEHOLDER = "{}"

# What is left of the bytes of a text that is not UTF-8; tokenizers refuse it.
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDNET_ID = re.compile(r"n\d{8}")
_LEADING_WORDNET_ID = re.compile(r"^n\d{8}[\s,:-]+(?=\S)")
# A hyphen is part of a word ("T-shirt") unless it stands beside an underscore.
_UNDERSCORES = re.compile(r"-*_[_-]*")
# Not the comma of "1,000 m".
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")


def clean_class_name(name: str) -> str:
    """Turn the name of a class into words for a prompt, with single spaces; empty only if the name is blank.

    Underscores become spaces, a leading WordNet id is dropped if a name follows it, and of synonyms the first is kept:
    "n01440764 tench, Tinca tinca" gives "tench". The case is left as it is.
    """
    words = _words(name)
    synonyms = [synonym.strip() for synonym in _COMMA.split(words)]
    return next(filter(None, synonyms), words)


def class_prompts(
    class_names: Sequence[str], templates: str | Sequence[str] = ("A photo of a {}.",)
) -> list[list[str]]:
    """Put the cleaned names of C classes into T prompt templates, which have `{}` for the name: T lists of C prompts.

    Classes whose cleaned names are the same (letter case aside, which CLIP's tokenizer drops) get their full names
    with all synonyms. Names that say nothing about the class (numbers, bare WordNet ids) are warned about. Raises
    `InputError` where a template has not exactly one `{}`, there is no template, or the name of a class is blank.
    """
    templates = [templates] if isinstance(templates, str) else list(templates)
    check_templates(templates)
    names = distinct_names(class_names)
    _warn_about_meaningless(names)
    # Not str.format: other braces in a template or a name are plain text.
    return [[template.replace(PLACEHOLDER, name) for name in names] for template in templates]


def check_templates(templates: Sequence[str]) -> None:
    """Raise `InputError` where there is no template, or one has not exactly one `{}` for the name of a class."""
    if not templates:
        raise InputError('--prompt_template is empty; give at least one template, e.g. "A photo of a {}.".')
    for template in templates:
        if _SURROGATE.search(template):
            raise InputError(f"--prompt_template {template!r} is no UTF-8 text; write it anew.")
        if template.count(PLACEHOLDER) != 1:
            raise InputError(
                f"--prompt_template {template!r} has {template.count(PLACEHOLDER)} placeholders; write {PLACEHOLDER} "
                'exactly once, where the class name goes, e.g. "A photo of a {}.".'
            )


def distinct_names(class_names: Sequence[str]) -> list[str]:
    """The words of each class for its prompts, `(C,)`; raises `InputError` for a name that is blank or no text."""
    cleaned = [clean_class_name(name) for name in class_names]
    for label, name in enumerate(cleaned):
        if _SURROGATE.search(name):
            raise InputError(
                f"The name of class {label}, {name!r}, holds half of a sign (a lone surrogate); write it anew."
            )
        if not name:
            raise InputError(
                f"The name of class {label} is blank; name all classes with --class_names_file (one name per line, "
                "in label order)."
            )
    count = Counter(name.casefold() for name in cleaned)
    return [
        _words(full) if count[name.casefold()] > 1 else name for full, name in zip(class_names, cleaned, strict=True)
    ]


def read_class_names(path: str | Path) -> list[str]:
    """Names of the classes from a UTF-8 text file with one name per line, in label order.

    Surrounding spaces and blank lines at the end are dropped. Raises `InputError` where the file can't be read as
    UTF-8, or a line is blank or repeats another.
    """
    names = [line.strip() for line in _read_text(path).rstrip().split("\n")]
    if names == [""]:
        raise InputError(f"--class_names_file {path} is empty; write one class name per line, in label order.")
    first_line: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"--class_names_file {path}: line {number} is blank; write one class name per line.")
        if name in first_line:
            raise InputError(
                f"--class_names_file {path}: lines {first_line[name]} and {number} both say {name!r}; give every "
                "class a name of its own."
            )
        first_line[name] = number
    return names


def _words(name: str) -> str:
    words = " ".join(_UNDERSCORES.sub(" ", name).split())
    return _LEADING_WORDNET_ID.sub("", words)


def _warn_about_meaningless(names: Sequence[str]) -> None:
    labels = [
        label
        for label, name in enumerate(names)
        if name.isdecimal() or name in ("False", "True") or _WORDNET_ID.fullmatch(name)
    ]
    if labels:
        examples = ", ".join(f"{label}: {names[label]!r}" for label in labels[:5])
        logger.warning(
            "%d of %d class names say nothing to CLIP: %s. Put real names into a text file, one per line in label "
            "order, and pass it with --class_names_file.",
            len(labels),
            len(names),
            examples + (", ..." if len(labels) > 5 else ""),
        )


def _read_text(path: str | Path) -> str:
    try:
        # "utf-8-sig" drops the byte order mark that some editors write.
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"--class_names_file {path} is not UTF-8 ({error.reason}); save it as UTF-8 text.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"Cannot read --class_names_file {path}: {reason}. Pass a text file with one class name per line, in "
            "label order."
        ) from error
