"""Every figure of the pages is one of the results: tables are filled from them, sentences are compared with them
here.
"""

import json
import os
import re
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from recipe_files import RECIPES, load_recipe


RESULTS = RECIPES / "results"
PRINTED = RESULTS / "tests" / "printed.md"


def test_recipes_leave_the_environment_of_the_tests_alone():
    before = dict(os.environ), list(sys.path)
    load_recipe.__wrapped__("benchmark.py")
    assert (dict(os.environ), list(sys.path)) == before and "PYTHONSAFEPATH" not in os.environ


@pytest.mark.parametrize("page", ["README.md", "recipes/README.md"])
def test_tables_of_the_pages_are_those_of_the_results(page):
    recipe, text = load_recipe("publish_results.py"), (REPOSITORY / page).read_text(encoding="utf-8")
    assert recipe.MARKER.findall(text) and recipe.filled(text, RESULTS) == text
    if page == "recipes/README.md":
        named = {name.strip("`[]") for name in re.findall(r"`[\w*]+`|\[\w+\]", text.split("## All results")[1])}
        named |= set(re.findall(r"results/(\w+)", text))
        kept = [path.name for path in RESULTS.iterdir()]
        assert [name for name in kept if not any(fnmatch(name, pattern) for pattern in named)] == []
        assert len(text) <= 12_000


def test_marked_tables_are_filled_with_the_rows_that_they_name(tmp_path):
    recipe = load_recipe("publish_results.py")
    run = tmp_path / "run"
    run.mkdir()
    table = "| method | 0.2 |\n|---|---|\n| `diverse` | 1 |\n| random rows | 2 |\n| a, b | 3 |\n"
    (run / "tables.md").write_text(
        f"a command\n\n## made, 0% noise\n\nAccuracy, %:\n\n{table}\nOther:\n\n| a |\n\n## made, 5% "
        "noise\n\nAccuracy, %:\n\n| b |\n"
    )
    (run / "results.csv").write_text("a\n1\n")
    (run / "results.parquet").write_bytes(b"not kept")
    recipe.keep(run, tmp_path / "results" / "run")
    assert {path.name for path in (tmp_path / "results" / "run").iterdir()} == {"tables.md", "results.csv"}
    page = (
        "Text\n<!-- results/run: Accuracy, %: -->\n\n| old |\n\n"
        "More\n<!-- results/run: Accuracy, %: only random rows; a, b -->\n"
    )
    once = recipe.filled(page, tmp_path / "results")
    assert once == (
        f"Text\n<!-- results/run: Accuracy, %: -->\n\n{table}\nMore\n"
        "<!-- results/run: Accuracy, %: only random rows; a, b -->\n\n"
        "| method | 0.2 |\n|---|---|\n| random rows | 2 |\n| a, b | 3 |\n"
    )
    assert recipe.filled(once, tmp_path / "results") == once
    later = recipe.filled("<!-- results/run [5% noise]: Accuracy, %: -->\n", tmp_path / "results")
    assert later.endswith("-->\n\n| b |\n")
    for wrong, message in (("Nothing:", "no table under"), ("Accuracy, %: only el2n", "no row 'el2n'.*diverse")):
        with pytest.raises(ValueError, match=message):
            recipe.filled(f"<!-- results/run: {wrong} -->\n", tmp_path / "results")
    with pytest.raises(ValueError, match="has no tables.md"):
        recipe.keep(tmp_path, tmp_path / "other")


RUN = """a command

## made, 0% noise

Accuracy, net, %:

| method | 0.2 | 0.5 |
|---|---|---|
| `robust` | **94.0** ± 0.7 | 1,297 |
| random rows, a / b | 92.9 | 1.38 GB |

## made, 5% noise

Accuracy, net, %:

| method | 0.2 |
|---|---|
| `robust` | 7.5 |
"""


@pytest.fixture
def results(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tables.md").write_text(RUN, encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "printed.md").write_text(
        "wrong captions, %: 0.0, 0.6\nAUROC, made\nnoise: 99.8 and 99.9\nnoise: 97\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("mark", "figure"),
    [
        ("results/run: Accuracy, net: `robust` / 0.2", "94.0"),
        ("results/run: Accuracy: `robust` / 0.2 ±", "94.0 ± 0.7"),
        ("results/run: Accuracy: random rows, a / b / 0.5", "1.38 GB"),
        ("results/run [5% noise]: Accuracy: `robust` / 0.2", "7.5"),
        ("results/run: Accuracy: `robust` / 0.2 minus random rows, a / b / 0.2", "1.1"),
        ("results/run: Accuracy: `robust` / 0.5 minus `robust` / 0.2", "1203.0"),
        ("results/run:\nAccuracy,\n  net: `robust` / 0.2", "94.0"),
        ("results/tests after captions, %:", "0.0"),
        ("results/tests after AUROC, made noise: 99.8 and", "99.9"),
    ],
)
def test_marked_figures_are_filled_from_their_cells(mark, figure, results):
    recipe = load_recipe("publish_results.py")
    page = f"A line\nof <!-- {mark} -->old<!-- / --> %, and <!-- {mark} --><!-- / --> twice.\n"
    filled = recipe.filled(page, results)
    assert filled == f"A line\nof <!-- {mark} -->{figure}<!-- / --> %, and <!-- {mark} -->{figure}<!-- / --> twice.\n"
    assert recipe.filled(filled, results) == filled


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("results/run: Loss: `robust` / 0.2", "no table under 'Loss'"),
        ("results/run: Accuracy: `clean` / 0.2", "no cell '`clean` / 0.2' under 'Accuracy'; its rows are `robust`, "),
        ("results/run: Accuracy: `robust` / 0.3", "no cell '`robust` / 0.3'.* its columns 0.2, 0.5"),
        (
            "results/run: Accuracy: random rows, a / b / 0.2 minus `robust` / 0.2",
            "is -1.1, below 0; turn the sentence",
        ),
        (
            "results/run: Accuracy: `robust` / 0.5 minus random rows, a / b / 0.2 minus `robust` / 0.2",
            "of two numbers",
        ),
        ("results/tests after noise", "has 0 numbers after 'noise'; name words that stand before one alone"),
        ("results/tests after noise:", "has 2 numbers after"),
    ],
)
def test_marks_without_a_figure_are_told(mark, message, results):
    recipe = load_recipe("publish_results.py")
    with pytest.raises(ValueError, match=message):
        recipe.filled(f"Text <!-- {mark} -->1<!-- / -->\n", results)


@pytest.mark.parametrize("start", ["", "- ", "2. ", "> "])
def test_a_mark_that_begins_a_line_is_refused(start, results):
    recipe = load_recipe("publish_results.py")
    mark = "<!-- results/run: Accuracy: `robust` / 0.2 -->94.0<!-- / -->"
    with pytest.raises(ValueError, match="begins a line, and Markdown takes the rest of it for HTML"):
        recipe.filled(f"Text\n{start}{mark} %\n", results)
    assert recipe.filled(f"Text\n{start}a {mark} %\n", results) == f"Text\n{start}a {mark} %\n"


def test_tables_of_what_is_kept_are_written_again_under_their_head(tmp_path):
    recipe = load_recipe("publish_results.py")
    for figures in ("results.csv", "accuracy.csv", "results.json"):
        folder = min(RESULTS.glob(f"*/{figures}")).parent
        shutil.copytree(folder, tmp_path / folder.name)
        path = tmp_path / folder.name / "tables.md"
        text = path.read_text(encoding="utf-8")
        assert recipe.written_again(path) == text
        if figures != "results.json":  # whose tables its own recipe writes
            path.write_text(text.replace("± ", "± 9"), encoding="utf-8")
            assert recipe.written_again(path) == text


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/results.json")), ids=lambda path: path.parent.name)
def test_committed_tables_are_those_of_their_figures(path):
    head, tables = (path.parent / "tables.md").read_text(encoding="utf-8").split("\n\n## ", 1)
    [recipe] = re.findall(r"^`python recipes/(\w+\.py) .*`$", head.splitlines()[0])
    assert re.search(r", commit \w+; ", head)
    assert f"## {tables}" == load_recipe(recipe).markdown(json.loads(path.read_text(encoding="utf-8")))


def test_sentences_have_the_figures_of_the_benchmark():
    assert len(table("benchmark", "What the work costs, and what it costs the other way:")) <= 10
    told = flat(REPOSITORY / "CONTRIBUTING.md")
    growth = {stage: float(row["exponent"]) for stage, row in table("benchmark_scaling", "Stage by stage:").items()}
    assert max(growth, key=growth.get) == "sgd" and sorted(growth.values())[-2] < 1.02
    assert "the cost of every stage but the `sgd` solver grows no faster than the rows" in told


def test_the_table_of_faults_sums_up_what_the_test_printed():
    told, printed = flat(REPOSITORY / "CONTRIBUTING.md"), PRINTED.read_text(encoding="utf-8")
    faults, *lines = re.search(r"request \(adapters, dataset\) .*\n(?:.+\n)+?(?=```)", printed)[0].splitlines()
    assert re.split(" {2,}", faults.strip())[1:] == ["500", "reset", "lost answer", "kill before", "kill after"]
    states = np.array([re.findall("(?:old|new), (?:old|new)", line) for line in lines])
    [adapters], [dataset] = (
        [number for number, line in enumerate(lines) if f"{repository} commit main" in line]
        for repository in ("adapters", "pruned")
    )
    steps = np.split(states, [adapters, adapters + 1, dataset, dataset + 1])
    assert [len(step) for step in steps[1::2]] == [1, 1]
    before, between, tags = (len(step) for step in steps[::2])
    assert f"each of the {len(states)} requests" in told and f"each of the {states.size} cases" in told
    assert (
        f"before the adapters' commit ({before} requests) | their commit | before the dataset's commit ({between}) |"
        in told
    )
    assert f"| tags ({tags}) |" in told
    for name, columns in (
        ("HTTP 500, reset connection or lost answer: tried again", [0, 1, 2]),
        ("`kill -9` before the request is done", [3]),
        ("`kill -9` after the request is done", [4]),
    ):
        cells = [np.unique(step[:, columns]).tolist() for step in steps]
        assert f"| {name} | {' | '.join(cell for [cell] in cells)} |" in told


def table(folder: str, caption: str) -> dict[str, dict[str, str]]:
    """Row -> column -> figure, of the first table under the caption that begins so."""
    text = (RESULTS / folder / "tables.md").read_text(encoding="utf-8")
    lines = re.search(rf"^{re.escape(caption)}.*\n\n((?:\|.*\n)+)", text, re.MULTILINE)[1].splitlines()
    columns, _, *rows = ([cell.strip().replace("*", "") for cell in line.split("|")[1:-1]] for line in lines)
    return {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}


def flat(page: Path) -> str:
    return " ".join(page.read_text(encoding="utf-8").split())
