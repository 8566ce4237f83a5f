"""Regret, tests against random rows and figures of the noise model, against calculations by hand."""

import re

import numpy as np
import pytest
from recipe_files import RECIPES, load_recipe
from scipy.stats import t as student
from scipy.stats import ttest_rel

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison.regret_tables import (
    Accuracies,
    against_random,
    read_regrets,
    regret_markdown,
    write_regret_tables,
)


RESULTS = sorted(path.parent for path in (RECIPES / "results").glob("*/accuracy.csv"))


def rows_of(accuracies, *, data="made", noise_kind="symmetric", noise_rate=0.2, ratio=0.5):
    """Rows of one cell from accuracies of each method and seed."""
    return [
        {
            "data": data,
            "noise_kind": noise_kind,
            "noise_rate": noise_rate,
            "selection_ratio": 1.0 if method == "full" else ratio,
            "method": method,
            "seed": seed,
            "accuracy": accuracy,
        }
        for method, of_method in accuracies.items()
        for seed, accuracy in enumerate(of_method)
    ]


FIRST = {"diverse": (0.90, 0.80), "herding": (0.80, 0.86), "random": (0.70, 0.74), "full": (1.0, 1.0)}
SECOND = {"diverse": (0.50, 0.50), "herding": (0.50, 0.52), "random": (0.60, 0.60), "full": (1.0, 1.0)}
NOISE = [
    {
        "data": data,
        "noise_kind": "symmetric",
        "noise_rate": rate,
        "seed": seed,
        "true_share": rate,
        "share": rate + error,
        "share_error": 0.01,
        "cleanlab_share": rate - 0.05,
        "noise_model": 0.98 if rate else float("nan"),
        "clip_margin": 0.90 if rate else float("nan"),
        "regression": 0.99 if rate else float("nan"),
    }
    for data in ("made", "other")
    for rate in (0.0, 0.2)
    for seed, error in enumerate((0.02, -0.04 if rate else 0.0))
]


def both_cells():
    return rows_of(FIRST) + rows_of(SECOND, data="other", ratio=0.2)


def test_regret_is_taken_from_the_method_with_the_best_mean_of_the_cell():
    accuracies = Accuracies.of_rows(both_cells())
    assert accuracies.cells == [("made", "symmetric", 0.2, 0.5), ("other", "symmetric", 0.2, 0.2)]
    assert accuracies.methods == ["diverse", "herding", "random"] and accuracies.seeds == [0, 1]
    # Of the first cell diverse is the best, 85 on average: herding is 10 behind it, then 6 ahead.
    assert accuracies.regrets[0] == pytest.approx(np.array([[0, 0], [10, -6], [20, 6]]))
    assert accuracies.regrets[1] == pytest.approx(np.array([[10, 10], [10, 8], [0, 0]]))
    assert accuracies.gains("herding") == pytest.approx(np.array([[10, 12], [-10, -8]]))


def test_tables_have_the_standard_error_over_seeds_of_the_mean_over_cells():
    text = regret_markdown(Accuracies.of_rows(both_cells()), NOISE)
    # Over both cells herding is 10 and 1 points behind in the two seeds: 5.5 with a standard error of 4.5.
    assert "| method | made | other | all |" in text
    assert "| `herding` | 2.00 ± 8.00 | 9.00 ± 1.00 | 5.50 ± 4.50 |" in text
    assert "| `diverse` | 0.00 ± 0.00 | 10.00 ± 0.00 | 5.00 ± 0.00 |" in text
    assert "| random rows | 13.00 ± 7.00 | 0.00 ± 0.00 | 6.50 ± 3.50 |" in text
    assert "**" not in text  # what two seeds differ by may be chance
    assert "| `diverse` | +1.50 | other, symmetric 20%, 0.2 | -10.00 | 0 | 0 |" in text  # two seeds that differ alike
    assert "| `herding` | +1.00 | other, symmetric 20%, 0.2 | -9.00 | 0 | 0 |" in text
    assert "| made | none | 0.0 | 1.0 | -5.0 |" in text and "| other | symmetric 20% | 20.0 | 19.0 | 15.0 |" in text
    assert "| made | 2.0 | 5.0 |" in text and "| all | 2.0 | 5.0 |" in text  # of 2, 0, 2 and 4 points
    assert "| made | symmetric 20% | 98.00 | 90.00 | 99.00 | -1.00 |" in text
    assert "AUROC" in text and "| made | none | nan" not in text


def test_bold_is_what_the_test_separates_from_the_second():
    first = {"diverse": (0.90, 0.89, 0.91, 0.90), "herding": (0.85, 0.83, 0.87, 0.84), "random": (0.7, 0.9, 0.7, 0.6)}
    second = {"diverse": (0.50, 0.49, 0.51, 0.50), "herding": (0.52, 0.48, 0.56, 0.51), "random": (0.4, 0.5, 0.4, 0.4)}
    assert 2 * ttest_rel(first["diverse"], first["herding"]).pvalue < 0.05
    assert ttest_rel(second["diverse"], second["herding"]).pvalue > 0.05
    text = regret_markdown(Accuracies.of_rows(rows_of(first) + rows_of(second, data="other", ratio=0.2)), NOISE)
    assert "| `diverse` | **0.00** ± 0.00 | 1.75 ± 1.25 |" in text
    assert "| `herding` | 5.25 ± 0.48 | 0.00 ± 0.00 |" in text
    assert "Test accuracy, made, mean over the ratios, %:\n\n| method | symmetric 20% |\n|---|---|\n" in text
    assert "| `diverse` | **90.0** |\n| `herding` | 84.8 |\n" in text
    assert "| `diverse` | 50.0 |\n| `herding` | 51.8 |\n" in text
    assert "Better than" not in text  # the default is not among them


def test_who_is_better_than_the_default_is_named_for_each_set_and_all():
    first = {"robust": (0.90, 0.89, 0.91, 0.90), "herding": (0.85, 0.83, 0.87, 0.85), "random": (0.7, 0.9, 0.7, 0.6)}
    second = {"robust": (0.5, 0.5, 0.5, 0.5), "herding": (0.70, 0.69, 0.71, 0.72), "random": (0.4, 0.7, 0.4, 0.6)}
    text = regret_markdown(Accuracies.of_rows(rows_of(first) + rows_of(second, data="other", ratio=0.2)), NOISE)
    # In all: (20.5 - 5) / 2 points.
    assert "in points: `herding` in other (+20.50), `herding` in all (+7.75).\n" in text
    assert "in the mean, not separated by the test: random rows in other (+2.50).\n" in text
    assert "in points: `herding` in symmetric (+7.75).\n" in text  # and by kind of noise
    [found] = re.findall(r"Largest regrets of `robust`:\n\n.*\n.*\n((?:\|.*\n)+)", text)
    assert found.splitlines() == [
        "| other | symmetric 20% | 0.2 | 50.0 | 70.5 | `herding` |",
        "| made | symmetric 20% | 0.5 | 90.0 | 90.0 | `robust` |",
    ]


def test_a_loss_counts_from_its_size_and_the_paired_test():
    gains = np.array(
        [[-2.0, -2.2, -1.8, -2.1, -1.9], [-9.0, 8.0, -9.0, 8.0, -9.0], [-0.29] * 5, [0.0] * 5, [-1.0] * 5, [2.0] * 5]
    )
    tested = against_random(gains)
    first = gains[0].mean() / (gains[0].std(ddof=1) / 5**0.5)
    assert tested.p_values[0] == pytest.approx(2 * student.sf(abs(first), df=4))
    assert tested.p_values[3] == 1 and tested.gains == pytest.approx(gains.mean(axis=1))
    assert tested.below.tolist() == [True, False, False, False, False, False]
    many = against_random(np.concatenate([gains[:1], np.tile(gains[1], (9000, 1))]))
    assert many.below[0] and many.p_values[0] * 9001 > 0.05 and not many.below_by_holm[0]


def test_sweeps_that_do_not_go_together_are_told():
    rows = both_cells()
    with pytest.raises(InputError, match=r"2 results are missing, first \('other', .*'herding', 0\)"):
        Accuracies.of_rows([row for row in rows if (row["data"], row["method"]) != ("other", "herding")])
    with pytest.raises(InputError, match="12 results are given for 6 cells"):
        Accuracies.of_rows([*rows_of(FIRST), *rows_of(FIRST)])
    with pytest.raises(InputError, match="compared with random rows, which are not among diverse, herding"):
        Accuracies.of_rows([row for row in rows if row["method"] != "random"])


def test_what_is_written_gives_the_same_tables(tmp_path):
    write_regret_tables(both_cells(), NOISE, tmp_path, origin="a command\n\nwhat it is of")
    accuracies, noise_rows = read_regrets(tmp_path)
    assert accuracies.values == pytest.approx(Accuracies.of_rows(both_cells()).values)
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert text == f"a command\n\nwhat it is of\n\n{regret_markdown(accuracies, noise_rows)}"
    recipe = load_recipe("publish_results.py")
    recipe.keep(tmp_path, tmp_path / "kept" / "robust")
    kept = {path.name for path in (tmp_path / "kept" / "robust").iterdir()}
    assert kept == {"accuracy.csv", "noise.csv", "tables.md"}


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_committed_pages_are_those_of_their_results(folder):
    text = (folder / "tables.md").read_text(encoding="utf-8")
    accuracies, noise_rows = read_regrets(folder)
    assert text.startswith("`python recipes/compare_regret.py ") and text.endswith(
        regret_markdown(accuracies, noise_rows)
    )
    assert len(accuracies.seeds) >= 5
