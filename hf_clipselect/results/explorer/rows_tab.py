"""The tab Rows: filters, sorting, pages as a table or as pictures, and a row enlarged when it is clicked."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .explored import Explored
from .page_pieces import ALL, TELL
from .panels import panel, serial
from .row_detail import detail
from .row_filter import RowFilter, find_rows, groups_of, reason_kinds
from .row_view import column_words, size_words, text_of, views_of


ROWS_OF_A_PAGE = 50
_HIDDEN = ("selection_score_", "selected_", "must_")
# For an element of Gradio's: a click on a heading or a row tells which.
CLICKS = """
element.addEventListener('click', event => {
  const heading = event.target.closest('[data-sort]'), row = event.target.closest('[data-row]');
  if (row) window.clipselectOpener = row.querySelector('button') ?? row;
  if (heading) trigger('select', {sort: heading.dataset.sort});
  else if (row) trigger('select', {row: Number(row.dataset.row)});
});
"""


@dataclass(frozen=True)
class Place:
    """Which page of which rows is shown."""

    wanted: RowFilter = RowFilter()
    page: int = 0
    as_pictures: bool = False

    def sorted_by(self, name: str) -> "Place":
        """By a column, lowest first, or where it is sorted so already highest first; from the first page."""
        again = name == self.wanted.sort_by and not self.wanted.descending
        return replace(self, wanted=replace(self.wanted, sort_by=name, descending=again), page=0)


def show_rows(explored: Explored, place: Place) -> tuple[Place, str, str]:
    """The place, on a page that there is, then how many rows there are, and the page of them, as HTML."""
    rows = find_rows(explored, place.wanted)
    last_page = max(len(rows) - 1, 0) // ROWS_OF_A_PAGE
    place = replace(place, page=min(max(place.page, 0), last_page))
    start = place.page * ROWS_OF_A_PAGE
    shown = rows[start : start + ROWS_OF_A_PAGE]
    by, down = place.wanted.sort_by, place.wanted.descending
    count = panel("count", len(rows), start + 1, start + len(shown), column_words(explored, by), down)
    thumbnails = explored.images.thumbnails(explored.source_index[shown])
    if place.as_pictures:
        return place, count, panel("gallery", views_of(explored, shown), thumbnails, serial())
    names = shown_columns(explored, place.wanted.size or explored.sizes[0])
    captions = [view.given for view in views_of(explored, shown)] if explored.has_captions else None
    cells = [
        (
            int(explored.source_index[row]),
            [
                captions[at] if captions is not None and name == "label" else text_of(explored, name, int(row))
                for name in names
            ],
        )
        for at, row in enumerate(shown)
    ]
    columns = [
        (name, "caption" if captions is not None and name == "label" else column_words(explored, name))
        for name in names
    ]
    return place, count, panel("table", columns, cells, thumbnails, by, down, serial())


def shown_columns(explored: Explored, size: str) -> list[str]:
    """The columns of the table: what is decided first, then the scores, and of the subsets the one that is chosen."""
    first = [
        "source_index",
        "given_label",
        "label",
        "clean_label",
        "label_error_probability",
        f"selected_{size}",
        "reason",
    ]
    names = [name for name in first if explored.has(name)]
    names += [name for name in explored.scores.column_names if name not in names and not name.startswith(_HIDDEN)]
    return [*names, f"selection_score_{size}"]


def build_rows(app: Any, explored: Explored) -> None:
    """Put the tab's components into the app that is being built."""
    import gradio as gr

    place = gr.State(Place(RowFilter(size=explored.sizes[0])))
    filters = _filters(explored)
    score, low, high = filters[5:8]
    count = gr.HTML()
    table = gr.HTML(elem_id="rows-table", js_on_load=CLICKS)
    with gr.Row(elem_classes=["cs-actions"]):
        previous = gr.Button("Previous page", elem_id="rows-previous", size="md")
        following = gr.Button("Next page", elem_id="rows-next", size="md")
    enlarged = gr.HTML(elem_id="rows-detail", js_on_load=TELL.format("detail"))
    outputs = [place, count, table]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def chosen(current: Place, *values: Any) -> Any:
        of_class, of_kept, of_size, of_reason, of_group, of_score, lowest, highest, as_pictures = values
        wanted = RowFilter(
            label=_named(of_class),
            reason=_named(of_reason),
            size=of_size,
            kept=of_kept,
            group=_named(of_group),
            score=_named(of_score),
            low=None if of_score == ALL else lowest,
            high=None if of_score == ALL else highest,
            sort_by=current.wanted.sort_by,
            descending=current.wanted.descending,
        )
        # A field tells its value also when it is left.
        if (wanted, as_pictures) == (current.wanted, current.as_pictures):
            return gr.skip()
        return show_rows(explored, Place(wanted, as_pictures=as_pictures))

    def bounded(current: Place, name: str) -> Any:
        """The fields of the range, set to all that the score has."""
        if _named(name) == current.wanted.score:
            return gr.skip()
        if name == ALL:
            return gr.Number(visible=False), gr.Number(visible=False)
        values = explored.column(name)
        lowest, highest = np.floor(np.nanmin(values) * 1000) / 1000, np.ceil(np.nanmax(values) * 1000) / 1000
        return gr.Number(float(lowest), visible=True), gr.Number(float(highest), visible=True)

    def clicked(current: Place, event: gr.EventData) -> tuple[Any, ...]:
        told = event._data
        if "sort" in told:
            known = told["sort"] in explored.scores.column_names
            return *show_rows(explored, current.sorted_by(told["sort"]) if known else current), gr.skip()
        return gr.skip(), gr.skip(), gr.skip(), detail(explored, explored.row_of(int(told["row"])))

    for component in filters:
        asked = {"fn": chosen, "inputs": [place, *filters], "outputs": outputs, **quiet}
        if component is score:
            score.input(bounded, [place, score], [low, high], **quiet).then(**asked)
        else:
            component.input(**asked, trigger_mode="always_last")
    previous.click(lambda at: show_rows(explored, replace(at, page=at.page - 1)), place, outputs, **quiet)
    following.click(lambda at: show_rows(explored, replace(at, page=at.page + 1)), place, outputs, **quiet)
    table.select(clicked, place, [*outputs, enlarged], **quiet)
    app.load(lambda at: show_rows(explored, at), place, outputs, **quiet)


def _filters(explored: Explored) -> list[Any]:
    """What is asked for: class, kept, size, reason, group, score, its range, table or pictures."""
    import gradio as gr

    groups, sizes = groups_of(explored), [(size_words(suffix), suffix) for suffix in explored.sizes]
    scores = [(column_words(explored, name), name) for name in explored.score_names]
    with gr.Row():
        label = gr.Dropdown(
            [("all", ALL), *((name, name) for name in explored.names)],
            value=ALL,
            label="Cluster" if explored.has_captions else "Class",
            min_width=140,
        )
        kept = gr.Dropdown(["all", "kept", "dropped"], value="all", label="Kept or dropped", min_width=140)
        size = gr.Dropdown(sizes, value=explored.sizes[0], label="In the subset of", min_width=140)
        reason = gr.Dropdown(
            [("all", ALL), *((kind, kind) for kind in reason_kinds(explored))],
            value=ALL,
            label=f"Reason (subset of {sizes[0][0]})",
            min_width=140,
        )
        group = gr.Dropdown(
            [("all", ALL), *((name, name) for name in groups)],
            value=ALL,
            label="Group",
            min_width=140,
            visible=bool(groups),
        )
    with gr.Row():
        score = gr.Dropdown([("any score", ALL), *scores], value=ALL, label="Score", min_width=140)
        low = gr.Number(label="from", min_width=90, visible=False)
        high = gr.Number(label="to", min_width=90, visible=False)
        look = gr.Radio([("table", False), ("pictures", True)], value=False, label="Show as", min_width=140)
    return [label, kept, size, reason, group, score, low, high, look]


def _named(text: str) -> str | None:
    return None if text == ALL else text
