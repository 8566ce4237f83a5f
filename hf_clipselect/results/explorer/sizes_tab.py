"""The tab Sizes: what a subset of another size would keep."""

from typing import Any

from ...errors import InputError
from .explored import Explored
from .panels import panel
from .size_preview import preview_size


# A table of so many rows is selected from while the slider moves; of a larger one when it is let go.
AT_ONCE_ROWS = 50_000


def show_size(explored: Explored, percent: float) -> str:
    """What a subset of so many percent of the rows would be, as HTML."""
    cells = "clusters" if explored.has_captions else "classes"
    try:
        return panel("size", preview_size(explored, percent / 100), explored.has_noise_model, cells)
    except InputError as error:
        return panel("note", str(error))


def build_sizes(app: Any, explored: Explored) -> None:
    """Put the tab's components into the app that is being built."""
    import gradio as gr

    readable = int(explored.readable.sum())
    kept = int(explored.column(f"selected_{explored.sizes[0]}").sum())
    slider = gr.Slider(
        1,
        100,
        value=max(1, round(100 * kept / readable)),
        step=1,
        label="Rows to keep, in percent of those that can be read",
        elem_id="sizes-percent",
    )
    shown = gr.HTML()
    moves = slider.change if readable <= AT_ONCE_ROWS else slider.release
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    moves(lambda percent: show_size(explored, percent), slider, shown, trigger_mode="always_last", **quiet)
    app.load(lambda percent: show_size(explored, percent), slider, shown, **quiet)
