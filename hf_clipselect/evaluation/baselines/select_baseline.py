"""The same call for every baseline: embeddings and labels in, kept rows for each ratio out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...config.argument_types import shown
from ...config.checks import check_seed
from ...config.python_calls import python_door
from ...errors import InputError
from ...scores.arrays import Array, checked_embeds, checked_labels
from ...selection import Candidates, Objective, check_numbers, class_quotas, resolve_objective, select_subsets
from ...selection import selection_count as rows_of_size  # an argument has the name
from .cg_score import check_cg_memory
from .dynamics import TrainingDynamics
from .probe import train_probe
from .registry import BASELINES, Baseline, Given, PickingBaseline, check_setting


@dataclass(frozen=True)
class BaselineResult:
    """What a baseline keeps.

    Args:
        method (`str`): Its name in `BASELINES`.
        sizes (`tuple[float | int, ...]`): Ratios and counts that were asked for.
        subsets (`dict[int, np.ndarray]`): Number of rows kept -> kept row numbers, int64, rising.
        scores (`np.ndarray` of shape `(N,)`, *optional*): Float32, higher is kept first; `None` where the method picks
            rows.
        labels (`np.ndarray` of shape `(N,)`): Given classes, which quotas are for.
        class_balance (`str`): As in [`select_baseline`].
    """

    method: str
    sizes: tuple[float | int, ...]
    subsets: dict[int, np.ndarray]
    scores: np.ndarray | None
    labels: np.ndarray
    class_balance: str

    @property
    def selected(self) -> np.ndarray:
        """Kept row numbers of the first size, int64, rising."""
        return self.at(self.sizes[0])

    @python_door()
    def at(self, size: float | int) -> np.ndarray:
        """Kept row numbers of one size.

        Args:
            size (`float` or `int`): Fraction of the rows to keep, or their number. A method with scores serves any.

        Returns:
            `np.ndarray` of shape `(count,)`: Row numbers, int64, rising.

        Raises:
            InputError: The size is out of range, or the method picks rows and was not asked for it.
        """
        [size] = check_numbers(counts=size) if isinstance(size, (int, np.integer)) else check_numbers(size)
        count = rows_of_size(size, len(self.labels))
        if count in self.subsets:
            return self.subsets[count]
        if self.scores is None:
            raise InputError(
                f"{self.method} picks rows for the sizes that it is asked for, {', '.join(map(str, self.sizes))}, not "
                f"for {size}; name it in selection_ratio."
            )
        [rows] = _kept_by_score(self.scores, self.labels, [count], _objective(self.class_balance))
        return rows


@python_door()
def select_baseline(
    method: str,
    image_embeds: Array | None,
    labels: Array | Sequence[int],
    *,
    selection_ratio: float | Sequence[float] | None = None,
    selection_count: int | Sequence[int] | None = None,
    class_balance: str = "none",
    seed: int = 0,
    val_image_embeds: Array | None = None,
    val_labels: Array | Sequence[int] | None = None,
    dynamics: TrainingDynamics | None = None,
    settings: Mapping[str, float | str] | None = None,
    max_gigabytes: float = 8.0,
) -> BaselineResult:
    """Select rows by the method of another paper.

    Subsets for several ratios are nested, but for CCS where its cutoff would leave fewer rows than are to be kept: it
    is then lowered. With quotas a method that picks rows runs class by class.

    Args:
        method (`str`): A name in `BASELINES`.
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`, *optional*):
            Embeddings, normalised by each method; `None` to take the features of the dynamics.
        labels (`np.ndarray`, `torch.Tensor` or `Sequence[int]` of length `num_rows`): Given classes, integers from 0.
        selection_ratio (`float` or `Sequence[float]`, *optional*): Fractions to keep, in `(0, 1]`; default 0.3.
        selection_count (`int` or `Sequence[int]`, *optional*): Numbers of rows, beside or instead of ratios.
        class_balance (`str`, *optional*, defaults to `"none"`): "none", or quotas "proportional" or "uniform".
        seed (`int`, *optional*, defaults to 0): The same seed gives the same rows.
        val_image_embeds, val_labels (*optional*): Rows with right labels that are none of these, for Glister. With
            dynamics their features are in them, and only the labels are given here.
        dynamics ([`TrainingDynamics`], *optional*): Of a proxy trained on these rows and labels, from [`train_probe`]
            or [`train_image_classifier`], to be shared by several calls; default a linear probe that is trained here,
            where one is needed.
        settings (`Mapping[str, float | str]`, *optional*): What papers set for each dataset and ratio: `cutoff` of
            "ccs", the part of the rows to drop as too hard, in [0, 1), default 0; `gamma` of "d2_pruning", at least 0,
            default 1, and its `num_neighbors`, default 10; `keep` of "prototypes", "hardest", the default, or
            "easiest".
        max_gigabytes (`float`, *optional*, defaults to 8.0): The largest matrix that CG-Score may build, 10^9 bytes.

    Returns:
        [`BaselineResult`]

    Raises:
        InputError: The method, a ratio, a setting or the balance is unknown, the seed is out of range, shapes don't
            match, there are no validation rows where the method needs them, or it would need more memory; all of it
            before the method starts.

    Example:

    ```python
    >>> result = select_baseline("moderate", image_embeds, labels, selection_ratio=[0.2, 0.5])
    >>> result.at(0.5)  # row numbers
    ```
    """
    baseline = _of_name(method)
    objective = _objective(class_balance)
    check_seed(seed)
    values = _all_settings(method, baseline, settings or {})
    sizes = check_numbers(selection_ratio, selection_count)
    _check_dynamics_type(dynamics)
    embeds = checked_embeds(_given_embeds(image_embeds, dynamics), "image_embeds")
    labels = checked_labels(labels, num_rows=len(embeds))
    counts = [rows_of_size(size, len(labels)) for size in sizes]
    _check_dynamics(dynamics, labels)
    of_validation = None
    if "validation" in baseline.needs:
        of_validation = _checked_validation(method, labels, val_image_embeds, val_labels, dynamics)
    if method == "cg_score":
        check_cg_memory(labels, max_gigabytes)
    if "dynamics" in baseline.needs and dynamics is None:
        validation = val_image_embeds if "validation" in baseline.needs else None
        dynamics = train_probe(embeds, labels, val_image_embeds=validation, seed=seed)
    given = Given(embeds, labels, seed, max_gigabytes, dynamics, of_validation, values)
    if isinstance(baseline, PickingBaseline):
        scores, kept = None, _kept_by_picking(baseline, given, counts, class_balance)
    else:
        scores = baseline.scores(given)
        kept = _kept_by_score(scores, labels, counts, objective)
    return BaselineResult(method, sizes, dict(zip(counts, kept, strict=True)), scores, labels, class_balance)


def _of_name(method: str) -> Baseline:
    if method not in BASELINES:
        raise InputError(f"method must be one of {', '.join(BASELINES)}, got {method!r}.")
    return BASELINES[method]


def _given_embeds(image_embeds: Array | None, dynamics: TrainingDynamics | None) -> Array:
    if image_embeds is not None:
        return image_embeds
    if dynamics is None:
        raise InputError("Pass image_embeds, or dynamics whose features are to be taken; got neither.")
    return dynamics.features


def _all_settings(method: str, baseline: Baseline, given: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if name not in baseline.settings:
            known = ", ".join(baseline.settings) or "nothing"
            raise InputError(f"{method} has no setting {name!r}; what can be set of it is {known}.")
        check_setting(name, value)
    return {**baseline.settings, **given}


def _check_dynamics_type(dynamics: object) -> None:
    if not isinstance(dynamics, TrainingDynamics | None):
        raise InputError(f"dynamics must be TrainingDynamics, got {shown(dynamics)}; train_probe gives some.")


def _check_dynamics(dynamics: TrainingDynamics | None, labels: np.ndarray) -> None:
    if dynamics is not None and len(dynamics.error_norms) != len(labels):
        raise InputError(
            f"dynamics are of {len(dynamics.error_norms)} rows and there are {len(labels)} labels; train the proxy on "
            "these rows."
        )


def _objective(class_balance: str) -> Objective:
    """Plain ranking within the quotas."""
    return resolve_objective("released", {"class_balance": class_balance})


def _checked_validation(
    method: str,
    labels: np.ndarray,
    val_image_embeds: Array | None,
    val_labels: Array | Sequence[int] | None,
    dynamics: TrainingDynamics | None,
) -> np.ndarray:
    features = val_image_embeds if dynamics is None else dynamics.early_val_features
    if features is None or val_labels is None:
        missing = "val_labels" if val_labels is None else "val_image_embeds"
        if dynamics is not None and features is None:
            missing = (
                "validation rows in dynamics (val_image_embeds of train_probe, val_dataset of train_image_classifier)"
            )
        raise InputError(
            f"{method} selects what lowers the loss on validation rows with right labels, and there are none: pass "
            f"{missing}, or take another method."
        )
    num_classes = int(labels.max()) + 1
    checked = checked_labels(val_labels, num_rows=len(features))
    if checked.max() >= num_classes:
        raise InputError(f"val_labels must be classes of labels, in [0, {num_classes}), got {checked.max()}.")
    return checked


def _kept_by_score(
    scores: np.ndarray, labels: np.ndarray, counts: Sequence[int], objective: Objective
) -> list[np.ndarray]:
    return select_subsets([scores] * len(counts), Candidates(labels), counts, objective)


def _kept_by_picking(
    baseline: PickingBaseline, given: Given, counts: Sequence[int], class_balance: str
) -> list[np.ndarray]:
    labels = given.labels
    if class_balance == "none":
        return [np.sort(rows) for rows in _picked(baseline, given, np.arange(len(labels)), counts)]
    num_classes, upper, quotas = int(labels.max()) + 1, None, {}
    for count in sorted(set(counts), reverse=True):  # each within the next larger one, as in `select_subsets`
        upper = class_quotas(labels, count, balance=class_balance, num_classes=num_classes, upper=upper)
        quotas[count] = upper
    parts = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        parts.append(_picked(baseline, given, members, [int(quotas[count][label]) for count in counts]))
    return [np.sort(np.concatenate(rows)) for rows in zip(*parts, strict=True)]


def _picked(baseline: PickingBaseline, given: Given, members: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
    """So many of the members, for each count."""
    if baseline.in_order:
        most = max(counts)
        picks = members[baseline.rows(given, members, most)] if most else members[:0]
        return [picks[:count] for count in counts]
    return [members[baseline.rows(given, members, count)] if count else members[:0] for count in counts]
