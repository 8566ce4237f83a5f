"""Pushes against a Hub in the same process: `python -m loopback_hub.push_clients NAME FOLDER` prints JSON.

The Hub and the environment come before the Hugging Face libraries are imported, which read HF_ENDPOINT once.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from loopback_hub.objects import Change
from loopback_hub.server import LoopbackHub


SHARD = "ratio_30/train-00000-of-00001.parquet"
CARD = "---\nlicense: mit\n---\n<!-- hf_clipselect:begin -->\nA card.\n<!-- hf_clipselect:end -->\n"


def running_hub(folder: str) -> LoopbackHub:
    """A Hub that this process talks to as alice."""
    hub = LoopbackHub(Path(folder))
    os.environ.update(hub.environment("hf_alice_write"))
    return hub


def problem(function: Callable, *arguments, **options) -> str | None:
    """The error of a call as "Type: message", None if it passed."""
    from hf_clipselect.errors import InputError, PushError

    try:
        function(*arguments, **options)
    except (InputError, PushError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def pushes(folder: str) -> dict:
    """Pushes of small files, one after the other, with what each left behind."""
    with running_hub(folder) as hub:
        from huggingface_hub import HfApi

        from hf_clipselect.hub.push import Repository, add_tag, push_files

        api, found = HfApi(), {}
        files = {"README.md": CARD.encode(), SHARD: b"PAR1 one", "selection.json": b"{}"}
        stale = {"message": "publish", "is_stale": lambda path: path.startswith("ratio_")}
        one = Repository("alice/d", "dataset", private=True)

        first = push_files(one, files, **stale)
        again = push_files(one, files, **stale)
        found["first"] = [first.is_new, again.is_new, first.commit == again.commit == hub.head("datasets/alice/d")]
        found["private"] = api.dataset_info("alice/d").private
        found["history"] = [commit.title for commit in hub.history("datasets/alice/d")]
        found["tags"] = [add_tag(first, None), add_tag(again, None), sorted(hub.refs("datasets/alice/d"))]

        options = {"repo_id": "alice/d", "repo_type": "dataset"}
        api.upload_file(path_or_fileobj=b"a note", path_in_repo="notes/ratio.txt", **options)
        theirs = CARD.replace("license: mit", "license: cc0-1.0") + "\nMy own words.\n"
        api.upload_file(path_or_fileobj=theirs.encode(), path_in_repo="README.md", **options)
        unchanged = push_files(one, files, **stale)
        found["after a person's commits"] = [
            unchanged.is_new,
            unchanged.commit == first.commit,
            add_tag(unchanged, None),
        ]
        other = {
            "README.md": CARD.encode(),
            "ratio_50/train-00000-of-00001.parquet": b"PAR1 two",
            "selection.json": b"{1}",
        }
        second = push_files(one, other, **stale)
        found["second"] = sorted(hub.tree("datasets/alice/d"))
        card = hub.read("datasets/alice/d", "README.md").decode()
        found["their card"] = [text in card for text in ("My own words.", "cc0-1.0", "A card.")]
        found["next tag"] = add_tag(second, None)
        found["named tag"] = [add_tag(second, "best"), add_tag(second, "best"), add_tag(second, None)]
        tagged = Repository("alice/d", "dataset", tag="v1")
        found["taken tag"] = [problem(push_files, tagged, files, **stale), problem(add_tag, second, "v1")]
        found["nothing was committed"] = hub.head("datasets/alice/d") == second.commit

        branch = push_files(Repository("alice/d", "dataset", branch="dev/one"), files, **stale)
        found["branch"] = [
            hub.head("datasets/alice/d", "dev/one") == branch.commit,
            hub.head("datasets/alice/d") == second.commit,
        ]
        found["branch of a new repository"] = push_files(
            Repository("alice/n", "dataset", branch="dev"), files, **stale
        ).is_new

        asked = Repository("alice/d", "dataset", create_pr=True)
        request, same = push_files(asked, files, **stale), push_files(asked, files, **stale)
        found["pull request"] = [
            request.is_new,
            same.is_new,
            request.url == same.url,
            request.url.removeprefix(hub.endpoint),
        ]
        found["pull requests"] = [ref for ref in hub.refs("datasets/alice/d") if ref.startswith("refs/pr/")]
        found["main after it"] = hub.head("datasets/alice/d") == second.commit
        api.merge_pull_request(repo_id="alice/d", discussion_num=1, repo_type="dataset")
        merged = push_files(asked, files, **stale)
        found["merged"] = [
            merged.is_new,
            merged.commit == first.commit,  # which brought the same files, and is tagged
            SHARD in hub.tree("datasets/alice/d"),
        ]

        push_files(Repository("alice/s", "dataset"), {**files, SHARD: b"PAR1 1"}, **stale)
        api.create_branch("alice/s", branch="v1", repo_type="dataset")
        replaced = push_files(Repository("alice/s", "dataset"), {**files, SHARD: b"PAR1 2"}, **stale)
        found["as long as before"] = [replaced.is_new, hub.read("datasets/alice/s", SHARD).decode()]
        found["tag beside a branch of that name"] = add_tag(replaced, None)
        # As a push of git brings it, which the client would refuse.
        latin = Change("add", "README.md", content="Café".encode("latin-1"))
        hub.repository("datasets/alice/s").commit("refs/heads/main", [latin], author="alice", title="by git")
        found["not UTF-8"] = problem(push_files, Repository("alice/s", "dataset"), files, **stale)
        found["unknown"] = [f"{record.method} {record.path}" for record in hub.unknown]
    return found


def troubles(folder: str) -> dict:
    """Pushes while the server fails, answers get lost, or somebody else commits."""
    with running_hub(folder) as hub:
        from huggingface_hub import HfApi

        from hf_clipselect.hub.push import Repository, push_files
        from hf_clipselect.runtime import retries

        retries._DELAYS_S = (0, 0, 0, 0)  # the Hub is here, and works again at once
        api, found, log = HfApi(token="hf_alice_write"), {}, []
        stale = {"message": "publish", "is_stale": lambda path: False}
        handler = logging.Handler()
        handler.emit = lambda record: log.append(record.getMessage())
        retries.logger.addHandler(handler)
        retries.logger.setLevel(logging.INFO)

        def push(name: str, **options: object) -> dict:
            files = {"README.md": CARD.encode(), SHARD: b"PAR1" + name.encode()}
            before = len(hub.requests)
            outcome = {}
            try:
                pushed = push_files(Repository(f"alice/{name}", "dataset", **options), files, **stale)
                outcome["is_new"] = pushed.is_new
            except Exception as error:
                outcome["error"] = f"{type(error).__name__}: {error}"
            hub.faults.clear()
            sent = [record.path for record in hub.requests[before:] if "/commit/" in record.path]
            history = hub.history(f"datasets/alice/{name}") if hub.repository(f"datasets/alice/{name}") else []
            refs = hub.refs(f"datasets/alice/{name}") if history else {}
            return outcome | {
                "commits sent": len(sent),
                "commits": len(history) - 1,
                "pull requests": sum(ref.startswith("refs/pr/") for ref in refs),
            }

        hub.faults.add("lost", path="/commit/")
        found["lost commit"] = push("lost")
        hub.faults.add("lost", path="/commit/")
        found["lost pull request"] = push("lost-pr", create_pr=True)
        hub.faults.add("lost", path="/repos/create")
        found["lost creation"] = push("lost-create")
        hub.faults.add("status", path="/commit/", status=429, retry_after=3)
        log.clear()
        found["rate limit"] = push("limit") | {"log": log[-1]}

        push("between")
        note = {
            "path_or_fileobj": b"theirs",
            "path_in_repo": "note.txt",
            "repo_id": "alice/between",
            "repo_type": "dataset",
        }
        hub.faults.add("delay", path="/commit/", times=1, call=lambda: api.upload_file(**note, parent_commit=None))
        files = {"README.md": CARD.encode(), SHARD: b"PAR1 new"}
        push_files(Repository("alice/between", "dataset"), files, **stale)
        hub.faults.clear()
        found["somebody in between"] = [
            hub.read("datasets/alice/between", "note.txt").decode(),
            hub.read("datasets/alice/between", SHARD).decode(),
            len(hub.history("datasets/alice/between")),
        ]

        def theirs(path: str, content: bytes) -> None:
            api.upload_file(path_in_repo=path, path_or_fileobj=content, repo_id="alice/race", repo_type="dataset")

        # Somebody commits our very shard before the upload, so that our commit is refused, and then another one.
        push("race")
        files = {"README.md": CARD.encode(), SHARD: b"PAR1 ours", "selection.json": b"{1}"}
        hub.faults.add("delay", path="/preupload/", call=lambda: theirs(SHARD, b"PAR1 ours"))
        hub.faults.add("delay", method="GET", path="/revision/main", nth=5, call=lambda: theirs(SHARD, b"PAR1 third"))
        push_files(Repository("alice/race", "dataset"), files, **stale)
        found["a shard changed twice"] = [
            hub.read("datasets/alice/race", path).decode() for path in (SHARD, "selection.json")
        ]
        hub.faults.clear()
        # Somebody commits all that we were about to change, and changes what we found the same.
        files = {**files, "selection.json": b"{2}"}

        def anticipate() -> None:
            theirs("selection.json", b"{2}")
            theirs(SHARD, b"PAR1 other")

        hub.faults.add("delay", path="/preupload/", call=anticipate)
        push_files(Repository("alice/race", "dataset"), files, **stale)
        found["nothing left to commit"] = [
            hub.read("datasets/alice/race", path).decode() for path in (SHARD, "selection.json")
        ]
        hub.faults.clear()

        hub.faults.add("status", method="PUT", status=400, times=None)
        found["refused upload"] = push("refused")
        hub.faults.add("status", path="/commit/", status=403, times=None)
        found["refused commit"] = push("forbidden")
        api.create_repo("bob/theirs", repo_type="dataset", token="hf_bob_write")
        hub.faults.clear()
        found["not mine"] = problem(push_files, Repository("bob/theirs", "dataset"), files, **stale)
        bad = {**files, "README.md": b"---\nlicense: nonsense\n---\n"}
        found["bad card"] = problem(push_files, Repository("alice/bad", "dataset"), bad, **stale)
    return found


def access(folder: str) -> dict:
    """What is refused before any work."""
    with running_hub(folder) as hub:
        from huggingface_hub import HfApi

        from hf_clipselect.hub.access import check_access
        from hf_clipselect.hub.push import Repository
        from hf_clipselect.runtime import retries

        api, found = HfApi(token="hf_alice_write"), {}
        for name in ("alice/d", "lab/d"):
            api.create_repo(name, repo_type="dataset")
        HfApi(token="hf_bob_write").create_repo("bob/d", repo_type="dataset")
        for tag in ("v1", "old"):
            api.create_tag("alice/d", tag=tag, repo_type="dataset")
        api.upload_file(path_or_fileobj=b"1", path_in_repo="x", repo_id="alice/d", repo_type="dataset")
        api.create_tag("alice/d", tag="v2", repo_type="dataset")
        flags = {"dataset": "hub_dataset_id", "model": "hub_model_id"}

        def check(
            name: str, kind: str = "dataset", token: str | None = "hf_alice_write", **options: object
        ) -> str | None:
            os.environ.pop("HF_TOKEN", None)
            if token is not None:
                os.environ["HF_TOKEN"] = token
            return problem(check_access, Repository(name, kind, **options), flags=flags)

        found["fine"] = [
            check("alice/d"),
            check("alice/new"),
            check("lab/d"),
            check("lab/new", "model"),
            check("bob/d", create_pr=True),
            check("alice/d", tag="v1"),
            check("alice/d", tag="v3"),
            check("alice/d", branch="dev", tag="v3"),
            check("alice/new", tag="v1"),
        ]
        found["malformed"] = [
            check(name) for name in ("digits", "a/b/c", "alice/", "alice/a b", "alice/..", "", "https://x/y")
        ]
        found["model flag"] = check("digits", "model")
        found["no token"] = check("alice/d", token=None)
        found["wrong token"] = check("alice/d", token="hf_wrong")
        found["read token"] = [check("alice/d", token="hf_alice_read"), check("alice/new", token="hf_alice_read")]
        fine = ("hf_alice_fine_write", "hf_alice_fine_read")
        found["fine-grained token"] = [
            check(name, token=fine[1]) for name in ("alice/d", "alice/new", "lab/d", "museum/new")
        ]
        found["fine"] += [check(name, token=fine[0]) for name in ("alice/d", "alice/new")]
        found["somebody's"] = [
            check("museum/new"),
            check("bob/d"),
            check("bob/new"),
            check("nobody/new"),
            check("bob/new", create_pr=True),
        ]
        found["commit as branch"] = check("alice/d", branch=hub.head("datasets/alice/d"))
        api.create_branch("alice/d", branch="side", repo_type="dataset")
        found["tag of a branch"] = [check("alice/d", tag="side"), check("alice/d", tag="x", branch="x")]
        found["read token for a pull request"] = check("alice/d", token=fine[1], create_pr=True)
        found["not a token"] = [
            check("alice/d", token="\u201chf_alice_write\u201d"),
            check("alice/d", token="hf_alice\x0bwrite"),
        ]
        api.create_repo("alice/data", repo_type="dataset")
        api.upload_file(path_or_fileobj=b"a,b", path_in_repo="data.csv", repo_id="alice/data", repo_type="dataset")
        found["data without configs"] = check("alice/data")
        card = b"---\nconfigs:\n- config_name: a\n  data_files: data.csv\n---\n"
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="alice/data", repo_type="dataset")
        found["fine"].append(check("alice/data"))
        found["tag as branch"] = check("alice/d", branch="old")
        found["bad names"] = [check("alice/d", branch=name) for name in ("a b", "refs/pr/1", "a..b", "a/", "", "-x")]
        hub.faults.add("status", path="whoami", status=503, times=2)
        found["a server that recovers"] = check("alice/d")
        found["created nothing"] = hub.repository("datasets/alice/new") is None
        os.environ["HF_HUB_OFFLINE"] = "0"
        hub.faults.clear()
    retries._DELAYS_S = (0, 0)
    found["server gone"] = check("alice/d")
    return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
