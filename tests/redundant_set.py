"""Embeddings of classes that hold near duplicates, wrong labels and outliers, with the truth about them."""

from dataclasses import dataclass

import numpy as np


COPIES, COPY_COSINE = 5, 0.992


@dataclass(frozen=True)
class RedundantSet:
    """Rows in random order: embeddings and labels as a run has them, and what only the maker knows.

    `group` numbers the groups of five near duplicates, -1 elsewhere; `wrong` marks wrong labels and outliers.
    """

    image_embeds: np.ndarray
    text_embeds: np.ndarray
    labels: np.ndarray
    group: np.ndarray
    wrong: np.ndarray

    def redundant_share(self, kept: np.ndarray) -> float:
        """The part of the kept rows that repeat another kept one."""
        groups = self.group[kept]
        groups = groups[groups >= 0]
        return (len(groups) - len(np.unique(groups))) / len(kept)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def redundant_set(class_size: int, *, num_classes: int = 10, dim: int = 512, seed: int = 0) -> RedundantSet:
    """Classes of 20 clusters whose sizes follow a power law; a fifth of the rows lie in groups of 5 that differ by a
    cosine of 0.992, 5 % of the rows have a wrong label, and 3 % lie anywhere. The last two are none of the copies.
    """
    rng = np.random.default_rng(seed)

    def directions(count: int) -> np.ndarray:
        return rng.normal(size=(count, dim)) / dim**0.5

    rows = num_classes * class_size
    num_groups = rows // 5 // COPIES
    classes = directions(num_classes)
    clusters = unit((classes[:, None] + 0.6 * rng.normal(size=(num_classes, 20, dim)) / dim**0.5).reshape(-1, dim))
    shares = 1 / np.arange(1, 21)
    # One place for each group of copies and for each other row.
    group = np.concatenate([np.repeat(np.arange(num_groups), COPIES), np.full(rows - num_groups * COPIES, -1)])
    place = np.concatenate([group[: num_groups * COPIES], np.arange(num_groups, rows - num_groups * (COPIES - 1))])
    truth = rng.permutation(np.arange(place[-1] + 1) % num_classes)[place]
    cluster = truth * 20 + rng.choice(20, size=place[-1] + 1, p=shares / shares.sum())[place]
    embeds = unit(clusters[cluster] + 0.58 * directions(place[-1] + 1)[place])
    copies = slice(0, num_groups * COPIES)
    embeds[copies] = unit(embeds[copies] + (1 / COPY_COSINE - 1) ** 0.5 * directions(num_groups * COPIES))
    odd = num_groups * COPIES + rng.permutation(rows - num_groups * COPIES)[: rows * 8 // 100]
    mislabelled, outliers = odd[: rows * 5 // 100], odd[rows * 5 // 100 :]
    labels = truth.copy()
    labels[mislabelled] = (truth[mislabelled] + rng.integers(1, num_classes, len(mislabelled))) % num_classes
    embeds[outliers] = unit(directions(len(outliers)))
    wrong = np.zeros(rows, dtype=bool)
    wrong[odd] = True
    order = rng.permutation(rows)
    return RedundantSet(embeds[order], unit(classes), labels[order], group[order], wrong[order])
