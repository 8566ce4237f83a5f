import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from PIL import Image as PILImage
from transformers import CLIPImageProcessor, CLIPModel

from hf_clipselect.cli import main
from hf_clipselect.encoder.feature_rows import FeatureRows
from hf_clipselect.errors import InputError
from hf_clipselect.results.cached_embeds import CachedEmbeds, open_cached_embeds


BROKEN = 7


@pytest.fixture(scope="module")
def source() -> Dataset:
    """Sixty images of three classes, of which one can't be read."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 12, 10, 3), dtype=np.uint8)
    images = Dataset.from_dict({"image": list(map(PILImage.fromarray, pixels))}, features=Features({"image": Image()}))
    cells = images.cast_column("image", Image(decode=False))["image"][:]
    cells[BROKEN] = {"bytes": b"no image", "path": None}
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "green", "blue"])})
    return Dataset.from_dict({"image": cells, "label": [i % 3 for i in range(60)]}, features=features)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, source: Dataset, clip_folder: Path) -> Path:
    """A run over rows of which one can't be read."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "source").mkdir()
    source.to_parquet(folder / "source" / "train.parquet")
    flags = ["--dataset_name", folder / "source", "--model_name_or_path", clip_folder, "--output_dir", folder / "run"]
    flags += ["--on_bad_image", "drop", "--adaptation", "off", "--use_cpu", "true"]
    assert main(["select", *map(str, flags)]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def embeds(run_folder: Path) -> CachedEmbeds:
    opened = open_cached_embeds(run_folder)
    assert opened is not None
    return opened


def test_embeddings_are_the_features_of_the_model(embeds: CachedEmbeds, source: Dataset, clip_folder: Path) -> None:
    assert embeds.source_index.tolist() == [row for row in range(60) if row != BROKEN]
    rows = embeds.source_index[::-5]
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)(source[rows]["image"], return_tensors="pt")
    with torch.inference_mode():
        features = CLIPModel.from_pretrained(clip_folder).vision_model(**pixels).pooler_output.numpy()
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(embeds.take(rows), expected, atol=1e-5)


def test_nearest_are_those_of_the_highest_cosines(embeds: CachedEmbeds) -> None:
    among = embeds.source_index[::2]
    row = int(among[3])
    cosines = {int(other): float(embeds.take([other])[0] @ embeds.take([row])[0]) for other in among}
    del cosines[row]
    expected = sorted(cosines, key=lambda other: -cosines[other])
    # Neither a row that could not be read nor one that was not considered is near to any.
    assert embeds.nearest(row, np.append(among, [BROKEN, 10**9]), 5).tolist() == expected[:5]
    assert embeds.nearest(row, among, 100).tolist() == expected
    assert embeds.nearest(row, np.array([row]), 3).tolist() == []


def test_row_without_features_is_named(embeds: CachedEmbeds) -> None:
    for row in (BROKEN, 10**9, -1):
        with pytest.raises(InputError, match=f"no features of row {row} "):
            embeds.take(np.array([0, row]))


def test_rows_are_known_by_their_numbers_in_the_source() -> None:
    features = FeatureRows([np.array([[2, 0], [9, 9]], np.float32), np.array([[0, 3], [4, 4]], np.float32)])
    some = CachedEmbeds(features, np.array([3, 5, 9, 20]), {1})
    assert some.source_index.tolist() == [3, 9, 20]
    assert some.take(np.array([9, 3])).tolist() == [[0, 1], [1, 0]]
    assert some.nearest(3, np.array([9, 20, 5, 3, 1]), 2).tolist() == [20, 9]


@pytest.mark.parametrize("change", ["no features", "cut shard", "begun anew", "scores of another run"])
def test_features_that_are_not_whole_are_none(run_folder: Path, tmp_path: Path, change: str) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    shard, manifest = folder / "features" / "images-00000.safetensors", folder / "features" / "manifest.json"
    if change == "no features":
        shutil.rmtree(folder / "features")
    elif change == "cut shard":
        shard.write_bytes(shard.read_bytes()[:-50])
    elif change == "begun anew":
        manifest.write_text(manifest.read_text().split('"shards": [')[0] + '"shards": []}')
    else:
        table = load_dataset("parquet", data_files=str(folder / "scores.parquet"), split="train")
        table.select(range(20)).to_parquet(folder / "scores.parquet")
    assert open_cached_embeds(folder) is None
    assert (folder / "features").exists() == (change != "no features")  # nothing is made by looking
