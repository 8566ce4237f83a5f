"""The tab Review: suspects one by one, large, with buttons and keys for each decision."""

import shlex
from collections.abc import Callable
from typing import Any

import numpy as np

from ...hub.command_words import command
from ..saved_selection import is_whole
from .decision_log import DecisionLog
from .examples import examples_of
from .explored import Explored
from .page_pieces import ALL, TELL, strip
from .panels import panel, serial
from .review import ReviewSession, Standing
from .review_queue import QueueFilter, confused_pairs
from .row_view import view_of


_DONE_WORDS = {"keep": "kept as labelled", "relabel": "new label", "drop": "dropped", "unsure": "unsure"}
# Sends with a decision, as the last input, the number of the row that the person sees.
_WITH_ROW = (
    "(...inputs) => [...inputs.slice(0, -1), document.querySelector('#review-facts [data-row]')?.dataset.row ?? '']"
)


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
        progress = "" if self.read_only else panel("progress", done, total)
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
            None if self.read_only else self.review.log.get(view.source_index),
            self.read_only,
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
    label, pair = _queue_filters(explored)
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
    row_shown = gr.Textbox(visible=False)
    outputs = [standing, progress, image, facts, examples, applied, label, pair, *([] if other is None else [other])]

    def shown(at: Standing) -> tuple[Any, ...]:
        number, classes = at.wanted.label, at.wanted.pair
        filters = -1 if number is None else number, ALL if classes is None else f"{classes[0]} {classes[1]}"
        return at, *panels.show(at), *filters, *([] if other is None else [None])

    def bound(step: Callable[[Standing], Standing]) -> Callable[[Standing, str], tuple[Any, ...]]:
        """A decision is about the row that the person sees; where the session stands at another, it is none."""
        return lambda at, number: shown(step(at) if review.is_shown(at, number) else at)

    def undo(at: Standing) -> Standing:
        before, told = review.undo(at)
        if told:
            gr.Info(told)
        return before

    def another_class(at: Standing, name: str | None, number: str) -> Any:
        if name is None:  # the field was emptied
            return gr.skip()
        return bound(lambda standing: review.decide(standing, "relabel", name))(at, number)

    # A field tells its value also when it is left.
    def of_label(at: Standing, number: int) -> Any:
        wanted = QueueFilter(label=None if number == -1 else number)
        return gr.skip() if wanted.label == at.wanted.label else shown(review.start(at, wanted))

    def of_pair(at: Standing, text: str) -> Any:
        wanted = QueueFilter(pair=_pair(text))
        return gr.skip() if wanted.pair == at.wanted.pair else shown(review.start(at, wanted))

    decisions: dict[str, Callable[[Standing], Standing]] = {
        "keep": lambda at: review.decide(at, "keep"),
        "take": review.take_proposal,
        "drop": lambda at: review.decide(at, "drop"),
        "unsure": lambda at: review.decide(at, "unsure"),
        "undo": undo,
    }
    events: dict[str, Any] = {
        "outputs": outputs,
        "show_progress": "hidden",
        "api_visibility": "private",
        "concurrency_id": "review",
        # A key that is pressed while the answer to the one before still arrives counts; a row is decided once anyway.
        "trigger_mode": "multiple",
    }
    for name in decisions.keys() & buttons.keys():
        buttons[name].click(bound(decisions[name]), [standing, row_shown], js=_WITH_ROW, **events)
    buttons["back"].click(lambda at: shown(review.move(at, -1)), [standing], **events)
    buttons["forward"].click(lambda at: shown(review.move(at, 1)), [standing], **events)
    if other is not None:
        # Not `input`, which tells of a choice with the mouse twice.
        other.change(another_class, [standing, other, row_shown], js=_WITH_ROW, **events)
    label.input(of_label, [standing, label], **events)
    pair.input(of_pair, [standing, pair], **events)
    app.load(lambda: shown(review.start()), None, **events)


def _queue_filters(explored: Explored) -> tuple[Any, Any]:
    """What the queue is about: a given class, or a pair of classes."""
    import gradio as gr

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
    return label, pair


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
