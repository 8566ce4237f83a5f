"""The acceptance on digits: of wrong labels and damaged images little is kept, the adapters are accurate, the kept
rows train well.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from recipe_files import RECIPES, launch_recipe, run_recipe

from hf_clipselect.data import read_images
from hf_clipselect.data.source import load_source
from hf_clipselect.evaluation.kept_damage import markdown, measure_seed


# Wrong labels among the kept rows may be at most this share, at each ratio and for each seed.
LIMITS = {"0.2": 0.005, "0.3": 0.005, "0.7": 0.01, "0.8": 0.03, "0.9": 0.12}
# The same of damaged images, for the mean of the seeds.
CORRUPTION_LIMITS = {"0.2": 0.07, "0.3": 0.07, "0.5": 0.08, "0.8": 0.14}
RESULTS = RECIPES / "results"


def measured(seeds: Sequence[int], **settings: object) -> tuple[list[dict], str]:
    """What the recipe measures with its defaults and these, but for the networks; and its tables."""
    clean, test = (read_images(*load_source("embedded/digits", split=split)) for split in ("train", "test"))
    given = {"noise_rate": 0.2, "corruption_rate": 0.0, "corruption_severity": 5, "objective": "clean", **settings}
    given.setdefault("selection_ratio", [float(ratio) for ratio in LIMITS])
    runs = [
        measure_seed(
            seed, clean, test, model_name="embedded/tiny-clip", adaptation="auto", train_network=False, **given
        )
        for seed in seeds
    ]
    return runs, markdown({**given, "dataset_name": "embedded/digits", "runs": runs})


def launched(start: Callable, folder: Path, *flags: str) -> tuple[list[dict], str]:
    """What the recipe writes and prints."""
    done = start("label_noise.py", "--output_dir", "results", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    tables = (folder / "results" / "tables.md").read_text(encoding="utf-8")
    assert tables.startswith("`python recipes/label_noise.py --output_dir results") and tables.endswith(
        done.stdout[:-1]
    )
    return json.loads((folder / "results" / "results.json").read_text())["runs"], done.stdout


def mean_over_seeds(runs: list[dict], key: str) -> dict[str, float]:
    return {ratio: float(np.mean([run[key][ratio] for run in runs])) for ratio in runs[0][key]}


@pytest.mark.slow
def test_few_wrong_labels_are_kept_with_three_seeds():
    runs, tables = measured([0, 1, 2])
    assert [run["seed"] for run in runs] == [0, 1, 2]
    for run in runs:
        for ratio, limit in LIMITS.items():
            assert run["noise_among_kept"][ratio] <= limit, (run["seed"], ratio)
        assert run["adapters_kept"] and run["test_accuracy_adapted"] >= 0.9
    # Up to the last digits of another processor.
    assert row_of(tables, "mean") == pytest.approx(committed_means("clean"), abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["released", "paper"])
def test_the_committed_results_tell_what_the_other_objectives_keep(objective):
    _, tables = measured([0], objective=objective, selection_ratio=[0.2, 0.3, 0.5, 0.7, 0.8, 0.9])
    shares = [100 * share for share in committed_runs(objective)[0]["noise_among_kept"].values()]
    assert row_of(tables, "mean") == pytest.approx(shares, abs=0.5) and len(shares) == 6


@pytest.mark.slow
def test_few_damaged_images_are_kept_at_the_severity_of_the_paper():
    ratios = [float(ratio) for ratio in CORRUPTION_LIMITS]
    runs, tables = measured([0, 1, 2], noise_rate=0.0, corruption_rate=0.2, selection_ratio=ratios)
    shares = mean_over_seeds(runs, "corrupted_among_kept")
    assert [ratio for ratio, limit in CORRUPTION_LIMITS.items() if shares[ratio] > limit] == [], shares
    table = tables[tables.index("Damaged images among") :]
    assert row_of(table, "mean") == pytest.approx([100 * share for share in shares.values()], abs=0.01)
    assert set(mean_over_seeds(runs, "noise_among_kept").values()) == {0}
    assert max(len(line) for line in tables.splitlines()) <= 120


@pytest.mark.slow
def test_what_diverse_keeps_trains_better_than_random_rows_and_as_well_as_all(tmp_path):
    runs, printed = launched(
        launch_recipe, tmp_path, *"--objective diverse --selection_ratio 0.2 0.3 0.5 0.7 0.8 0.9".split()
    )
    limits = {"0.2": 0.02, "0.3": 0.02, "0.5": 0.015, "0.7": 0.015, "0.8": 0.035, "0.9": 0.12}
    noise = mean_over_seeds(runs, "noise_among_kept")
    assert [ratio for ratio, limit in limits.items() if noise[ratio] > limit] == [], noise
    assert row_of(printed, "mean") == pytest.approx(committed_means("diverse"), abs=0.5)
    assert max(max(run["class_max_min"].values()) for run in runs) <= 1.3
    accuracy = [run["network_accuracy"] for run in runs]
    kept, random, everything = (mean_over_seeds(accuracy, name) for name in ("kept", "random", "all"))
    assert min(kept[ratio] - random[ratio] for ratio in ("0.2", "0.3")) >= 0.02, (kept, random)
    assert min(kept[ratio] - everything[ratio] for ratio in ("0.5", "0.7", "0.8", "0.9")) >= -0.005, (kept, everything)
    # A fifth of the labels of random rows is wrong: they train something, and no more than all rows do.
    assert all(0.5 < random[ratio] <= everything[ratio] + 0.01 for ratio in random)
    assert row_of(printed, "random") == pytest.approx([100 * share for share in random.values()], abs=0.01)


@pytest.mark.slow
def test_what_diverse_keeps_of_damaged_images_trains_no_worse_than_random_rows(tmp_path):
    flags = "--objective diverse --noise_rate 0 --corruption_rate 0.2 --selection_ratio 0.2 0.3".split()
    runs, _ = launched(run_recipe, tmp_path, *flags)
    shares = mean_over_seeds(runs, "corrupted_among_kept")
    assert max(shares.values()) <= 0.18, shares  # random rows hold 0.2
    accuracy = [run["network_accuracy"] for run in runs]
    kept, random = (mean_over_seeds(accuracy, name) for name in ("kept", "random"))
    assert all(kept[ratio] >= random[ratio] for ratio in kept), (kept, random)


def row_of(text: str, name: str) -> list[float]:
    """The figures of the first row of that name, without deviations and what is no figure."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.replace("*", "").split("±")[0].strip() for cell in line.split("|")[2:-1]]
    return [float(cell) for cell in cells if cell]


def committed_means(objective: str) -> list[float]:
    return row_of((RESULTS / f"label_noise_{objective}" / "tables.md").read_text(encoding="utf-8"), "mean")


def committed_runs(objective: str) -> list[dict]:
    return json.loads((RESULTS / f"label_noise_{objective}" / "results.json").read_text())["runs"]
