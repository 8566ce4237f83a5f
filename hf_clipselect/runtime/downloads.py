"""Files of a Hub repository on disk, all of the same commit."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from json import JSONDecodeError
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

# HTTPError is the base of all errors of the HTTP library that huggingface_hub uses: httpx in 1.x, httpx2 in 2.x.
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from ..errors import InputError
from .failures import is_of_the_machine
from .hub_tokens import token_in_use
from .retries import describe


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """Files in the cache of the Hub client, read-only, under their paths in the repository; others may lie there too.

    `revision` is the commit that they are of, 40 hexadecimal digits.
    """

    folder: Path
    revision: str


def fetch_files(
    repo_id: str, patterns: Sequence[str], *, repo_type: str, revision: str | None = None, token: str | None = None
) -> Fetched:
    """Download files of a repository at one commit, or take them from the cache where the Hub can't be reached.

    Patterns have `*` for any text, slashes included; `scores/*` is all below `scores`. `repo_type` is `"dataset"` or
    `"model"`; `revision` a branch, tag or commit, by default `main`; `token` by default the logged-in one. Where the
    Hub can be reached, it is enough that one of the patterns has a match; else each needs one, since the cache may
    lack a part of the files.

    Raises `InputError` where there is no such repository or revision, the token may not read it, the Hub can't be
    reached and the files are not all in the cache, or no file matches any pattern.
    """
    asked = f"The {repo_type} repository {repo_id}"
    with hub_refusals(asked, repo_id, revision, token):
        outage = _find_outage(repo_id, repo_type, revision, token)
        try:
            folder = Path(
                snapshot_download(
                    repo_id,
                    repo_type=repo_type,
                    revision=revision,
                    allow_patterns=list(patterns),
                    local_files_only=outage is not None,
                    token=token,
                )
            )
        except LocalEntryNotFoundError:
            if outage is None:
                raise
            raise outage from None
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        missing = [pattern for pattern in patterns if not any(filter_repo_objects(files, allow_patterns=[pattern]))]
        if missing and outage is not None:
            raise outage
    if len(missing) == len(patterns):
        raise InputError(
            f"{asked} has no file {' or '.join(patterns)} at revision {revision or 'main'} (commit "
            f"{folder.name[:12]}). Check the id and the revision."
        )
    if outage is not None and revision != folder.name:
        logger.warning(
            "%s can't be read: %s Its commit %s is taken from the cache, which may not be the newest.",
            asked,
            describe(outage),
            folder.name,
        )
    return Fetched(folder, revision=folder.name)


def _find_outage(repo_id: str, repo_type: str, revision: str | None, token: str | None) -> Exception | None:
    """Why the Hub can't be asked for a revision, None if it can; where it refuses, its error is raised.

    snapshot_download itself would serve the cache after a refusal too, without a word.
    """
    try:
        HfApi(token=token).repo_info(repo_id, repo_type=repo_type, revision=revision)
    # JSONDecodeError: a proxy or a login page answered in place of the Hub.
    except (HTTPError, OSError, JSONDecodeError) as error:
        if not is_outage(error):
            raise
        return error
    return None


def is_outage(error: Exception) -> bool:
    """Whether what the Hub client raised says that the Hub can't answer now; else it is a refusal."""
    if not isinstance(error, HfHubHTTPError):
        return True
    status = error.response.status_code
    return status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS


@contextmanager
def hub_refusals(asked: str, repo_id: str, revision: str | None, token: str | None = None) -> Iterator[None]:
    """Turn what the Hub client raises within into an `InputError` in words; `asked` is its subject, the repository.

    The token is the one of the requests, by default the logged-in one; one that can't be a token is refused before.
    """
    in_use = token_in_use(token)
    try:
        yield
    except InputError:
        raise
    except HFValidationError:
        raise InputError(
            f"{repo_id[:100]!r} is neither a folder nor a Hub id; give a Hub id such as user/name."
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{asked} has no revision {revision!r}; give one of its branches, tags or commits.") from None
    except GatedRepoError:
        raise InputError(
            f"{asked} is gated: ask for access on its page, and log in with `hf auth login` or the variable HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        who = "the token in use may not read it" if in_use else "nobody is logged in"
        raise InputError(
            f"{asked} does not exist, or it is private and {who}. Check the id, and log in with `hf auth login` or "
            "the variable HF_TOKEN if it is private."
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"{asked}{at} can't be read: {describe(error)} Check the connection and the token, and run the same again."
        ) from None
