"""Metrics of selections and of what is trained on them: `evaluate` modules that need no network.

[`load_metric`] gives one by its name. Each file is also a script that `evaluate.load` takes by its path, such as
`evaluate.load("hf_clipselect/evaluation/metrics/dunn_index.py")`; for that its imports are absolute, one a line.
Inputs that mean the same have the same name, and a metric passes over those of others, so that `evaluate.combine`
takes any of them together.
"""

import evaluate

from ...errors import InputError
from .dunn_index import DunnIndex
from .selection_quality import SelectionQuality
from .top_k_accuracy import TopKAccuracy


METRICS = {"dunn_index": DunnIndex, "selection_quality": SelectionQuality, "top_k_accuracy": TopKAccuracy}


def load_metric(name: str) -> evaluate.Metric:
    """A metric of this package, with no network and no copy of its code.

    It keeps its inputs in memory, so that several processes may compute at once; `evaluate.load` with the path of the
    file has the options for one metric over several processes.

    Args:
        name (`str`): "dunn_index", "selection_quality" or "top_k_accuracy".

    Returns:
        `evaluate.Metric`: With `compute`, `add_batch` and the rest of what `evaluate` gives.

    Raises:
        InputError: There is none of that name.

    Example:

    ```python
    >>> from hf_clipselect.evaluation.metrics import load_metric
    >>> metric = load_metric("top_k_accuracy")
    >>> metric.compute(predictions=[[0.1, 0.9], [0.8, 0.2]], references=[1, 1], top_k=[1])
    {'top_1_accuracy': 0.5}
    ```
    """
    if name not in METRICS:
        raise InputError(
            f"There is no metric {name!r} in hf_clipselect; it has {', '.join(METRICS)}. Others: "
            f"evaluate.load({name!r})."
        )
    return METRICS[name](keep_in_memory=True)


__all__ = ["METRICS", "DunnIndex", "SelectionQuality", "TopKAccuracy", "load_metric"]
