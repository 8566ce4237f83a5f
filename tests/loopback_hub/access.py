"""Which repository a request means, and whether its account may touch it; refusals as the Hub words them."""

from .accounts import Account
from .messages import HubError
from .objects import StoreError
from .store import Repository, Store


STATUS = {"revision": 404, "entry": 404, "discussion": 404, "conflict": 409, "parent": 412, "bad": 400}
ERROR_CODES = {"revision": "RevisionNotFound", "entry": "EntryNotFound"}


def refusal(error: StoreError) -> HubError:
    """What the Hub answers to a request that the state of a repository does not allow."""
    return HubError(STATUS[error.code], str(error), ERROR_CODES.get(error.code))


def readable(store: Store, name: str, account: Account | None) -> Repository:
    """The repository `models/owner/name`, `datasets/...` or `spaces/...`, hidden from those who may not see it."""
    repository = store.get(name)
    owner = name.split("/")[1]
    hidden = repository is None or (repository.settings["private"] and not (account and account.may_read_in(owner)))
    if repository is None or hidden:
        # The Hub does not tell strangers whether a repository exists.
        status, message = (404, "Repository not found") if account else (401, "Invalid username or password.")
        raise HubError(status, message, "RepoNotFound")
    return repository


def writable(store: Store, name: str, account: Account | None, pull_request: bool = False) -> Repository:
    """The same for a change; for a pull request it is enough that the account may discuss there."""
    repository = readable(store, name, account)
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if account.role == "read":
        raise HubError(403, "Forbidden: you must use a write token to upload to a repository.")
    owner = name.split("/")[1]
    if not account.may_write_to(owner) and not (pull_request and account.may_discuss_in(owner)):
        raise HubError(403, "Authorization error. Pass `create_pr=1` as a query parameter to create a Pull Request")
    return repository


def committable(store: Store, name: str, account: Account | None, rev: str, create_pr: bool) -> Repository:
    """The same for a commit to a revision: whoever opened a pull request may go on with it."""
    repository = readable(store, name, account)
    mine = [f"refs/pr/{d.num}" for d in repository.discussions() if account and d.author == account.user]
    return writable(store, name, account, create_pr or rev in mine)


def may_create(account: Account | None, namespace: str, kind: str) -> None:
    """Refuses to create or delete a repository in a namespace that is not the account's."""
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if not account.may_write_to(namespace):
        raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')
