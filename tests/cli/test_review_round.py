"""A round as a person makes it: select, look at twenty suspects, decide by keyboard, select again, publish."""

import json
import shlex
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from browser import Visitor, opened_chromium, served
from datasets import Dataset, load_dataset, load_from_disk
from loopback_hub.server import LoopbackHub
from preloaded import run_python

from hf_clipselect import SelectionResult
from hf_clipselect.cli import main
from hf_clipselect.data import read_images
from hf_clipselect.data.decisions import Decision, read_decisions
from hf_clipselect.data.source import load_source
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.results.scores_table import column_values


pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

KEYS = [*"pppppkdupppppkdupppp"]
WORDS = {"p": "relabel", "k": "keep", "d": "drop", "u": "unsure"}
SELECT = ["select", "--dataset_name", "data", "--model_name_or_path", "embedded/tiny-clip", "--use_cpu"]
SELECT += ["--selection_ratio", "0.9"]
COUNTS = "14 labels changed, 2 kept, 2 rows dropped, 2 unsure"


@pytest.fixture(scope="module")
def browser():
    with opened_chromium() as opened:
        yield opened


# Runs command lines, which are JSON in its first argument, one after another.
COMMANDS = """
import json
import sys
from hf_clipselect.cli import main
for line in json.loads(sys.argv[1]):
    if code := main(line):
        sys.exit(code)
"""


def commands(*lines: list[str], env: dict[str, str], folder: Path) -> str:
    """What lines of `hf-clipselect` print, in a process and an environment of their own, and in the folder."""
    script = folder / "commands.py"
    script.write_text(COMMANDS)
    done = run_python(script, json.dumps(lines), env=env, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def save_noisy(place: str, folder: Path, *, count: int):
    """The images that were read; their labels are right."""
    images = read_images(*load_source(place, split="train"), max_samples=count)
    noisy = add_label_noise(images.labels, len(images.class_names), rate=0.2, seed=1)
    names = images.dataset.features[images.label_column]
    kept = images.dataset.remove_columns(images.label_column)
    kept.add_column(images.label_column, noisy, feature=names).save_to_disk(folder)
    return images


def review(browser, place: object, folder: Path, *flags: str, env: dict[str, str] | None = None) -> list[str]:
    """Decide about twenty suspects by the keyboard; gives the command that the page shows then."""
    with served(place, folder, *flags, env=env) as url:
        visitor = Visitor(browser, url)
        shown = visitor.page.locator("#review-facts [data-serial]")
        for key in KEYS:
            serial = shown.get_attribute("data-serial")
            visitor.page.keyboard.press(key)
            visitor.page.wait_for_function(
                "before => document.querySelector('#review-facts [data-serial]')?.dataset.serial !== before",
                arg=serial,
            )
        assert visitor.page.locator(".cs-progress strong").inner_text().startswith("20 of ")
        told = shlex.split(visitor.page.locator(".cs-apply pre").inner_text().replace("\\\n", " "))
        visitor.leave()
    return told


def check_subset(subset: Dataset, decisions: dict[int, Decision], given: dict[int, str], image: str) -> None:
    """Labels are those that were decided, the given ones stand beside them, and no dropped row is there."""
    name = subset.features["label"].int2str
    rows = {row["source_index"]: row for row in subset.remove_columns(image)}
    changed = 0
    for number, decision in decisions.items():
        if decision.decision == "drop":
            assert number not in rows
        elif number in rows:
            assert name(rows[number]["given_label"]) == given[number] == decision.given_label
            is_changed = decision.decision == "relabel"
            assert name(rows[number]["label"]) == (decision.new_label if is_changed else given[number])
            changed += is_changed
    assert changed > 0
    others = [row for number, row in rows.items() if number not in decisions]
    assert others and all(row["given_label"] == row["label"] for row in others)


@pytest.mark.parametrize("name", ["digits", "beans"])
def test_what_was_decided_in_the_browser_is_in_the_subset(browser, name, request, capsys, monkeypatch, tmp_path):
    place = "embedded/digits" if name == "digits" else str(request.getfixturevalue("real_data") / "beans-160px")
    images = save_noisy(place, tmp_path / "data", count=300 if name == "digits" else 600)
    monkeypatch.chdir(tmp_path)
    assert main(SELECT) == 0
    before = SelectionResult.from_folder(tmp_path / "clipselect_output").scores
    names = before.features["label"].names
    rows = column_values(before, "source_index").tolist()
    given = {row: names[number] for row, number in zip(rows, column_values(before, "label"), strict=True)}
    told = review(browser, tmp_path / "clipselect_output", tmp_path)
    decisions = read_decisions(tmp_path / "clipselect_output" / "decisions.parquet")
    assert Counter(decision.decision for decision in decisions.values()) == Counter(map(WORDS.get, KEYS))
    assert told[:2] == ["hf-clipselect", "select"]
    capsys.readouterr()
    assert main(told[1:]) == 0
    assert f"decisions: {COUNTS}\n" in capsys.readouterr().out
    subset = load_dataset(str(tmp_path / "clipselect_output" / "subset"), "ratio_90", split="train")
    check_subset(subset, decisions, given, images.image_column)
    assert COUNTS in (tmp_path / "clipselect_output" / "report.html").read_text()
    card = (tmp_path / "clipselect_output" / "subset" / "README.md").read_text()
    assert "People looked at 20 rows: labels kept 2, labels replaced 14, rows dropped 2, undecided 2." in card
    scores = pq.read_table(tmp_path / "clipselect_output" / "scores.parquet").to_pandas().set_index("source_index")
    for row, decision in decisions.items():
        assert scores.decision[row] == decision.decision
        if decision.decision in ("keep", "relabel"):
            assert scores.label_error_probability[row] == 0


def test_a_repository_is_reviewed_selected_again_and_shown_in_a_space(browser, tmp_path):
    images = save_noisy("embedded/digits", tmp_path / "data", count=300)
    with LoopbackHub(tmp_path / "hub") as hub:
        # `datasets` counts what is loaded from the Hub in a bucket of its own.
        env = hub.environment("hf_me_write") | {"HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        push = ["push", "clipselect_output", "--hub_dataset_id", "me/noisy"]
        commands(SELECT, push, env=env, folder=tmp_path)
        told = review(browser, "me/noisy", tmp_path, "--dataset_name", str(tmp_path / "data"), env=env)
        decisions = read_decisions(tmp_path / "decisions.parquet")
        assert len(decisions) == 20 and told[-2:] == ["--decisions", "decisions.parquet"]
        again = ["data" if word == "PATH_OF_YOUR_COPY" else word for word in told[1:]]
        again += ["--push_to_hub", "--hub_dataset_id", "me/noisy"]
        pull = ["pull", "me/noisy", "--selection_ratio", "0.9", "--output_dir", "pulled"]
        show_in_space = ["explore", "me/noisy", "--hub_space_id", "me/explorer"]
        printed = commands(again, pull, show_in_space, env=env, folder=tmp_path)
        assert f"decisions: {COUNTS}\n" in printed
        assert "labels replaced 14" in hub.read("datasets/me/noisy", "README.md").decode()
        subset = load_dataset(str(tmp_path / "pulled"), split="train")
        noisy = load_from_disk(str(tmp_path / "data"))["label"]
        given = {row: images.class_names[number] for row, number in enumerate(noisy)}
        check_subset(subset, decisions, given, "image")
        assert "me/noisy" in hub.read("spaces/me/explorer", "app.py").decode()
        assert not hub.unknown
