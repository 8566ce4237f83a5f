"""Files to one repository on the Hub: one commit, whole or not at all, and none where nothing changed."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..errors import PushError
from .merge import merge_cards
from .retries import with_retries


logger = logging.getLogger(__name__)

CARD = "README.md"


@dataclass(frozen=True)
class Pushed:
    """Where the files are now.

    Args:
        repo_id (`str`), repo_type (`str`): The repository, `"dataset"` or `"model"`.
        commit (`str`): The commit that holds the files, 40 hexadecimal digits.
        is_new (`bool`): Whether this push made the commit; False if the repository held the same files before.
        card (`str`): README.md as it stands there, merged with what people wrote.
        url (`str`): Page of the commit or of the pull request.
    """

    repo_id: str
    repo_type: str
    commit: str
    is_new: bool
    card: str
    url: str


@dataclass(frozen=True)
class Repository:
    """A repository to push to.

    Args:
        repo_id (`str`), repo_type (`str`): `user/name`, `"dataset"` or `"model"`.
        private (`bool`): Visibility if the push creates it.
        branch (`str`, *optional*): Branch to commit to, created from main if missing; default main.
        create_pr (`bool`): Open a pull request to main instead.
        tag (`str`, *optional*): Tag that the push is to get: refused before the commit if another commit bears it.
    """

    repo_id: str
    repo_type: str
    private: bool = False
    branch: str | None = None
    create_pr: bool = False
    tag: str | None = None

    def __str__(self) -> str:
        return f"the {self.repo_type} repository {self.repo_id}"

    @property
    def address(self) -> dict[str, str]:
        """What the calls of `HfApi` take."""
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}


def push_files(
    repository: Repository, files: Mapping[str, Path | bytes], *, message: str, is_stale: Callable[[str], bool]
) -> Pushed:
    """Put files into a repository by one commit, or find them there.

    Large files go first, and only those that the server lacks; then one commit brings all files and the card, on top of
    the commit that was looked at. A lost answer, a killed process or somebody's commit in between leaves the old files or
    the new ones, and the same call again goes on from there.

    Args:
        repository (`Repository`): Created if missing.
        files (`Mapping[str, Path | bytes]`): Path in the repository -> file or content; `README.md` is merged with the one there.
        message (`str`): Title of the commit.
        is_stale (`Callable[[str], bool]`): Whether a file of the repository that is not among `files` comes from an earlier push
            and goes; what people put there stays.

    Returns:
        `Pushed`

    Raises:
        PushError: The Hub refuses, or fails time after time.
        InputError: The card in the repository can't be read.
    """
    return with_retries(f"Pushing to {repository}", _Push(repository, files, message, is_stale).attempt)


def add_tag(pushed: Pushed, tag: str | None) -> str:
    """Tag a commit, unless it bears the tag already.

    Args:
        pushed (`Pushed`): The commit.
        tag (`str`, *optional*): Name of the tag; by default the next free one of v1, v2, ..., if the commit has none of these.

    Returns:
        `str`: The tag that the commit bears.

    Raises:
        PushError: Another commit has the tag, or the Hub fails time after time.
    """
    address = {"repo_id": pushed.repo_id, "repo_type": pushed.repo_type}

    def attempt() -> str:
        api = HfApi()
        commits = {ref.name: ref.target_commit for ref in api.list_repo_refs(**address).tags}
        versions = {int(name[1:]): name for name in commits if name[:1] == "v" and name[1:].isdecimal()}
        mine = [name for number, name in sorted(versions.items()) if commits[name] == pushed.commit]
        name = tag or (mine[-1] if mine else f"v{max(versions, default=0) + 1}")
        if name not in commits:
            api.create_tag(tag=name, revision=pushed.commit, **address)
        elif commits[name] != pushed.commit:
            raise _tag_taken(name, pushed.repo_id, commits[name])
        return name

    return with_retries(f"Tagging {pushed.repo_id}", attempt)


def _tag_taken(tag: str, repo_id: str, commit: str) -> PushError:
    return PushError(f"--hub_tag {tag}: that tag of {repo_id} names another commit, {commit}. Choose another tag.")


@dataclass
class _Push:
    """One push, over as many attempts as it takes; each looks at the repository anew."""

    repository: Repository
    files: Mapping[str, Path | bytes]
    message: str
    is_stale: Callable[[str], bool]

    def __post_init__(self) -> None:
        self.sent = False  # whether an attempt got as far as a commit, whose answer may have been lost
        # Made once: each hashes its file.
        self.additions = {path: _addition(path, content) for path, content in self.files.items() if path != CARD}

    def attempt(self) -> Pushed:
        api, repository = HfApi(), self.repository
        revision = repository.branch or "main"
        head = self._head(api)
        there = _files_at(api, repository, head)
        card = self._card(api, head, there)
        additions = {CARD: _addition(CARD, card.encode()), **self.additions}
        changed = [addition for path, addition in additions.items() if not _is_same(addition, there.get(path))]
        stale = [path for path in there if path not in additions and self.is_stale(path)]
        if not changed and not stale:
            return self._pushed(head, card, is_new=self.sent, url=f"{self._page(api)}/commit/{head}")
        if repository.create_pr and (found := self._open_pull_request(api, additions)):
            commit, number = found
            return self._pushed(commit, card, is_new=self.sent, url=f"{self._page(api)}/discussions/{number}")
        self._check_tag(api)
        self.sent = True
        done = api.create_commit(
            **repository.address,
            operations=[*changed, *(CommitOperationDelete(path, is_folder=False) for path in stale)],
            commit_message=self.message,
            revision=revision,
            parent_commit=head,
            create_pr=repository.create_pr,
        )
        return self._pushed(done.oid, card, is_new=True, url=done.pr_url or done.commit_url)

    def _head(self, api: HfApi) -> str:
        """The newest commit of the branch; the repository and the branch are there afterwards."""
        address, branch = self.repository.address, self.repository.branch
        try:
            return api.repo_info(**address, revision=branch or "main").sha
        except RepositoryNotFoundError:
            # None, not False, leaves the choice to the settings of an organisation.
            api.create_repo(**address, private=self.repository.private or None, exist_ok=True)
        except RevisionNotFoundError:
            api.create_branch(**address, branch=branch, exist_ok=True)
        if branch is not None:
            api.create_branch(**address, branch=branch, exist_ok=True)
        return api.repo_info(**address, revision=branch or "main").sha

    def _card(self, api: HfApi, head: str, there: Mapping[str, RepoFile]) -> str:
        ours = self.files[CARD].decode()
        if CARD not in there:
            return ours
        path = api.hf_hub_download(**self.repository.address, filename=CARD, revision=head)
        return merge_cards(ours, Path(path).read_bytes().decode("utf-8", errors="replace"))

    def _open_pull_request(self, api: HfApi, additions: Mapping[str, CommitOperationAdd]) -> tuple[str, int] | None:
        """An open pull request of ours that brings just these files: an earlier push whose answer was lost, say."""
        address = self.repository.address
        mine = api.get_repo_discussions(
            **address, author=api.whoami()["name"], discussion_type="pull_request", discussion_status="open"
        )
        for number in [request.num for request in mine]:
            commit = api.repo_info(**address, revision=f"refs/pr/{number}").sha
            there = _files_at(api, self.repository, commit)
            same = all(_is_same(addition, there.get(path)) for path, addition in additions.items())
            if same and not any(path not in additions and self.is_stale(path) for path in there):
                return commit, number
        return None

    def _check_tag(self, api: HfApi) -> None:
        tag = self.repository.tag
        for ref in api.list_repo_refs(**self.repository.address).tags if tag else ():
            if ref.name == tag:
                raise _tag_taken(tag, self.repository.repo_id, ref.target_commit)

    def _page(self, api: HfApi) -> str:
        prefix = "datasets/" if self.repository.repo_type == "dataset" else ""
        return f"{api.endpoint}/{prefix}{self.repository.repo_id}"

    def _pushed(self, commit: str, card: str, *, is_new: bool, url: str) -> Pushed:
        return Pushed(self.repository.repo_id, self.repository.repo_type, commit, is_new, card, url)


def _addition(path: str, content: Path | bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content if isinstance(content, bytes) else str(content))


def _files_at(api: HfApi, repository: Repository, commit: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(**repository.address, revision=commit, recursive=True)
    return {item.path: item for item in tree if isinstance(item, RepoFile)}


def _is_same(addition: CommitOperationAdd, there: RepoFile | None) -> bool:
    """Whether the repository holds this content: by the sha256 of large files, else by the id that git gives a file."""
    if there is None or there.size != addition.upload_info.size:
        return False
    if there.lfs is not None:
        return there.lfs.sha256 == addition.upload_info.sha256.hex()
    with addition.as_file() as file:
        content = file.read()
    # SHA-1 is what git names its files by, not a protection.
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
