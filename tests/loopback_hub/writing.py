"""Endpoints that change something: repositories, uploads, commits, branches and tags."""

import base64
import binascii
import hashlib
import json
import re

from .access import committable, may_create, readable, writable
from .card import SDKS, check
from .messages import Answer, HubError, Request, json_answer
from .objects import Change, StoreError
from .store import Store


NAME = re.compile(r"[A-Za-z0-9_](?:[\w.\-]{0,94}[A-Za-z0-9_])?")
PREFIXES = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}  # of pages
REF_NAME = re.compile(r"[A-Za-z0-9_][\w.\-/+]{0,199}")


def create_repo(store: Store, request: Request) -> Answer:
    """POST /api/repos/create"""
    data = request.json()
    name, kind, owner = _named_repo(request, data)
    url = f"{request.endpoint}/{PREFIXES[f'{kind}s']}{owner}/{data.get('name')}"
    if not NAME.fullmatch(str(data.get("name"))) or "--" in data["name"] or ".." in data["name"]:
        raise HubError(400, f"Invalid repo name: {data.get('name')}")
    may_create(request.account, owner, kind)
    sdk = data.get("sdk") if kind == "space" else None
    if kind == "space" and sdk not in SDKS:
        raise HubError(400, f"Invalid sdk of a Space: {data.get('sdk')}")
    private = data.get("visibility") == "private" or data.get("private") is True
    try:
        repository = store.create(name, private=private, author=request.account.user, sdk=sdk)
    except StoreError as error:
        return json_answer(
            {"error": f"You already created this {kind} repo: {owner}/{data['name']}", "url": url},
            409,
            {"X-Error-Message": str(error)},
        )
    return json_answer(
        {"url": url, "name": f"{owner}/{data['name']}", "id": name, "private": repository.settings["private"]}
    )


def delete_repo(store: Store, request: Request) -> Answer:
    """DELETE /api/repos/delete"""
    name, kind, owner = _named_repo(request, request.json())
    readable(store, name, request.account)
    may_create(request.account, owner, kind)
    store.delete(name)
    return json_answer({})


def change_settings(store: Store, request: Request, kind: str, repo: str) -> Answer:
    """PUT /api/{kind}/{repo}/settings: the visibility"""
    data = request.json()
    repository = writable(store, f"{kind}/{repo}", request.account)
    private = data.get("visibility") == "private" if "visibility" in data else data.get("private")
    if not isinstance(private, bool):
        raise HubError(400, "Only the visibility can be changed here")
    repository.change_settings(private=private)
    return json_answer({"private": private})


def preupload(store: Store, request: Request, kind: str, repo: str, rev: str) -> Answer:
    """POST /api/{kind}/{repo}/preupload/{rev}: regular or large, and the id of what is there now"""
    files = request.json().get("files", [])
    repository = committable(store, f"{kind}/{repo}", request.account, rev, request.flag("create_pr"))
    commit = repository.commit_at(rev)
    rows = []
    for file in files:
        sample = base64.b64decode(file.get("sample") or "")
        mode = repository.upload_mode(file["path"], file["size"], sample, commit.files)
        row = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
        entry = commit.files.get(file["path"])
        if entry is not None:
            # The client compares a large file by its sha256, not by the id of the pointer.
            row["oid"] = entry.sha256 or entry.oid
        rows.append(row)
    return json_answer({"files": rows, "commitOid": commit.oid})


def lfs_batch(store: Store, request: Request, repo: str, kind: str | None = None) -> Answer:
    """POST /{kind/}{repo}.git/info/lfs/objects/batch, the basic transfer"""
    data = request.json()
    name = f"{kind or 'models/'}{repo}"
    # The client does not say whether it prepares a pull request: who may open one may upload.
    repository = writable(store, name, request.account, pull_request=True)
    if data.get("operation") != "upload" or data.get("hash_algo", "sha256") != "sha256":
        raise HubError(400, "Only uploads with sha256 are served")
    objects = []
    for item in data.get("objects", []):
        oid, size = str(item.get("oid")), item.get("size")
        row = {"oid": oid, "size": size, "authenticated": True}
        if not re.fullmatch(r"[0-9a-f]{64}", oid) or not isinstance(size, int):
            row["error"] = {"code": 422, "message": "Invalid oid or size"}
        elif not repository.has_large_file(oid, size):
            upload = f"{request.endpoint}/lfs/{name}/{oid}?size={size}&signature={_signature(name, oid, size)}"
            verify = f"{request.endpoint}/{kind or ''}{repo}.git/info/lfs/verify"
            row["actions"] = {"upload": {"href": upload, "header": {}}, "verify": {"href": verify, "header": {}}}
        objects.append(row)
    headers = {"Content-Type": "application/vnd.git-lfs+json"}
    return json_answer({"transfer": "basic", "objects": objects}, headers=headers)


def lfs_put(store: Store, request: Request, name: str, oid: str) -> Answer:
    """PUT /lfs/{kind}/{repo}/{oid}: no token, the address is signed"""
    match = re.fullmatch(r"size=(\d+)&signature=([0-9a-f]+)", request.query)
    repository = store.get(name)
    if match is None or repository is None or match[2] != _signature(name, oid, int(match[1])):
        raise HubError(403, "The signature does not match")
    repository.receive_large_file(oid, int(match[1]), request.copy_to)
    return Answer(200, headers={"ETag": f'"{oid}"'})


def lfs_verify(store: Store, request: Request, repo: str, kind: str | None = None) -> Answer:
    """POST /{kind/}{repo}.git/info/lfs/verify"""
    data = request.json()
    repository = writable(store, f"{kind or 'models/'}{repo}", request.account, pull_request=True)
    if not repository.has_large_file(str(data.get("oid")), data.get("size")):
        raise HubError(404, "Object not found or of another size")
    return json_answer({})


def commit(store: Store, request: Request, kind: str, repo: str, rev: str) -> Answer:
    """POST /api/{kind}/{repo}/commit/{rev}, one JSON object a line"""
    create_pr = request.flag("create_pr")
    lines = _commit_lines(request.body())
    repository = committable(store, f"{kind}/{repo}", request.account, rev, create_pr)
    header, changes = lines[0]["value"], [_change(line["key"], line["value"]) for line in lines[1:]]
    _check_card(changes, kind)
    ref = repository.full_ref(rev)
    if ref is None or ref.startswith("refs/tags/"):
        repository.resolve(rev)
        raise HubError(400, f"Cannot commit to {rev}: it is not a branch")
    if create_pr:
        ref = "refs/pr/new"
    done, ref = repository.commit(
        ref,
        changes,
        author=request.account.user,
        title=header["summary"],
        message=header.get("description") or "",
        parent=header.get("parentCommit"),
        base=rev if create_pr else None,
    )
    page = f"{request.endpoint}/{PREFIXES[kind]}{repo}"
    data = {"success": True, "commitOid": done.oid, "commitUrl": f"{page}/commit/{done.oid}", "hookOutput": ""}
    if create_pr:
        data["pullRequestUrl"] = f"{page}/discussions/{ref.removeprefix('refs/pr/')}"
    return json_answer(data)


def create_branch(store: Store, request: Request, kind: str, repo: str, ref: str) -> Answer:
    """POST /api/{kind}/{repo}/branch/{ref}"""
    start = request.json().get("startingPoint") or "main"
    repository = writable(store, f"{kind}/{repo}", request.account)
    repository.add_ref(f"refs/heads/{_ref_name(ref)}", repository.resolve(start))
    return json_answer({})


def delete_branch(store: Store, request: Request, kind: str, repo: str, ref: str) -> Answer:
    """DELETE /api/{kind}/{repo}/branch/{ref}"""
    repository = writable(store, f"{kind}/{repo}", request.account)
    if ref == "main":
        raise HubError(403, "The main branch cannot be deleted")
    repository.delete_ref(f"refs/heads/{ref}")
    return json_answer({})


def create_tag(store: Store, request: Request, kind: str, repo: str, rev: str) -> Answer:
    """POST /api/{kind}/{repo}/tag/{rev}"""
    name = request.json().get("tag")
    repository = writable(store, f"{kind}/{repo}", request.account)
    repository.add_ref(f"refs/tags/{_ref_name(name)}", repository.resolve(rev))
    return json_answer({})


def delete_tag(store: Store, request: Request, kind: str, repo: str, rev: str) -> Answer:
    """DELETE /api/{kind}/{repo}/tag/{rev}"""
    writable(store, f"{kind}/{repo}", request.account).delete_ref(f"refs/tags/{rev}")
    return json_answer({})


def _named_repo(request: Request, data: dict) -> tuple[str, str, str]:
    kind = data.get("type") or "model"
    if f"{kind}s" not in PREFIXES:
        raise HubError(400, f"Only models, datasets and Spaces are served here, not {kind}")
    if request.account is None:
        raise HubError(401, "Invalid username or password.")
    owner = data.get("organization") or request.account.user
    return f"{kind}s/{owner}/{data.get('name')}", kind, owner


def _signature(name: str, oid: str, size: int) -> str:
    return hashlib.sha256(f"loopback {name} {oid} {size}".encode()).hexdigest()


def _commit_lines(body: bytes) -> list[dict]:
    try:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
    except ValueError as error:
        raise HubError(400, f"Invalid NDJSON: {error}") from error
    if not lines or lines[0].get("key") != "header" or not lines[0]["value"].get("summary"):
        raise HubError(400, "A commit starts with a header that has a summary")
    return lines


def _change(key: str, value: dict) -> Change:
    if key == "file":
        try:
            return Change("add", value["path"], content=base64.b64decode(value["content"], validate=True))
        except binascii.Error as error:
            raise HubError(400, f"Invalid base64: {value['path']}") from error
    if key == "lfsFile" and value.get("algo") == "sha256":
        return Change("add", value["path"], sha256=value["oid"], size=value.get("size"))
    if key in ("deletedFile", "deletedFolder"):
        return Change("delete_file" if key == "deletedFile" else "delete_folder", value["path"])
    raise HubError(400, f"Unknown line in a commit: {key}")


def _check_card(changes: list[Change], kind: str) -> None:
    for change in changes:
        if change.action == "add" and change.path == "README.md":
            errors = check((change.content or b"").decode(errors="replace"), kind.removesuffix("s"))["errors"]
            if errors:
                raise HubError(400, "Invalid metadata in README.md: " + "; ".join(e["message"] for e in errors))


def _ref_name(name: object) -> str:
    if not isinstance(name, str) or not REF_NAME.fullmatch(name) or ".." in name or name.endswith(("/", ".lock")):
        raise HubError(400, f"Invalid reference name: {name}")
    return name
