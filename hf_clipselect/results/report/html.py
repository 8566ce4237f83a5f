"""`report.html`: one file that shows a run to a person, without the network and without scripts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from jinja2 import Environment, PackageLoader

from ...errors import InputError
from ...hub.noise_words import auto_keeps_all, look_wrong
from ...runtime.files import write_text_atomically
from ...selection.reasons import WRONG_LABEL
from ..noise_summary import has_noise_model
from ..scores_table import column_values
from .figures import draw_class_shares, draw_group_shares, draw_histograms, draw_scatter
from .suspects import Captions, captions_of, proposals, row_texts, verdict
from .thumbnails import make_thumbnails, pick_rows


GALLERIES = {
    "best": ("Kept, highest score", "What the objective likes most."),
    "cut": ("Kept, lowest score", "The rows nearest to the cut. With class quotas each class has a cut of its own."),
    "dropped": ("Dropped", "Evenly spread over the dropped rows, from the highest score to the lowest."),
    "suspect": (
        "Most suspect labels",
        "Rows whose given label is not the one that CLIP predicts, or whose caption fits worse than another, lowest "
        "margin first: wrong labels, or images that CLIP does not understand.",
    ),
}
SUSPECTS_OF_A_NOISE_MODEL = (
    "Rows for which another class is more probable than the given label, most probably wrong first: wrong labels, or "
    "images that neither CLIP nor a regression understands."
)
# Of the classes with the largest share of labels that look wrong.
MAX_CLASSES_LISTED = 20
# A longer caption would push the tiles apart.
MAX_TEXT = 120


def write_html(
    path: Path, report: dict[str, Any], scores: Dataset, *, dataset: Dataset | None, image_column: str | None
) -> None:
    """Write the page, or replace it; the same input gives the same bytes.

    Takes what [`summarize`] returned, the scores table of N rows, and the same N rows of the dataset in the same
    order, of which at most 96 images are decoded; without these, or an image column, rows have no pictures.
    """
    if dataset is not None and len(dataset) != len(scores):
        raise InputError(
            f"The dataset has {len(dataset)} rows for {len(scores)} rows of scores; pass the rows that were scored, "
            "in the same order."
        )
    images = None if dataset is None or image_column is None else (dataset, image_column)
    page = (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            title=report["source"].get("name") or "Selection report",
            facts=_list_facts(report),
            labels=_describe_noise(report),
            histograms=draw_histograms(report, scores),
            scatter=draw_scatter(report, scores),
            class_shares=draw_class_shares(report),
            group_shares=draw_group_shares(report),
            galleries=_fill_galleries(report, scores, images),
            has_images=images is not None,
            cell="cluster" if report["captions"] else "class",
            cells="clusters" if report["captions"] else "classes",
            adapted=bool(report["adaptation"].get("kept")),
        )
    )
    write_text_atomically(path, page)


def _describe_noise(report: dict[str, Any]) -> dict[str, Any] | None:
    """What the page says of wrong labels: sentences, and the classes with the largest share of them."""
    noise = report["noise"]
    if noise is None:
        return None
    rows = {entry["name"]: entry["rows"] for entry in report["classes"]}
    by_share = sorted(noise["by_class"].items(), key=lambda item: -item[1])
    share = look_wrong(noise).replace(" %", "\N{NO-BREAK SPACE}%")
    return {
        **noise,
        "look_wrong": f"{share[0].upper()}{share[1:]}.",
        "keeps_all": [(subset["name"], auto_keeps_all(noise, subset)) for subset in report["subsets"]],
        "classes": [{"name": name, "rows": rows[name], "share": share} for name, share in by_share],
        "max_classes": MAX_CLASSES_LISTED,
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hf_clipselect.results.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=_count, decimal=_decimal, percent=_percent, plain=_plain)
    return environment


def _count(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"


def _decimal(value: float | None) -> str:
    return "n/a" if value is None or value != value else f"{value:.3f}"


def _percent(value: float | None) -> str:
    # A no-break space, so that the sign never stands alone on the next line.
    return "n/a" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def _fill_galleries(
    report: dict[str, Any], scores: Dataset, images: tuple[Dataset, str] | None
) -> list[dict[str, Any]]:
    suffix = report["subsets"][0]["suffix"]
    texts = dict(GALLERIES)
    if has_noise_model(scores):
        texts["suspect"] = (texts["suspect"][0], SUSPECTS_OF_A_NOISE_MODEL)
    picked = pick_rows(scores, suffix)
    shown = np.unique(np.concatenate(list(picked.values())))
    thumbnails = {} if images is None or not len(shown) else make_thumbnails(*images, shown)
    captions = None
    if images is not None and report["captions"]:
        captions = captions_of(images[0], report["source"]["label_column"], column_values(scores, "source_index"))
    tiles = dict(zip(shown, _describe_rows(scores, shown, suffix, captions), strict=True))
    return [
        {
            "title": title,
            "caption": caption,
            "tiles": [{**tiles[row], "thumbnail": thumbnails.get(int(row))} for row in picked[kind]],
        }
        for kind, (title, caption) in texts.items()
    ]


def _describe_rows(scores: Dataset, rows: np.ndarray, suffix: str, captions: Captions | None) -> list[dict[str, Any]]:
    columns = {name: name for name in ("source_index", "reason", "sas", "margin", "sds")}
    columns |= {"agrees": "label_agrees", "kept": f"selected_{suffix}", "score": f"selection_score_{suffix}"}
    values = {key: column_values(scores, name)[rows] for key, name in columns.items()}
    given, best = (list(map(_shorten, texts)) for texts in row_texts(scores, rows, captions))
    described = [{key: column[i] for key, column in values.items()} for i in range(len(rows))]
    for row, said in zip(described, _verdicts(scores, rows), strict=True):
        row["verdict"] = said
        if said is not None and row["reason"].startswith(WRONG_LABEL):  # the same in more words
            row["reason"] = ""
    return [
        row | {"label": label, "predicted": predicted}
        for row, label, predicted in zip(described, given, best, strict=True)
    ]


def _verdicts(scores: Dataset, rows: np.ndarray) -> list[str | None]:
    """What the noise model says of rows whose label looks wrong; None of the others, and without a noise model."""
    if not has_noise_model(scores):
        return [None] * len(rows)
    wrong = column_values(scores, "label_error_probability")[rows]
    given, proposed = proposals(scores, rows)
    return [
        None if label == other else verdict(probability, _shorten(other))
        for probability, label, other in zip(wrong, given, proposed, strict=True)
    ]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}\N{HORIZONTAL ELLIPSIS}"


def _list_facts(report: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """How the run was made, as terms with their lines; what is not known is left out."""
    source, model, objective, adaptation = (report[key] for key in ("source", "model", "objective", "adaptation"))
    verdict = "The adapters are kept" if adaptation.get("kept") else "Plain CLIP, no adapters"
    seconds = {stage: value for stage, value in report["seconds"].items() if value is not None}
    facts = {
        "Source": [source.get("name") or "a dataset in memory", _join(source, leave_out=("name",))],
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


def _join(entries: Mapping[str, Any], *, leave_out: Sequence[str]) -> str:
    shown = {key: value for key, value in entries.items() if key not in leave_out and value not in (None, "")}
    return "; ".join(f"{key.removeprefix('num_').replace('_', ' ')}: {_plain(value)}" for key, value in shown.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
