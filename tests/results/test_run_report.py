import json

import numpy as np
import pytest
from made_reports import random_table, run_entries, summarize_table, with_random_noise

from hf_clipselect.errors import InputError
from hf_clipselect.results.run_report import MAX_GROUPS_LISTED, report_at, summarize, write_json
from hf_clipselect.results.subsets import select_from_table
from hf_clipselect.scores.trust import measure_trust
from hf_clipselect.selection import resolve_objective


def test_summary_by_hand(eight_report):
    assert eight_report["num_rows"] == 8
    assert eight_report["num_unreadable"] == 1
    assert eight_report["unreadable"] == [{"source_index": 6, "reason": "Cannot read image: truncated."}]
    assert eight_report["classes"] == [
        {
            "name": "cat",
            "rows": 4,
            "share": 0.5,
            "accuracy_before": 1 / 3,
            "accuracy_after": 2 / 3,
            "kept": {"50": 2, "12_5": 0},
        },
        {
            "name": "dog",
            "rows": 4,
            "share": 0.5,
            "accuracy_before": 0.5,
            "accuracy_after": 0.75,
            "kept": {"50": 2, "12_5": 1},
        },
        {
            "name": "bird",
            "rows": 0,
            "share": 0.0,
            "accuracy_before": None,
            "accuracy_after": None,
            "kept": {"50": 0, "12_5": 0},
        },
    ]
    assert eight_report["classes_without_images"] == ["bird"]
    assert eight_report["accuracy_before"] == 3 / 7
    assert eight_report["accuracy_after"] == 5 / 7
    assert eight_report["subsets"] == [
        {
            "ratio": 0.5,
            "name": "ratio_50",
            "suffix": "50",
            "count": None,
            "auto_ratio": None,
            "rows": 4,
            "cut_score": 0.125,
            "label_agrees_kept": 1.0,
            "label_agrees_dropped": 1 / 3,
            "class_share_min": 0.5,
            "class_share_max": 0.5,
        },
        {
            "ratio": 0.125,
            "name": "ratio_12_5",
            "suffix": "12_5",
            "count": None,
            "auto_ratio": None,
            "rows": 1,
            "cut_score": 0.625,
            "label_agrees_kept": 1.0,
            "label_agrees_dropped": 4 / 6,
            "class_share_min": 0.0,
            "class_share_max": 0.25,
        },
    ]
    # The seven finite values of sas in order: 0.125 0.25 0.5 0.625 0.75 0.75 0.875.
    assert eight_report["score_quantiles"]["sas"] == {
        "0": 0.125,
        "0.05": pytest.approx(0.1625),
        "0.25": 0.375,
        "0.5": 0.625,
        "0.75": 0.75,
        "0.95": pytest.approx(0.8375),
        "1": 0.875,
    }


def test_summary_has_plain_json_types_only(eight_report):
    def check(value):
        assert type(value) in (dict, list, str, int, float, bool, type(None)), type(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(item)

    check(eight_report)
    assert eight_report["adaptation"]["standard_error"] is None
    assert eight_report["arguments"]["selection_ratio"] == [0.5, 0.25]


def test_summary_of_rows_that_were_picked_and_reordered(eight_rows, eight_report):
    # A selected Dataset keeps its whole table behind an index; the index must count.
    order = [7, 6, 5, 4, 3, 2, 1, 0]
    turned = summarize(
        eight_rows.select(order),
        class_names=["cat", "dog", "bird"],
        ratios=[0.5, 0.125],
        plain_agrees=np.array([1, 0, 0, 0, 1, 1, 0, 0], dtype=bool)[order],
        run=run_entries(),
        unreadable={6: "Cannot read image: truncated."},
    )
    assert turned == eight_report


def test_summary_refuses_agreements_of_another_length(eight_rows):
    with pytest.raises(InputError, match="7 entries for 8 rows"):
        summarize(
            eight_rows,
            class_names=["cat", "dog", "bird"],
            ratios=[0.5],
            plain_agrees=np.zeros(7, dtype=bool),
            run=run_entries(),
            unreadable={},
        )


def test_summary_lists_at_most_100_unreadable_rows():
    scores = random_table(300, ["a", "b"])
    report = summarize_table(scores, unreadable={index: "gone" for index in range(250, 100, -1)})
    assert report["num_unreadable"] == 150
    assert [entry["source_index"] for entry in report["unreadable"]] == list(range(101, 201))


@pytest.mark.parametrize("ratios", [(0.25,), (0.7, 0.3, 0.125)])
def test_the_report_of_another_ratio_is_what_a_run_there_reports(ratios):
    table, unreadable = random_table(300, ["a", "b", "never seen"]), {7: "gone"}
    objective = resolve_objective("clean")
    other = select_from_table(table, objective, ratios)
    report = summarize_table(select_from_table(table, objective, (0.3,)), unreadable=unreadable)
    expected = summarize_table(other, ratios, unreadable=unreadable)
    expected["arguments"]["selection_ratio"] = list(ratios)
    before = json.dumps(report)
    assert report_at(report, other, ratios) == expected
    assert report_at(json.loads(before), other, ratios) == expected
    assert json.dumps(report) == before
    without = {**report, "arguments": {}}
    assert report_at(without, other, ratios)["arguments"] == {}


def test_write_json_is_strict_and_readable(tmp_path, eight_report):
    eight_report["classes"][0]["name"] = "\u732b <&>"
    write_json(tmp_path / "report.json", eight_report)

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == eight_report
    assert "\u732b <&>" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_groups_by_hand(eight_rows, eight_report):
    assert eight_report["groups"] == [] and eight_report["num_groups"] == 0
    grouped = eight_rows.add_column("group", ["zoo", "home", "home", "home", "zoo", "home", "\u732b", "zoo"])
    # Rows 0, 1, 4 and 5 are kept at a half, row 4 at an eighth.
    report = summarize_table(grouped, ratios=(0.5, 0.125))
    assert report["groups"] == [
        {"name": "home", "rows": 4, "share": 0.5, "kept": {"50": 2, "12_5": 0}},
        {"name": "zoo", "rows": 3, "share": 0.375, "kept": {"50": 2, "12_5": 1}},
        {"name": "\u732b", "rows": 1, "share": 0.125, "kept": {"50": 0, "12_5": 0}},
    ]
    assert report["num_groups"] == 3
    at_an_eighth = report_at(report, grouped, (0.125,))
    assert [entry["kept"] for entry in at_an_eighth["groups"]] == [{"12_5": 0}, {"12_5": 1}, {"12_5": 0}]
    # A selected Dataset keeps its whole table behind an index; the index must count.
    order = [7, 6, 5, 4, 3, 2, 1, 0]
    assert summarize_table(grouped.select(order), ratios=(0.5, 0.125))["groups"] == report["groups"]


def test_the_largest_of_too_many_groups_are_listed():
    num_rows = 3 * MAX_GROUPS_LISTED
    scores = random_table(num_rows, ["a", "b"]).add_column("group", [f"g{max(row, 9):04}" for row in range(num_rows)])
    report = summarize_table(scores)
    assert report["num_groups"] == num_rows - 9
    assert [entry["name"] for entry in report["groups"]] == [
        f"g{9 + number:04}" for number in range(MAX_GROUPS_LISTED)
    ]
    assert report["groups"][0]["rows"] == 10


def test_trust_is_in_the_report_and_stays_at_another_ratio(eight_rows):
    labels, plain = np.array([0, 0, 0, 0, 0, 1]), np.array([1, 1, 1, 1, 1, 1])
    trust = measure_trust(labels, plain, None, np.eye(2, dtype=np.float32), ["cat", "dog"])
    report = summarize_table(eight_rows, ratios=(0.5,), trust=trust)
    assert report["trust"] == trust.to_dict() and json.loads(json.dumps(report)) == report
    assert report_at(report, eight_rows, (0.125,))["trust"] == report["trust"]
    assert summarize_table(eight_rows, ratios=(0.5,))["trust"] is None


def test_the_entry_of_auto_has_the_figure_that_it_came_to():
    table = with_random_noise(random_table(300, ["a", "b"]))
    report = summarize_table(select_from_table(table, resolve_objective("clean"), ("auto", 0.5)), ("auto", 0.5))
    auto, half = report["subsets"]
    rows = round(300 * (1 - report["noise"]["estimated_share"]))
    assert 150 < rows < 300
    assert (auto["name"], auto["suffix"], auto["rows"]) == ("ratio_auto", "auto", rows)
    assert (auto["ratio"], auto["auto_ratio"], auto["count"]) == (rows / 300, round(rows / 300, 4), None)
    assert (half["ratio"], half["auto_ratio"]) == (0.5, None)
    assert report_at(report, select_from_table(table, resolve_objective("clean"), ("auto",)), ("auto",))[
        "subsets"
    ] == [auto]
