"""From what a user names to rows: the package, the Hub, a URL, a folder or files on this machine."""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datasets import Dataset, IterableDataset, load_dataset_builder

from ..config.arguments import EMBEDDED_DATASET
from ..embedded import load_digits_dataset
from ..errors import InputError
from ..runtime.hub_ids import COMMIT, EMBEDDED_PREFIX, lasting_name
from ..runtime.redaction import hide_secrets
from .loading_errors import explained
from .local_data import Wanted, load_files, load_folder
from .places import HubPlace, hub_place, is_pattern, is_url, local_name
from .remote_files import fetch_urls
from .table_files import READERS, reader_name


_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
# `load_dataset` takes these for a name, with files or a folder beside it.
_READER_NAMES = {"imagefolder", *READERS.values()}


@dataclass(frozen=True)
class Loaded:
    """Rows, what [`DatasetSource`] tells of them, and the folder or repository whose README.md may state a license."""

    dataset: Dataset | IterableDataset
    name: str
    revision: str | None = None
    card: str | None = None
    data_dir: str | None = None
    data_files: list[str] | None = None
    paths_relative_to: str | None = None


@dataclass(frozen=True)
class Request:
    """All that a user says of a dataset, as [`load_source`] takes it; `options` are those of a file system, `token`
    that of the Hub, by default the logged-in one.
    """

    name: str
    wanted: Wanted
    revision: str | None
    data_files: Sequence[str]
    data_dir: str | None
    options: Mapping[str, Any]
    token: str | None = field(default=None, repr=False)


def load(request: Request) -> Loaded:
    """Load what a user named.

    Raises `InputError` where there is no such dataset, it can't be loaded, or a part of the request is not for it.
    """
    name, on_hub = local_name(request.name), hub_place(request.name)
    if on_hub is not None:
        return _from_hub(_in_repository(request, on_hub), "can't be loaded from the Hub")
    if name.startswith(EMBEDDED_PREFIX):
        return _embedded(request)
    is_free = not os.path.exists(name)
    if is_free and name in _READER_NAMES:
        return _by_reader_name(request)
    if is_free and _HUB_ID.fullmatch(name):
        return _from_hub(request, "is no local folder, and can't be loaded from the Hub")
    if request.revision is not None:
        raise InputError(
            f"--dataset_revision {request.revision} is for datasets on the Hub; {request.wanted.shown or 'a file'} is "
            "none."
        )
    if request.data_files:
        return _from_files(request, name)
    if is_url(name):
        return _from_url(request, name)
    return _from_path(request, name)


def _in_repository(request: Request, place: HubPlace) -> Request:
    """The request for a repository that `hf://datasets/...` means."""
    if request.revision is not None and place.revision not in (None, request.revision):
        raise InputError(
            f"{request.wanted.flag_and_name} names the revision {place.revision}, but --dataset_revision is "
            f"{request.revision}; leave one of them out."
        )
    request = replace(request, name=place.repo, revision=request.revision or place.revision)
    if is_pattern(place.path) or reader_name(place.path) or place.path.endswith(".zip"):
        return replace(request, data_files=[place.path, *request.data_files])
    if place.path:
        return replace(request, data_dir="/".join(filter(None, (place.path, request.data_dir))))
    return request


def _from_hub(request: Request, problem: str) -> Loaded:
    if request.options:
        raise InputError(
            f"--storage_options is for URLs; {request.wanted.shown} is on the Hub, where your login opens what you "
            "may read."
        )
    name, folder, files = request.name, request.data_dir, list(request.data_files) or None
    with explained(request.wanted.flag_and_name, problem):
        # The two steps of `load_dataset`, which does not tell the commit that a branch stood for.
        builder = load_dataset_builder(
            name,
            request.wanted.config_name,
            revision=request.revision,
            data_dir=folder,
            data_files=files,
            token=request.token,
        )
        dataset = request.wanted.open(builder)
    commit = builder.hash if COMMIT.fullmatch(builder.hash or "") else None
    return Loaded(dataset, name, commit, name, folder, files)


def _embedded(request: Request) -> Loaded:
    flags, name, wanted = request.wanted.flags, request.name, request.wanted
    if name != EMBEDDED_DATASET:
        raise InputError(
            f"{flags.name} {name} is not embedded in the package; the embedded dataset is {EMBEDDED_DATASET}."
        )
    if wanted.config_name is not None:
        raise InputError(
            f"{flags.config} {wanted.config_name}: {EMBEDDED_DATASET} has no configurations; leave it out."
        )
    others = {
        "--dataset_revision": request.revision,
        "--data_files": request.data_files,
        "--data_dir": request.data_dir,
        "--storage_options": request.options,
    }
    if named := [flag for flag, value in others.items() if value]:
        raise InputError(f"{named[0]} is not for {EMBEDDED_DATASET}, which is in the package; leave it out.")
    return Loaded(load_digits_dataset(wanted.split, flag=flags.split), name)


def _by_reader_name(request: Request) -> Loaded:
    if request.data_files:
        return load(replace(request, name=""))
    if request.data_dir is None:
        raise InputError(
            f"{request.wanted.flag_and_name} is neither a folder nor a dataset on the Hub, but a reader of datasets: "
            "name its folder with --data_dir, or its files with --data_files."
        )
    wanted = replace(request.wanted, shown=hide_secrets(request.data_dir, request.options))
    return load(replace(request, name=request.data_dir, data_dir=None, wanted=wanted))


def _from_files(request: Request, base: str) -> Loaded:
    """The files of `--data_files`, relative to the folder that the name is of, if it is one."""
    options = request.options
    if base and not is_url(base) and not os.path.isdir(base):
        raise InputError(
            f"{request.wanted.flag_and_name} is no folder that --data_files could lie in; leave one of them out."
        )
    base = "/".join(filter(None, (base.rstrip("/"), request.data_dir)))
    entries = [local_name(entry) for entry in request.data_files]
    urls = [entry if is_url(entry) else f"{base}/{entry}" for entry in entries if is_url(entry) or is_url(base)]
    local = [] if is_url(base) else [entry for entry in entries if not is_url(entry)]
    if options and not urls:
        raise InputError("--storage_options is for URLs, and --data_files names files here; leave it out.")
    if urls:
        _check_not_streamed(request)
    names = [hide_secrets(url, options) for url in urls]
    names += [os.path.abspath(os.path.join(base, entry)) for entry in local]
    paths = [path for entry in local for path in _matched_files(entry, base)]
    if urls:
        paths += fetch_urls(urls, options, "--data_files")[1]
    shown = " ".join(names)
    with explained(f"--data_files {shown}", "can't be loaded", options):
        dataset, folder = load_files(paths, replace(request.wanted, shown=shown))
    if urls:
        folders = {name.rpartition("/")[0] for name in names}
        folder = folders.pop() if len(folders) == 1 else None
    return Loaded(dataset, names[0] if len(names) == 1 else os.path.dirname(names[0]), paths_relative_to=folder)


def _from_url(request: Request, name: str) -> Loaded:
    _check_not_streamed(request)
    if request.data_dir is not None:
        name = f"{name.rstrip('/')}/{request.data_dir}"
    wanted = replace(request.wanted, shown=hide_secrets(name, request.options))
    fetched, paths = fetch_urls([name], request.options, wanted.flags.name)
    with explained(wanted.flag_and_name, "can't be loaded", request.options):
        if fetched is not None:
            dataset, folder = load_folder(fetched, wanted)
            return Loaded(dataset, wanted.shown, card=fetched, paths_relative_to=folder)
        dataset, _ = load_files(paths, wanted)
    return Loaded(dataset, wanted.shown, paths_relative_to=wanted.shown.rpartition("/")[0])


def _check_not_streamed(request: Request) -> None:
    if request.wanted.streaming:
        raise InputError(
            "--streaming reads datasets of the Hub and of this machine, and what a URL names is fetched whole first; "
            "leave it out, or pass load_dataset(..., streaming=True) to select_dataset from Python."
        )


def _from_path(request: Request, name: str) -> Loaded:
    wanted, flag = request.wanted, request.wanted.flags.name
    if request.options:
        raise InputError(f"--storage_options is for URLs, and {request.wanted.flag_and_name} is none; leave it out.")
    path = os.path.join(name, request.data_dir) if request.data_dir else name
    if not path or not os.path.exists(path):
        if os.path.isdir(name):
            raise InputError(f"--data_dir {request.data_dir}: {wanted.shown} has no such folder.")
        raise InputError(
            f"{flag} {wanted.shown!r} is neither a folder nor a Hub id; give an existing folder or file, a URL, a Hub "
            f"id such as uoft-cs/cifar10, or {EMBEDDED_DATASET}."
        )
    with explained(request.wanted.flag_and_name, "can't be loaded"):
        if os.path.isdir(path):
            dataset, folder = load_folder(path, wanted)
            return Loaded(dataset, lasting_name(name), card=path, paths_relative_to=folder)
        _check_regular(path, flag)
        dataset, folder = load_files([path], wanted)
        return Loaded(dataset, lasting_name(name), paths_relative_to=folder)


def _matched_files(entry: str, base: str) -> list[str]:
    """The files that an entry of `--data_files` means: the one of that name, or those that the pattern matches."""
    path = os.path.join(base, entry)
    if not entry.strip() or "\0" in path:
        raise InputError(f"--data_files {entry!r} is no name of a file.")
    if os.path.isdir(path):
        raise InputError(
            f"--data_files {entry} is a folder; give it as --dataset_name, or as a pattern such as "
            f"{entry.rstrip('/')}/*."
        )
    pattern = os.path.join(glob.escape(base), entry)
    matches = [path] if os.path.exists(path) else sorted(glob.glob(pattern, recursive=True))
    paths = [match for match in matches if not os.path.isdir(match)]
    if not paths:
        told = f"names no file{' in ' + base if base else ''}"
        if matches:
            told = f"names folders alone, such as {matches[0]}; for the files in them give {entry.rstrip('/')}/*"
        raise InputError(f"--data_files {entry} {told}.")
    for found in paths:
        _check_regular(found, "--data_files")
    return paths


def _check_regular(path: str, flag: str) -> None:
    if not os.path.isfile(path):
        raise InputError(f"{flag} {path} is no file but a device, pipe or socket.")
