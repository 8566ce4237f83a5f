"""Tools that people use for the same: cleanlab and apricot, where they are installed (the extra `peers`).

Legend: N rows, D embedding dimension, C classes.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from ...errors import InputError


_NUM_FOLDS = 5
_STREAM = 9


def is_installed(package: str) -> bool:
    """Whether a package is there, by the name that it is installed by."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def check_installed(method: str, package: str) -> None:
    """Refuse a method whose package is missing.

    Args:
        method (`str`): Its name.
        package (`str`): The name that it is installed by.

    Raises:
        InputError: Naming the extra.
    """
    if not is_installed(package):
        raise InputError(
            f"{method} needs the package {package}, which is not installed: pip install "
            f'"hf_clipselect[peers]", or leave {method} out of --methods.'
        )


def out_of_fold_probabilities(embeds: np.ndarray, labels: np.ndarray, *, num_classes: int, seed: int) -> np.ndarray:
    """Of a logistic regression on the embeddings that has not seen the row: what cleanlab asks for.

    Args:
        embeds (`np.ndarray` of shape `(N, D)`), labels (`np.ndarray` of shape `(N,)`): Rows with their given classes.
        num_classes (`int`): C.
        seed (`int`): Draws the five folds, or as many as the largest class has rows if these are fewer.

    Returns:
        `np.ndarray` of shape `(N, C)`: Probabilities; 0 for a class that the other folds have no row of.

    Raises:
        InputError: No class has two rows.
    """
    largest = int(np.bincount(labels).max())
    if largest < 2:
        raise InputError(
            f"cleanlab needs a class with at least two rows, to learn from one what it predicts of the other, and the "
            f"{len(labels)} rows are of {len(labels)} classes; leave cleanlab and cleanlab_issues out of --methods."
        )
    folds = StratifiedKFold(min(_NUM_FOLDS, largest), shuffle=True, random_state=seed)
    probabilities = np.zeros((len(labels), num_classes))
    probabilities[:, np.unique(labels)] = cross_val_predict(
        LogisticRegression(max_iter=2000), embeds, labels, cv=folds, method="predict_proba"
    )
    return probabilities


def cleanlab_scores(probabilities: np.ndarray, labels: np.ndarray, *, seed: int) -> np.ndarray:
    """cleanlab's label quality, normalized margin.

    Args:
        probabilities (`np.ndarray` of shape `(N, C)`): From [`out_of_fold_probabilities`] of the same labels.
        labels (`np.ndarray` of shape `(N,)`): Given classes.
        seed (`int`): Nothing is drawn here.

    Returns:
        `np.ndarray` of shape `(N,)`: In [0, 1], higher is more likely right.
    """
    rank = _module("cleanlab.rank")
    return rank.get_label_quality_scores(labels, probabilities, method="normalized_margin")


def cleanlab_issue_scores(probabilities: np.ndarray, labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Random rows without those that cleanlab's `find_label_issues` flags, which Datalab's label check rests on.

    Flagged rows come last, the likeliest issue at the very end.

    Args:
        probabilities, labels: As in [`cleanlab_scores`].
        seed (`int`): Draws the order of the rows that are not flagged.

    Returns:
        `np.ndarray` of shape `(N,)`: Below 0 for a flagged row, from 0 to 1 for others; higher is kept first.
    """
    find_issues = _module("cleanlab.filter").find_label_issues
    worst_first = find_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    scores = np.random.default_rng([seed, _STREAM]).random(len(labels))
    scores[worst_first] = -np.arange(len(worst_first), 0, -1)
    return scores


def facility_location_rows(embeds: np.ndarray, count: int, *, max_gigabytes: float) -> np.ndarray:
    """apricot's facility location on the cosines of all pairs.

    Args:
        embeds (`np.ndarray` of shape `(N, D)`): Embeddings.
        count (`int`): Rows to take.
        max_gigabytes (`float`): The largest matrix allowed, in 10^9 bytes.

    Returns:
        `np.ndarray` of shape `(count,)`: Row numbers, int64, first taken first.

    Raises:
        InputError: The matrix of all pairs would need more memory.
    """
    check_facility_location_memory(len(embeds), max_gigabytes)
    selection = (
        _module("apricot")
        .FacilityLocationSelection(count, metric="cosine", optimizer="lazy", verbose=False)
        .fit(embeds)
    )
    return selection.ranking.astype(np.int64)


def check_facility_location_memory(num_rows: int, max_gigabytes: float) -> None:
    """Refuse more rows than a matrix of all pairs has memory for.

    Args:
        num_rows (`int`): N.
        max_gigabytes (`float`): What is allowed.

    Raises:
        InputError: It would take more.
    """
    needed = 8e-9 * num_rows**2
    if needed > max_gigabytes:
        raise InputError(
            f"apricot needs a matrix of all pairs of {num_rows} rows, {needed:.1f} GB, and {max_gigabytes:g} GB are "
            "allowed; raise --max_gigabytes if the machine has that much, or leave apricot out of --methods."
        )


def _module(name: str) -> ModuleType:
    # Neither is a part of this package: they are imported when they are asked for.
    return import_module(name)
