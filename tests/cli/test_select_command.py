from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from made_reports import with_random_noise
from made_results import make_report, make_result

from hf_clipselect.adapters.decision import Adaptation
from hf_clipselect.cli import run_summary
from hf_clipselect.cli.run_summary import duration
from hf_clipselect.cli.select_command import summary
from hf_clipselect.config.arguments import Arguments, HubArguments
from hf_clipselect.results.subsets import select_from_table


def summary_of(dataset, change=lambda scores: scores, sizes=(0.5, 0.3)):
    result = make_result(dataset, name="me/things")
    scores = select_from_table(change(result.scores), result.objective, sizes)
    result = replace(result, scores=scores, ratios=sizes)
    result = replace(result, report=make_report(result))
    return result.report["noise"], summary(result, Arguments(), seconds=1).splitlines()


def test_the_summary_tells_how_wrong_the_labels_look(images_dataset):
    noise, lines = summary_of(images_dataset, with_random_noise)
    share = f"about {100 * noise['estimated_share']:.0f} % of the labels look wrong"
    pairs = [
        f"{pair['label']} looks like {pair['clean_label']} ({pair['rows']} rows)" for pair in noise["transitions"]
    ]
    assert len(pairs) == 6  # of three classes
    assert lines[1] == f"{share} (human mistakes are often under-counted): {', '.join(pairs[:3])}"
    assert lines[2].startswith("ratio_50: 30 rows; ") and lines[3] == "ratio_30: 18 rows"
    assert not any("random rows" in line for line in lines)


def test_the_summary_names_no_pairs_where_no_label_looks_wrong(images_dataset):
    _, lines = summary_of(images_dataset, partial(with_random_noise, highest=0.01))
    assert lines[1] == "less than 1 % of the labels look wrong (human mistakes are often under-counted)"


def test_the_summary_without_a_noise_model_tells_nothing_of_labels(images_dataset):
    noise, lines = summary_of(images_dataset)
    assert noise is None and len(lines) == 8 and lines[1].startswith("ratio_50: 30 rows; ")


def test_the_summary_of_a_checkout_has_the_command_that_tells_whether_it_is_worth_it(images_dataset):
    _, lines = summary_of(images_dataset)
    command = "python recipes/train_classifier.py --dataset_name /home/me/out --selection_ratio 0.5"
    assert lines[-2] == f"is it worth it: {command} --compare_with random full"


def test_a_wheel_has_no_recipes_to_name(images_dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(run_summary, "_RECIPE", tmp_path / "train_classifier.py")
    _, lines = summary_of(images_dataset)
    assert not any("recipes" in line for line in lines) and lines[-2].startswith("report: ")


def test_the_summary_says_where_auto_keeps_all(images_dataset):
    _, lines = summary_of(images_dataset, partial(with_random_noise, highest=0.01), ("auto", 0.3))
    assert lines[2].startswith("ratio_auto: 60 rows; ")
    keeps_all = "ratio_auto keeps all rows, since no label looks wrong; for a smaller set random rows would do"
    assert lines[3] == f"ratio_30: 18 rows; {keeps_all}"
    assert '"ratio_auto", split="train"' in lines[5]
    noise, lines = summary_of(images_dataset, with_random_noise, ("auto",))
    assert lines[2].startswith(f"ratio_auto: {round(60 * (1 - noise['estimated_share']))} rows; ")
    assert not any("random rows" in line for line in lines)


def test_the_call_that_loads_auto_from_scores_alone_can_be_run(images_dataset):
    result = make_result(images_dataset, ("auto",), name="me/things", report=True, noise=True)
    arguments = Arguments(hub=HubArguments(scores_only=True))
    assert f'load_pruned("{Path("clipselect_output/subset")}", ratio="auto")' in summary(result, arguments)


@pytest.mark.parametrize(
    ("adaptation", "line"),
    [
        ({"mode": "off"}, "none, the scores are those of plain CLIP"),
        (
            {"kept": True, "held_out_agreement_plain": 0.897, "held_out_agreement_adapted": 0.956},
            "kept, they agree with 95.6% of held-out rows, plain CLIP with 89.7%",
        ),
        (
            {"held_out_agreement_plain": 0.9, "held_out_agreement_adapted": 0.9},
            "not kept, they agree with 90.0% of held-out rows, plain CLIP with 90.0%",
        ),
        ({"kept": False}, "not kept, no rows could be held out to tell whether they help"),
        ({"kept": True, "adapter": {"name": "me/adapters", "revision": None}}, "those of me/adapters"),
    ],
)
def test_the_summary_says_whether_adapters_were_kept_and_why(images_dataset, adaptation, line):
    result = make_result(images_dataset, name="me/things", report=True)
    told = asdict(Adaptation("auto", kept=False, reason="")) | adaptation
    lines = summary(replace(result, report={**result.report, "adaptation": told}), Arguments()).splitlines()
    assert [text for text in lines if text.startswith("adapters: ")] == [f"adapters: {line}"]


def test_the_summary_says_what_was_decided_and_what_was_found(images_dataset):
    result = make_result(images_dataset, name="me/things", report=True)
    found = {
        "decisions": {"keep": 3, "relabel": 2, "drop": 0, "unsure": 1},
        "leaks": {"reference": "test", "rows": 1, "dropped": True},
        "quality": {"rows": 4, "dropped": False, "issues": {"blurry": 4}},
    }
    lines = summary(replace(result, report=result.report | found), Arguments()).splitlines()
    assert "decisions: 2 labels changed, 3 kept, 0 rows dropped, 1 unsure" in lines
    assert "checked: 1 row copied from test, dropped; 4 damaged images" in lines


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_a_time_in_words(seconds, words):
    assert duration(seconds) == words
