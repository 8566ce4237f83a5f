"""Files of a repository at one commit, from the loopback Hub; the clients run in processes of their own."""

import json

import pytest
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub


pytestmark = pytest.mark.slow


def run_hub_client(hub, name, *arguments, token="hf_alice_write", home=None, clients="result_clients", **environment):
    return run_client(clients, name, *arguments, env={**hub.environment(token, home), **environment})


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as running:
        run_hub_client(running, "fetch_put")
        yield running


@pytest.mark.parametrize(("repo", "token"), [("alice/open", None), ("alice/secret", "hf_alice_read")])
def test_files_are_of_one_commit(hub, repo, token):
    found = run_hub_client(hub, "fetch_get", repo, token=token)
    for kind, name in (("dataset", f"datasets/{repo}"), ("model", repo)):
        assert found[kind]["files"] == ["a.json", "scores/deep/y.parquet", "scores/x.parquet"]
        assert found[kind]["texts"] == ["new", "old", "old"]
        first = hub.refs(name)["refs/tags/v1"]
        assert found[kind]["revisions"] == [hub.head(name), first, first]


def test_what_is_not_there_is_told_in_a_sentence(hub):
    found = run_hub_client(hub, "fetch_wrong")
    assert found["id"] == "'no such/id at all' is neither a folder nor a Hub id; give a Hub id such as user/name."
    assert found["branch"].startswith("The dataset repository alice/open has no revision 'v9';")
    assert found["commit"].startswith(f"The dataset repository alice/open has no revision '{'0' * 40}';")
    first = hub.refs("datasets/alice/open")["refs/tags/v1"]
    expected = "The dataset repository alice/open has no file b.json or other/* at revision v1 (commit"
    assert found["files"] == f"{expected} {first[:12]}). Check the id and the revision."


def test_private_repositories_ask_for_a_login(hub):
    absent, nobody = run_hub_client(hub, "fetch_refused", "alice/nothing", "alice/secret", token=None)
    assert absent.startswith(
        "The dataset repository alice/nothing does not exist, or it is private and nobody is logged in."
    )
    assert "`hf auth login`" in nobody and "HF_TOKEN" in nobody
    [stranger] = run_hub_client(hub, "fetch_refused", "alice/secret", token="hf_bob_write")
    assert "private and the token in use may not read it" in stranger
    [wrong] = run_hub_client(hub, "fetch_refused", "alice/open", token="hf_no_such_token")
    assert wrong.startswith("The dataset repository alice/open can't be read: HTTP 401: Invalid credentials")
    assert "hf_no_such_token" not in nobody + stranger + wrong


def test_a_server_in_trouble_is_told_apart(hub):
    # Of the first download; huggingface_hub does not try it again.
    hub.faults.add("status", method="GET", path="resolve", status=500)
    [broken] = run_hub_client(hub, "fetch_refused", "alice/open")
    hub.faults.clear()
    assert broken.startswith("The dataset repository alice/open can't be read: HTTP 500:")
    assert broken.endswith("Check the connection and the token, and run the same again.")


def fetch(hub, repo, revision, *patterns, **environment):
    return run_hub_client(hub, "fetch", repo, revision, *patterns, clients="adapter_clients", **environment)


def fetch_each(hub, *asked, **environment):
    return run_hub_client(hub, "fetch_each", json.dumps(asked), clients="adapter_clients", **environment)


@pytest.mark.parametrize("outage", ["offline", "status", "reset"])
def test_without_a_connection_the_cache_serves_and_names_its_commit(hub, tmp_path, outage):
    asked = ("alice/open", "", "a.json", "scores/*")
    online = fetch(hub, *asked, home=tmp_path)
    assert online == {"revision": hub.head("datasets/alice/open"), "warnings": []}
    offline = {"HF_HUB_OFFLINE": "1"} if outage == "offline" else {}
    if not offline:
        hub.faults.add(outage, path="/api/", status=503, times=None)
    at_commit = ("alice/open", online["revision"], "a.json")
    cached, pinned = fetch_each(hub, asked, at_commit, home=tmp_path, **offline)
    hub.faults.clear()
    assert cached["revision"] == online["revision"] and pinned == online
    [warning] = cached["warnings"]
    assert warning.startswith("The dataset repository alice/open can't be read: ")
    assert f"Its commit {online['revision']} is taken from the cache" in warning


@pytest.mark.parametrize("outage", ["offline", "status"])
def test_a_part_in_the_cache_is_no_broken_repository(hub, tmp_path, outage):
    run_hub_client(hub, "fetch_one_file", "alice/open", home=tmp_path, clients="adapter_clients")
    offline = {"HF_HUB_OFFLINE": "1"} if outage == "offline" else {}
    if not offline:
        hub.faults.add("status", path="/api/", status=503, times=None)
    asked = [("alice/open", "", *patterns) for patterns in (["a.json", "scores/*"], ["scores/*"])]
    found = fetch_each(hub, *asked, home=tmp_path, **offline)
    hub.faults.clear()
    for text in [each["refused"] for each in found]:
        assert text.startswith("The dataset repository alice/open can't be read: ")
        assert ("HTTP 503" if outage == "status" else "offline") in text.lower().replace("http", "HTTP")
        assert text.endswith("Check the connection and the token, and run the same again.")


def test_the_cache_does_not_serve_what_the_hub_refuses(hub, tmp_path):
    commit = fetch(hub, "alice/secret", "", "a.json", home=tmp_path)["revision"]
    for revision, token, message in (
        ("", None, "alice/secret does not exist, or it is private and nobody is logged in"),
        (commit, "hf_bob_write", "alice/secret does not exist, or it is private and the token in use may not read it"),
        ("", "hf_no_such_token", "HTTP 401"),
    ):
        found = fetch(hub, "alice/secret", revision, "a.json", home=tmp_path, token=token)
        assert message in found.get("refused", found)


def test_what_is_not_in_the_cache_needs_a_connection(hub, tmp_path):
    [nowhere] = run_hub_client(hub, "fetch_refused", "alice/secret", home=tmp_path, HF_HUB_OFFLINE="1")
    assert nowhere.startswith("The dataset repository alice/secret can't be read:")


def test_what_people_put_into_a_subset_folder_stays_there_and_is_not_pushed(hub, tmp_path):
    found = run_hub_client(hub, "folder_push", tmp_path)
    ours = [
        "README.md",
        "clipselect_preview.jpg",
        "ratio_30/train-00000-of-00001.parquet",
        "scores/train-00000-of-00001.parquet",
        "selection.json",
    ]
    theirs = [".git/config", "extra/train-00000-of-00001.parquet", "notes.txt", "ratio_30/notes.txt"]
    assert found == {
        "new": [True, False],
        "there": [".gitattributes", *ours],
        "here": sorted([*ours, *theirs]),
        "words": 1,
        "license": ["other", "my-own"],
    }
