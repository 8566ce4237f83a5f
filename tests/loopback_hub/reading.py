"""Endpoints that change nothing: repository info, trees, history, refs and the files themselves."""

import re
from urllib.parse import parse_qs, urlencode

import yaml

from .access import readable, writable
from .accounts import whoami
from .card import check, read_header
from .discussions import timestamp
from .gitids import tree_ids
from .messages import Answer, HubError, Request, json_answer
from .objects import Commit, Entry
from .store import Repository, Store


FILES_A_PAGE = 1000


def get_whoami(store: Store, request: Request) -> Answer:
    """GET /api/whoami-v2"""
    if request.account is None:
        raise HubError(401, "Invalid username or password.")
    return json_answer(whoami(request.account))


def get_harnesses(store: Store, request: Request) -> Answer:
    """GET /api/agent-harnesses: the client asks once a day which programs drive it."""
    return json_answer({"standardEnvVars": [], "harnesses": {}})


def validate_yaml(store: Store, request: Request) -> Answer:
    """POST /api/validate-yaml"""
    data = request.json()
    found = check(data.get("content", ""), data.get("repoType") or "model")
    return json_answer(found, 400 if found["errors"] else 200)


def get_info(store: Store, request: Request, kind: str, repo: str, rev: str = "main") -> Answer:
    """GET /api/{kind}/{repo} and /api/{kind}/{repo}/revision/{rev}"""
    repository = readable(store, f"{kind}/{repo}", request.account)
    commit = repository.commit_at(rev)
    settings = repository.settings
    data = {
        "_id": f"{kind}/{repo}",
        "id": repo,
        "author": repo.split("/")[0],
        "sha": commit.oid,
        "createdAt": timestamp(settings["created"]),
        "lastModified": timestamp(commit.seconds),
        "private": settings["private"],
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [_sibling(path, entry, request.flag("blobs")) for path, entry in commit.files.items()],
        "usedStorage": sum(entry.size for entry in commit.files.values()),
    }
    card = _card_data(repository, commit)
    if card:
        data["cardData"] = card
        data |= {key: card[key] for key in ("library_name", "pipeline_tag") if kind == "models" and key in card}
        data["tags"] = card.get("tags", [])
    if kind == "models":
        data["modelId"] = repo
    if kind == "spaces":
        data["sdk"] = (card or {}).get("sdk")
    return json_answer(data)


def get_auth_check(store: Store, request: Request, kind: str, repo: str, write: str | None = None) -> Answer:
    """GET /api/{kind}/{repo}/auth-check, also with /write"""
    (writable if write else readable)(store, f"{kind}/{repo}", request.account)
    return json_answer({})


def get_tree(store: Store, request: Request, kind: str, repo: str, rev: str, path: str = "") -> Answer:
    """GET /api/{kind}/{repo}/tree/{rev}/{path}, in pages: the header Link names the next one"""
    commit = readable(store, f"{kind}/{repo}", request.account).commit_at(rev)
    path = path.strip("/")
    trees = tree_ids({name: entry.oid for name, entry in commit.files.items()})
    if path not in trees:
        raise HubError(404, f"{path} does not exist on {rev}", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    start = f"{path}/" if path else ""
    rows = [_file_row(name, entry) for name, entry in commit.files.items() if name.startswith(start)]
    rows += [_folder_row(name, oid) for name, oid in trees.items() if name and name.startswith(start)]
    if not request.flag("recursive"):
        rows = [row for row in rows if "/" not in row["path"][len(start) :]]
    after = parse_qs(request.query).get("cursor", [""])[0]
    rows = sorted((row for row in rows if row["path"] > after), key=lambda row: row["path"])
    headers = {"X-Repo-Commit": commit.oid}
    if len(rows) > FILES_A_PAGE:
        rows = rows[:FILES_A_PAGE]
        query = {"recursive": request.flag("recursive"), "limit": FILES_A_PAGE, "cursor": rows[-1]["path"]}
        headers["Link"] = f'<{request.endpoint}{request.path}?{urlencode(query)}>; rel="next"'
    return json_answer(rows, headers=headers)


def get_paths_info(store: Store, request: Request, kind: str, repo: str, rev: str) -> Answer:
    """POST /api/{kind}/{repo}/paths-info/{rev}, a form or JSON; paths that do not exist are left out"""
    commit = readable(store, f"{kind}/{repo}", request.account).commit_at(rev)
    if "json" in request.headers.get("content-type", ""):
        paths = request.json().get("paths", [])
    else:
        paths = parse_qs(request.body().decode()).get("paths", [])
    trees = tree_ids({name: entry.oid for name, entry in commit.files.items()})
    rows = [_file_row(path, commit.files[path]) for path in paths if path in commit.files]
    rows += [_folder_row(path, trees[path]) for path in paths if path in trees and path]
    return json_answer(rows)


def get_refs(store: Store, request: Request, kind: str, repo: str) -> Answer:
    """GET /api/{kind}/{repo}/refs"""
    refs = readable(store, f"{kind}/{repo}", request.account).refs()

    def rows(prefix: str) -> list[dict]:
        names = [name for name in refs if name.startswith(prefix)]
        return [{"name": name.removeprefix(prefix), "ref": name, "targetCommit": refs[name]} for name in names]

    data = {"branches": rows("refs/heads/"), "converts": [], "tags": rows("refs/tags/")}
    if request.flag("include_prs"):
        data["pullRequests"] = rows("refs/pr/")
    return json_answer(data)


def get_commits(store: Store, request: Request, kind: str, repo: str, rev: str) -> Answer:
    """GET /api/{kind}/{repo}/commits/{rev}, newest first, all on one page"""
    history = readable(store, f"{kind}/{repo}", request.account).history(rev)
    return json_answer(
        [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.message,
                "authors": [{"user": commit.author}],
                "date": timestamp(commit.seconds),
            }
            for commit in history
        ]
    )


def get_file(store: Store, request: Request, repo: str, rev: str, path: str, kind: str | None = None) -> Answer:
    """GET or HEAD /{kind/}{repo}/resolve/{rev}/{path}, with Range"""
    name = f"{kind or 'models/'}{repo}"
    repository = readable(store, name, request.account)
    commit = repository.commit_at(rev)
    entry = commit.files.get(path)
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    if entry is None:
        raise HubError(404, "Entry not found", "EntryNotFound", headers)
    headers |= {"ETag": f'"{entry.sha256 or entry.oid}"', "Content-Type": "application/octet-stream"}
    if entry.sha256:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    answer = Answer(200, headers=headers, file=repository.content_path(entry), length=entry.size)
    wanted = request.headers.get("range")
    return answer if wanted is None else _part(answer, wanted)


def get_file_of_short_id(store: Store, request: Request, **_: str) -> Answer:
    """Anything about a repository without an owner: there is none here."""
    status, message = (404, "Repository not found") if request.account else (401, "Invalid username or password.")
    raise HubError(status, message, "RepoNotFound")


def _part(answer: Answer, wanted: str) -> Answer:
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted.strip())
    if match is None or not (match[1] or match[2]):
        return answer
    total = answer.size
    if match[1]:
        start, stop = int(match[1]), min(int(match[2]) + 1, total) if match[2] else total
    else:
        start, stop = max(total - int(match[2]), 0), total
    if start >= stop:
        raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{total}"})
    answer.status, answer.start, answer.length = 206, start, stop - start
    answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    return answer


def _file_row(path: str, entry: Entry) -> dict:
    row = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size}
    if entry.sha256:
        row["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return row


def _folder_row(path: str, oid: str) -> dict:
    return {"type": "directory", "path": path, "oid": oid, "size": 0}


def _sibling(path: str, entry: Entry, blobs: bool) -> dict:
    row: dict = {"rfilename": path}
    if blobs:
        row |= {"size": entry.size, "blobId": entry.oid}
        if entry.sha256:
            row["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return row


def _card_data(repository: Repository, commit: Commit) -> dict | None:
    entry = commit.files.get("README.md")
    if entry is None:
        return None
    try:
        return read_header(repository.content_path(entry).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
