"""What an earlier version left loads, gives the same rows, and is gone on from: fixtures/made_at_d51eaaf, see its
README.md.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from loopback_hub.card import check
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub
from recipe_runs import run_recipe

from hf_clipselect import SelectionResult


pytestmark = pytest.mark.slow

MADE = Path(__file__).resolve().parents[1] / "fixtures" / "made_at_d51eaaf"
COMMANDS = json.loads((MADE / "commands.json").read_text())
SCORES = ("sas", "margin", "sds")
# The default for labels then, which has to be named now; that for captions is what it was.
COMMANDS["run"] += ["--objective", "diverse"]
EXPECTED = json.loads((MADE / "expected.json").read_text())


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The sources at the commits that the selections name, and the published repositories."""
    with LoopbackHub(tmp_path_factory.mktemp("hub"), clock=lambda: 1_700_000_000) as hub:
        run_client("earlier_clients", "serve", MADE, env=hub.environment("hf_me_write"))
        yield hub


@pytest.fixture(scope="module")
def found(hub):
    return run_client("earlier_clients", "read", MADE, env=hub.environment())


@pytest.fixture(scope="module")
def gone_on(hub, tmp_path_factory):
    """What runs of now log that go on in copies of the fixtures, by their names, and the folders of these copies."""
    place, published = tmp_path_factory.mktemp("gone-on"), COMMANDS["published"]
    flags = {
        "run": COMMANDS["run"],
        "captions_run": COMMANDS["captions_run"],
        "another size": [*COMMANDS["run"], "--selection_ratio", "0.4"],
        "default of now": [flag for flag in COMMANDS["run"] if flag not in ("--objective", "diverse")],
        "default of then": COMMANDS["run"],
        "config": ["--config", "run/config.yaml", "--output_dir", "new"],
        "adapters": published[: published.index("--objective")]
        + published[published.index("--dataloader_num_workers") : published.index("--push_to_hub")]
        + ["--adapter_name_or_path", "me/adapters"],
    }
    runs = {name: {"flags": flags[name], "folder": place / name, "copy_of": MADE} for name in flags}
    runs["default of then"]["copy_of"] = place / "default of now"
    logs = run_recipe(list(runs.values()), env=hub.environment())
    return {name: (log, place / name) for name, log in zip(flags, logs, strict=True)}


def check_rows(folder: Path, name: str) -> None:
    """A run that computed its scores from features of then keeps the rows of then."""
    now, then = (SelectionResult.from_folder(path) for path in (folder, MADE / name))
    for ratio in (0.3, 0.5):
        assert now.at(ratio).selected.tolist() == EXPECTED[name][f"at ratio {ratio}"]["selected"]
    assert set(now.scores.column_names) >= set(then.scores.column_names) - {"reason"}
    for column in SCORES:
        np.testing.assert_allclose(now.scores[column][:], then.scores[column][:], rtol=0, atol=1e-5)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nobody_made_the_fixtures_anew():
    sums = dict(reversed(line.split("  ")) for line in (MADE / "sha256sums").read_text().splitlines())
    written_by_hand = {"README.md", "make.py", "sha256sums"}
    there = {path: content for path, content in files_of(MADE).items() if "__pycache__" not in path}
    assert {p: hashlib.sha256(c).hexdigest() for p, c in there.items() if p not in written_by_hand} == sums
    # sha256sums could be made anew too.
    assert (
        hashlib.sha256((MADE / "sha256sums").read_bytes()).hexdigest()
        == "ee818d52563fdd874a6f5ca4bc06a0f9b37b10b6b6feddb0b4805a8628e2f57e"
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_the_same_is_read(found, name):
    """Scores, subsets, given and new sizes, applied to the source, loaded by name, and saved again."""
    assert found[name].keys() == EXPECTED[name].keys()
    different = {key for key, value in EXPECTED[name].items() if key != "embeddings" and found[name][key] != value}
    assert different == set()


def test_every_optional_column_is_in_a_fixture():
    columns = {column for name in EXPECTED for column in EXPECTED[name]["scores"]["columns"]}
    assert columns >= {"group", "ensemble", "better_caption", "must_keep", "must_drop", "duplicate_group"}


@pytest.mark.parametrize("name", EXPECTED)
def test_adapters_give_the_same_embeddings(found, name):
    now, then = found[name]["embeddings"], EXPECTED[name]["embeddings"]
    for kind in ("adapted", "plain"):
        assert now[kind] == pytest.approx(then[kind], rel=0, abs=1e-5)
    assert now["adapted"] != pytest.approx(now["plain"], rel=0, abs=1e-3)


@pytest.mark.parametrize("name", ["run", "captions_run"])
def test_the_same_command_finds_everything_done(gone_on, name):
    log, folder = gone_on[name]
    assert "nothing to encode" in log and "nothing to train" in log and "Adapting" not in log
    then, now = files_of(MADE / name), files_of(folder / name)
    added_since = {"report.html", "subset/clipselect_preview.jpg"}
    assert now.keys() - added_since == then.keys() - added_since
    kept = [path for path in then if path.startswith(("features/", "adapter/adapter_"))]
    assert kept and {path: now[path] for path in kept} == {path: then[path] for path in kept}
    check_rows(folder / name, name)
    assert SelectionResult.from_folder(folder / name).ratios == (0.3, 0.5)


def test_another_size_is_added_to_those_of_then(gone_on):
    log, folder = gone_on["another size"]
    assert "nothing to encode" in log and "nothing to train" in log
    assert SelectionResult.from_folder(folder / "run").ratios == (0.4, 0.3, 0.5)
    check_rows(folder / "run", "run")


def test_the_command_of_then_selects_by_the_default_of_now_and_says_so(gone_on):
    log, folder = gone_on["default of now"]
    assert "nothing to encode" in log and "nothing to train" in log
    told = "The results in run were selected by objective diverse. This run names none and selects by robust"
    assert told in log and "pass --objective diverse to select as before" in log
    now = SelectionResult.from_folder(folder / "run")
    assert now.objective.name == "robust" and now.ratios == (0.3, 0.5)
    for column in SCORES:
        earlier = SelectionResult.from_folder(MADE / "run").scores[column][:]
        np.testing.assert_allclose(now.scores[column][:], earlier, rtol=0, atol=1e-5)
    check_rows(gone_on["default of then"][1] / "run", "run")


def test_the_config_of_then_is_taken_back(gone_on):
    check_rows(gone_on["config"][1] / "new", "run")


def test_the_published_adapters_score_the_same_rows_the_same(gone_on):
    folders = (gone_on["adapters"][1] / "published_run", MADE / "published" / "dataset")
    now, then = map(SelectionResult.from_folder, folders)
    for column in SCORES:
        np.testing.assert_allclose(now.scores[column][:], then.scores[column][:], rtol=0, atol=1e-5)


def test_a_push_onto_what_was_published_then_replaces_it(hub):
    found = run_client("earlier_clients", "push_again", MADE, env=hub.environment("hf_me_write"))
    assert {
        key for key, value in EXPECTED["published"].items() if key != "embeddings" and found[key] != value
    } == set()
    published = {
        path.relative_to(MADE / "published" / "dataset").as_posix()
        for path in (MADE / "published" / "dataset").rglob("*.*")
    }
    assert hub.tree("datasets/me/again").keys() == published | {".gitattributes", "clipselect_preview.jpg"}
    card = hub.read("datasets/me/again", "README.md").decode()
    assert card.count("hf_clipselect:begin") == 1 and check(card, "dataset")["errors"] == []
