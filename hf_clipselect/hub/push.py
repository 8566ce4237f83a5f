"""Files to one repository on the Hub: one commit, whole or not at all, and none where nothing changed."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.constants import REPO_TYPES_URL_PREFIXES
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import GitRefs, RepoFile

from ..errors import InputError, PushError
from ..runtime.retries import with_retries
from .merge import merge_cards


logger = logging.getLogger(__name__)

CARD = "README.md"


class Address(TypedDict):
    """What the calls of `HfApi` take."""

    repo_id: str
    repo_type: str


@dataclass(frozen=True)
class Pushed:
    """Where the files are now."""

    repo_id: str
    repo_type: str  # "dataset", "model" or "space"
    commit: str  # that holds the files, 40 hexadecimal digits
    is_new: bool  # whether this push made the commit; else the repository held the same files before
    url: str  # page of the commit or of the pull request


@dataclass(frozen=True)
class Changes:
    """What a push would do to a repository: its files by their paths, with their sizes in bytes."""

    repository: "Repository"
    creates: bool  # the repository itself
    added: dict[str, int]
    replaced: dict[str, int]
    removed: dict[str, int]
    tag: str | None  # that is new; None with a pull request, or where the tag is there
    commit: str | None  # that holds the files, where nothing is added, replaced or removed


@dataclass(frozen=True)
class Repository:
    """A repository to push to, `user/name` of the type `"dataset"`, `"model"` or `"space"`; `private` if the push
    creates it; asked with a token, by default the logged-in one.

    The commit goes to a branch, which is created from main if missing, by default main, or into a pull request to
    main. A push whose tag another commit bears is refused before the commit.
    """

    repo_id: str
    repo_type: str
    private: bool = False
    branch: str | None = None
    create_pr: bool = False
    tag: str | None = None
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the {self.repo_type} repository {self.repo_id}"

    @property
    def api(self) -> HfApi:
        return HfApi(token=self.token)

    @property
    def address(self) -> Address:
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}


def push_files(
    repository: Repository, files: Mapping[str, Path | bytes], *, message: str, is_stale: Callable[[str], bool]
) -> Pushed:
    """Put files, by their paths in the repository, into it by one commit, or find them there.

    The repository is created if missing; the `README.md`, which is among the files, is merged with the one there. A
    file that is not among them and that `is_stale` tells to come from an earlier push goes; what people put there
    stays. Large files go first, and only those that the server lacks; then one commit brings all files and the card,
    on top of the commit that was looked at. A lost answer, a killed process or somebody's commit in between leaves the
    old files or the new ones, and the same call again goes on from there.

    Raises `PushError` where the Hub refuses, or fails time after time; `InputError` where the card there can't be
    read.
    """
    return with_retries(f"Pushing to {repository}", _Push(repository, files, message, is_stale).attempt)


def planned_changes(
    repository: Repository, files: Mapping[str, Path | bytes], *, is_stale: Callable[[str], bool]
) -> Changes:
    """What [`push_files`] would change, found by looking alone; it raises the same errors."""
    return with_retries(f"Looking at {repository}", _Push(repository, files, "", is_stale).changes)


def add_tag(pushed: Pushed, tag: str | None, *, token: str | None = None) -> str:
    """Tag a commit, unless it bears the tag, and give the tag; default the next free one of v1, v2, ..., once.

    Raises `PushError` where another commit has the tag, or the Hub fails time after time.
    """
    repository = Repository(pushed.repo_id, pushed.repo_type, token=token)

    def attempt() -> str:
        api = repository.api
        refs = api.list_repo_refs(**repository.address)
        commits = {ref.name: ref.target_commit for ref in refs.tags}
        name = _tag_for(pushed.commit, tag, refs)
        if name not in commits:
            api.create_tag(tag=name, revision=pushed.commit, **repository.address)
        elif commits[name] != pushed.commit:
            raise _tag_taken(name, pushed.repo_id, commits[name])
        return name

    return with_retries(f"Tagging {pushed.repo_id}", attempt)


def _tag_for(commit: str | None, tag: str | None, refs: GitRefs) -> str:
    """The tag of a commit: the one that was asked for, the one it bears, or the next version."""
    commits = {ref.name: ref.target_commit for ref in refs.tags}
    mine = [name for name in _by_version(commits) if commits[name] == commit]
    # A branch of the same name would hide the tag.
    taken = _by_version([*commits, *(ref.name for ref in refs.branches)])
    return tag or (mine[0] if mine else f"v{int(taken[0][1:]) + 1 if taken else 1}")


def _by_version(names: Iterable[str]) -> list[str]:
    """Those of v1, v2, ... that are among the names, the newest first."""
    versions = [name for name in names if re.fullmatch(r"v\d+", name)]
    return sorted(versions, key=lambda name: int(name[1:]), reverse=True)


def _tag_taken(tag: str, repo_id: str, commit: str) -> PushError:
    return PushError(f"--hub_tag {tag}: that tag of {repo_id} names another commit, {commit}. Choose another tag.")


@dataclass
class _Push:
    """One push, over as many attempts as it takes; each looks at the repository anew."""

    repository: Repository
    files: Mapping[str, Path | bytes]
    message: str
    is_stale: Callable[[str], bool]
    sent: bool = False  # whether an attempt got as far as a commit, whose answer may have been lost

    def attempt(self) -> Pushed:
        api, repository = self.repository.api, self.repository
        head = self._head(api)
        there = _files_at(api, repository, head)
        additions = self._additions(api, head, there)
        changed, stale = self._missing(additions, there)
        if not changed and not stale:
            return self._pushed(api, head if self.sent else self._earlier_push(api, head, additions), is_new=self.sent)
        if repository.create_pr and (found := self._open_pull_request(api, additions)):
            commit, number = found
            return self._pushed(api, commit, is_new=self.sent, page=f"discussions/{number}")
        self._check_tag(api)
        if stale:
            logger.warning("Files that an earlier push left in %s go: %s.", repository, ", ".join(stale))
        self.sent = True
        done = api.create_commit(
            operations=[*changed, *(CommitOperationDelete(path, is_folder=False) for path in stale)],
            commit_message=self.message,
            revision=repository.branch or "main",
            parent_commit=head,
            create_pr=repository.create_pr,
            **repository.address,
        )
        # The client leaves out what it finds on the branch, which may have moved on since `head`.
        if any(self._missing(additions, _files_at(api, repository, done.oid))):
            raise ConnectionError(f"somebody else changed {repository} at the same time")
        page = f"discussions/{done.pr_num}" if done.pr_num is not None else None
        return self._pushed(api, done.oid, is_new=True, page=page)

    def changes(self) -> Changes:
        """What an attempt would do that begins now."""
        api, repository = self.repository.api, self.repository
        head = self._head_so_far(api)
        there = {} if head is None else _files_at(api, repository, head)
        additions = self._additions(api, head, there)
        changed, stale = self._missing(additions, there)
        if repository.create_pr and head is not None and self._open_pull_request(api, additions):
            changed, stale = [], []
        is_same = head is not None and not changed and not stale
        commit = self._earlier_push(api, head, additions) if head is not None and is_same else None
        if not is_same and head is not None:
            self._check_tag(api)
        sizes = {addition.path_in_repo: addition.upload_info.size for addition in changed}
        return Changes(
            repository,
            creates=head is None,
            added={path: size for path, size in sizes.items() if path not in there},
            replaced={path: size for path, size in sizes.items() if path in there},
            removed={path: there[path].size for path in stale},
            tag=None if repository.create_pr else self._new_tag(api, commit, is_there=head is not None),
            commit=commit,
        )

    def _new_tag(self, api: HfApi, commit: str | None, *, is_there: bool) -> str | None:
        if not is_there:
            return self.repository.tag or "v1"
        refs = api.list_repo_refs(**self.repository.address)
        tag = _tag_for(commit, self.repository.tag, refs)
        return None if tag in {ref.name for ref in refs.tags} else tag

    def _additions(self, api: HfApi, head: str | None, there: Mapping[str, RepoFile]) -> dict[str, CommitOperationAdd]:
        # Made anew by every attempt: the client keeps in them what it once found in the repository.
        additions = {path: _addition(path, content) for path, content in self.files.items() if path != CARD}
        return additions | {CARD: CommitOperationAdd(CARD, self._card(api, head, there))}

    def _missing(
        self, additions: Mapping[str, CommitOperationAdd], there: Mapping[str, RepoFile]
    ) -> tuple[list[CommitOperationAdd], list[str]]:
        """What a commit must add to these files, and what it must take away."""
        changed = [addition for path, addition in additions.items() if not _is_same(addition, there.get(path))]
        return changed, [path for path in there if path not in additions and self.is_stale(path)]

    def _earlier_push(self, api: HfApi, head: str, additions: Mapping[str, CommitOperationAdd]) -> str:
        """The tagged commit that brought the files, where people have committed since; else the head."""
        commits = {ref.name: ref.target_commit for ref in api.list_repo_refs(**self.repository.address).tags}
        files = {path: addition for path, addition in additions.items() if path != CARD}  # which people edit
        names = [self.repository.tag] if self.repository.tag else _by_version(commits)
        candidates = [commits[name] for name in names if name in commits]
        if head in candidates:
            return head
        same = (
            commit for commit in candidates if not any(self._missing(files, _files_at(api, self.repository, commit)))
        )
        return next(same, head)

    def _head(self, api: HfApi) -> str:
        """The newest commit of the branch; the repository and the branch are there afterwards."""
        repository, branch = self.repository, self.repository.branch
        try:
            return _commit_at(api, repository, branch or "main")
        except RepositoryNotFoundError:
            # None, not False, leaves the choice to the settings of an organisation.
            sdk = "gradio" if repository.repo_type == "space" else None
            api.create_repo(private=repository.private or None, exist_ok=True, space_sdk=sdk, **repository.address)
        except RevisionNotFoundError:
            pass
        if branch is not None:
            api.create_branch(branch=branch, exist_ok=True, **repository.address)
        return _commit_at(api, repository, branch or "main")

    def _head_so_far(self, api: HfApi) -> str | None:
        """The commit that the push would start from; None where there is no repository yet."""
        for revision in dict.fromkeys([self.repository.branch or "main", "main"]):
            try:
                return _commit_at(api, self.repository, revision)
            except RepositoryNotFoundError:
                return None
            except RevisionNotFoundError:
                continue
        return None

    def _card(self, api: HfApi, head: str | None, there: Mapping[str, RepoFile]) -> bytes:
        content = self.files[CARD]
        ours = content if isinstance(content, bytes) else content.read_bytes()
        if CARD not in there:
            return ours
        path = api.hf_hub_download(filename=CARD, revision=head, **self.repository.address)
        try:
            return merge_cards(ours.decode(), Path(path).read_bytes().decode()).encode()
        except UnicodeDecodeError:
            raise InputError(
                f"The README.md of {self.repository} is not UTF-8, so what people wrote there can't be kept: save it "
                "as UTF-8 in the repository."
            ) from None

    def _open_pull_request(self, api: HfApi, additions: Mapping[str, CommitOperationAdd]) -> tuple[str, int] | None:
        """An open pull request of ours that brings just these files: an earlier push whose answer was lost, say."""
        mine = api.get_repo_discussions(
            author=api.whoami()["name"],
            discussion_type="pull_request",
            discussion_status="open",
            **self.repository.address,
        )
        for number in [request.num for request in mine]:
            commit = _commit_at(api, self.repository, f"refs/pr/{number}")
            if not any(self._missing(additions, _files_at(api, self.repository, commit))):
                return commit, number
        return None

    def _check_tag(self, api: HfApi) -> None:
        tag = self.repository.tag
        for ref in api.list_repo_refs(**self.repository.address).tags if tag else ():
            if ref.name == tag:
                raise _tag_taken(tag, self.repository.repo_id, ref.target_commit)

    def _pushed(self, api: HfApi, commit: str, *, is_new: bool, page: str | None = None) -> Pushed:
        repo_id, repo_type = self.repository.repo_id, self.repository.repo_type
        address = f"{api.endpoint}/{REPO_TYPES_URL_PREFIXES.get(repo_type, '')}{repo_id}"
        return Pushed(repo_id, repo_type, commit, is_new, f"{address}/{page or f'commit/{commit}'}")


def _addition(path: str, content: Path | bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content if isinstance(content, bytes) else str(content))


def _commit_at(api: HfApi, repository: Repository, revision: str) -> str:
    return str(api.repo_info(revision=revision, **repository.address).sha)


def _files_at(api: HfApi, repository: Repository, commit: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(revision=commit, recursive=True, **repository.address)
    return {item.path: item for item in tree if isinstance(item, RepoFile)}


def _is_same(addition: CommitOperationAdd, there: RepoFile | None) -> bool:
    """Whether the repository holds this content: by the sha256 of large files, else by the id that git gives it."""
    if there is None or there.size != addition.upload_info.size:
        return False
    if there.lfs is not None:
        return there.lfs.sha256 == addition.upload_info.sha256.hex()
    with addition.as_file() as file:
        content = file.read()
    # SHA-1 is what git names its files by, not a protection.
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
