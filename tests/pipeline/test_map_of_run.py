import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from transformers import CLIPImageProcessor, CLIPModel

from hf_clipselect import InputError, SelectionResult, load_adapters, select_dataset
from hf_clipselect.cli import main


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Sixty images of three classes whose colours differ, with a text each."""
    labels = [row % 3 for row in range(60)]
    base = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])[labels]
    noise = np.random.default_rng(0).normal(0, 30, (60, 12, 10, 3))
    pixels = np.clip(base[:, None, None] + noise, 0, 255).astype(np.uint8)
    features = Features(
        {"image": Image(), "label": ClassLabel(names=["red", "green", "blue"]), "text": Value("string")}
    )
    texts = [f"thing {row}" for row in range(60)]
    return Dataset.from_dict(
        {"image": list(map(PILImage.fromarray, pixels)), "label": labels, "text": texts}, features=features
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, clip_folder: Path) -> tuple[Path, SelectionResult]:
    """A run with adapters, with folds, in which they are taken off, and with a map."""
    folder = tmp_path_factory.mktemp("run")
    return folder, select_again(dataset, clip_folder, folder, selection_ratio=0.5)


def select_again(dataset: Dataset, clip_folder: Path, folder: Path, **changes: object) -> SelectionResult:
    given = {"adaptation": "always", "num_folds": 2, "num_train_epochs": 1, "map": True, "use_cpu": True, **changes}
    return select_dataset(
        dataset, model_name_or_path=clip_folder, output_dir=folder, label_column_name="label", **given
    )


@pytest.mark.slow
def test_nearest_rows_are_those_of_the_adapted_embeddings(
    run: tuple[Path, SelectionResult], dataset: Dataset, clip_folder: Path
) -> None:
    folder, _ = run
    table = pq.read_table(folder / "map.parquet")
    assert table["source_index"].to_pylist() == list(range(60))
    assert np.isfinite(table["x"].to_numpy()).all() and np.isfinite(table["y"].to_numpy()).all()
    model = load_adapters(folder / "adapter", base_model=CLIPModel.from_pretrained(clip_folder)).eval()
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)(dataset["image"][:], return_tensors="pt")
    with torch.inference_mode():
        embeds = model.visual_projection(model.vision_model(**pixels).pooler_output).numpy()
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    for row in (0, 31, 59):
        distances = 1 - embeds @ embeds[row]
        neighbors = table["neighbors"][row].as_py()
        assert len(neighbors["ids"]) == 10 and row not in neighbors["ids"]
        assert neighbors["distances"] == pytest.approx(np.sort(np.delete(distances, row))[:10], abs=1e-4)
        assert neighbors["distances"] == pytest.approx(distances[neighbors["ids"]], abs=1e-4)


@pytest.mark.slow
def test_columns_say_what_the_scores_say(run: tuple[Path, SelectionResult], dataset: Dataset) -> None:
    folder, result = run
    table, scores = pq.read_table(folder / "map.parquet").to_pydict(), result.scores
    names = scores.features["label"].names
    for name in ("label", "predicted_label", "clean_label"):
        assert table[name] == [names[number] for number in scores[name]]
    assert table["label_error_probability"] == pytest.approx(scores["label_error_probability"][:])
    assert table["kept"] == scores["selected_50"][:] and sum(table["kept"]) == 30
    assert table["image"][7]["path"] == "7.jpg"
    with PILImage.open(io.BytesIO(table["image"][7]["bytes"])) as small:
        assert small.format == "JPEG" and max(small.size) <= 224
        shown = np.asarray(small.resize(dataset[7]["image"].size), dtype=float)
    assert np.abs(shown - np.asarray(dataset[7]["image"])).mean() < 12


@pytest.mark.slow
def test_map_is_found_again_and_its_other_columns_are_made_anew(
    run: tuple[Path, SelectionResult], dataset: Dataset, clip_folder: Path
) -> None:
    folder, _ = run
    path = folder / "map.parquet"
    table = pq.read_table(path)
    x = table.column_names.index("x")
    marked = table.set_column(x, "x", pa.array(np.full(60, 5, dtype=np.float32)))
    pq.write_table(marked, path)  # the key of the map goes with it
    select_again(dataset, clip_folder, folder, selection_ratio=0.2)
    found = pq.read_table(path)
    assert set(found["x"].to_pylist()) == {5.0} and sum(found["kept"].to_pylist()) == 12
    select_again(dataset, clip_folder, folder, adaptation="off", num_folds=0)
    assert set(pq.read_table(path)["x"].to_pylist()) != {5.0}
    select_again(dataset, clip_folder, folder, adaptation="off", num_folds=0, map=False)
    assert not path.exists()  # it would tell of other scores


def test_map_of_captions_and_of_scores_only(dataset: Dataset, clip_folder: Path, tmp_path: Path) -> None:
    dataset.to_parquet(tmp_path / "data" / "train.parquet")
    flags = [
        "--dataset_name",
        tmp_path / "data",
        "--model_name_or_path",
        clip_folder,
        "--output_dir",
        tmp_path / "run",
    ]
    flags += ["--caption_column", "text", "--adaptation", "off", "--use_cpu", "true", "--map", "true"]
    assert main(["select", *map(str, flags)]) == 0
    with_captions = pq.read_table(tmp_path / "run" / "map.parquet")
    assert with_captions["caption"].to_pylist() == dataset["text"][:]
    assert main(["select", *map(str, flags), "--scores_only", "true"]) == 0
    without = pq.read_table(tmp_path / "run" / "map.parquet")
    assert without.column_names == [name for name in with_captions.column_names if name not in ("caption", "image")]
    assert not list((tmp_path / "run" / "subset").rglob("map*"))


def test_map_needs_a_folder(dataset: Dataset, clip_folder: Path) -> None:
    with pytest.raises(InputError, match="map=True needs output_dir"):
        select_dataset(dataset, model_name_or_path=clip_folder, label_column_name="label", map=True)
