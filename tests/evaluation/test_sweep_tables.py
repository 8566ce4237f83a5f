"""Tables and plots of a sweep, from rows that are made here: what is bold, who is better, and what old files lack."""

import math
import re

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import ttest_rel

from hf_clipselect.evaluation.comparison import METHODS, sweep_plots, write_plots, write_tables
from hf_clipselect.evaluation.comparison.sweep_tables import DEFAULT, markdown, read_rows, summaries
from hf_clipselect.selection.objective import DEFAULT_PRESET


BASE = {
    "data": "made",
    "noise_kind": "symmetric",
    "noise_rate": 0.2,
    "corruption_rate": 0.0,
    "corruption_severity": 5,
    "model": "network",
    "num_kept": 3,
    "noise_kept": 0.1,
    "noise_auroc": float("nan"),
    "corrupted_share": 0.0,
    "class_max_min": 1.0,
    "class_entropy": 1.0,
    "wall_s": 1.0,
    "cpu_s": 0.5,
    "peak_mb": 2.0,
}
ACCURACY = {
    "robust": (0.80, 0.82, 0.81, 0.80),
    "herding": (0.90, 0.92, 0.92, 0.90),
    "moderate": (0.78, 0.85, 0.81, 0.82),
    "random": (0.70, 0.74, 0.71, 0.73),
    "full": (0.95, 0.95, 0.95, 0.95),
}


def rows_of(accuracy, *, ratio=0.3, num_rows=1300, **columns):
    """Rows of one ratio from the accuracies of each method and seed."""
    return [
        {
            **BASE,
            "noise_share": 0.01 if method == "robust" else 0.2,
            **columns,
            "method": method,
            "selection_ratio": 1.0 if method == "full" else ratio,
            "num_kept": num_rows if method == "full" else round(ratio * num_rows),
            "seed": seed,
            "accuracy": value,
        }
        for method, values in accuracy.items()
        for seed, value in enumerate(values)
    ]


def test_tables_hold_means_and_deviations(tmp_path):
    rows = rows_of(ACCURACY)
    text = markdown(rows)
    assert "1,300 rows to select from; seeds 0, 1, 2, 3. Means" in text and "Settings" not in text
    assert "| `robust` | 80.8 ± 1.0 |" in text and "| `herding` | **91.0** ± 1.2 |" in text
    assert "| random rows | 72.0 ± 1.8 |" in text and "| all rows | 95.0 ± 0.0 |" in text
    assert "Damaged images" not in text and "| `herding` | - | 1.00 | 0.50 | 2 |" in text
    write_tables(rows, tmp_path, origin="a command")
    assert (tmp_path / "tables.md").read_text() == f"a command\n\n{text}"
    [line] = [line for line in pc.read_csv(tmp_path / "summary.csv").to_pylist() if line["method"] == "random"]
    assert line["accuracy_mean"] == pytest.approx(0.72) and line["num_seeds"] == 4
    assert line["accuracy_std"] == pytest.approx(np.std(ACCURACY["random"], ddof=1))
    assert pq.read_table(tmp_path / "results.parquet").num_rows == 20
    assert markdown(read_rows(tmp_path / "results.csv")) == text


def test_bold_is_the_best_alone_and_only_where_seeds_separate_it():
    text = markdown(rows_of(ACCURACY))
    # A share that differs alike in four seeds has a p-value of 1/8.
    assert text.count("**") == 2 and "| `robust` | 1.00 ± 0.00 |" in text
    assert ttest_rel(ACCURACY["herding"], ACCURACY["moderate"]).pvalue < 0.05 / 3
    # With a larger spread of the same mean it is the best still, and not told from the second.
    close = {**ACCURACY, "herding": (0.80, 1.00, 0.85, 0.99)}
    assert ttest_rel(close["herding"], close["moderate"]).pvalue > 0.05
    assert "**" not in markdown(rows_of(close))
    # All rows compete with none, and one seed tells nothing.
    assert "**91.0**" in markdown(rows_of({**ACCURACY, "full": (0.85, 0.86, 0.85, 0.84)}))
    alone = markdown(rows_of({name: values[:1] for name, values in ACCURACY.items()}))
    assert "**" not in alone and "seeds 0. One seed, so that no test tells" in alone and "| `robust` | 80.0 |" in alone


def test_seeds_are_paired_in_whatever_order_the_rows_come():
    rows = rows_of(ACCURACY)
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    assert markdown(shuffled) == markdown(rows)


def test_who_is_better_than_the_default_is_named_by_the_test_and_in_the_mean():
    assert DEFAULT == DEFAULT_PRESET == "robust"
    text = markdown(rows_of(ACCURACY) + rows_of({**ACCURACY, "herding": ACCURACY["random"]}, ratio=0.5)[:-4])
    assert "(+10.25)" in text and ttest_rel(ACCURACY["herding"], ACCURACY["robust"]).pvalue < 0.05 / 3
    assert "over the others of a column, in points: `herding` at 0.3 (+10.25).\n" in text
    assert "not separated by the test: `moderate` at 0.3 (+0.75), `moderate` at 0.5 (+0.75).\n" in text
    below = {name: values for name, values in ACCURACY.items() if name not in ("herding", "moderate")}
    assert markdown(rows_of(below)).count(": none.\n") == 2
    assert "Better than" not in markdown(rows_of({**below, "clean": below["robust"]})[4:])  # no default among them


def test_the_default_stands_beside_all_rows():
    differences = 100 * (np.array(ACCURACY["robust"]) - ACCURACY["full"])
    p_value = ttest_rel(ACCURACY["robust"], ACCURACY["full"]).pvalue
    told = f"without correction: {differences.mean():+.2f} at 0.3 (p = {p_value:.2g}).\n"
    assert told in markdown(rows_of(ACCURACY))
    alone = markdown(rows_of({name: values[:1] for name, values in ACCURACY.items()}))
    assert f"without correction: {differences[0]:+.2f} at 0.3.\n" in alone


def test_the_random_order_of_rows_that_are_not_flagged_is_told():
    assert "in random order" not in markdown(rows_of(ACCURACY))
    assert "Of `cleanlab_issues` the rows that are not flagged come in random order" in markdown(
        rows_of({**ACCURACY, "cleanlab_issues": ACCURACY["moderate"]})
    )


def test_many_better_methods_are_counted_and_the_largest_named():
    names = [name for name in METHODS if METHODS[name].family != "reference" and name != "robust"][:14]
    better = {name: tuple(0.8 + 0.01 * place + 0.001 * seed for seed in range(4)) for place, name in enumerate(names)}
    text = markdown(rows_of({**ACCURACY, **better, "robust": (0.70, 0.70, 0.70, 0.70)}))
    [line] = re.findall(r"in points: (.*)\.\n", text)
    num_others = len({*ACCURACY, *better} - {"robust", "full"})
    assert line.startswith(f"14 of {num_others}, the largest `{names[-1]}` at 0.3 (+23.15), ")
    assert line.count("`") == 20


def test_settings_stand_with_their_ratios_where_they_come_from_and_the_proxy(tmp_path):
    tuned, net = "tuned on seeds 1000, 1001", "proxy=network 64-128-10, 10 epochs"
    settings = {
        ("herding", 0.3): ("cutoff=0.3", tuned),
        ("herding", 0.5): (f"cutoff=0.1, {net}", tuned),
        ("moderate", 0.3): (f"k=1, gamma=0.5, {net}", "its paper"),
        ("moderate", 0.5): (f"k=1, gamma=0.5, {net}", "its paper"),
        ("random", 0.5): ("proxy=linear probe", "-"),
    }
    rows = []
    for row in (row for ratio in (0.3, 0.5) for row in rows_of(ACCURACY, ratio=ratio)[: -4 if ratio == 0.5 else None]):
        text, source = settings.get((row["method"], row["selection_ratio"]), ("", "-"))
        rows.append({**row, "settings": text, "settings_from": source, "num_test_rows": 1500})
    write_tables(rows, tmp_path, origin="a command")
    text = (tmp_path / "tables.md").read_text()
    assert "1,300 rows to select from, 1,500 test rows; seeds 0, 1, 2, 3. " in text
    assert text.split("| all rows |")[1].split("\n\n")[1:5] == [
        "Settings (tuned on seeds 1000, 1001): `herding`: cutoff=0.3 at 0.3, cutoff=0.1 at 0.5.",
        "Settings (its paper): `moderate`: k=1, gamma=0.5 at 0.3, 0.5.",
        "Proxy of `herding`, `moderate`: network 64-128-10, 10 epochs.",
        "Proxy of random rows: linear probe.",
    ]
    assert text == f"a command\n\n{markdown(read_rows(tmp_path / 'results.csv'))}"
    # Without any, the empty columns are texts still, and nothing is said.
    without = [{**row, "settings": "", "settings_from": "-"} for row in rows]
    write_tables(without, tmp_path, origin="a command")
    text = (tmp_path / "tables.md").read_text()
    assert "Settings" not in text and text == f"a command\n\n{markdown(read_rows(tmp_path / 'results.csv'))}"


def test_files_of_earlier_versions_are_read_with_the_columns_that_they_lack(tmp_path):
    columns = [name for name in rows_of(ACCURACY)[0] if name not in ("settings", "settings_from", "train_seconds")]
    lines = [",".join(columns), *(",".join(str(row[name]) for name in columns) for row in rows_of(ACCURACY))]
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    rows = read_rows(tmp_path / "results.csv")
    assert {(row["settings"], row["settings_from"]) for row in rows} == {("", "-")}
    assert all(math.isnan(row["train_seconds"]) for row in rows)
    assert markdown(rows) == markdown(rows_of(ACCURACY))
    assert "train_seconds" not in summaries(rows)[0].figures


def test_further_test_sets_and_five_classes_have_tables_of_their_own():
    further = {"accuracy_hard": -0.5, "top_5_accuracy": 0.05, "top_5_accuracy_hard": -0.3}
    rows = [
        {**row, **{name: row["accuracy"] + change for name, change in further.items()}} for row in rows_of(ACCURACY)
    ]
    text = markdown(rows)
    for caption, best, full in (
        ("Test accuracy on hard, network, %", "41.0", "45.0"),
        ("Top-5 test accuracy, network, %", "96.0", "100.0"),
        ("Top-5 test accuracy on hard, network, %", "61.0", "65.0"),
    ):
        table = text.split(f"\n{caption}:\n\n")[1].split("\n\n")[0]
        assert f"| `herding` | **{best}** ± 1.2 |" in table and f"| all rows | {full} ± 0.0 |" in table


def rows_of_trainings():
    """At two ratios, with the seconds of each training."""
    return [
        {**row, "train_seconds": 100 * row["selection_ratio"] + row["seed"], "wall_s": float(row["method"] != "full")}
        for ratio in (0.3, 0.5)
        for row in rows_of(ACCURACY, ratio=ratio)[: -4 if ratio == 0.5 else None]
    ]


def rows_of_corruptions():
    """At two ratios, with three shares of damaged images, which cost as many points."""
    return [
        {**row, "accuracy": row["accuracy"] - rate, "corruption_rate": rate}
        for rate in (0.2, 0.0, 0.1)
        for row in rows_of_trainings()
    ]


def test_accuracy_is_drawn_against_the_time_to_select_and_train():
    # Half of the rows train 51.5 seconds in the mean of four seeds, and are selected in one.
    lines = drawn_lines(sweep_plots._against_time(summaries(rows_of_trainings())[0]))
    assert lines["herding"] == [(32.5, pytest.approx(91.0)), (52.5, pytest.approx(91.0))]
    assert lines["all rows"] == [(101.5, pytest.approx(95.0))]


def test_accuracy_is_drawn_against_the_share_of_damaged_images():
    [same] = sweep_plots._but_for_corruption(summaries(rows_of_corruptions()))
    drawn = sweep_plots._against_corruption(same, 0.5)
    assert drawn_lines(drawn)["herding"] == [(x, pytest.approx(91 - x)) for x in (0.0, 10.0, 20.0)]
    assert drawn_lines(drawn)["all rows"] == [(x, pytest.approx(95 - x)) for x in (0.0, 10.0, 20.0)]
    assert drawn.get_suptitle() == "made, 20% wrong labels (symmetric); network"


@pytest.mark.slow
def test_plots_are_those_that_the_rows_have_figures_for(tmp_path):
    def names(rows):
        return {path.stem for path in write_plots(rows, tmp_path)}

    assert names(rows_of(ACCURACY)) == {"accuracy", "cost", "noise_share"}
    rows = rows_of_trainings()
    assert names(rows) == {"accuracy", "cost", "noise_share", "time"}
    rows[0]["train_seconds"] = float("nan")  # of a result that was there before seconds were recorded
    assert names(rows) == {"accuracy", "cost", "noise_share"}
    damaged = names(rows_of_corruptions())
    assert {name for name in damaged if "at" in name} == {"corruption_at_30_noise_20", "corruption_at_50_noise_20"}
    of_each = {f"{kind}_noise_20_corruption_{rate}" for kind in ("accuracy", "cost", "time") for rate in (0, 10, 20)}
    assert of_each | {"corrupted_share_noise_20_corruption_10"} < damaged


def drawn_lines(drawn):
    """Name -> points, of all panels."""
    return {
        container.get_label(): [tuple(point) for point in container[0].get_xydata()]
        for axes in drawn.axes
        for container in axes.containers
    }
