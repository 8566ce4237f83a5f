"""How a result shows itself in a console and in a notebook."""

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from datasets import ClassLabel
from made_reports import with_random_noise
from made_results import make_report, make_result
from PIL import Image

from hf_clipselect import SelectionResult, select_dataset, select_embeddings
from hf_clipselect.results.report import pick_suspects, small_images, verdict
from hf_clipselect.results.scores_table import column_values


EVIL = '<script>alert("1")</script> & co'


class Page(HTMLParser):
    """The tags, images and words of a piece of HTML, as a browser reads it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.images, self.words = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data):
        self.words.append(data)


def noisy_result(dataset, **changes):
    result = make_result(dataset, (0.3, 0.5), name="me/things")
    result = replace(result, scores=with_random_noise(result.scores))
    return replace(result, report=make_report(result, **changes), images=dataset)


def test_three_lines_in_a_console(images_dataset):
    result = noisy_result(images_dataset, warnings=["first", "second"])
    share = result.report["noise"]["estimated_share"]
    assert repr(result).splitlines() == [
        "SelectionResult from 60 rows of me/things, objective clean",
        "  keeps ratio_30: 18 rows, ratio_50: 30 rows",
        f"  about {100 * share:.0f} % of the labels look wrong (human mistakes are often under-counted); "
        "2 warnings in .report",
    ]
    many = make_result(images_dataset, [round(0.1 * size, 1) for size in range(1, 10)])
    assert repr(many).splitlines() == [
        "SelectionResult from 60 rows of a dataset in memory, objective clean",
        "  keeps ratio_10: 6 rows, ratio_20: 12 rows, ratio_30: 18 rows, ratio_40: 24 rows, ratio_50: 30 rows and 4 "
        "more",
        "  wrong labels not estimated",
    ]
    assert len(repr(make_result(images_dataset, name="a\nb")).splitlines()) == 3


def test_a_notebook_shows_counts_and_the_first_suspects(images_dataset):
    result = noisy_result(images_dataset)
    page = Page(result._repr_html_())
    for words in ("ratio_30", "18", "30.0%", "ratio_50", "50.0%", "60 rows"):
        assert words in page.words, words
    rows = pick_suspects(result.scores, num=8)
    names = images_dataset.features["label"].names
    probabilities = column_values(result.scores, "label_error_probability")
    looks_like = [names[label] for label in column_values(result.scores, "clean_label")[rows]]
    told = [verdict(probabilities[row], name) for row, name in zip(rows, looks_like, strict=True)]
    assert len(rows) == 8 and [text for text in page.words if " wrong, looks like " in text] == told
    shown = small_images(images_dataset, "image", rows, max_side=64)
    assert len(page.images) == 8
    for row, source in zip(rows, page.images, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
        assert image.tobytes() == shown[row].tobytes() and max(image.size) <= 64
    assert len(result.at(0.7)._repr_html_()) < 30_000 and len(Page(result.at(0.7)._repr_html_()).images) == 8


def test_nothing_of_the_data_is_read_as_html(images_dataset):
    features = images_dataset.features.copy()
    features["label"] = ClassLabel(names=[EVIL, "<img src=x>", "plain"])
    result = noisy_result(images_dataset.cast(features), warnings=[EVIL, "x" * 10_000])
    result = replace(result, source=replace(result.source, name=EVIL), images=None)
    html = result._repr_html_()
    page = Page(html)
    assert "script" not in page.tags and page.images == [] and len(html) < 10_000
    text = "".join(page.words)
    assert text.count(EVIL) >= 2 and "<img src=x>" in text


def test_results_without_images_or_report_show_what_they_have(images_dataset, tmp_path):
    result = noisy_result(images_dataset)
    result.save(tmp_path, images_dataset)
    read = SelectionResult.from_folder(tmp_path)
    assert read.images is None and Page(read._repr_html_()).images == []
    assert "#" in read._repr_html_() and repr(read) == repr(result)
    rng = np.random.default_rng(0)
    texts, labels = np.eye(3, 8), np.repeat([0, 1, 2], 20)
    embeddings = select_embeddings(texts[labels] + 0.1 * rng.normal(size=(60, 8)), texts, labels, adaptation="off")
    assert repr(embeddings).startswith("SelectionResult from 60 rows of embeddings, objective robust\n")
    assert "60 rows" in Page(embeddings._repr_html_()).words


def test_a_run_shows_thumbnails_of_the_rows_it_considered(images_dataset, clip_folder):
    result = select_dataset(
        images_dataset,
        model_name_or_path=str(clip_folder),
        objective="clean",
        adaptation="off",
        dataloader_num_workers=0,
    )
    assert result.images.column_names == images_dataset.column_names and len(result.images) == 60
    suspects = len(pick_suspects(result.scores, num=8))
    assert suspects and len(Page(result._repr_html_()).images) == suspects
