"""Endpoints of discussions and pull requests."""

from urllib.parse import parse_qs

from . import discussions
from .access import readable, writable
from .discussions import timestamp
from .messages import Answer, HubError, Request, json_answer
from .objects import Discussion
from .store import Repository, Store


DISCUSSIONS_A_PAGE = 10
STATUS_FILTERS = {"all": None, "open": ("open", "draft"), "closed": ("closed", "merged")}
TYPE_FILTERS = {"all": None, "discussion": False, "pull_request": True}


def list_discussions(store: Store, request: Request, kind: str, repo: str) -> Answer:
    """GET /api/{kind}/{repo}/discussions, newest first, in pages that the client counts from 0"""
    repository = readable(store, f"{kind}/{repo}", request.account)
    given = {name: values[0] for name, values in parse_qs(request.query).items()}
    try:
        statuses, pull_request = STATUS_FILTERS[given.get("status", "all")], TYPE_FILTERS[given.get("type", "all")]
    except KeyError as error:
        raise HubError(400, f"Unknown filter: {error}") from error
    rows = [_row(repository, discussion, kind, repo) for discussion in repository.discussions()]
    rows = [
        row
        for row in rows
        if (statuses is None or row["status"] in statuses)
        and (pull_request is None or row["isPullRequest"] == pull_request)
        and row["author"]["name"] == given.get("author", row["author"]["name"])
    ]
    first = int(given.get("p", 0)) * DISCUSSIONS_A_PAGE
    return json_answer({"discussions": rows[first : first + DISCUSSIONS_A_PAGE], "count": len(rows), "start": first})


def create_discussion(store: Store, request: Request, kind: str, repo: str) -> Answer:
    """POST /api/{kind}/{repo}/discussions; a pull request that is opened so is a draft"""
    data = request.json()
    repository = writable(store, f"{kind}/{repo}", request.account, pull_request=True)
    if len(data.get("title", "")) < 3:
        raise HubError(400, "A title has at least 3 characters")
    opened = discussions.start(
        repository,
        data["title"],
        request.account.user,
        data.get("description", ""),
        data.get("pullRequest") is True,
    )
    return json_answer(_row(repository, opened, kind, repo))


def get_discussion(store: Store, request: Request, kind: str, repo: str, num: str) -> Answer:
    """GET /api/{kind}/{repo}/discussions/{num}; the diff stays empty"""
    repository = readable(store, f"{kind}/{repo}", request.account)
    discussion = discussions.find(repository, int(num))
    row = _row(repository, discussion, kind, repo)
    row["events"] = discussion.events + [
        {
            "id": commit.oid[:24],
            "type": "commit",
            "createdAt": timestamp(commit.seconds),
            "author": {"name": commit.author},
            "data": {"subject": commit.title, "oid": commit.oid},
        }
        for commit in discussions.commits(repository, discussion)
    ]
    row["events"].sort(key=lambda event: event["createdAt"])
    if discussion.base is not None:
        row["changes"] = {"base": discussion.base}
        row["filesWithConflicts"] = []
        if row["status"] == "merged":
            row["changes"]["mergeCommitId"] = discussion.merge
        else:
            row["filesWithConflicts"] = discussions.conflicts(repository, discussion)
        row["diff"] = ""
    return json_answer(row)


def change_status(store: Store, request: Request, kind: str, repo: str, num: str) -> Answer:
    """POST /api/{kind}/{repo}/discussions/{num}/status, for who opened it and for who may write"""
    data = request.json()
    repository = readable(store, f"{kind}/{repo}", request.account)
    author = discussions.find(repository, int(num)).author
    mine = request.account is not None and request.account.user == author
    writable(store, f"{kind}/{repo}", request.account, pull_request=mine)
    event = discussions.change_status(
        repository, int(num), data.get("status"), request.account.user, data.get("comment")
    )
    return json_answer({"newStatus": event})


def merge(store: Store, request: Request, kind: str, repo: str, num: str) -> Answer:
    """POST /api/{kind}/{repo}/discussions/{num}/merge"""
    data = request.json()
    repository = writable(store, f"{kind}/{repo}", request.account)
    discussions.merge(repository, int(num), request.account.user, data.get("comment"))
    return json_answer({})


def _row(repository: Repository, discussion: Discussion, kind: str, repo: str) -> dict:
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author, "type": "user"},
        "status": discussions.status_of(repository, discussion),
        "isPullRequest": discussion.base is not None,
        "createdAt": timestamp(discussion.seconds),
        "repo": {"name": repo, "type": kind.removesuffix("s")},
    }
