"""The output folder of a run: what lies where, whose it is, and that nothing in it is ever half-written.

config.yaml  features/  reference_features/  quality_issues.parquet  adapter/  scores.parquet  subset/  report.json
report.html  dropped.parquet  map.parquet
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ..data import LabelledImages
from ..errors import InputError
from ..hub import adapter_card, check_subset_folder, is_subset_file
from ..hub.merge import is_all_ours, read_card, write_card
from ..runtime.files import unused_name, write_text_atomically
from ..runtime.folders import check_kind, check_kinds, remove_ours, replaced, restore
from .embedding_map import MAP_NAME, with_what_is_known, write_map
from .report import write_html
from .run_lock import LOCK_NAME, locked
from .run_report import write_json
from .selection_result import SelectionResult


logger = logging.getLogger(__name__)

_ENTRIES = (
    "config.yaml features reference_features quality_issues.parquet adapter scores.parquet subset report.json "
    f"report.html dropped.parquet {MAP_NAME}"
).split()
_CARD = "README.md"
# That of libyaml, where PyYAML was built with it, is ten times faster.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FEATURES = re.compile(r"(images|texts)-\d{5}\.safetensors|(text|out_of_fold)\.safetensors|manifest\.json")
_ADAPTER = re.compile(r"adapter_config\.json|adapter_model\.safetensors")
# What a run writes into its folders, and so may replace and remove. Cards are for two: see `_remove_ours`.
_OURS = {
    "features": lambda path: _FEATURES.fullmatch(path) is not None,
    "reference_features": lambda path: _FEATURES.fullmatch(path) is not None,
    "adapter": lambda path: _ADAPTER.fullmatch(path) is not None,
    "subset": is_subset_file,
}


class RunFolder:
    """The output folder of one dataset and one encoder; a repeated run finds what is done and goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.features = path / "features"
        self.reference_features = path / "reference_features"
        self.quality_issues = path / "quality_issues.parquet"
        self.adapter = path / "adapter"
        self.subset = path / "subset"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and keep every other run out of it during a block.

        Raises `InputError` where it is a file, can't be created or written to, or another run works in it.
        """
        try:
            if self.path.exists() and not self.path.is_dir():
                raise InputError(f"--output_dir {self.path} is a file; give a folder.")
        except OSError as error:  # a name that no file system takes
            raise InputError(f"--output_dir {str(self.path)[:100]} can't be used: {error.strerror}.") from None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise InputError(f"--output_dir {self.path} can't be written to: {error.strerror}.") from None
        with locked(self.path):
            yield

    def check(self, identity: Mapping[str, Any], *, overwrite: bool) -> None:
        """Raise `InputError` for a folder, which exists, that a run of this identity can't write to.

        Refused are another run's results, unless `overwrite` lets them go; files that no run wrote, unless `overwrite`
        leaves them there and none bears a name of the run's; a card that can't be read; and a folder or a pipe that
        bears the name of a file.
        """
        for name in _ENTRIES:
            check_kind(self.path / name, folder=name in _OURS)
        check_kind(self.adapter / _CARD, folder=False)
        check_subset_folder(self.subset)
        for folder in (self.features, self.reference_features, self.adapter):
            check_kinds(folder, is_ours=_OURS[folder.name], is_our_folder=lambda _: False)
        if set(self.path.iterdir()) <= {self.path / LOCK_NAME, *self._leftovers()}:
            return
        found = self.read_config().get("identity")
        if not isinstance(found, dict):
            found = {}
            taken = [name for name in _ENTRIES if (self.path / name).exists()]
            if taken:
                raise InputError(
                    f"--output_dir {self.path} holds {', '.join(taken)}, which no run of hf_clipselect made and a run "
                    "would replace. Choose another --output_dir, or move them away."
                )
            if not overwrite:
                raise InputError(
                    f"--output_dir {self.path} is not empty and holds no run of hf_clipselect. Choose another "
                    "--output_dir, or pass --overwrite_output_dir to write beside what is there."
                )
        for folder in (self.subset, self.adapter):
            read_card(folder / _CARD)  # now, and not at the end of the work
        if overwrite:
            return
        different = [
            f"{key} {found.get(key)} there, {value} now" for key, value in identity.items() if found.get(key) != value
        ]
        if different:
            raise InputError(
                f"--output_dir {self.path} holds another run: {'; '.join(different)}. Choose another --output_dir, or "
                "pass --overwrite_output_dir to remove the results in it."
            )

    def open(self, identity: Mapping[str, Any], *, overwrite: bool) -> None:
        """Take the folder over, after `check`; with `overwrite` another run's results are removed."""
        for name, is_ours in _OURS.items():
            restore(self.path / name, is_ours=is_ours)
        found = self.read_config().get("identity")
        if overwrite and found != identity:
            if found is not None:
                logger.info("The results of another run in %s are removed.", self.path)
            # First: killed on the way, the folder is known as this run's, and its features and adapters by their keys.
            self.write_config({"identity": identity})
            for entry in _ENTRIES:
                if entry in _OURS:
                    self._remove_ours(entry)
                elif entry != "config.yaml":
                    (self.path / entry).unlink(missing_ok=True)
        for leftover in self._leftovers():
            _remove(leftover)

    def read_config(self) -> dict[str, Any]:
        """config.yaml, or nothing where there is none that can be read."""
        try:
            config = yaml.load((self.path / "config.yaml").read_text(encoding="utf-8"), Loader=_YAML_LOADER)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}
        return config if isinstance(config, dict) else {}

    def write_config(self, config: Mapping[str, Any]) -> None:
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=120)
        write_text_atomically(self.path / "config.yaml", text)

    def write_results(
        self,
        result: SelectionResult,
        images: LabelledImages,
        unreadable: Mapping[int, str],
        *,
        scores_only: bool = False,
        places: pa.Table | None = None,
    ) -> None:
        """Write everything but features, adapters and config.yaml, which are there already.

        `unreadable` gives the reason for the source_index of each image that could not be read; with `scores_only` the
        subset folder holds no images, and the map neither; `places` are what [`make_map`] gives, and without them an
        earlier map, which tells of other scores, goes.
        """
        report = result.report
        with self._replacing_file("scores.parquet") as path:
            pq.write_table(result.scores.with_format("arrow")[:], path)
        self._write_dropped(unreadable)
        self._write_map(places, result, None if scores_only else images)
        with self.replacing(self.subset) as folder:
            # Which files its rows may name was checked when it was prepared.
            result.save(folder, None if scores_only else images.dataset, allow_outside_files=True)
        if report["adaptation"]["kept"]:
            write_card(self.adapter / _CARD, adapter_card(report))
        write_json(self.path / "report.json", report)
        write_html(
            self.path / "report.html", report, result.scores, dataset=images.dataset, image_column=images.image_column
        )

    def _write_dropped(self, unreadable: Mapping[int, str]) -> None:
        if not unreadable:
            (self.path / "dropped.parquet").unlink(missing_ok=True)
            return
        rows, reasons = pa.array(unreadable.keys(), pa.int64()), pa.array(unreadable.values(), pa.string())
        with self._replacing_file("dropped.parquet") as path:
            pq.write_table(pa.table({"source_index": rows, "reason": reasons}), path)

    def _write_map(self, places: pa.Table | None, result: SelectionResult, images: LabelledImages | None) -> None:
        if places is None:
            (self.path / MAP_NAME).unlink(missing_ok=True)
        else:
            write_map(self.path, with_what_is_known(places, result, images))

    @contextmanager
    def _replacing_file(self, name: str) -> Iterator[Path]:
        temporary = unused_name(self.path.absolute() / name)  # pyarrow reads `run:1/...` as a URL
        try:
            yield temporary
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def replacing(self, folder: Path) -> AbstractContextManager[Path]:
        """A folder to fill: it takes the place of `folder` when the block ends well, with what people put there."""
        return replaced(folder, is_ours=_OURS[folder.name])

    @contextmanager
    def mark(self) -> Iterator[str]:
        """A file of a name that nobody else chose, for the other processes to look for; gone after the block."""
        mark = unused_name(self.path / "config.yaml")
        mark.touch()
        try:
            yield mark.name
        finally:
            mark.unlink(missing_ok=True)

    def has_mark(self, name: str) -> bool:
        return (self.path / name).exists()

    def remove_adapter(self) -> None:
        self._remove_ours(self.adapter.name)

    def _remove_ours(self, name: str) -> None:
        """Remove what runs wrote into one of their folders; a card that people wrote in stays for the next run."""
        card = self.path / name / _CARD
        try:
            without_card = not card.is_file() or not is_all_ours(card.read_bytes().decode())
        except UnicodeDecodeError:
            without_card = True
        remove_ours(self.path / name, is_ours=lambda path: _OURS[name](path) or path == _CARD and not without_card)

    def _leftovers(self) -> list[Path]:
        """What a run that was killed had begun to write."""
        features = [*self.features.glob(".*.tmp"), *self.reference_features.glob(".*.tmp")]
        inside = [*features, *self.adapter.glob(".*.tmp"), *self.subset.glob(f".{_CARD}.*.tmp")]
        return [path for entry in _ENTRIES for path in self.path.glob(f".{entry}.*tmp")] + inside


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
