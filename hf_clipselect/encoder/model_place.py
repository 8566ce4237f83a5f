"""Finds a model: a folder, or one commit of a repository on the Hub.

Most have a config.json of transformers at the top. Those of OpenCLIP have an open_clip_config.json instead, or beside
a config.json of another library; those of sentence-transformers a modules.json, which names the folder of the CLIP.
"""

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

from ..config.arguments import DEFAULT_MODEL, EMBEDDED_MODEL
from ..embedded import tiny_clip_path
from ..errors import InputError
from ..runtime.downloads import hub_refusals
from ..runtime.hub_ids import EMBEDDED_PREFIX, HUB_PREFIX, check_repo_id


OPEN_CLIP_CONFIG = "open_clip_config.json"

_CONFIG, _MODULES = "config.json", "modules.json"
# A folder of sentence-transformers, as its modules.json names it.
_PART = re.compile(r"\w[\w.-]*")
# What git takes as the name of a branch or tag, at most as long as a file name.
_REVISION = re.compile(r"(?!.*\.\.)[^\s\x00-\x1f\x7f~^:?*\[\\]{1,250}")
_SHOWN = 100


@dataclass(frozen=True)
class ModelPlace:
    """A model that exists and is not checked yet: its folder or Hub id, and its commit.

    `snapshot` is the folder; for a commit, the one in the Hub client's cache that is named after it. `token` is for
    the Hub, by default the logged-in one. `is_open_clip` tells that it is described by `open_clip_config.json`, and
    `part` is the folder of sentence-transformers in a repository on the Hub that holds a model of transformers.
    """

    source: str
    snapshot: Path
    commit: str | None = None
    token: str | None = field(default=None, repr=False)
    is_open_clip: bool = False
    part: str | None = None

    @property
    def is_local(self) -> bool:
        return self.commit is None

    @property
    def format(self) -> str | None:
        """Whose format it is in, if that is not the one of transformers, in which the library alone loads it."""
        return "OpenCLIP" if self.is_open_clip else "sentence-transformers" if self.part else None

    @property
    def options(self) -> dict[str, Any]:
        """What `from_pretrained` takes beside the source, without running code that lies there."""
        return {
            "revision": self.commit,
            "subfolder": self.part or "",
            "trust_remote_code": False,
            "token": self.token,
        }

    def file(self, name: str) -> Path | None:
        """A file of the model on disk, downloaded if it is on the Hub; `None` where the model has no such file."""
        if self.commit is None:
            return self.snapshot / name if (self.snapshot / name).is_file() else None
        name = name if self.part is None else f"{self.part}/{name}"
        known = try_to_load_from_cache(self.source, name, revision=self.commit)
        if known is not None:  # the cache also holds which files a commit does not have
            return Path(known) if isinstance(known, str) else None
        try:
            return Path(hf_hub_download(self.source, name, revision=self.commit, token=self.token))
        except RemoteEntryNotFoundError:
            return None


def find_model(name: str, revision: str, token: str | None = None) -> ModelPlace:
    """Find a model by its Hub id, folder or `embedded/tiny-clip`; `revision` is `"main"` for the last two.

    `hf-hub:` before an id is OpenCLIP's way to write it and changes nothing.

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
        place = _in_its_format(ModelPlace(folder, Path(folder)))
        if place is None:
            raise InputError(f"{what} has no config.json, {no_model}")
        return place
    if os.path.exists(folder):
        raise InputError(f"{what} is a file; give the folder of the model, which holds its config.json too.")
    repo_id = name.removeprefix(HUB_PREFIX)
    try:
        check_repo_id(repo_id)
    except InputError:
        raise InputError(
            f"{what} is neither a folder that exists nor a Hub id; give a Hub id or folder of a "
            f"CLIP{example_but(name)}."
        ) from None
    if not _REVISION.fullmatch(revision):
        raise InputError(
            f"--model_revision {quoted(revision)} is no name of a branch, tag or commit; give one, or leave it out."
        )
    with hub_refusals(what, repo_id, revision, token):
        snapshot = _snapshot(repo_id, revision, token)
        given = None if snapshot is None else ModelPlace(repo_id, snapshot, commit=snapshot.name, token=token)
        place = None if given is None else _in_its_format(given)
    if place is None:
        raise InputError(f"{what} has no config.json at revision {quoted(revision)}, {no_model}")
    return place


def _snapshot(repo_id: str, revision: str, token: str | None) -> Path | None:
    """The folder of a commit in the cache, with the file that describes the model; `None` where there is none."""
    try:
        return Path(hf_hub_download(repo_id, _CONFIG, revision=revision, token=token)).parent
    except RemoteEntryNotFoundError:
        for name in (OPEN_CLIP_CONFIG, _MODULES):
            with suppress(RemoteEntryNotFoundError):
                return Path(hf_hub_download(repo_id, name, revision=revision, token=token)).parent
        return None
    except LocalEntryNotFoundError:
        # Without the Hub, the cache tells of a config.json that is missing as of one that was not downloaded.
        for name in (OPEN_CLIP_CONFIG, _MODULES):
            if isinstance(path := try_to_load_from_cache(repo_id, name, revision=revision), str):
                return Path(path).parent
        raise


def _in_its_format(place: ModelPlace) -> ModelPlace | None:
    """The place with the format that its files tell; `None` where no file describes a model."""
    config = place.file(_CONFIG)
    if config is not None and _has_two_towers(config):
        return place
    if place.file(OPEN_CLIP_CONFIG) is not None:
        return replace(place, is_open_clip=True)
    part = _clip_part(place.file(_MODULES))
    if part is not None and (inner := place.file(f"{part}/{_CONFIG}")) is not None:
        folder = inner.parent
        return ModelPlace(str(folder), folder) if place.is_local else replace(place, snapshot=folder, part=part)
    return None if config is None else place


def _has_two_towers(config: Path) -> bool:
    """Whether a config.json describes a dual encoder of transformers; `True` for a damaged one, which is told of."""
    try:
        return {"text_config", "vision_config"} <= json.loads(config.read_bytes()).keys()
    except (ValueError, AttributeError, RecursionError):
        return True


def _clip_part(modules: Path | None) -> str | None:
    """The folder of the CLIP that the modules.json of sentence-transformers names."""
    if modules is None:
        return None
    try:
        entries = [(str(entry["type"]), str(entry["path"])) for entry in json.loads(modules.read_bytes())]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    parts = (path for kind, path in entries if kind.endswith(".CLIPModel") and _PART.fullmatch(path))
    return next(parts, None)


def quoted(text: str) -> str:
    """A name as messages show it: as it is, but in quotes and cut off where it is odd or long."""
    if 0 < len(text) <= _SHOWN and text.isprintable() and text == text.strip():
        return text
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def example_but(name: str) -> str:
    """The example model at the end of a message; nothing where it would recommend the refused model itself."""
    return "" if name.strip("/ ").lower() == DEFAULT_MODEL else f", e.g. {DEFAULT_MODEL}"
