"""`show`, `push` and `pull`, each as a process of its own, over one run and a Hub on this machine."""

import glob
import os
import re
import shutil
from pathlib import Path

import pytest
from datasets import load_dataset
from loopback_hub.server import LoopbackHub
from preloaded import run_python

import hf_clipselect
from hf_clipselect import SelectionResult, load_pruned
from hf_clipselect.cli import main
from hf_clipselect.hub import PREVIEW


pytestmark = pytest.mark.slow
SELECT = ["--max_train_samples", "200", "--adaptation", "always", "--min_train_steps", "4", "--num_train_epochs", "2"]
SELECT += ["--dataloader_num_workers", "0", "--selection_ratio", "0.3", "0.5"]
REPOSITORIES = ["--hub_dataset_id", "me/digits", "--hub_model_id", "me/adapters"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package alone, as a wheel brings it: no recipes beside it."""
    folder = tmp_path_factory.mktemp("site")
    package = Path(hf_clipselect.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    lines = ["import sys", f"sys.path.insert(0, {str(folder)!r})", "from hf_clipselect.cli import main"]
    (folder / "command.py").write_text("\n".join([*lines, "sys.exit(main())"]))
    return folder


@pytest.fixture(scope="module")
def commands(site, tmp_path_factory):
    """What runs a command in the folder of the run, on a Hub that is up while the tests of this file are."""
    folder = tmp_path_factory.mktemp("run")
    with LoopbackHub(folder / "hub") as hub:

        def run(*words, token="hf_me_write"):
            return run_python(site / "command.py", *words, env=hub.environment(token), cwd=folder)

        done = run("select", *SELECT)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "recipes" not in done.stdout and done.stdout.count("\n") == 8
        yield hub, folder, run, done.stdout.splitlines()
        assert hub.unknown == []


def told(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture
def here(commands, monkeypatch, capsys):
    """A command in this process, which sees no Hub: its exit code and the lines of stdout, or the error."""
    _, folder, *_ = commands
    monkeypatch.chdir(folder)

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        if code == 0:
            return printed.out.splitlines()
        assert (code, printed.out) == (2, ""), printed.err
        return printed.err.splitlines()[-1].removeprefix("error: ")

    return run


def test_show_tells_what_the_run_told(commands, here):
    *_, printed = commands
    assert here("show", "clipselect_output") == [re.sub(r" in \d+ s$", "", printed[0]), *printed[1:]]
    subset = here("show", "clipselect_output/subset")
    assert subset[:5] == here("show", "clipselect_output")[:5]
    [warnings] = re.findall(r"with (\d+) warnings?$", "\n".join(printed), flags=re.MULTILINE)
    assert subset[-2:] == [
        f"warnings: {warnings}, on the card",
        "next: hf-clipselect explore clipselect_output/subset, or without a browser hf-clipselect suspects "
        "clipselect_output/subset",
    ]


def test_what_show_and_push_and_pull_refuse(here, tmp_path):
    assert here("show", "clipselect_outptu").startswith("There is no folder clipselect_outptu; give the output folder")
    assert "has no --revision" in here("show", "clipselect_output", "--revision", "v1")
    assert "required: --hub_dataset_id" in here("push", "clipselect_output")
    assert here("push", "nowhere", *REPOSITORIES).startswith("nowhere is no folder; give the output folder")
    (tmp_path / "empty").mkdir()
    assert "holds no selection" in here("push", tmp_path / "empty", *REPOSITORIES)
    assert not any((tmp_path / "empty").iterdir())
    line = here("push", "clipselect_output/subset", *REPOSITORIES)
    assert "holds no adapters for --hub_model_id me/adapters; give the output folder" in line
    assert "needs a token of the Hub" in here("push", "clipselect_output", *REPOSITORIES)
    assert "is the source itself" in here("push", "clipselect_output", "--hub_dataset_id", "embedded/digits")
    assert "leave --hub_tag out" in here("push", "clipselect_output", *REPOSITORIES, "--create_pr", "--hub_tag", "v5")
    for sizes in ([], ["--selection_ratio", "0.5", "--selection_count", "5"]):
        line = here("pull", "clipselect_output", *sizes, "--output_dir", "new")
        assert line.startswith("Give the size by --selection_ratio or by --selection_count")
    assert "(0, 1]" in here("pull", "clipselect_output", "--selection_ratio", "2", "--output_dir", "new")
    line = here("pull", "clipselect_output", "--selection_ratio", "half", "--output_dir", "new")
    assert "expected a fraction in (0, 1], or auto, got 'half'" in line
    assert "There is no folder digits" in here("pull", "digits", "--selection_ratio", "0.5", "--output_dir", "new")
    assert not Path("new").exists()


@pytest.fixture(scope="module")
def pushed(commands):
    """A dry run, the push, and a dry run again; what each printed."""
    hub, folder, run, _ = commands
    words = ["push", "clipselect_output", *REPOSITORIES]
    before = sorted(path for path in folder.rglob("*") if "hub" not in path.relative_to(folder).parts)
    written = os.stat(folder / "clipselect_output").st_mtime_ns
    dry = told(run(*words, "--hub_private_repo", "--dry_run"))
    assert os.stat(folder / "clipselect_output").st_mtime_ns == written  # no lock either
    assert hub.head("datasets/me/digits") is None and hub.head("me/adapters") is None
    after = sorted(path for path in folder.rglob("*") if "hub" not in path.relative_to(folder).parts)
    assert after == before
    first = told(run(*words, "--hub_private_repo"))
    heads = [hub.head(repo) for repo in ("datasets/me/digits", "me/adapters")]
    again = told(run(*words, "--dry_run"))
    assert [hub.head(repo) for repo in ("datasets/me/digits", "me/adapters")] == heads
    return hub, folder, run, dry, first, again


def parts_of(lines):
    """Of each repository of a dry run the files that it names, by what would happen to them."""
    parts = {}
    for line in lines:
        if not line.startswith("  "):
            heading = line
            parts[heading] = {}
        else:
            word, name = line.split()[:2]
            parts[heading].setdefault(word, set()).add(name)
    return parts


def test_a_dry_run_lists_what_the_push_then_brings(pushed):
    hub, folder, _, dry, first, again = pushed
    parts = parts_of(dry)
    assert set(parts) == {
        "the model repository me/adapters: would be created",
        "the dataset repository me/digits: would be created",
    }
    for heading, repo in zip(parts, ["me/adapters", "datasets/me/digits"], strict=True):
        assert parts[heading] == {"add": set(hub.tree(repo)) - {".gitattributes"}, "tag": {"v1"}}
        assert hub.repository(repo).settings["private"] is True
    # Sizes are those of the files.
    shard = folder / "clipselect_output" / "subset" / "ratio_30" / "train-00000-of-00001.parquet"
    [size] = [line.partition("(")[2] for line in dry if "ratio_30/" in line]
    assert float(size.split()[0]) == pytest.approx(shard.stat().st_size / 1e3, rel=0.01) and size.endswith("kB)")
    assert first == [
        'on the Hub: load_dataset("me/digits", "ratio_30", split="train")',
        'on the Hub: load_adapters("me/adapters")',
    ]
    assert again == [
        "the model repository me/adapters: nothing changes",
        "the dataset repository me/digits: nothing changes",
    ]


def test_a_dry_run_tells_what_is_replaced_and_removed(pushed, tmp_path):
    hub, folder, run, *_ = pushed
    head = hub.head("datasets/me/digits")
    SelectionResult.from_folder(folder / "clipselect_output").at(0.3).save(tmp_path / "other")
    lines = told(run("push", tmp_path / "other", "--hub_dataset_id", "me/digits", "--dry_run"))
    [(heading, changes)] = parts_of(lines).items()
    assert heading == "the dataset repository me/digits:"
    shards = {f"{name}/train-00000-of-00001.parquet" for name in ("ratio_30", "ratio_50")}
    assert changes["remove"] == {*shards, PREVIEW} and changes["tag"] == {"v2"}
    assert {"README.md", "selection.json", "scores/train-00000-of-00001.parquet"} == changes["replace"]
    words = ["--hub_dataset_id", "me/digits", "--hub_revision", "new", "--dry_run"]
    assert parts_of(told(run("push", tmp_path / "other", *words))) == {heading: changes}  # a branch begins as main
    lines = told(run("push", "clipselect_output", *REPOSITORIES, "--license", "cc-by-4.0", "--dry_run"))
    assert list(parts_of(lines).values()) == [{"replace": {"README.md"}, "tag": {"v2"}}] * 2  # both cards state it
    assert hub.head("datasets/me/digits") == head
    assert sorted(hub.refs("datasets/me/digits")) == ["refs/heads/main", "refs/tags/v1"]


def test_a_push_keeps_the_license_that_an_earlier_one_stated(pushed, tmp_path):
    hub, folder, run, *_ = pushed
    shutil.copytree(folder / "clipselect_output" / "subset", tmp_path / "subset")
    words = ["push", tmp_path / "subset", "--hub_dataset_id", "me/licensed"]
    told(run(*words, "--license", "cc-by-4.0"))
    card = hub.read("datasets/me/licensed", "README.md").decode()
    assert "license: cc-by-4.0" in card and "License: cc-by-4.0, as whoever made this selection states" in card
    assert told(run(*words, "--dry_run")) == ["the dataset repository me/licensed: nothing changes"]
    told(run(*words, "--license", "mit"))
    assert "license: mit" in hub.read("datasets/me/licensed", "README.md").decode()


def check_pulled(output, expected):
    assert [path.name for path in output.iterdir()] == ["train-00000-of-00001.parquet"]
    rows = load_dataset("parquet", data_files=glob.escape(str(output)) + "/*.parquet", split="train")
    assert rows.features == expected.features and rows["source_index"][:] == expected["source_index"][:]
    assert [image.tobytes() for image in rows["image"]] == [image.tobytes() for image in expected["image"]]


def test_pull_writes_what_load_pruned_gives(pushed):
    _, folder, run, *_ = pushed
    flags = ["--selection_ratio", "0.7", "--revision", "v1"]  # a ratio that was not published
    lines = told(run("pull", "me/digits", *flags, "--output_dir", "most"))
    assert lines == ["140 rows of me/digits", 'load: load_dataset("most", split="train")']
    check_pulled(folder / "most", load_pruned(folder / "clipselect_output", ratio=0.7))
    assert len(load_dataset(str(folder / "most"), split="train")) == 140


def test_pull_takes_a_folder_and_writes_over_nothing(here):
    expected = load_pruned("clipselect_output", count=37)
    Path("few [1]").mkdir()  # empty, and of a name that load_dataset takes for a pattern
    [told, call] = here("pull", "clipselect_output", "--selection_count", "37", "--output_dir", "few [1]")
    assert told == "37 rows of clipselect_output"
    loaded = eval(call.removeprefix("load: "), {"load_dataset": load_dataset})  # what a user pastes
    assert loaded["source_index"][:] == expected["source_index"][:]
    check_pulled(Path("few [1]"), expected)
    before = Path("few [1]/train-00000-of-00001.parquet").read_bytes()
    line = here("pull", "clipselect_output", "--selection_count", "5", "--output_dir", "few [1]")
    assert line.startswith("--output_dir few [1] is not empty or no folder")
    assert Path("few [1]/train-00000-of-00001.parquet").read_bytes() == before


def test_pull_fills_the_folder_where_one_is_and_a_link_to_one(here, tmp_path, monkeypatch):
    run = Path("clipselect_output").absolute()
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("linked")
    (tmp_path / "linked").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = [os.stat(place).st_ino for place in (".", "../linked")]
    for place in (".", "../link"):
        told, _ = here("pull", run, "--selection_count", "9", "--output_dir", place)
        assert told == f"9 rows of {run}"
    assert [os.stat(place).st_ino for place in (".", "../linked")] == before and Path("../link").is_symlink()
    for place in (tmp_path / "here", tmp_path / "linked"):
        check_pulled(place, load_pruned(run, count=9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link", "linked"]


def test_pull_tells_of_a_place_that_takes_no_folder(commands, monkeypatch, capsys):
    monkeypatch.chdir(commands[1])
    assert main(["pull", "clipselect_output", "--selection_count", "9", "--output_dir", "/proc/few"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: /proc/.few.") and line.endswith("Mend that, or choose another place.")


def test_show_of_a_repository(pushed):
    *_, run, _, _, _ = pushed
    lines = told(run("show", "me/digits", "--revision", "v1"))
    assert len(lines) <= 10 and lines[0].startswith("200 rows of embedded/digits, scored with embedded/tiny-clip")
    assert 'subset: load_pruned("me/digits", ratio=0.3, revision="v1")' in lines
    assert lines[-1] == (
        "next: hf-clipselect explore me/digits --revision v1, or without a browser hf-clipselect suspects me/digits "
        "--revision v1"
    )
