"""A run takes back what a person decided about rows: labels change before anything is scored, all figures agree."""

import json
import shutil
import signal
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from interrupted import assert_same, content, encoded_images, takes_pixels
from reviewed_digits import REVIEWER, ReviewedDigits, make_reviewed_digits
from torch.nn.modules.module import register_module_forward_pre_hook

from hf_clipselect import InputError, SelectionResult, load_pruned, select_dataset
from hf_clipselect.cli import main
from hf_clipselect.data.decisions import Decision, read_decisions, write_decisions
from hf_clipselect.encoder.cache import SHARD_ROWS
from hf_clipselect.evaluation.classifier.selected_rows import load_selected_rows
from hf_clipselect.evaluation.classifier.training_arguments import ClassifierArguments
from hf_clipselect.results.report import pick_suspects
from hf_clipselect.results.scores_table import column_values


MODEL = "embedded/tiny-clip"
FLAGS = (
    "--adaptation always --num_train_epochs 2 --min_train_steps 4 --dataloader_num_workers 0 --use_cpu "
    "--selection_ratio 0.3 auto"
).split()


class Runs:
    """Runs of the command line on one dataset; what the last one printed, and how many images it put through CLIP."""

    def __init__(self, reviewed: ReviewedDigits) -> None:
        self.encoded, self.out, self.err = 0, "", ""
        self.flags = ["--dataset_name", str(reviewed.folder / "noisy"), "--model_name_or_path", MODEL, *FLAGS]

    def __call__(self, output_dir: Path, *flags: str) -> None:
        self.encoded, out, err = 0, StringIO(), StringIO()
        hook = register_module_forward_pre_hook(self._count)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = main(["select", *self.flags, "--output_dir", str(output_dir), *flags])
        finally:
            hook.remove()
        self.out, self.err = out.getvalue(), err.getvalue()
        assert code == 0, self.err

    def _count(self, module, inputs) -> None:
        if takes_pixels(module):
            self.encoded += len(inputs[0])


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    return make_reviewed_digits(tmp_path_factory.mktemp("reviewed"))


@pytest.fixture(scope="module")
def run(reviewed):
    return Runs(reviewed)


@dataclass(frozen=True)
class Stage:
    """One of several runs in a folder: what it printed and encoded, and what stood in the folder then."""

    folder: Path
    out: str
    err: str
    encoded: int
    content: dict[str, Any]


@pytest.fixture(scope="module")
def stages(run, reviewed, tmp_path_factory):
    """A run, the same with decisions, and without them again."""
    folder, found = tmp_path_factory.mktemp("stages") / "out", []
    for flags in ((), ("--decisions", str(reviewed.path)), ()):
        run(folder, *flags)
        found.append(Stage(folder, run.out, run.err, run.encoded, content(folder)))
    return found


@pytest.fixture(scope="module")
def decided(run, reviewed, tmp_path_factory):
    """The output folder of a run with decisions."""
    folder = tmp_path_factory.mktemp("decided") / "out"
    run(folder, "--decisions", str(reviewed.path))
    return folder


@pytest.fixture(scope="module")
def corrected(run, reviewed, tmp_path_factory):
    """A run on a dataset in which the decisions were carried out by hand."""
    folder = tmp_path_factory.mktemp("corrected")
    source = reviewed.dataset
    by_hand = source.remove_columns("label").add_column("label", reviewed.decided)
    by_hand.select_columns(source.column_names).cast(source.features).save_to_disk(str(folder / "by_hand"))
    (folder / "dropped.txt").write_text("\n".join(map(str, reviewed.rows("drop"))))
    run(folder / "out", "--dataset_name", str(folder / "by_hand"), "--must_drop", str(folder / "dropped.txt"))
    return SelectionResult.from_folder(folder / "out")


@pytest.fixture(scope="module")
def result(decided):
    return SelectionResult.from_folder(decided)


@pytest.mark.parametrize("config", ["ratio_30", "ratio_auto"])
def test_the_subset_has_the_labels_that_were_decided(decided, reviewed, config):
    source = reviewed.dataset
    subset = load_dataset(str(decided / "subset"), config, split="train")
    assert subset.column_names == [
        *source.column_names,
        "source_index",
        "sas",
        "sds",
        "selection_score",
        "given_label",
    ]
    assert all(subset.features[name] == source.features[name] for name in source.column_names)
    assert subset.features["given_label"] == source.features["label"]
    rows = np.array(subset["source_index"])
    assert np.array_equal(subset["label"], reviewed.decided[rows])
    assert np.array_equal(subset["given_label"], reviewed.given[rows])
    assert subset["note"][:] == [f"row {row}" for row in rows]
    assert [image.tobytes() for image in subset["image"]] == [
        image.tobytes() for image in source.select(rows)["image"]
    ]
    assert np.isin(rows, reviewed.rows("relabel")).sum() >= 5 and not np.isin(rows, reviewed.rows("drop")).any()


def test_apply_and_load_pruned_give_the_same_from_the_dataset_as_it_is(decided, result, reviewed):
    source, of_run = reviewed.dataset, load_dataset(str(decided / "subset"), "ratio_30", split="train")
    for again in (result.apply(source), load_pruned(decided, ratio=0.3), load_pruned(decided / "subset", ratio=0.3)):
        assert again.features == of_run.features and again[:]["label"] == of_run[:]["label"]
        assert again.remove_columns("image")[:] == of_run.remove_columns("image")[:]
    half = result.at(0.5).apply(source.with_format("numpy"))
    assert half.format["type"] == "numpy"
    assert np.array_equal(half["label"], reviewed.decided[half["source_index"]])
    by_hand = (
        source.remove_columns("label")
        .add_column("label", reviewed.decided)
        .cast(of_run.select_columns(source.column_names).features)
    )
    with pytest.raises(InputError, match="labels or images differ"):
        result.apply(by_hand)


def test_labels_change_before_anything_is_scored(result, corrected, reviewed):
    ours, by_hand = result.scores, corrected.scores
    assert np.array_equal(column_values(ours, "label"), reviewed.decided)
    assert np.array_equal(column_values(ours, "given_label"), reviewed.given)
    for name in ("label", "predicted_label", "label_agrees", "sas", "margin", "sds", "sas_quantile", "must_drop"):
        assert np.array_equal(column_values(ours, name), column_values(by_hand, name)), name
    looked_at = np.concatenate([reviewed.rows("keep"), reviewed.rows("relabel")])
    others = np.setdiff1d(np.arange(len(ours)), looked_at)
    for name in ("label_error_probability", "clean_label"):
        assert np.array_equal(column_values(ours, name)[others], column_values(by_hand, name)[others]), name
    assert column_values(by_hand, "label_error_probability")[looked_at].max() > 0.5


def test_a_label_that_a_person_took_for_right_counts_as_right_everywhere(decided, result, reviewed):
    looked_at = np.concatenate([reviewed.rows("keep"), reviewed.rows("relabel")])
    wrong, labels = (column_values(result.scores, name) for name in ("label_error_probability", "label"))
    assert (wrong[looked_at] == 0).all() and (wrong > 0.5).any()
    assert np.array_equal(column_values(result.scores, "clean_label")[looked_at], labels[looked_at])
    suspects = pick_suspects(result.scores)
    assert len(suspects) > 20 and not np.isin(suspects, looked_at).any()
    reasons = np.array(result.scores["reason"][:])
    assert not any("wrong" in reason for reason in reasons[looked_at])
    kept = np.isin(looked_at, result.selected)
    assert 0 < kept.sum() < len(kept)  # not forced into the subset
    report = json.loads((decided / "report.json").read_text())
    assert report["noise"]["estimated_share"] == pytest.approx(wrong.mean())
    for number, name in enumerate(result.scores.features["label"].names):
        assert report["noise"]["by_class"][name] == pytest.approx(wrong[labels == number].mean())
    assert sum(pair["rows"] for pair in report["noise"]["transitions"]) <= len(suspects)
    right = {int(size): int((1 - wrong[labels == size]).sum().round()) for size in np.unique(labels)}
    auto = load_dataset(str(decided / "subset"), "ratio_auto", split="train")
    counts = np.bincount(auto["label"], minlength=10)
    assert abs(counts.sum() - (1 - wrong).sum()) < 1 and all(abs(counts[c] - right[c]) <= 1 for c in right)


def test_reasons_and_counts(decided, result, reviewed):
    reasons = np.array(result.scores["reason"][:])
    dropped = reviewed.rows("drop")
    assert set(np.flatnonzero(reasons == "dropped by a reviewer")) == set(dropped)
    assert set(np.flatnonzero(np.array(result.at(0.6).scores["reason"][:]) == "dropped by a reviewer")) == set(dropped)
    counts = {choice: len(reviewed.rows(choice)) for choice in ("keep", "relabel", "drop", "unsure")}
    assert counts == {"keep": 15, "relabel": 40, "drop": 6, "unsure": 3}
    assert json.loads((decided / "report.json").read_text())["decisions"] == counts
    assert result.report["decisions"] == counts and result.at(0.6).report["decisions"] == counts
    config = yaml.safe_load((decided / "config.yaml").read_text())
    assert config["decisions"].keys() == {*counts, "digest"} and counts.items() < config["decisions"].items()
    assert config["arguments"]["decisions"] == str(reviewed.path)


def test_whether_it_is_worth_it_is_measured_by_the_labels_that_were_decided(decided, reviewed):
    rows = load_selected_rows(ClassifierArguments(dataset_name=str(decided), selection_ratio=0.3))
    for some in (rows.selected, rows.candidates):
        assert np.array_equal(some.labels, reviewed.decided[some.source_index])
    assert len(rows.candidates.labels) == 394 and np.array_equal(
        rows.candidates.class_names, rows.selected.class_names
    )


def test_who_decided_is_written_nowhere(decided):
    files = [path for path in decided.rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if REVIEWER.encode() in path.read_bytes()]
    for path in decided.rglob("*.parquet"):
        table = pq.read_table(path)
        assert "reviewer" not in table.column_names
        assert REVIEWER not in str([table[name].to_pylist() for name in table.column_names if name != "image"])


@pytest.mark.slow
def test_features_stay_and_adapters_are_trained_on_the_new_labels(stages, decided):
    assert [stage.encoded for stage in stages] == [400, 0, 0]
    adapters = [stage.content["adapter/adapter_model.safetensors"] for stage in stages]
    assert adapters[0] == adapters[2] != adapters[1]
    assert differing(stages[1].content, content(decided)) == []  # as if it had never been without


@pytest.mark.slow
def test_a_run_without_decisions_goes_back_and_says_so(stages, reviewed):
    before, between, after = stages
    assert differing(after.content, before.content) == []
    assert ["decisions" in stage.content["config.yaml"] for stage in stages] == [False, True, False]
    told = (
        "were made with decisions about rows: 40 labels changed, 15 kept, 6 rows dropped, 3 unsure. This run has "
        f"none, so that every label is the dataset's own again; pass --decisions {reviewed.path} to have them back."
    )
    assert [told in stage.err for stage in stages] == [False, False, True]
    assert not any("Subsets of an earlier run" in stage.err for stage in stages)  # the sizes are the same
    assert after.content["report.json"]["decisions"] is None
    line = "decisions: 40 labels changed, 15 kept, 6 rows dropped, 3 unsure\n"
    assert [line in stage.out for stage in stages] == [False, True, False]


def differing(ours: dict, theirs: dict) -> list[str]:
    assert list(ours) == list(theirs)
    return [name for name in ours if ours[name] != theirs[name]]


@pytest.mark.slow
def test_sizes_of_other_decisions_do_not_stay(run, reviewed, tmp_path):
    flags = ("--adaptation", "off", "--decisions")
    run(tmp_path / "out", *flags, str(reviewed.path), "--selection_ratio", "0.5")
    fewer = dict(list(reviewed.decisions.items())[:-1])
    write_decisions(tmp_path / "fewer.parquet", fewer)
    run(tmp_path / "out", *flags, str(tmp_path / "fewer.parquet"), "--selection_ratio", "0.3")
    assert "are others now: ratio_50." in run.err
    assert SelectionResult.from_folder(tmp_path / "out").ratios == (0.3,)
    run(tmp_path / "out", *flags, str(tmp_path / "fewer.parquet"), "--selection_ratio", "0.4")
    assert SelectionResult.from_folder(tmp_path / "out").ratios == (0.4, 0.3)


def test_the_config_of_a_run_makes_it_again(decided, tmp_path):
    assert main(["select", "--config", str(decided / "config.yaml"), "--output_dir", str(tmp_path / "again")]) == 0
    assert differing(content(tmp_path / "again"), content(decided)) == []


def test_a_mapping_does_what_the_file_does(decided, result, reviewed, tmp_path):
    by_mapping = select_dataset(
        reviewed.dataset,
        decisions=read_decisions(reviewed.path),
        model_name_or_path=MODEL,
        adaptation="off",
        output_dir=tmp_path / "out",
        use_cpu=True,
    )
    for name in ("label", "given_label", "decision", "label_error_probability"):
        assert by_mapping.scores[name][:] == result.scores[name][:]
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert "decisions" not in config["arguments"]
    assert config["decisions"] == yaml.safe_load((decided / "config.yaml").read_text())["decisions"]
    assert by_mapping.apply(reviewed.dataset)["given_label"][:] == reviewed.given[by_mapping.selected].tolist()


def refusal(reviewed: ReviewedDigits, *decisions: Decision, **settings) -> str:
    given = {decision.source_index: decision for decision in decisions}
    with pytest.raises(InputError) as refused:
        select_dataset(reviewed.dataset, model_name_or_path=MODEL, decisions=given, **settings)
    return str(refused.value)


def test_decisions_that_are_none_about_these_rows_are_refused(reviewed):
    names = reviewed.dataset.features["label"].names
    told = refusal(reviewed, Decision(400, "keep"), Decision(7000, "drop"), Decision(3, "unsure"))
    assert told.startswith(
        "decisions decides about 2 rows that the dataset does not have, first row 400; its 400 rows"
    )
    assert "go from 0 to 399" in told
    told = refusal(reviewed, Decision(5, "relabel", "tenn"))
    assert "gives row 5 the label 'tenn', and there is no such class; the classes are zero, one, two" in told
    seen = names[(reviewed.given[8] + 1) % 10]
    told = refusal(reviewed, Decision(8, "keep", given_label=seen), Decision(9, "drop"))
    assert (
        f"of 1 row the label that the reviewer saw is not the one in the dataset, first row 8, seen as '{seen}'"
        in told
    )
    told = refusal(reviewed, Decision(17, "drop"), must_keep=[17, 30])
    assert told == "1 row is in must_keep and dropped by decisions, first 17; leave each in one."
    told = refusal(reviewed, Decision(2, "maybe"))
    assert told == "decisions decides 'maybe' about row 2; a decision is one of keep, relabel, drop, unsure."
    renamed = reviewed.dataset.rename_column("label", "given_label")
    with pytest.raises(InputError, match="The column given_label bears the name of a column that a subset gets"):
        select_dataset(renamed, model_name_or_path=MODEL, decisions={})


def test_rows_that_a_limit_leaves_out_are_told(run, reviewed, tmp_path):
    write_decisions(tmp_path / "all.parquet", {row: Decision(row, "keep") for row in range(400)})
    flags = ["--max_train_samples", "60", "--adaptation", "off", "--decisions", str(tmp_path / "all.parquet")]
    run(tmp_path / "out", *flags)
    told = "340 of 400 decisions are about rows that --max_train_samples leaves out, and have no effect."
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told in run.err and told in report["warnings"]
    assert report["decisions"] == {"keep": 60, "relabel": 0, "drop": 0, "unsure": 0}
    assert (report["noise"]["estimated_share"], report["noise"]["share_error"]) == (
        0,
        0,
    )  # nothing is left to estimate


@pytest.mark.slow
def test_two_processes_decide_the_same(forking_client, reviewed, tmp_path):
    flags = ["--adaptation", "off", "--max_train_samples", "150", "--decisions", str(reviewed.path)]
    for count in (1, 2):
        notes = tmp_path / f"notes-{count}"
        notes.mkdir()
        argv = [[*Runs(reviewed).flags, *flags, "--output_dir", str(tmp_path / f"run-{count}")]]
        codes = forking_client.run({"runs": argv, "shard_rows": 64, "notes": str(notes), "processes": count})
        assert not any(codes), "\n".join(path.read_text()[-2000:] for path in notes.glob("output-*.txt"))
    assert_same(tmp_path / "run-2", tmp_path / "run-1")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["adapter", "subset"])
def test_a_run_that_is_killed_with_decisions_goes_on(forking_client, reviewed, stages, decided, tmp_path, point):
    """In a folder that a run without decisions left."""
    shutil.copytree(stages[-1].folder, tmp_path / "out")
    notes = tmp_path / "notes"
    notes.mkdir()
    flags = [*Runs(reviewed).flags, "--output_dir", str(tmp_path / "out"), "--decisions", str(reviewed.path)]
    plan = {"runs": [flags], "shard_rows": SHARD_ROWS, "notes": str(notes)}
    kill = {"operation": "rename", "path": point, "nth": 1, "moment": "before"}
    assert forking_client.run({**plan, "dying_ranks": [0], "kill": kill}) == [-signal.SIGKILL]
    assert forking_client.run(plan) == [0]
    assert encoded_images(notes) == [[]]
    assert differing(content(tmp_path / "out"), content(decided)) == []
