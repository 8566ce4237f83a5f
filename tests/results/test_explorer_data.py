"""What the explorer reads and writes, without a page: rows, filters, images, the queue and its decisions, sizes."""

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Image, Value
from made_reports import make_eight_noisy_rows, random_table, with_random_noise
from made_results import make_result, random_noise
from PIL import Image as PILImage

from hf_clipselect import SelectionResult
from hf_clipselect.data.decisions import Decision, read_decisions, write_decisions
from hf_clipselect.data.source import DatasetSource
from hf_clipselect.encoder.bit_depth import white_level
from hf_clipselect.errors import InputError
from hf_clipselect.results.explorer import DecisionLog, Explored, open_selection
from hf_clipselect.results.explorer.examples import examples_of
from hf_clipselect.results.explorer.explorer_map import points_of
from hf_clipselect.results.explorer.map_tab import show_point
from hf_clipselect.results.explorer.page_pieces import strip
from hf_clipselect.results.explorer.panels import panel
from hf_clipselect.results.explorer.review import ReviewSession
from hf_clipselect.results.explorer.review_queue import QueueFilter, confused_pairs
from hf_clipselect.results.explorer.row_detail import detail, duplicates_of
from hf_clipselect.results.explorer.row_filter import RowFilter, find_rows, groups_of, reason_kinds
from hf_clipselect.results.explorer.row_images import RowImages
from hf_clipselect.results.explorer.row_view import view_of
from hf_clipselect.results.explorer.rows_tab import Place, show_rows
from hf_clipselect.results.explorer.size_preview import preview_size
from hf_clipselect.results.report import pick_suspects
from hf_clipselect.results.scores_table import column_values, score_table
from hf_clipselect.results.subsets import select_from_table
from hf_clipselect.scores.sample_scores import SampleScores
from hf_clipselect.selection import resolve_objective


def explore(scores, ratios=(0.3,), images=None, reference=None):
    """A table of scores as a selection that was read."""
    num_rows = scores["source_index"][-1] + 1
    source = DatasetSource("me/pets", None, "train", None, "0", num_rows, None, "image", "label")
    result = SelectionResult(scores, ratios, resolve_objective("clean"), source, seed=0)

    def missing():
        raise InputError("There are none.")

    images, reference = (RowImages(load or missing, "image", "label") for load in (images, reference))
    return Explored(result, "nowhere", images, reference)


def test_a_large_selection_is_opened_and_filtered_without_its_images(tmp_path):
    num_rows, names = 300_000, [f"class {number}" for number in range(50)]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(names), num_rows)
    sas, margin, sds = rng.uniform(-1, 1, (3, num_rows)).astype(np.float32)
    sample = SampleScores(predicted_label=labels, sas=sas, margin=margin, sds=sds, **random_noise(labels, len(names)))
    objective = resolve_objective("robust")
    scores = select_from_table(score_table(labels, names, np.arange(num_rows), sample), objective, (0.3,))
    source = DatasetSource("", None, "train", None, "0", num_rows, None, "image", "label")
    SelectionResult(scores, (0.3,), objective, source, seed=0).save(tmp_path / "run" / "subset")
    # Whoever reads the images of the subset fails.
    (tmp_path / "run" / "subset" / "ratio_30").mkdir()
    (tmp_path / "run" / "subset" / "ratio_30" / "train-00000-of-00001.parquet").write_bytes(b"no parquet")
    explored = open_selection(tmp_path / "run")
    wanted = RowFilter(label="class 7", kept="dropped", score="sas", low=0.5, sort_by="margin", descending=True)
    found = find_rows(explored, wanted)
    expected = (labels == 7) & ~column_values(scores, "selected_30") & (sas >= 0.5)
    assert sorted(found.tolist()) == np.flatnonzero(expected).tolist() and len(found) > 500
    assert (np.diff(margin[found]) <= 0).all()
    assert explored.suspects.tolist() == pick_suspects(scores).tolist()


def passes(row, wanted):
    """The slow and obvious version of a filter."""
    if wanted.label is not None and row["label_name"] != wanted.label:
        return False
    if wanted.kept != "all" and row[f"selected_{wanted.size}"] != (wanted.kept == "kept"):
        return False
    if wanted.group is not None and row["group"] != wanted.group:
        return False
    if wanted.reason is not None and not row["reason"].startswith(wanted.reason):
        return False
    if wanted.score is None:
        return True
    value = row[wanted.score]
    low, high = (-np.inf if wanted.low is None else wanted.low), (np.inf if wanted.high is None else wanted.high)
    return value is not None and low <= value <= high


@pytest.mark.parametrize(
    "wanted",
    [
        RowFilter(),
        RowFilter(label="b", size="30", kept="kept"),
        RowFilter(size="80", kept="dropped", sort_by="label"),
        RowFilter(group="odd", sort_by="sas", descending=True),
        RowFilter(group="even", reason="label is wrong", sort_by="reason"),
        RowFilter(reason="redundant", sort_by="group", descending=True),
        RowFilter(score="label_error_probability", low=0.25, high=0.5, sort_by="label_error_probability"),
        RowFilter(score="margin", high=-0.5, sort_by="margin"),
        RowFilter(label="c", score="sas", low=2.0),
    ],
)
def test_filters_are_those_of_the_slow_obvious_version(wanted):
    scores = with_random_noise(random_table(400, ["a", "b", "c"], ratios=(0.3, 0.8), seed=5))
    kinds = ["kept", "label is wrong with probability 0.97, looks like b", "redundant: copy of row 12"]
    kinds.append("copy of row 7 of the reference")
    reasons = [kinds[row % 4] for row in range(400)]
    scores = scores.remove_columns("reason").add_column("group", [["even", "odd"][row % 2] for row in range(400)])
    scores = scores.add_column("reason", reasons)
    explored = explore(scores, (0.3, 0.8))
    assert reason_kinds(explored) == ["copy of a row of the reference", "kept", "label is wrong", "redundant"]
    assert groups_of(explored) == ["even", "odd"]
    rows = [row | {"label_name": scores.features["label"].names[row["label"]]} for row in scores]
    expected = [row["source_index"] for row in rows if passes(row, wanted)]
    expected.sort(key=lambda row: rows[row][wanted.sort_by], reverse=wanted.descending)
    assert find_rows(explored, wanted).tolist() == expected


def test_rows_without_a_value_come_last_either_way():
    explored = explore(make_eight_noisy_rows(), (0.5, 0.125))
    for descending in (False, True):
        order = find_rows(explored, RowFilter(sort_by="sas", descending=descending))
        assert order[-1] == 3 and sorted(order.tolist()) == list(range(8))


def test_every_column_of_the_table_can_be_sorted_by():
    scores = random_table(4, ["a", "b"], ratios=(0.5,), seed=1).add_column("leak_of", [-1, 7, 3, -1])
    scores = scores.add_column("quality_issues", ["", "dark", "blurry, dark", ""])
    scores = scores.add_column("decision", ["drop", "", "", "keep"]).add_column("better_caption", [5, -1, 2, 9])
    explored = explore(scores, (0.5,))
    orders = {
        "leak_of": ([2, 1, 0, 3], [1, 2, 0, 3]),
        "quality_issues": ([2, 1, 0, 3], [1, 2, 0, 3]),
        "decision": ([0, 3, 1, 2], [3, 0, 1, 2]),
        "better_caption": ([2, 0, 3, 1], [3, 0, 2, 1]),
    }
    for name, both in orders.items():
        found = [find_rows(explored, RowFilter(sort_by=name, descending=down)).tolist() for down in (False, True)]
        assert found == list(both), name
    for name in scores.column_names:
        assert len(find_rows(explored, RowFilter(sort_by=name))) == 4


def test_the_label_after_the_decisions_is_shown_with_the_one_of_the_source():
    scores = random_table(60, ["cat", "dog", "bird"], seed=2)
    labels = column_values(scores, "label")
    scores = scores.add_column("given_label", labels.tolist()).cast_column("given_label", scores.features["label"])
    row = int(np.flatnonzero(labels == 0)[0])
    changed = labels.copy()
    changed[row] = 1
    scores = scores.remove_columns("label").add_column("label", changed.tolist())
    explored = explore(scores.cast_column("label", scores.features["given_label"]))
    found = find_rows(explored, RowFilter(label="dog"))
    assert row in found and view_of(explored, row).label == "dog" and view_of(explored, row).given == "cat"
    number = int(explored.source_index[row])
    table = pa.table({"source_index": [number], "x": [0.0], "y": [0.0]})
    assert json.loads(points_of(explored, table))["label"] == [1]
    for page in (
        show_point(explored, row),
        detail(explored, row),
        strip(explored, "rows", found),
        show_rows(explored, Place(RowFilter(label="dog", size="30"), as_pictures=True))[2],
    ):
        assert re.search(r"dog\s*<br><span class=\"cs-soft\">in the source: cat", page)
    of_dog = [np.argsort(-column_values(scores, "sas")[found], kind="stable")]
    assert (
        examples_of(explored, int(found[-1]), 1).rows.tolist()
        == [other for other in found[of_dog[0]].tolist() if other != found[-1]][:6]
    )


def open_review(tmp_path, **settings):
    explored = explore(make_eight_noisy_rows(), (0.5, 0.125))
    return ReviewSession(explored, DecisionLog(tmp_path / "decisions.parquet", **settings))


def test_a_review_is_on_disk_after_each_decision_and_goes_on_after_a_restart(tmp_path):
    review = open_review(tmp_path)
    at = review.start()
    # Suspects are rows 6, 2 and 5, which have the numbers 12, 4 and 10 in the source.
    assert review.row(at) == 6 and review.progress(at) == (0, 3)
    at = review.take_proposal(at)
    [decision] = read_decisions(tmp_path / "decisions.parquet").values()
    assert (decision.source_index, decision.decision, decision.new_label) == (12, "relabel", "bird")
    assert decision.given_label == "dog" and decision.reviewer is None and decision.when is not None
    again = open_review(tmp_path, reviewer="Ada")
    at = again.start()
    assert again.row(at) == 2 and again.progress(at) == (1, 3)
    at = again.decide(at, "relabel", "cat")  # the given label, which is kept
    assert read_decisions(tmp_path / "decisions.parquet")[4].decision == "keep"
    assert read_decisions(tmp_path / "decisions.parquet")[4].reviewer == "Ada"
    at = again.decide(at, "drop")
    assert again.row(at) is None and again.progress(at) == (3, 3)
    at = again.move(at, -1)
    assert again.row(at) == 5
    at = again.decide(at, "unsure")
    assert again.log.counts() == {"relabel": 1, "keep": 1, "unsure": 1}
    # The decision of before comes back, then none; that of the first start stays.
    at, told = again.undo(at)
    assert again.row(at) == 5 and again.log.get(10).decision == "drop" and told == ""
    at = again.undo(again.undo(at)[0])[0]
    assert again.row(at) == 2 and set(read_decisions(tmp_path / "decisions.parquet")) == {12}
    assert again.undo(at) == (at, "Nothing was decided in this window.")


def test_two_windows_lose_no_decision_of_one_another(tmp_path):
    one, two = open_review(tmp_path), open_review(tmp_path)
    at_one, at_two = one.start(), two.move(two.start(), 1)
    one.decide(at_one, "drop")
    two.decide(at_two, "unsure")
    assert {number: d.decision for number, d in read_decisions(tmp_path / "decisions.parquet").items()} == {
        12: "drop",
        4: "unsure",
    }


def test_only_ones_own_decisions_are_taken_back(tmp_path):
    review = open_review(tmp_path)
    one, two = review.decide(review.start(), "drop"), review.start()
    # The second window has the same server, and decided nothing; then it decides about the same row.
    assert review.undo(two) == (two, "Nothing was decided in this window.")
    two = review.decide(replace(two, position=0), "unsure")
    back, told = review.undo(one)
    assert told == "Row 12 was decided about anew by others; that stays." and review.row(back) == 6
    assert review.log.get(12).decision == "unsure"
    review.undo(two)
    assert read_decisions(tmp_path / "decisions.parquet")[12].decision == "drop"


_WRITER = """
import sys
from pathlib import Path
from hf_clipselect.results.explorer import DecisionLog
log = DecisionLog(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 40):
    log.decide(number, "drop", given_label="cat")
"""


def test_processes_that_write_at_the_same_time_lose_no_decision(tmp_path):
    path = tmp_path / "decisions.parquet"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, path, str(start)]) for start in (0, 100, 200)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert set(read_decisions(path)) == {start + number for start in (0, 100, 200) for number in range(40)}
    assert [file.name for file in tmp_path.iterdir()] == ["decisions.parquet"]


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision(12, "drop", given_label="wolf"), "has row 12 as labelled 'wolf', and here it is labelled 'dog'"),
        (Decision(99, "drop"), "decides about row 99, and the dataset has 15 rows"),
    ],
)
def test_decisions_about_another_dataset_are_refused_at_the_start(decision, message, tmp_path):
    write_decisions(tmp_path / "decisions.parquet", {decision.source_index: decision})
    with pytest.raises(InputError, match=message) as caught:
        open_review(tmp_path)
    assert "name another file with --decisions" in str(caught.value)


def test_a_decision_about_a_pair_notes_its_caption(tmp_path):
    def review_of(texts):
        scores = make_eight_noisy_rows().add_column("better_caption", [-1] * 8)
        images = Dataset.from_dict({"label": texts, "image": [None] * 15}, features=features)
        explored = explore(scores, images=lambda: (images, None))
        return ReviewSession(explored, DecisionLog(tmp_path / "decisions.parquet"))

    features = Features({"label": Value("string"), "image": Image()})
    texts = [f"text {number}" for number in range(15)]
    review = review_of(texts)
    review.decide(review.start(), "drop")
    assert read_decisions(tmp_path / "decisions.parquet")[12].given_label == "text 12"
    assert review_of([*texts[:5], "another", *texts[6:]]).log.counts() == {"drop": 1}
    with pytest.raises(InputError, match="has row 12 as captioned 'text 12', and here it is captioned 'text 11'"):
        review_of(texts[:1] + texts[:-1])
    # Without the captions nothing tells, and nothing is noted.
    scores = make_eight_noisy_rows().add_column("better_caption", [-1] * 8)
    review = ReviewSession(explore(scores), DecisionLog(tmp_path / "decisions.parquet"))
    at = review.decide(review.start(), "unsure")
    assert (
        read_decisions(tmp_path / "decisions.parquet")[4] == at.made[-1].made and at.made[-1].made.given_label is None
    )


def test_what_is_no_whole_decision_is_never_written(tmp_path):
    review = open_review(tmp_path)
    with pytest.raises(InputError, match="names no new label"):
        review.decide(review.start(), "relabel", None)
    assert not (tmp_path / "decisions.parquet").exists()


def test_a_queue_of_one_class_or_pair(tmp_path):
    review = open_review(tmp_path)
    pairs = confused_pairs(review.explored)
    assert [(pair.given, pair.proposed, pair.rows) for pair in pairs] == [(1, 2, 2), (0, 1, 1)]
    at = review.start(wanted=QueueFilter(pair=(1, 2)))
    assert review.row(at) == 6 and review.progress(at) == (0, 2)
    at = review.decide(at, "keep")
    assert review.row(at) == 5 and review.progress(at) == (1, 2)
    at = review.start(at, QueueFilter(label=0))
    assert review.row(at) == 2 and review.progress(at) == (0, 1)
    # A decision about a row of another queue is taken back in the whole one.
    at, _ = review.undo(at)
    assert review.row(at) == 6 and at.wanted == QueueFilter()


def test_a_file_that_is_no_decisions_is_told_at_the_start(tmp_path):
    (tmp_path / "decisions.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"decisions\.parquet can't be read"):
        open_review(tmp_path)


def test_a_decision_that_can_not_be_written_is_none(tmp_path):
    review = open_review(tmp_path)
    (tmp_path / "decisions.parquet").mkdir()
    with pytest.raises(InputError, match=r"decisions\.parquet can't be read"):
        review.decide(review.start(), "drop")
    (tmp_path / "decisions.parquet").rmdir()
    assert review.undo(review.start())[1] and review.log.counts() == {}


def test_decisions_that_a_selection_was_made_with_are_gone_on_with(tmp_path):
    start = {4: Decision(4, "drop", given_label="cat")}
    review = open_review(tmp_path, start=start)
    assert review.progress(review.start()) == (1, 3) and not (tmp_path / "decisions.parquet").exists()
    review.decide(review.start(), "keep")
    assert set(read_decisions(tmp_path / "decisions.parquet")) == {4, 12}
    write_decisions(tmp_path / "decisions.parquet", {})
    assert open_review(tmp_path, start=start).log.counts() == {}


def test_sizes_are_those_of_the_selection_itself(images_dataset):
    result = make_result(images_dataset, noise=True, objective="robust", report=True)
    explored = explore(result.scores)
    explored.result = result
    preview = preview_size(explored, 0.4)
    kept = result.at(0.4).selected
    wrong, labels = (column_values(result.scores, name) for name in ("label_error_probability", "label"))
    dropped = np.setdiff1d(np.arange(60), kept)
    assert preview.rows == len(kept) == 24 and preview.rows_before == 60
    assert preview.wrong_kept == pytest.approx(wrong[kept].mean(dtype=np.float64))
    assert preview.wrong_dropped == pytest.approx(wrong[dropped].mean(dtype=np.float64))
    names = result.scores.features["label"].names
    expected = [(name, 20, int((labels[kept] == number).sum())) for number, name in enumerate(names)]
    assert preview.classes == expected and preview.num_classes == 3
    assert preview_size(explored, 1.0).wrong_dropped is None


def test_examples_are_typical_rows_where_features_are_missing():
    scores = random_table(100, ["a", "b", "c"], seed=2)
    explored = explore(scores)
    sas, labels = column_values(scores, "sas"), column_values(scores, "label")
    examples = examples_of(explored, 4, 1)
    of_class = [row for row in np.argsort(-sas) if labels[row] == 1 and row != 4]
    assert examples.rows.tolist() == of_class[:6] and not examples.are_nearest
    assert examples.words == "Typical rows (highest alignment) labelled b"
    assert examples_of(explored, 4).rows.tolist() == []


def pixels_of(uri):
    kind, data = uri.split(",")
    assert kind.startswith("data:image/")
    return np.asarray(PILImage.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_small_images_are_shown_large_without_blur():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    dataset = Dataset.from_dict({"image": [PILImage.fromarray(pixels)]}, features=Features({"image": Image()}))
    images = RowImages(lambda: (dataset, None), "image", "label")
    assert (pixels_of(images.large(0)) == pixels.repeat(80, axis=0).repeat(80, axis=1)).all()
    assert (pixels_of(images.thumbnails([0])[0]) == pixels.repeat(12, axis=0).repeat(12, axis=1)).all()
    assert images.thumbnails([0, 1, -1])[1] is None and images.large(1) is None and images.missing == ""


def test_the_depth_of_the_images_is_looked_up_once(monkeypatch):
    pixels = np.zeros((8, 8), dtype=np.uint16)
    pixels[0] = 4000
    images = [PILImage.fromarray(pixels), PILImage.fromarray(pixels // 2)]
    dataset = Dataset.from_dict({"image": images}, features=Features({"image": Image()}))
    looked = []

    def count(*arguments):
        looked.append(1)
        return white_level(*arguments)

    monkeypatch.setattr("hf_clipselect.results.report.thumbnails.white_level", count)
    images = RowImages(lambda: (dataset, None), "image", "label")
    shown = [images.large(0), images.large(1), images.thumbnails([0, 1])[1]]
    assert [int(pixels_of(uri).max()) for uri in shown] == [249, 125, 125] and looked == [1]


def test_a_published_subset_has_the_images_of_kept_rows_alone(images_dataset, tmp_path):
    result = make_result(images_dataset, report=True)
    result.save(tmp_path / "saved", images_dataset)
    explored = open_selection(tmp_path / "saved")
    shown = explored.images.thumbnails(range(60))
    assert [row for row, image in shown.items() if image is not None] == result.selected.tolist()
    kept = int(result.selected[3])
    assert (pixels_of(explored.images.large(kept))[::53, ::53] == np.asarray(images_dataset[kept]["image"])).all()
    assert "Only the rows that were kept" in explored.images.missing


def test_duplicates_lie_side_by_side_in_the_enlarged_row(images_dataset):
    scores = make_result(images_dataset, report=True).scores
    groups = np.full(60, -1)
    groups[[3, 17, 40]] = 3
    scores = scores.remove_columns("duplicate_group").add_column("duplicate_group", groups.tolist())
    explored = explore(scores, images=lambda: (images_dataset, None))
    assert duplicates_of(explored, 17).tolist() == [3, 17, 40] and duplicates_of(explored, 4).tolist() == []
    page = detail(explored, 17)
    assert "Near-duplicates" in page and page.count("<figure") == 4
    assert all(f"row {row}" in page for row in (3, 40)) and "Near-duplicates" not in detail(explored, 4)


def test_a_copy_lies_beside_the_reference_row_that_it_copies(images_dataset):
    scores = make_result(images_dataset, report=True).scores
    leaks = np.full(60, -1)
    leaks[5] = 2
    scores = scores.add_column("leak_of", leaks)
    explored = explore(scores, images=lambda: (images_dataset, None), reference=lambda: (images_dataset, None))
    page = detail(explored, 5)
    assert "Row 2 of the reference, which it copies" in page
    assert explored.images.large(5) in page and explored.images.large(2) in page
    assert "which it copies" not in detail(explored, 6)
    assert "There are none." in detail(explore(scores, images=lambda: (images_dataset, None)), 5)


def test_names_and_captions_are_texts_and_never_code():
    name = "<img src=x onerror=alert(1)> ${1+1} {{value}} \"'"
    scores = with_random_noise(random_table(60, [name, "b"], seed=1))
    explored = explore(scores)
    page = detail(explored, int(explored.suspects[0])) + panel("note", name)
    assert "<img" not in page and "&lt;img" in page and "${" not in page and "{{" not in page


def test_a_published_file_of_scores_alone_has_no_images(images_dataset, tmp_path):
    make_result(images_dataset, report=True).save(tmp_path / "run" / "subset")
    explored = open_selection(tmp_path / "run")
    assert explored.images.large(0) is None and "a dataset in memory" in explored.images.missing
    with pytest.raises(InputError, match="no revision 'v1'"):
        open_selection(tmp_path / "run", revision="v1")
