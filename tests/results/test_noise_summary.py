import json
from collections import Counter

import numpy as np
import pytest
from made_reports import (
    make_eight_noisy_rows,
    make_eight_rows,
    random_table,
    scores_table,
    summarize_table,
    with_noise,
    with_random_noise,
)

from hf_clipselect.results.noise_summary import MAX_TRANSITIONS, noise_summary
from hf_clipselect.results.run_report import report_at


def test_summary_by_hand():
    assert noise_summary(make_eight_noisy_rows(), share_error=0.01) == {
        "estimated_share": 3.0 / 7,
        "share_error": 0.01,
        "by_class": {"cat": pytest.approx(0.875 / 3), "dog": 2.125 / 4},
        "transitions": [
            {"label": "dog", "clean_label": "bird", "rows": 2},
            {"label": "cat", "clean_label": "dog", "rows": 1},
        ],
    }


def test_nothing_is_told_without_a_noise_model_or_a_row():
    assert noise_summary(make_eight_rows()) is None
    assert noise_summary(make_eight_noisy_rows().remove_columns("clean_label")) is None
    unreadable = scores_table(
        ["a"], labels=[0], predicted=[None], sas=[np.nan], margin=[np.nan], sds=[np.nan], selected={"30": set()}
    )
    assert noise_summary(with_noise(unreadable, [np.nan], [None])) is None


def test_summary_is_that_of_the_slow_obvious_version():
    names = [f"class {number}" for number in range(12)]
    scores = with_random_noise(random_table(2000, names))
    found = noise_summary(scores)
    pairs = Counter((row["label"], row["clean_label"]) for row in scores if row["label"] != row["clean_label"])
    expected = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:MAX_TRANSITIONS]
    assert found["transitions"] == [
        {"label": names[label], "clean_label": names[clean], "rows": rows} for (label, clean), rows in expected
    ]
    assert len(pairs) > MAX_TRANSITIONS
    for number, name in enumerate(names):
        wrong = [row["label_error_probability"] for row in scores if row["label"] == number]
        assert found["by_class"][name] == pytest.approx(sum(wrong) / len(wrong), rel=1e-12)
    assert found["estimated_share"] == pytest.approx(np.mean(scores["label_error_probability"][:]), rel=1e-6)
    order = np.random.default_rng(0).permutation(2000)
    assert noise_summary(scores.select(order)) == {
        **found,
        "estimated_share": pytest.approx(found["estimated_share"], rel=1e-12),
        "by_class": {name: pytest.approx(share, rel=1e-12) for name, share in found["by_class"].items()},
    }


def test_the_report_has_it_at_every_size():
    rows = make_eight_noisy_rows()
    report = summarize_table(rows, ratios=(0.5,), share_error=0.01)
    assert report["noise"] == noise_summary(rows, 0.01) and json.loads(json.dumps(report)) == report
    assert report_at(report, rows, (0.125,))["noise"] == report["noise"]
    assert summarize_table(make_eight_rows(), ratios=(0.5,))["noise"] is None


def test_what_a_saved_report_claims_is_counted_anew():
    rows = make_eight_noisy_rows()
    report = summarize_table(rows, ratios=(0.5,), share_error=0.01)
    claimed = report | {"noise": {"estimated_share": 0.99, "share_error": 0.01, "by_class": {}, "transitions": []}}
    assert report_at(claimed, rows, (0.5,))["noise"] == report["noise"]
    of_an_earlier_version = {key: value for key, value in report.items() if key != "noise"}
    assert report_at(of_an_earlier_version, make_eight_rows(), (0.5,))["noise"] is None
