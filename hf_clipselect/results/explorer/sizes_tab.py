"""The tab Sizes: what a subset of another size would keep."""

from typing import Any

from ...errors import InputError
from .explored import Explored
from .panels import panel
from .size_preview import preview_size


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
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # While one size is selected, which takes seconds of 1,000,000 rows, of those asked for the last one alone waits.
    slider.change(lambda percent: show_size(explored, percent), slider, shown, trigger_mode="always_last", **quiet)
    app.load(lambda percent: show_size(explored, percent), slider, shown, **quiet)
