"""Damaged images among the readable rows, by cleanvision; what it finds is kept in the output folder.

Legend: n readable rows.
"""

import hashlib
import json
import logging
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..data import with_image_column_undecoded
from ..encoder.bit_depth import white_level
from ..encoder.image_quality import ISSUES, find_issues, issue_texts, measure_images
from ..runtime.files import write_atomically
from .encode import EncodedRows
from .prepared import AnyPrepared, ImageInputs


logger = logging.getLogger(__name__)

# Raise it when the same images would be judged otherwise.
_FORMAT = 1
_KEY = b"hf_clipselect"
# An issue of a larger share of the rows is how the images of the dataset are.
_COMMON_SHARE = 0.5


def find_quality_issues(
    prepared: AnyPrepared, inputs: ImageInputs, rows: EncodedRows
) -> tuple[np.ndarray, dict[str, int]]:
    """What is wrong with the image of each readable row, texts `(n,)` such as "blurry, dark", "" where nothing is; and
    the number of rows for each issue.

    An issue of more than half of the rows tells of the dataset, not of a row: a warning names it, and it counts for no
    row. Of the embedded digits, for instance, cleanvision finds 86 % low in information. The images are decoded once
    more, by all processes together, unless an earlier run left what it found in the folder.
    """
    found = _found_in_folder(prepared, inputs, rows)
    rates = {name: float(has_it.mean()) for name, has_it in found.items()}
    for name, rate in rates.items():
        if rate > _COMMON_SHARE:
            logger.warning(
                "cleanvision finds %.0f %% of the images %s: as that is how this dataset is, it counts for no row.",
                100 * rate,
                ISSUES[name],
            )
    counting = {name: has_it for name, has_it in found.items() if rates[name] <= _COMMON_SHARE}
    return issue_texts(counting), {ISSUES[name]: int(has_it.sum()) for name, has_it in counting.items()}


def _found_in_folder(prepared: AnyPrepared, inputs: ImageInputs, rows: EncodedRows) -> dict[str, np.ndarray]:
    """Bool `(n,)` for each issue: from the folder, or decoded and written there."""
    undecoded, column = with_image_column_undecoded(inputs.images), inputs.images.image_column
    white, processes, path = white_level(undecoded, column), prepared.processes, inputs.folder.quality_issues
    key = {
        "format": _FORMAT,
        "dataset": inputs.images.source.fingerprint,
        "rows": inputs.images.dataset._fingerprint,
        "image_column": column,
        "readable": hashlib.sha256(rows.numbers.tobytes()).hexdigest(),
        "white": white,
        "cleanvision": version("cleanvision"),
    }
    # What the main process sees decides: the others would measure images without it.
    found = processes.broadcast(_read(path, key) if processes.index == 0 else None)
    if found is not None:
        logger.info("What cleanvision finds in the %d images is in %s.", len(rows.numbers), path)
        return found
    parts = np.array_split(rows.numbers, processes.count)
    measured = measure_images(
        undecoded,
        column,
        parts[processes.index],
        white=white,
        num_threads=prepared.arguments.model.dataloader_num_workers,
        is_shown=processes.index == 0,
    )
    found = find_issues(list(chain.from_iterable(processes.gather(measured))))
    if processes.index == 0:
        _write(path, key, inputs.images.source_index[rows.numbers], found)
    return found


def _read(path: Path, key: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """What was written under the same key; `None` where it is absent, damaged or of another key."""
    try:
        table = pq.read_table(path.absolute(), partitioning=None)
        if json.loads((table.schema.metadata or {}).get(_KEY, b"{}")) != key:
            return None
        return {name: table.column(name).to_numpy() for name in ISSUES}
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def _write(path: Path, key: dict[str, Any], source_index: np.ndarray, found: dict[str, np.ndarray]) -> None:
    table = pa.table({"source_index": source_index, **found}).replace_schema_metadata({_KEY: json.dumps(key)})
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_atomically(path, content.getvalue().to_pybytes())
