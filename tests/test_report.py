import base64
import io
import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_clipselect.errors import InputError
from hf_clipselect.report import summarize, write_html, write_json
from hf_clipselect.report.thumbnails import make_thumbnails, pick_rows
from hf_clipselect.score_table import column_values
from hf_clipselect.selection import ratio_name


NAN = float("nan")
PAPER = "https://huggingface.co/papers/2410.11215"
HOSTILE = [
    "<script>alert(1)</script>",
    '" onerror="x',
    "{{ 7*7 }}",
    "costs $\\frac$",
    "'; --></style><b>",
    "\u732b",
]
VOID_TAGS = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Tags, attributes and texts of a page; fails on a tag that is not closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.open_tags, self.tags, self.attributes, self.texts, self.tiles = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID_TAGS:
            self.open_tags.append(tag)
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "li":
            self.tiles.append({"text": "", "src": None, "alt": None})
        if tag == "img" and "li" in self.open_tags:
            self.tiles[-1].update({key: value for key, value in attrs if key in ("src", "alt")})

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())
        if "li" in self.open_tags:
            self.tiles[-1]["text"] += data

    def values(self, name):
        return [value for key, value in self.attributes if key == name]

    def tile(self, row):
        return next(
            tile for tile in self.tiles if tile["text"].lstrip().startswith((f"row {row},", f"unreadable\nrow {row},"))
        )


def scores_table(names, *, labels, predicted, sas, margin, sds, selected, source_index=None):
    """The scores table; a prediction of None marks a row that could not be read."""
    columns = {
        "source_index": list(range(len(labels))) if source_index is None else source_index,
        "label": labels,
        "predicted_label": predicted,
        "label_agrees": [None if p is None else bool(p == y) for p, y in zip(predicted, labels, strict=True)],
        "sas": sas,
        "margin": margin,
        "sds": sds,
    }
    classes = ClassLabel(names=names)
    types = {
        "source_index": Value("int64"),
        "label": classes,
        "predicted_label": classes,
        "label_agrees": Value("bool"),
    }
    types |= dict.fromkeys(("sas", "margin", "sds"), Value("float32"))
    for percent, rows in selected.items():
        columns |= {
            f"selection_score_{percent}": margin,
            f"selected_{percent}": [r in rows for r in range(len(labels))],
        }
        types |= {f"selection_score_{percent}": Value("float32"), f"selected_{percent}": Value("bool")}
    return Dataset.from_dict(columns, Features(types))


def random_table(num_rows, names, ratios=(0.3,), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_rows) % len(names)
    predicted = np.where(rng.random(num_rows) < 0.7, labels, rng.integers(0, len(names), num_rows))
    margin = rng.normal(size=num_rows)
    ranks = np.argsort(-margin)
    return scores_table(
        names,
        labels=labels.tolist(),
        predicted=predicted.tolist(),
        sas=rng.random(num_rows),
        margin=margin,
        sds=rng.random(num_rows),
        selected={ratio_name(ratio): set(ranks[: int(ratio * num_rows)].tolist()) for ratio in ratios},
    )


def run_entries(**changes):
    entries = {
        "source": {
            "name": "me/pets",
            "config_name": None,
            "split": "train",
            "revision": None,
            "num_rows": np.int64(16),
        },
        "model": {"name": "", "revision": None, "embed_dim": 8, "prompt_template": ["A photo of a {}."]},
        "objective": {"name": "clean", "diversity_weight": np.float32(0.5), "ratio_weight": 2.0},
        "adaptation": {"mode": "auto", "kept": True, "reason": "Better by 3 points.", "standard_error": NAN},
        "arguments": {"selection_ratio": (0.5, 0.25), "push_to_hub": False},
        "versions": {"hf_clipselect": "0.1.0"},
        "seed": 42,
        "seconds": {"encode": 1.25, "score": 0.5},
        "warnings": ["The model is small & odd."],
    }
    return {**entries, **changes}


def summarize_table(scores, ratios=(0.3,), unreadable=None, **changes):
    names = scores.features["label"].names
    return summarize(
        scores,
        class_names=names,
        ratios=ratios,
        plain_predictions=column_values(scores, "predicted_label"),
        run=run_entries(**changes),
        unreadable=unreadable or {},
    )


def as_dataset(images):
    values = []
    for image in images:
        buffer = io.BytesIO()
        if isinstance(image, PILImage.Image):
            image.save(buffer, format="TIFF" if image.mode == "CMYK" else "PNG")
        values.append({"bytes": buffer.getvalue() or image, "path": None})
    return Dataset.from_dict({"id": list(range(len(values))), "picture": values}).cast_column("picture", Image())


def solid_images(num_rows, size=(8, 8)):
    return [PILImage.new("RGB", size, colour_of(row)) for row in range(num_rows)]


def colour_of(row):
    return (row * 7 % 256, row * 31 % 256, row // 3 % 256)


def decode(source):
    return PILImage.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))


@pytest.fixture
def eight_rows():
    return scores_table(
        ["cat", "dog", "bird"],
        labels=[0, 0, 0, 0, 1, 1, 1, 1],
        predicted=[0, 0, 1, None, 1, 1, 2, 1],
        sas=[0.875, 0.75, 0.25, NAN, 0.75, 0.625, 0.125, 0.5],
        margin=[0.5, 0.375, -0.25, NAN, 0.625, 0.125, -0.5, 0.0625],
        sds=[1, 1, 1, NAN, 1, 1, 1, 1],
        selected={"50": {0, 1, 4, 5}, "12_5": {4}},
        source_index=[0, 2, 4, 6, 8, 10, 12, 14],
    )


@pytest.fixture
def eight_report(eight_rows):
    return summarize(
        eight_rows,
        class_names=["cat", "dog", "bird"],
        ratios=[0.5, 0.125],
        plain_predictions=np.array([0, 1, 1, -1, 1, 1, 0, 0]),
        run=run_entries(),
        unreadable={6: "Cannot read image: truncated."},
    )


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
            "percent": "50",
            "rows": 4,
            "cut_score": 0.125,
            "label_agrees_kept": 1.0,
            "label_agrees_dropped": 1 / 3,
            "class_share_min": 0.5,
            "class_share_max": 0.5,
        },
        {
            "ratio": 0.125,
            "percent": "12_5",
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
        plain_predictions=np.array([0, 1, 1, -1, 1, 1, 0, 0])[order],
        run=run_entries(),
        unreadable={6: "Cannot read image: truncated."},
    )
    assert turned == eight_report


def test_summary_refuses_predictions_of_another_length(eight_rows):
    with pytest.raises(InputError, match="7 entries for 8 rows"):
        summarize(
            eight_rows,
            class_names=["cat", "dog", "bird"],
            ratios=[0.5],
            plain_predictions=np.zeros(7, np.int64),
            run=run_entries(),
            unreadable={},
        )


def test_summary_lists_at_most_100_unreadable_rows():
    scores = random_table(300, ["a", "b"])
    report = summarize_table(scores, unreadable={index: "gone" for index in range(250, 100, -1)})
    assert report["num_unreadable"] == 150
    assert [entry["source_index"] for entry in report["unreadable"]] == list(range(101, 201))


def test_write_json_is_strict_and_readable(tmp_path, eight_report):
    eight_report["classes"][0]["name"] = "\u732b <&>"
    write_json(tmp_path / "report.json", eight_report)

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == eight_report
    assert "\u732b <&>" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_pick_rows_by_hand(eight_rows):
    picked = {kind: rows.tolist() for kind, rows in pick_rows(eight_rows, "50").items()}
    assert picked == {"best": [4, 0, 1, 5], "cut": [5, 1, 0, 4], "dropped": [7, 2, 6], "suspect": [6, 2]}


def test_pick_rows_shows_24_and_spreads_the_dropped():
    scores = random_table(1000, ["a", "b"])
    picked = pick_rows(scores, "30")
    order = np.argsort(-column_values(scores, "selection_score_30"))
    assert picked["best"].tolist() == order[:24].tolist()
    assert picked["cut"].tolist() == order[299:275:-1].tolist()
    assert picked["dropped"][0] == order[300]
    assert picked["dropped"][-1] == order[999]
    assert len(picked["dropped"]) == len(set(picked["dropped"].tolist())) == len(picked["suspect"]) == 24


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_thumbnails_of_every_mode_are_rgb(mode):
    image = PILImage.new("F", (5, 9), 200.0) if mode == "F" else PILImage.new("RGB", (5, 9), (200, 200, 200))
    if mode in ("I;16", "I"):
        image = PILImage.fromarray(np.full((9, 5), 200 * 257 if mode == "I;16" else 200, np.uint16)).convert(mode)
    elif mode != "F":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="TIFF")
    thumbnail = decode(make_thumbnails(as_dataset([buffer.getvalue()]), "picture", [0])[0])
    assert thumbnail.mode == "RGB"
    assert thumbnail.size == (50, 90)


def test_thumbnails_are_of_the_rows_asked_for():
    two_pixels = PILImage.fromarray(np.array([[0, 255]], np.uint8))
    images = solid_images(20) + [PILImage.new("RGB", (400, 100), (10, 200, 30)), b"not an image", two_pixels]
    dataset = as_dataset(images).with_transform(lambda batch: pytest.fail("the dataset's own transform ran"))
    thumbnails = make_thumbnails(dataset, "picture", [22, 21, 3, 20, 3, 17])
    assert list(thumbnails) == [3, 17, 20, 21, 22]
    assert thumbnails[21] is None
    for row in (3, 17):
        assert decode(thumbnails[row]).size == (96, 96)
        assert decode(thumbnails[row]).getcolors() == [(96 * 96, colour_of(row))]
    assert np.asarray(decode(thumbnails[22]))[..., 0].tolist() == [[0] * 48 + [255] * 48] * 48
    assert decode(thumbnails[20]).size == (96, 24)
    assert np.abs(np.asarray(decode(thumbnails[20])).astype(int) - (10, 200, 30)).max() < 8


def write_page(tmp_path, report, scores, images=None, name="report.html"):
    dataset = None if images is None else as_dataset(images)
    write_html(tmp_path / name, report, scores, dataset=dataset, image_column=None if images is None else "picture")
    return (tmp_path / name).read_text(encoding="utf-8")


def test_page_stands_alone_and_is_well_formed(tmp_path, eight_rows, eight_report):
    text = write_page(tmp_path, eight_report, eight_rows, solid_images(8))
    page = Page(text)
    assert all(source.startswith("data:image/") for source in page.values("src"))
    assert page.values("href") == [PAPER]
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert "url(" not in text and "@import" not in text
    assert len(page.values("alt")) == len(page.values("src")) == page.tags.count("img")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    figures = [source for source in page.values("src") if "svg" in source]
    assert len(figures) == 5
    for figure in figures:
        ElementTree.fromstring(base64.b64decode(figure.split(",", 1)[1]))


def test_page_tells_the_run(tmp_path, eight_rows, eight_report):
    page = Page(write_page(tmp_path, eight_report, eight_rows, solid_images(8)))
    for words in (
        "4 of 8",
        "1 of 8",
        "me/pets",
        "The model is small & odd.",
        "Better by 3 points.",
        "ratio_12_5",
        "0.625",
    ):
        assert words in page.texts
    assert "Cannot read image: truncated." in page.texts
    assert "42.9\u00a0%" in " ".join(page.texts) and "71.4\u00a0%" in " ".join(page.texts)
    assert "encode 1.2 s, score 0.5 s, all 1.8 s" in page.texts
    assert "1 of 3 classes have no images and take no part." in page.texts


def test_tiles_show_the_image_label_and_prediction_of_their_row(tmp_path, eight_rows, eight_report):
    page = Page(write_page(tmp_path, eight_report, eight_rows, solid_images(8)))
    names = ["cat", "dog", "bird"]
    labels, predicted = column_values(eight_rows, "label"), column_values(eight_rows, "predicted_label")
    for row in (0, 1, 2, 4, 5, 6, 7):
        tile = page.tile(2 * row)  # the page tells source_index, which is twice the row here
        assert decode(tile["src"]).getcolors() == [(96 * 96, colour_of(row))]
        assert tile["alt"] == f"Row {2 * row}, label {names[labels[row]]}, CLIP predicts {names[predicted[row]]}"
        assert ("kept" in tile["text"]) == (row in {0, 1, 4, 5})
    assert not any("row 6," in tile["text"] for tile in page.tiles)


def test_page_refuses_a_dataset_of_other_rows(tmp_path, eight_rows, eight_report):
    with pytest.raises(InputError, match="9 rows for 8 rows of scores"):
        write_page(tmp_path, eight_report, eight_rows, solid_images(9))


def test_an_image_that_breaks_after_encoding_gets_a_placeholder(tmp_path, eight_rows, eight_report):
    images = solid_images(8)
    images[4] = b"gone"
    page = Page(write_page(tmp_path, eight_report, eight_rows, images))
    assert page.tile(8)["src"] is None
    assert "unreadable" in page.tile(8)["text"]


def test_hostile_names_stay_text(tmp_path):
    scores = random_table(120, HOSTILE)
    source = {"name": HOSTILE[0], "license": HOSTILE[1]}
    report = summarize_table(
        scores, source=source, unreadable={3: HOSTILE[4]}, warnings=[HOSTILE[2]], versions={HOSTILE[0]: "1"}
    )
    text = write_page(tmp_path, report, scores, solid_images(120))
    page = Page(text)
    assert page.tags.count("script") == 0
    assert page.tags.count("b") == len(report["subsets"])
    assert not {key for key, _ in page.attributes if key.startswith("on")}
    assert "<script" not in text
    assert set(HOSTILE) <= set(page.texts)
    assert {f"label {name}" for name in HOSTILE} <= {
        alt.split(", ", 1)[1].rsplit(", CLIP", 1)[0] for alt in page.values("alt") if alt.startswith("Row")
    }


def test_many_classes_without_images(tmp_path):
    names = [f"species {number}" for number in range(300)]
    scores = random_table(6000, names, ratios=(0.3, 1.0))
    report = summarize_table(scores, ratios=(0.3, 1.0))
    page = Page(write_page(tmp_path, report, scores))
    text = " ".join(page.texts)
    assert set(names) <= set(page.texts)
    assert "The 20 at this end of 300 classes." in text
    assert "5,000 of 6,000 rows" in text
    assert not any("svg" not in source for source in page.values("src"))


def test_nothing_dropped_and_nothing_readable(tmp_path):
    all_kept = random_table(30, ["a", "b"], ratios=(1.0,))
    report = summarize_table(all_kept, ratios=(1.0,))
    assert report["subsets"][0]["label_agrees_dropped"] is None
    assert "There are none." in Page(write_page(tmp_path, report, all_kept)).texts

    nothing = [NAN] * 4
    blank = scores_table(
        ["a", "b"],
        labels=[0, 1, 0, 1],
        predicted=[None] * 4,
        sas=nothing,
        margin=nothing,
        sds=nothing,
        selected={"30": set()},
    )
    report = summarize_table(blank, unreadable=dict.fromkeys(range(4), "gone"))
    assert report["accuracy_before"] is None and report["subsets"][0]["cut_score"] is None
    assert set(report["score_quantiles"]["sas"].values()) == {None}
    Page(write_page(tmp_path, report, blank, solid_images(4)))


def test_the_same_input_gives_the_same_bytes_whatever_matplotlib_is_set_to(tmp_path):
    scores = random_table(200, ["a", "b", "c"])
    report = summarize_table(scores)
    first = write_page(tmp_path, report, scores, solid_images(200), name="first.html")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        before = dict(matplotlib.rcParams)
        second = write_page(tmp_path, report, scores, solid_images(200), name="second.html")
        assert dict(matplotlib.rcParams) == before
    assert first == second
