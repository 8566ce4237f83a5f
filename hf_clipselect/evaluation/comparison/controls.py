"""Controls beside the objectives of this package: the rows that an objective trusts, in an order that is not its own.

`robust` takes rows whose labels are safe in the order of herding; `diverse` and `clean` take rows whose label CLIP
agrees with, the first spread evenly and the second from the best aligned on. What such an order adds shows beside the
same rows in any other: drawn at random, by herding, or by k-center. `robust` itself is its pool with herding.

All are within the quotas of these objectives. The orders look at the embeddings of plain CLIP, where `robust` looks at
those of the adapters if these were kept.

Legend: N rows, n of one class.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ...results.scores_table import column_values
from ...selection.herding_order import herding_order
from ...selection.safe_pool import safe_pool
from ..baselines.inputs import unit_embeds
from ..baselines.k_center import k_center_rows
from .method import Method, Selected, highest
from .setting import Setting


CONTROL = "control"
# Other streams than those that draw wrong labels, random rows and folds with the seed.
_RANDOM_STREAM, _K_CENTER_STREAM = 10, 12

# A setting and the numbers of some rows of one class in, places among these in the order that they are taken in out.
Order = Callable[[Setting, np.ndarray], np.ndarray]


def _at_random(setting: Setting, rows: np.ndarray) -> np.ndarray:
    drawn = np.random.default_rng([setting.seed, _RANDOM_STREAM]).random(setting.num_rows)
    return np.argsort(-drawn[rows], kind="stable")


def _by_herding(setting: Setting, rows: np.ndarray) -> np.ndarray:
    return herding_order(unit_embeds(setting.embeddings.images[rows]), seed=setting.seed)


def _by_k_center(setting: Setting, rows: np.ndarray) -> np.ndarray:
    seed = int(np.random.default_rng([setting.seed, _K_CENTER_STREAM]).integers(2**31))
    return k_center_rows(setting.embeddings.images[rows], len(rows), seed=seed)


def _safe_labels(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """The safe pool of `robust` `(N,)`, and how probably each label is right `(N,)`."""
    wrong = column_values(setting.scored[0].scores, "label_error_probability").astype(np.float64)
    return safe_pool(wrong), 1 - wrong


def _agreeing_labels(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Whether the given class fits better than any other `(N,)`, and the margin between them `(N,)`."""
    margin = column_values(setting.scored[0].scores, "margin").astype(np.float64)
    return margin > 0, margin


def _control(name: str, trusted_of: Callable[[Setting], tuple[np.ndarray, np.ndarray]], order: Order) -> Method:
    """The trusted rows of each class in an order, then its others from the best judged on."""

    def select(setting: Setting, ratios: Sequence[float]) -> Selected:
        is_trusted, judged = trusted_of(setting)
        scores = judged - judged.max()  # of at most 0, below those of the trusted rows
        for label in range(setting.num_classes):
            rows = np.flatnonzero(is_trusted & (setting.labels == label))
            if len(rows):
                scores[rows[order(setting, rows)]] = np.arange(len(rows), 0, -1)
        kept = highest(setting, scores, ratios, class_balance="proportional").rows
        return Selected(kept, judged)

    return Method(name, CONTROL, select, frozenset({"embeddings", "scored"}))


CONTROLS = [
    _control("robust_pool_random", _safe_labels, _at_random),
    _control("robust_pool_k_center", _safe_labels, _by_k_center),
    _control("gate_random", _agreeing_labels, _at_random),
    _control("gate_herding", _agreeing_labels, _by_herding),
    _control("gate_k_center", _agreeing_labels, _by_k_center),
]
