"""The tab Map: rows that look alike lie near each other; a click shows one with its nearest."""

from importlib.resources import files
from typing import Any

from ...errors import InputError
from .examples import examples_of
from .explored import Explored
from .explorer_map import draw_map, find_map, points_of
from .page_pieces import strip
from .panels import panel
from .row_view import view_of


_TEMPLATE = '<div class="cs-map"><canvas tabindex="-1" role="img" aria-label="map of the rows"></canvas><p></p></div>'


def show_point(explored: Explored, row: int) -> str:
    """A row beside the map, with its nearest, as HTML."""
    view = view_of(explored, row)
    shown = panel("point", view, explored.images.large(view.source_index), explored.has_captions)
    nearest = examples_of(explored, row)
    return shown + (strip(explored, nearest.words, nearest.rows) if nearest.are_nearest else "")


def build_map(app: Any, explored: Explored) -> None:
    """Put the tab's components into the app that is being built."""
    import gradio as gr

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    wrong = "probability of a wrong label" if explored.has_noise_model else "how much better another label fits"
    with gr.Row():
        color = gr.Radio(
            [("class", "class"), ("kept or dropped", "kept"), (wrong, "wrong")], value="class", label="Coloured by"
        )
    make = gr.Button("Make the map (takes about a minute)", visible=False, elem_id="map-make")
    note = gr.HTML()
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            script = (files(__package__) / "map.js").read_text(encoding="utf-8")
            canvas = gr.HTML(elem_id="map-points", html_template=_TEMPLATE, js_on_load=script, by="class")
        with gr.Column(scale=2, min_width=300):
            shown = gr.HTML(elem_id="map-row")

    def opened() -> tuple[Any, Any, str]:
        table = find_map(explored)
        if table is not None:
            return points_of(explored, table), gr.Button(visible=False), ""
        if explored.embeds is None:
            return "", gr.Button(visible=False), panel("note", _without_features(explored))
        return "", gr.Button(visible=True), panel("note", "This run made no map; --map true makes one with the next.")

    def made() -> tuple[Any, Any, str]:
        try:
            return points_of(explored, draw_map(explored)), gr.Button(visible=False), ""
        except (InputError, OSError) as error:
            return "", gr.Button(visible=True), panel("note", f"There is no map: {error}")

    def clicked(event: gr.EventData) -> str:
        return show_point(explored, explored.row_of(int(event._data["row"])))

    outputs = [canvas, make, note]
    make.click(made, None, outputs, show_progress_on=note, api_visibility="private")
    color.input(lambda by: gr.HTML(by=by), color, canvas, **quiet)
    canvas.select(clicked, None, shown, **quiet)
    app.load(opened, None, outputs, **quiet)


def _without_features(explored: Explored) -> str:
    return (
        f"There is no map: the features of the run are not in {explored.place}. Its output folder holds them, and a "
        "run with --map true makes the map."
    )
