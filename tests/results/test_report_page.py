"""`report.html` in a browser: what its script does, that nothing is clipped, and that it asks nobody for anything."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from browser import opened_chromium
from datasets import Dataset, Image, Value
from made_reports import random_table, scores_table, summarize_table, with_random_noise
from PIL import Image as PILImage

from hf_clipselect.cli import main
from hf_clipselect.data.source import load_source
from hf_clipselect.results.report import pick_suspects, write_html
from hf_clipselect.results.scores_table import column_values
from hf_clipselect.results.selection_result import SelectionResult


NAMES = ["</script><script>alert(1)</script>", '" onload="x', "line\u2028end", "a_long_name_" * 6, ""]
WIDTHS = (420, 900, 1400)
LONG = "A caption </script> \u2028 'of' \"quotes\" & more, " * 6 + "to its very end"


@pytest.fixture(scope="module")
def browser():
    with opened_chromium() as browser:
        yield browser


@contextmanager
def visited(browser, path: Path, *, width: int = 1400, **settings) -> Iterator:
    """The page opened as a file; nothing went wrong in it, and it asked for nothing else."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
    requests, errors = [], []
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


def pictures(num_rows: int) -> Dataset:
    images = [PILImage.new("RGB", (40 + row % 7, 40), (row % 256, 90, 200)) for row in range(num_rows)]
    return Dataset.from_dict({"picture": images}).cast_column("picture", Image())


@pytest.fixture(scope="module")
def label_scores():
    return with_random_noise(random_table(400, NAMES, ratios=(0.3, 0.6)))


@pytest.fixture(scope="module")
def label_page(label_scores, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "report.html"
    report = summarize_table(label_scores, (0.3, 0.6))
    write_html(path, report, label_scores, dataset=pictures(400), image_column="picture")
    return path


@pytest.fixture(scope="module")
def caption_page(tmp_path_factory):
    """Twenty pairs in two clusters, of which row 3 fits the caption of row 4, and row 6 that of row 1."""
    agrees = [row not in (3, 6) for row in range(20)]
    margin = [0.5 if fits else -0.1 * row for row, fits in enumerate(agrees)]
    scores = scores_table(
        ["cluster 0", "cluster 1"],
        labels=[row % 2 for row in range(20)],
        predicted=[row % 2 if fits else 1 - row % 2 for row, fits in enumerate(agrees)],
        sas=[0.5] * 20,
        margin=margin,
        sds=[0.5] * 20,
        selected={"50": set(range(8, 18))},
    )
    better = [-1] * 3 + [4, -1, -1, 1] + [-1] * 13
    scores = scores.add_column("better_caption", better, feature=Value("int64"))
    reasons = ["label disagrees with image"] * 7 + ["quota of its class is full"] + ["kept"] * 10 + ["low score"] * 2
    scores = scores.remove_columns("reason").add_column("reason", reasons)
    dataset = pictures(20).add_column("text", [f"caption {row}" for row in range(6)] + [LONG] + ["a"] * 13)
    report = summarize_table(
        scores,
        (0.5,),
        captions={"num_captions": 20, "num_references": 20, "num_clusters": 2},
        source={"name": "/home/me/pairs", "label_column": "text"},
    )
    path = tmp_path_factory.mktemp("captions") / "report.html"
    write_html(path, report, scores, dataset=dataset, image_column="picture")
    return path


def shown_rows(page, tiles="#suspects > .tile") -> list[int]:
    rows = "all => all.filter(e => e.getClientRects().length).map(e => Number(e.dataset.row))"
    return page.eval_on_selector_all(tiles, rows)


def test_suspects_are_filtered_and_sorted(browser, label_page, label_scores):
    suspects = pick_suspects(label_scores, num=120).tolist()
    labels, proposed, margin, kept = (
        column_values(label_scores, name) for name in ("label", "clean_label", "margin", "selected_30")
    )
    with visited(browser, label_page) as page:
        assert shown_rows(page) == suspects[:24]
        page.click("text=Show all")
        assert (
            shown_rows(page) == suspects and page.inner_text("#shown") == f"{len(suspects)} of {len(suspects)} shown"
        )
        for number, name in enumerate(NAMES):
            found = [row for row in suspects if labels[row] == number]
            short = name if len(name) <= 80 else name[:79] + "…"
            page.select_option("#by-cell", f"={short}")
            assert shown_rows(page) == found[:24] and page.inner_text("#shown").endswith(f"{len(suspects)} shown")
        page.select_option("#by-cell", f"={NAMES[0]}")
        page.select_option("#by-proposed", f"={NAMES[1]}")
        assert shown_rows(page) == [row for row in suspects if labels[row] == 0 and proposed[row] == 1][:24]
        page.select_option("#by-cell", "")
        page.select_option("#by-proposed", "")
        page.select_option("#by-reason", "=kept")
        assert shown_rows(page) == [row for row in suspects if kept[row]][:24]
        page.select_option("#by-reason", "=why N")
        assert shown_rows(page) == [row for row in suspects if not kept[row]][:24]
        page.select_option("#by-reason", "")
        page.select_option("#by-kept", "dropped")
        page.select_option("#order", "margin")
        assert shown_rows(page) == sorted((row for row in suspects if not kept[row]), key=lambda row: margin[row])[:24]
        page.select_option("#by-kept", "")
        page.select_option("#order", "row")
        assert shown_rows(page) == sorted(suspects)[:24]
        page.select_option("#order", "given")
        assert shown_rows(page) == suspects[:24]


def test_a_row_is_enlarged_by_keyboard(browser, label_page, label_scores):
    suspects = pick_suspects(label_scores, num=4).tolist()
    with visited(browser, label_page) as page:
        page.locator("#suspects button.picture").first.focus()
        page.keyboard.press("Enter")
        looked = page.locator("#look")
        assert looked.is_visible() and page.inner_text("#look-title") == f"Row {suspects[0]}"
        # All that the tile holds, larger, with what was folded.
        assert looked.locator("img").bounding_box()["width"] > 300
        assert "sds" in looked.inner_text() and "looks like" in looked.inner_text()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#look-title") == f"Row {suspects[2]}"
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#look-title") == f"Row {suspects[1]}"
        page.check("#look-pick")
        page.keyboard.press("Escape")
        assert not looked.is_visible()
        assert page.evaluate("document.activeElement.closest('.tile').dataset.row") == str(suspects[1])
        assert page.inner_text("#num-selected") == "1 row selected"
        page.locator(".cuts:visible button.picture").last.click()
        assert looked.is_visible() and page.locator("#next").is_disabled()
        page.click("#close")
        assert not looked.is_visible()


def test_selected_rows_are_copied_for_must_drop(browser, label_page, label_scores):
    suspects = pick_suspects(label_scores, num=24).tolist()
    expected = "".join(f"{row}\n" for row in sorted(suspects))
    with visited(browser, label_page, permissions=["clipboard-read", "clipboard-write"]) as page:
        assert not page.locator("#selection").is_visible()
        page.click("#select-shown")
        assert page.inner_text("#num-selected") == "24 rows selected"
        # A row that stands in two places is selected in both.
        assert page.locator(f'.tile[data-row="{suspects[0]}"] .pick:not(:checked)').count() == 0
        page.click("#copy")
        page.wait_for_function("document.getElementById('told').textContent.startsWith('Copied')")
        assert page.evaluate("navigator.clipboard.readText()") == expected
        assert not page.locator("#numbers").is_visible()
        page.locator("#suspects .pick").first.uncheck()
        assert page.inner_text("#num-selected") == "23 rows selected"
        page.click("#clear")
        assert not page.locator("#selection").is_visible() and page.locator(".pick:checked").count() == 0
    with visited(browser, label_page) as page:
        page.evaluate("delete Navigator.prototype.clipboard")  # as on a page that is not served securely
        page.click("#select-shown")
        page.click("#copy")
        assert page.input_value("#numbers") == expected
        assert page.evaluate("getSelection().toString() || document.activeElement.id") in (expected, "numbers")


def test_every_size_is_shown(browser, label_page, label_scores):
    labels = column_values(label_scores, "label")
    with visited(browser, label_page) as page:
        for suffix in ("30", "60", "30"):
            page.select_option("#size", suffix)
            kept, margin = column_values(label_scores, f"selected_{suffix}"), column_values(label_scores, "margin")
            assert set(
                page.eval_on_selector_all("[data-size]:not([hidden])", "all => all.map(e => e.dataset.size)")
            ) == {suffix}
            rows = shown_rows(page, ".cuts .tile")
            expected = []
            for c in range(len(NAMES)):
                of_class = labels == c
                expected += [np.flatnonzero(of_class & kept)[np.argmin(margin[of_class & kept])]]
                expected += [np.flatnonzero(of_class & ~kept)[np.argmax(margin[of_class & ~kept])]]
            assert rows == expected
            assert page.locator("figure img:visible").count() == 5
            row = pick_suspects(label_scores, num=1)[0]
            told = page.locator("#suspects > .tile .row").first.inner_text()
            assert re.sub(r"\s+", " ", told).strip() == f"row {row}, {'kept' if kept[row] else 'dropped'}"


@pytest.mark.parametrize("name", ["label_page", "caption_page"])
def test_nothing_is_clipped_at_any_width_light_or_dark(browser, name, request):
    path = request.getfixturevalue(name)
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            with visited(browser, path, width=width, color_scheme=scheme) as page:
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                # A table that is scrolled sideways hides columns.
                assert page.evaluate(
                    "[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)"
                )
                assert page.locator("#controls").is_visible()


def test_plots_stand_out_on_a_light_and_on_a_dark_page(browser, label_page):
    for media, scheme in (("screen", "light"), ("screen", "dark"), ("print", "dark")):
        with visited(browser, label_page, color_scheme=scheme) as page:
            page.emulate_media(media=media, color_scheme=scheme)
            figure = page.locator("figure img:visible").first
            pixels = np.asarray(PILImage.open(io.BytesIO(figure.screenshot())).convert("L")).astype(float) / 255
            luminance = ((pixels + 0.055) / 1.055) ** 2.4
            ground = luminance[2, 2]
            contrast = (luminance + 0.05) / (ground + 0.05)
            # Letters, thin as they are, reach the contrast of text.
            assert max(contrast.max(), 1 / contrast.min()) > 7
            assert ground < 0.02 if (media, scheme) == ("screen", "dark") else ground == 1
            # The page shines through.
            of_page = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert re.findall(r"\d+", of_page)[0] == str(round(255 * pixels[2, 2]))


def test_the_page_reads_without_its_script(browser, label_page, caption_page):
    with visited(browser, label_page, java_script_enabled=False) as page:
        assert len(shown_rows(page)) > 24
        assert page.locator("figure img:visible").count() == 10
        assert not page.locator("#controls, #size-bar, #selection, #look").first.is_visible()
        assert "kept in ratio_60" in page.inner_text("#suspects") and "In ratio_60" in page.inner_text("body")
    with visited(browser, caption_page, java_script_enabled=False) as page:
        full = page.locator("#suspects details.full").first
        assert "to its very end" not in full.inner_text()
        full.locator("summary").click()
        assert "to its very end" in full.inner_text()


def test_pairs_are_told_in_the_words_of_captions(browser, caption_page):
    with visited(browser, caption_page) as page:
        assert page.title() == "pairs: what was kept" and page.inner_text("h1") == "pairs"
        assert shown_rows(page) == [6, 3]
        tile = page.locator("#suspects > .tile").first
        assert "fits better caption 1" in re.sub(r"\s+", " ", tile.inner_text())
        assert "caption disagrees with image" in tile.inner_text()
        tile.locator("button.picture").click()
        assert (
            LONG.replace("\u2028", " ").split()
            == re.sub(r"\s+", " ", page.locator("#look details.full > bdi").inner_text()).split()
        )
        page.keyboard.press("Escape")
        words = page.inner_text("body").replace("label column", "")
        assert "label" not in words.lower() and "quota of its cluster is full" in words
        assert not [alt for alt in page.eval_on_selector_all("img", "all => all.map(e => e.alt)") if "label" in alt]


@pytest.mark.slow
def test_wrong_labels_of_a_run_are_seen_selected_and_dropped(browser, tmp_path):
    """A fifth of the digits bear a wrong label: the page shows these first, and what is copied from it drops them."""
    digits, _ = load_source("embedded/digits")
    right = np.array(digits["label"])
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(right), round(0.2 * len(right)), replace=False)
    given = right.copy()
    given[wrong] = (right[wrong] + rng.integers(1, 10, len(wrong))) % 10
    noisy = digits.remove_columns("label").add_column("label", given.tolist()).cast(digits.features)
    noisy.save_to_disk(tmp_path / "noisy digits")
    flags = ["--dataset_name", str(tmp_path / "noisy digits"), "--model_name_or_path", "embedded/tiny-clip"]
    flags += ["--adaptation", "off", "--use_cpu", "true", "--dataloader_num_workers", "0"]
    flags += ["--output_dir", str(tmp_path / "out"), "--selection_ratio", "auto", "0.5"]
    main(["select", *flags])
    with visited(browser, tmp_path / "out" / "report.html", width=900) as page:
        assert page.title() == "noisy digits: what was kept"
        page.click("#more")
        assert np.isin(shown_rows(page), wrong).mean() > 0.95
        page.select_option("#by-kept", "kept")
        page.select_option("#by-kept", "")
        page.select_option("#by-cell", "=seven")
        assert {digits.features["label"].names[given[row]] for row in shown_rows(page)} == {"seven"}
        page.select_option("#by-cell", "")
        page.click("#select-shown")
        rows = shown_rows(page)
        page.evaluate("delete Navigator.prototype.clipboard")
        page.click("#copy")
        (tmp_path / "drop.txt").write_text(page.input_value("#numbers"))
        assert page.evaluate("document.querySelector('#suspects').getBoundingClientRect().top + scrollY") < 1000
    main(["select", *flags, "--must_drop", str(tmp_path / "drop.txt")])
    scores = SelectionResult.from_folder(tmp_path / "out").scores
    assert np.flatnonzero(column_values(scores, "must_drop")).tolist() == sorted(rows)
    assert not column_values(scores, "selected_50")[rows].any() and len(rows) == 24
