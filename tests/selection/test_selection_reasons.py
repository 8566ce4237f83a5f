from dataclasses import replace

import numpy as np

from hf_clipselect.selection import (
    FIRST,
    MUST_DROP,
    MUST_KEEP,
    RowColumns,
    passes_gate,
    reasons,
    resolve_objective,
    selection_scores,
)


def rows_of(margin, labels=None, sds=None):
    margin = np.array(margin, dtype=np.float32)
    labels = np.zeros(len(margin), dtype=int) if labels is None else np.array(labels)
    sds = np.zeros(len(margin), dtype=np.float32) if sds is None else np.array(sds, dtype=np.float32)
    return RowColumns(labels=labels, agrees=margin > 0, sas=margin, margin=margin, sds=sds)


def why(name, rows, selected, knobs=None, *, tiers=None, groups=None):
    objective = resolve_objective(name, knobs)
    num_rows = len(rows.labels)
    mask = np.zeros(num_rows, dtype=bool)
    mask[selected] = True
    return reasons(
        objective,
        rows,
        scores=selection_scores(objective, rows, 0.5),
        selected=mask,
        tiers=tiers,
        duplicate_group=np.full(num_rows, -1) if groups is None else np.array(groups),
        source_index=10 * np.arange(num_rows),
        class_names=["zero", "one", "two"],
    ).tolist()


def test_alignment_alone():
    rows = rows_of([0.9, 0.5, 0.2, -0.1])
    found = why("clean", rows, [0, 1], {"class_balance": "none"})
    assert found == ["kept", "kept", "low alignment", "label disagrees with image"]


def test_other_rows_score_higher():
    rows = rows_of([0.9, 0.5, 0.2, -0.1], sds=[0.1, 0.2, 0.3, 0.4])
    assert why("released", rows, [0, 1]) == ["kept", "kept", "low score", "label disagrees with image"]


def test_a_quota_keeps_a_high_score_out():
    # Without quotas the two highest scores, both of class 0, would be kept.
    rows = rows_of([0.9, 0.8, 0.3, 0.2], labels=[0, 0, 1, 1])
    assert why("clean", rows, [0, 2]) == ["kept", "quota of its class is full", "kept", "low alignment"]
    assert why("clean", rows, [0, 2], {"balance_by": "group"})[1] == "quota of its group is full"


def test_a_quota_is_the_reason_also_beside_rows_that_could_not_be_taken():
    # The highest score must be dropped, so that without quotas the two highest of class 0 would be kept.
    rows = rows_of([0.95, 0.9, 0.8, 0.3, 0.2], labels=[0, 0, 0, 1, 1])
    tiers = np.array([MUST_DROP, FIRST, FIRST, FIRST, FIRST])
    assert why("clean", rows, [1, 3], tiers=tiers) == [
        "must drop",
        "kept",
        "quota of its class is full",
        "kept",
        "low alignment",
    ]


def test_spread_leaves_the_others_of_the_class_to_the_quota():
    assert why("diverse", rows_of([0.9, 0.8, -0.3]), [1]) == [
        "quota of its class is full",
        "kept",
        "label disagrees with image",
    ]


def test_below_the_floor_of_the_gate():
    knobs = {"gate": True, "gate_floor": 0.5}
    rows = rows_of([0.9, 0.8, 0.1, 0.05])
    assert not passes_gate(resolve_objective("released", knobs), rows)[2:].any()
    assert why("released", rows, [0], knobs) == ["kept", "low score", "low alignment", "low alignment"]


def test_copies_name_the_row_that_is_kept():
    rows = rows_of([0.9, 0.8, 0.7, 0.6, -0.2])
    found = why("clean", rows, [1, 3], {"redundancy_weight": 0.5, "class_balance": "none"}, groups=[0, 0, 2, 2, 0])
    assert found == [
        "redundant: copy of row 10",
        "kept",
        "redundant: copy of row 30",
        "kept",
        "redundant: copy of row 10",
    ]
    # In a group of which no row is kept there is no copy, and none is told of where redundancy does not count.
    assert "redundant" not in why("clean", rows, [3], {"redundancy_weight": 0.5}, groups=[0, 0, 2, 2, 0])[0]
    assert "redundant" not in " ".join(why("clean", rows, [1, 3], groups=[0, 0, 2, 2, 0]))


def test_lists_of_rows():
    rows = rows_of([0.9, 0.8, -0.7])
    tiers = np.array([MUST_DROP, FIRST, MUST_KEEP])
    assert why("clean", rows, [1, 2], tiers=tiers) == ["must drop", "kept", "kept: must keep"]


def judged(margin, error_probability, clean_label, labels=None):
    rows = rows_of(margin, labels)
    p = np.array(error_probability, dtype=np.float32)
    ranks = np.argsort(np.argsort(p, kind="stable"), kind="stable")
    return replace(rows, error_probability=p, clean_label=np.array(clean_label), class_rank=ranks)


def test_labels_that_are_probably_wrong():
    rows = judged([0.9, 0.8, -0.1, 0.7, -0.3], [0.01, 0.97, 0.5, 0.625, 0.9], [0, 2, 1, 0, 1])
    wrong = "label is wrong with probability "
    found = why("clean", rows, [0], {"alignment": "noise_model", "class_balance": "none"})
    # Where the given label is still the most probable one there is no other to propose. The prediction of CLIP alone
    # is no reason.
    assert found == [
        "kept",
        wrong + "0.97, looks like two",
        "low alignment",
        wrong + "0.62",
        wrong + "0.90, looks like one",
    ]
    # With a gate it is one, and a kept row has none.
    found = why("clean", rows, [0, 4], {"alignment": "noise_model", "gate": True})
    assert found[1:] == [wrong + "0.97, looks like two", "label disagrees with image", wrong + "0.62", "kept"]
    # Objectives without the noise model do not tell of it.
    assert why("clean", rows, [0, 1])[2:] == [
        "label disagrees with image",
        "low alignment",
        "label disagrees with image",
    ]


def test_herding_leaves_the_rows_of_the_pool_to_the_quota():
    # The labels of the first three rows are safe, and these in the pool.
    rows = judged([0.9, 0.8, -0.1, 0.7, 0.6, -0.3], [0, 0, 0.015625, 0.25, 0.75, 0.875], [0, 0, 0, 0, 0, 1])
    wrong = "label is wrong with probability "
    assert why("robust", rows, [0, 1]) == [
        "kept",
        "kept",
        "quota of its class is full",
        "low alignment",
        wrong + "0.75",
        wrong + "0.88, looks like one",
    ]
    assert why("robust", rows, [0, 1], {"class_balance": "none"})[2:4] == ["low score", "low alignment"]
    assert why("robust", rows, [0, 1], {"balance_by": "group"})[2] == "quota of its group is full"
    tiers = np.array([FIRST, FIRST, MUST_KEEP, FIRST, MUST_KEEP, MUST_DROP])
    assert why("robust", rows, [2, 4], tiers=tiers) == [
        "quota of its class is full",
        "quota of its class is full",
        "kept: must keep",
        "low alignment",
        "kept: must keep",
        "must drop",
    ]
