import numpy as np
import pytest
import torch
from datasets import ClassLabel
from sklearn.metrics import roc_auc_score

from hf_clipselect import sample_diversity_score, select_embeddings, semantic_alignment_score
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.results.scores_table import column_values


SCORES = ["predicted_label", "label_agrees", "sas", "margin", "sds"]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def clusters(num_rows=120, num_classes=4, embed_dim=16, *, spread=0.6, seed=0):
    """Unit-norm float32 embeddings around the prompts of their classes."""
    rng = np.random.default_rng(seed)
    texts = unit(rng.normal(size=(num_classes, embed_dim)))
    labels = rng.integers(0, num_classes, num_rows)
    images = unit(texts[labels] + spread * unit(rng.normal(size=(num_rows, embed_dim))))
    return images.astype(np.float32), texts.astype(np.float32), labels


def select(images, texts, labels, **options):
    """Of the embeddings as they are, unless a test is about adapters."""
    return select_embeddings(images, texts, labels, **{"adaptation": "off", **options})


def all_scores(result):
    return {name: column_values(result.scores, name) for name in result.scores.column_names}


def assert_same_scores(result, expected, **tolerance):
    mine, theirs = all_scores(result), all_scores(expected)
    assert list(mine) == list(theirs)
    for name, values in mine.items():
        assert values.dtype == theirs[name].dtype
        if tolerance and values.dtype == np.float32:
            np.testing.assert_allclose(values, theirs[name], **tolerance)
        else:
            assert np.array_equal(values, theirs[name]), name


# What comes back


def test_four_rows_by_hand():
    images = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]]
    result = select(
        images, np.eye(2), [0, 0, 1, 1], selection_ratio=0.5, objective="diverse", class_names=["east", "north"]
    )
    scores = all_scores(result)
    np.testing.assert_allclose(scores["sas"], [1, 0.6, 1, 0.6], atol=1e-6)
    np.testing.assert_allclose(scores["margin"], [1, -0.2, 1, -0.2], atol=1e-6)
    np.testing.assert_allclose(scores["sds"], [np.sqrt(0.8)] * 4, atol=1e-6)
    assert scores["predicted_label"].tolist() == [0, 1, 1, 0]
    assert scores["label_agrees"].tolist() == [True, False, True, False]
    assert scores["source_index"].tolist() == [0, 1, 2, 3]
    assert result.scores.features["label"] == ClassLabel(names=["east", "north"])
    assert result.selected.tolist() == [0, 2]
    assert result.dropped.tolist() == [1, 3]


def test_scores_are_those_of_the_public_functions():
    images, texts, labels = clusters()
    scores = all_scores(select(images, texts, labels, neighbor_fraction=0.3))
    np.testing.assert_allclose(scores["sas"], semantic_alignment_score(images, texts, labels), atol=1e-6)
    margin = semantic_alignment_score(images, texts, labels, kind="margin")
    np.testing.assert_allclose(scores["margin"], margin, atol=1e-6)
    np.testing.assert_allclose(scores["sds"], sample_diversity_score(images, labels, neighbor_fraction=0.3), atol=1e-5)
    fixed = all_scores(select(images, texts, labels, num_neighbors=3))
    np.testing.assert_allclose(fixed["sds"], sample_diversity_score(images, labels, num_neighbors=3), atol=1e-5)


def test_types_counts_and_other_ratios():
    images, texts, labels = clusters(121)
    result = select(images, texts, labels, selection_ratio=[0.5, 0.2], objective="released")
    assert (result.selected.dtype, len(result.selected)) == (np.int64, 61)
    assert (result.ratios, result.seed, result.objective.name) == ((0.5, 0.2), 42, "released")
    assert {all_scores(result)[name].dtype for name in ("sas", "margin", "sds", "selection_score_50")} == {
        np.dtype(np.float32)
    }
    assert set(result.at(0.2).selected) < set(result.selected)
    assert len(result.at(0.37).selected) == 45
    assert result.scores.features["label"].names == ["0", "1", "2", "3"]


def test_knobs_win_over_the_preset():
    images, texts, labels = clusters()
    result = select(
        images,
        texts,
        labels,
        selection_ratio=0.25,
        objective="clean",
        alignment="cosine",
        diversity_weight=0.5,
        class_balance="none",
    )
    scores = all_scores(result)
    expected = np.argsort(-(scores["sas"] + 0.5 * scores["sds"]), kind="stable")[:30]
    assert np.array_equal(result.selected, np.sort(expected))
    uniform = select(images, texts, labels, selection_ratio=0.25, class_balance="uniform")
    assert np.bincount(labels[uniform.selected]).max() <= 8


# What may go in


@pytest.mark.parametrize(
    "convert",
    [torch.from_numpy, lambda a: a.astype(np.float64), lambda a: torch.from_numpy(a).double(), lambda a: a.tolist()],
    ids=["torch", "float64", "torch float64", "lists"],
)
def test_kinds_of_arrays(convert):
    images, texts, labels = clusters()
    result = select(convert(images), convert(texts), labels)
    assert_same_scores(result, select(images, texts, labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_is_float32_inside(dtype):
    images, texts, labels = (torch.from_numpy(array) for array in clusters())
    images, texts = images.to(dtype).requires_grad_(), texts.to(dtype)
    result = select(images, texts, labels)
    assert_same_scores(result, select(images.float(), texts.float(), labels))
    if dtype == torch.float16:
        as_numpy = images.detach().numpy(), texts.numpy(), labels.numpy()
        assert_same_scores(select(*as_numpy), result)


@pytest.mark.parametrize(
    "convert", [list, torch.from_numpy, lambda a: a.astype(np.uint8), lambda a: torch.from_numpy(a).int()]
)
def test_kinds_of_labels(convert):
    images, texts, labels = clusters()
    result = select(images, texts, convert(labels))
    assert_same_scores(result, select(images, texts, labels))


@pytest.mark.parametrize("adaptation", ["off", "always"])
def test_the_scale_of_the_embeddings_does_not_matter(adaptation):
    images, texts, labels = clusters()
    result = select(images, texts, labels, adaptation=adaptation)
    # Powers of two change no digit.
    scaled = select(images * 64, texts / 128, labels, adaptation=adaptation)
    assert_same_scores(scaled, result)


def test_the_scale_of_each_row_does_not_matter():
    images, texts, labels = clusters()
    rng = np.random.default_rng(1)
    images_scaled = images * np.exp(rng.uniform(-30, 30, (len(images), 1)))
    texts_scaled = texts * np.exp(rng.uniform(-30, 30, (len(texts), 1)))
    result = select(images_scaled, texts_scaled, labels)
    assert_same_scores(result, select(images, texts, labels), atol=1e-5)


def test_the_arrays_are_left_as_they_are():
    images, texts, labels = clusters()
    images *= 3
    copies = images.copy(), texts.copy(), labels.copy()
    select(images, texts, labels, adaptation="always")
    for array, before in zip((images, texts, labels), copies, strict=True):
        assert np.array_equal(array, before)


# Classes without images


@pytest.mark.parametrize("adaptation", ["off", "always"])
def test_a_class_without_images_takes_no_part(adaptation):
    images, texts, labels = clusters()
    expected = select(images, texts, labels, adaptation=adaptation, class_names=list("abcd"))
    # Prompts that would win every row, and one that is not even finite, in front, between and behind.
    mean = images.mean(0, keepdims=True)
    nan = np.full_like(mean, np.nan)
    more_texts = np.concatenate([mean, texts[:2], nan, texts[2:], mean])
    places = np.array([1, 2, 4, 5])
    result = select(
        images, more_texts, places[labels], adaptation=adaptation, class_names=["x", "a", "b", "y", "c", "d", "z"]
    )
    mine, theirs = all_scores(result), all_scores(expected)
    for name in ("sas", "margin", "sds", "selection_score_30", "selected_30", "label_agrees"):
        assert np.array_equal(mine[name], theirs[name])
    assert np.array_equal(mine["predicted_label"], places[theirs["predicted_label"]])
    assert result.scores.features["predicted_label"].names == ["x", "a", "b", "y", "c", "d", "z"]


# Bad input


def spoiled(array, row, value):
    array = array.copy()
    array[row] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prompt_of_a_class_with_images_must_be_finite(value):
    images, texts, labels = clusters()
    names = ["cat", "dog", "small bird", "fish"]
    labels[labels == 0] = 1  # of all classes the second is then the first that has images
    with pytest.raises(InputError, match=r"text_embeds .* first class 2 \(small bird\), which is not finite"):
        select(images, spoiled(texts, 2, value), labels, class_names=names)


def test_rows_must_be_finite_and_not_zero():
    images, texts, labels = clusters()
    with pytest.raises(InputError, match="image_embeds .* first row 17, which is not finite"):
        select(spoiled(images, 17, np.nan), texts, labels)
    with pytest.raises(InputError, match="image_embeds has 2 rows .* first row 3, which is all zero"):
        select(spoiled(images, [3, 9], 0), texts, labels)
    with pytest.raises(InputError, match=r"text_embeds .* first class 1 \(1\), which is all zero"):
        select(images, spoiled(texts, 1, 0), labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, t, y: (i[0], t, y), r"image_embeds must be .* of shape \(16,\)"),
        (lambda i, t, y: (i, t[:, :8], y), r"got \(120, 16\) and \(4, 8\)"),
        (lambda i, t, y: (i, t[None], y), r"text_embeds must be .* of shape \(1, 4, 16\)"),
        (lambda i, t, y: (i, t, y[:-1]), r"Expected 120 integer labels.*\(119,\)"),
        (lambda i, t, y: (i, t, y[:, None]), r"Expected 120 integer labels.*\(120, 1\)"),
        (lambda i, t, y: (i, t, y.astype(np.float32)), "float32"),
        (lambda i, t, y: (i, t, y > 1), "bool"),
        (lambda i, t, y: (i, t, torch.from_numpy(y).float()), "float32"),
        (lambda i, t, y: (i, t, [str(label) for label in y]), "integer labels"),
        (lambda i, t, y: (i, t, [*y[:-1].tolist(), None]), "integer labels"),
        (lambda i, t, y: (i, t, y - 1), r"\[0, 4\).* got -1 to 2"),
        (lambda i, t, y: (i, t, y + 1), r"\[0, 4\).* got 1 to 4"),
        (lambda i, t, y: (i, t, y * 0), "at least two classes, found 1"),
        (lambda i, t, y: (i[:0], t, y[:0]), r"of shape \(0, 16\)"),
    ],
)
def test_shapes_and_labels_that_do_not_fit(change, message):
    with pytest.raises(InputError, match=message) as error:
        select(*change(*clusters()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selection_ratio": 0}, "selection_ratio"),
        ({"selection_ratio": 1.5}, "selection_ratio"),
        ({"selection_ratio": [0.3, 0.3]}, "more than once"),
        ({"selection_ratio": 0.001}, "keeps none"),
        ({"objective": "best"}, "robust, diverse, clean, paper, released"),
        ({"adaptation": "yes"}, "auto, always, off"),
        ({"class_balance": "even"}, "none, proportional, uniform"),
        ({"solver": "sgd"}, "takes no class_balance"),
        ({"class_names": ["a", "a", "b", "c"]}, "3 different names"),
        ({"class_names": ["cat", "dog"]}, "2 different names, text_embeds has 4 rows"),
        ({"num_neighbors": 0}, "num_neighbors"),
        ({"neighbor_fraction": 0}, "neighbor_fraction"),
        ({"temperature": -1}, "temperature"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        select(*clusters(), **options)


# Adaptation


def turned(embeds, seed=0):
    """Images whose modality lies elsewhere than that of the prompts: what adapters are there to mend."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(embeds.shape[1], embeds.shape[1])))
    return unit(embeds + 1.5 * embeds @ rotation.astype(np.float32))


@pytest.mark.slow
def test_always_trains_by_the_seed_alone():
    images, texts, labels = clusters()
    images = turned(images)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = select(images, texts, labels, adaptation="always", seed=1)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    torch.rand(7)
    assert_same_scores(select(images, texts, labels, adaptation="always", seed=1), first)
    plain = select(images, texts, labels)
    assert not np.array_equal(all_scores(first)["sas"], all_scores(plain)["sas"])
    assert all_scores(first)["label_agrees"].mean() > all_scores(plain)["label_agrees"].mean()
    other = select(images, texts, labels, adaptation="always", seed=2)
    assert not np.array_equal(all_scores(first)["sas"], all_scores(other)["sas"])


@pytest.mark.slow
def test_training_settings_reach_the_training():
    images, texts, labels = clusters()
    base = all_scores(select(images, texts, labels, adaptation="always"))["sas"]
    for option in ({"learning_rate": 1e-4}, {"temperature": 0.5}, {"train_batch_size": 16}):
        other = all_scores(select(images, texts, labels, adaptation="always", **option))["sas"]
        assert not np.array_equal(base, other), option


@pytest.mark.slow
def test_auto_keeps_adapters_that_help_and_only_those():
    images, texts, labels = clusters(400, spread=1.0)
    plain = select(images, texts, labels)
    assert all_scores(plain)["label_agrees"].mean() > 0.95
    assert_same_scores(select(images, texts, labels, adaptation="auto"), plain)
    images = turned(images)
    agreement = {
        mode: all_scores(select(images, texts, labels, adaptation=mode))["label_agrees"].mean()
        for mode in ("off", "auto", "always")
    }
    assert agreement["auto"] == agreement["always"] > agreement["off"] + 0.1


# Real CLIP features


@pytest.fixture(scope="module")
def food(real_data):
    """OpenAI CLIP ViT-B/32 features of nine classes of Food-101, and ten prompts, one of them missing."""
    path = real_data / "clip-features-food101" / "features.npz"
    if not path.exists():
        pytest.skip("no clip-features-food101/features.npz in the real data")
    with np.load(path) as arrays:
        has_text, labels = arrays["class_has_text"], arrays["train_labels"]
        rows = has_text[labels]
        return arrays["train_image_embeds"][rows], arrays["class_text_embeds"], labels[rows], arrays["class_names"]


def noisy_run(food, seed, adaptation):
    """AUROC of the margin against 20 % wrong labels, and the share of those among the kept half."""
    images, texts, labels, names = food
    classes, compact = np.unique(labels, return_inverse=True)
    noisy = classes[add_label_noise(compact, len(classes), rate=0.2, seed=seed)]
    wrong = noisy != labels
    assert wrong.sum() == 360
    result = select(images, texts, noisy, selection_ratio=0.5, adaptation=adaptation, seed=seed, class_names=names)
    assert len(result.selected) == 900
    return roc_auc_score(~wrong, all_scores(result)["margin"]), wrong[result.selected].mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrong_labels_of_real_images_are_told(food, seed):
    auroc, noise = noisy_run(food, seed, "off")
    assert auroc >= 0.99
    assert noise <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_adapters_do_no_harm_to_real_features(food, seed):
    auroc, noise = noisy_run(food, seed, "off")
    adapted_auroc, adapted_noise = noisy_run(food, seed, "auto")
    assert adapted_auroc >= auroc - 0.005
    assert adapted_noise <= noise + 0.005


@pytest.mark.parametrize("embeds", [[["a", "b"]] * 4, np.ones((4, 2), dtype=complex)], ids=["strings", "complex"])
def test_embeddings_that_are_no_real_numbers_are_refused(embeds):
    with pytest.raises(InputError, match="image_embeds must be numbers"):
        select(embeds, np.eye(2), [0, 1, 0, 1])


def test_a_copy_in_another_group_costs_nothing_where_quotas_are_for_groups():
    # Rows 0 to 3 of group a, their exact copies in group b: each group keeps its best, copy or not.
    rng = np.random.default_rng(0)
    texts = np.eye(8)[:2]
    rows = np.repeat(texts, 4, axis=0) + 0.4 * rng.normal(size=(8, 8))
    images, labels, groups = np.tile(rows, (2, 1)), np.tile(np.repeat([0, 1], 4), 2), np.repeat(["a", "b"], 8)
    settings = {"selection_count": 6, "class_balance": "proportional", "balance_by": "group", "groups": groups}
    plain, spread = (
        select(images, texts, labels, objective="clean", redundancy_weight=weight, **settings).selected
        for weight in (0, 0.5)
    )
    assert (spread[:3] + 8).tolist() == spread[3:].tolist() and len(plain) == len(spread) == 6


def test_more_folds_than_rows_are_refused_and_few_rows_have_an_ensemble():
    texts, labels = np.eye(4)[:2], np.array([0, 1, 0, 1])
    images = texts[labels] + 0.1
    with pytest.raises(InputError, match="num_folds must be a whole number from 2 to the number of rows, 4, got 5"):
        select(images, texts, labels, adaptation="auto", num_folds=5)
    assert len(select(images, texts, labels, alignment="ensemble", selection_ratio=0.5).selected) == 2


@pytest.mark.parametrize("objective", ["robust", "diverse", "clean", "released"])
def test_the_ensemble_selects_the_same_rows_whatever_their_order(objective):
    images, texts, labels = clusters()
    order = np.random.default_rng(1).permutation(len(labels))
    options = {"alignment": "ensemble", "objective": objective, "selection_ratio": [0.3, 0.6]}
    result = select(images, texts, labels, **options)
    permuted = select(images[order], texts, labels[order], **options)
    for ratio in (0.3, 0.6):
        assert sorted(order[permuted.at(ratio).selected]) == result.at(ratio).selected.tolist()
