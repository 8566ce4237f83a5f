"""What the header of a card says of the configs is what `load_dataset` gives, and the Hub's own classes read it."""

import numpy as np
import pytest
from datasets import (
    Array2D,
    ClassLabel,
    Dataset,
    Features,
    Image,
    List,
    Value,
    get_dataset_config_info,
    load_dataset,
    load_dataset_builder,
)
from huggingface_hub import DatasetCard, DatasetCardData
from loopback_hub.card import check
from made_results import make_result
from PIL import Image as PILImage


CONFIGS = ("ratio_30", "ratio_50", "scores")


def make_dataset(names):
    """Thirty rows with columns of every kind that a header has to tell of."""
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=names),
            "boxes": List(List(Value("float32"), length=4)),
            "place": {"city": Value("string"), "kinds": List(ClassLabel(names=["no", "1.10"]))},
            "dtype": Array2D((2, 2), "uint8"),
            "größe: \U0001f337 #": Value("large_string"),
        }
    )
    rng = np.random.default_rng(0)
    rows = {
        "image": [PILImage.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)) for _ in range(30)],
        "label": [row % len(names) for row in range(30)],
        "boxes": [[[0, 1, 2, row]] for row in range(30)],
        "place": [{"city": "Bonn", "kinds": [row % 2]} for row in range(30)],
        "dtype": [[[row, 1], [2, 3]] for row in range(30)],
        "größe: \U0001f337 #": ["x"] * 30,
    }
    return Dataset.from_dict(rows, features=features)


def test_the_header_tells_what_is_loaded(tmp_path):
    folder, cache = str(tmp_path / "made"), str(tmp_path / "cache")
    make_result(make_dataset(["no", "x: y # z", "1_000"]), (0.3, 0.5), report=True).save(
        folder, make_dataset(["no", "x: y # z", "1_000"])
    )
    for config in CONFIGS:
        told = load_dataset_builder(folder, config, cache_dir=cache).info
        assert told.features is not None
        told_features, told_rows = dict(told.features), told.splits["train"].num_examples
        loaded = load_dataset(folder, config, split="train", cache_dir=cache)  # refuses another number of rows
        assert told_features == dict(loaded.features) and told_rows == len(loaded)
        assert told.splits["train"].num_bytes > 0 and told.download_size == sum(
            path.stat().st_size for path in (tmp_path / "made" / config).iterdir()
        )
    assert get_dataset_config_info(folder, "scores").features["sas"] == Value("float32")
    card = DatasetCard.load(tmp_path / "made" / "README.md")
    assert [entry["config_name"] for entry in card.data.dataset_info] == list(CONFIGS)
    assert DatasetCardData(**card.data.to_dict()).to_dict() == card.data.to_dict()
    assert DatasetCard(str(card)).data.to_dict() == card.data.to_dict()
    assert check(str(card), "dataset") == {"errors": [], "warnings": []}


def test_another_selection_in_the_same_folder_is_not_taken_from_the_cache(tmp_path):
    """Of the same rows, bytes and features, so that nothing but the version tells the two apart."""
    dataset, found = make_dataset(["a", "b"]), []
    for seed in (0, 1):
        result = make_result(dataset, (0.3,), seed=seed, report=True)
        result.save(tmp_path / "made", dataset)
        loaded = load_dataset(str(tmp_path / "made"), split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded["source_index"][:] == result.selected.tolist()
        found.append(DatasetCard.load(tmp_path / "made" / "README.md").data.configs)
    assert found[0][0]["version"] != found[1][0]["version"] and "description" not in found[0][0]


@pytest.mark.parametrize("num_classes", [10, 3000])
def test_a_header_does_not_grow_with_the_classes_without_end(tmp_path, num_classes):
    names = [f"a class with a name of its own, number {number}" for number in range(num_classes)]
    dataset = make_dataset(names)
    make_result(dataset, (0.3,), report=True).save(tmp_path / "made", dataset)
    info = load_dataset_builder(str(tmp_path / "made"), "ratio_30", cache_dir=str(tmp_path / "cache")).info
    assert (info.features is None) == (num_classes == 3000) and info.splits["train"].num_examples == 9
    loaded = load_dataset(str(tmp_path / "made"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features["label"].names == names
    assert len((tmp_path / "made" / "README.md").read_text()) < 60_000


def test_rows_that_people_put_beside_ours_are_loaded_as_before(tmp_path):
    dataset = make_dataset(["a", "b"])
    make_result(dataset, (0.3,), report=True).save(tmp_path / "made", dataset)
    shard = tmp_path / "made" / "ratio_30" / "train-00000-of-00001.parquet"
    (shard.parent / "train-more.parquet").write_bytes(shard.read_bytes())
    make_result(dataset, (0.3,), report=True).save(tmp_path / "made", dataset)
    loaded = load_dataset(str(tmp_path / "made"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 18
    card = DatasetCard.load(tmp_path / "made" / "README.md")
    assert [entry["config_name"] for entry in card.data.dataset_info] == ["scores"]
