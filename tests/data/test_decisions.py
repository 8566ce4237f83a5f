"""Decisions of a person as a file, and as they are carried out on the labels of a dataset."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_clipselect.data import read_images
from hf_clipselect.data.decisions import (
    Decision,
    apply_decisions,
    checked_decisions,
    decisions_in_words,
    read_decisions,
    write_decisions,
)
from hf_clipselect.errors import InputError


NAMES = ["zero", "one", "two"]
LABELS = np.array([0, 1, 2, 0, 1])


def test_a_file_comes_back(tmp_path):
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    decisions = {
        7: Decision(7, "relabel", "two", when, "one", "Zoë"),
        2: Decision(2, "keep", when=when, given_label="zero"),
        4: Decision(4, "unsure"),
    }
    write_decisions(tmp_path / "decisions.parquet", decisions)
    assert read_decisions(tmp_path / "decisions.parquet") == decisions
    assert pq.read_table(tmp_path / "decisions.parquet")["source_index"].to_pylist() == [2, 4, 7]
    write_decisions(tmp_path / "decisions.parquet", {})
    assert read_decisions(tmp_path / "decisions.parquet") == {}


def rows(**columns):
    return pa.table({"source_index": [3], "decision": ["keep"], "new_label": pa.array([None], pa.string()), **columns})


TABLES = {
    "lacks the column new_label; it needs source_index, decision, new_label, and has": rows().drop_columns(
        "new_label"
    ),
    "has a column of another type: ": rows(source_index=["three"]),
    "decides 'discard' about row 3; a decision is one of keep, relabel, drop, unsure.": rows(decision=["discard"]),
    "decides 'keep' about row None": rows(source_index=pa.array([None], pa.int64())),
    "row 3 names no new label, decided as 'relabel'": rows(decision=["relabel"]),
    "row 3 has the new label 'two', decided as 'keep'": rows(new_label=["two"]),
    "decides about row 3 twice; leave one line for each row.": pa.concat_tables([rows(), rows()]),
}


@pytest.mark.parametrize("reason", TABLES)
def test_files_that_hold_no_decisions(tmp_path, reason):
    pq.write_table(TABLES[reason], tmp_path / "given.parquet")
    with pytest.raises(InputError) as refused:
        read_decisions(tmp_path / "given.parquet")
    assert str(refused.value).startswith(f"--decisions {tmp_path / 'given.parquet'}") and reason in str(refused.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "text").write_text("row 3: keep")
    for name, reason in {
        "text": "it is no whole Parquet file",
        "absent": "No such file",
        ".": "it is a folder",
    }.items():
        with pytest.raises(InputError, match=reason) as refused:
            read_decisions(tmp_path / name)
        assert "can't be read" in str(refused.value) and "decisions.parquet" in str(refused.value)


def test_a_mapping_names_each_row_by_its_number():
    assert checked_decisions(None) is None
    assert checked_decisions({3: Decision(3, "drop")}) == {3: Decision(3, "drop")}
    for decisions, reason in (
        ({4: Decision(3, "drop")}, "the decision about row 3 at row 4"),
        ({3: Decision(3, "relabel")}, "row 3 names no new label"),
        ({3: Decision(3, "Keep")}, "decides 'Keep' about row 3"),
    ):
        with pytest.raises(InputError, match=reason):
            checked_decisions(decisions)


def test_labels_after_the_decisions():
    decisions = [Decision(1, "relabel", "two"), Decision(2, "drop"), Decision(3, "keep"), Decision(4, "unsure")]
    decided = apply_decisions({decision.source_index: decision for decision in decisions}, LABELS, NAMES)
    assert decided.labels.tolist() == [0, 2, 2, 0, 1] and decided.given_labels is LABELS
    assert decided.decision.tolist() == ["", "relabel", "drop", "keep", "unsure"]
    told = decided.to_dict()
    assert told | {"digest": ""} == {"keep": 1, "relabel": 1, "drop": 1, "unsure": 1, "digest": ""}
    assert decisions_in_words(told) == "1 label changed, 1 kept, 1 row dropped, 1 unsure"


def test_decisions_about_other_captions_are_refused():
    captions = ["a cat on a mat", "a dog", "a house"]
    for seen in ("a dog", "cluster 2"):
        with pytest.raises(InputError) as refused:
            apply_decisions({3: Decision(3, "drop", given_label=seen)}, LABELS, captions, has_captions=True)
        assert str(refused.value).startswith(
            "--decisions was made about other captions: of 1 row the caption that the reviewer saw is not the one in "
            f"the dataset, first row 3, seen as '{seen}' and captioned 'a cat on a mat'. Give the decisions"
        )
    for seen in ("a cat on a mat", None):
        decided = apply_decisions({3: Decision(3, "drop", given_label=seen)}, LABELS, captions, has_captions=True)
        assert decided.is_dropped.tolist() == [False, False, False, True, False]


def test_the_digest_is_of_what_was_decided():
    def digest(*decisions):
        return apply_decisions({decision.source_index: decision for decision in decisions}, LABELS, NAMES).digest

    some = digest(Decision(1, "relabel", "two"), Decision(2, "drop"))
    assert some == digest(Decision(2, "drop"), Decision(1, "relabel", "two", datetime.now(UTC), "one", "somebody"))
    assert len({some, digest(Decision(2, "drop")), digest(Decision(1, "relabel", "zero"), Decision(2, "drop"))}) == 3


def test_only_rows_that_are_considered_are_decided_about(images_dataset):
    decisions = {row: Decision(row, "relabel", "blue thing") for row in range(30)}
    images = read_images(images_dataset, max_samples=12, decisions=decisions)
    given = np.array(images_dataset["label"])[images.source_index]
    assert images.decided.given_labels.tolist() == given.tolist()
    assert images.labels.tolist() == np.where(images.source_index < 30, 2, given).tolist()
    assert images.dataset["label"][:] == given.tolist()
    all_rows = read_images(images_dataset, max_samples=12)
    assert all_rows.source_index.tolist() == images.source_index.tolist() and all_rows.decided is None


def test_a_label_that_no_row_shows_how_to_write(images_dataset):
    texts = [f"n{label:04}" for label in images_dataset["label"]]
    texts[59] = "n0009"  # the only row of its class, which the limit leaves out
    dataset = images_dataset.remove_columns("label").add_column("label", texts)
    settings = {"class_names": ["red", "green", "blue", "grey"], "decisions": {0: Decision(0, "relabel", "grey")}}
    assert read_images(dataset, **settings).labels[0] == 3
    with pytest.raises(InputError, match="A row has the new label 'grey', and no row considered has this one"):
        read_images(dataset, max_samples=12, **settings)
