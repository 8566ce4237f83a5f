"""Shards of a few images with texts, and a finished run on a sample, as the steps from shards take them."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Image

from hf_clipselect.config.command_line import parse_arguments
from hf_clipselect.pipeline.run import run_selection


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar file of members of these names, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def members(dataset: Dataset, rows: Iterable[int], *, image: str = "picture", text: str = "text") -> list:
    """Rows of a dataset as WebDataset has them, the uid in the JSON: that of a row is its number."""
    undecoded = dataset.cast_column(image, Image(decode=False))
    found = []
    for row in rows:
        values = undecoded[row]
        key, told = f"{row:06d}", {"uid": f"{row:032x}"}
        ending = "cls" if text == "label" else "txt"
        content = {
            "png": values[image]["bytes"],
            "json": json.dumps(told).encode(),
            ending: str(values[text]).encode(),
        }
        found += [(f"{key}.{kind}", part) for kind, part in content.items()]
    return found


def run_on_sample(dataset: Dataset, folder: Path, *flags: Any) -> Path:
    """The output folder of a run with the embedded model on a dataset, which is written beside it first."""
    dataset.to_parquet(folder / "sample.parquet")
    output = folder / "sample_run"
    named = ["--dataset_name", folder / "sample.parquet", "--model_name_or_path", "embedded/tiny-clip", *flags]
    run_selection(parse_arguments(list(map(str, [*named, "--output_dir", output, "--use_cpu", "true"]))))
    return output
