"""Real clients on discussions, accounts and long trees: `python -m loopback_hub.loopback_clients NAME` prints JSON."""

import json
import sys

from loopback_hub.clients import status_of


def discussions() -> dict:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, bob, found = HfApi(), HfApi(token="hf_bob_write"), {}
    repo = {"repo_id": "alice/d", "repo_type": "dataset"}
    api.create_repo(**repo)
    start = [CommitOperationAdd(path, path.encode()) for path in ("keep", "change", "drop", "both")]
    api.create_commit(operations=start, commit_message="start", **repo)

    changes = [CommitOperationAdd("change", b"2"), CommitOperationDelete("drop"), CommitOperationAdd("new", b"1")]
    first = bob.create_commit(operations=changes, commit_message="Better", create_pr=True, **repo)
    bob.upload_file(path_or_fileobj=b"3", path_in_repo="change", revision="refs/pr/1", **repo)
    api.upload_file(path_or_fileobj=b"main", path_in_repo="both", **repo)
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="mine", create_pr=True, commit_message="Mine", **repo)
    draft = api.create_pull_request(title="Later", **repo)
    found["draft"] = [draft.num, draft.status, draft.git_reference, draft.target_branch, draft.author]
    api.create_discussion(title="A question", description="Why?", **repo)

    def listed(**options) -> list:
        rows = list(api.get_repo_discussions("alice/d", repo_type="dataset", **options))
        return [[row.num, row.title, row.author, row.status, row.is_pull_request] for row in rows]

    found["all"] = listed()
    found["alice's"] = [row[0] for row in listed(author="alice", discussion_type="pull_request")]
    found["questions"] = [row[0] for row in listed(discussion_type="discussion")]
    details = api.get_discussion_details(discussion_num=1, **repo)
    found["url"] = [details.url, details.url == first.pr_url]
    found["commits"] = [event.summary for event in details.events if event.type == "commit"]
    found["conflicts"] = details.conflicting_files

    found["bob merges"] = status_of(bob.merge_pull_request, discussion_num=1, **repo)
    found["bob closes"] = status_of(bob.change_discussion_status, discussion_num=2, new_status="closed", **repo)
    found["bob goes on"] = status_of(
        bob.upload_file, path_or_fileobj=b"x", path_in_repo="x", revision="refs/pr/2", **repo
    )
    found["merge a draft"] = status_of(api.merge_pull_request, discussion_num=3, **repo)
    api.merge_pull_request(discussion_num=1, comment="Thanks", **repo)
    found["merge again"] = status_of(api.merge_pull_request, discussion_num=1, **repo)
    found["reopen merged"] = status_of(api.change_discussion_status, discussion_num=1, new_status="open", **repo)
    event = api.change_discussion_status(discussion_num=2, new_status="closed", comment="No", **repo)
    found["closed"] = [event.new_status, event.author]
    found["merge closed"] = status_of(api.merge_pull_request, discussion_num=2, **repo)
    api.change_discussion_status(discussion_num=2, new_status="open", **repo)
    bob.upload_file(path_or_fileobj=b"theirs", path_in_repo="both", create_pr=True, commit_message="Both", **repo)
    api.upload_file(path_or_fileobj=b"ours", path_in_repo="both", **repo)
    found["conflict"] = [
        api.get_discussion_details(discussion_num=5, **repo).conflicting_files,
        status_of(api.merge_pull_request, discussion_num=5, **repo),
    ]
    bob.change_discussion_status(discussion_num=5, new_status="closed", **repo)
    found["status"] = {status: [row[0] for row in listed(discussion_status=status)] for status in ("open", "closed")}
    merged = api.get_discussion_details(discussion_num=1, **repo)
    found["merged"] = [merged.status, merged.merge_commit_oid]
    found["events"] = [event.type for event in merged.events if event.type != "commit"]
    found["nothing"] = status_of(api.get_discussion_details, discussion_num=9, **repo)
    return found


def pages() -> dict:
    from huggingface_hub import HfApi

    api = HfApi()
    for i in range(12):
        api.create_discussion("alice/long", title=f"Question {i}")
    return {
        "discussions": [row.num for row in api.get_repo_discussions("alice/long")],
        "recursive": [row.path for row in api.list_repo_tree("alice/long", recursive=True)],
        "folder": [row.path for row in api.list_repo_tree("alice/long", "ü & b")],
        "top": [row.path for row in api.list_repo_tree("alice/long")],
        "files": len(api.list_repo_files("alice/long")),
    }


def accounts() -> dict:
    from huggingface_hub import HfApi

    names = ("alice_write", "alice_fine_write", "alice_fine_read", "me_write")
    apis = {name: HfApi(token=f"hf_{name}") for name in names}
    found = {"whoami": {name: api.whoami() for name, api in apis.items()}}
    for repo in ("alice/open", "alice/secret", "lab/secret", "museum/secret", "me/secret"):
        write = {"repo_id": repo, "path_or_fileobj": b"2", "path_in_repo": "x"}
        found[repo] = {
            name: [
                status_of(api.model_info, repo),
                status_of(api.auth_check, repo, write=True),
                status_of(api.upload_file, **write),
                status_of(api.create_tag, repo, tag=name),
                status_of(api.upload_file, create_pr=True, **write),
            ]
            for name, api in apis.items()
        }
    found["create"] = {
        name: [status_of(api.create_repo, f"{owner}/{name}") for owner in ("alice", "lab", "museum", "me")]
        for name, api in apis.items()
    }
    return found


def cases(folder: str) -> dict:
    """One process, one Hub: it pushes the same file from the same state again and again, with and without a fault."""
    from pathlib import Path

    from huggingface_hub import HfApi

    from loopback_hub.server import LoopbackHub

    found = []
    with LoopbackHub(Path(folder) / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.tokens["me"])
        api.create_repo("me/d", repo_type="dataset")
        hub.save(Path(folder) / "prepared")
        prepared = hub.snapshot()
        push = {"repo_id": "me/d", "repo_type": "dataset", "path_or_fileobj": b"\0" * 100, "path_in_repo": "a/x.bin"}
        for fault in (None, {"nth": 5, "kind": "lost"}, {"nth": 5, "kind": "reset"}, None):
            hub.load(Path(folder) / "prepared")
            same = hub.snapshot() == prepared
            if fault:
                hub.faults.add(**fault)
            outcome = status_of(api.upload_file, **push)
            api.dataset_info("me/d")
            hub.settle()
            records = [[record.name, record.order, record.commits, record.fault] for record in hub.requests]
            after = hub.snapshot()
            again = [status_of(api.upload_file, **push), len(hub.history("datasets/me/d"))]
            case = {"same": same, "failed": outcome is not None, "records": records, "after": after, "again": again}
            found.append(case | {"end": hub.snapshot()})
    return {"prepared": prepared, "cases": found}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
