"""Is a selection worth it: rows of the arms, records, table and figures of the paper, then whole comparisons."""

import dataclasses
import json

import numpy as np
import pytest
from datasets import Dataset
from forked_recipes import run_as_two
from loopback_hub.server import LoopbackHub
from made_results import make_result
from preloaded import run_python
from recipe_files import RECIPES, load_recipe, run_recipe

from hf_clipselect.cli import main
from hf_clipselect.data import LabelledImages
from hf_clipselect.data.source import DatasetSource
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.classifier import comparison_table, parse_training_arguments, train_classifier
from hf_clipselect.evaluation.classifier.arm_records import ArmRecords, ArmResult
from hf_clipselect.evaluation.classifier.eval_sets import EvalSet
from hf_clipselect.evaluation.classifier.paired_difference import paired_difference
from hf_clipselect.evaluation.classifier.papers_figures import figures_of_paper
from hf_clipselect.evaluation.classifier.selected_rows import SelectedRows, load_selected_rows
from hf_clipselect.evaluation.classifier.worth import Comparison, arm_rows
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.results.run_folder import RunFolder
from hf_clipselect.results.scores_table import join_columns
from hf_clipselect.results.subsets import select_from_table
from hf_clipselect.selection import resolve_objective


COMPARE = ["--compare_with", "random", "full", "--use_cpu", "--disable_tqdm", "true"]


def parse(*flags: object):
    return parse_training_arguments([*COMPARE, *map(str, flags)])


def run(*flags: object) -> dict:
    return train_classifier(*parse(*flags))


@pytest.fixture(scope="module")
def digits():
    return load_digits_dataset("train")


@pytest.fixture(scope="module")
def selection(digits, tmp_path_factory):
    """A selection of the digits by random scores, of which some rows can't be read, without their images."""
    folder = tmp_path_factory.mktemp("selection")
    made = make_result(digits, (0.3, 200), name="embedded/digits", unreadable=range(0, 100, 7), report=True)
    made.save(folder / "subset")
    return folder


def rows_of(folder, *flags: object) -> SelectedRows:
    return load_selected_rows(parse("--dataset_name", folder, *flags)[0])


@pytest.mark.parametrize(
    ("flags", "count"),
    [([], 385), (["--selection_ratio", "0.1"], 128), (["--dataset_config_name", "count_200"], 200)],
)
def test_arms_are_rows_of_the_source(selection, digits, flags, count):
    rows = rows_of(selection, *flags)
    unreadable, everything = set(range(0, 100, 7)), np.arange(1297)
    assert len(rows.selected.labels) == count and len(rows.candidates.labels) == 1297 - len(unreadable)
    assert set(rows.candidates.source_index) == set(everything) - unreadable
    first, again, other = (arm_rows(rows, "random", seed) for seed in (1, 1, 2))
    assert len(first.labels) == count and first.source_index.tolist() == again.source_index.tolist()
    assert set(first.source_index) != set(other.source_index) and not unreadable & set(first.source_index)
    assert arm_rows(rows, "full", 1) is rows.candidates and arm_rows(rows, "selected", 1) is rows.selected
    for arm in (first, rows.selected):
        assert (np.diff(arm.source_index) > 0).all()
        assert arm.labels.tolist() == [digits[int(row)]["label"] for row in arm.source_index]
        assert np.array_equal(arm.dataset[3]["image"], digits[int(arm.source_index[3])]["image"])


def test_rows_that_a_user_dropped_are_in_no_arm(digits, tmp_path):
    """They have scores like the others, so only their column tells them."""
    must_drop = np.arange(1297) % 4 == 1
    made = make_result(digits, name="embedded/digits", unreadable=[2, 5], report=True)
    scores = select_from_table(join_columns(made.scores, {"must_drop": must_drop}), made.objective, made.ratios)
    dataclasses.replace(made, scores=scores).save(tmp_path)
    rows = rows_of(tmp_path)
    readable = np.setdiff1d(np.arange(1297), [2, 5])
    assert rows.candidates.source_index.tolist() == [row for row in readable if not must_drop[row]]
    for arm in ("selected", "random", "full"):
        assert not must_drop[arm_rows(rows, arm, 1).source_index].any()


def test_random_rows_are_drawn_without_quotas(selection):
    """The counts of a class are those of a draw without replacement: so wide, and right in the mean."""
    rows = rows_of(selection, "--selection_ratio", "0.1")
    counts = np.stack([np.bincount(arm_rows(rows, "random", seed).labels, minlength=10) for seed in range(200)])
    share, drawn, num_rows = np.bincount(rows.candidates.labels) / len(rows.candidates.labels), 128, 1282
    variance = drawn * share * (1 - share) * (num_rows - drawn) / (num_rows - 1)
    assert (counts.sum(axis=1) == drawn).all()
    assert (abs(counts.mean(axis=0) - drawn * share) < 4 * np.sqrt(variance / 200)).all()
    assert counts.var(axis=0, ddof=1).mean() == pytest.approx(variance.mean(), rel=0.15)


def test_random_rows_are_not_the_rows_that_label_noise_of_the_seed_makes_wrong(selection):
    """Of as many wrong labels as rows are drawn: so many are met as by chance, and not all of them."""
    rows = rows_of(selection, "--selection_ratio", "0.2")
    labels, count = rows.candidates.labels, len(rows.selected.labels)
    shares = []
    for seed in range(20):
        noisy = add_label_noise(labels, 10, rate=count / len(labels), seed=seed)
        drawn = np.isin(rows.candidates.source_index, arm_rows(rows, "random", seed).source_index)
        assert drawn.sum() == (noisy != labels).sum() == count
        shares.append((noisy != labels)[drawn].mean())
    assert 0.17 < np.mean(shares) < 0.23


def test_the_selection_is_that_of_the_size_that_is_named(selection):
    with pytest.raises(InputError, match="ratio_40 is no subset of .*has ratio_30, count_200.*--selection_ratio"):
        rows_of(selection, "--dataset_config_name", "ratio_40")


def test_the_source_of_a_folder_is_found_by_the_config_of_the_run(digits, tmp_path):
    digits.save_to_disk(tmp_path / "source")
    made = make_result(digits, name=str(tmp_path / "source"), report=True)
    made.save(tmp_path / "out" / "subset")
    with pytest.raises(InputError, match=r"made from source, which is not on the Hub.*--source_dataset"):
        rows_of(tmp_path / "out")
    named = rows_of(tmp_path / "out", "--source_dataset", tmp_path / "source")
    RunFolder(tmp_path / "out").write_config({"arguments": {"dataset_name": str(tmp_path / "source")}})
    for folder in (tmp_path / "out", tmp_path / "out" / "subset"):
        found = rows_of(folder)
        assert found.selected.source_index.tolist() == named.selected.source_index.tolist() == made.selected.tolist()


def test_the_first_rows_of_a_stream_are_the_candidates(digits, clip_folder, tmp_path):
    digits.to_parquet(tmp_path / "rows.parquet")
    settings = f"--adaptation off --objective clean --use_cpu --model_name_or_path {clip_folder} --streaming"
    named = f"--dataset_name {tmp_path / 'rows.parquet'} --max_train_samples 90 --output_dir {tmp_path / 'out'}"
    assert main(["select", *settings.split(), *named.split()]) == 0
    rows = rows_of(tmp_path / "out")
    assert rows.candidates.source_index.tolist() == list(range(90)) and len(rows.selected.labels) == 27
    digits.select(range(1, 91)).to_parquet(tmp_path / "others.parquet")
    with pytest.raises(InputError, match="labels or images differ"):
        rows_of(tmp_path / "out", "--source_dataset", tmp_path / "others.parquet")


def test_another_dataset_is_refused(digits, tmp_path):
    make_result(digits, report=True).save(tmp_path / "made")
    with pytest.raises(InputError, match="made from a dataset in memory, .*--source_dataset"):
        rows_of(tmp_path / "made")
    digits.select(range(1000)).save_to_disk(tmp_path / "fewer")
    with pytest.raises(InputError, match=r"fewer.* is not the dataset .*it has 1,000 rows, .* 1,297.*select anew"):
        rows_of(tmp_path / "made", "--source_dataset", tmp_path / "fewer")
    digits.select(range(1296, -1, -1)).save_to_disk(tmp_path / "turned")
    with pytest.raises(InputError, match="turned.* is not the dataset .*labels or images differ.*in their order"):
        rows_of(tmp_path / "made", "--source_dataset", tmp_path / "turned")
    with pytest.raises(InputError, match="can't be loaded: .*nowhere.*--source_dataset"):
        rows_of(tmp_path / "made", "--source_dataset", tmp_path / "nowhere")


def test_rows_that_are_learned_are_not_set_of_cifar(selection, digits, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="embedded/digits:train holds the rows that were selected from"):
        run("--dataset_name", selection, "--eval_dataset", "embedded/digits:train", "--output_dir", folder)
    with pytest.raises(InputError, match="nothing to test on: .*'part'.*--eval_dataset"):
        run("--dataset_name", selection, "--eval_split_name", "part", "--output_dir", folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compare_with", "all"], "--compare_with must be one of random, full, got 'all'"),
        (["--compare_with", "full"], "--compare_with needs a selection"),
        (
            ["--compare_with", "full", "--dataset_name", "x", "--max_train_samples", "9"],
            "leave out --max_train_samples 9",
        ),
        (["--compare_seeds", "0"], "--compare_seeds must be a whole number of at least 1"),
        (["--source_dataset", "x"], "--source_dataset belongs to --compare_with"),
        (
            ["--compare_with", "full", "--dataset_name", "x", "--load_best_model_at_end", "--eval_strategy", "epoch"],
            "--load_best_model_at_end chooses weights by the rows",
        ),
    ],
)
def test_arguments_that_do_not_fit(flags, message):
    with pytest.raises(InputError, match=message):
        parse_training_arguments(["--use_cpu", *flags])


def test_a_selection_of_the_digits_is_trained_on_as_the_digits_are(selection):
    for name in (selection, selection / "subset"):
        arguments, _ = parse("--dataset_name", name)
        assert arguments.architecture == "resnet-20" and arguments.horizontal_flip is False
    arguments, _ = parse("--dataset_name", "me/others")
    assert arguments.architecture == "resnet-50" and arguments.horizontal_flip is True


def test_records_are_of_their_settings(tmp_path):
    right = np.random.default_rng(0).random(500) < 0.9
    made = ArmResult(130, 10, 2.5, {"digits:test": right, "some": right[:7]})
    records = ArmRecords(tmp_path, {"seed": 1})
    records.begin()
    records.write("random", 42, made)
    records.begin()
    found = ArmRecords(tmp_path, {"seed": 1}).read("random", 42)
    assert (found.num_rows, found.num_steps, found.seconds) == (130, 10, 2.5)
    assert all(np.array_equal(found.is_right[name], made.is_right[name]) for name in made.is_right)
    assert found.is_right["some"].dtype == bool and records.read("random", 43) is None
    other = ArmRecords(tmp_path, {"seed": 2})
    assert records.are_there() and not other.are_there()
    other.begin()
    assert other.are_there() and other.read("random", 42) is None


def test_arms_are_told_apart_together(selection, tmp_path):
    """A difference that is clear alone is not beside another, since its level is halved. All trainings are there."""
    flags = ["--dataset_name", selection, "--output_dir", tmp_path]
    test_set, rows, everything = set_of_cifar(), rows_of(selection), np.ones(2000, dtype=bool)
    wrong = {"selected": (0, 0, 0), "random": (90, 130, 170), "full": (0, 0, 0)}
    right = {arm: [np.arange(2000) >= count for count in counts] for arm, counts in wrong.items()}
    alone = paired_difference(np.stack([everything] * 3), np.stack(right["random"]))
    assert alone.is_clear() and not alone.is_clear(0.025)
    made = {arm: [ArmResult(9, 9, 1.0, {test_set.name: one}) for one in of_arm] for arm, of_arm in right.items()}
    for arms, is_clear in ((["random"], True), (["random", "full"], False)):
        arguments, training = parse(*flags, "--compare_with", *arms)
        comparison = Comparison(rows, [test_set], arguments, training)
        comparison.records.begin()
        for arm in ("selected", *arms):
            for seed, result in enumerate(made[arm], start=42):
                comparison.records.write(arm, seed, result)
        figures = comparison.run(made["selected"][0])["eval"][test_set.name]
        assert figures["random"]["is_clear"] is is_clear
        assert figures["random"]["difference"] == pytest.approx(0.065)
        assert not figures.get("full", {}).get("is_clear")


def made_comparison(**changes) -> dict:
    figures = {
        "num_rows": 500,
        "selected": {"accuracy": [0.93, 0.95]},
        "random": {"accuracy": [0.91, 0.92], "difference": 0.025, "standard_error": 0.01, "is_clear": True},
        "full": {"accuracy": [0.96, 0.94], "difference": -0.01, "standard_error": 0.006, "is_clear": False},
    }
    arms = {
        "selected": {"num_rows": 389, "num_steps": 105, "seconds": [None, 3.0]},
        "random": {"num_rows": 389, "num_steps": 105, "seconds": [3.0, 3.4]},
        "full": {"num_rows": 1297, "num_steps": 315, "seconds": [9.0, 9.2]},
    }
    return {"seeds": [42, 43], "equal": "epochs", "arms": arms, "eval": {"embedded/digits:test": figures}, **changes}


def test_the_table_by_hand():
    lines = comparison_table(made_comparison()).splitlines()
    assert lines[2:8] == [
        "| selected rows | 389 | 105 | 3.0 | 94.00 % |  |  |",
        "| random rows | 389 | 105 | 3.2 | 91.50 % | +2.50 | 1.00 |",
        "| all rows | 1,297 | 315 | 9.1 | 95.00 % | -1.00 | 0.60 |",
        "",
        "- On `embedded/digits:test` the selected rows are 2.50 points better than random rows.",
        "- On `embedded/digits:test` the selected rows are not told from all rows: a difference of -1.00 points "
        "may be chance.",
    ]
    assert "(seeds 42, 43); rows tested on: 500 of `embedded/digits:test`" in lines[-1]
    assert "same number of passes over their rows, so fewer rows are fewer steps" in lines[-1]
    assert "All rows are those that the selection considered, but for images that can't be read" in lines[-1]
    assert "rows of --must_drop" in lines[-1] and "t-test at 5 %, with Holm's correction for the 2 that" in lines[-1]
    assert "without quotas" in lines[-1] and "added in squares" in lines[-1] and "too small" not in lines[-1]


def test_the_table_says_what_one_seed_does_not_tell():
    arms = {"selected": made_comparison()["arms"]["selected"] | {"seconds": [None]}}
    told = comparison_table(made_comparison(seeds=[42], equal="steps", arms=arms))
    assert "| selected rows | 389 | 105 | not known |" in told and "Mean of 1 training of each (seed 42)" in told
    assert "test rows alone" in told and "too small" in told and "same number of steps" in told
    assert "Random rows" not in told and "added in squares" not in told


def test_one_seed_gives_no_verdict():
    """Not even of results from before, which call it clear by the test rows alone."""
    told = comparison_table(made_comparison(seeds=[42]))
    assert "selected rows differ from random rows by +2.50 points; one seed gives no verdict." in told
    assert "selected rows differ from all rows by -1.00 points; one seed gives no verdict." in told
    assert (
        "better" not in told
        and "may be chance" not in told
        and "take more by --compare_seeds 3" in told
        and "5 %" not in told
    )


def test_a_lone_difference_is_not_corrected():
    arms = {arm: facts for arm, facts in made_comparison()["arms"].items() if arm != "full"}
    told = comparison_table(made_comparison(arms=arms))
    assert "by a t-test at 5 %. The selection" in told and "Holm" not in told


def test_several_sets_have_their_lines():
    figures = made_comparison()["eval"]["embedded/digits:test"]
    worse = figures | {"full": figures["full"] | {"difference": -0.02, "is_clear": True}}
    lines = comparison_table(made_comparison(eval={"first": figures, "second": worse})).splitlines()
    assert len(lines) == 2 + 6 + 1 + 4 + 1 + 1 and lines[0].startswith("| tested on | trained on |")
    assert lines[5].startswith("| `second` | selected rows |")
    assert "- On `second` the selected rows are 2.00 points worse than all rows." in lines
    assert "with Holm's correction for the 4 that are tested" in lines[-1]


@pytest.mark.slow
def test_two_seeds_of_a_comparison_are_those_of_its_records(selection, tmp_path):
    """A few steps: what is written fits together, and nothing is trained twice."""
    flags = ["--dataset_name", selection, "--selection_ratio", 0.1, "--max_steps", 2, "--compare_seeds", 2]
    flags += ["--max_eval_samples", 60, "--output_dir", tmp_path / "run"]
    results = run(*flags)
    comparison, [name] = results["comparison"], results["eval"]
    assert name == "embedded/digits:test" and comparison["seeds"] == [42, 43] and comparison["equal"] == "steps"
    assert [facts["num_rows"] for facts in comparison["arms"].values()] == [128, 128, 1282]
    records = tmp_path / "run" / "comparison"
    texts = {path.name: path.read_text() for path in records.iterdir()}
    arms = ("selected", "random", "full")
    assert set(texts) == {"settings.json", *(f"{arm}_seed_{seed}.json" for arm in arms for seed in (42, 43))}
    found = {arm: [json.loads(texts[f"{arm}_seed_{seed}.json"]) for seed in (42, 43)] for arm in arms}
    right = {arm: np.array([list(one["is_right"][name]) for one in found[arm]]) == "1" for arm in arms}
    assert right["full"].shape == (2, 60)
    for arm in arms:
        figures = comparison["eval"][name][arm]
        assert figures["accuracy"] == right[arm].mean(axis=1).tolist()
        if arm != "selected":
            expected = paired_difference(right["selected"], right[arm])
            assert figures["difference"] == expected.difference
            assert figures["standard_error"] == expected.standard_error
    # The model in the folder is that of the selected rows and the first seed.
    assert results["eval"][name]["accuracy"] == comparison["eval"][name]["selected"]["accuracy"][0]
    assert results["train"]["num_rows"] == 128
    table = comparison_table(comparison)
    assert (tmp_path / "run" / "comparison.md").read_text() == table
    assert table in (tmp_path / "run" / "README.md").read_text()
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results

    # The same command trains what is missing alone; a file that is not written again keeps its time.
    (records / "random_seed_43.json").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    again = run(*flags)
    assert {path.name: path.stat().st_mtime_ns for path in records.iterdir() if path.name in times} == times
    assert again["comparison"]["eval"] == comparison["eval"] and again["train"] == results["train"]
    # Fewer arms and seeds are among those that are there.
    fewer = run(*flags, "--compare_with", "random", "--compare_seeds", 1)["comparison"]
    assert list(fewer["arms"]) == ["selected", "random"] and fewer["seeds"] == [42]
    assert {path.name: path.stat().st_mtime_ns for path in records.iterdir() if path.name in times} == times

    with pytest.raises(InputError, match="holds another run"):
        run(*flags, "--weight_decay", 0.1)
    other = run(*flags, "--weight_decay", 0.1, "--overwrite_output_dir", "--compare_with", "random")
    assert {path.name for path in records.iterdir()} == {
        "settings.json",
        *(f"{arm}_seed_{seed}.json" for arm in ("selected", "random") for seed in (42, 43)),
    }
    assert list(other["comparison"]["arms"]) == ["selected", "random"]
    # A run that is not compared leaves none of it.
    plain = ["--max_train_samples", 60, "--num_train_epochs", 1, "--output_dir", tmp_path / "run", *COMPARE[3:]]
    results = train_classifier(*parse_training_arguments([*map(str, plain), "--overwrite_output_dir"]))
    assert "comparison" not in results and not records.exists()


def a_source(**changes) -> DatasetSource:
    values = {"name": "uoft-cs/cifar10", "config_name": None, "split": "train", "revision": "0" * 40}
    return DatasetSource(**{**values, "fingerprint": "x", "num_rows": 50_000, "license": None, **changes})


def learned(count: int, **changes) -> LabelledImages:
    """So many rows of CIFAR-10, by number alone."""
    labels = np.zeros(count, dtype=np.int64)
    dataset = Dataset.from_dict({"label": labels})
    return LabelledImages(dataset, "image", labels, a_source(**changes), "label", ["a", "b"], labels)


def set_of_cifar(**changes) -> EvalSet:
    source = a_source(split="test", num_rows=10_000, **changes)
    targets, classes = np.zeros((2, 1), dtype=np.int64), np.arange(2)
    return EvalSet(f"{source.name}:test", source, Dataset.from_dict({"label": [0, 0]}), "image", targets, classes)


LOOP = {"solver": "sgd"}


def selected(objective: str = "paper", knobs: dict = LOOP, *, rows: int = 50_000, adapted=True, **changes) -> dict:
    """The paper's method, with its loop and its adapters, or another selection."""
    return {
        "objective": resolve_objective(objective, knobs),
        "ratios": (0.7,),
        "source": a_source(**changes),
        "report": {"num_rows": rows, "adaptation": {"kept": adapted}},
    }


def arguments_of(*flags: object):
    given = ["--dataset_name", "somewhere", "--architecture", "resnet-50", "--use_cpu", *map(str, flags)]
    return parse_training_arguments(given)[0]


def test_the_papers_figure_stands_beside_what_it_is_of():
    assert figures_of_paper(arguments_of(), learned(35_000), [set_of_cifar()], selected()) == {
        "uoft-cs/cifar10:test": {"figure": 95.43, "deviation": 0.21, "table": 6}
    }
    [full] = figures_of_paper(arguments_of(), learned(50_000), [set_of_cifar()], None).values()
    assert full["figure"] == 96.12


@pytest.mark.parametrize("count", [34_975, 35_025])
def test_the_loop_may_keep_theta_n_rows_more_or_fewer(count):
    [figure] = figures_of_paper(arguments_of(), learned(count), [set_of_cifar()], selected()).values()
    assert figure["figure"] == 95.43


@pytest.mark.parametrize("architecture", ["vit-b", "vit-l", "swin-t"])
def test_fine_tuned_networks_of_table_3_do_not_stand_beside_random_weights(architecture):
    imagenet = {"name": "ILSVRC/imagenet-1k", "num_rows": 1000}
    tested = [set_of_cifar(name=imagenet["name"])]
    arguments = arguments_of("--architecture", architecture)
    assert figures_of_paper(arguments, learned(1000, **imagenet), tested, None) == {}


@pytest.mark.parametrize(
    ("knobs", "adapted", "expected"),
    [(LOOP, True, 78.98), ({}, True, 78.48), (LOOP, False, 78.20), ({}, False, 77.10)],
    ids=["ours", "w/o L_s", "w/o adapter", "w/o both"],
)
def test_columns_of_table_5_are_told_apart(knobs, adapted, expected):
    cifar100 = {"name": "uoft-cs/cifar100"}
    selection = selected("paper", knobs, adapted=adapted, **cifar100) | {"ratios": (0.9,)}
    train, tested = learned(45_000, **cifar100), [set_of_cifar(**cifar100)]
    [figure] = figures_of_paper(arguments_of(), train, tested, selection).values()
    assert (figure["table"], figure["figure"]) == (5, expected)


@pytest.mark.parametrize(
    ("flags", "rows", "selection", "source"),
    [
        ([], 64, selected(), {}),  # --max_train_samples 64
        ([], 64, None, {}),
        ([], 45, selected(rows=64), {}),  # 70 % of 64 rows that were considered
        ([], 34_974, selected(), {}),  # more than theta N rows less
        ([], 35_000, selected("robust", {}), {}),
        ([], 35_000, selected("released"), {}),
        ([], 35_000, selected("paper", {}), {}),  # sorted
        ([], 35_000, selected(adapted=False), {}),
        ([], 35_000, selected("paper", {**LOOP, "diversity_weight": 0.0}), {}),
        ([], 35_000, selected("paper", {**LOOP, "theta": 1e-3}), {}),
        ([], 35_000, selected(name="me/cifar10"), {}),
        ([], 35_000, selected(split="test"), {}),
        ([], 35_000, selected(), {"name": "me/other"}),
        (["--selection_ratio", 0.75], 37_500, selected(), {}),
        (["--dataset_config_name", "count_35000"], 35_000, {**selected(), "ratios": (0.5, 35_000)}, {}),
        (["--pretrained"], 35_000, selected(), {}),
        (["--max_eval_samples", 100], 35_000, selected(), {}),
        (["--architecture", "swin-t"], 35_000, selected(), {}),
        (["--architecture", "vit-s"], 35_000, selected(), {}),
    ],
)
def test_the_papers_figure_stands_beside_nothing_else(flags, rows, selection, source):
    assert figures_of_paper(arguments_of(*flags), learned(rows), [set_of_cifar(**source)], selection) == {}


def test_the_recipe_prints_the_figure_with_its_table(capsys):
    name = "uoft-cs/cifar10:test"
    results = {
        "model": {"architecture": "resnet-50", "num_parameters": 1},
        "train": {"num_rows": 64, "dataset_name": "subset", "num_steps": 1, "seconds": 1},
        "eval": {name: {"accuracy": 0.1, "num_rows": 10_000, "num_classes": 10}},
    }
    printed = load_recipe("train_classifier.py").print_results
    printed(results, "out")
    assert "paper" not in capsys.readouterr().out
    printed(results | {"paper": {name: {"figure": 95.43, "deviation": 0.2, "table": 6}}}, "out")
    assert "accuracy 10.00 %; the paper's figure is 95.43 ± 0.20 % (table 6) (10,000 rows" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_of_a_report_compares(tmp_path):
    """As a user does: select from the digits, then the command that the console and the report say. Both recipes are
    launched in processes of their own elsewhere.
    """
    quick = ["--objective", "clean", "--adaptation", "off", "--use_cpu"]
    done = run_recipe("select.py", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "clipselect_output" / "report.json").read_text())
    python, recipe, *flags = report["compare_command"].split()
    assert (python, recipe) == ("python", "recipes/train_classifier.py")
    assert f"is it worth it: {report['compare_command']}\n" in done.stdout
    assert report["compare_command"] in (tmp_path / "clipselect_output" / "report.html").read_text()
    flags += ["--num_train_epochs", "2", "--compare_seeds", "2", "--use_cpu", "--disable_tqdm", "true"]
    done = run_recipe("train_classifier.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "classifier_output" / "comparison.md").read_text() in done.stdout
    assert "| random rows | 389 | 14 |" in done.stdout and "| all rows | 1,297 | 42 |" in done.stdout
    assert "resnet-20" in done.stdout and "paper" not in done.stdout


@pytest.mark.slow
def test_two_processes_compare_as_one(selection, tmp_path):
    flags = ["--dataset_name", selection, "--compare_with", "random", "--compare_seeds", "1", "--max_steps", "3"]
    for _ in range(2):
        first, second = run_as_two(
            "train_classifier.py", *flags, "--use_cpu", "--output_dir", tmp_path / "run", cwd=tmp_path
        )
        assert first.returncode == second.returncode == 0, (first.stderr + second.stderr)[-3000:]
        assert (first.stdout + second.stdout).count("| random rows | 385 | 3 |") == 1
    assert len(list((tmp_path / "run" / "comparison").iterdir())) == 3


@pytest.mark.slow
def test_a_published_selection_is_compared(selection, tmp_path):
    """Its repository has scores alone; the rows come from the dataset that it names."""
    push = tmp_path / "push.py"
    push.write_text(
        "import sys; from huggingface_hub import HfApi; api = HfApi()\n"
        "api.create_repo('alice/kept', repo_type='dataset')\n"
        "api.upload_folder(repo_id='alice/kept', repo_type='dataset', folder_path=sys.argv[1])\n"
    )
    flags = ["--dataset_name", "alice/kept", "--dataset_config_name", "count_200", "--compare_with", "random"]
    flags += ["--compare_seeds", "1", "--max_steps", "2", "--architecture", "resnet-20", "--use_cpu"]
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = hub.environment("hf_alice_write", tmp_path / "home")
        for command in ([push, selection / "subset"], [RECIPES / "train_classifier.py", *flags]):
            done = run_python(*command, cwd=tmp_path, env=environment)
            assert done.returncode == 0, done.stderr[-3000:]
    assert "| random rows | 200 | 2 |" in done.stdout and "embedded/digits:test" in done.stdout
    card = (tmp_path / "classifier_output" / "README.md").read_text()
    assert "200 of `alice/kept`, config `count_200`, split `train`, selected from `embedded/digits`" in card
