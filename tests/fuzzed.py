"""Arguments of every kind, right and wrong, for hypothesis to choose from, and what is asked of any answer."""

import re

import numpy as np
import torch
from datasets import Dataset
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hf_clipselect.config.arguments import Arguments
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.selection import selection_count


FLAG = re.compile(rf"(?<![\w/])--({'|'.join(Arguments().to_dict())})\b")
# What can't be printed would be told to the terminal.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# Values of every type, one of which fits most arguments.
ANYTHING = [
    None,
    True,
    False,
    0,
    1,
    3,
    -1,
    2**63,
    10**400,
    0.5,
    1.5,
    -0.1,
    1e300,
    float("nan"),
    float("inf"),
    1j,
    "",
    "x",
    "0.3",
    "3",
    "off",
    "a\0b",
    "\x1b[31m\u202e",
    "-{}-",
    "--output_dir",
    "y" * 5000,
    "z" * 300,
    b"x",
    [],
    [3],
    [0.5],
    ["a", "b"],
    [[1], [2, 3]],
    [None],
    (0, 1),
    {"a": 1},
    {1: 2},
    {"zero": 3},
    {3},
    range(3),
    object(),
    int,
    np.float32(0.5),
    np.int64(2),
    np.bool_(True),
    np.str_("image"),
    np.array(["zero", "one"]),
    np.array([[1, 2]]),
    np.array(3),
    np.array([1, 0], dtype=object),
    torch.ones(2),
    torch.ones(2, 2).to_sparse(),
    lambda: 0,
]
RIGHT = {
    "selection_ratio": [0.3, 0.5, 1, [0.25, 0.75], np.float32(0.3), (0.5,), "auto", [0.5, "auto"]],
    "selection_count": [4, [3, 6], np.int64(5)],
    "objective": ["robust", "diverse", "clean", "paper", "released"],
    "alignment": ["cosine", "margin", "ensemble", "noise_model"],
    "diversity_weight": [0, 0.1, "ratio", np.float64(0.2)],
    "normalization": ["none", "minmax_mean", "zscore", "rank"],
    "class_balance": ["none", "proportional", "uniform"],
    "balance_by": ["class", "group"],
    "min_per_class": [0, 2],
    "class_quotas": [{"zero": 2}, {"0": 2}, {"1": np.int64(1)}],
    "gate": [True, False, np.bool_(False)],
    "gate_floor": [0.0, 0.5],
    "spread": [True, False],
    "herding": [True, False],
    "redundancy_weight": [0, 0.5],
    "solver": ["exact", "sgd"],
    "ratio_weight": [2.0, 3],
    "theta": [5e-4, 0.01],
    "neighbor_fraction": [0.1, 1],
    "num_neighbors": [1, np.int32(3), 100],
    "must_keep": [[0, 1], np.array([2]), []],
    "must_drop": [[3], np.array([4, 5])],
    "seed": [0, 1, np.uint32(7)],
    "temperature": [0.1, 1],
    "learning_rate": [1e-3],
    "num_train_epochs": [1],
    "train_batch_size": [16],
    "num_folds": [0, 2],
    "strict": [False],
}
OF_DATASETS = {
    "image_column_name": ["image"],
    "label_column_name": ["label"],
    "group_column": ["label"],
    "class_names": [[str(number) for number in range(10)]],
    "on_bad_image": ["error", "drop"],
    "model_revision": ["main"],
    "prompt_template": ["a {}", ["{}", "the {}"]],
    "per_device_eval_batch_size": [4, 64, "auto"],
    "precision": ["auto", "float32"],
    "use_cpu": [True],
    "bf16": [False],
    "overwrite_output_dir": [True, False],
    "output_dir": ["out"],
    "caption_column": [],
    "num_clusters": [],
    "peft_config": [],
    "adapter_name_or_path": [],
    "model_name_or_path": [],
    "dataloader_num_workers": [0],
}


def sentence_of(error):
    """An error is one line, and names no flag where there are none."""
    text = str(error)
    assert text and not UNPRINTABLE.search(text) and len(text) < 7000, text
    assert not FLAG.search(text), text


def is_right(result, num_rows):
    for size in result.ratios:
        rows = result.at(**({"count": size} if isinstance(size, int) else {"ratio": size})).selected
        assert len(rows) if size == "auto" else len(rows) == selection_count(size, num_rows)
        assert (np.diff(rows) > 0).all()
        assert rows[0] >= 0 and rows[-1] < num_rows


def some_of(right):
    """Up to three arguments, most of them right."""
    value = {
        name: st.sampled_from([*values * (400 // len(values)), *ANYTHING] if values else ANYTHING)
        for name, values in right.items()
    }
    return st.lists(st.sampled_from(sorted(right)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: value[name] for name in names})
    )


def fuzz(examples):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )


def few_digits() -> Dataset:
    """Eight rows of each of three classes."""
    dataset = load_digits_dataset("train")
    labels = np.array(dataset["label"])
    return dataset.select(np.sort(np.concatenate([np.flatnonzero(labels == label)[:8] for label in range(3)])))
