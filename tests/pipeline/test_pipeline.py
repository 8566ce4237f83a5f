"""Whole runs on a real CLIP of random weights: what one leaves behind, what a second one does, what bad input gets."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import make_images_dataset
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_dataset
from PIL import Image as PILImage
from safetensors.numpy import load_file

from hf_clipselect import InputError, SelectionResult, load_adapters, select_dataset, select_embeddings
from hf_clipselect.adapters.projections import Projections
from hf_clipselect.config.command_line import parse_arguments
from hf_clipselect.data import read_images
from hf_clipselect.data.prompts import class_prompts
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.texts import encode_prompts
from hf_clipselect.evaluation.comparison.clip_embeds import clip_embeds


def run(dataset: Dataset, clip_folder: Path, output_dir: Path | None = None, **changes: object) -> SelectionResult:
    settings = {"num_train_epochs": 3, "adaptation": "always", "dataloader_num_workers": 0}
    return select_dataset(dataset, model_name_or_path=clip_folder, output_dir=output_dir, **{**settings, **changes})


def content(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def image_bytes(dataset: Dataset) -> list[bytes]:
    return [value["bytes"] for value in dataset.cast_column("image", Image(decode=False))["image"]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, clip_folder):
    """One run with two ratios; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    dataset = load_digits_dataset("test").select(range(120))
    return dataset, run(dataset, clip_folder, folder, selection_ratio=[0.3, 0.125]), folder


@pytest.fixture
def digits_run(finished, tmp_path):
    """That run in a folder of the test's own, to go on from."""
    return shutil.copytree(finished[2], tmp_path / "digits-run")


@pytest.fixture(scope="module")
def finished_colours(tmp_path_factory, clip_folder):
    """One run on the coloured images; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    return run(make_images_dataset(), clip_folder, folder), folder


@pytest.fixture
def colours_run(finished_colours, tmp_path):
    """That run in a folder of the test's own, to go on from."""
    return shutil.copytree(finished_colours[1], tmp_path / "colours-run")


def test_a_run_leaves_exactly_the_documented_files(finished):
    _, _, folder = finished
    assert set(content(folder)) == {
        "config.yaml",
        "features/manifest.json",
        "features/images-00000.safetensors",
        "features/text.safetensors",
        "adapter/README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "scores.parquet",
        "subset/README.md",
        "subset/clipselect_preview.jpg",
        "subset/selection.json",
        "subset/ratio_30/train-00000-of-00001.parquet",
        "subset/ratio_12_5/train-00000-of-00001.parquet",
        "subset/scores/train-00000-of-00001.parquet",
        "report.json",
        "report.html",
    }


def test_the_subset_loads_with_the_source_columns_and_pixels(finished):
    dataset, result, folder = finished
    subset = load_dataset(str(folder / "subset"), "ratio_30", split="train")
    assert subset.column_names == [*dataset.column_names, "source_index", "sas", "sds", "selection_score"]
    assert subset.features["image"] == Image() and subset.features["label"] == dataset.features["label"]
    assert subset["source_index"][:] == result.selected.tolist()
    assert image_bytes(subset) == image_bytes(dataset.select(result.selected))
    assert subset["label"][:] == dataset.select(result.selected)["label"][:]
    assert load_dataset(str(folder / "subset"), split="train").num_rows == 36  # the first ratio is the default config
    assert load_dataset(str(folder / "subset"), "ratio_12_5", split="train").num_rows == 15
    scores = load_dataset(str(folder / "subset"), "scores", split="train")
    assert scores.num_rows == 120 and isinstance(scores.features["predicted_label"], ClassLabel)
    assert pq.read_table(folder / "scores.parquet").equals(scores.with_format("arrow")[:].combine_chunks())


def test_the_result_counts_nests_and_comes_back_from_the_folder(finished):
    dataset, result, folder = finished
    assert len(result.selected) == 36 and len(result.dropped) == 84
    smaller = result.at(0.125)
    assert len(smaller.selected) == 15 and set(smaller.selected) < set(result.selected)
    back = SelectionResult.from_folder(folder)
    assert np.array_equal(back.selected, result.selected) and back.objective == result.objective
    assert np.array_equal(back.at(0.5).selected, result.at(0.5).selected)
    applied = result.apply(dataset)
    assert image_bytes(applied) == image_bytes(load_dataset(str(folder / "subset"), "ratio_30", split="train"))


def test_the_report_tells_what_the_scores_say(finished):
    dataset, result, folder = finished
    report = json.loads((folder / "report.json").read_text())
    assert report == result.report
    labels = np.array(dataset["label"][:])
    assert [row["rows"] for row in report["classes"]] == np.bincount(labels).tolist()
    kept = np.bincount(labels[result.selected], minlength=10)
    assert [row["kept"]["30"] for row in report["classes"]] == kept.tolist()
    agrees = np.array(result.scores["label_agrees"][:])
    assert report["accuracy_after"] == pytest.approx(agrees.mean())
    assert report["subsets"][0]["label_agrees_kept"] == pytest.approx(agrees[result.selected].mean())
    assert set(report["seconds"]) == {"load", "encode", "adapt", "score", "select"}
    assert report["adaptation"]["kept"] and report["versions"]["torch"]


def test_config_yaml_holds_resolved_arguments_that_config_takes_back(finished):
    _, result, folder = finished
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["objective"]["alignment"] == "noise_model" and config["objective"]["class_balance"] == "proportional"
    assert config["source"]["fingerprint"] == result.source.fingerprint
    assert config["adaptation"]["num_steps"] > 0 and config["model"]["weights_sha256"]
    arguments = parse_arguments(["--config", str(folder / "config.yaml"), "--seed", "7"])
    assert arguments.selection.selection_ratio == [0.3, 0.125] and arguments.run.seed == 7


def test_published_adapters_give_the_scores_of_the_run(finished, clip_folder):
    dataset, result, folder = finished
    model = load_adapters(folder / "adapter")
    backbone = load_backbone(str(clip_folder))
    texts = encode_prompts(backbone, class_prompts(dataset.features["label"].names), folder / "features")
    features = load_file(folder / "features" / "images-00000.safetensors")["features"]
    with torch.inference_mode():
        image_embeds, text_embeds = Projections(model.base_model.model)(torch.from_numpy(features), texts)
    own = (image_embeds * text_embeds[dataset["label"][:]]).sum(1)
    np.testing.assert_allclose(result.scores["sas"][:], own, atol=1e-6)


def test_a_repeated_run_encodes_and_trains_nothing_and_ends_the_same(finished, clip_folder, tmp_path, caplog):
    dataset, result, _ = finished
    first = run(dataset, clip_folder, tmp_path / "run", selection_ratio=[0.3, 0.125])
    assert np.array_equal(first.selected, result.selected)  # another folder, the same selection
    before = content(tmp_path / "run")
    caplog.set_level(logging.INFO, "hf_clipselect")
    again = run(dataset, clip_folder, tmp_path / "run", selection_ratio=[0.3, 0.125])
    assert "nothing to encode" in caplog.text and "nothing to train" in caplog.text
    timed = {"report.json", "report.html"}  # they tell the seconds of their run
    assert {name: value for name, value in content(tmp_path / "run").items() if name not in timed} == {
        name: value for name, value in before.items() if name not in timed
    }
    assert np.array_equal(again.scores["sas"][:], first.scores["sas"][:])


def test_another_ratio_objective_or_prompt_reuses_the_features(finished, clip_folder, digits_run, caplog):
    dataset = finished[0]
    caplog.set_level(logging.INFO, "hf_clipselect")
    other = run(dataset, clip_folder, digits_run, selection_ratio=0.5, objective="released")
    assert caplog.text.count("nothing to encode") == 1 and caplog.text.count("nothing to train") == 1
    assert other.objective.name == "released"
    assert sorted(path.name for path in (digits_run / "subset").iterdir() if path.is_dir()) == ["ratio_50", "scores"]
    run(dataset, clip_folder, digits_run, prompt_template="a drawing of {}")
    assert caplog.text.count("nothing to encode") == 2 and caplog.text.count("nothing to train") == 1


def test_plain_clip_leaves_no_adapter_folder(finished, clip_folder, digits_run):
    assert (digits_run / "adapter").is_dir()
    result = run(finished[0], clip_folder, digits_run, adaptation="off")
    assert not (digits_run / "adapter").exists() and not result.report["adaptation"]["kept"]
    assert result.report["accuracy_before"] == result.report["accuracy_after"]


def test_without_an_output_folder_nothing_is_left_behind(finished, clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    result = run(finished[0], clip_folder)
    assert np.array_equal(result.selected, finished[1].selected)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_another_dataset_or_model_in_the_folder_is_refused_unless_overwritten(
    images_dataset, clip_folder, finished_colours, colours_run
):
    before = content(colours_run)
    with pytest.raises(InputError, match="holds another run: dataset .* overwrite_output_dir=True"):
        run(images_dataset.select(range(30)), clip_folder, colours_run)
    assert content(colours_run) == before
    other = run(images_dataset.select(range(30)), clip_folder, colours_run, overwrite_output_dir=True)
    assert len(finished_colours[0].selected) == 18 and len(other.selected) == 9


def test_a_class_without_images_takes_no_part_and_is_named(images_dataset, clip_folder, finished_colours, caplog):
    names = [*images_dataset.features["label"].names, "never seen"]
    dataset = images_dataset.cast_column("label", ClassLabel(names=names))
    with_empty = run(dataset, clip_folder)
    assert "never seen" in caplog.text
    assert with_empty.report["classes_without_images"] == ["never seen"]
    assert set(with_empty.scores["predicted_label"][:]) <= {0, 1, 2}
    without = finished_colours[0]
    for score in ("sas", "margin", "sds"):
        assert with_empty.scores[score][:] == without.scores[score][:]


def with_a_bad_image(dataset: Dataset, row: int) -> Dataset:
    values = dataset.cast_column("image", Image(decode=False))["image"][:]
    values[row] = {"bytes": b"not an image", "path": None}
    return Dataset.from_dict({"image": values, "label": dataset["label"][:]}, features=dataset.features)


def test_an_unreadable_image_stops_the_run_or_is_dropped_with_its_reason(images_dataset, clip_folder, tmp_path):
    dataset = with_a_bad_image(images_dataset, 17)
    with pytest.raises(InputError, match='source_index 17 can\'t be read.*on_bad_image="drop"'):
        run(dataset, clip_folder, tmp_path)
    assert not (tmp_path / "subset").exists()
    result = run(dataset, clip_folder, tmp_path, on_bad_image="drop", selection_ratio=1.0)
    assert result.dropped.tolist() == [17] and len(result.selected) == 59
    assert pq.read_table(tmp_path / "dropped.parquet")["source_index"].to_pylist() == [17]
    [row] = result.scores.select([17])
    assert np.isnan(row["sas"]) and row["predicted_label"] is None and not row["selected_100"]
    assert result.report["num_unreadable"] == 1 and result.report["unreadable"][0]["source_index"] == 17
    scores = {name: np.delete(np.array(result.scores[name][:]), 17) for name in ("sas", "sds")}
    good = run(images_dataset.select([row for row in range(60) if row != 17]), clip_folder)
    np.testing.assert_allclose(scores["sas"], good.scores["sas"][:], atol=1e-5)
    np.testing.assert_allclose(scores["sds"], good.scores["sds"][:], atol=1e-5)


def test_lora_instead_of_the_mlp_adapters(images_dataset, clip_folder, tmp_path):
    config = tmp_path / "lora.json"
    config.write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    result = run(images_dataset, clip_folder, tmp_path / "run", peft_config=config)
    assert result.report["adaptation"]["method"] == "LORA"
    adapter = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert adapter["peft_type"] == "LORA" and sorted(adapter["target_modules"]) == [
        "text_projection",
        "visual_projection",
    ]
    load_adapters(tmp_path / "run" / "adapter")


def test_a_peft_config_that_does_not_fit_is_refused_before_anything_is_encoded(images_dataset, clip_folder, tmp_path):
    config = tmp_path / "lora.json"
    config.write_text(json.dumps({"peft_type": "LORA", "target_modules": ["q_proj"]}))
    with pytest.raises(InputError, match="name these two in target_modules"):
        run(images_dataset, clip_folder, tmp_path / "run", peft_config=config)
    assert not (tmp_path / "run").exists()


def test_a_subset_can_be_selected_from_again(images_dataset, clip_folder, caplog):
    settings = {"selection_ratio": 0.5, "adaptation": "off"}
    subset = run(images_dataset, clip_folder, **settings).apply(images_dataset)
    again = run(subset, clip_folder, **settings)
    assert len(again.selected) == 15
    assert again.apply(subset).column_names == subset.column_names
    assert "are replaced in the subset by those of this selection" in caplog.text


@pytest.mark.parametrize("objective", ["clean", "paper", "released"])
def test_every_objective_keeps_the_exact_count(images_dataset, clip_folder, objective):
    settings = {"objective": objective, "selection_ratio": [0.29, 0.75], "adaptation": "off"}
    result = run(images_dataset, clip_folder, **settings)
    assert [len(result.at(ratio).selected) for ratio in (0.29, 0.75)] == [17, 45]


@pytest.mark.slow
def test_sgd_gives_what_exact_gives_on_digits():
    dataset = load_digits_dataset("train")
    images, texts = clip_embeds(read_images(dataset), "embedded/tiny-clip")
    subsets = {}
    for solver in ("exact", "sgd"):
        result = select_embeddings(
            images,
            texts,
            dataset["label"],
            adaptation="off",
            objective="released",
            solver=solver,
            selection_ratio=[0.3, 0.7],
        )
        subsets[solver] = [set(result.at(ratio).selected) for ratio in (0.3, 0.7)]
    for exact, sgd in zip(subsets["exact"], subsets["sgd"], strict=True):
        assert len(exact & sgd) / len(exact | sgd) >= 0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection_ratio": 0.0}, r"must lie in \(0, 1\]"),
        ({"selection_ratio": [0.3, 0.3]}, "more than once"),
        ({"objective": "best"}, "objective must be one of robust, diverse, clean, paper, released"),
        ({"adaptation": "maybe"}, "must be one of auto, always, off"),
        ({"solver": "sgd"}, 'pass class_balance="none"'),
        ({"image_column_name": "picture"}, "all columns: image, label"),
        ({"prompt_template": "a photo"}, "prompt_template .* placeholders"),
        ({"class_names": ["a", "b"]}, "3 classes"),
        ({"temperature": -1.0}, "temperature must be a number above 0"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"peft_config": "no_such_file.json"}, "can't be read"),
    ],
)
def test_bad_input_is_told_in_a_sentence_before_anything_is_written(
    images_dataset, clip_folder, tmp_path, changes, message
):
    with pytest.raises(InputError, match=message) as error:
        run(images_dataset, clip_folder, tmp_path / "run", **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_in_its_selection_leaves_the_results_of_the_one_before(
    images_dataset, clip_folder, colours_run
):
    before = content(colours_run)
    with pytest.raises(InputError, match="cannot arrive"):
        run(images_dataset, clip_folder, colours_run, objective="released", solver="sgd", ratio_weight=1e-6)
    assert content(colours_run) == before


def test_a_run_that_stops_while_it_writes_leaves_no_knobs_beside_results_of_others(
    images_dataset, clip_folder, colours_run, monkeypatch
):
    monkeypatch.setattr("hf_clipselect.results.run_folder.write_html", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(images_dataset, clip_folder, colours_run, objective="clean", selection_ratio=0.5)
    assert set(yaml.safe_load((colours_run / "config.yaml").read_text())) == {"adaptation", "identity"}
    monkeypatch.undo()
    run(images_dataset, clip_folder, colours_run, objective="clean", selection_ratio=0.5)
    assert yaml.safe_load((colours_run / "config.yaml").read_text())["objective"]["name"] == "clean"


def test_another_objective_over_a_runs_config_brings_its_own_knobs(finished):
    config = finished[2] / "config.yaml"
    knobs = parse_arguments(["--config", str(config), "--objective", "released"]).selection
    assert knobs.objective == "released" and knobs.alignment is None and knobs.class_balance is None


def test_constant_scores_make_a_report_too(clip_folder, tmp_path):
    pictures = [PILImage.new("RGB", (8, 8), colour) for colour in ("red", "black") for _ in range(10)]
    features = Features({"image": Image(), "label": ClassLabel(names=["red thing", "black thing"])})
    dataset = Dataset.from_dict({"image": pictures, "label": [0] * 10 + [1] * 10}, features=features)
    result = run(dataset, clip_folder, tmp_path, adaptation="off")
    assert len(result.selected) == 6 and (tmp_path / "report.html").exists()


@pytest.mark.parametrize("column", ["image", "label"])
def test_an_image_or_label_column_of_a_name_that_subsets_need_is_refused(images_dataset, clip_folder, column):
    with pytest.raises(InputError, match="The column sas bears the name"):
        run(images_dataset.rename_column(column, "sas"), clip_folder)


def test_changed_image_files_are_encoded_again(clip_folder, tmp_path):
    paths = []
    for i, colour in enumerate(["red", "blue"] * 5):
        paths.append(str(tmp_path / f"{i}.png"))
        PILImage.new("RGB", (8, 8), colour).save(paths[-1])

    def dataset() -> Dataset:
        features = Features({"image": Image(), "label": ClassLabel(names=["red thing", "blue thing"])})
        return Dataset.from_dict({"image": paths, "label": [0, 1] * 5}, features=features)

    settings = {"adaptation": "off", "output_dir": tmp_path / "run"}
    run(dataset(), clip_folder, **settings)
    run(dataset(), clip_folder, **settings)
    PILImage.new("RGB", (9, 9), "green").save(paths[3])
    with pytest.raises(InputError, match="holds another run: dataset"):
        run(dataset(), clip_folder, **settings)
    again = run(dataset(), clip_folder, **settings, overwrite_output_dir=True)
    assert again.scores["sas"][:] == run(dataset(), clip_folder, adaptation="off").scores["sas"][:]


@pytest.mark.slow
def test_adapters_of_another_tokenizer_are_trained_anew(images_dataset, clip_folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(clip_folder, model)
    first = run(images_dataset, model, tmp_path / "run")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    plain = [word for word in vocabulary if not word.startswith("<|")]
    vocabulary.update(zip(plain, [vocabulary[word] for word in plain[1:] + plain[:1]], strict=True))
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    again, fresh = run(images_dataset, model, tmp_path / "run"), run(images_dataset, model, tmp_path / "fresh")
    assert not np.array_equal(first.scores["sas"][:], again.scores["sas"][:])
    assert np.array_equal(fresh.scores["sas"][:], again.scores["sas"][:])


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["bytes", "missing file", "missing folder"])
def test_damaged_adapters_are_trained_anew(images_dataset, clip_folder, finished_colours, colours_run, damage):
    before = content(colours_run / "adapter")
    if damage == "bytes":
        (colours_run / "adapter" / "adapter_model.safetensors").write_bytes(b"junk")
    elif damage == "missing file":
        (colours_run / "adapter" / "adapter_config.json").unlink()
    else:
        shutil.rmtree(colours_run / "adapter")
    again = run(images_dataset, clip_folder, colours_run)
    assert (
        again.scores["sas"][:] == finished_colours[0].scores["sas"][:] and content(colours_run / "adapter") == before
    )


def test_a_learning_rate_that_explodes_is_told_and_leaves_no_adapters(images_dataset, clip_folder, tmp_path):
    with pytest.raises(InputError, match="lower learning_rate"):
        run(images_dataset, clip_folder, tmp_path, learning_rate=1e30)
    assert not (tmp_path / "adapter").exists()
    run(images_dataset, clip_folder, tmp_path)


def test_numpy_scalars_and_arrays_are_taken_and_written_as_plain_values(images_dataset, clip_folder, tmp_path):
    settings = {
        "selection_ratio": np.array([0.3, 0.5], np.float32),
        "seed": np.int64(3),
        "class_names": np.array(["red", "green", "blue"]),
        "per_device_eval_batch_size": np.int64(16),
        "prompt_template": np.array(["a {}", "one {}."]),
        "bf16": np.bool_(False),
        "temperature": np.float32(0.1),
        "learning_rate": np.float64(1e-3),
        "train_batch_size": np.int32(16),
        "on_bad_image": np.str_("drop"),
        "class_quotas": {np.str_("red"): np.int64(5)},
        "gate": np.bool_(True),
        "gate_floor": np.float32(0.1),
        "neighbor_fraction": np.float32(0.2),
        "must_keep": np.array([1, 2]),
        "use_cpu": np.bool_(True),
        "overwrite_output_dir": np.bool_(True),
        "output_dir": tmp_path / "out",
        "model_name_or_path": Path(clip_folder),
        "objective": np.str_("clean"),
    }
    result = select_dataset(images_dataset, adaptation="off", dataloader_num_workers=np.int64(0), **settings)
    assert result.ratios == (0.3, 0.5) and {1, 2} <= set(result.selected)
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["objective"]["class_quotas"] == {"red": 5} and config["arguments"]["neighbor_fraction"] == 0.2
    assert config["arguments"]["prompt_template"] == ["a {}", "one {}."]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [entry["name"] for entry in report["classes"]] == ["red", "green", "blue"]


def test_only_one_split_is_taken(images_dataset, clip_folder):
    splits = DatasetDict({"train": images_dataset, "test": images_dataset})
    with pytest.raises(
        InputError, match=r"got DatasetDict of train, test\. Pass one of them, such as dataset\['train'\]"
    ):
        run(splits, clip_folder)
    with pytest.raises(InputError, match="got list"):
        run([1, 2], clip_folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1.5},
        {"num_train_epochs": 1.5},
        {"train_batch_size": "64"},
        {"num_neighbors": "3"},
        {"temperature": "x"},
        {"neighbor_fraction": "a"},
        {"per_device_eval_batch_size": "4"},
        {"class_names": "xyz"},
        {"class_names": ["x", "y", None]},
    ],
    ids=str,
)
def test_values_of_a_wrong_type_are_told_in_a_sentence(images_dataset, clip_folder, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        run(images_dataset, clip_folder, **changes)


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}


def selection_of(result: SelectionResult) -> dict[str, list]:
    return {name: result.scores[name][:] for name in ("sas", "sds", "selected_30")}


def test_given_adapters_are_taken_as_they_are_and_give_the_subset_of_the_run_that_trained_them(
    finished, clip_folder, tmp_path, caplog
):
    dataset, result, folder = finished
    caplog.set_level(logging.INFO, "hf_clipselect")
    settings = {"adaptation": "auto", "adapter_name_or_path": folder / "adapter"}
    given = run(dataset, clip_folder, tmp_path, **settings)
    assert selection_of(given) == selection_of(result)
    assert files_of(tmp_path / "adapter") == files_of(folder / "adapter")
    adaptation = given.report["adaptation"]
    assert adaptation["kept"] and adaptation["num_steps"] == 0 and adaptation["method"] == "MLP_ADAPTER"
    assert adaptation["adapter"] == {"name": str(folder / "adapter"), "revision": None}
    assert adaptation["learning_rate"] is None and adaptation["held_out_agreement_adapted"] is None
    assert (
        "were used as they are; nothing was trained." in adaptation["reason"] and adaptation["reason"] in caplog.text
    )
    for name in ("accuracy_before", "accuracy_after"):
        assert given.report[name] == result.report[name]
    assert selection_of(run(dataset, clip_folder, adaptation="off")) != selection_of(result)
    before = content(tmp_path)
    assert selection_of(run(dataset, clip_folder, tmp_path, **settings)) == selection_of(result)
    timed = {"report.json", "report.html"}  # they tell the seconds of their run
    assert {n: v for n, v in content(tmp_path).items() if n not in timed} == {
        n: v for n, v in before.items() if n not in timed
    }


@pytest.mark.slow
def test_given_adapters_are_not_mixed_up_with_others_in_the_folder(finished, clip_folder, tmp_path, caplog):
    dataset, result, folder = finished
    other = run(dataset, clip_folder, tmp_path / "other", seed=7)
    assert selection_of(other) != selection_of(result)
    caplog.set_level(logging.INFO, "hf_clipselect")
    for adapters, expected in ((folder / "adapter", result), (tmp_path / "other" / "adapter", other)):
        given = run(dataset, clip_folder, tmp_path / "run", adapter_name_or_path=adapters)
        assert selection_of(given) == selection_of(expected)
        assert files_of(tmp_path / "run" / "adapter") == files_of(adapters)
    trained = run(dataset, clip_folder, tmp_path / "run")
    assert "nothing to train" not in caplog.text and trained.report["adaptation"]["adapter"] is None
    assert selection_of(trained) == selection_of(result)


@pytest.mark.slow
def test_the_adapters_of_the_output_folder_itself_can_be_given(
    images_dataset, clip_folder, finished_colours, colours_run
):
    files = files_of(colours_run / "adapter")
    again = run(images_dataset, clip_folder, colours_run, adapter_name_or_path=colours_run / "adapter")
    assert selection_of(again) == selection_of(finished_colours[0]) and files_of(colours_run / "adapter") == files
    part = images_dataset.select(range(30))
    run(part, clip_folder, colours_run, adapter_name_or_path=colours_run / "adapter", overwrite_output_dir=True)
    assert files_of(colours_run / "adapter") == files


def test_given_adapters_that_do_not_fit_are_refused_before_anything_is_encoded(finished, clip_folder, tmp_path):
    dataset, _, folder = finished
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    settings = {"output_dir": tmp_path / "run", "adapter_name_or_path": tmp_path / "adapter"}
    with pytest.raises(InputError, match="do not fit their config on a CLIPModel"):
        run(dataset, "embedded/tiny-clip", **settings)
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "me/other-clip"}))
    with pytest.raises(
        InputError,
        match="made for me/other-clip, but the model of the run is embedded/tiny-clip.* model_name_or_path",
    ):
        run(dataset, "embedded/tiny-clip", **settings)
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="holds no adapter that can be loaded"):
        run(dataset, clip_folder, **settings)
    with pytest.raises(InputError, match='contradicts adaptation="off"'):
        run(dataset, clip_folder, **settings, adaptation="off")
    assert not (tmp_path / "run").exists()
