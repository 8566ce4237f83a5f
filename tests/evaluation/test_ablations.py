"""Parts of the paper's objective left out: what each column of its tables keeps, by a slow version of its own."""

import numpy as np
import pytest
from small_sweeps import sweep_of, write_features

from hf_clipselect import select_embeddings
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison import METHODS, run_sweep, settings_of
from hf_clipselect.evaluation.comparison.ablations import adapted_images
from hf_clipselect.scores.diversity import sample_diversity_score


RATIOS = [0.2, 0.5, 0.9]


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("blobs") / "features.npz")


@pytest.fixture(scope="module")
def setting(features_file, tmp_path_factory):
    [setting] = settings_of(sweep_of(features_file, tmp_path_factory.mktemp("sweep")))
    return setting


@pytest.fixture(scope="module")
def scores(setting):
    """Alignment and diversity by the adapters, and by plain CLIP."""
    embeddings = setting.embeddings
    found = {}
    for adaptation in ("always", "off"):
        result = select_embeddings(
            embeddings.images,
            embeddings.texts,
            setting.labels,
            objective="paper",
            adaptation=adaptation,
            seed=setting.seed,
        )
        found[adaptation] = {name: np.array(result.scores[name], dtype=np.float64) for name in ("sas", "sds")}
    return found


@pytest.mark.parametrize(
    ("name", "adaptation", "of_sas", "of_sds"),
    [
        ("paper", "always", 1, None),
        ("paper_without_sas", "always", 0, 1),
        ("paper_without_sds", "always", 1, 0),
        ("paper_without_adapters", "off", 1, None),
        ("paper_without_adapters_sas", "off", 0, 1),
        ("paper_without_adapters_sds", "off", 1, 0),
    ],
)
def test_what_is_sorted_is_sorted_by_what_is_left(name, adaptation, of_sas, of_sds, setting, scores):
    for ratio, kept in METHODS[name].select(setting, RATIOS).rows.items():
        weight = ratio if of_sds is None else of_sds
        expected = of_sas * scores[adaptation]["sas"] + weight * scores[adaptation]["sds"]
        order = sorted(range(setting.num_rows), key=lambda row: (-np.float32(expected[row]), row))
        assert kept.tolist() == sorted(order[: len(kept)]) and len(kept) == round(ratio * setting.num_rows)


@pytest.mark.parametrize(
    ("loop", "sorting"),
    [("paper_loop", "paper"), ("paper_without_adapters_loop", "paper_without_adapters")],
)
def test_the_loop_keeps_what_sorting_keeps(loop, sorting, setting):
    """Of 180 rows theta N is 0.09: the loop stops at the exact count."""
    looped, sorted_rows = (METHODS[name].select(setting, RATIOS).rows for name in (loop, sorting))
    for ratio in RATIOS:
        assert looped[ratio].tolist() == sorted_rows[ratio].tolist()


def test_adapters_make_a_difference_and_the_ratio_alone_keeps_chance(setting):
    assert METHODS["paper"].select(setting, [0.5]).rows[0.5].tolist() != (
        METHODS["paper_without_adapters"].select(setting, [0.5]).rows[0.5].tolist()
    )
    kept = METHODS["paper_without_adapters_sas_sds"].select(setting, [0.2, 0.5]).rows
    assert [len(rows) for rows in kept.values()] == [36, 90] and np.isin(kept[0.2], kept[0.5]).all()
    assert 0.1 < setting.is_noisy[kept[0.5]].mean() < 0.3  # of all rows a fifth has wrong labels


def test_a_theta_of_less_than_a_row_is_refused_before_anything_starts(features_file, tmp_path):
    message = "A theta of 5e-5 is less than one of 180 rows: the loop stops at the exact .* at least 20000 rows"
    with pytest.raises(InputError, match=message):
        run_sweep(sweep_of(features_file, tmp_path, methods=["paper_loop", "paper_loop_theta_5e-5"]))
    assert list((tmp_path / "cells").iterdir()) == []


def test_image_means_take_the_place_of_the_texts(setting, scores):
    images = adapted_images(setting)
    assert images.shape == setting.embeddings.images.shape and images.dtype == np.float32
    # They are the embeddings that `paper` scores by.
    np.testing.assert_allclose(sample_diversity_score(images, setting.labels), scores["always"]["sds"], atol=1e-5)
    means = np.stack([images[setting.labels == label].astype(np.float64).mean(axis=0) for label in range(3)])
    means /= np.linalg.norm(means, axis=1)[:, None]
    aligned = np.einsum("nd,nd->n", images, means[setting.labels])
    for ratio, kept in METHODS["paper_with_image_means"].select(setting, RATIOS).rows.items():
        expected = np.argsort(-(aligned + ratio * scores["always"]["sds"]), kind="stable")[: len(kept)]
        assert len(set(expected) & set(kept)) >= len(kept) - 1  # last digits may decide a row
