"""Why a row was kept or dropped, in words that a person can filter by."""

from collections.abc import Sequence

import numpy as np

from .objective import Objective
from .ranking import MUST_DROP, MUST_KEEP, RowColumns, passes_gate
from .safe_pool import safe_pool


# A row that is a copy of a kept one has `COPY_OF` and the source_index of that one; one whose label is probably wrong
# has `WRONG_LABEL`, the probability and the class that it looks like.
KEPT, MUST_BE_KEPT = "kept", "kept: must keep"
NOT_READABLE, MUST_BE_DROPPED, DROPPED_BY_REVIEWER = "not readable", "must drop", "dropped by a reviewer"
DISAGREES, LOW_ALIGNMENT, LOW_SCORE = "label disagrees with image", "low alignment", "low score"
QUOTA_FULL = {"class": "quota of its class is full", "group": "quota of its group is full"}
COPY_OF, WRONG_LABEL = "redundant: copy of row ", "label is wrong with probability "
# One that is left out for what a check found has `LEAK_OF` and the row of the reference, or `DAMAGED` and the issues.
LEAK_OF, DAMAGED = "copy of row ", "damaged image: "


def reasons(
    objective: Objective,
    rows: RowColumns,
    *,
    scores: np.ndarray,
    selected: np.ndarray,
    tiers: np.ndarray | None,
    duplicate_group: np.ndarray,
    source_index: np.ndarray,
    class_names: Sequence[str],
    dropped_by_reviewer: np.ndarray | None = None,
    leak_of: np.ndarray | None = None,
    quality_issues: np.ndarray | None = None,
) -> np.ndarray:
    """The reason for each row, strings `(N,)`; of several that hold, the first in this order.

    - "kept: must keep", "kept"; "dropped by a reviewer".
    - "copy of row N of the reference", "damaged image: blurry, dark", where all such rows are dropped; "must drop".
    - "redundant: copy of row N": redundancy counts, and row N of its near-duplicates is kept.
    - "label is wrong with probability 0.97, looks like nine": the objective needs the noise model, and by this the
      label is more probably wrong than right; where the most probable class is still the given one none is named.
    - "label disagrees with image": the predicted label is another, and the objective has a gate or no noise model.
    - "low alignment": it is below `gate_floor`; its alignment is all that counts, and too low; or, with `herding`, it
      is not in the safe pool.
    - "quota of its class is full" (or of its group): without quotas its score would do, or, with `spread` or in the
      safe pool of `herding`, other rows of its class come first.
    - "low score": other rows score higher.

    Takes arrays `(N,)`: the scores from `selection_scores`, less the redundancy; which rows are selected, bool; their
    tiers, as in `ranking`, if there are any; the same `duplicate_group` for near-duplicates, -1 for others; row
    numbers in the source; and which of those that must be dropped a reviewer dropped, bool, if there was one.
    `class_names` are those of all classes, by their number. `leak_of`, -1 for none, and `quality_issues`, "" for none,
    are what checks found, if they were made.
    """
    has_quotas = objective.class_balance != "none"
    has_own_order = objective.spread or objective.herding
    alignment_alone = objective.diversity_weight == 0 and not has_own_order and not objective.redundancy_weight
    found = np.full(len(selected), LOW_ALIGNMENT if alignment_alone else LOW_SCORE, dtype=object)
    if has_quotas:
        # Without quotas as many rows would have been taken by tier and score alone.
        order = np.lexsort((-scores,) if tiers is None else (-scores, tiers))
        by_score = order[: np.count_nonzero(selected)]
        found[slice(None) if has_own_order else by_score] = QUOTA_FULL[objective.balance_by]
    if objective.herding:
        found[~safe_pool(rows.needed("error_probability"))] = LOW_ALIGNMENT
    found[~passes_gate(objective, rows)] = LOW_ALIGNMENT
    if objective.gate or not objective.needs_noise_model:
        found[~rows.agrees] = DISAGREES
    if objective.needs_noise_model:
        for row, why in _wrong_labels(rows, class_names):
            found[row] = why
    if objective.redundancy_weight:
        for row, original in _copies(duplicate_group, selected):
            found[row] = f"{COPY_OF}{source_index[original]}"
    if tiers is not None:
        found[tiers == MUST_DROP] = MUST_BE_DROPPED
        for row, why in _checked(leak_of, quality_issues, tiers):
            found[row] = why
    if dropped_by_reviewer is not None:
        found[dropped_by_reviewer] = DROPPED_BY_REVIEWER
    found[selected] = KEPT
    if tiers is not None:
        found[selected & (tiers == MUST_KEEP)] = MUST_BE_KEPT
    return found


def _wrong_labels(rows: RowColumns, class_names: Sequence[str]) -> list[tuple[int, str]]:
    """Rows whose labels are more probably wrong than right, each with its reason."""
    error_probability, clean_label = rows.needed("error_probability"), rows.needed("clean_label")
    told = []
    for row in np.flatnonzero(error_probability > 0.5).tolist():
        why = f"{WRONG_LABEL}{error_probability[row]:.2f}"
        if clean_label[row] != rows.labels[row]:
            why += f", looks like {class_names[clean_label[row]]}"
        told.append((row, why))
    return told


def _checked(
    leak_of: np.ndarray | None, quality_issues: np.ndarray | None, tiers: np.ndarray
) -> list[tuple[int, str]]:
    """Rows that are dropped for what a check found, each with its reason; of both checks the first comes last."""
    told = []
    if quality_issues is not None:
        told.append(
            [(row, f"{DAMAGED}{quality_issues[row]}") for row in np.flatnonzero(quality_issues != "").tolist()]
        )
    if leak_of is not None:
        told.append(
            [(row, f"{LEAK_OF}{leak_of[row]} of the reference") for row in np.flatnonzero(leak_of >= 0).tolist()]
        )
    # A check that only tells leaves rows among the others, though a user may drop some of them.
    return [told_of for each in told if all(tiers[row] == MUST_DROP for row, _ in each) for told_of in each]


def _copies(duplicate_group: np.ndarray, selected: np.ndarray) -> list[tuple[int, int]]:
    """Dropped rows, each with the first kept row of its near-duplicates."""
    kept = np.flatnonzero(selected & (duplicate_group >= 0))
    groups, first = np.unique(duplicate_group[kept], return_index=True)
    dropped = np.flatnonzero(~selected & np.isin(duplicate_group, groups))
    originals = kept[first[np.searchsorted(groups, duplicate_group[dropped])]]
    return list(zip(dropped.tolist(), originals.tolist(), strict=True))
