"""Discussions and pull requests of a repository: opening, changing their status, merging."""

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime

from .objects import Commit, Discussion, Entry, StoreError
from .store import Repository


def timestamp(seconds: int) -> str:
    """A time as the Hub writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def find(repository: Repository, num: int) -> Discussion:
    """The discussion or pull request of this number."""
    found = next((discussion for discussion in repository.discussions() if discussion.num == num), None)
    if found is None:
        raise StoreError("discussion", f"Discussion #{num} not found")
    return found


def status_of(repository: Repository, discussion: Discussion) -> str:
    """`draft`, `open`, `closed` or `merged`."""
    branch = discussion.base
    if discussion.merge is None or branch is None or repository.full_ref(branch) is None:
        return discussion.status
    merged = discussion.merge in [commit.oid for commit in repository.history(branch)]
    return "merged" if merged else discussion.status


def start(repository: Repository, title: str, author: str, description: str, pull_request: bool) -> Discussion:
    """Opens a discussion, or a draft of a pull request for main without a commit of its own."""
    with repository.lock:
        num, seconds = repository.new_number(), int(time.time())
        discussion = Discussion(num, title, author, seconds, events=[comment_event(author, description)])
        if not pull_request:
            repository.write_discussion(discussion)
            return discussion
        head = repository.resolve("main")
        discussion = replace(discussion, status="draft", base="refs/heads/main", start=head)
        repository.write_discussion(discussion)
        repository.add_ref(f"refs/pr/{num}", head)
        return discussion


def change_status(repository: Repository, num: int, status: str, author: str, comment: str | None) -> dict:
    """Closes or opens again; the event is returned. What is merged stays so."""
    with repository.lock:
        discussion = find(repository, num)
        if status not in ("open", "closed") or status_of(repository, discussion) == "merged":
            raise StoreError("bad", f"The status of #{num} cannot become {status}")
        event = status_event(author, status)
        events = [*discussion.events, *([comment_event(author, comment)] if comment else []), event]
        repository.write_discussion(replace(discussion, status=status, events=events))
        return event


def conflicts(repository: Repository, discussion: Discussion) -> list[str]:
    """The paths that a pull request and its branch have both changed since, each in its own way."""
    before, ours, theirs = _three_trees(repository, discussion)
    changed = [path for path in {*before, *theirs} if theirs.get(path) != before.get(path)]
    return sorted(path for path in changed if ours.get(path) not in (before.get(path), theirs.get(path)))


def merge(repository: Repository, num: int, author: str, comment: str | None) -> Commit:
    """Puts the changes of an open pull request as one commit on its branch, whole or not at all.

    The commit is written, then named in the pull request, and the branch moves as the very last step: that the branch
    has it is what makes the pull request merged.
    """
    with repository.lock:
        discussion = find(repository, num)
        if discussion.base is None or status_of(repository, discussion) != "open":
            raise StoreError("conflict", f"#{num} is not an open pull request")
        if conflicts(repository, discussion):
            raise StoreError("conflict", f"#{num} conflicts with {discussion.base}")
        before, ours, theirs = _three_trees(repository, discussion)
        files = {path: entry for path, entry in ours.items() if path in theirs or path not in before}
        files |= {path: entry for path, entry in theirs.items() if entry != before.get(path)}
        title, parents = f"{discussion.title} (#{num})", [repository.resolve(discussion.base)]
        done = repository.write_commit(files, parents, author, title, _titles(repository, discussion))
        events = [*discussion.events, *([comment_event(author, comment)] if comment else [])]
        events.append(status_event(author, "merged"))
        repository.write_discussion(replace(discussion, merge=done.oid, events=events))
        repository.move_ref(discussion.base, done.oid)
        return done


def commits(repository: Repository, discussion: Discussion) -> list[Commit]:
    """The commits of a pull request, oldest first; none for a discussion."""
    if discussion.base is None:
        return []
    history = repository.history(f"refs/pr/{discussion.num}")
    return history[: [commit.oid for commit in history].index(discussion.start)][::-1]


def comment_event(author: str, text: str) -> dict:
    """A comment as the Hub tells it."""
    latest = {"raw": text, "html": "", "updatedAt": timestamp(int(time.time())), "author": {"name": author}}
    return _event("comment", author, {"edited": False, "hidden": False, "latest": latest, "history": []})


def status_event(author: str, status: str) -> dict:
    """A change of status as the Hub tells it."""
    return _event("status-change", author, {"status": status})


def _event(kind: str, author: str, data: dict) -> dict:
    now = timestamp(int(time.time()))
    return {"id": uuid.uuid4().hex[:24], "type": kind, "createdAt": now, "author": {"name": author}, "data": data}


def _three_trees(repository: Repository, discussion: Discussion) -> list[dict[str, Entry]]:
    revisions = (discussion.start, discussion.base, f"refs/pr/{discussion.num}")
    return [repository.commit_at(str(revision)).files for revision in revisions]


def _titles(repository: Repository, discussion: Discussion) -> str:
    return "\n".join(f"- {commit.title} ({commit.oid})" for commit in commits(repository, discussion))
