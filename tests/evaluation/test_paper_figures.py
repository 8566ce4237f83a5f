"""The printed figures of the paper: what is in the file, and that only an exact match finds one."""

from collections import Counter

import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.classifier.architectures import ARCHITECTURES
from hf_clipselect.evaluation.comparison import METHODS
from hf_clipselect.evaluation.paper_figures import QUANTITIES, paper_figure, paper_figures


CIFAR10 = {
    "dataset_name": "uoft-cs/cifar10",
    "method": "paper_loop",
    "selection_ratio": 0.7,
    "architecture": "resnet-50",
}
CIFAR100 = {**CIFAR10, "dataset_name": "uoft-cs/cifar100"}
TINY = {**CIFAR10, "dataset_name": "zh-plus/tiny-imagenet"}
IMAGENET = {**CIFAR10, "dataset_name": "ILSVRC/imagenet-1k"}
# The network of table 7, which is none of ours.
VIT_SMALL = "vision-transformers-cifar10/vit_small"


# Typed off the paper by hand, at least one of each table and some from its corners.
PRINTED = [
    (1, {**TINY, "architecture": "vgg-16"}, 53.40, 3.20),
    (1, {**TINY, "architecture": "vgg-16", "method": "full", "selection_ratio": 1}, 57.23, 1.08),
    (1, {**TINY, "architecture": "densenet-121", "method": "moderate", "selection_ratio": 0.9}, 61.44, 0.11),
    (2, {**CIFAR100, "selection_ratio": 0.2, "noise_rate": 0.2}, 46.05, 0.21),
    (2, {**TINY, "selection_ratio": 0.3, "noise_rate": 0.2, "method": "cg_score"}, 15.31, 0.90),
    (2, {**CIFAR100, "selection_ratio": 0.2, "noise_rate": 0.2, "quantity": "noise_share"}, 0.25, None),
    (3, {**IMAGENET, "selection_ratio": 0.9, "architecture": "vit-l"}, 84.74, None),
    (3, {**IMAGENET, "selection_ratio": 0.8, "architecture": None, "quantity": "saved_cost"}, 20.62, None),
    (4, {**IMAGENET, "selection_ratio": 0.8, "eval_set": "ImageNet-R"}, 36.60, None),
    (4, {**IMAGENET, "selection_ratio": 1, "eval_set": "ImageNet-A", "method": "full"}, 3.09, None),
    (5, {**CIFAR100, "selection_ratio": 0.9}, 78.98, 0.09),
    (5, {**CIFAR100, "selection_ratio": 0.9, "method": "paper"}, 78.48, 0.32),
    (5, {**TINY, "selection_ratio": 0.9, "method": "paper"}, 46.01, 0.38),
    (5, {**CIFAR100, "selection_ratio": 0.9, "method": "paper_without_adapters_loop"}, 78.20, 0.18),
    (5, {**CIFAR100, "selection_ratio": 0.9, "method": "paper_without_adapters"}, 77.10, 0.29),
    (5, {**TINY, "selection_ratio": 0.9, "method": "paper_without_sds"}, 49.14, 0.09),
    (5, {**TINY, "selection_ratio": 0.9, "method": "paper_without_adapters_sas_sds"}, 45.69, 0.10),
    (6, CIFAR10, 95.43, 0.21),
    (6, {**CIFAR10, "method": "el2n", "selection_ratio": 0.2}, 70.32, 0.74),
    (6, {**CIFAR10, "method": "prototypes", "selection_ratio": 0.9}, 95.95, 0.44),
    (7, {**CIFAR10, "architecture": VIT_SMALL, "selection_ratio": 0.9}, 84.26, 0.05),
    (7, {**CIFAR10, "architecture": VIT_SMALL, "method": "full", "selection_ratio": 1.0}, 84.00, 0.32),
    (8, {**TINY, "selection_ratio": None, "architecture": None, "quantity": "selection_hours"}, 0.76, None),
    (9, {**TINY, "method": "paper_loop_theta_5e-5", "selection_ratio": 0.8}, 47.86, None),
    (10, {**CIFAR100, "selection_ratio": 0.3, "noise_rate": 0.7}, 56.80, None),
    (10, {**CIFAR100, "selection_ratio": 0.2, "noise_rate": 0.5, "method": "paper_with_image_means"}, 16.56, None),
    (11, {**CIFAR100, "selection_ratio": 0.2, "architecture": None, "quantity": "actual_ratio"}, 19.95, None),
]


@pytest.mark.parametrize(("table", "of", "figure", "deviation"), PRINTED)
def test_figures_are_those_of_the_paper(table, of, figure, deviation):
    found = paper_figure(**of)
    assert (found.table, found.figure, found.deviation) == (table, figure, deviation)


def test_each_table_has_all_its_figures():
    # Figures of a table: methods x columns, all rows once for each network or dataset.
    counts = {
        1: 11 * 6 + 2,
        2: 11 * 6,
        3: 3 * 3 + 2,
        4: 6 * 3,
        5: 9 * 2,
        6: 11 * 7 + 1,
        7: 11 * 4 + 1,
        8: 11 * 2,
        9: 5 + 4,
        10: 4 * 6,
        11: 7 * 2,
    }
    assert Counter(figure.table for figure in paper_figures()) == counts


def test_values_are_known_ones_and_in_range():
    for figure in paper_figures():
        assert figure.architecture is None or figure.architecture in (*ARCHITECTURES, VIT_SMALL)
        assert figure.method in METHODS
        assert figure.quantity in QUANTITIES
        assert 0 <= figure.figure <= 100
        assert (figure.noise_rate > 0) == (figure.noise_kind is not None)
        assert (figure.method == "full") == (figure.selection_ratio == 1)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset_name": "uoft-cs/cifar100"},
        {"dataset_name": "me/cifar10"},
        {"method": "robust"},
        {"method": "paper"},  # without L_s, of which the paper prints table 5 alone
        {"selection_ratio": 0.5},
        {"selection_ratio": 0.70001},
        {"architecture": "resnet-18"},
        {"architecture": "vit-s", "selection_ratio": 0.9},  # wider and deeper than the one of table 7
        {"architecture": "vit-s", "selection_ratio": 1, "method": "full"},
        {"noise_rate": 0.2},
        {"eval_set": "ImageNet-A"},
        {"quantity": "noise_share"},
        {"method": "full"},
    ],
)
def test_only_an_exact_match_finds_a_figure(change):
    assert paper_figure(**{**CIFAR10, **change}) is None


def test_the_kind_of_noise_counts_where_there_is_noise():
    noisy = {**CIFAR100, "selection_ratio": 0.3, "noise_rate": 0.2}
    assert paper_figure(**noisy, noise_kind="pairwise") is None
    assert paper_figure(**CIFAR10, noise_kind="pairwise") == paper_figure(**CIFAR10)


def test_of_two_tables_the_one_with_a_deviation_is_taken():
    both = [figure for figure in paper_figures() if figure.figure == 49.30]
    assert {figure.table for figure in both} == {5, 9}
    assert paper_figure(**{**TINY, "selection_ratio": 0.9}).table == 5


def test_sorting_has_the_column_without_the_loss_of_the_ratio_and_nothing_else():
    assert {(figure.table, figure.dataset_name) for figure in paper_figures() if figure.method == "paper"} == {
        (5, "uoft-cs/cifar100"),
        (5, "zh-plus/tiny-imagenet"),
    }


def test_a_figure_is_told_with_its_table():
    assert str(paper_figure(**CIFAR10)) == "95.43 ± 0.21 (table 6)"
    assert str(paper_figure(**{**IMAGENET, "selection_ratio": 0.8, "architecture": "vit-b"})) == "81.13 (table 3)"


def test_an_unknown_quantity_is_refused():
    with pytest.raises(InputError, match="quantity.*accuracy.*speed"):
        paper_figure(**CIFAR10, quantity="speed")
