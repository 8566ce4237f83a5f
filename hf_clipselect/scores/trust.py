"""Signs that a selection can't be trusted: where CLIP disagrees with the given labels or can't tell prompts apart.

Legend: N readable rows, C classes, D embed_dim. "Agreement" is the fraction of the rows of a class whose prediction is
their given label. A low one means wrong labels or a prompt that CLIP does not understand; it can't tell which.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..runtime.words import counted, listed
from .arrays import row_blocks


logger = logging.getLogger(__name__)

# Cosine from which two prompts count as one. The nearest prompts of different things lie below: 0.92 (apple pie and
# pizza in CLIP ViT-B/32), 0.61 (five and nine in the embedded model), and 0.96 for words that the embedded model never
# saw.
SAME_PROMPT = 0.98
# A class of fewer rows can lie below chance by a single wrong label.
MIN_ROWS = 5
MAX_LISTED = 50
_MAX_NAMED = 5


@dataclass(frozen=True)
class Trust:
    """Reasons for doubt. Classes without rows are left out; shares of adapted predictions may be None."""

    chance: float  # agreement of a guess: 1 over the number of classes with rows
    disagreement_plain: float  # fraction of all rows whose label is not the prediction of CLIP without adapters
    disagreement_adapted: float | None  # the same with adapters; None without
    # Classes agreed with less often than chance: `name`, `rows`, `plain` and `adapted` agreement, the lowest first.
    below_chance: list[dict[str, Any]]
    # Pairs with nearly the same prompts: `classes` and `cosine`, the highest first; of each class its nearest alone.
    similar_prompts: list[dict[str, Any]]
    # Classes that are taken for others: `label`, `predicted`, `rows` of the label, and the share of them that is taken
    # for the other class, `plain` and `adapted`; the largest first: all above a half, smaller ones up to 50 in all.
    confusions: list[dict[str, Any]]
    warnings: list[str]  # sentences about these, with class names, each cause once; empty where all is well

    def to_dict(self) -> dict[str, Any]:
        """The entry `trust` of the report: lists end after 50 entries, and the report has the warnings elsewhere."""
        entries = asdict(self)
        del entries["warnings"]
        numbers = {
            "num_below_chance": len(self.below_chance),
            "num_similar_prompts": len(self.similar_prompts),
            "num_confused": len(_confused(self.confusions)),
        }
        return numbers | {
            key: value[:MAX_LISTED] if isinstance(value, list) else value for key, value in entries.items()
        }


def measure_trust(
    labels: np.ndarray,
    plain: np.ndarray,
    adapted: np.ndarray | None,
    text_embeds: np.ndarray,
    class_names: Sequence[str],
) -> Trust:
    """Compare predictions with the given labels, and prompts with each other; memory O(N + C) beside the arguments.

    Takes int64 arrays `(N,)` of the readable rows: labels in `[0, C)`, and the classes predicted by CLIP without
    adapters and with them, None where plain CLIP was kept. Prompt embeddings `(C, D)` are those of CLIP without
    adapters, unit-norm, float32; the row of a class without rows is not read.
    """
    predictions = {"plain": plain} | ({} if adapted is None else {"adapted": adapted})
    sizes = np.bincount(labels, minlength=len(class_names))
    disagreement = {key: float((predicted != labels).mean()) for key, predicted in predictions.items()}
    below_chance = _find_below_chance(labels, predictions, sizes, class_names)
    similar_prompts = _find_similar_prompts(text_embeds, sizes, class_names)
    confusions = _find_confusions(labels, predictions, sizes, class_names)
    chance = 1 / int((sizes > 0).sum())
    return Trust(
        chance=chance,
        disagreement_plain=disagreement["plain"],
        disagreement_adapted=disagreement.get("adapted"),
        below_chance=below_chance,
        similar_prompts=similar_prompts,
        confusions=confusions,
        warnings=list(_word_warnings(below_chance, similar_prompts, _confused(confusions), chance)),
    )


def measure_caption_trust(plain: np.ndarray, adapted: np.ndarray | None, *, num_references: int) -> Trust:
    """As [`measure_trust`], for rows with captions: without classes there is only the agreement of all rows.

    Takes bool arrays `(N,)`, whether a row's own caption fits best by CLIP without adapters and with them, None where
    plain CLIP was kept; and how many captions each row's own was compared with. `chance` is that of a caption drawn at
    random.
    """
    disagreement_plain = float(1 - plain.mean())
    disagreement_adapted = None if adapted is None else float(1 - adapted.mean())
    least = disagreement_plain if disagreement_adapted is None else min(disagreement_plain, disagreement_adapted)
    warning = (
        f"For {least:.0%} of the images one of {num_references} other captions fits better than their own. Either "
        "captions are wrong, or this model does not understand them: look at some by eye (label_agrees is false in "
        "the scores)."
    )
    warnings = [warning] if least > 0.5 else []
    return Trust(1 / (num_references + 1), disagreement_plain, disagreement_adapted, [], [], [], warnings)


def check_trust(trust: Trust, *, strict: bool = False) -> None:
    """Log the warnings; with `strict` raise `InputError` with all of them, if there are any."""
    if strict and trust.warnings:
        raise InputError(
            f"The selection can't be trusted. {' '.join(trust.warnings)} Nothing was selected; mend this, or leave "
            "--strict out."
        )
    for warning in trust.warnings:
        logger.warning("%s", warning)


def _find_below_chance(
    labels: np.ndarray, predictions: dict[str, np.ndarray], sizes: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    agreeing = {
        key: np.bincount(labels[predicted == labels], minlength=len(sizes)) for key, predicted in predictions.items()
    }
    present = int((sizes > 0).sum())
    below = [(counts * present < sizes) & (sizes >= MIN_ROWS) for counts in agreeing.values()]
    entries = [
        {
            "name": class_names[c],
            "rows": int(sizes[c]),
            "plain": float(agreeing["plain"][c] / sizes[c]),
            "adapted": float(agreeing["adapted"][c] / sizes[c]) if "adapted" in agreeing else None,
        }
        for c in np.flatnonzero(np.logical_or.reduce(below)).tolist()
    ]
    return sorted(entries, key=lambda entry: min(_shares(entry)))


def _find_similar_prompts(
    text_embeds: np.ndarray, sizes: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    classes = np.flatnonzero(sizes)
    if len(classes) < 2:
        return []
    embeds = np.asarray(text_embeds, dtype=np.float32)[classes]
    pairs: dict[tuple[int, int], float] = {}
    for block in row_blocks(len(embeds), width=max(embeds.shape)):
        cosines = embeds[block] @ embeds.T
        rows = np.arange(block.start, block.stop)
        cosines[rows - block.start, rows] = -np.inf
        nearest = cosines.argmax(axis=1)
        highest = cosines[rows - block.start, nearest]
        for row, other, cosine in zip(rows, nearest, highest, strict=True):
            if cosine >= SAME_PROMPT:
                # Rounding may go above 1, and differ between the two orders of a pair.
                pairs.setdefault((min(row, other), max(row, other)), min(1.0, float(cosine)))
    return [
        {"classes": [class_names[classes[one]], class_names[classes[other]]], "cosine": cosine}
        for (one, other), cosine in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]


def _find_confusions(
    labels: np.ndarray, predictions: dict[str, np.ndarray], sizes: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    # A pair of classes as one number: only pairs that occur are counted, never C x C of them.
    counts = {}
    for key, predicted in predictions.items():
        wrong = (predicted != labels) & (sizes[labels] >= MIN_ROWS)
        counts[key] = np.unique(labels[wrong] * len(sizes) + predicted[wrong], return_counts=True)
    pairs = np.unique(np.concatenate([numbers for numbers, _ in counts.values()]))
    given, taken_for = np.divmod(pairs, len(sizes))
    shares = {}
    for key, (numbers, times) in counts.items():
        shares[key] = np.zeros(len(pairs))
        shares[key][np.searchsorted(pairs, numbers)] = times
        shares[key] /= sizes[given]
    largest = np.maximum.reduce(list(shares.values()))
    order = np.argsort(-largest, kind="stable")[: max(MAX_LISTED, int((largest > 0.5).sum()))]
    return [
        {
            "label": class_names[given[i]],
            "predicted": class_names[taken_for[i]],
            "rows": int(sizes[given[i]]),
            "plain": float(shares["plain"][i]),
            "adapted": float(shares["adapted"][i]) if "adapted" in shares else None,
        }
        for i in order
    ]


def _confused(confusions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in confusions if max(_shares(entry)) > 0.5]


def _shares(entry: dict[str, Any]) -> list[float]:
    return [entry[key] for key in ("plain", "adapted") if entry[key] is not None]


def _word_warnings(
    below_chance: list[dict[str, Any]],
    similar_prompts: list[dict[str, Any]],
    confused: list[dict[str, Any]],
    chance: float,
) -> Iterator[str]:
    # What follows from prompts that are the same to CLIP is told once.
    pairs = {frozenset(entry["classes"]) for entry in similar_prompts}
    alike = frozenset().union(*pairs)
    below_chance = [entry for entry in below_chance if entry["name"] not in alike]
    confused = [entry for entry in confused if {entry["label"], entry["predicted"]} not in pairs]
    if below_chance:
        names = [f"{entry['name']!r} ({_word_shares(entry)})" for entry in below_chance]
        yield (
            f"CLIP agrees with the labels of {counted(len(names), 'class', 'classes')} less often than chance "
            f"({chance:.1%}): {listed(names, limit=_MAX_NAMED)}. It does not understand the prompt, or the labels are "
            "wrong, and what adapters learn of the class comes from these labels alone. Check the labels, and the "
            "names that the prompts are made of (--class_names_file, --prompt_template)."
        )
    if similar_prompts:
        names = [
            f"{entry['classes'][0]!r} and {entry['classes'][1]!r} (cosine {entry['cosine']:.3f})"
            for entry in similar_prompts
        ]
        yield (
            f"The prompts of {counted(len(names), 'pair')} of classes are nearly the same to CLIP: "
            f"{listed(names, limit=_MAX_NAMED)}. Text can't tell their images apart: give them names that differ more "
            "with --class_names_file, or make them one class."
        )
    if confused:
        names = [f"{entry['label']!r} for {entry['predicted']!r} ({_word_shares(entry)})" for entry in confused]
        yield (
            f"CLIP takes more than half of the rows of a class for one other class, in {counted(len(names), 'pair')}: "
            f"{listed(names, limit=_MAX_NAMED)}. Check whether the class names are in label order and say what the "
            "images show; else most of these labels are wrong."
        )


def _word_shares(entry: dict[str, Any]) -> str:
    adapted = "" if entry["adapted"] is None else f", {entry['adapted']:.1%} with adapters"
    return f"{entry['plain']:.1%} of {entry['rows']} rows{adapted}"
