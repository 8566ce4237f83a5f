from dataclasses import replace
from functools import partial

from made_reports import with_random_noise
from made_results import make_report, make_result

from hf_clipselect.cli.select_command import summary
from hf_clipselect.config.arguments import Arguments


def summary_of(dataset, change=lambda scores: scores):
    result = make_result(dataset, (0.5, 0.3), name="me/things")
    result = replace(result, scores=change(result.scores))
    result = replace(result, report=make_report(result))
    return result.report["noise"], summary(result, Arguments()).splitlines()


def test_the_summary_tells_how_wrong_the_labels_look(images_dataset):
    noise, lines = summary_of(images_dataset, with_random_noise)
    share = f"about {100 * noise['estimated_share']:.0f} % of the labels look wrong"
    pairs = [
        f"{pair['label']} looks like {pair['clean_label']} ({pair['rows']} rows)" for pair in noise["transitions"]
    ]
    assert len(pairs) == 6  # of three classes
    assert lines[1] == f"{share} (human mistakes are often under-counted): {', '.join(pairs[:3])}"
    assert lines[2].startswith("ratio_50: 30 rows; ")
    assert not any("random rows" in line for line in lines)


def test_the_summary_names_no_pairs_where_no_label_looks_wrong(images_dataset):
    _, lines = summary_of(images_dataset, partial(with_random_noise, highest=0.01))
    assert lines[1] == "less than 1 % of the labels look wrong (human mistakes are often under-counted)"


def test_the_summary_without_a_noise_model_is_as_before(images_dataset):
    noise, lines = summary_of(images_dataset)
    assert noise is None and len(lines) == 5 and lines[1].startswith("ratio_50: 30 rows; ")
