"""Finds a model: a folder, or one commit of a repository on the Hub."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError

from ..config.arguments import DEFAULT_MODEL, EMBEDDED_MODEL
from ..embedded import tiny_clip_path
from ..errors import InputError
from ..runtime.downloads import hub_refusals
from ..runtime.hub_ids import EMBEDDED_PREFIX, check_repo_id


# What git takes as the name of a branch or tag, at most as long as a file name.
_REVISION = re.compile(r"(?!.*\.\.)[^\s\x00-\x1f\x7f~^:?*\[\\]{1,250}")
_SHOWN = 100


@dataclass(frozen=True)
class ModelPlace:
    """A model that exists and is not checked yet: the folder or Hub id that `from_pretrained` takes, and its commit.

    `snapshot` is the folder; for a commit, the one in the Hub client's cache that is named after it. `token` is for
    the Hub, by default the logged-in one.
    """

    source: str
    snapshot: Path
    commit: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        return self.commit is None


def find_model(name: str, revision: str, token: str | None = None) -> ModelPlace:
    """Find a model by its Hub id, folder or `embedded/tiny-clip`; `revision` is `"main"` for the last two.

    Raises `InputError` where there is no such model or revision, the token may not read it, or the Hub can't be
    reached and the cache does not have it.
    """
    what = f"--model_name_or_path {quoted(name)}"
    if name.startswith(EMBEDDED_PREFIX) and name != EMBEDDED_MODEL:
        raise InputError(f"{what} is not embedded in the package; the embedded model is {EMBEDDED_MODEL}.")
    no_model = (
        f"so it is no model of transformers; give a Hub id or folder of a CLIP{example_but(name)}. Adapters are named "
        "by --adapter_name_or_path."
    )
    folder = str(tiny_clip_path()) if name == EMBEDDED_MODEL else os.path.expanduser(name)
    if os.path.isdir(folder):
        if revision != "main":
            raise InputError(
                f"{what} is a folder, which has no revision; leave out --model_revision {quoted(revision)}."
            )
        if not os.path.exists(os.path.join(folder, "config.json")):
            raise InputError(f"{what} has no config.json, {no_model}")
        return ModelPlace(folder, Path(folder))
    if os.path.exists(folder):
        raise InputError(f"{what} is a file; give the folder of the model, which holds its config.json too.")
    try:
        check_repo_id(name)
    except InputError:
        raise InputError(
            f"{what} is neither a folder that exists nor a Hub id; give a Hub id or folder of a "
            f"CLIP{example_but(name)}."
        ) from None
    if not _REVISION.fullmatch(revision):
        raise InputError(
            f"--model_revision {quoted(revision)} is no name of a branch, tag or commit; give one, or leave it out."
        )
    with hub_refusals(what, name, revision, token):
        try:
            snapshot = Path(hf_hub_download(name, "config.json", revision=revision, token=token)).parent
        except RemoteEntryNotFoundError:
            raise InputError(f"{what} has no config.json at revision {quoted(revision)}, {no_model}") from None
    return ModelPlace(name, snapshot, commit=snapshot.name, token=token)


def quoted(text: str) -> str:
    """A name as messages show it: as it is, but in quotes and cut off where it is odd or long."""
    if 0 < len(text) <= _SHOWN and text.isprintable() and text == text.strip():
        return text
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def example_but(name: str) -> str:
    """The example model at the end of a message; nothing where it would recommend the refused model itself."""
    return "" if name.strip("/ ").lower() == DEFAULT_MODEL else f", e.g. {DEFAULT_MODEL}"
