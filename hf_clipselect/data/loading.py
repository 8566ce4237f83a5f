"""From what a user names to rows: the package, the Hub, a URL, a folder or files here."""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset

from ..config.arguments import EMBEDDED_DATASET
from ..embedded import load_digits_dataset
from ..embedded.digits import SPLITS as DIGITS_SPLITS
from ..errors import InputError
from ..runtime.hub_ids import EMBEDDED_PREFIX, lasting_name
from ..runtime.redaction import hide_secrets
from .hub_data import load_repository
from .loading_errors import explained
from .local_data import Wanted, load_files, load_folder
from .places import HubPlace, hub_place, is_pattern, is_url, local_name
from .remote_files import fetch_urls
from .table_files import READERS, reader_name


_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
# `load_dataset` takes these for a name, with files or a folder beside it.
_READER_NAMES = {"imagefolder", *(reader for reader, _ in READERS.values())}


@dataclass(frozen=True)
class Loaded:
    """Rows, and by what name they are known.

    Args:
        dataset (`Dataset`): The rows.
        name (`str`): Hub id, absolute path, URL without credentials, or `embedded/...`.
        commit (`str`, *optional*): Commit on the Hub.
        card (`str`, *optional*): Folder or repository whose README.md may state a license.
        data_dir (`str`, *optional*), data_files (`list[str]`, *optional*): Part of a repository on the Hub.
        paths_relative_to (`str`, *optional*): As [`DatasetSource`] has it.
    """

    dataset: Dataset
    name: str
    commit: str | None = None
    card: str | None = None
    data_dir: str | None = None
    data_files: list[str] | None = None
    paths_relative_to: str | None = None


@dataclass(frozen=True)
class Request:
    """All that a user says of a dataset, as [`load_source`] takes it."""

    name: str
    wanted: Wanted
    revision: str | None
    data_files: Sequence[str] | None
    data_dir: str | None
    options: Mapping[str, Any]

    @property
    def what(self) -> str:
        """The flag and the name, to begin an error with."""
        return f"{self.wanted.flags.name} {self.wanted.shown}"

    def load(self) -> Loaded:
        """Load what was named."""
        name, on_hub = local_name(self.name), hub_place(self.name)
        if on_hub is not None:
            return self._in_repository(on_hub)._from_hub("can't be loaded from the Hub")
        if name.startswith(EMBEDDED_PREFIX):
            return self._embedded()
        is_free = not os.path.exists(name)
        if is_free and name in _READER_NAMES:
            return self._by_reader_name()
        if is_free and _HUB_ID.fullmatch(name):
            return self._from_hub("is no local folder, and can't be loaded from the Hub")
        if self.revision is not None:
            raise InputError(
                f"--dataset_revision {self.revision} is for datasets on the Hub; {self.wanted.shown or 'a file'} is "
                "none."
            )
        if self.data_files:
            return self._from_files(name)
        if is_url(name):
            return self._from_url(name)
        return self._from_path(name)

    def _in_repository(self, place: HubPlace) -> "Request":
        """The same with `hf://datasets/...` taken apart."""
        if self.revision is not None and place.revision not in (None, self.revision):
            raise InputError(
                f"{self.what} names the revision {place.revision}, but --dataset_revision is {self.revision}; leave "
                "one of them out."
            )
        files, folder = self.data_files, self.data_dir
        if is_pattern(place.path) or reader_name(place.path) or place.path.endswith(".zip"):
            files = [place.path, *(files or [])]
        elif place.path:
            folder = "/".join(filter(None, (place.path, folder)))
        return replace(
            self, name=place.repo, revision=self.revision or place.revision, data_files=files, data_dir=folder
        )

    def _from_hub(self, problem: str) -> Loaded:
        if self.options:
            raise InputError(
                f"--storage_options is for URLs; {self.wanted.shown} is on the Hub, where your login opens what you "
                "may read."
            )
        files = list(self.data_files) if self.data_files else None
        with explained(self.what, problem):
            dataset, commit = load_repository(
                self.name, self.wanted, revision=self.revision, data_dir=self.data_dir, data_files=files
            )
        return Loaded(dataset, self.name, commit, self.name, self.data_dir, files)

    def _embedded(self) -> Loaded:
        flags, name = self.wanted.flags, self.name
        if name != EMBEDDED_DATASET:
            raise InputError(
                f"{flags.name} {name} is not embedded in the package; the embedded dataset is {EMBEDDED_DATASET}."
            )
        if self.wanted.config_name is not None:
            raise InputError(
                f"{flags.config} {self.wanted.config_name}: {EMBEDDED_DATASET} has no configurations; leave it out."
            )
        given = {"--dataset_revision": self.revision, "--data_files": self.data_files, "--data_dir": self.data_dir}
        given["--storage_options"] = self.options
        if named := [flag for flag, value in given.items() if value]:
            raise InputError(f"{named[0]} is not for {EMBEDDED_DATASET}, which is in the package; leave it out.")
        if self.wanted.split not in DIGITS_SPLITS:
            raise InputError(
                f"{name} has no split {self.wanted.split!r}: choose one of {', '.join(DIGITS_SPLITS)} ({flags.split})."
            )
        return Loaded(load_digits_dataset(self.wanted.split), name)

    def _by_reader_name(self) -> Loaded:
        if self.data_files:
            return replace(self, name="").load()
        if self.data_dir is None:
            raise InputError(
                f"{self.what} is neither a folder nor a dataset on the Hub, but a reader of datasets: name its folder "
                "with --data_dir, or its files with --data_files."
            )
        shown = hide_secrets(self.data_dir, self.options)
        return replace(self, name=self.data_dir, data_dir=None, wanted=replace(self.wanted, shown=shown)).load()

    def _from_files(self, base: str) -> Loaded:
        """The files of `--data_files`, relative to the folder that the name is of, if it is one."""
        if base and not is_url(base) and not os.path.isdir(base):
            raise InputError(f"{self.what} is no folder that --data_files could lie in; leave one of them out.")
        base = "/".join(filter(None, (base.rstrip("/"), self.data_dir)))
        entries = [local_name(entry) for entry in self.data_files]
        urls = [entry if is_url(entry) else f"{base}/{entry}" for entry in entries if is_url(entry) or is_url(base)]
        here = [] if is_url(base) else [entry for entry in entries if not is_url(entry)]
        if self.options and not urls:
            raise InputError("--storage_options is for URLs, and --data_files names files here; leave it out.")
        names = [hide_secrets(url, self.options) for url in urls] + [
            os.path.abspath(os.path.join(base, e)) for e in here
        ]
        paths = [path for entry in here for path in _matched_files(entry, base)]
        if urls:
            paths += fetch_urls(urls, self.options, "--data_files").paths
        shown = " ".join(names)
        with explained(f"--data_files {shown}", "can't be loaded", self.options):
            dataset, folder = load_files(paths, replace(self.wanted, shown=shown))
        if urls:
            folders = {name.rpartition("/")[0] for name in names}
            folder = folders.pop() if len(folders) == 1 else None
        return Loaded(dataset, names[0] if len(names) == 1 else os.path.dirname(names[0]), paths_relative_to=folder)

    def _from_url(self, name: str) -> Loaded:
        if self.data_dir is not None:
            name = f"{name.rstrip('/')}/{self.data_dir}"
        wanted = replace(self.wanted, shown=hide_secrets(name, self.options))
        fetched = fetch_urls([name], self.options, wanted.flags.name)
        with explained(f"{wanted.flags.name} {wanted.shown}", "can't be loaded", self.options):
            if fetched.is_folder:
                dataset, folder = load_folder(fetched.folder, wanted)
                return Loaded(dataset, wanted.shown, card=fetched.folder, paths_relative_to=folder)
            dataset, _ = load_files(fetched.paths, wanted)
        return Loaded(dataset, wanted.shown, paths_relative_to=wanted.shown.rpartition("/")[0])

    def _from_path(self, name: str) -> Loaded:
        flag = self.wanted.flags.name
        if self.options:
            raise InputError(f"--storage_options is for URLs, and {self.what} is none; leave it out.")
        path = os.path.join(name, self.data_dir) if self.data_dir else name
        if not path or not os.path.exists(path):
            if os.path.isdir(name):
                raise InputError(f"--data_dir {self.data_dir}: {self.wanted.shown} has no such folder.")
            raise InputError(
                f"{flag} {self.wanted.shown!r} is neither a folder nor a Hub id; give an existing folder or file, a "
                f"URL, a Hub id such as uoft-cs/cifar10, or {EMBEDDED_DATASET}."
            )
        with explained(self.what, "can't be loaded"):
            if os.path.isdir(path):
                dataset, folder = load_folder(path, self.wanted)
                return Loaded(dataset, lasting_name(name), card=path, paths_relative_to=folder)
            _check_regular(path, flag)
            dataset, folder = load_files([path], self.wanted)
            return Loaded(dataset, lasting_name(name), paths_relative_to=folder)


def _matched_files(entry: str, base: str) -> list[str]:
    """The files that an entry of `--data_files` means here: the one of that very name, or those that the pattern
    matches.
    """
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
