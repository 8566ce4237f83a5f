"""Figure 7 of https://huggingface.co/papers/2410.11215: how well the classes of the test rows lie apart in the
embeddings of a model that was trained on all rows or on those that were kept.

Legend: N test rows, H hidden size.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ...runtime.files import write_atomically, write_text_atomically
from ..metrics import load_metric
from .known_methods import FULL, METHODS, RANDOM
from .setting import Setting, describe_setting
from .sweep import kept_rows, settings_of
from .sweep_arguments import SweepArguments
from .sweep_plots import CLASS_COLORS, STYLE, save_plot
from .sweep_tables import DEFAULT


# Those that make the claim of figure 7.
_PAPER = ("paper_loop", "paper")


def write_tsne(arguments: SweepArguments, ratio: float) -> list[Path]:
    """Draw t-SNE of the test rows of the first seed, and write the Dunn index of every seed.

    All rows, random rows and what the default objective and, where the sweep has it, the paper's keep at one ratio,
    for each setting and model.

    Args:
        arguments ([`SweepArguments`]): Those of the sweep, whose selections are taken.
        ratio (`float`): Fraction of the rows to keep.

    Returns:
        `list[Path]`: tsne.md, dunn_index.csv and the PNG files.
    """
    folder = Path(arguments.output_dir)
    lines, files = [], [folder / "tsne.md", folder / "dunn_index.csv"]
    pictures: dict[tuple[str, str], list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for setting, model, method in _trainings(arguments):
        kept = 1.0 if method == FULL else ratio
        embeds, labels = setting.test_embeds(model, kept_rows(setting, METHODS[method], [kept])[kept])
        points = _tsne(embeds, seed=setting.seed)
        name = describe_setting(setting.name, setting.damage)
        line = {"setting": name, "model": model, "method": method, "selection_ratio": kept, "seed": setting.seed}
        lines.append(line | {"embeddings": _dunn(embeds, labels), "t-SNE": _dunn(points, labels)})
        if setting.seed == arguments.seeds[0]:
            pictures.setdefault((name, model), []).append((method, points, labels))
    for number, ((name, model), panels) in enumerate(pictures.items()):
        path = folder / ("tsne.png" if len(pictures) == 1 else f"tsne_{number + 1}.png")
        with style.context(["default", STYLE]):
            save_plot(_draw(f"{name}; {model}", panels, ratio), path)
        files.append(path)
    sink = pa.BufferOutputStream()
    pc.write_csv(pa.Table.from_pylist(lines), sink)
    write_atomically(folder / "dunn_index.csv", sink.getvalue().to_pybytes())
    write_text_atomically(folder / "tsne.md", _table(lines, ratio))
    return files


def _trainings(arguments: SweepArguments) -> Iterator[tuple[Setting, str, str]]:
    """Setting, model and method."""
    methods = [name for name in (FULL, RANDOM, DEFAULT, *_PAPER) if name in {*arguments.methods, DEFAULT}]
    for setting in settings_of(arguments):
        yield from ((setting, model, method) for model in setting.models for method in methods)


def _tsne(embeds: np.ndarray, *, seed: int) -> np.ndarray:
    # Threads that wait for each other take longer than they save on a busy machine.
    with threadpool_limits(1):
        return TSNE(perplexity=min(30, (len(embeds) - 1) / 3), random_state=seed).fit_transform(embeds)


def _dunn(embeds: np.ndarray, labels: np.ndarray) -> float:
    return load_metric("dunn_index").compute(embeds=embeds, references=labels)["dunn_index"]


def _draw(title: str, panels: Sequence[tuple[str, np.ndarray, np.ndarray]], ratio: float) -> Figure:
    drawn = Figure(figsize=(8 / 3 * len(panels), 3.3))
    for axes, (method, points, labels) in zip(drawn.subplots(1, len(panels)), panels, strict=True):
        _scatter(axes, points, labels)
        name = {FULL: "all rows", RANDOM: f"{100 * ratio:g} % random rows"}.get(method, f"{100 * ratio:g} %, {method}")
        axes.set_title(f"trained on {name}")
        axes.set_xlabel("t-SNE 1 (no unit)")
    drawn.axes[0].set_ylabel("t-SNE 2 (no unit)")
    drawn.suptitle(title, fontsize=10)
    return drawn


def _scatter(axes: Axes, points: np.ndarray, labels: np.ndarray) -> None:
    # Each class by its own sign too: ten colours are more than many eyes tell apart.
    for label in np.unique(labels):
        rows = points[labels == label]
        color = CLASS_COLORS[label % len(CLASS_COLORS)]
        axes.plot(
            rows[:, 0], rows[:, 1], linestyle="", marker=f"${label}$", markersize=5, markeredgewidth=0.2, color=color
        )
    axes.set_xticks([])
    axes.set_yticks([])


def _table(lines: Sequence[dict[str, Any]], ratio: float) -> str:
    parts = [
        f"Dunn index of the test rows (higher: classes lie further apart), trained on all rows or on {100 * ratio:g} "
        "% of them; means and standard deviations over the seeds.\n",
        "| setting | model | trained on | of the embeddings | of t-SNE's two coordinates |",
        "|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["setting"], line["model"], line["method"]), []).append(line)
    for (setting, model, method), of_seeds in groups.items():
        cells = [np.array([line[name] for line in of_seeds]) for name in ("embeddings", "t-SNE")]
        texts = [
            f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else "") for values in cells
        ]
        parts.append(f"| {setting} | {model} | {method} | {' | '.join(texts)} |")
    return "\n".join(parts) + "\n"
