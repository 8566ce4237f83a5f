"""Folds are even within every class, and no row is scored by adapters that saw its label."""

import copy

import numpy as np
import pytest
import torch
from adapting import quick, turned_classes
from process_clients import out_of_fold, run_processes
from real_features import NOISES, food_embeds, mislabelled
from sklearn.metrics import roc_auc_score

from hf_clipselect.adapters import text_alignment as alignment
from hf_clipselect.adapters.decision import adapt
from hf_clipselect.adapters.mlp import MlpAdapterConfig
from hf_clipselect.adapters.out_of_fold import out_of_fold_alignment
from hf_clipselect.adapters.peft_configs import read_peft_config
from hf_clipselect.adapters.placing import new_adapters
from hf_clipselect.adapters.projections import IdentityProjections, Projections, embed_prompts, embed_rows
from hf_clipselect.adapters.training import Schedule, train_adapters
from hf_clipselect.config.arguments import AdaptationArguments
from hf_clipselect.encoder.feature_rows import FeatureRows
from hf_clipselect.errors import InputError
from hf_clipselect.runtime.launch import make_accelerator
from hf_clipselect.runtime.processes import Processes
from hf_clipselect.scores.alignment import semantic_alignment_score
from hf_clipselect.scores.folds import fold_numbers


@pytest.fixture
def accelerator():
    return make_accelerator(use_cpu=True)


# Folds


@pytest.mark.parametrize("num_folds", [2, 3, 5, 7])
def test_every_class_and_all_rows_are_spread_evenly(num_folds):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), [1, 2, 4, 11, 23, 62]))
    folds = fold_numbers(labels, num_folds, seed=0)
    assert folds.dtype == np.int64 and folds.shape == labels.shape
    for rows in [labels >= 0, *(labels == label for label in range(6))]:
        sizes = np.bincount(folds[rows], minlength=num_folds)
        assert len(sizes) == num_folds and sizes.max() - sizes.min() <= 1


def test_a_class_of_two_rows_always_leaves_one_to_train_on():
    labels = np.repeat(np.arange(50), 2)
    for seed in range(5):
        folds = fold_numbers(labels, 2, seed=seed)
        assert (folds[::2] != folds[1::2]).all()


def test_folds_follow_the_seed_and_not_the_order_of_the_rows_within_a_class():
    labels = np.repeat([0, 1], 100)
    folds = fold_numbers(labels, 5, seed=0)
    assert np.array_equal(folds, fold_numbers(torch.from_numpy(labels), 5, seed=0))
    assert not np.array_equal(folds, fold_numbers(labels, 5, seed=1))
    runs = np.diff(folds[:100]) == 1
    assert 0 < runs.mean() < 0.5  # neighbours in the file are not dealt out in turn


def test_as_many_folds_as_rows():
    assert sorted(fold_numbers(np.array([3, 3, 0, 7]), 4, seed=0)) == [0, 1, 2, 3]
    example = fold_numbers(np.array([0, 0, 0, 0, 1, 1]), 2, seed=0)
    assert example.tolist() == [1, 0, 0, 1, 1, 0]  # the draw of this seed stays what it was


@pytest.mark.parametrize("num_folds", [1, 0, -5, 5, 2.0, True, "5", None])
def test_numbers_of_folds_that_make_no_sense_are_refused(num_folds):
    with pytest.raises(InputError, match="num_folds must be a whole number from 2 to the number of rows, 4, got"):
        fold_numbers(np.array([0, 0, 1, 1]), num_folds, seed=0)


@pytest.mark.parametrize("labels", [[-1, 0, 1], [0.0, 1.0, 1.0], [[0, 1], [1, 0]]])
def test_labels_that_are_no_classes_are_refused(labels):
    with pytest.raises(InputError, match="labels must be"):
        fold_numbers(np.array(labels), 2, seed=0)


# Scores


def scores_of(data, folds, accelerator, model=None, **options):
    options = {"num_steps": 24, "arguments": quick(), "seed": 3, "accelerator": accelerator, **options}
    return out_of_fold_alignment(model or IdentityProjections(data[0].hidden_size), *data, folds, **options)


def test_equals_a_training_for_each_fold_on_copied_rows(accelerator):
    images, texts, labels = turned_classes(num_rows=50)
    folds = fold_numbers(labels, 3, seed=0)
    arguments = quick(train_batch_size=20)
    scores = scores_of((images, texts, labels), folds, accelerator, arguments=arguments)
    for fold in range(3):
        rest, rows = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            adapted = new_adapters(IdentityProjections(8), MlpAdapterConfig())
            train_adapters(
                adapted,
                FeatureRows([images.take(rest)]),
                texts,
                labels[rest],
                arguments=arguments,
                schedule=Schedule(20, len(rest) // 20, num_steps=60, evaluate_every=12),
                num_steps=24,
                seed=3,
                accelerator=accelerator,
            )
        with torch.inference_mode():
            visual, text = adapted.base_model.model.visual_projection, adapted.base_model.model.text_projection
            image_embeds = torch.nn.functional.normalize(visual(torch.from_numpy(images.take(rows))), dim=1)
            cosines = (image_embeds @ torch.nn.functional.normalize(text(texts[0]), dim=1).T).numpy()
        for row, cosine in zip(rows, cosines, strict=True):
            others = np.delete(cosine, labels[row])
            expected = cosine.argmax(), cosine[labels[row]], cosine[labels[row]] - others.max()
            np.testing.assert_allclose([column[row] for column in scores], expected, atol=1e-5)
    assert [column.dtype for column in scores] == [np.int64, np.float32, np.float32]


def test_the_labels_of_a_fold_do_not_reach_the_adapters_that_score_it(accelerator):
    images, texts, labels = turned_classes(num_rows=60)
    folds = fold_numbers(labels, 3, seed=0)
    mine = np.flatnonzero(folds == 1)
    flipped = labels.copy()
    flipped[mine[::2]] = (flipped[mine[::2]] + 1) % 4
    before = scores_of((images, texts, labels), folds, accelerator)
    after = scores_of((images, texts, flipped), folds, accelerator)
    assert np.array_equal(before[0][mine], after[0][mine])
    for column in (1, 2):
        assert np.array_equal(before[column][mine[1::2]], after[column][mine[1::2]])
        assert (before[column][mine[::2]] != after[column][mine[::2]]).all()  # another column of the same cosines
        others = folds != 1
        assert (before[column][others] != after[column][others]).mean() > 0.9  # they did train on the flipped labels


def test_rows_are_taken_in_the_order_of_a_subset_over_several_parts(accelerator):
    images, texts, labels = turned_classes(num_rows=40)
    folds = fold_numbers(labels, 2, seed=0)
    features = images.take(np.arange(40))
    order = np.random.default_rng(0).permutation(40)
    shuffled = features[order]
    scattered = FeatureRows([shuffled[:7], shuffled[7:29], shuffled[29:]]).subset(np.argsort(order))
    expected = scores_of((images, texts, labels), folds, accelerator)
    for ours, theirs in zip(scores_of((scattered, texts, labels), folds, accelerator), expected, strict=True):
        assert np.array_equal(ours, theirs)


def test_chunks_change_nothing(accelerator, monkeypatch):
    data = turned_classes(num_rows=50)
    folds = fold_numbers(data[2], 2, seed=0)
    whole = scores_of(data, folds, accelerator)
    monkeypatch.setattr(alignment, "_CHUNK_ROWS", 4)
    for ours, theirs in zip(scores_of(data, folds, accelerator), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("method", ["MLP", "LORA"])
def test_the_model_and_the_random_state_are_left_as_they_were(accelerator, tmp_path, method):
    config = None
    if method == "LORA":
        (tmp_path / "lora.json").write_text('{"peft_type": "LORA", "r": 2, "lora_dropout": 0.2}')
        config = read_peft_config(tmp_path / "lora.json")
    data = turned_classes(num_rows=40)
    folds = fold_numbers(data[2], 2, seed=0)
    model = IdentityProjections(8)
    modules, weights, random_state = (
        dict(model.named_modules()),
        copy.deepcopy(model.state_dict()),
        torch.get_rng_state(),
    )
    first = scores_of(data, folds, accelerator, model, peft_config=config)
    assert dict(model.named_modules()) == modules
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.rand(3)
    second = scores_of(data, folds, accelerator, model, peft_config=config)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(first, second, strict=True))


def test_a_class_of_one_row_is_scored_without_having_been_seen(accelerator):
    images, texts, labels = turned_classes(num_rows=30)
    labels = np.where(labels == 3, 2, labels)
    labels[7] = 3
    predicted, sas, margin = scores_of((images, texts, labels), fold_numbers(labels, 5, seed=0), accelerator)
    assert np.isfinite(sas).all() and np.isfinite(margin).all() and set(predicted) <= {0, 1, 2, 3}


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one_and_each_gets_all(tmp_path, monkeypatch):
    first, second = run_processes(2, "out_of_fold", tmp_path)
    assert first == second
    monkeypatch.setattr(alignment, "_CHUNK_ROWS", 7)  # put back what the client sets
    alone = out_of_fold(Processes(make_accelerator(use_cpu=True)), tmp_path)
    assert first == alone and len(first["predicted"]) == 61


# Real CLIP features


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
def test_auto_does_no_harm_to_real_features_with_and_without_folds(real_data, accelerator, record_property, noise):
    images, texts, labels = food_embeds(real_data)
    features, found, kept = (FeatureRows([images]), torch.from_numpy(texts)[None]), [], 0
    for seed in range(2):
        noisy = mislabelled(labels, noise, seed)
        model, outcome = adapt(
            IdentityProjections(512),
            *features,
            noisy,
            arguments=AdaptationArguments(),
            seed=seed,
            accelerator=accelerator,
        )
        plain = semantic_alignment_score(images, texts, noisy, kind="margin")
        auto = out_of_fold = plain
        if outcome.kept:
            kept += 1
            projections = Projections(model)
            embeds = embed_rows(projections, features[0], np.arange(len(images)))
            auto = semantic_alignment_score(embeds, embed_prompts(projections, features[1]), noisy, kind="margin")
            _, _, out_of_fold = out_of_fold_alignment(
                model.unload(),
                *features,
                noisy,
                fold_numbers(noisy, 5, seed=seed),
                num_steps=outcome.num_steps,
                arguments=AdaptationArguments(),
                seed=seed,
                accelerator=accelerator,
            )
        found.append([100 * roc_auc_score(noisy == labels, margin) for margin in (plain, auto, out_of_fold)])
    plain, auto, out_of_fold = np.mean(found, axis=0)
    record_property(
        "printed",
        f"AUROC of the margin, {noise} noise: plain CLIP {plain:.2f}, auto {auto:.2f}, auto with five folds "
        f"{out_of_fold:.2f}; adapters kept for {kept} of 2 seeds",
    )
    assert plain >= 99.7
    assert min(auto, out_of_fold) >= plain - 0.2
