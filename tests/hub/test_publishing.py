"""The whole road: the recipe pushes in one process, other processes load what it published."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from hub_people import Person, person
from interrupted import free_port
from loopback_hub.card import check, read_header
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub
from preloaded import Command

from hf_clipselect.hub import PREVIEW


pytestmark = pytest.mark.slow

SETTINGS = [
    "--dataset_name",
    "me/source",
    "--model_name_or_path",
    "me/tiny-clip",
    "--adaptation",
    "always",
    "--num_train_epochs",
    "2",
    "--min_train_steps",
    "4",
    "--selection_ratio",
    "0.3",
    "0.5",
    "--dataloader_num_workers",
    "0",
]
PUSH = ["--push_to_hub", "--hub_dataset_id", "me/pruned", "--hub_model_id", "me/adapters"]


def select(person: Person, folder: Path, *flags: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    return start(person, folder, *flags, **variables).wait()


def start(person: Person, folder: Path, *flags: str, **variables: str | None) -> Command:
    return person.start(REPOSITORY / "recipes" / "select.py", *SETTINGS, *flags, cwd=folder, **variables)


@dataclass
class Published:
    """What the fixture `published` left on the Hub, who did it, and what the two pushes told."""

    hub: LoopbackHub
    me: Person
    folder: Path
    first: subprocess.CompletedProcess[str]
    second: subprocess.CompletedProcess[str]
    heads: dict[str, str | None]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A run of 150 rows with private repositories, pushed twice; tests only read."""
    folder = tmp_path_factory.mktemp("published")
    with LoopbackHub(folder / "hub") as hub, person(hub.environment("hf_me_write")) as me:
        me.client("publishing_clients", "source")
        first = select(me, folder, *PUSH, "--hub_private_repo", "--output_dir", "out")
        assert first.returncode == 0, first.stderr[-3000:]
        heads = {repo: hub.head(repo) for repo in ("datasets/me/pruned", "me/adapters")}
        second = select(me, folder, *PUSH, "--output_dir", "out")
        assert second.returncode == 0, second.stderr[-3000:]
        yield Published(hub, me, folder, first, second, heads)


@pytest.fixture(scope="module")
def disk(published):
    """What the run left, as a process of its own reads it."""
    return published.me.client("publishing_clients", "on_disk", published.folder / "out")


def test_what_is_on_the_hub_is_what_is_on_disk(published, disk):
    hub, folder = published.hub, published.folder
    there = run_client(
        "publishing_clients", "on_the_hub", "me/pruned", "me/adapters", env=hub.environment("hf_me_write")
    )
    assert {name: there[name] for name in disk} == disk
    assert disk["plain"] == disk["ratio_30"] and disk["ratio_30"][0] == 45 and disk["ratio_50"][0] == 75
    assert there["streamed"] == disk["ratio_30"][2]
    assert there["by peft"] == disk["adapters"] != there["plain clip"]
    assert there["pruned"] == disk["another ratio"] and disk["another ratio"][0] == 120
    for repo, local in (
        ("datasets/me/pruned", folder / "out" / "subset"),
        ("me/adapters", folder / "out" / "adapter"),
    ):
        files = {path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()}
        assert {path: hub.read(repo, path) for path in hub.tree(repo) if path != ".gitattributes"} == files


def test_one_commit_each_the_adapters_first_and_none_the_second_time(published):
    hub, first, second, heads = published.hub, published.first, published.second, published.heads
    assert {repo: hub.head(repo) for repo in heads} == heads
    assert [len(hub.history(repo)) for repo in heads] == [2, 2]
    assert [sorted(hub.refs(repo)) for repo in heads] == [["refs/heads/main", "refs/tags/v1"]] * 2
    assert "me/pruned: pushed to" in first.stderr and "me/adapters: pushed to" in first.stderr
    assert "me/pruned: unchanged, no commit made" in second.stderr and "me/adapters: unchanged" in second.stderr
    assert 'on the Hub: load_dataset("me/pruned", "ratio_30", split="train")' in first.stdout
    assert 'on the Hub: load_adapters("me/adapters")' in first.stdout
    commits = [record.name for record in hub.requests if record.route == "commit"]
    ours = [name for name in commits if "me/adapters" in name or "me/pruned" in name]
    assert ours == ["POST me/adapters commit main", "POST datasets/me/pruned commit main"]
    assert hub.unknown == []


def test_the_cards_say_what_was_done(published):
    hub, folder = published.hub, published.folder
    pruned = hub.read("datasets/me/pruned", "README.md").decode()
    adapters = hub.read("me/adapters", "README.md").decode()
    for card, kind in ((pruned, "dataset"), (adapters, "model")):
        assert check(card, kind) == {"errors": [], "warnings": []}
        assert "More Information Needed" not in card and str(folder) not in card
        assert "hf-clipselect select --dataset_name me/source" in card and "--push_to_hub" not in card
    header = read_header(pruned)
    assert header["license"] == "cc-by-4.0" and header["source_datasets"] == ["me/source"]
    assert header["size_categories"] == ["n<1K"] and header["task_categories"] == ["image-classification"]
    assert [config["config_name"] for config in header["configs"]] == ["ratio_30", "ratio_50", "scores"]
    source = [commit.oid for commit in hub.history("datasets/me/source")][0]
    for fact in (
        hub.head("me/adapters"),
        source,
        "me/adapters",
        'load_dataset("me/pruned", "ratio_50", split="train")',
    ):
        assert fact in pruned
    header = read_header(adapters)
    assert header["library_name"] == "hf_clipselect" and header["datasets"] == ["me/source"]
    assert header["model-index"][0]["results"][0]["dataset"]["revision"] == source
    assert header["base_model"] == "me/tiny-clip" and header["base_model_relation"] == "adapter"
    assert hub.head("me/tiny-clip") in pruned and hub.head("me/tiny-clip") in adapters


def test_repositories_are_private_and_stay_as_they_are(published):
    hub = published.hub
    for repo in ("datasets/me/pruned", "me/adapters"):
        assert hub.repository(repo).settings["private"] is True  # the second push did not ask for it
    for token in ("hf_bob_write", None):
        assert set(run_client("publishing_clients", "stranger", "me/pruned", env=hub.environment(token))) == {
            "me/pruned"
        }


def test_the_token_is_written_nowhere(published):
    folder, first, second = published.folder, published.first, published.second
    texts = [first.stdout, first.stderr, second.stdout, second.stderr]
    assert not [text for text in texts if "hf_me_write" in text or "signature=" in text]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if b"hf_me_write" in path.read_bytes()]
    assert yaml.safe_load((folder / "out" / "config.yaml").read_text())["arguments"]["hub_dataset_id"] == "me/pruned"


def test_scores_alone_with_published_adapters(published, disk, tmp_path):
    """For datasets that may not be passed on: no image is published, and the same rows come back from the source."""
    hub, me = published.hub, published.me
    flags = [
        "--push_to_hub",
        "--hub_dataset_id",
        "me/scores",
        "--scores_only",
        "--adapter_name_or_path",
        "me/adapters",
    ]
    done = select(me, tmp_path, *flags, "--output_dir", "out")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing was trained" in done.stderr and 'load_pruned("me/scores", ratio=0.3)' in done.stdout
    assert sorted(hub.tree("datasets/me/scores")) == [
        ".gitattributes",
        "README.md",
        "scores/train-00000-of-00001.parquet",
        "selection.json",
    ]
    card = hub.read("datasets/me/scores", "README.md").decode()
    assert hub.head("me/adapters") in card and "load_pruned" in card and check(card, "dataset")["errors"] == []
    found = run_client("publishing_clients", "scores_only", "me/scores", env=hub.environment("hf_me_write"))
    assert "image" not in found["columns"]
    assert {name: found[name] for name in ("ratio_30", "another ratio")} == {
        name: disk[name] for name in ("ratio_30", "another ratio")
    }


def test_from_python(published, tmp_path):
    hub, me = published.hub, published.me
    found = me.client("publishing_clients", "from_python", tmp_path / "run")
    assert found["pushed"] == [
        ["me/python-adapters", "model", True],
        ["me/python", "dataset", True],
        ["me/python-adapters", "model", False],
        ["me/python", "dataset", False],
        ["me/python-scores", "dataset", True],
    ]
    for ratio in ("ratio_30", "ratio_80"):
        made, loaded = found[ratio]
        assert made == loaded
    assert hub.head("me/python-adapters") in hub.read("datasets/me/python", "README.md").decode()
    assert sorted(hub.refs("datasets/me/python-80")) == [
        "refs/heads/dev",
        "refs/heads/main",
        "refs/pr/1",
        "refs/tags/best",
        "refs/tags/v1",
    ]
    for repo in ("datasets/me/python", "me/python-adapters"):
        assert hub.repository(repo).settings["private"] is True
    for revision in ("dev", "refs/pr/1"):
        assert not [path for path in hub.tree("datasets/me/python-80", revision) if path.startswith("ratio_")]
    assert not [path for path in hub.tree("datasets/me/python-scores") if path.startswith("ratio_")]
    card = hub.read("datasets/me/python-80", "README.md").decode()
    assert "| `ratio_80` | 120 | 80.0% |" in card and check(card, "dataset")["errors"] == []
    later = hub.read("datasets/me/python-80", "README.md", "dev").decode()
    # A dataset in memory tells no license; what an earlier push was told does not stay on another branch.
    assert read_header(card)["license"] == "apache-2.0" and "license" not in read_header(later)
    for message, words in zip(
        found["refused"],
        (
            "150 rows",
            "give both, or neither",
            "leave revision and tag out",
            "bob/x",
            "license must be an id of a license as the Hub has them",
            "license apache: the Hub does not take it",
            "result of a run",
        ),
        strict=True,
    ):
        assert words in message


def test_two_processes_push_once(published, tmp_path):
    hub, me = published.hub, published.me
    already = len(hub.requests)
    flags = [
        "--push_to_hub",
        "--hub_dataset_id",
        "me/two",
        "--hub_model_id",
        "me/two-adapters",
        "--hub_revision",
        "dev",
    ]
    launch = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    launch["ACCELERATE_USE_CPU"] = "true"
    started = [
        start(me, tmp_path, *flags, "--output_dir", "out", "--use_cpu", **launch, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    for done in [process.wait() for process in started]:
        assert done.returncode == 0, done.stderr[-3000:]
    commits = [record.name for record in hub.requests[already:] if record.route == "commit"]
    assert commits == ["POST me/two-adapters commit dev", "POST datasets/me/two commit dev"]
    assert [record.name for record in hub.requests[already:]].count("GET whoami-v2") == 1
    assert list(hub.tree("datasets/me/two")) == [".gitattributes"]
    assert "ratio_30/train-00000-of-00001.parquet" in hub.tree("datasets/me/two", "dev")


@pytest.mark.parametrize(
    ("token", "flags", "words"),
    [
        (None, PUSH, "hf auth login"),
        ("hf_me_write", [*PUSH[:3], "--hub_model_id", "bob/m"], "--hub_model_id bob/m"),
        ("hf_me_write", [*PUSH, "--license", "cc-by-4"], "--license cc-by-4: the Hub does not take it"),
    ],
)
def test_what_could_not_be_pushed_is_refused_before_any_work(published, tmp_path, token, flags, words):
    done = select(published.me, tmp_path, *flags, "--output_dir", "out", HF_TOKEN=token)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert words in line and "Traceback" not in done.stderr and not (token and token in done.stderr)


def test_a_hub_that_fails_for_good_leaves_the_results_and_the_next_run_goes_on(published, tmp_path):
    hub, me = published.hub, published.me
    flags = ["--push_to_hub", "--hub_dataset_id", "me/later", "--max_train_samples", "60", "--output_dir", "out"]
    flags += ["--license", "mit"]
    hub.faults.add("status", path="datasets/me/later/commit", status=403, times=None)
    broken = select(me, tmp_path, *flags)
    hub.faults.clear()
    [line] = [line for line in broken.stderr.splitlines() if line.startswith("error: ")]
    assert broken.returncode == 1 and "HTTP 403" in line and "the same command again" in line
    assert (tmp_path / "out" / "report.json").is_file()
    assert list(hub.tree("datasets/me/later")) == [".gitattributes"]
    done = select(me, tmp_path, *flags)
    assert done.returncode == 0 and "nothing to encode" in done.stderr
    card = os.fsdecode(hub.read("datasets/me/later", "README.md"))
    assert card == (tmp_path / "out/subset/README.md").read_text()
    assert read_header(card)["license"] == "mit" and "; the source states cc-by-4.0" in card  # what was asked for
    assert f"]({PREVIEW})" in card and PREVIEW in hub.tree("datasets/me/later")
    # Images that may not be given on after all leave the repository, and the picture of them too.
    done = select(me, tmp_path, *flags, "--scores_only")
    assert done.returncode == 0, done.stderr[-3000:]
    left = {".gitattributes", "README.md", "scores/train-00000-of-00001.parquet", "selection.json"}
    assert set(hub.tree("datasets/me/later")) == left
    assert PREVIEW not in os.fsdecode(hub.read("datasets/me/later", "README.md"))
