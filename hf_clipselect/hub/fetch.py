"""Files of a Hub repository on disk, all of the same commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_token, snapshot_download

# HTTPError is the base of all errors of the HTTP library that huggingface_hub uses: httpx in 1.x, httpx2 in 2.x.
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from ..errors import InputError
from .retries import describe


@dataclass(frozen=True)
class Fetched:
    """Files in the cache of the Hub client.

    Args:
        folder (`Path`): Holds the files under their paths in the repository; other files may lie there too. Read-only.
        revision (`str`): The commit that they are of, 40 hexadecimal digits.
    """

    folder: Path
    revision: str


def fetch_files(repo_id: str, patterns: Sequence[str], *, repo_type: str, revision: str | None = None) -> Fetched:
    """Download files of a repository at one commit, or take them from the cache where the Hub can't be reached.

    Args:
        repo_id (`str`): Hub id such as `user/name`.
        patterns (`Sequence[str]`): Which files, with `*` for any text, slashes included; `scores/*` is all below `scores`.
        repo_type (`str`): `"dataset"` or `"model"`.
        revision (`str`, *optional*): Branch, tag or commit; default `main`.

    Returns:
        `Fetched`: A folder with at least one file that matches. A pattern that no file matches is no error.

    Raises:
        InputError: There is no such repository or revision, the token may not read it, the Hub can't be reached, or no file
            matches any pattern.
    """
    asked = f"The {repo_type} repository {repo_id}"
    try:
        folder = Path(
            snapshot_download(repo_id, repo_type=repo_type, revision=revision, allow_patterns=list(patterns))
        )
    except HFValidationError:
        raise InputError(f"{repo_id!r} is neither a folder nor a Hub id; give a Hub id such as user/name.") from None
    except RevisionNotFoundError:
        raise InputError(f"{asked} has no revision {revision!r}; give one of its branches, tags or commits.") from None
    except GatedRepoError:
        raise InputError(
            f"{asked} is gated: ask for access on its page, and log in with `hf auth login` or the variable HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        who = "the token in use may not read it" if get_token() else "nobody is logged in"
        raise InputError(
            f"{asked} does not exist, or it is private and {who}. Check the id, and log in with `hf auth login` or the "
            "variable HF_TOKEN if it is private."
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"{asked}{at} can't be read: {describe(error)} Check the connection and the token, and run the same again."
        ) from None
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if not any(filter_repo_objects(files, allow_patterns=list(patterns))):
        raise InputError(
            f"{asked} has no file {' or '.join(patterns)} at revision {revision or 'main'} (commit {folder.name[:12]})."
        )
    return Fetched(folder, revision=folder.name)
