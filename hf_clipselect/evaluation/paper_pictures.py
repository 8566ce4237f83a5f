"""Figures 3, 8 and 9 of https://huggingface.co/papers/2410.11215 as pictures of any labelled images.

Legend: N rows, D embedding dimension.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA

from ..data import LabelledImages
from ..encoder.images import open_image
from ..pipeline.embeddings import select_embeddings
from ..results.scores_table import column_values
from ..selection import selection_count, top_k
from .comparison.clip_embeds import clip_embeds
from .comparison.sweep_plots import STYLE
from .robustness import CORRUPTIONS, add_label_noise, corrupt_image
from .robustness.image_rows import decoded_image


# Those of the caption of figure 9, and the severity that is nearest to the paper's damage.
_NOISE_RATE, _SELECTION_RATIO, _SEVERITY = 0.2, 0.2, 5
_KEPT_COLOR, _WRONG_COLOR, _OTHER_COLOR = "#0072b2", "#d55e00", "#b0b0b0"
_MAX_CLASSES, _PICTURES_A_CLASS, _NUM_DAMAGED = 8, 6, 3
_NAME_LENGTH = 12


def draw_pictures(images: LabelledImages, *, model_name: str, seed: int) -> dict[str, Figure]:
    """Make a fifth of the labels wrong, keep a fifth of the rows as the paper does, and draw which.

    Rows are scored by the objective `paper` with adapters, and the rows of highest score are kept, without quotas.

    Args:
        images (`LabelledImages`): N rows whose labels are taken as right.
        model_name (`str`): Dual encoder, as `--model_name_or_path`.
        seed (`int`): Of the noise, the adapters, the damage and the rows that are shown.

    Returns:
        `dict[str, Figure]`: "figure3", the rows of one class with what SDS alone, SAS alone and both keep of them;
        "figure8", the kinds of damage; and "figure9", kept and dropped images of the first classes.

    Raises:
        InputError: The model can't be loaded, an image can't be read, or there are fewer than five rows.
    """
    labels = add_label_noise(images.labels, len(images.class_names), rate=_NOISE_RATE, seed=seed)
    image_embeds, text_embeds = clip_embeds(images, model_name)
    scores = select_embeddings(
        image_embeds,
        text_embeds,
        labels,
        selection_ratio=_SELECTION_RATIO,
        objective="paper",
        adaptation="always",
        seed=seed,
    ).scores
    sas, sds = column_values(scores, "sas"), column_values(scores, "sds")
    count = selection_count(_SELECTION_RATIO, len(labels))
    kept = {
        "SDS alone": top_k(sds, count),
        "SAS alone": top_k(sas, count),
        "SAS and SDS": top_k(sas + _SELECTION_RATIO * sds, count),  # alpha is the ratio
    }
    wrong = labels != images.labels
    with style.context(["default", STYLE]):
        return {
            "figure3": _draw_class(image_embeds, labels, wrong, kept, images.class_names),
            "figure8": _draw_damage(images, seed=seed),
            "figure9": _draw_kept(images, labels, kept["SAS and SDS"], seed=seed),
        }


def _draw_class(
    embeds: np.ndarray, labels: np.ndarray, wrong: np.ndarray, kept: dict[str, np.ndarray], names: Sequence[str]
) -> Figure:
    """The class with most wrong labels on the first two principal components of its embeddings `(N, D)`."""
    label = int(np.bincount(labels[wrong], minlength=len(names)).argmax())
    rows = np.flatnonzero(labels == label)
    units = embeds[rows] / np.linalg.norm(embeds[rows], axis=1, keepdims=True)
    points = PCA(n_components=2, svd_solver="full").fit_transform(units)
    drawn = Figure(figsize=(8, 2.6))
    panels = {"all rows": rows, **kept}
    for axes, (name, chosen) in zip(
        drawn.subplots(1, len(panels), sharex=True, sharey=True), panels.items(), strict=True
    ):
        is_kept = np.isin(rows, chosen)
        _scatter(axes, points, wrong[rows], is_kept)
        axes.set_title(f"{name}: {is_kept.sum()}, {(is_kept & wrong[rows]).sum()} wrong")
        axes.set_xlabel("component 1 (no unit)")
    drawn.axes[0].set_ylabel("component 2 (no unit)")
    drawn.suptitle(
        f"rows labelled {_short(names[label])} (circle: right label, cross: wrong label; grey: not kept)", fontsize=9
    )
    return drawn


def _scatter(axes: Axes, points: np.ndarray, wrong: np.ndarray, kept: np.ndarray) -> None:
    for is_kept in (False, True):
        for is_wrong, marker in ((False, "o"), (True, "x")):
            shown = points[(kept == is_kept) & (wrong == is_wrong)]
            color = (_WRONG_COLOR if is_wrong else _KEPT_COLOR) if is_kept else _OTHER_COLOR
            axes.plot(
                *shown.T,
                marker,
                color=color,
                markersize=4,
                markeredgewidth=0.9,
                markerfacecolor=color if is_kept else "none",
            )
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_damage(images: LabelledImages, *, seed: int) -> Figure:
    """A row for each of the first images of different classes: as it is, and damaged in each way."""
    rows = [int(np.flatnonzero(images.labels == label)[0]) for label in np.unique(images.labels)[:_NUM_DAMAGED]]
    drawn = Figure(figsize=(8, 1.4 * len(rows) + 0.3))
    grid = drawn.subplots(len(rows), 1 + len(CORRUPTIONS), squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        image = decoded_image(images.dataset[row], images.image_column, row, before="it is damaged")
        _show(line[0], image)
        for axes, kind in zip(line[1:], CORRUPTIONS, strict=True):
            rng = np.random.default_rng([seed, row])
            _show(axes, corrupt_image(image, kind, severity=_SEVERITY, rng=rng))
    for axes, name in zip(grid[0], ["as it is", *CORRUPTIONS], strict=True):
        axes.set_title(name.replace("_", " "))
    return drawn


def _draw_kept(images: LabelledImages, labels: np.ndarray, kept: np.ndarray, *, seed: int) -> Figure:
    """A line for each class: some rows that are kept, then some that are dropped; wrong labels are framed."""
    rng = np.random.default_rng([seed, 1])
    shown = np.unique(labels)[:_MAX_CLASSES]
    drawn = Figure(figsize=(8, 0.72 * len(shown) + 0.5))
    grid = drawn.subplots(len(shown), 2 * _PICTURES_A_CLASS + 1, squeeze=False)
    is_kept = np.isin(np.arange(len(labels)), kept)
    for line, label in zip(grid, shown, strict=True):
        for axes in line:
            axes.axis("off")
        for offset, of_side in ((0, is_kept), (_PICTURES_A_CLASS + 1, ~is_kept)):
            rows = rng.permutation(np.flatnonzero((labels == label) & of_side))[:_PICTURES_A_CLASS]
            for axes, row in zip(line[offset:], rows.tolist(), strict=False):
                _show(axes, images.dataset[row][images.image_column])
                if labels[row] != images.labels[row]:
                    _frame(axes)
                    axes.set_title(
                        _short(images.class_names[images.labels[row]]), fontsize=6, color=_WRONG_COLOR, pad=2
                    )
        line[_PICTURES_A_CLASS].text(0.5, 0.5, _short(images.class_names[label]), fontsize=7, ha="center", va="center")
    wrong = labels != images.labels
    drawn.suptitle(
        f"left: kept ({wrong[is_kept].mean():.1%} wrong labels), right: dropped ({_mean(wrong[~is_kept]):.1%}); "
        "framed: wrong label, with the right one",
        fontsize=9,
    )
    return drawn


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _frame(axes: Axes) -> None:
    axes.axis("on")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(_WRONG_COLOR)
        spine.set_linewidth(2)


def _show(axes: Axes, image: Image.Image) -> None:
    axes.imshow(np.asarray(open_image(image)), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.axis("off")


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 3] + "..."
