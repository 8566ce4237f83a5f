"""How a selection shows itself: three lines in a console, a few facts and suspects in a notebook."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from ..data.source import DatasetSource
from ..hub.noise_words import look_wrong
from ..runtime.terminal import printable
from ..runtime.words import counted, cut, listed
from ..selection import Size, column_suffix, config_name
from .report import pick_suspects, small_images, suspects_table, verdict
from .scores_table import column_values


_MOST_SIZES, _MOST_WARNINGS, _MOST_SUSPECTS = 5, 5, 8
_SIDE = 64
_LONGEST_NAME, _LONGEST_WARNING = 40, 300


def in_three_lines(
    scores: Dataset, ratios: Sequence[Size], source: DatasetSource, report: Mapping[str, Any], objective: str
) -> str:
    """What was selected from what, how many rows of each size, and what is to be doubted."""
    sizes = [f"{name}: {counted(rows, 'row')}" for name, rows in _kept(scores, ratios)]
    return "\n".join(
        [
            printable(f"SelectionResult from {counted(len(scores), 'row')} of {_name(source)}, objective {objective}"),
            f"  keeps {listed(sizes, limit=_MOST_SIZES)}",
            f"  {'; '.join(_doubts(report))}",
        ]
    )


def as_html(
    scores: Dataset,
    ratios: Sequence[Size],
    source: DatasetSource,
    report: Mapping[str, Any],
    objective: str,
    images: Dataset | None,
) -> str:
    """The same for a notebook, with the warnings and the first suspects; of these thumbnails where there are images.

    `images` are the N rows of the scores table, in its order, or None.
    """
    rows = "".join(
        f"<tr><td>{name}</td><td>{kept:,}</td><td>{kept / max(len(scores), 1):.1%}</td></tr>"
        for name, kept in _kept(scores, ratios)[:_MOST_SIZES]
    )
    left_out = len(ratios) - _MOST_SIZES
    warned = report.get("warnings") or []
    notes = "".join(f"<li>{_text(warning, _LONGEST_WARNING)}</li>" for warning in warned[:_MOST_WARNINGS])
    parts = [
        f"<p><b>{len(scores):,} rows</b> of {_text(_name(source), 2 * _LONGEST_NAME)}, objective "
        f"{_text(objective, _LONGEST_NAME)}: {_text('; '.join(_doubts(report)), _LONGEST_WARNING)}</p>",
        f"<table><thead><tr><th>subset</th><th>rows</th><th>share</th></tr></thead><tbody>{rows}</tbody></table>",
        f"<p>and {counted(left_out, 'more subset')}</p>" if left_out > 0 else "",
        f"<ul>{notes}</ul>" if notes else "",
        _suspects(scores, source, images),
    ]
    return f"<div>{''.join(parts)}</div>"


def _suspects(scores: Dataset, source: DatasetSource, images: Dataset | None) -> str:
    """The rows whose label is most likely wrong, first one first."""
    rows = pick_suspects(scores, num=_MOST_SUSPECTS)
    if not len(rows):
        return ""
    shown: dict[int, Image.Image | None] = {}
    if images is not None and source.image_column in images.column_names:
        shown = small_images(images, source.image_column, rows, max_side=_SIDE)
    table = suspects_table(scores, rows).to_pylist()
    figures = "".join(_figure(entry, shown.get(int(row))) for row, entry in zip(rows, table, strict=True))
    return f"<p>Most probably wrong labels:</p><div>{figures}</div>"


def _figure(suspect: Mapping[str, Any], image: Image.Image | None) -> str:
    proposed, probability = suspect["proposed_label"], suspect.get("label_error_probability")
    words = f"looks like {proposed}" if probability is None else verdict(probability, proposed)
    text = f"#{suspect['source_index']} {_text(suspect['label'], _LONGEST_NAME)}<br>{_text(words, 2 * _LONGEST_NAME)}"
    thumbnail = "" if image is None else f'<img alt="" src="{_data_uri(image)}"><br>'
    style = "display: inline-block; vertical-align: top; margin: 0 1em 1em 0; font-size: 85%; max-width: 10em"
    return f'<div style="{style}">{thumbnail}{text}</div>'


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _kept(scores: Dataset, ratios: Sequence[Size]) -> list[tuple[str, int]]:
    masks = ((size, column_values(scores, f"selected_{column_suffix(size)}")) for size in ratios)
    return [(config_name(size), int(np.count_nonzero(mask))) for size, mask in masks]


def _doubts(report: Mapping[str, Any]) -> list[str]:
    noise, warned = report.get("noise"), len(report.get("warnings") or ())
    doubts = [look_wrong(noise) if noise else "wrong labels not estimated"]
    return [*doubts, *([f"{counted(warned, 'warning')} in .report"] if warned else [])]


def _name(source: DatasetSource) -> str:
    return source.name or ("a dataset in memory" if source.image_column else "embeddings")


def _text(text: str, limit: int) -> str:
    return escape(printable(cut(text, limit)))
