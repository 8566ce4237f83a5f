import ast
import base64
import hashlib
import io
import re
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from importlib.resources import files

import matplotlib
import numpy as np
import pytest
from datasets import Dataset, Image, Value
from made_reports import NAN, random_table, scores_table, summarize_table, with_random_noise
from PIL import Image as PILImage

from hf_clipselect.errors import InputError
from hf_clipselect.results.report import pick_suspects, write_html
from hf_clipselect.results.report.shown_rows import (
    Cut,
    classes_to_cut,
    confused_pairs,
    forced_rows,
    rows_of_size,
)
from hf_clipselect.results.report.thumbnails import make_thumbnails
from hf_clipselect.results.scores_table import column_values
from hf_clipselect.results.subsets import select_from_table
from hf_clipselect.scores.trust import measure_trust
from hf_clipselect.selection import resolve_objective
from hf_clipselect.selection.reasons import WRONG_LABEL


PAPER = "https://huggingface.co/papers/2410.11215"
HOSTILE = [
    "<script>alert(1)</script>",
    '" onerror="x',
    "{{ 7*7 }}",
    "costs $\\frac$",
    "'; --></style><b>",
    "\u732b",
]
VOID_TAGS = {"meta", "img", "br", "hr", "input", "link", "wbr"}


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


def shown(scores, suffix, report):
    return rows_of_size(scores, suffix, classes_to_cut(scores), forced_rows(scores, report))


def test_rows_of_a_size_by_hand(eight_rows, eight_report):
    of = shown(eight_rows, "50", eight_report)
    assert of.best.tolist() == [4, 0, 1, 5] and of.dropped.tolist() == [7, 2, 6]
    assert of.cuts == [Cut(0, kept=1, dropped=2), Cut(1, kept=5, dropped=7)]
    assert shown(eight_rows, "12_5", eight_report).cuts == [Cut(0, kept=None, dropped=0), Cut(1, 4, 5)]
    assert [
        (pair.label, pair.proposed, pair.rows, pair.share, pair.examples) for pair in confused_pairs(eight_rows)
    ] == [
        (0, 1, 1, 1 / 3, [2]),
        (1, 2, 1, 1 / 4, [6]),
    ]


def test_no_cut_lies_at_rows_that_are_kept_or_dropped_whatever_their_score(eight_rows, eight_report):
    kept, dropped = [row == 1 for row in range(8)], [row == 7 for row in range(8)]
    facts = eight_rows.add_column("must_keep", kept).add_column("must_drop", dropped)
    assert shown(facts, "50", eight_report).cuts == [Cut(0, kept=0, dropped=2), Cut(1, kept=5, dropped=6)]
    leaks = eight_rows.add_column("leak_of", [-1] * 7 + [3]).add_column(
        "quality_issues", [""] * 2 + ["dark"] + [""] * 5
    )
    report = {**eight_report, "leaks": {"dropped": True}, "quality": {"dropped": False}}
    assert shown(leaks, "50", report).cuts == [Cut(0, kept=1, dropped=2), Cut(1, kept=5, dropped=6)]
    report["quality"] = {"dropped": True}
    assert shown(leaks, "50", report).cuts == [Cut(0, kept=1, dropped=None), Cut(1, kept=5, dropped=6)]


def test_the_cut_of_a_class_against_sorting_its_rows():
    table = random_table(400, ["a", "b", "c"], ratios=(0.3, 0.6))
    score = np.round(column_values(table, "selection_score_30"))  # many rows are equal
    for name in ("selection_score_30", "selection_score_60"):
        table = table.remove_columns(name).add_column(name, score, feature=Value("float32"))
    labels = column_values(table, "label")
    for suffix, share in (("30", 0.3), ("60", 0.6)):
        order = [np.flatnonzero(labels == c)[np.argsort(-score[labels == c], kind="stable")] for c in range(3)]
        kept = np.isin(np.arange(400), np.concatenate([rows[: round(share * len(rows))] for rows in order]))
        name = f"selected_{suffix}"
        table = table.remove_columns(name).add_column(name, kept)
        expected = [Cut(c, rows[kept[rows]][-1], rows[~kept[rows]][0]) for c, rows in enumerate(order)]
        assert shown(table, suffix, summarize_table(table)).cuts == expected


def test_rows_of_a_size_are_few_and_spread_over_the_dropped():
    scores = random_table(1000, ["a", "b"])
    of = shown(scores, "30", summarize_table(scores))
    order = np.argsort(-column_values(scores, "selection_score_30"))
    assert of.best.tolist() == order[:16].tolist()
    assert of.dropped[0] == order[300]
    assert of.dropped[-1] == order[999]
    assert len(of.dropped) == len(set(of.dropped.tolist())) == 16


def test_of_many_classes_the_cuts_are_those_with_the_most_wrong_labels():
    scores = random_table(3000, [f"species {number}" for number in range(30)])
    for table in (scores, with_random_noise(scores)):
        labels = column_values(table, "label")
        of_model = "clean_label" in table.column_names
        wrong = column_values(table, "label_error_probability") if of_model else ~column_values(table, "label_agrees")
        shares = [wrong[labels == c].mean() for c in range(30)]
        assert classes_to_cut(table) == sorted(range(30), key=lambda c: -shares[c])[:24]
        assert [cut.label for cut in shown(table, "30", summarize_table(table)).cuts] == classes_to_cut(table)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_thumbnails_of_every_mode_are_rgb(mode):
    image = PILImage.new("F", (5, 9), 200.0) if mode == "F" else PILImage.new("RGB", (5, 9), (200, 200, 200))
    if mode in ("I;16", "I"):
        image = PILImage.fromarray(np.full((9, 5), 200 * 257 if mode == "I;16" else 200, np.uint16)).convert(mode)
    elif mode != "F":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="TIFF")
    thumbnail = decode(make_thumbnails(as_dataset([buffer.getvalue()]), "picture", [0], max_side=96)[0])
    assert thumbnail.mode == "RGB"
    assert thumbnail.size == (50, 90)


def test_thumbnails_are_of_the_rows_asked_for():
    two_pixels = PILImage.fromarray(np.array([[0, 255]], np.uint8))
    images = solid_images(20) + [PILImage.new("RGB", (400, 100), (10, 200, 30)), b"not an image", two_pixels]
    dataset = as_dataset(images).with_transform(lambda batch: pytest.fail("the dataset's own transform ran"))
    thumbnails = make_thumbnails(dataset, "picture", [22, 21, 3, 20, 3, 17], max_side=96)
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


def test_matplotlib_is_imported_where_something_is_drawn():
    for path in files("hf_clipselect.results").rglob("*.py"):
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not [node for node in imports if "matplotlib" in ast.unparse(node)], path


def test_page_stands_alone_and_is_well_formed(tmp_path, eight_rows, eight_report):
    text = write_page(tmp_path, eight_report, eight_rows, solid_images(8))
    page = Page(text)
    assert all(source.startswith("data:image/") for source in page.values("src"))
    links = page.values("href")
    assert [link for link in links if not link.startswith("#")] == [PAPER]
    assert {link[1:] for link in links if link != PAPER} <= set(page.values("id"))
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert "url(" not in text and "@import" not in text
    [script] = re.findall("<script>(.*?)</script>", text, flags=re.DOTALL)
    policy = page.values("content")[-1]
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and page.tags.count("script") == 1
    assert len(page.values("alt")) == len(page.values("src")) == page.tags.count("img")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    figures = [source for source in page.values("src") if "svg" in source]
    assert len(figures) == 2 * 5  # for each of two sizes
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
        side = 256 if row in {2, 6} else 128  # suspects are larger
        assert decode(tile["src"]).getcolors() == [(side * side, colour_of(row))]
        assert tile["alt"] == f"Row {2 * row}, label {names[labels[row]]}, CLIP predicts {names[predicted[row]]}"
        assert ("kept" in tile["text"]) == (row in {0, 1, 4, 5})
        assert (f"why {row}" in tile["text"]) == (row not in {0, 1, 4, 5})
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
    assert page.tags.count("b") == len(report["subsets"])
    assert not {key for key, _ in page.attributes if key.startswith("on")}
    assert page.tags.count("script") == text.count("<script") == text.count("</script") == 1
    assert set(HOSTILE) <= set(page.texts)
    assert {f"label {name}" for name in HOSTILE} <= {
        alt.split(", ", 1)[1].rsplit(", CLIP", 1)[0] for alt in page.values("alt") if alt.startswith("Row")
    }


def test_the_order_of_the_page(tmp_path):
    scores = with_random_noise(random_table(240, ["a", "b", "c"], ratios=(0.3, 0.6))).add_column("group", ["x"] * 240)
    report = summarize_table(scores, (0.3, 0.6), source={"name": "/home/me/data/pets", "split": "train"})
    text = write_page(tmp_path, report, scores, solid_images(240))
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text)[:-1] == [  # the last is that of the enlarged row
        "Warnings",
        "Labels that look wrong",
        "The cut of each class",
        "Confused pairs",
        "Kept and dropped",
        "Classes",
        "Groups",
        "Scores",
        "How it was made",
    ]
    assert "<title>pets: what was kept</title>" in text and "<h1><bdi>pets</bdi></h1>" in text
    levels = [int(level) for level in re.findall(r"<h(\d)", text)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_page_tells_what_people_decided_and_what_checks_found(tmp_path, eight_rows, eight_report):
    without = write_page(tmp_path, eight_report, eight_rows)
    found = {
        "decisions": {"keep": 1, "relabel": 2, "drop": 0, "unsure": 1},
        "leaks": {"reference": "me/pets (split test) <b>", "rows": 2, "dropped": False},
        "quality": {"rows": 1, "dropped": True, "issues": {"blurry": 1, "dark": 0}},
    }
    none = {"decisions": None, "leaks": None, "quality": None}
    assert write_page(tmp_path, {**eight_report, **none}, eight_rows) == without
    scores = eight_rows.add_column("given_label", [0, 0, 2, 0, 1, 1, 2, 1], feature=eight_rows.features["label"])
    scores = scores.add_column("decision", ["", "", "relabel", "", "keep", "", "relabel", "unsure"])
    scores = scores.add_column("leak_of", [-1] * 6 + [7, 5]).add_column("quality_issues", ["blurry"] + [""] * 7)
    page = Page(write_page(tmp_path, {**eight_report, **found}, scores))
    words = " ".join(" ".join(page.texts).split())
    assert "People looked at single rows: 2 labels changed, 1 kept, 0 rows dropped, 1 unsure." in words
    assert "2 rows copy rows of me/pets (split test) <b>" in words and "--drop_leaks true" in words
    assert "1 row has an image with flaws (blurry: 1) and is never kept." in words
    assert page.tags.count("b") == len(eight_report["subsets"])
    for row, note in (
        (2, "a person changed its label, which was bird"),
        (4, "a person took its label for right"),
        (6, "copies row 7 of me/pets (split test) <b>"),
        (7, "a person was not sure"),
        (0, "image: blurry"),
    ):
        assert note in page.tile(2 * row)["text"]
    assert "a person" not in page.tile(2)["text"]


@pytest.mark.slow
def test_a_page_of_a_million_rows_and_ten_thousand_classes_is_small(tmp_path):
    names = [f"species {number} {'x' * 200}" for number in range(10_000)]
    scores = with_random_noise(random_table(1_000_000, names, ratios=(0.3, 0.6)))
    report = summarize_table(scores, (0.3, 0.6), warnings=["w" * 5000] * 200)
    start = time.process_time()
    text = write_page(tmp_path, report, scores)
    assert time.process_time() - start < 30
    assert len(text.encode()) < 3e6
    assert "first 1,000 of 10,000 classes" in text and "24 of 10,000 classes" in text
    assert f"The first 120 of {len(pick_suspects(scores)):,}." in text and "The first 50 of 200;" in text


@pytest.mark.slow
def test_a_page_of_many_sizes_and_of_pictures_that_do_not_compress_is_bounded(tmp_path):
    ratios = tuple(number / 20 for number in range(1, 11))
    scores = random_table(2000, [f"class {number}" for number in range(30)], ratios=ratios)
    noise = PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    text = write_page(tmp_path, summarize_table(scores, ratios), scores, [buffer.getvalue()] * 2000)
    page = Page(text)
    shown = {alt.split(",")[0] for alt in page.values("alt") if alt.startswith("Row ")}
    assert 400 < len(shown) <= 480 and len(text) < 20e6
    assert set(re.findall(r'data-size="(\w+)"', text)) == {f"{5 * number}" for number in range(1, 9)}
    assert "shows the first 8 of 10 sizes" in text
    assert len(set(re.findall(r"<code>(ratio_\d+)</code></li>", text))) == 10


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


def trust_of(names, *, adapted):
    """The first class is never predicted, and its prompt is that of the second."""
    labels = np.repeat(np.arange(len(names)), 10)
    plain = np.maximum(labels, 1)
    texts = np.eye(len(names), dtype=np.float32)
    texts[0] = texts[1]
    return measure_trust(labels, plain, labels if adapted else None, texts, names)


@pytest.mark.parametrize("adapted", [False, True])
def test_page_tells_when_not_to_trust_it(tmp_path, adapted):
    scores = random_table(120, HOSTILE)
    trust = trust_of(HOSTILE, adapted=adapted)
    page = Page(write_page(tmp_path, summarize_table(scores, trust=trust), scores))
    words = " ".join(page.texts)
    assert "When not to trust it" in words and "16.7\u00a0% bear another label" in words
    assert "Classes below chance: 1" in words and "Prompts that are nearly the same: 1" in words
    assert "above a half in 1 pair" in words
    assert ("Plain Adapted" in " ".join(words.split())) == adapted
    assert page.tags.count("script") == page.tags.count("b") == 1

    fine = measure_trust(np.arange(6), np.arange(6), None, np.eye(6, dtype=np.float32), HOSTILE)
    words = " ".join(Page(write_page(tmp_path, summarize_table(scores, trust=fine), scores)).texts)
    for sentence in (
        "No class is below chance.",
        "No two prompts are nearly the same.",
        "No class is taken for one other",
    ):
        assert sentence in words
    assert "Classes below chance" not in words and "Classes taken for others" not in words
    assert "not to trust" not in " ".join(Page(write_page(tmp_path, summarize_table(scores), scores)).texts)


def test_page_tells_how_wrong_the_labels_look(tmp_path):
    scores = with_random_noise(random_table(240, HOSTILE))
    report = summarize_table(scores, share_error=0.004)
    page = Page(write_page(tmp_path, report, scores))
    words, noise = " ".join(page.texts), report["noise"]
    share = f"About {100 * noise['estimated_share']:.0f}\u00a0% of the labels look wrong"
    assert f"{share} (human mistakes are often under-counted)." in words
    assert "standard error over folds of the rows is 0.4 points." in words
    assert words.index(share) < words.index("Subsets")
    pair = noise["transitions"][0]
    places = [place for place, text in enumerate(page.texts) if text == pair["clean_label"]]
    assert any(pair["label"] in page.texts[place - 3 : place] for place in places)
    assert "Rows for which another class is more probable than the given label, most probably wrong first" in words
    for row in scores.select(pick_suspects(scores, num=24)):
        tile = page.tile(row["source_index"])["text"]
        assert f"{row['label_error_probability']:.2f} wrong, looks like {HOSTILE[row['clean_label']]}" in tile
    right = next(row for row in scores if row["label"] == row["clean_label"] and row["selected_30"])
    assert "looks like" not in page.tile(right["source_index"])["text"]
    assert page.tags.count("script") == page.tags.count("b") == 1
    # Not twice where the reason says it too.
    why = [f"{WRONG_LABEL}0.97, looks like nine" if row["label"] != row["clean_label"] else "why" for row in scores]
    said = scores.remove_columns("reason").add_column("reason", why)
    words = " ".join(Page(write_page(tmp_path, summarize_table(said), said)).texts)
    assert WRONG_LABEL not in words and "why" in words

    rows = scores.remove_columns(["label_error_probability", "clean_label"])
    without = " ".join(Page(write_page(tmp_path, summarize_table(rows), rows)).texts)
    assert "look wrong" not in without and "looks like" not in without
    assert "lowest margin first" in " ".join(without.split())


@pytest.mark.parametrize("highest", [1.0, 0.01])
def test_page_says_where_auto_keeps_all(tmp_path, highest):
    table = with_random_noise(random_table(240, ["a", "b", "c"]), highest=highest)
    scores = select_from_table(table, resolve_objective("clean"), ("auto", 0.3))
    page = Page(write_page(tmp_path, summarize_table(scores, ("auto", 0.3)), scores))
    sentence = "keeps nearly all rows, since hardly any label looks wrong; for a smaller set random rows would do."
    assert "ratio_auto" in page.texts
    assert (sentence in page.texts) == (highest < 1)
    if highest < 1:
        assert "There are none: for every row the given label is the most probable class." in page.texts


def test_page_names_the_classes_with_the_most(tmp_path):
    names = [f"species {number}" for number in range(30)]
    scores = with_random_noise(random_table(600, names))
    report = summarize_table(scores)
    words = " ".join(Page(write_page(tmp_path, report, scores)).texts)
    assert "the first 20 of 30 classes" in words and "standard error" not in words
    shares = report["noise"]["by_class"]
    listed = words.split("Classes with the most")[1].split("Kept and dropped")[0]
    assert re.findall(r"species \d+", listed) == sorted(shares, key=lambda name: -shares[name])[:20]


@pytest.mark.parametrize(("num_groups", "num_figures"), [(3, 1), (20, 2), (60, 2)])
def test_page_compares_groups_before_and_after(tmp_path, num_groups, num_figures):
    scores = random_table(240, ["a", "b", "c"])
    names = [f"camera {row % num_groups} <b>" for row in range(240)]
    without = Page(write_page(tmp_path, summarize_table(scores), scores))
    scores = scores.add_column("group", names)
    report = summarize_table(scores)
    page = Page(write_page(tmp_path, report, scores))
    assert "Groups" in page.texts and "Groups" not in without.texts
    assert set(names) <= set(page.texts)
    assert page.tags.count("img") - without.tags.count("img") == num_figures
    assert sum(entry["kept"]["30"] for entry in report["groups"]) == report["subsets"][0]["rows"]
    for entry in report["classes"] + report["groups"]:
        assert f"{entry['kept']['30']:,}" in page.texts


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
