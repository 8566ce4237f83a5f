"""The tab Review: suspects one by one, large, with buttons and keys for each decision."""

import shlex
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ...hub.command_words import command
from ..saved_selection import is_whole
from .decision_log import DecisionLog
from .examples import examples_of
from .explored import Explored
from .panels import panel, serial
from .review import ReviewSession, Standing
from .review_queue import QueueFilter, confused_pairs
from .row_view import view_of, views_of


# No name of a class or group.
ALL = "\x00all"
_DONE_WORDS = {"keep": "kept as labelled", "relabel": "new label", "drop": "dropped", "unsure": "unsure"}
# For an element of Gradio's that shows a row: tells explorer.js that the next one stands there.
TELL = "watch('value', () => document.dispatchEvent(new Event('clipselect:{}')));"


class ReviewPanels:
    """What the tab shows for a place in the queue, as HTML.

    Args:
        review (`ReviewSession`): The queue and the decisions.
        read_only (`bool`): Nothing can be decided, and nothing is said of decisions.
    """

    def __init__(self, review: ReviewSession, *, read_only: bool) -> None:
        self.review, self.explored, self.read_only = review, review.explored, read_only

    def show(self, standing: Standing) -> tuple[str, str, str, str, str]:
        """Progress, image, facts, rows to compare with, and how to apply the decisions."""
        row, (done, total) = self.review.row(standing), self.review.progress(standing)
        counts = self.review.log.counts()
        told = ", ".join(f"{counts[choice]} {words}" for choice, words in _DONE_WORDS.items() if choice in counts)
        progress = "" if self.read_only else panel("progress", done, total, "")
        applied = (
            ""
            if self.read_only
            else panel("apply", apply_command(self.explored, self.review.log), self.review.log.path, told)
        )
        if row is None:
            return progress, "", panel("finished", total, serial()), "", applied
        view = view_of(self.explored, row)
        facts = panel(
            "facts",
            view,
            standing.position + 1,
            total,
            self.explored.has_captions,
            self.explored.result.report.get("adaptation", {}).get("kept", False),
            self.review.log.get(view.source_index),
            serial(),
        )
        image = panel("large", view, self.explored.images.large(view.source_index))
        return progress, image, facts, compare_with(self.explored, row), applied


def compare_with(explored: Explored, row: int) -> str:
    """The nearest, or typical, rows of the given and of the proposed class; of a row with captions the nearest."""
    if explored.has_captions:
        nearest = examples_of(explored, row)
        return strip(explored, nearest.words, nearest.rows) if nearest.are_nearest else ""
    labels = [int(explored.given[row]), int(explored.proposed[row])]
    shown = [examples_of(explored, row, label) for label in dict.fromkeys(labels) if label >= 0]
    return "".join(strip(explored, examples.words, examples.rows) for examples in shown)


def strip(explored: Explored, title: str, rows: np.ndarray, mark: int | None = None) -> str:
    """Rows side by side as thumbnails under a title; the row with the source_index `mark` is framed."""
    thumbnails = explored.images.thumbnails(explored.source_index[rows])
    return panel("strip", title, views_of(explored, rows), thumbnails, mark)


def apply_command(explored: Explored, log: DecisionLog) -> str:
    """The command that selects again with the decisions."""
    config = None if explored.folder is None else explored.folder / "config.yaml"
    if config is not None and config.is_file() and _was_a_command(explored):
        return shlex.join(["hf-clipselect", "select", "--config", str(config), "--decisions", str(log.path)])
    report = explored.result.report
    block = command(report) if is_whole(report) else None
    if block is None:
        return f"select_dataset(dataset, ..., decisions={str(log.path)!r})"
    return f"{block.splitlines()[1]} {shlex.join(['--decisions', str(log.path)])}"


def _was_a_command(explored: Explored) -> bool:
    arguments = explored.result.report.get("arguments", {})
    return bool(arguments.get("dataset_name") or arguments.get("data_files"))


def build_review(app: Any, explored: Explored, log: DecisionLog, *, read_only: bool) -> None:
    """Put the tab's components into the app that is being built."""
    import gradio as gr

    review = ReviewSession(explored, log)
    panels = ReviewPanels(review, read_only=read_only)
    standing = gr.State(Standing())
    with gr.Row(elem_classes="cs-filters"):
        given = np.unique(explored.given[explored.suspects]).tolist()
        label = gr.Dropdown(
            [(f"all ({len(explored.suspects):,})", -1), *((explored.name_of(number), number) for number in given)],
            value=-1,
            label="Cluster" if explored.has_captions else "Given label",
            min_width=140,
        )
        pair = gr.Dropdown(
            _pair_choices(explored), value=ALL, label="Confused pair", min_width=140, visible=not explored.has_captions
        )
    progress = gr.HTML()
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            image = gr.HTML()
        with gr.Column(scale=2, min_width=300):
            facts = gr.HTML(elem_id="review-facts", js_on_load=TELL.format("row"))
            buttons = {} if read_only else _decision_buttons(has_captions=explored.has_captions)
            other = None
            if not (read_only or explored.has_captions):
                other = gr.Dropdown(
                    explored.names, value=None, label="Another class (c): type, then Enter", elem_id="review-other"
                )
            buttons |= _moving_buttons(read_only=read_only)
    examples = gr.HTML()
    applied = gr.HTML()
    outputs = [standing, progress, image, facts, examples, applied]

    def shown(step: Callable[..., Standing]) -> Callable[..., tuple[Any, ...]]:
        @wraps(step)
        def show(*inputs: Any) -> tuple[Any, ...]:
            found = step(*inputs)
            return found, *panels.show(found)

        return show

    def undo(current: Standing) -> Standing:
        before = review.undo(current)
        if before is None:
            gr.Info("Nothing was decided since the start.")
        return before or current

    steps: dict[str, Callable[[Standing], Standing]] = {
        "keep": lambda current: review.decide(current, "keep"),
        "take": review.take_proposal,
        "drop": lambda current: review.decide(current, "drop"),
        "unsure": lambda current: review.decide(current, "unsure"),
        "undo": undo,
        "back": lambda current: review.move(current, -1),
        "forward": lambda current: review.move(current, 1),
    }
    events: dict[str, Any] = {
        "outputs": outputs,
        "show_progress": "hidden",
        "api_visibility": "private",
        "concurrency_id": "review",
    }
    for name, button in buttons.items():
        button.click(shown(steps[name]), [standing], **events)
    if other is not None:
        other.input(
            shown(lambda current, name: review.decide(current, "relabel", name)), [standing, other], **events
        ).then(lambda: None, None, other, show_progress="hidden", api_visibility="private")
    label.input(
        shown(lambda number: review.start(QueueFilter(label=None if number == -1 else number))), [label], **events
    ).then(lambda: ALL, None, pair, show_progress="hidden", api_visibility="private")
    pair.input(shown(lambda text: review.start(QueueFilter(pair=_pair(text)))), [pair], **events).then(
        lambda: -1, None, label, show_progress="hidden", api_visibility="private"
    )
    app.load(shown(lambda: review.start()), None, **events)


def _decision_buttons(*, has_captions: bool) -> dict[str, Any]:
    what = "caption" if has_captions else "label"
    texts = {"keep": f"Keep {what} (k)", "take": "Take the proposal (p)", "drop": "Drop (d)", "unsure": "Unsure (u)"}
    if has_captions:
        del texts["take"]
    return _buttons(texts, "cs-actions cs-three" if has_captions else "cs-actions")


def _moving_buttons(*, read_only: bool) -> dict[str, Any]:
    texts = {"back": "Back (←)", "forward": "Forward (→)"}
    return _buttons(texts if read_only else {"undo": "Undo (z)", **texts}, "cs-actions cs-three")


def _buttons(texts: dict[str, str], classes: str) -> dict[str, Any]:
    import gradio as gr

    with gr.Row(elem_classes=classes.split()):
        return {
            name: gr.Button(
                text,
                elem_id=f"review-{name}",
                elem_classes="cs-act",
                size="md",
                min_width=90,
                variant="primary" if name == "take" else "secondary",
            )
            for name, text in texts.items()
        }


def _pair_choices(explored: Explored) -> list[tuple[str, str]]:
    pairs = [] if explored.has_captions else confused_pairs(explored)
    names = explored.name_of
    texts = [
        (f"{names(p.given)} looks like {names(p.proposed)} ({p.rows:,})", f"{p.given} {p.proposed}") for p in pairs
    ]
    return [("all pairs", ALL), *texts]


def _pair(text: str) -> tuple[int, int] | None:
    if text == ALL:
        return None
    given, proposed = map(int, text.split())
    return given, proposed
