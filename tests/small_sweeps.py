"""Sweeps of seconds: embeddings of four classes in a file, and arguments that compare a few methods on them."""

from pathlib import Path

import numpy as np

from hf_clipselect.evaluation.comparison import SweepArguments


def write_features(path: Path) -> Path:
    """Four classes around their texts, of which one has none."""
    rng = np.random.default_rng(0)
    texts = np.eye(4, 16, dtype=np.float16)
    labels = {"train": np.arange(240) % 4, "test": np.arange(80) % 4}
    images = {
        split: (texts[of_split] + 0.2 * rng.normal(size=(len(of_split), 16))).astype(np.float16)
        for split, of_split in labels.items()
    }
    texts[2] = np.nan
    np.savez(
        path,
        class_text_embeds=texts,
        class_has_text=np.array([True, True, False, True]),
        train_image_embeds=images["train"],
        train_labels=labels["train"],
        test_image_embeds=images["test"],
        test_labels=labels["test"],
    )
    return path


def sweep_of(path: Path | str, folder: Path, **changes: object) -> SweepArguments:
    values = {"methods": ["diverse", "clean"], "selection_ratio": [0.2, 0.5], "seeds": [0], "probe_c": [1.0]}
    return SweepArguments(dataset_name=str(path), output_dir=str(folder), **{**values, **changes})


def cell_files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Name -> time and content of each stored result."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (folder / "cells").glob("*.npz")}
