"""Datasets on the Hub: named in every way, with rows that name files of whoever loads them, pushed in every format."""

from pathlib import Path

import pytest
from formats import FORMATS
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict:
    with LoopbackHub(folder / "hub") as hub:
        return run_client("data_clients", "clients_of_data", folder, env=hub.environment("hf_alice_write"))


def test_every_way_to_name_a_repository_or_a_part_of_it(told: dict) -> None:
    found = told["places"]
    new, old = ([1, 2, 3], "alice/rows", 1), ([1, 2], "alice/rows", 0)
    assert found["folder"] == found["url"] == [*new, "data", None]
    assert found["old"] == found["commit"] == found["url of a tag"] == [*old, "data", None]
    assert found["files"] == [[1, 2, 3, 9], *new[1:], None, ["more/*/*.parquet"]]
    assert found["url of a file"] == [[1, 2, 9], *old[1:], None, ["more/deep/b.parquet"]]
    assert found["url and flag"] == [[1, 2, 9], *old[1:], "more/deep", None]
    assert found["files by url"][:3] == [[1, 2], "hf://datasets/alice/rows@v1/data/a.parquet", None]
    assert "names the revision v1, but --dataset_revision is main" in found["two revisions"]
    assert "can't be loaded from the Hub" in found["no revision"] and "'v2'" in found["no revision"]
    assert "can't be loaded from the Hub" in found["no folder"]
    assert "can't be loaded from the Hub" in found["no repository"] and "doesn't exist" in found["no repository"]
    assert "--storage_options is for URLs" in found["options"] and "hush" not in found["options"]


def test_rows_that_name_files_of_whoever_loads_them(told: dict, folder: Path) -> None:
    answers, secret = told["outside files"], folder / "outside" / "secret.png"
    refused = {"by name", "passed", "passed as a stream", "changed", "saved", "pushed"}
    assert answers.pop("rows of a scores file") == 12
    pulled = answers.pop("pulled")
    assert pulled["pictures"] == [0, "", 12, ""]
    for name in ("rows", "source"):
        code, said, rows, shown = pulled[name]
        assert (code, rows) == (2, 0) and said.endswith("and would go into the subset.\n"), said
        for told in (said, shown):
            assert "source_index 11 " in told and str(secret) in told
    assert "can't be loaded from the Hub" in answers.pop("by its card")
    assert {door for door, answer in answers.items() if answer != "fine"} == refused
    for door in refused:
        assert "source_index 11 " in answers[door] and str(secret) in answers[door], answers[door]


def test_a_reference_is_loaded_at_the_commit_of_the_source(told: dict) -> None:
    assert told["reference"] == [True, False]


def test_streams_of_repositories(told: dict) -> None:
    found = told["streams"]
    assert found["files"] == [[0, 1, 2, 3, 4, 5], "alice/files", 40]
    assert found["table"] == [[0, 1, 2, 3, 4, 5], "alice/table", 40]
    assert "hold a URL (first: hf://datasets/alice/files" in found["thief"] and "not downloaded" in found["thief"]


def test_a_push_of_any_format_publishes_the_rows_of_the_source(told: dict) -> None:
    differences = told["formats"]
    assert len(differences) == len(FORMATS) and set(differences.values()) == {""}
