"""The explorer in a real browser: every tab, each decision by button and by key, at two widths, light and dark."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from browser import Visitor, free_port, opened_chromium, served, wait_until
from captioned import drawn_pairs
from forked_explorers import ForkedExplorer
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub
from preloaded import Command

from hf_clipselect import SelectionResult
from hf_clipselect.cli import main
from hf_clipselect.data import read_images
from hf_clipselect.data.decisions import read_decisions
from hf_clipselect.data.source import load_source
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.results.explorer import build_app, launch_options, open_selection
from hf_clipselect.results.explorer.explorer_map import find_map, points_of
from hf_clipselect.results.report import pick_suspects
from hf_clipselect.results.scores_table import column_values


pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

_RUN = ["select", "--model_name_or_path", "embedded/tiny-clip", "--use_cpu"]


@pytest.fixture(scope="module")
def browser():
    with opened_chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def noisy_run(browser, tmp_path_factory):
    """The output folder of a run on digits of which a fifth are labelled wrong, and the right labels."""
    folder = tmp_path_factory.mktemp("noisy")
    clean = read_images(*load_source("embedded/digits", split="train"))
    noisy = add_label_noise(clean.labels, 10, rate=0.2, seed=0)
    feature = clean.dataset.features["label"]
    clean.dataset.remove_columns("label").add_column("label", noisy, feature=feature).save_to_disk(folder / "data")
    flags = ["--dataset_name", str(folder / "data"), "--max_train_samples", "600", "--selection_ratio", "0.3", "0.8"]
    assert main([*_RUN, *flags, "--output_dir", str(folder / "run")]) == 0
    return folder / "run", clean.labels


@pytest.fixture(scope="module")
def noisy_url(noisy_run, tmp_path_factory):
    with served(noisy_run[0], tmp_path_factory.mktemp("server"), start=ForkedExplorer) as url:
        yield url


@pytest.fixture
def visit(browser, noisy_run, noisy_url):
    """Opens the page of the noisy digits, about which nothing was decided yet."""
    (noisy_run[0] / "decisions.parquet").unlink(missing_ok=True)
    visitors = []

    def open_page(**settings):
        visitors.append(Visitor(browser, noisy_url, **settings))
        return visitors[-1].page

    yield open_page
    for visitor in visitors:
        visitor.leave()


def row_shown(page):
    return page.locator("#review-facts [data-serial]").get_attribute("data-row")


def do(page, action):
    """Do what shows another row, or the same anew, and wait for it."""
    before = page.locator("#review-facts [data-serial]").get_attribute("data-serial")
    action()
    page.wait_for_function(
        "before => document.querySelector('#review-facts [data-serial]')?.dataset.serial !== before", arg=before
    )


def press(page, key):
    do(page, lambda: page.keyboard.press(key))


def take_class(page, name):
    def choose():
        page.keyboard.type(name)
        page.keyboard.press("Enter")

    page.wait_for_function("document.activeElement.closest('#review-other') !== null")
    do(page, choose)
    # The field lets go of the keys.
    page.wait_for_function("document.activeElement.closest('#review-other') === null")


def test_twenty_suspects_are_reviewed_by_keyboard_and_the_decisions_applied(visit, noisy_run, tmp_path):
    folder, right = noisy_run
    result = SelectionResult.from_folder(folder)
    suspects = column_values(result.scores, "source_index")[pick_suspects(result.scores)][:20].tolist()
    names = result.scores.features["label"].names
    page, seen = visit(), []
    keys = ["p"] * 9 + ["k", "d", "u"] + ["p"] * 6 + ["c", "p"]
    for key in keys:
        seen.append(int(row_shown(page)))
        if key == "c":
            page.keyboard.press("c")
            take_class(page, names[right[seen[-1]]])
        else:
            press(page, key)
    assert seen == suspects
    assert page.locator(".cs-progress strong").inner_text().startswith("20 of ")
    found = read_decisions(folder / "decisions.parquet")
    words = {"p": "relabel", "k": "keep", "d": "drop", "u": "unsure", "c": "relabel"}
    assert [found[row].decision for row in seen] == [words[key] for key in keys] and len(found) == 20
    proposed = [found[row].new_label == names[right[row]] for row, key in zip(seen, keys, strict=True) if key == "p"]
    assert np.mean(proposed) > 0.8
    assert found[seen[18]].new_label == names[right[seen[18]]]
    assert {decision.reviewer for decision in found.values()} == {None}
    # The command that the page shows, on a copy of the folder.
    shutil.copytree(folder, tmp_path / "run")
    command = shlex.split(page.locator(".cs-apply pre").inner_text())
    assert command == ["hf-clipselect", *f"select --config {folder}/config.yaml".split(), *command[4:]]
    assert command[4:] == ["--decisions", f"{folder}/decisions.parquet"]
    assert main([*command[1:], "--use_cpu", "--output_dir", str(tmp_path / "run")]) == 0
    explored = open_selection(tmp_path / "run")
    applied = {row: (d.decision, d.new_label) for row, d in explored.applied_decisions().items()}
    assert applied == {row: (d.decision, d.new_label) for row, d in found.items()}
    report, selected = explored.result.report, explored.result.at(0.8).selected
    assert report["decisions"] == {"keep": 1, "relabel": 17, "drop": 1, "unsure": 1}
    assert seen[10] not in selected
    labels = explored.column("label")
    for row, decision in found.items():
        at = explored.row_of(row)
        assert names[labels[at]] == (decision.new_label or decision.given_label)
        assert names[explored.given[at]] == decision.given_label
    assert not set(explored.source_index[explored.suspects]) & {
        row for row, d in found.items() if d.decision in ("keep", "relabel")
    }


def test_each_decision_by_its_button(visit, noisy_run):
    page, path = visit(), noisy_run[0] / "decisions.parquet"

    def click(name):
        do(page, lambda: page.locator(f"#review-{name}").click())

    first = row_shown(page)
    for name, decision in [("keep", "keep"), ("take", "relabel"), ("drop", "drop"), ("unsure", "unsure")]:
        row = int(row_shown(page))
        click(name)
        assert read_decisions(path)[row].decision == decision
    click("undo")
    assert int(row_shown(page)) == row and row not in read_decisions(path)
    for _ in range(3):
        click("back")
    assert row_shown(page) == first
    assert "the label is right" in page.locator(".cs-decision").inner_text()
    given = page.locator(".cs-given").inner_text()
    other = next(
        name for name in ("one", "two", "three") if name not in (given, page.locator(".cs-proposed").inner_text())
    )
    page.locator("#review-other input").click()
    take_class(page, other)
    assert read_decisions(path)[int(first)].new_label == other
    press(page, "ArrowLeft")
    press(page, "ArrowRight")
    page.reload()
    page.wait_for_selector("#review-facts [data-serial]")
    assert page.locator(".cs-progress strong").inner_text().startswith("3 of ") and row_shown(page) != first


def shown_now(page):
    return page.locator("#review-facts [data-serial]").get_attribute("data-serial")


def test_the_field_of_another_class_decides_by_a_choice_alone_and_once(visit, noisy_run):
    page, path = visit(), noisy_run[0] / "decisions.parquet"
    serial, first = shown_now(page), int(row_shown(page))
    page.keyboard.press("c")
    page.wait_for_function("document.activeElement.closest('#review-other') !== null")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    page.keyboard.press("Tab")
    page.wait_for_timeout(1000)
    assert not path.exists() and shown_now(page) == serial
    for name in ("two", "two"):
        page.locator("#review-other input").click()
        do(page, lambda name=name: page.get_by_role("option", name=name, exact=True).click())
        page.wait_for_timeout(1500)
        found = read_decisions(path)
        assert found[first].given_label == "two" or found[first].new_label == "two"
    assert len(found) == 2 and page.locator("#review-other input").input_value() == ""


def test_a_decision_is_about_the_row_that_is_seen(visit, noisy_run):
    page, path = visit(), noisy_run[0] / "decisions.parquet"
    first = row_shown(page)
    page.evaluate("document.querySelector('#review-facts [data-row]').dataset.row = '123456'")
    press(page, "d")
    assert not path.exists() and row_shown(page) == first
    press(page, "d")
    assert list(read_decisions(path)) == [int(first)]


def test_a_key_that_is_held_decides_once(visit, noisy_run):
    page, path = visit(), noisy_run[0] / "decisions.parquet"
    do(page, lambda: page.keyboard.down("d"))
    for _ in range(4):
        page.keyboard.down("d")
        page.wait_for_timeout(400)
    page.keyboard.up("d")
    assert len(read_decisions(path)) == 1
    page.locator("#review-unsure").focus()
    do(page, lambda: page.keyboard.down("Enter"))
    for _ in range(4):
        page.keyboard.down("Enter")
        page.wait_for_timeout(400)
    page.keyboard.up("Enter")
    assert len(read_decisions(path)) == 2
    page.keyboard.down("ArrowLeft")
    do(page, lambda: page.keyboard.down("ArrowLeft"))
    page.keyboard.up("ArrowLeft")


def test_a_filter_that_is_left_as_it_is_changes_nothing(visit):
    page = visit()
    do(page, lambda: choose(page, "Given label", "three"))
    press(page, "ArrowRight")
    serial = shown_now(page)
    for label in ("Given label", "Confused pair"):
        page.get_by_label(label, exact=True).click()
        page.keyboard.press("Tab")
    page.wait_for_timeout(1000)
    assert shown_now(page) == serial
    assert page.get_by_label("Given label", exact=True).input_value() == "three"
    open_tab(page, "Rows")
    page.wait_for_selector("#rows-table tbody tr")
    after_change(page, "#rows-table", lambda: choose(page, "Score", "margin"))
    after_change(page, "#rows-table", lambda: page.get_by_label("from", exact=True).fill("-0.5"))
    wait_until(lambda: "600 rows" not in page.locator(".cs-count").inner_text(), "the range is used")
    after_change(page, "#rows-table", lambda: page.locator("#rows-next").click())
    for label in ("Class", "Score", "Reason (subset of 30 %)"):
        page.get_by_label(label, exact=True).click()
        page.keyboard.press("Tab")
    page.wait_for_timeout(1000)
    assert "51 to 100 shown" in page.locator(".cs-count").inner_text()
    assert float(page.get_by_label("from", exact=True).input_value()) == -0.5


def test_undo_shows_the_queue_that_it_goes_to(visit):
    page = visit()
    do(page, lambda: choose(page, "Given label", "three"))
    press(page, "u")
    do(page, lambda: choose(page, "Given label", "seven"))
    page.wait_for_function("document.activeElement.closest('.cs-filters') === null")
    press(page, "z")
    assert page.locator(".cs-given").inner_text() == "three"
    wait_until(
        lambda: page.get_by_label("Given label", exact=True).input_value().startswith("all ("), "the whole queue"
    )


def choose(page, label, text):
    field = page.get_by_label(label, exact=True)
    field.click()
    page.get_by_role("option", name=text).first.click()


def test_filters_of_the_review_and_keys_that_are_typed_into_a_field(visit, noisy_run):
    page = visit()
    do(page, lambda: choose(page, "Given label", "three"))
    assert page.locator(".cs-given").inner_text() == "three"
    total = page.locator(".cs-progress strong").inner_text()
    assert re.fullmatch(r"0 of \d+ reviewed", total)
    page.wait_for_timeout(1000)  # the other filter goes back to all, which closes it
    do(page, lambda: choose(page, "Confused pair", "looks like"))
    pair = page.get_by_label("Confused pair", exact=True).input_value()
    given, proposed = re.fullmatch(r"(\w+) looks like (\w+) \(\d+\)", pair).groups()
    assert (page.locator(".cs-given").inner_text(), page.locator(".cs-proposed").inner_text()) == (given, proposed)
    page.wait_for_function("document.activeElement.closest('.cs-filters') === null")  # the keys are free again
    press(page, "ArrowRight")
    serial = page.locator("#review-facts [data-serial]").get_attribute("data-serial")
    page.get_by_label("Given label", exact=True).click()
    page.keyboard.type("dupkz")
    page.wait_for_timeout(500)
    assert page.locator("#review-facts [data-serial]").get_attribute("data-serial") == serial
    assert not (noisy_run[0] / "decisions.parquet").exists()


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def cells(page, column):
    return page.locator(f"#rows-table tbody tr td:nth-child({column})").all_inner_texts()


def after_change(page, selector, action):
    before = page.locator(f"{selector} [data-serial]").first.get_attribute("data-serial")
    action()
    page.wait_for_function(
        "([s, b]) => document.querySelector(s + ' [data-serial]')?.dataset.serial !== b", arg=[selector, before]
    )


def test_rows_are_filtered_sorted_and_enlarged(visit, noisy_run):
    scores = SelectionResult.from_folder(noisy_run[0]).scores
    page = visit()
    open_tab(page, "Rows")
    page.wait_for_selector("#rows-table tbody tr")
    assert "600 rows, 1 to 50 shown" in page.locator(".cs-count").inner_text()
    assert page.locator("#rows-table tbody img").count() == 50
    after_change(page, "#rows-table", lambda: page.locator("#rows-next").click())
    assert "51 to 100 shown" in page.locator(".cs-count").inner_text()
    after_change(page, "#rows-table", lambda: choose(page, "Class", "seven"))
    assert set(cells(page, 3)) == {"seven"}
    after_change(page, "#rows-table", lambda: page.locator("[data-sort=sas]").click())
    after_change(page, "#rows-table", lambda: page.locator("[data-sort=sas]").click())
    assert page.locator("th[aria-sort=descending]").count() == 1
    labels, sas = column_values(scores, "label"), column_values(scores, "sas")
    of_class = np.flatnonzero(labels == 7)
    expected = column_values(scores, "source_index")[of_class[np.argsort(-sas[of_class], kind="stable")]]
    assert cells(page, 2) == [str(row) for row in expected[:50]]
    after_change(page, "#rows-table", lambda: choose(page, "Kept or dropped", "dropped"))
    after_change(page, "#rows-table", lambda: choose(page, "Score", "alignment with the label"))
    after_change(page, "#rows-table", lambda: page.get_by_label("to", exact=True).fill("0.2"))
    kept = column_values(scores, "selected_30")
    count = np.count_nonzero((labels == 7) & ~kept & (sas <= np.float32(0.2)))
    wait_until(lambda: page.locator(".cs-count").inner_text().startswith(f"{count} rows"), "the range is used")
    row = cells(page, 2)[1]
    page.locator("#rows-table tbody tr").nth(1).click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert dialog.get_attribute("aria-label") == f"Row {row}" and "Nearest rows" in dialog.inner_text()
    assert page.evaluate("document.activeElement.className") == "cs-close"
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.locator("#rows-table tbody tr").nth(1).locator("button").press("Enter")
    dialog.wait_for()
    dialog.get_by_role("button", name="Close").click()
    after_change(page, "#rows-table", lambda: page.get_by_label("pictures").click())
    assert page.locator("#rows-table .cs-tile").count() == min(count, 50)


def test_sizes_follow_the_slider(visit, noisy_run):
    result = SelectionResult.from_folder(noisy_run[0])
    page = visit()
    open_tab(page, "Sizes")
    page.get_by_label("number input").fill("50")
    page.keyboard.press("Enter")
    wait_until(lambda: page.locator(".cs-numbers dd").first.inner_text().startswith("300"), "half of the rows")
    kept = column_values(result.at(0.5).scores, "selected_50")
    wrong = column_values(result.scores, "label_error_probability")
    shown = page.locator(".cs-numbers dd").all_inner_texts()
    assert shown[2:] == [f"{100 * wrong[kept].mean():.1f} %", f"{100 * wrong[~kept].mean():.1f} %"]
    labels = column_values(result.scores, "label")
    rows = [
        [int(text) for text in row[:2]]
        for row in (line.locator("td").all_inner_texts() for line in page.locator(".cs-classes tbody tr").all())
    ]
    assert rows == [[int((labels == c).sum()), int((labels[kept] == c).sum())] for c in range(10)]


def test_the_map_is_made_coloured_and_clicked(visit, noisy_run):
    (noisy_run[0] / "map.parquet").unlink(missing_ok=True)
    page = visit()
    open_tab(page, "Map")
    page.locator("#map-make").click()
    canvas = page.locator("#map-points canvas")
    canvas.wait_for(timeout=120_000)
    assert (noisy_run[0] / "map.parquet").exists() and not page.locator("#map-make").is_visible()
    pictures = set()
    for name in ("class", "kept or dropped", "probability of a wrong label"):
        page.get_by_label(name, exact=True).check()
        page.wait_for_timeout(300)
        pictures.add(canvas.evaluate("canvas => canvas.toDataURL()"))
    assert len(pictures) == 3
    explored = open_selection(noisy_run[0])
    points = json.loads(points_of(explored, find_map(explored)))
    at = points["x"].index(min(points["x"]))
    side = canvas.bounding_box()["width"] - 2 * 10  # a margin of 10 pixels on each side
    canvas.click(position={"x": 10 + points["x"][at] * side, "y": 10 + (1 - points["y"][at]) * side})
    page.locator(f"#map-row [data-row='{points['row'][at]}']").wait_for()
    page.locator("#map-row .cs-strip img").first.wait_for()
    assert page.locator("#map-row .cs-strip img").count() == 6
    again = visit()
    open_tab(again, "Map")
    again.locator("#map-points canvas").wait_for()


@pytest.mark.parametrize(("width", "dark"), [(420, False), (1400, False), (420, True)])
def test_nothing_sticks_out_of_the_page(visit, width, dark):
    page = visit(width=width, dark=dark)
    for name in ("Review", "Rows", "Map", "Sizes"):
        open_tab(page, name)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    open_tab(page, "Rows")
    page.locator("#rows-table tbody tr").first.click()
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colors = page.evaluate("getComputedStyle(document.querySelector('.cs-dialog')).backgroundColor")
    assert (sum(map(float, re.findall(r"[\d.]+", colors)[:3])) < 200) == dark
    sizes = page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent && !(b.innerText || b.ariaLabel)).length"
    )
    assert sizes == 0


def test_a_page_to_look_at_alone(browser, noisy_run):
    explored = open_selection(noisy_run[0])
    app = build_app(explored, read_only=True)
    app.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, **launch_options())
    try:
        visitor = Visitor(browser, app.local_url)
        page = visitor.page
        first = row_shown(page)
        assert page.locator(".cs-decision").count() == 0
        assert page.locator("#review-keep, #review-take, #review-drop, #review-undo").count() == 0
        assert not page.locator("#review-other").is_visible() and page.locator(".cs-apply").count() == 0
        page.keyboard.press("d")
        press(page, "ArrowRight")
        assert row_shown(page) != first
        visitor.leave()
    finally:
        app.close(verbose=False)


@pytest.fixture(scope="module")
def captions_run(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    pairs, _ = drawn_pairs(200)
    pairs.save_to_disk(folder / "data")
    flags = ["--dataset_name", str(folder / "data"), "--image_column_name", "picture", "--caption_column", "text"]
    flags += ["--num_clusters", "3", "--output_dir", str(folder / "run")]
    assert main([*_RUN, *flags]) == 0
    return folder / "run", pairs


def test_captions_are_shown_in_full_and_decided_about(browser, captions_run, tmp_path):
    run, pairs = captions_run
    decisions = tmp_path / "mine.parquet"
    flags = ["--decisions", str(decisions), "--reviewer", "Ada"]
    with served(run, tmp_path, *flags, start=ForkedExplorer) as url:
        visitor = Visitor(browser, url)
        page = visitor.page
        texts = pairs["text"][:]
        scores = SelectionResult.from_folder(run).scores
        rows = pick_suspects(scores)
        number = int(column_values(scores, "source_index")[rows[0]])
        better = int(column_values(scores, "better_caption")[rows[0]])
        assert row_shown(page) == str(number)
        assert page.locator(".cs-given").inner_text() == texts[number]
        assert page.locator(".cs-proposed").inner_text() == texts[better]
        assert page.locator("#review-take").count() == 0 and not page.locator("#review-other").is_visible()
        assert page.locator(".cs-strip h3").all_inner_texts() == ["Nearest rows"]
        for key in "kdu":
            press(page, key)
        found = read_decisions(decisions)
        assert sorted(decision.decision for decision in found.values()) == ["drop", "keep", "unsure"]
        assert {decision.reviewer for decision in found.values()} == {"Ada"}
        open_tab(page, "Rows")
        page.wait_for_selector("#rows-table tbody tr")
        assert texts[0] in page.locator("#rows-table tbody tr").first.inner_text()
        assert "alignment with the caption" in page.locator("#rows-table thead").inner_text()
        for name in ("Map", "Sizes"):
            open_tab(page, name)
        visitor.leave()
    assert not (run / "decisions.parquet").exists()


def test_a_published_folder_without_features_shows_typical_rows(browser, noisy_run, tmp_path):
    shutil.copytree(noisy_run[0] / "subset", tmp_path / "published")
    flags = ["--dataset_name", str(noisy_run[0].parent / "data")]
    with served(tmp_path / "published", tmp_path, *flags, start=ForkedExplorer) as url:
        visitor = Visitor(browser, url)
        titles = visitor.page.locator(".cs-strip h3").all_inner_texts()
        assert len(titles) == 2 and all(title.startswith("Typical rows (highest alignment)") for title in titles)
        press(visitor.page, "k")
        open_tab(visitor.page, "Map")
        visitor.page.get_by_text("There is no map").wait_for()
        visitor.leave()
    assert len(read_decisions(tmp_path / "decisions.parquet")) == 1


def test_a_repository_is_reviewed(browser, tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        # `datasets` counts what is loaded from the Hub in a bucket of its own.
        env = hub.environment("hf_me_write") | {"HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        run_client("space_clients", "push_selection", env=env)
        with served("me/pruned", tmp_path, env=env, start=Command) as url:
            visitor = Visitor(browser, url)
            assert "Only the rows that were kept have images" in visitor.page.locator(".cs-note").first.inner_text()
            press(visitor.page, "p")
            assert visitor.page.locator(".cs-apply code").inner_text() == "decisions.parquet"
            visitor.leave()
    assert len(read_decisions(tmp_path / "decisions.parquet")) == 1
