"""Whether a push can work, asked before any work is done: the token, whose it is, and the repositories it is for."""

import logging
import re
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import DatasetInfo, GitRefs

from ..config.checks import check_license
from ..errors import InputError
from ..runtime.hub_ids import COMMIT, check_repo_id
from ..runtime.hub_tokens import token_in_use
from ..runtime.retries import describe, with_retries
from ..runtime.words import in_one_line
from .push import Repository


logger = logging.getLogger(__name__)

_DATA_SUFFIXES = (
    ".parquet .arrow .csv .tsv .json .jsonl .txt .xml .zip .tar .gz .jpg .jpeg .png .webp .gif .bmp .tif .tiff".split()
)
_REF = re.compile(r"[A-Za-z0-9_](?:[\w.+-]|/(?!/))*(?<![/.])")


def check_access(*repositories: Repository, flags: Mapping[str, str]) -> None:
    """Refuse a push that would fail at its end; `flags` are the types of repositories -> the flags that named them.
    The repositories have the same token.

    Raises `InputError` for no token or a wrong one, an id that is malformed or of somebody else, a token that may not
    write, a branch or tag that the Hub would refuse; `PushError` where the Hub can't be reached.
    """
    for repository in repositories:
        _check_names(repository, flag=flags[repository.repo_type])
    token = repositories[0].token
    if token_in_use(token) is None:
        raise InputError(
            "A push needs a token of the Hub and found none. Run `hf auth login`, or set HF_TOKEN to a token that may "
            "write."
        )
    me = with_retries(f"Asking {HfApi().endpoint} who you are", partial(_whoami, token))
    for repository in repositories:
        with_retries(f"Looking at {repository}", partial(_check_rights, repository, me, flags))


def check_license_is_known(license: str) -> None:
    """Raise `InputError` for a license that the Hub does not take in the card of a dataset; the Hub's answer decides,
    since its list grows. `PushError` where it can't be reached.
    """
    check_license(license)
    with_retries("Asking the Hub for its licenses", partial(_check_license, license))


def _check_license(license: str) -> None:
    try:
        DatasetCard(f"---\nlicense: {license}\n---\n").validate()
    except ValueError as error:
        raise InputError(
            f"--license {license}: the Hub does not take it ({in_one_line(error, 200)}). Choose one of "
            "https://huggingface.co/docs/hub/repositories-licenses, or other."
        ) from None


def _check_names(repository: Repository, *, flag: str) -> None:
    try:
        check_repo_id(repository.repo_id if "/" in repository.repo_id else "")
    except InputError:
        raise InputError(
            f"--{flag} {repository.repo_id!r} is no id of a repository; give one such as user/name."
        ) from None
    for name, value in (("hub_revision", repository.branch), ("hub_tag", repository.tag)):
        if value is not None and (not _REF.fullmatch(value) or ".." in value or value.startswith("refs/")):
            raise InputError(
                f"--{name} {value!r} is no name of a branch or tag; use letters, digits and . _ - /, as in v1."
            )
        if value is not None and COMMIT.fullmatch(value):
            raise InputError(f"--{name} {value} is a commit; give the name of a branch or tag, which a push can make.")
    if repository.branch is not None and repository.branch == repository.tag:
        raise InputError(
            f"--hub_tag {repository.tag} is the branch of the push too, which would hide the tag; choose another."
        )


def _whoami(token: str | None) -> dict[str, Any]:
    try:
        return HfApi(token=token).whoami()
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise InputError(
                f"The Hub does not accept the token ({describe(error)}) Run `hf auth login` again, or correct "
                "HF_TOKEN."
            ) from None
        raise


def _check_rights(repository: Repository, me: Mapping[str, Any], flags: Mapping[str, str]) -> None:
    api, flag = repository.api, flags[repository.repo_type]
    try:
        info = api.repo_info(**repository.address)
    except RepositoryNotFoundError:
        _check_namespace(repository, me, flag)
        return
    _check_token(repository, me, flag)
    if not repository.create_pr:
        try:
            api.auth_check(**repository.address, write=True)
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 403, 404):
                raise
            raise InputError(
                f"--{flag} {repository.repo_id}: {me['name']} may not write to it ({describe(error)}) Choose a "
                "repository of your own, use a token that may write, or pass --create_pr."
            ) from None
    if repository.private and not info.private:
        logger.warning(
            "%s is public and stays so; --hub_private_repo counts for new repositories.", repository.repo_id
        )
    _check_refs(repository, api.list_repo_refs(**repository.address))
    if isinstance(info, DatasetInfo) and not (info.card_data and info.card_data.get("configs")):
        _check_contents(repository, [file.rfilename for file in info.siblings or ()], flag)


def _check_namespace(repository: Repository, me: Mapping[str, Any], flag: str) -> None:
    """The repository is to be created: by this user, or for an organisation that the user may write to."""
    owner = repository.repo_id.split("/")[0]
    mine = [me["name"], *(org["name"] for org in me.get("orgs", ()) if org.get("roleInOrg") != "read")]
    if owner not in mine:
        raise InputError(
            f"--{flag} {repository.repo_id}: there is no such repository that {me['name']} can see, and it can't be "
            f"created for {owner}; the token is good for {', '.join(mine)}."
        )
    _check_token(repository, me, flag)


def _check_token(repository: Repository, me: Mapping[str, Any], flag: str) -> None:
    token = me.get("auth", {}).get("accessToken", {})
    writes = token.get("role") != "read"
    if "fineGrained" in token:
        rights, owner = token["fineGrained"], repository.repo_id.split("/")[0]
        scopes = [s for s in rights.get("scoped", ()) if s["entity"].get("name") in (owner, repository.repo_id)]
        granted = {*rights.get("global", ()), *(right for scope in scopes for right in scope["permissions"])}
        writes = "repo.write" in granted or (repository.create_pr and "discussion.write" in granted)
    if not writes:
        raise InputError(
            f"--{flag} {repository.repo_id}: the token of {me['name']} may read but not write there. Make one that "
            "may write at https://huggingface.co/settings/tokens."
        )


def _check_refs(repository: Repository, refs: GitRefs) -> None:
    tags, branches = {ref.name for ref in refs.tags}, {ref.name for ref in refs.branches}
    if repository.branch in tags - branches:
        raise InputError(
            f"--hub_revision {repository.branch} is a tag of {repository.repo_id}; give a branch, which a push can "
            "move."
        )
    if repository.tag in branches:
        raise InputError(
            f"--hub_tag {repository.tag}: a branch of {repository.repo_id} has that name and would hide the tag; "
            "choose another."
        )


def _check_contents(repository: Repository, files: list[str], flag: str) -> None:
    """Data that no config names is found by `load_dataset` only until a card names configs, as ours does."""
    if data := [path for path in files if PurePosixPath(path).suffix.lower() in _DATA_SUFFIXES]:
        raise InputError(
            f"--{flag} {repository.repo_id} holds data that its README.md names no config for ({data[0]}): "
            "load_dataset would give the pushed subset in its place. Choose another repository, or name the configs "
            "in its README.md."
        )
