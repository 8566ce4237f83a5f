"""A Space that shows a published selection, read-only: an app of a few lines, the package as a wheel, and a card."""

import logging
import os
import re
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
# A Space installs its requirements before it has its files, so that they can't name the wheel.
_APP = '''\
"""Shows the selection in {repo_id}, read-only. {written} {version}."""

import importlib
import subprocess
import sys
from pathlib import Path


wheel = Path(__file__).with_name("{wheel}")
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

    A Space of a private repository needs a token that may read it as its secret HF_TOKEN, which is told.

    Args:
        space_id (`str`): Space such as `user/name`, created if missing.
        repo_id (`str`): Dataset repository that a selection was pushed to.
        revision (`str`, *optional*): Its branch, tag or commit; default `main`, whatever it holds later.
        private (`bool`, *optional*, defaults to `False`): A Space that the push creates is private.
        token (`str`, *optional*): Token of the Hub that may write; default the logged-in one.

    Returns:
        `Pushed`: Where the Space is.

    Raises:
        InputError: There is no selection in the repository, Gradio is not installed, or the push can't work: no token,
            a wrong id, missing rights.
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
    with_retries(f"Looking at {space}", partial(_check_is_free, space))
    fetch_files(repo_id, ["selection.json"], repo_type="dataset", revision=revision, token=token)
    files = space_files(space_id, repo_id, revision)
    pushed = push_files(
        space,
        files,
        message=f"Show the selection in {repo_id}",
        is_stale=lambda path: _OUR_WHEEL.fullmatch(path) is not None,
    )
    state = "pushed to" if pushed.is_new else "unchanged, no commit made:"
    logger.info("%s: %s %s", space_id, state, pushed.url)
    source = Repository(repo_id, "dataset", token=token)
    if with_retries(f"Looking at {source}", lambda: source.api.repo_info(**source.address)).private:
        logger.warning(
            "%s is private: the Space shows it only once its settings have a secret HF_TOKEN, a token that may read "
            "it.",
            repo_id,
        )
    return pushed


def _check_is_free(space: Repository) -> None:
    """Refuse a Space that shows something else: its app would be lost."""
    try:
        if not space.api.file_exists(filename=_APP_FILE, **space.address):
            return
        app = Path(space.api.hf_hub_download(filename=_APP_FILE, **space.address)).read_bytes()
    except RepositoryNotFoundError:
        return
    if _WRITTEN.encode() not in app:
        raise InputError(
            f"--hub_space_id {space.repo_id} has an {_APP_FILE} that hf_clipselect did not write, and that would be "
            "replaced; choose another Space."
        )


def space_files(space_id: str, repo_id: str, revision: str | None = None) -> dict[str, bytes]:
    """The files of the Space by their paths; raises `InputError` where Gradio, whose version it names, is missing."""
    name, wheel = own_wheel()
    place = repr(repo_id) if revision is None else f"{repo_id!r}, revision={revision!r}"
    app = _APP.format(repo_id=repo_id, written=_WRITTEN, version=version("hf_clipselect"), wheel=name, place=place)
    return {
        _APP_FILE: app.encode(),
        "requirements.txt": "".join(f"{line}\n" for line in own_requirements()).encode(),
        name: wheel,
        CARD: space_card(space_id, repo_id).encode(),
    }


def space_card(space_id: str, repo_id: str) -> str:
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
    text = (
        "<!-- hf_clipselect:begin: hf_clipselect writes the text between these two marks anew at each push; the text "
        f"outside is kept -->\n# {escape_markdown(title)}\n\n"
        f"Shows the selection in [{escape_markdown(repo_id)}](https://huggingface.co/datasets/{repo_id}), read-only: "
        "suspects and what they look like, all rows with their scores, and what other sizes would keep. `app.py` "
        "installs the wheel that lies beside it; what that needs is in `requirements.txt`.\n\n"
        f"To decide about rows, look at it on your own machine: {code_span(f'hf-clipselect explore {repo_id}')}\n"
        f"<!-- hf_clipselect:end wrote {written_header(header)} -->\n"
    )
    return SpaceCard(header + text).content
