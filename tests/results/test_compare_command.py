"""The command of a report that tells whether the rows that were kept are worth it."""

import html

import pytest
from made_results import make_report, make_result

from hf_clipselect.results.compare_command import compare_command
from hf_clipselect.results.report import write_html
from hf_clipselect.results.run_report import report_at
from hf_clipselect.results.saved_selection import published_report


START = "python recipes/train_classifier.py --dataset_name"


@pytest.mark.parametrize(
    ("folder", "sizes", "expected"),
    [
        ("out", (0.3, 0.5), "out --selection_ratio 0.3"),
        ("my out/a", (0.125,), "'my out/a' --selection_ratio 0.125"),
        ("out", ("auto", 0.5), "out --dataset_config_name ratio_auto"),
        ("out", (500,), "out --dataset_config_name count_500"),
    ],
)
def test_the_command_is_for_the_first_size(folder, sizes, expected):
    command = compare_command({"output_dir": folder}, None, sizes)
    assert command == f"{START} {expected} --compare_with random full"


def test_there_is_none_without_a_folder_or_classes():
    assert compare_command({}, None, (0.3,)) is None
    assert compare_command({"output_dir": "out"}, {"num_captions": 5}, (0.3,)) is None


def test_the_report_has_it_and_what_is_published_has_not(images_dataset, tmp_path):
    result = make_result(images_dataset, (0.5, 0.3), report=True)
    report = result.report
    assert report["compare_command"] == f"{START} /home/me/out --selection_ratio 0.5 --compare_with random full"
    assert "compare_command" not in published_report(report)
    other = report_at(report, result.at(0.3).scores, (0.3,))
    assert "--selection_ratio 0.3 " in other["compare_command"]
    for shown in (report, make_report(result, arguments={})):
        write_html(tmp_path / "report.html", shown, result.scores, dataset=None, image_column=None)
        page = html.unescape((tmp_path / "report.html").read_text())
        assert (f"<code>{report['compare_command']}</code>" in page) == (shown is report)
        assert ("Is it worth it?" in page) == (shown is report)
