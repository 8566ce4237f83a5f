"""`report.html`: one file that shows a run to a person, without the network.

What it holds is bounded whatever the dataset: 120 suspects, pictures of 480 rows, plots of 8 sizes, 1,000 classes and
groups. That is one or two MB for most, and at most 20 MB. Its script sorts, filters and enlarges; the page reads
without it.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from ...data.decisions import decisions_in_words
from ...errors import InputError
from ...hub.noise_words import about_percent, auto_keeps_all, look_wrong
from ...runtime.files import write_text_atomically
from ...runtime.hub_ids import plain_name
from ...runtime.words import cut
from ..noise_summary import has_noise_model
from ..scores_table import column_values
from .figures import draw_class_shares, draw_group_shares, draw_histograms, draw_scatter
from .shown_rows import NUM_SUSPECTS, Pair, RowsOfSize, classes_to_cut, confused_pairs, forced_rows, rows_of_size
from .suspects import captions_of, pick_suspects
from .tiles import MAX_PICTURES, describe_rows, draw_pictures, first_pictures, shorten


MAX_SIZES = 8
MAX_CLASSES_LISTED = 1000
# Of the classes with the largest share of labels that look wrong.
MAX_WRONG_CLASSES = 20
MAX_WARNINGS = 50
MAX_VALUE = 1000


def write_html(
    path: Path, report: dict[str, Any], scores: Dataset, *, dataset: Dataset | None, image_column: str | None
) -> None:
    """Write the page, or replace it; the same input gives the same bytes.

    Takes what [`summarize`] returned, the scores table of N rows, and the same N rows of the dataset in the same
    order, of which at most 480 images are decoded; without these, or an image column, rows have no pictures.
    """
    if dataset is not None and len(dataset) != len(scores):
        raise InputError(
            f"The dataset has {len(dataset)} rows for {len(scores)} rows of scores; pass the rows that were scored, "
            "in the same order."
        )
    images = None if dataset is None or image_column is None else (dataset, image_column)
    environment = _environment()
    script, style = (Markup(_source(environment, name)) for name in ("report.js", "report.css"))
    page = environment.get_template("report.html").render(
        report=report,
        title=plain_name(report["source"].get("name") or "") or "Selection report",
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
        facts=_list_facts(report),
        labels=_describe_noise(report),
        has_images=images is not None,
        adapted=bool(report["adaptation"].get("kept")),
        decided=decisions_in_words(report["decisions"]) if report.get("decisions") else None,
        commands=_commands(report),
        warnings=[cut(warning, MAX_VALUE) for warning in report["warnings"][:MAX_WARNINGS]],
        max_classes=MAX_CLASSES_LISTED,
        max_pictures=MAX_PICTURES,
        **_words(bool(report["captions"])),
        **_shown(report, scores, images),
    )
    write_text_atomically(path, page)


def rows_with_pictures(report: Mapping[str, Any], scores: Dataset) -> np.ndarray:
    """The rows of the scores table, at most 480, whose images [`write_html`] puts on the page: int64."""
    rows = _rows_of_page(report, scores)
    return np.array(first_pictures(rows.suspects, rows.others), dtype=np.int64)


@dataclass(frozen=True)
class _RowsOfPage:
    """Which rows the page shows; `others` are those of the pairs and sizes, some of them suspects too."""

    suspects: list[int]
    num_suspects: int
    pairs: list[Pair]
    num_cut: int
    by_size: dict[str, RowsOfSize]
    others: list[int]


def _rows_of_page(report: Mapping[str, Any], scores: Dataset) -> _RowsOfPage:
    all_suspects = pick_suspects(scores)
    # Clusters of images are no classes that could be confused.
    pairs = [] if report["captions"] is not None else confused_pairs(scores)
    classes, forced = classes_to_cut(scores), forced_rows(scores, report)
    suffixes = [subset["suffix"] for subset in report["subsets"][:MAX_SIZES]]
    by_size = {suffix: rows_of_size(scores, suffix, classes, forced) for suffix in suffixes}
    others = [row for pair in pairs for row in pair.examples] + [row for of in by_size.values() for row in _rows(of)]
    suspects = all_suspects[:NUM_SUSPECTS].tolist()
    return _RowsOfPage(suspects, len(all_suspects), pairs, len(classes), by_size, others)


def _shown(report: dict[str, Any], scores: Dataset, images: tuple[Dataset, str] | None) -> dict[str, Any]:
    """Rows and plots: those of all sizes, and those of each."""
    of_captions = report["captions"] is not None
    subsets = report["subsets"][:MAX_SIZES]
    page = _rows_of_page(report, scores)
    captions = None
    if images is not None and of_captions:
        captions = captions_of(images[0], report["source"]["label_column"], column_values(scores, "source_index"))
    pictures = draw_pictures(images, page.suspects, page.others)
    rows = np.array(list(dict.fromkeys([*page.suspects, *page.others])), dtype=np.int64)
    tiles = describe_rows(scores, rows, list(page.by_size), captions, pictures, report)
    names = scores.features["label"].names
    return {
        "suspects": [tiles[row] for row in page.suspects],
        "num_suspects": page.num_suspects,
        "has_noise_model": has_noise_model(scores),
        "pairs": [_describe_pair(pair, names, tiles) for pair in page.pairs],
        "num_cells": sum(bool(entry["rows"]) for entry in report["classes"]),
        "num_cut": page.num_cut,
        "sizes": [
            {
                "suffix": subset["suffix"],
                "name": subset["name"],
                "rows": subset["rows"],
                "best": [tiles[row] for row in page.by_size[subset["suffix"]].best.tolist()],
                "dropped": [tiles[row] for row in page.by_size[subset["suffix"]].dropped.tolist()],
                "cuts": [
                    {
                        "name": shorten(names[cut.label]).short,
                        "kept": None if cut.kept is None else tiles[cut.kept],
                        "dropped": None if cut.dropped is None else tiles[cut.dropped],
                    }
                    for cut in page.by_size[subset["suffix"]].cuts
                ],
                "class_shares": draw_class_shares(report, subset),
                "group_shares": draw_group_shares(report, subset),
                "histograms": draw_histograms(scores, subset["suffix"], captions=of_captions),
                "scatter": draw_scatter(scores, subset["suffix"]),
            }
            for subset in subsets
        ],
    }


def _rows(of: RowsOfSize) -> list[int]:
    at_cut = [row for cut in of.cuts for row in (cut.kept, cut.dropped) if row is not None]
    return [*at_cut, *of.best.tolist(), *of.dropped.tolist()]


def _describe_pair(pair: Pair, names: Sequence[str], tiles: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    return {
        "label": names[pair.label],
        "proposed": names[pair.proposed],
        "rows": pair.rows,
        "share": pair.share,
        "examples": [tiles[row] for row in pair.examples],
    }


def _words(captions: bool) -> dict[str, str]:
    """What the page calls a text that belongs to an image, and the rows that are kept evenly."""
    if captions:
        return {"given": "caption", "cell": "cluster", "cells": "clusters"}
    return {"given": "label", "cell": "class", "cells": "classes"}


def _commands(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What to type next about the suspects, where the run left a folder."""
    folder = report["arguments"].get("output_dir")
    if not isinstance(folder, str):
        return []
    place = shlex.quote(folder)
    return [
        ("to list more of them", f"hf-clipselect suspects {place}"),
        ("to decide about them one by one", f"hf-clipselect explore {place}"),
    ]


def _describe_noise(report: dict[str, Any]) -> dict[str, Any] | None:
    """What the page says of wrong labels: sentences, and the classes with the largest share of them."""
    noise = report["noise"]
    if noise is None:
        return None
    rows = {entry["name"]: entry["rows"] for entry in report["classes"]}
    by_share = sorted(noise["by_class"].items(), key=lambda item: -item[1])
    share = look_wrong(noise).replace(" %", "\N{NO-BREAK SPACE}%")
    return {
        "about": about_percent(noise["estimated_share"]).replace(" %", "\N{NO-BREAK SPACE}%"),
        "share_error": noise["share_error"],
        "look_wrong": f"{share[0].upper()}{share[1:]}.",
        "keeps_all": [(subset["name"], auto_keeps_all(noise, subset)) for subset in report["subsets"]],
        "classes": [
            {"name": shorten(name).short, "rows": rows[name], "share": share}
            for name, share in by_share[:MAX_WRONG_CLASSES]
        ],
        "num_classes": len(by_share),
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hf_clipselect.results.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        breakable=_breakable, count=_count, decimal=_decimal, percent=_percent, plain=_plain, short=_short
    )
    return environment


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _breakable(text: str) -> Markup:
    """A name that may go on in the next line behind an underscore."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def _short(name: str) -> Markup:
    return _breakable(shorten(name).short)


def _count(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"


def _decimal(value: float | None) -> str:
    return "n/a" if value is None or value != value else f"{value:.3f}"


def _percent(value: float | None) -> str:
    # A no-break space, so that the sign never stands alone on the next line.
    return "n/a" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def _list_facts(report: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """How the run was made, as terms with their lines; what is not known is left out."""
    source, model, objective, adaptation = (report[key] for key in ("source", "model", "objective", "adaptation"))
    verdict = "The adapters are kept" if adaptation.get("kept") else "Plain CLIP, no adapters"
    seconds = {stage: value for stage, value in report["seconds"].items() if value is not None}
    facts = {
        "Source": [source.get("name") or "a dataset in memory", _join(_source_facts(report), leave_out=("name",))],
        "Model": [
            model.get("name")
            or ("passed without a name" if model.get("in_memory") else "none: embeddings were passed in"),
            _join(model, leave_out=("name", "prompt_template")),
            *(f"prompt: {template}" for template in model.get("prompt_template") or []),
        ],
        "Captions": ["" if report["captions"] is None else _join(report["captions"], leave_out=())],
        "Objective": [objective.get("name"), _join(objective, leave_out=("name",))],
        "Adaptation": [
            f"{verdict} (mode {adaptation.get('mode')})",
            adaptation.get("reason"),
            _join(adaptation, leave_out=("mode", "kept", "reason")),
        ],
        "Seed": [str(report["seed"])],
        "Time": [
            ", ".join(f"{stage} {value:.1f} s" for stage, value in {**seconds, "all": sum(seconds.values())}.items())
        ],
        "Versions": [", ".join(f"{package} {version}" for package, version in report["versions"].items())],
    }
    return [(term, [line for line in lines if line]) for term, lines in facts.items() if any(lines)]


def _source_facts(report: dict[str, Any]) -> dict[str, Any]:
    if not report["captions"]:
        return report["source"]
    return {("caption_column" if name == "label_column" else name): value for name, value in report["source"].items()}


def _join(entries: Mapping[str, Any], *, leave_out: Sequence[str]) -> str:
    shown = {key: value for key, value in entries.items() if key not in leave_out and value not in (None, "")}
    return "; ".join(f"{key.removeprefix('num_').replace('_', ' ')}: {_plain(value)}" for key, value in shown.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), MAX_VALUE)
