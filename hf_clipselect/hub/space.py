"""A Space that shows a published selection, read-only: an app of a few lines, the package as a wheel, and a card."""

import logging
import os
import re
import shlex
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import SpaceCard, SpaceCardData
from huggingface_hub.errors import RepositoryNotFoundError

from ..errors import InputError
from ..runtime.downloads import fetch_files
from ..runtime.hub_ids import check_repo_id, plain_name
from ..runtime.retries import with_retries
from .access import check_access
from .escape import code_span, escape_markdown
from .merge import written_header
from .own_wheel import own_requirements, own_wheel
from .push import CARD, Pushed, Repository, push_files


logger = logging.getLogger(__name__)

_OUR_WHEEL = re.compile(r"hf_clipselect-[^/]+\.whl")
_APP_FILE, _WRITTEN = "app.py", "Written by hf_clipselect"
_NO_TOKEN = """\
# What anybody may see needs no token, and a secret of the Space must not open a private source.
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"

"""
# A Space installs its requirements before it has its files, so that they can't name the wheel.
_APP = '''\
"""Shows the selection in {repo_id}, read-only. {written} {version}."""

import importlib
import os
import subprocess
import sys
from pathlib import Path


{token}wheel = Path(__file__).with_name("{wheel}")
subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
importlib.invalidate_caches()

from hf_clipselect.results.explorer import build_app, launch_options, open_selection  # noqa: E402


app = build_app(open_selection({place}), read_only=True)

if __name__ == "__main__":
    app.launch(**launch_options())
'''


def push_space(
    space_id: str, repo_id: str, *, revision: str | None = None, private: bool = False, token: str | None = None
) -> Pushed:
    """Push a Space that shows the selection in a dataset repository; the same push again makes no commit.

    A Space of a private repository must be private too, and needs a token that may read it as its secret HF_TOKEN,
    which is told. That of a public one uses no token, so that it shows no private source.

    Args:
        space_id (`str`): Space such as `user/name`, created if missing.
        repo_id (`str`): Dataset repository that a selection was pushed to.
        revision (`str`, *optional*): Its branch, tag or commit; default `main`, whatever it holds later.
        private (`bool`, *optional*, defaults to `False`): A Space that the push creates is private.
        token (`str`, *optional*): Token of the Hub that may write; default the logged-in one.

    Returns:
        `Pushed`: Where the Space is.

    Raises:
        InputError: There is no selection in the repository, or a private one that a public Space would show; the Space
            shows something else; Gradio is not installed; or the push can't work: no token, a wrong id, missing
            rights.
        PushError: The Hub can't be reached, or fails time after time.
    """
    if os.path.isdir(repo_id):
        raise InputError(
            f"--hub_space_id {space_id}: a Space shows what is on the Hub, and {repo_id} is a folder here. Publish it "
            "first, with `hf-clipselect push`, and give the dataset repository."
        )
    check_repo_id(repo_id)
    space = Repository(space_id, "space", private=private, token=token)
    check_access(space, flags={"space": "hub_space_id"})
    is_private = with_retries(f"Looking at {space}", partial(_is_private, space))
    fetch_files(repo_id, ["selection.json"], repo_type="dataset", revision=revision, token=token)
    source = Repository(repo_id, "dataset", token=token)
    is_secret = bool(with_retries(f"Looking at {source}", lambda: source.api.repo_info(**source.address)).private)
    if is_secret and not is_private:
        raise InputError(
            f"--hub_space_id {space_id}: {repo_id} is private, and a public Space would show it to everybody; pass "
            "--hub_private_repo for a new Space, or make the one that is there private in its settings."
        )
    pushed = push_files(
        space,
        space_files(space_id, repo_id, revision, is_secret=is_secret),
        message=f"Show the selection in {repo_id}",
        is_stale=lambda path: _OUR_WHEEL.fullmatch(path) is not None,
    )
    state = "pushed to" if pushed.is_new else "unchanged, no commit made:"
    logger.info("%s: %s %s", space_id, state, pushed.url)
    if is_secret:
        logger.warning(
            "%s is private: the Space shows it only once its settings have a secret HF_TOKEN, a token that may read "
            "it and nothing else.",
            repo_id,
        )
    return pushed


def _is_private(space: Repository) -> bool:
    """Whether a Space is private, or would be created so; one that shows something else is refused, as its app would
    be lost.
    """
    try:
        is_private = bool(space.api.repo_info(**space.address).private)
        files = space.api.list_repo_files(**space.address)
    except RepositoryNotFoundError:
        return space.private
    if _APP_FILE not in files:
        if others := sorted(set(files) - {CARD, ".gitattributes"}):
            raise InputError(
                f"--hub_space_id {space.repo_id} holds {others[0]}, which hf_clipselect did not write; choose another "
                "Space."
            )
    elif _WRITTEN.encode() not in Path(space.api.hf_hub_download(filename=_APP_FILE, **space.address)).read_bytes():
        raise InputError(
            f"--hub_space_id {space.repo_id} has an {_APP_FILE} that hf_clipselect did not write, and that would be "
            "replaced; choose another Space."
        )
    return is_private


def space_files(
    space_id: str, repo_id: str, revision: str | None = None, *, is_secret: bool = False
) -> dict[str, bytes]:
    """The files of the Space by their paths; with a token only where the repository is a secret.

    Raises `InputError` where Gradio, whose version they name, is missing.
    """
    name, wheel = own_wheel()
    place = repr(repo_id) if revision is None else f"{repo_id!r}, revision={revision!r}"
    app = _APP.format(
        repo_id=repo_id,
        written=_WRITTEN,
        version=version("hf_clipselect"),
        wheel=name,
        place=place,
        token="" if is_secret else _NO_TOKEN,
    )
    return {
        _APP_FILE: app.encode(),
        "requirements.txt": "".join(f"{line}\n" for line in own_requirements()).encode(),
        name: wheel,
        CARD: space_card(space_id, repo_id, revision).encode(),
    }


def space_card(space_id: str, repo_id: str, revision: str | None = None) -> str:
    """The README.md of the Space, with the header that the Hub starts it by."""
    try:
        gradio = version("gradio")
    except PackageNotFoundError:
        raise InputError("A Space needs Gradio, which is not installed: pip install 'hf_clipselect[app]'") from None
    title = plain_name(space_id)
    data = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=gradio,
        # The Hub's own default is older than the package takes.
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file=_APP_FILE,
        license="apache-2.0",
        datasets=[repo_id],
        tags=["data-selection", "hf_clipselect"],
    )
    header = f"---\n{data.to_yaml()}\n---\n"
    page, command = f"https://huggingface.co/datasets/{repo_id}", f"hf-clipselect explore {repo_id}"
    if revision is not None:
        page, command = f"{page}/tree/{quote(revision, safe='')}", f"{command} --revision {shlex.quote(revision)}"
    text = (
        "<!-- hf_clipselect:begin: hf_clipselect writes the text between these two marks anew at each push; the text "
        f"outside is kept -->\n# {escape_markdown(title)}\n\n"
        f"Shows the selection in [{escape_markdown(repo_id)}]({page}), read-only: "
        "suspects and what they look like, all rows with their scores, and what other sizes would keep. `app.py` "
        "installs the wheel that lies beside it; what that needs is in `requirements.txt`.\n\n"
        f"To decide about rows, look at it on your own machine: {code_span(command)}\n"
        f"<!-- hf_clipselect:end wrote {written_header(header)} -->\n"
    )
    return SpaceCard(header + text).content
