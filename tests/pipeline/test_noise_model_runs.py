"""The noise model, herding and the size "auto" through both doors."""

import json
import multiprocessing
import os

import numpy as np
import process_clients
import pytest
import torch
from interrupted import assert_same, free_port

from hf_clipselect import InputError, SelectionResult, load_pruned, select_dataset, select_embeddings
from hf_clipselect.adapters.projections import Projections, embed_rows
from hf_clipselect.config.arguments import AdaptationArguments, Arguments, RunArguments
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.encoder.feature_rows import FeatureRows
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.pipeline.prepare_embeddings import GivenEmbeddings, prepare_embeddings
from hf_clipselect.pipeline.stages import run_stages
from hf_clipselect.results.scores_table import column_values
from hf_clipselect.scores.noise_model import estimate_label_noise
from hf_clipselect.selection import class_order, safe_pool, selection_count


MODEL = "embedded/tiny-clip"
NOISE_COLUMNS = {"label_error_probability", "clean_label"}
RATIOS = [0.1, 0.25, 0.5, 0.8, 0.95]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def noisy_clusters(num_rows=240, num_classes=4, embed_dim=16, *, rate=0.2, spread=1.2, seed=0):
    """Embeddings (N, D) and (C, D), unit-norm, float32, labels with a share of wrong ones, and which are wrong."""
    rng = np.random.default_rng(seed)
    texts = unit(rng.normal(size=(num_classes, embed_dim)))
    right = np.arange(num_rows) % num_classes
    images = unit(texts[right] + spread * unit(rng.normal(size=(num_rows, embed_dim))))
    given = add_label_noise(right, num_classes, rate=rate, seed=seed)
    return images.astype(np.float32), texts.astype(np.float32), given, given != right


def columns_of(result):
    return {name: column_values(result.scores, name) for name in result.scores.column_names}


def select(images, texts, labels, **options):
    return select_embeddings(images, texts, labels, **{"adaptation": "off", **options})


@pytest.fixture(scope="module")
def noisy_digits():
    """400 of the embedded digits, a fifth of them under another name."""
    digits = load_digits_dataset("train").select(range(400))
    labels = add_label_noise(np.array(digits["label"]), 10, rate=0.2, seed=0)
    features = digits.features
    return digits.remove_columns("label").add_column("label", labels).cast(features)


# Which columns there are, and what they hold


def test_the_default_for_labels_is_robust_and_its_columns_are_those_of_the_functions():
    images, texts, labels, wrong = noisy_clusters()
    result = select(images, texts, labels)
    assert result.objective.name == "robust"
    columns, noise = columns_of(result), estimate_label_noise(images, texts, labels)
    probability = columns["label_error_probability"]
    np.testing.assert_allclose(probability, noise.error_probability, atol=1e-4)  # normalised once more
    assert probability.dtype == np.float32
    assert np.array_equal(columns["clean_label"], noise.clean_label)
    assert result.scores.features["clean_label"] == result.scores.features["label"]
    in_pool, embeds = safe_pool(probability), unit(images)
    for label in range(4):
        rows = np.flatnonzero(labels == label)
        expected = class_order(embeds[rows], in_pool[rows], probability[rows], 42)
        assert np.array_equal(columns["class_rank"][rows], expected)
    assert wrong[result.selected].mean() < wrong.mean() / 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"objective": "diverse"}, set()),
        ({"objective": "diverse", "selection_ratio": "auto"}, NOISE_COLUMNS),
        ({"objective": "released", "alignment": "noise_model"}, NOISE_COLUMNS),
        ({"objective": "clean", "herding": True}, {*NOISE_COLUMNS, "class_rank"}),
        ({"herding": False}, NOISE_COLUMNS),
        ({}, {*NOISE_COLUMNS, "class_rank"}),
    ],
    ids=["diverse", "diverse, auto", "released, noise_model", "clean, herding", "robust without herding", "robust"],
)
def test_columns_are_there_only_where_something_needs_them(options, expected):
    images, texts, labels, _ = noisy_clusters()
    result = select(images, texts, labels, **options)
    assert set(result.scores.column_names) & {*NOISE_COLUMNS, "class_rank"} == expected
    assert set(result.report) == ({"noise"} if expected else set())


def test_classes_are_told_in_the_numbering_of_the_dataset():
    images, texts, labels, _ = noisy_clusters()
    more_texts = np.concatenate([texts[:1] * np.nan, texts[:2], texts[:1], texts[2:]])
    places = np.array([1, 2, 4, 5])
    plain, result = select(images, texts, labels), select(images, more_texts, places[labels])
    assert np.array_equal(columns_of(result)["clean_label"], places[columns_of(plain)["clean_label"]])
    assert np.array_equal(columns_of(result)["class_rank"], columns_of(plain)["class_rank"])
    assert np.array_equal(result.selected, plain.selected)


def test_rows_are_herded_by_the_embeddings_that_sas_is_of():
    """Kept adapters move the images, but tell nothing of wrong labels: those they were trained on."""
    images, texts, labels, _ = noisy_clusters()
    given = GivenEmbeddings(images, texts, labels, *[None] * 6)
    arguments = Arguments(
        adaptation=AdaptationArguments(adaptation="always", num_train_epochs=3, min_train_steps=6),
        run=RunArguments(output_dir=None, seed=3),
    )
    outcome = run_stages(prepare_embeddings(given, arguments, (0.5,)), {})
    assert outcome.adapted.adaptation.kept
    adapted = embed_rows(Projections(outcome.adapted.model), FeatureRows([images]), np.arange(len(images)))
    assert not np.allclose(adapted, images, atol=1e-3)
    columns, noise = columns_of(outcome.result), estimate_label_noise(images, texts, labels, seed=3)
    probability = columns["label_error_probability"]
    np.testing.assert_allclose(probability, noise.error_probability, atol=1e-4)
    in_pool = safe_pool(probability)
    for label in range(4):
        rows = np.flatnonzero(labels == label)
        expected = class_order(adapted[rows], in_pool[rows], probability[rows], 3)
        assert np.array_equal(columns["class_rank"][rows], expected)


def test_both_doors_tell_of_wrong_labels(noisy_digits):
    result = select_dataset(noisy_digits, model_name_or_path=MODEL, adaptation="off")
    noise = result.report["noise"]
    probability = columns_of(result)["label_error_probability"]
    assert noise["estimated_share"] == pytest.approx(probability.mean(), abs=1e-6) and 0 < noise["share_error"] < 1
    images, texts, labels, _ = noisy_clusters()
    assert select(images, texts, labels).report["noise"].keys() == noise.keys()


def test_what_cannot_be_estimated_is_told_in_log_and_report(noisy_digits, caplog):
    labels = np.array(noisy_digits["label"])
    rows = np.sort(np.append(np.flatnonzero(labels > 0)[:150], np.flatnonzero(labels == 0)[0]))
    result = select_dataset(noisy_digits.select(rows), model_name_or_path=MODEL, adaptation="off")
    [told] = [message for message in result.report["warnings"] if "judged by CLIP alone" in message]
    assert told in caplog.messages and told.startswith("1 class has one row only")


def test_a_share_that_is_not_to_be_trusted_stops_auto_before_anything_is_trained(caplog):
    caplog.set_level("INFO", "hf_clipselect")
    rng = np.random.default_rng(0)
    images, texts, labels = rng.normal(size=(40, 8)), rng.normal(size=(4, 8)), rng.integers(0, 4, 40)
    with pytest.raises(InputError, match=r"Give a number instead, such as selection_ratio=0\.\d"):
        select_embeddings(images, texts, labels, selection_ratio=["auto", 0.5], adaptation="always")
    assert "held-out" not in caplog.text
    select_embeddings(images, texts, labels, selection_ratio=0.5, adaptation="always", num_train_epochs=1)
    assert "held-out" in caplog.text


def test_unreadable_images_have_neither_rank_nor_proposal(noisy_digits):
    from datasets import Dataset, Image

    stored = noisy_digits.cast_column("image", Image(decode=False))
    images = list(stored["image"])
    images[7] = images[31] = {"bytes": b"no image", "path": None}
    dataset = Dataset.from_dict({"image": images, "label": stored["label"][:]}, features=stored.features)
    dataset = dataset.cast_column("image", Image())
    result = select_dataset(
        dataset, model_name_or_path=MODEL, adaptation="off", on_bad_image="drop", selection_ratio=["auto", 1.0]
    )
    table = result.scores
    for row in (7, 31):
        assert table[row]["clean_label"] is None and table[row]["class_rank"] is None
        assert np.isnan(table[row]["label_error_probability"]) and table[row]["reason"] == "not readable"
    labels, ranks = column_values(table, "label"), column_values(table, "class_rank")
    for label in range(10):
        of_class = ranks[(labels == label) & (ranks >= 0)]
        assert sorted(of_class) == list(range(len(of_class)))
    assert len(result.at(1.0).selected) == 398


# Sizes from the table alone


def sizes_of(result):
    return {size: result.at(size).selected.tolist() for size in [*RATIOS, "auto"]}


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"class_balance": "uniform"},
        {"class_balance": "none"},
        {"gate": True},
        {"must_keep": [3, 4], "must_drop": [5, 6, 7]},
        {"min_per_class": 5},
        {"objective": "diverse"},
        {"objective": "released"},
    ],
    ids=str,
)
def test_any_size_is_a_run_at_that_size(knobs, tmp_path):
    images, texts, labels, _ = noisy_clusters()
    result = select(images, texts, labels, selection_ratio=["auto", 0.3], **knobs)
    result.save(tmp_path)
    read = SelectionResult.from_folder(tmp_path)
    assert read.ratios == ("auto", 0.3) and read.report == result.report
    for size, rows in sizes_of(result).items():
        alone = select(images, texts, labels, selection_ratio=size, **knobs)
        assert alone.selected.tolist() == rows == read.at(size).selected.tolist()
        if size != "auto":
            assert len(rows) == selection_count(size, len(labels))
        assert set(knobs.get("must_keep", [])) <= set(rows) and not set(knobs.get("must_drop", [])) & set(rows)
        assert np.bincount(labels[rows]).min() >= knobs.get("min_per_class", 0)


def test_quotas_of_some_classes_bind_at_any_size():
    images, texts, labels, _ = noisy_clusters()
    result = select(images, texts, labels, class_quotas={"1": 20}, selection_ratio=["auto", 0.3])
    for size in ("auto", 0.3, 0.25, 0.5):
        rows = result.at(size).selected
        alone = select(images, texts, labels, class_quotas={"1": 20}, selection_ratio=size)
        assert np.bincount(labels[rows])[1] == 20 and rows.tolist() == alone.selected.tolist()


@pytest.mark.slow
def test_a_folder_and_what_is_published_give_any_size_of_a_run(noisy_digits, tmp_path):
    settings = {"model_name_or_path": MODEL, "adaptation": "off"}
    result = select_dataset(noisy_digits, selection_ratio=[0.3, "auto"], output_dir=tmp_path / "run", **settings)
    expected = sizes_of(result)
    assert sizes_of(SelectionResult.from_folder(tmp_path / "run")) == expected
    saved = json.loads((tmp_path / "run" / "subset" / "selection.json").read_text())
    assert saved["ratios"] == [0.3, "auto"]
    assert saved["auto_ratio"] == round(len(expected["auto"]) / 400, 4)
    assert load_pruned(tmp_path / "run", ratio="auto")["source_index"] == expected["auto"]
    assert load_pruned(tmp_path / "run", ratio=0.3)["source_index"] == result.selected.tolist()
    for size in (0.25, "auto"):
        alone = select_dataset(noisy_digits, selection_ratio=size, **settings)
        assert alone.selected.tolist() == expected[size]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [subset["name"] for subset in report["subsets"]] == ["ratio_30", "ratio_auto"]
    assert report["arguments"]["selection_ratio"] == [0.3, "auto"]


def test_images_and_their_embeddings_have_the_same_estimate(noisy_digits):
    from hf_clipselect.data import read_images
    from hf_clipselect.evaluation.comparison.clip_embeds import clip_embeds

    ours = select_dataset(noisy_digits, model_name_or_path=MODEL, adaptation="off", selection_ratio="auto")
    embeds = clip_embeds(read_images(noisy_digits), MODEL)
    theirs = select(*embeds, noisy_digits["label"][:], selection_ratio="auto")
    assert len(ours.selected) == len(theirs.selected)
    np.testing.assert_allclose(
        columns_of(ours)["label_error_probability"], columns_of(theirs)["label_error_probability"], atol=5e-3
    )


def test_auto_needs_its_column_and_says_so():
    images, texts, labels, _ = noisy_clusters()
    result = select(images, texts, labels, objective="diverse")
    with pytest.raises(InputError, match="label_error_probability"):
        result.at("auto")


def test_auto_keeps_about_the_right_rows():
    images, texts, labels, wrong = noisy_clusters(2000, rate=0.25, spread=0.6)
    result = select(images, texts, labels, selection_ratio="auto")
    assert abs(len(result.selected) / 2000 - 0.75) < 0.05
    assert wrong[result.selected].mean() < 0.05


# What must change nothing, and what is exact


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_the_order_of_the_rows_changes_nothing(seed, rate):
    images, texts, labels, _ = noisy_clusters(rate=rate, seed=seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    result = select(images, texts, labels, selection_ratio=[*RATIOS, "auto"])
    permuted = select(images[order], texts, labels[order], selection_ratio=[*RATIOS, "auto"])
    for name in ("label_error_probability", "clean_label", "class_rank"):
        assert np.array_equal(columns_of(permuted)[name], columns_of(result)[name][order]), name
    for size, rows in sizes_of(result).items():
        assert sorted(order[permuted.at(size).selected]) == rows


def test_subsets_are_nested_and_quotas_are_the_shares_of_the_classes():
    images, texts, labels, _ = noisy_clusters(241)
    result = select(images, texts, labels, selection_ratio=RATIOS)
    subsets = [set(result.at(ratio).selected) for ratio in RATIOS]
    assert [len(subset) for subset in subsets] == [selection_count(ratio, 241) for ratio in RATIOS]
    assert all(smaller < larger for smaller, larger in zip(subsets[:-1], subsets[1:], strict=True))
    counts = np.bincount(labels)
    for ratio in RATIOS:
        assert np.abs(np.bincount(labels[result.at(ratio).selected]) - ratio * counts).max() <= 1
    with_auto = select(images, texts, labels, selection_ratio=["auto", *RATIOS])
    assert (
        with_auto.at("auto").selected.tolist()
        == select(images, texts, labels, selection_ratio="auto").selected.tolist()
    )
    assert [with_auto.at(ratio).selected.tolist() for ratio in RATIOS] == [sorted(subset) for subset in subsets]


def join_launch(rank, count, port, folder):
    """Makes a process the one of a launch that has this rank, and writes down what it selects."""
    launch = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in launch.items()})
    process_clients.main("robust_selection", folder)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path):
    alone = process_clients.robust_selection(None, tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["hf_clipselect.pipeline.embeddings", "transformers.models.clip.modeling_clip", "peft"]
    )
    for count in (2, 3):
        folder, port = tmp_path / str(count), free_port()
        folder.mkdir()
        processes = [context.Process(target=join_launch, args=(rank, count, port, folder)) for rank in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert not any(process.exitcode for process in processes)
        for rank in range(count):
            assert json.loads((folder / f"returned-{rank}.json").read_text()) == alone


@pytest.mark.slow
def test_the_number_of_processes_that_encode_and_herd_changes_no_byte(forking_client, tmp_path):
    flags = "--use_cpu --max_train_samples 400 --selection_ratio 0.3 auto --adaptation off --dataloader_num_workers 0"
    for count in (1, 2, 3):
        notes = tmp_path / f"notes-{count}"
        notes.mkdir()
        runs = [[*flags.split(), "--output_dir", str(tmp_path / f"run-{count}")]]
        codes = forking_client.run({"runs": runs, "shard_rows": 64, "notes": str(notes), "processes": count})
        assert not any(codes), "\n".join(path.read_text()[-2000:] for path in notes.glob("output-*.txt"))
        assert_same(tmp_path / f"run-{count}", tmp_path / "run-1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_herds_the_same_rows():
    images, texts, labels, _ = noisy_clusters(2000)
    on_gpu = select(images, texts, labels, selection_ratio=RATIOS, adaptation="auto")
    on_cpu = select(images, texts, labels, selection_ratio=RATIOS)
    assert not on_gpu.report["adaptation"]["kept"]
    for ratio in RATIOS:
        same = np.intersect1d(on_gpu.at(ratio).selected, on_cpu.at(ratio).selected)
        assert len(same) > 0.98 * len(on_cpu.at(ratio).selected)  # last digits decide between like rows


# Input that leaves little to estimate


def assert_sound(result, labels):
    columns = columns_of(result)
    probability = columns["label_error_probability"]
    assert np.isfinite(probability).all() and (probability >= 0).all() and (probability <= 1).all()
    for label in np.unique(labels):
        ranks = columns["class_rank"][labels == label]
        assert sorted(ranks) == list(range(len(ranks)))
    for size in result.ratios:
        rows = result.at(size).selected
        assert len(rows) and len(rows) == len(set(rows))
        if size != "auto":
            assert len(rows) == selection_count(size, len(labels))
    assert np.isfinite(result.report["noise"]["estimated_share"])


def odd_inputs():
    rng = np.random.default_rng(0)
    texts = unit(rng.normal(size=(4, 8)))
    noise = unit(rng.normal(size=(200, 8)))
    many = np.arange(200) % 4
    same = np.tile(unit(rng.normal(size=(1, 8))), (200, 1))
    return {
        "two rows": (texts[:2], texts[:2], [0, 1]),
        "three rows of two classes": (noise[:3], texts[:2], [0, 1, 1]),
        "fewer rows than twice the classes": (noise[:5], texts, [0, 1, 2, 3, 0]),
        "classes of one row": (noise[:4], texts, [0, 1, 2, 3]),
        "one class of one row": (noise, texts, [3] + [0, 1, 2] * 66 + [0]),
        "one class holds nearly all rows": (noise, texts, [0] * 197 + [1, 2, 3]),
        "no structure": (noise, texts, many),
        "all images equal": (same, texts, many),
        "all texts equal": (noise, np.tile(texts[:1], (4, 1)), many),
        "all equal": (same, np.tile(texts[:1], (4, 1)), many),
        "opposite texts": (-texts[many], texts, many),
        "labels of one class moved to another": (texts[many], texts, np.where(many == 0, 1, many)),
        "every label wrong": (texts[many], texts, (many + 1) % 4),
        "one dimension": (np.ones((20, 1)), np.array([[1.0], [-1.0]]), np.arange(20) % 2),
    }


@pytest.mark.parametrize("name", odd_inputs())
def test_odd_input_gives_a_right_result(name):
    images, texts, labels = odd_inputs()[name]
    result = select(images, texts, labels, selection_ratio=[0.5, 1.0])
    assert_sound(result, np.asarray(labels))


@pytest.mark.parametrize("name", odd_inputs())
def test_auto_of_odd_input_is_a_right_result_or_a_sentence(name):
    images, texts, labels = odd_inputs()[name]
    try:
        result = select(images, texts, labels, selection_ratio="auto")
    except InputError as error:
        assert "selection_ratio" in str(error) and "\n" not in str(error)
    else:
        assert_sound(result, np.asarray(labels))


def test_the_default_adaptation_copes_with_few_rows():
    texts = unit(np.random.default_rng(0).normal(size=(2, 8)))
    result = select_embeddings(texts, texts, [0, 1], selection_ratio=0.5)
    assert len(result.selected) == 1 and set(result.report) == {"adaptation", "noise"}


# Captions have no labels to be wrong


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"objective": "robust"}, "robust"),
        ({"selection_ratio": "auto"}, "auto"),
        ({"selection_ratio": [0.3, "auto"]}, "auto"),
        ({"herding": True, "spread": False}, "herding"),
        ({"alignment": "noise_model"}, "noise_model"),
    ],
    ids=str,
)
def test_captions_have_no_noise_model(options, named):
    images, texts, labels, _ = noisy_clusters()
    with pytest.raises(InputError, match=named) as error:
        select_embeddings(images, texts[labels], adaptation="off", **options)
    assert "caption" in str(error.value) and "\n" not in str(error.value) and str(error.value).count(". ") <= 1


def test_the_default_for_captions_is_diverse():
    images, texts, labels, _ = noisy_clusters()
    result = select_embeddings(images, texts[labels], adaptation="off")
    assert result.objective.name == "diverse" and result.report == {}
    assert not {*NOISE_COLUMNS, "class_rank"} & set(result.scores.column_names)


# A folder of another default


@pytest.mark.slow
def test_a_folder_that_another_objective_filled_is_told(noisy_digits, tmp_path, caplog):
    def run(**settings):
        caplog.clear()
        rows = noisy_digits.select(range(200))
        return select_dataset(
            rows, model_name_or_path=MODEL, adaptation="off", output_dir=tmp_path / "out", **settings
        )

    def told():
        return [message for message in caplog.messages if "selected by objective" in message]

    first = run(objective="diverse")
    assert told() == []
    result = run()
    assert result.objective.name == "robust" and result.selected.tolist() != first.selected.tolist()
    [message] = told()
    assert "selected by objective diverse" in message and 'objective="diverse"' in message and "robust" in message
    assert message not in result.report["warnings"]
    run()
    assert told() == []
    again = run(objective="diverse")
    assert told() == [] and again.selected.tolist() == first.selected.tolist()
