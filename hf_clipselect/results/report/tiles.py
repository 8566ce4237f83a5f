"""Single rows as the page tells of them: image, label or caption, what it looks like, and what each size does."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ...selection.reasons import DISAGREES, QUOTA_FULL, WRONG_LABEL
from ..noise_summary import has_noise_model
from ..scores_table import column_values
from .suspects import Captions, proposals, row_texts, verdict
from .thumbnails import make_thumbnails


# A longer text would push the tiles apart: it is cut, and told in full on demand, up to this length.
MAX_TEXT = 80
MAX_FULL_TEXT = 2000
# Pictures of suspects are larger, to judge them by.
SIDE, SUSPECT_SIDE = 128, 256
# Of different rows: what bounds the size of the page, and the images that a run decodes for it.
MAX_PICTURES = 480


# Reasons of the scores table, in the words of captions and their clusters.
_OF_CAPTIONS = {DISAGREES: "caption disagrees with image", QUOTA_FULL["class"]: "quota of its cluster is full"}
_NOTED = {"given_label", "decision", "leak_of", "quality_issues"}
_DECIDED = {
    "keep": "a person took its label for right",
    "drop": "a person dropped it",
    "unsure": "a person was not sure",
}


@dataclass(frozen=True)
class Text:
    """A text as it is shown, and in full where that is longer."""

    short: str
    full: str | None = None


def shorten(text: str) -> Text:
    if len(text) <= MAX_TEXT:
        return Text(text)
    full = text if len(text) <= MAX_FULL_TEXT else f"{text[:MAX_FULL_TEXT]}... ({len(text):,} characters)"
    return Text(f"{text[: MAX_TEXT - 1]}\N{HORIZONTAL ELLIPSIS}", full)


def draw_pictures(
    images: tuple[Dataset, str] | None, suspects: Sequence[int], others: Iterable[int]
) -> dict[int, str | None]:
    """The images of the first 480 different rows as data URIs, None for one that can't be read; suspects come first,
    and theirs are larger.
    """
    if images is None:
        return {}
    shown = first_pictures(suspects, others)
    large = set(suspects) & set(shown)
    pictures: dict[int, str | None] = {}
    for rows, side in ((large, SUSPECT_SIDE), (set(shown) - large, SIDE)):
        if rows:
            pictures |= make_thumbnails(*images, rows, max_side=side)
    return pictures


def first_pictures(suspects: Sequence[int], others: Iterable[int]) -> list[int]:
    """The first 480 different rows, suspects before the others."""
    return list(dict.fromkeys([*suspects, *others]))[:MAX_PICTURES]


def describe_rows(
    scores: Dataset,
    rows: np.ndarray,
    suffixes: Sequence[str],
    captions: Captions | None,
    pictures: Mapping[int, str | None],
    report: Mapping[str, Any],
) -> dict[int, dict[str, Any]]:
    """What the page tells of these rows of the scores table, by row number, as the template takes it."""
    names = scores.features["label"].names
    columns = {name: column_values(scores, name)[rows] for name in ("source_index", "reason", "sas", "margin")}
    columns |= {"sds": column_values(scores, "sds")[rows], "agrees": column_values(scores, "label_agrees")[rows]}
    columns["cell"] = column_values(scores, "label")[rows]
    of_size = {
        suffix: [column_values(scores, f"{name}_{suffix}")[rows] for name in ("selected", "selection_score")]
        for suffix in suffixes
    }
    given, predicted = row_texts(scores, rows, captions)
    described = {}
    for place, row in enumerate(rows.tolist()):
        tile = {name: values[place] for name, values in columns.items()}
        tile["cell"] = shorten(names[tile["cell"]]).short
        tile["sizes"] = {suffix: (bool(kept[place]), score[place]) for suffix, (kept, score) in of_size.items()}
        tile["label"], tile["predicted"] = shorten(given[place]), shorten(predicted[place])
        described[row] = tile | {"has_picture": row in pictures, "picture": pictures.get(row), "verdict": None}
    _add_verdicts(described, scores, rows)
    _add_notes(described, scores, rows, names, report)
    for tile in described.values():
        if report["captions"]:
            tile["reason"] = _OF_CAPTIONS.get(tile["reason"], tile["reason"])
        tile["reason_kind"] = reason_kind(tile["reason"])
        if tile["verdict"] is not None and tile["reason"].startswith(WRONG_LABEL):  # the same in more words
            tile["reason"] = ""
    return described


def reason_kind(reason: str) -> str:
    """A reason without what is particular to its row, to filter by: "redundant: copy of row N"."""
    return "label is wrong" if reason.startswith(WRONG_LABEL) else re.sub(r"\d+", "N", reason)


def _add_verdicts(described: dict[int, dict[str, Any]], scores: Dataset, rows: np.ndarray) -> None:
    """What the noise model says of rows whose label looks wrong; nothing of the others, and without a noise model."""
    if not has_noise_model(scores):
        return
    wrong = column_values(scores, "label_error_probability")[rows]
    for tile, probability, label, other in zip(described.values(), wrong, *proposals(scores, rows), strict=True):
        if label != other and probability > 0:  # that of a label that a person took for right is 0
            proposed = shorten(other).short
            tile |= {"verdict": verdict(probability, proposed), "proposed": proposed}


def _add_notes(
    described: dict[int, dict[str, Any]],
    scores: Dataset,
    rows: np.ndarray,
    names: Sequence[str],
    report: Mapping[str, Any],
) -> None:
    """What else is known of a row: the label before people decided, the row that it copies, flaws of its image."""
    there = {name: column_values(scores, name)[rows] for name in _NOTED & set(scores.column_names)}
    labels = column_values(scores, "label")[rows]
    reference = (report.get("leaks") or {}).get("reference", "the reference")
    for place, tile in enumerate(described.values()):
        notes = []
        if "given_label" in there and there["given_label"][place] not in (-1, labels[place]):
            notes.append(f"a person changed its label, which was {names[there['given_label'][place]]}")
        if "decision" in there and there["decision"][place] in _DECIDED:
            notes.append(_DECIDED[there["decision"][place]])
        if "leak_of" in there and there["leak_of"][place] >= 0:
            notes.append(f"copies row {there['leak_of'][place]} of {reference}")
        if "quality_issues" in there and there["quality_issues"][place]:
            notes.append(f"image: {there['quality_issues'][place]}")
        tile["notes"] = notes
