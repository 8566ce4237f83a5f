"""The loopback Hub: its store against git, its faults over plain HTTP, and the real clients in fresh processes."""

import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from loopback_hub import discussions
from loopback_hub.card import check
from loopback_hub.clients import CARD, LARGE
from loopback_hub.gitids import blob_id, tree_ids
from loopback_hub.processes import run_client
from loopback_hub.records import Record
from loopback_hub.server import LoopbackHub
from loopback_hub.store import Change, Repository, Store, StoreError


TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture
def hub(tmp_path: Path):
    with LoopbackHub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Store(tmp_path / "store").create("models/alice/m", private=False, author="alice")


def run_hub_client(
    hub: LoopbackHub, name: str, token: str | None = "hf_alice_write", *arguments: str, clients: str = "clients"
) -> dict:
    return run_client(clients, name, *arguments, env=hub.environment(token))


# The store.


def test_ids_are_those_of_git(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    files = {"b.txt": b"one\n", "b/c.txt": b"two", "b-c": b"", "b/d/e.bin": LARGE, "a": "ü".encode()}
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    # "b.txt", "b" and "b-c" side by side: git sorts the folder as "b/", between the two.
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    git("init", "-q")
    git("add", "-A")
    ids = tree_ids({path: blob_id(content) for path, content in files.items()})
    assert blob_id(LARGE) == git("hash-object", "b/d/e.bin")
    assert ids[""] == git("write-tree")
    assert ids["b/d"] == git("write-tree", "--prefix=b/d/")
    assert tree_ids({})[""] == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_commits_are_whole_or_refused(repository: Repository) -> None:
    first = repository.resolve("main")
    options = {"author": "alice", "title": "t"}
    add = Change("add", "a/b.txt", content=b"1")
    commit, ref = repository.commit("refs/heads/main", [add], **options)
    assert ref == "refs/heads/main" and repository.resolve("main") == commit.oid and commit.parents == [first]
    refused = {
        "parent": ([add], {"parent": first}),
        "entry": ([add, Change("delete_file", "nowhere")], {}),
        "bad": ([add, Change("add", "x.bin", sha256="0" * 64, size=3)], {}),
    }
    for code, (changes, more) in refused.items():
        with pytest.raises(StoreError) as error:
            repository.commit("refs/heads/main", changes, **options, **more)
        assert error.value.code == code
    for path in ("../x", "a//b", "/x", "a/b.txt/c", ".git/config", "a"):
        with pytest.raises(StoreError):
            repository.commit("refs/heads/main", [Change("add", path, content=b"1")], **options)
    assert [c.oid for c in repository.history()] == [commit.oid, first]
    emptied, _ = repository.commit("refs/heads/main", [Change("delete_folder", "a")], **options)
    assert list(emptied.files) == [".gitattributes"]


def test_refs_and_pull_requests(repository: Repository) -> None:
    head = repository.resolve("main")
    repository.add_ref("refs/heads/dev/one", head)
    repository.add_ref("refs/tags/v1", head)
    for expected in ("refs/pr/1", "refs/pr/2"):
        change = Change("add", "x", content=expected.encode())
        commit, ref = repository.commit("refs/pr/new", [change], author="bob", title="t", base="main")
        assert ref == expected and repository.resolve(ref) == commit.oid
    assert repository.resolve("dev/one") == repository.resolve("v1") == repository.resolve("main") == head
    with pytest.raises(StoreError, match="exists"):
        repository.add_ref("refs/tags/v1", head)
    repository.delete_ref("refs/tags/v1")
    with pytest.raises(StoreError, match="Invalid rev"):
        repository.resolve("v1")


def test_large_files_are_checked(repository: Repository) -> None:
    oid = hashlib.sha256(LARGE).hexdigest()
    for wrong_oid, size in ((oid, 3), ("0" * 64, len(LARGE))):
        with pytest.raises(StoreError, match="Expected"):
            repository.receive_large_file(wrong_oid, size, lambda path: path.write_bytes(LARGE))
    assert not repository.has_large_file(oid) and not list(repository.temporary.iterdir())
    repository.receive_large_file(oid, len(LARGE), lambda path: path.write_bytes(LARGE))
    change = Change("add", "x.bin", sha256=oid, size=len(LARGE))
    commit, _ = repository.commit("refs/heads/main", [change], author="alice", title="t")
    assert repository.content_path(commit.files["x.bin"]).read_bytes() == LARGE
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(LARGE)}\n".encode()
    assert commit.files["x.bin"].oid == blob_id(pointer)


def killed_at(folder: str, action: str, step: int) -> None:
    """In a fork: one action, killed before the n-th time that it opens, renames or removes a file."""
    seen = 0

    def watch(event: str, _: tuple) -> None:
        nonlocal seen
        if event in ("open", "os.rename", "os.remove"):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), 9)

    repository = Store(Path(folder)).get("models/alice/m")
    sys.addaudithook(watch)
    change = Change("add", "x", content=b"new")
    if action == "merge":
        discussions.merge(repository, 1, "alice", None)
    else:
        ref = "refs/heads/main" if action == "commit" else "refs/pr/new"
        repository.commit(ref, [change], author="alice", title="t", base="main")
    os._exit(0)


def state_of(folder: str) -> list:
    """The files of main and the status of each pull request."""
    repository = Store(Path(folder)).get("models/alice/m")
    pulls = [[found.num, discussions.status_of(repository, found)] for found in repository.discussions()]
    return [sorted(repository.commit_at("main").files), pulls]


@pytest.mark.parametrize(
    ("action", "old", "new"),
    [
        ("commit", [[".gitattributes"], []], [[".gitattributes", "x"], []]),
        ("pull", [[".gitattributes"], []], [[".gitattributes"], [[1, "open"]]]),
        ("merge", [[".gitattributes"], [[1, "open"]]], [[".gitattributes", "x"], [[1, "merged"]]]),
    ],
)
def test_a_server_killed_at_any_file_leaves_old_or_new(
    repository: Repository, action: str, old: list, new: list
) -> None:
    if action == "merge":
        change = Change("add", "x", content=b"new")
        repository.commit("refs/pr/new", [change], author="alice", title="t", base="main")
    code = """if True:
        import os, sys, json
        sys.path.append("hub")
        from test_loopback_hub import killed_at, state_of
        folder, action, outcomes, step = sys.argv[1], sys.argv[2], [], 0
        while step < 200 and (not outcomes or outcomes[-1][0] != 0):
            step += 1
            child = os.fork()
            if child == 0:
                killed_at(folder, action, step)
            status = os.waitpid(child, 0)[1]
            outcomes.append([status, state_of(folder)])
        print(json.dumps(outcomes))"""
    command = [sys.executable, "-c", code, str(repository.folder.parent.parent.parent), action]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=True)
    outcomes = json.loads(done.stdout)
    assert len(outcomes) > 6 and all(status == 9 for status, _ in outcomes[:-1])
    assert all(state == old for status, state in outcomes if status)
    assert outcomes[-1] == [0, new]


def test_headers_of_cards() -> None:
    good = [
        ("dataset", CARD),
        (
            "dataset",
            "---\nconfigs:\n- config_name: a\n  default: true\n  data_files:\n  - split: no\n    path: a/*\n---\n",
        ),
        ("model", "---\nbase_model: me/clip\nbase_model_relation: adapter\ndatasets: [me/d]\n---\n"),
    ]
    bad = [
        ("dataset", "---\nlicense: [mit\n---\n"),
        ("dataset", "---\nlicense: my-own\n---\n"),
        ("dataset", "---\nlicense: mit\nlicense: mit\n---\n"),
        ("dataset", "---\ntags: one\n---\n"),
        ("dataset", "---\ntags: [1]\n---\n"),
        ("dataset", "---\nconfigs: {a: 1}\n---\n"),
        ("dataset", "---\nconfigs:\n- data_files: x\n---\n"),
        ("dataset", "---\nconfigs:\n- config_name: a\n- config_name: a\n---\n"),
        ("dataset", "---\nconfigs:\n- config_name: a\n  data_files: [{split: train}]\n---\n"),
        ("model", "---\nbase_model: ./clip\n---\n"),
        ("model", "---\nmodel-index:\n- name: a\n---\n"),
        ("model", "---\nmodel-index:\n- name: a\n  results:\n  - task: {type: x}\n    metrics: []\n---\n"),
    ]
    assert [check(text, kind) for kind, text in good] == [{"errors": [], "warnings": []}] * len(good)
    assert [text for kind, text in bad if not check(text, kind)["errors"]] == []
    assert check("No header.", "model")["warnings"] and check("---\nlicense: mit\nno end", "model")["warnings"]


def test_states_are_copied_whole(tmp_path: Path) -> None:
    hub = LoopbackHub(tmp_path / "hub")  # never started: a Hub that is stopped can be copied too
    put_readme(hub)
    # Names that are also names of folders in the store.
    hub.store.create("datasets/tmp/tmp", private=True, author="tmp")
    hub.repository("datasets/tmp/tmp").add_ref("refs/tags/tmp", hub.head("datasets/tmp/tmp"))
    (hub.repository("alice/m").temporary / "half").write_bytes(b"half an upload")
    (hub.store.temporary / "part").mkdir()
    started = tree_ids(hub.tree("datasets/tmp/tmp"))[""]
    assert hub.snapshot() == {
        "alice/m": {"refs/heads/main": tree_ids(hub.tree("alice/m"))[""]},
        "datasets/tmp/tmp": {"refs/heads/main": started, "refs/tags/tmp": started},
    }
    hub.save(tmp_path / "copy")
    copy = LoopbackHub(tmp_path / "copy")
    assert copy.snapshot() == hub.snapshot() and copy.history("alice/m") == hub.history("alice/m")
    assert copy.read("alice/m", "README.md") == CARD.encode() and copy.refs("alice/m") == hub.refs("alice/m")
    assert not list((tmp_path / "copy").rglob("half")) and copy.repository("alice/m").temporary.is_dir()
    before = hub.snapshot()
    put_readme(copy, "other")
    assert hub.snapshot() == before != copy.snapshot()
    copy.requests.append(Record("GET", "/", ""))
    copy.faults.add("reset")
    copy.load(tmp_path / "hub")
    assert copy.snapshot() == before and copy.requests == [] and copy.faults.find("GET", "/") is None
    for wrong in (tmp_path / "nowhere", tmp_path / "copy"):
        with pytest.raises(ValueError, match="no saved state"):
            copy.load(wrong)
    assert copy.snapshot() == before


def test_names_of_requests() -> None:
    sha, oid = "1" * 40, "abcdef01" + "2" * 56
    names = {
        ("GET", "/api/whoami-v2"): "GET whoami-v2",
        ("POST", "/api/repos/create"): "POST repos/create",
        ("GET", "/api/datasets/alice/d"): "GET datasets/alice/d info",
        ("POST", "/api/datasets/alice/d/commit/main"): "POST datasets/alice/d commit main",
        ("POST", "/api/models/alice/m/preupload/refs/pr/1"): "POST alice/m preupload refs/pr/1",
        ("GET", f"/api/models/alice/m/tree/{sha}/a/b"): "GET alice/m tree SHA/a/b",
        ("POST", "/datasets/alice/d.git/info/lfs/objects/batch"): "POST datasets/alice/d lfs batch",
        ("POST", "/alice/m.v2.git/info/lfs/verify"): "POST alice/m.v2 lfs verify",
        ("PUT", f"/lfs/models/alice/m/{oid}"): "PUT alice/m lfs abcdef01",
        ("PUT", f"/lfs/datasets/alice/d/{oid}"): "PUT datasets/alice/d lfs abcdef01",
        ("HEAD", f"/datasets/alice/d/resolve/{sha}/a/x.txt"): "HEAD datasets/alice/d resolve SHA/a/x.txt",
        ("GET", "/alice/m/resolve/main/README.md"): "GET alice/m resolve main/README.md",
        ("POST", "/api/models/alice/m/discussions/1/merge"): "POST alice/m discussions 1/merge",
    }
    assert [Record(method, path, "").name for method, path in names] == list(names.values())


# The server and its faults, over plain HTTP.


def ask(hub: LoopbackHub, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def put_readme(hub: LoopbackHub, text: str = CARD) -> None:
    repository = hub.repository("alice/m") or hub.store.create("models/alice/m", private=False, author="alice")
    change = Change("add", "README.md", content=text.encode())
    repository.commit("refs/heads/main", [change], author="alice", title="t")


def test_ranges_and_unknown_routes(hub: LoopbackHub) -> None:
    put_readme(hub)
    address = "/alice/m/resolve/main/README.md"
    content = CARD.encode()
    assert ask(hub, "GET", address) == (200, content)
    assert ask(hub, "HEAD", address) == (200, b"")
    assert ask(hub, "GET", address, Range="bytes=4-7") == (206, content[4:8])
    assert ask(hub, "GET", address, Range="bytes=4-") == (206, content[4:])
    assert ask(hub, "GET", address, Range="bytes=-3") == (206, content[-3:])
    assert ask(hub, "GET", address, Range="bytes=900-")[0] == 416
    assert ask(hub, "GET", f"/alice/m/resolve/{hub.head('alice/m')}/README.md")[0] == 200
    assert [ask(hub, "GET", f"/alice/m/resolve/{bad}")[0] for bad in ("v9/README.md", "main/none")] == [404, 404]
    assert ask(hub, "GET", "/api/whoami-v2", Authorization="Bearer nobody")[0] == 401
    assert hub.unknown == []
    assert ask(hub, "GET", "/api/models/alice/m/likers")[0] == 404
    assert [(r.method, r.path, r.status) for r in hub.unknown] == [("GET", "/api/models/alice/m/likers", 404)]


def test_refused_commits_and_uploads(hub: LoopbackHub) -> None:
    put_readme(hub)
    before = hub.head("alice/m")

    def commit(*lines: dict, token: str = "hf_alice_write", rev: str = "main") -> int:
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        return ask(hub, "POST", f"/api/models/alice/m/commit/{rev}", body, Authorization=f"Bearer {token}")[0]

    header = {"key": "header", "value": {"summary": "s"}}
    card = {
        "key": "file",
        "value": {"path": "README.md", "content": "LS0tCmxpY2Vuc2U6IHgKLS0tCg==", "encoding": "base64"},
    }
    large = {"key": "lfsFile", "value": {"path": "x.bin", "algo": "sha256", "oid": "0" * 64, "size": 3}}
    assert commit(header, card) == 400  # a license that the Hub does not know
    assert commit(header, large) == 400  # never uploaded
    assert commit(card) == 400 and commit(header, {"key": "moved", "value": {}}) == 400
    assert commit(header, rev="v9") == 404 and commit(header, rev=before) == 400
    assert commit(header, token="hf_alice_read") == 403 and commit(header, token="hf_bob_write") == 403
    assert ask(hub, "PUT", f"/lfs/models/alice/m/{'0' * 64}?size=3&signature=0", b"abc")[0] == 403
    assert hub.head("alice/m") == before


def test_a_refused_body_is_not_the_next_request(hub: LoopbackHub) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=30)
    for body in (b"x" * 100_000, iter([b"x" * 70_000, b"y"])):  # the second goes out in chunks
        connection.request("POST", "/nowhere", body)
        assert connection.getresponse().read() and hub.requests[-1].path == "/nowhere"
    connection.request("GET", "/api/agent-harnesses")
    assert connection.getresponse().status == 200
    connection.close()


def test_faults_over_plain_http(hub: LoopbackHub) -> None:
    put_readme(hub)
    address, content = "/alice/m/resolve/main/README.md", CARD.encode()
    create = json.dumps({"name": "new"}).encode()
    rights = {"Authorization": "Bearer hf_alice_write"}

    called = []
    hub.faults.add("status", path="README", status=429, retry_after=7, nth=2)
    assert [ask(hub, "GET", address)[0] for _ in range(3)] == [200, 429, 200]
    hub.faults.add("reset", method="POST", path="repos/create", call=lambda: called.append(hub.head("alice/new")))
    with pytest.raises(ConnectionResetError):
        ask(hub, "POST", "/api/repos/create", create, **rights)
    assert called == [None] and hub.head("alice/new") is None
    hub.faults.add("lost", method="POST", path="repos/create", call=lambda: called.append(hub.head("alice/new")))
    with pytest.raises(ConnectionResetError):
        ask(hub, "POST", "/api/repos/create", create, **rights)
    assert called[1] is not None and ask(hub, "POST", "/api/repos/create", create, **rights)[0] == 409
    hub.faults.add("truncate", path="README")
    with pytest.raises(http.client.IncompleteRead) as error:
        ask(hub, "GET", address)
    assert error.value.partial == content[: len(content) // 2]
    hub.faults.add("cut", path="README")
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        ask(hub, "GET", address)
    hub.faults.add("delay", path="README", seconds=0.05)
    start = time.monotonic()
    assert ask(hub, "GET", address) == (200, content) and time.monotonic() - start >= 0.05
    kinds = [record.fault for record in hub.requests if record.fault]
    assert kinds == ["status", "reset", "lost", "truncate", "cut", "delay"]
    hub.faults.add("status", path="README", times=None, status=503)
    assert [ask(hub, "GET", address)[0] for _ in range(3)] == [503] * 3
    hub.faults.clear()
    assert ask(hub, "GET", address)[0] == 200
    with pytest.raises(ValueError, match="Unknown kind"):
        hub.faults.add("explode")


def test_requests_in_work_are_waited_for(hub: LoopbackHub) -> None:
    arrived, go_on = threading.Event(), threading.Event()
    hub.faults.add("delay", call=lambda: (arrived.set(), go_on.wait(30)))
    client = threading.Thread(target=ask, args=(hub, "GET", "/api/agent-harnesses"))
    client.start()
    assert arrived.wait(30)
    with pytest.raises(TimeoutError, match="1 requests"):
        hub.settle(timeout=0.01)
    go_on.set()
    hub.settle()
    assert hub.requests[-1].status == 200
    client.join()


def test_state_outlives_the_server(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path) as first:
        put_readme(first)
        state = (first.tree("alice/m"), first.refs("alice/m"), first.history("alice/m"))
    with pytest.raises(ConnectionError):
        ask(first, "GET", "/api/models/alice/m")
    with LoopbackHub(tmp_path, port=first.port) as second:
        assert (second.tree("alice/m"), second.refs("alice/m"), second.history("alice/m")) == state
        assert ask(second, "GET", "/alice/m/resolve/main/README.md") == (200, CARD.encode())
        assert second.endpoint == first.endpoint


# The real huggingface_hub client.


def test_huggingface_hub_commits(hub: LoopbackHub) -> None:
    found = run_hub_client(hub, "api")
    assert found["user"] == "alice" and found["urls"] == [f"{hub.endpoint}/alice/m"] * 2
    assert found["create twice"] == 409 and found["missing"] == 404
    assert found["unchanged"] and found["bytes"] and found["lfs"]
    files = [".gitattributes", "README.md", "data/big.bin", "data/ü x.txt", "empty.bin"]
    assert found["files"] == files == sorted(hub.tree("alice/m"))
    assert found["card"] == {"license": "mit", "tags": ["a"]}
    trees = tree_ids(hub.tree("alice/m"))
    assert found["tree ids"] == [trees["data"], blob_id(CARD.encode())]
    assert found["listed"] == files[2:4] and found["paths"] == ["README.md", "data"]
    assert found["metadata"] == len(LARGE)
    assert (found["stale"], found["fresh"]) == (412, None)
    titles = ["delete", "Upload x with huggingface_hub", "Upload up/notes.txt with huggingface_hub"]
    titles += ["Upload folder using huggingface_hub", "first", "initial commit"]
    assert found["history"] == titles == [commit.title for commit in hub.history("alice/m")]
    assert found["described"] == "why" and found["old"] == "notes"
    assert (found["delete nothing"], found["gone"], found["bad card"]) == (404, 404, "ValueError")
    assert found["head"] == hub.head("alice/m") and hub.read("alice/m", "data/big.bin") == LARGE
    uploads = [record for record in hub.requests if record.method == "PUT"]
    assert len(uploads) == 2 and all(record.status == 200 for record in hub.requests if "lfs" in record.path)
    assert hub.unknown == []


def test_huggingface_hub_revisions(hub: LoopbackHub) -> None:
    found = run_hub_client(hub, "refs")
    assert [found[name] for name in ("tag twice", "tag nowhere", "branch twice", "to a tag")] == [409, 404, 409, 400]
    assert found["pull request"] == [f"{hub.endpoint}/datasets/alice/d/discussions/1", "refs/pr/1", 1]
    assert found["read"] == ["1", "1", "2", "3", "1"] and found["info"]
    assert found["refs"] == ["refs/heads/dev/one", "refs/heads/main", "refs/tags/v1", "refs/pr/1"]
    assert found["no revision"] == 404
    assert sorted(hub.refs("datasets/alice/d")) == ["refs/heads/main", "refs/pr/1", "refs/tags/v1"]
    assert hub.read("datasets/alice/d", "y", "refs/pr/1") == b"4" and len(hub.history("datasets/alice/d")) == 2
    assert hub.unknown == []


def test_huggingface_hub_rights(hub: LoopbackHub) -> None:
    found = run_hub_client(hub, "rights", None)
    assert found["roles"] == ["write", "read"] and found["orgs"] == ["lab", "museum"]
    assert found["secret"] == [None, None, 404, 401, 401]
    assert found["secret file"] == [404, 401, None]
    assert found["shared"] == [None, 404]
    assert found["write"] == [403, 403, 401, 401] and found["create"] == [403, 403, 401, 401]
    assert found["whoami"] == 401 and found["check"] == [None, 403, 403] and found["tag"] == [403, 403]
    assert found["pull request"] == 1 and found["delete"] == 403
    assert found["opened"] is None and found["deleted"] == 404
    assert hub.read("alice/open", "x") == b"1" and hub.unknown == []


def test_huggingface_hub_discussions(hub: LoopbackHub) -> None:
    found = run_hub_client(hub, "discussions", clients="loopback_clients")
    assert found["draft"] == [3, "draft", "refs/pr/3", "refs/heads/main", "alice"]
    assert found["all"] == [
        [4, "A question", "alice", "open", False],
        [3, "Later", "alice", "draft", True],
        [2, "Mine", "alice", "open", True],
        [1, "Better", "bob", "open", True],
    ]
    assert found["alice's"] == [3, 2] and found["questions"] == [4]
    assert found["url"] == [f"{hub.endpoint}/datasets/alice/d/discussions/1", True]
    assert found["commits"] == ["Better", "Upload change with huggingface_hub"] and found["conflicts"] == []
    assert [found[name] for name in ("bob merges", "bob closes", "bob goes on")] == [403, 403, 403]
    assert [found[name] for name in ("merge a draft", "merge again", "merge closed")] == [409] * 3
    assert found["reopen merged"] == 400 and found["closed"] == ["closed", "alice"]
    assert found["conflict"] == [["both"], 409] and found["nothing"] == 404
    assert found["status"] == {"open": [4, 3, 2], "closed": [5, 1]}
    assert found["events"] == ["comment", "status-change"] and hub.unknown == []
    # The pull request came in one commit on main, onto what main had got meanwhile.
    repo = "datasets/alice/d"
    merge = hub.history(repo)[1]
    assert [merge.title, merge.author, merge.oid] == ["Better (#1)", "alice", found["merged"][1]]
    assert found["merged"][0] == "merged" and merge.message.count("\n- ") == 1
    files = {"keep": b"keep", "change": b"3", "both": b"ours", "new": b"1"}
    assert {path: hub.read(repo, path) for path in hub.tree(repo) if path != ".gitattributes"} == files
    assert [ref for ref in hub.refs(repo) if "pr" in ref] == [f"refs/pr/{num}" for num in (1, 2, 3, 5)]


def test_long_lists_come_in_pages(hub: LoopbackHub) -> None:
    repository = hub.store.create("models/alice/long", private=False, author="alice")
    paths = [f"ü & b/{i:04}.txt" for i in range(2001)] + ["z"]
    changes = [Change("add", path, content=b"1") for path in paths]
    repository.commit("refs/heads/main", changes, author="alice", title="t")
    found = run_hub_client(hub, "pages", clients="loopback_clients")
    assert found["discussions"] == list(range(12, 0, -1))
    assert sorted(found["recursive"]) == sorted([".gitattributes", "ü & b", *paths])
    assert sorted(found["folder"]) == sorted(paths[:-1]) and found["top"] == [".gitattributes", "z", "ü & b"]
    assert found["files"] == len(paths) + 1 and hub.unknown == []
    queries = [record.query for record in hub.requests if record.route == "get_tree"]
    assert ["cursor" in query for query in queries] == [False, True, True] * 2 + [False, False, True, True]


def test_huggingface_hub_accounts(hub: LoopbackHub) -> None:
    for repo in ("alice/open", "alice/secret", "lab/secret", "museum/secret", "me/secret"):
        hub.store.create(f"models/{repo}", private="secret" in repo, author="someone")
    found = run_hub_client(hub, "accounts", None, clients="loopback_clients")
    whoami = found["whoami"]
    assert {name: (who["name"], who["auth"]["accessToken"]["role"]) for name, who in whoami.items()} == {
        "alice_write": ("alice", "write"),
        "alice_fine_write": ("alice", "fineGrained"),
        "alice_fine_read": ("alice", "fineGrained"),
        "me_write": ("me", "write"),
    }
    for name, permissions in {"write": ["repo.content.read", "repo.write"], "read": ["repo.content.read"]}.items():
        token = whoami[f"alice_fine_{name}"]["auth"]["accessToken"]["fineGrained"]
        entity = {"_id": "id-alice", "type": "user", "name": "alice"}
        assert token["scoped"] == [{"entity": entity, "permissions": permissions}] and token["global"] == []
    roles = [[(org["name"], org["roleInOrg"]) for org in who["orgs"]] for who in whoami.values()]
    assert roles == [[("lab", "write"), ("museum", "read")]] * 3 + [[("museum", "read")]]
    # Read, check of writing, commit, tag, pull request.
    yes, no, read, propose = [None] * 5, [404] * 5, [None] + [403] * 4, [None] + [403] * 3 + [None]
    names = list(whoami)
    assert [found["alice/open"][name] for name in names] == [yes, yes, read, propose]
    assert [found["alice/secret"][name] for name in names] == [yes, yes, read, no]
    assert [found["lab/secret"][name] for name in names] == [yes, no, no, no]
    assert [found["museum/secret"][name] for name in names] == [propose, no, no, propose]
    assert [found["me/secret"][name] for name in names] == [no, no, no, yes]
    assert list(found["create"].values()) == [
        [None, None, 403, 403],
        [None, 403, 403, 403],
        [403, 403, 403, 403],
        [403, 403, 403, None],
    ]
    assert hub.unknown == []


def test_cases_that_start_from_one_state(hub: LoopbackHub, tmp_path: Path) -> None:
    found = run_hub_client(hub, "cases", "hf_me_write", str(tmp_path / "inner"), clients="loopback_clients")
    undisturbed, lost, reset, last = found["cases"]
    assert all(case["same"] for case in found["cases"])
    oid = hashlib.sha256(b"\0" * 100).hexdigest()[:8]
    requests = ["preupload main", "lfs batch", f"lfs {oid}", "lfs verify", "commit main"]
    methods = ["POST", "POST", "PUT", "POST", "POST"]
    names = [f"{method} datasets/me/d {request}" for method, request in zip(methods, requests, strict=True)]
    for case, fault in zip(found["cases"], (None, "lost", "reset", None), strict=True):
        records = [record for record in case["records"] if "agent-harnesses" not in record[0]]
        assert [record[0] for record in records][:5] == names, "the names hold no time"
        assert [record[1] for record in case["records"]] == list(range(len(case["records"])))
        assert [record[2] for record in records][:5] == [0] * 5 and records[4][3] == fault
        info = ["GET datasets/me/d info", 5 + len(case["records"]) - len(records), int(fault != "reset"), None]
        assert records[5:] == [info], "the one request after the commit"
    # After a lost answer the new state is there, after a reset the old one; a second push ends alike.
    assert undisturbed["after"] == lost["after"] == last["after"] != found["prepared"] == reset["after"]
    assert [case["failed"] for case in found["cases"]] == [False, True, True, False]
    assert all(case["again"] == [None, 2] and case["end"] == undisturbed["after"] for case in found["cases"])


@pytest.mark.slow
def test_faults_seen_by_huggingface_hub(hub: LoopbackHub) -> None:
    put = {"method": "PUT", "nth": 1}
    hub.faults.add("status", path="/alice/put-500/", status=500, **put)
    hub.faults.add("reset", path="/alice/put-reset/", **put)
    hub.faults.add("lost", path="/alice/put-lost/", **put)
    hub.faults.add("status", path="/alice/pre-429/preupload", status=429, retry_after=1)
    hub.faults.add("status", path="/alice/commit-500/commit/", status=500)
    hub.faults.add("reset", path="/alice/commit-reset/commit/")
    hub.faults.add("lost", path="/alice/commit-lost/commit/")
    hub.faults.add("truncate", method="GET", path="resolve/main/truncate.bin")
    hub.faults.add("cut", method="GET", path="resolve/main/cut.bin")
    found = run_hub_client(hub, "faults")
    for name in ("put-500", "put-reset", "put-lost", "pre-429"):
        assert found[name] is None and hub.read(f"alice/{name}", "x.bin") == LARGE, name
    # The client does not send a commit twice.
    assert found["commit-500"] == 500 and found["commit-reset"] in ("ReadError", "RemoteProtocolError")
    assert len(hub.history("alice/commit-500")) == len(hub.history("alice/commit-reset")) == 1
    assert found["commit-lost"] in ("ReadError", "RemoteProtocolError") and found["again"] is None
    assert len(hub.history("alice/commit-lost")) == 2 and hub.read("alice/commit-lost", "x.bin") == LARGE
    assert found["truncate"] is None and found["truncate bytes"], "resumed with a Range request"
    assert found["cut"] == "ReadError" and found["cut bytes"]
    assert [record.fault for record in hub.requests if record.fault] == [
        "status",
        "reset",
        "lost",
        "status",
        "status",
        "reset",
        "lost",
        "truncate",
        "cut",
    ]
    assert hub.unknown == []


def test_pushers_killed_at_each_request(hub: LoopbackHub, tmp_path: Path) -> None:
    found = run_hub_client(hub, "killed_pushes", "hf_alice_write", str(tmp_path / "inner"))
    routes = ["preupload", "lfs_batch", "lfs_put", "lfs_verify", "commit"]
    for kind, outcomes in found.items():
        assert [outcome["at"] for outcome in outcomes] == [*routes, "commit"]
        assert [outcome["status"] for outcome in outcomes] == [9] * 5 + [0]
        # Only a commit that was done before the kill is there.
        assert [outcome["commits"] for outcome in outcomes] == [0] * 4 + [int(kind == "lost"), 1]


# The real datasets client.


@pytest.mark.slow
def test_datasets_round_trip(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path) as hub:
        pushed = run_hub_client(hub, "datasets_push")
        assert pushed["same"] and len(hub.history("datasets/alice/d")) == 3 and hub.unknown == []
        # Each configuration came in one commit, card and shards together.
        assert {"README.md", "one/train-00000-of-00001.parquet"} <= set(hub.history("datasets/alice/d")[1].files)
    with LoopbackHub(tmp_path) as hub:
        found = run_hub_client(hub, "datasets_load")
        assert found["one"] == found["stream"] == pushed["content"] and found["two"] == pushed["two"]
        assert found["features"] == [True, True] and found["dev"] == 1
        assert found["nothing"] == "DatasetNotFoundError"
        assert 206 in [record.status for record in hub.requests]
        assert run_hub_client(hub, "datasets_stranger", None) == {"private": "DatasetNotFoundError"}
        assert hub.unknown == []


# The real peft client.


@pytest.mark.slow
def test_peft_round_trip(hub: LoopbackHub) -> None:
    pushed = run_hub_client(hub, "peft_push")
    assert run_hub_client(hub, "peft_load")["adapted"] == pushed["adapted"] != pushed["plain"]
    files = {".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert set(hub.tree("alice/lora")) == files and len(hub.history("alice/lora")) == 2
    assert json.load(io.BytesIO(hub.read("alice/lora", "adapter_config.json")))["r"] == 2
    assert hub.unknown == []
