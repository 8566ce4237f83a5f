"""The knobs of a selection through the front door, on real digits."""

from collections import Counter

import numpy as np
import pytest
from datasets import concatenate_datasets

from hf_clipselect import InputError, SelectionResult, load_pruned, select_dataset
from hf_clipselect.embedded import load_digits_dataset


@pytest.fixture(scope="module")
def digits():
    dataset = load_digits_dataset("train").select(range(240))
    cameras = [None if row % 40 == 0 else ("old" if row % 3 else "new") for row in range(240)]
    return dataset.add_column("camera", cameras).add_column("broken", [row % 50 == 7 for row in range(240)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shared by the runs: the images are encoded once."""
    return tmp_path_factory.mktemp("runs") / "run"


@pytest.fixture
def select(digits, folder):
    def run(**knobs):
        settings = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "off", "output_dir": folder, **knobs}
        return select_dataset(digits, **settings)

    return run


def labels_of(digits, rows):
    return np.array(digits["label"])[rows]


def test_ratios_and_counts_are_nested_subsets_on_disk(select, folder):
    result = select(selection_ratio=[0.5, 0.25], selection_count=30)
    assert result.ratios == (0.5, 0.25, 30)
    kept = [set(result.at(0.5).selected), set(result.at(0.25).selected), set(result.at(count=30).selected)]
    assert [len(rows) for rows in kept] == [120, 60, 30]
    assert kept[2] < kept[1] < kept[0]
    back = SelectionResult.from_folder(folder)
    assert back.ratios == result.ratios
    assert set(back.at(count=30).selected) == kept[2]
    assert len(load_pruned(folder, count=30)) == 30
    assert [entry["name"] for entry in result.report["subsets"]] == ["ratio_50", "ratio_25", "count_30"]


def test_rows_that_must_and_must_not_be_kept(select, digits):
    plain = select()
    out = plain.dropped[:5].tolist()
    result = select(must_keep=out, must_drop="broken", selection_ratio=[0.3, 0.6])
    assert set(out) - set(np.flatnonzero(digits["broken"])) == set(out)
    for ratio in (0.3, 0.6):
        kept = set(result.at(ratio).selected)
        assert set(out) <= kept and not kept & set(np.flatnonzero(digits["broken"]))
    reasons = Counter(result.scores["reason"][:])
    assert (reasons["kept: must keep"], reasons["must drop"], reasons["kept"]) == (5, 5, 72 - 5)
    assert set(out) <= set(result.at(0.1).selected)  # from the scores alone
    with pytest.raises(InputError, match="row is in must_keep and must_drop, first 7"):
        select(must_keep=[7], must_drop="broken")
    with pytest.raises(InputError, match="must_keep names 100 rows, but only 72 are kept"):
        select(must_keep=list(range(100)))


def test_quotas_of_classes(select, digits, tmp_path):
    path = tmp_path / "quotas.yaml"
    path.write_text("one: 3\nnine: 0\n")
    result = select(class_quotas=path, min_per_class=4)
    counts = np.bincount(labels_of(digits, result.selected), minlength=10)
    assert (counts[1], counts[9], counts.sum()) == (3, 0, 72)
    assert counts[[0, *range(2, 9)]].min() >= 4
    with pytest.raises(InputError, match="class_quotas names ten, which no row has as its class; there are zero, one"):
        select(class_quotas={"ten": 3})
    with pytest.raises(InputError, match="class_quotas asks for 200 rows of one, of which"):
        select(class_quotas={"one": 200})


def test_quotas_of_groups(select, digits):
    result = select(group_column="camera", balance_by="group", class_balance="uniform")
    cameras = np.array([camera or "none" for camera in digits["camera"]])
    # Six rows have no camera: all of them are kept, and what is missing goes to the other two groups.
    assert Counter(cameras[result.selected]) == {"none": 6, "new": 33, "old": 33}
    assert any(
        "1 of the group quotas is more rows than may be kept" in warning for warning in result.report["warnings"]
    )
    groups = {entry["name"]: entry["kept"]["30"] for entry in result.report["groups"]}
    assert groups == {"none": 6, "new": 33, "old": 33}
    assert "quota of its group is full" in result.scores["reason"][:]
    with pytest.raises(InputError, match="group_column lens is no column"):
        select(group_column="lens")
    with pytest.raises(InputError, match='balance_by="group" needs a category for each row'):
        select(balance_by="group")


def test_copies_are_found_and_left_out(digits, tmp_path):
    twice = concatenate_datasets([digits, digits.select(range(60))])
    settings = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "off", "output_dir": tmp_path}
    plain = select_dataset(twice, selection_ratio=0.5, objective="clean", **settings)
    result = select_dataset(twice, selection_ratio=[0.5, 0.2], objective="clean", redundancy_weight=1.0, **settings)

    def copies(rows):
        return sum(row >= 240 and row - 240 in set(rows) for row in rows)

    assert copies(plain.selected) > 20
    assert copies(result.selected) == 0
    groups = np.array([-1 if group is None else group for group in result.scores["duplicate_group"][:]])
    assert (groups[240:] == groups[:60]).all() and (groups[:60] >= 0).all()
    kept = set(result.selected)
    for row, reason in enumerate(result.scores["reason"][:]):
        if reason.startswith("redundant: copy of row "):
            assert int(reason.split()[-1]) in kept and groups[int(reason.split()[-1])] == groups[row]
    assert any(reason.startswith("redundant") for reason in result.scores["reason"][:])
    # A size that was not selected follows from the scores, which know of the redundancy.
    assert set(result.at(0.2).selected) <= set(result.at(0.35).selected) <= kept


@pytest.mark.slow
def test_folds_judge_no_row_by_its_own_label(select, folder):
    plain = select(adaptation="always", num_train_epochs=5)
    result = select(adaptation="always", num_train_epochs=5, num_folds=3)
    sas = np.array(result.scores["sas"])
    assert not np.allclose(sas, np.array(plain.scores["sas"]), atol=1e-3)
    np.testing.assert_array_equal(result.scores["sds"], plain.scores["sds"])
    stored = (folder / "features" / "out_of_fold.safetensors").read_bytes()
    again = select(adaptation="always", num_train_epochs=5, num_folds=3)
    np.testing.assert_array_equal(again.scores["sas"], sas)
    assert (folder / "features" / "out_of_fold.safetensors").read_bytes() == stored
    with pytest.raises(InputError, match='num_folds=3 trains adapters, which adaptation="off" rules out'):
        select(num_folds=3)


def test_the_ensemble_ranks(select):
    result = select(alignment="ensemble", objective="clean", class_balance="none")
    ensemble = np.array(result.scores["ensemble"])
    assert (ensemble <= 0).all()
    assert ensemble[result.selected].min() >= ensemble[result.dropped].max()


def test_strict_stops_where_clip_does_not_understand(digits, tmp_path):
    names = ["three", "four", "five", "six", "seven", "eight", "nine", "zero", "one", "two"]
    settings = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "off", "class_names": names}
    result = select_dataset(digits, **settings)
    assert any("chance" in warning for warning in result.report["warnings"])
    with pytest.raises(InputError, match="chance"):
        select_dataset(digits, strict=True, output_dir=tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "subset").exists()


def test_contradictions_are_told_before_anything_is_encoded(digits, tmp_path):
    for knobs, message in (
        ({"diversity_weight": 0.2}, "diversity_weight=0.2 would do nothing"),
        ({"objective": "clean", "gate_floor": 0.2}, "gate_floor=0.2 is a part of the gate"),
        ({"selection_count": 241}, "selection_count=241 is more than there are, 240 rows"),
        ({"min_per_class": 8}, "The quotas can't be met"),
    ):
        with pytest.raises(InputError, match=message):
            select_dataset(digits, model_name_or_path="embedded/tiny-clip", output_dir=tmp_path / "out", **knobs)
        assert not (tmp_path / "out").exists()
