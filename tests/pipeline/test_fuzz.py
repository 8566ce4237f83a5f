"""Arguments of every kind, right and wrong, from Python and the command line: a right result, or one sentence."""

import contextlib
import io
import re

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel

from hf_clipselect import (
    InputError,
    SelectionResult,
    load_adapters,
    load_pruned,
    sample_diversity_score,
    select_dataset,
    select_embeddings,
    semantic_alignment_score,
)
from hf_clipselect.cli import main
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
RNG = np.random.default_rng(0)
IMAGES, TEXTS, LABELS = RNG.normal(size=(24, 5)), RNG.normal(size=(3, 5)), np.arange(24) % 3
ARRAYS = [
    IMAGES,
    IMAGES.astype("f4"),
    IMAGES.tolist(),
    torch.from_numpy(IMAGES),
    torch.from_numpy(IMAGES).bfloat16(),
    IMAGES * 1e200,
    IMAGES * 1e-200,
    IMAGES.astype("f2") * np.float16(1e-4),
    (IMAGES * 100).astype(np.int8),
    IMAGES.astype(np.longdouble) * 1e-320,
    IMAGES + 1j,
    IMAGES > 0,
    IMAGES.astype(object),
    IMAGES.astype(str),
    IMAGES * np.nan,
    IMAGES * np.inf,
    IMAGES * 0,
    IMAGES[:0],
    IMAGES[:, :0],
    IMAGES[0],
    IMAGES[None],
    torch.from_numpy(IMAGES) > 0,
    torch.from_numpy(IMAGES) + 1j,
    torch.from_numpy(IMAGES).to_sparse(),
    torch.empty(24, 5, device="meta"),
    torch.from_numpy(IMAGES).requires_grad_(),
    torch.quantize_per_tensor(torch.from_numpy(IMAGES).float(), 0.1, 0, torch.qint8),
    [*IMAGES.tolist()[:-1], [1.0]],
    np.ma.masked_less(IMAGES, 0),
    IMAGES.astype([("x", "f8")]),
]
LISTS = [
    LABELS,
    LABELS.tolist(),
    LABELS.astype(np.uint8),
    torch.from_numpy(LABELS),
    LABELS * 1.0,
    LABELS - 1,
    LABELS + 2**40,
    LABELS.astype(str),
    LABELS[:5],
    LABELS[:, None],
    LABELS > 1,
    [0, [1]],
    [2**70] * 24,
]


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


@pytest.fixture(scope="module")
def digits():
    """Eight rows of each of three classes."""
    dataset = load_digits_dataset("train")
    labels = np.array(dataset["label"])
    return dataset.select(np.sort(np.concatenate([np.flatnonzero(labels == label)[:8] for label in range(3)])))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Relative names of files and folders are ones of a folder of the test."""
    folder = tmp_path_factory.mktemp("place")
    with contextlib.chdir(folder):
        yield folder


@pytest.mark.slow
def test_select_dataset(digits, place):
    outcomes = {True: 0, False: 0}

    @fuzz(110)
    @given(some_of(RIGHT | OF_DATASETS))
    def call(arguments):
        defaults = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "off", "dataloader_num_workers": 0}
        try:
            is_right(select_dataset(digits, **(defaults | arguments)), 24)
        except InputError as error:
            sentence_of(error)
            outcomes[False] += 1
        else:
            outcomes[True] += 1

    call()
    assert min(outcomes.values()) > 30


@pytest.mark.slow
def test_select_embeddings(place):
    outcomes = {True: 0, False: 0}
    images = st.sampled_from([*[IMAGES] * 300, *ARRAYS, *ANYTHING])
    texts = st.sampled_from(
        [*[TEXTS] * 300, *(rows[:3] if isinstance(rows, (np.ndarray, list)) else rows for rows in ARRAYS)]
    )
    labels = st.sampled_from([*[LABELS] * 300, *LISTS, *ANYTHING])
    options = some_of(
        RIGHT | {"groups": [["a", "b", "c"] * 8], "class_names": [["0", "1", "zero"]], "num_clusters": [2]}
    )

    @fuzz(220)
    @given(images, texts, labels, options)
    def call(images, texts, labels, arguments):
        try:
            is_right(select_embeddings(images, texts, labels, **({"adaptation": "off"} | arguments)), len(images))
        except InputError as error:
            sentence_of(error)
            outcomes[False] += 1
        else:
            outcomes[True] += 1

    call()
    assert min(outcomes.values()) > 30


def words(value):
    """A value as a word of a command line."""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def command_lines(folder):
    """A command line, and the lines of a YAML file."""
    right = {
        name: values for name, values in (RIGHT | OF_DATASETS).items() if name not in ("class_quotas", "class_names")
    }
    right |= {
        "class_quotas_file": ["quotas.yaml"],
        "class_names_file": ["names.txt"],
        "train_split_name": ["train"],
        "dataset_name": [str(folder / "digits")],
        "max_train_samples": [20],
        "must_keep": ["rows.txt"],
        "must_drop": [],
    }
    plain = [
        value for value in ANYTHING if isinstance(value, (str, int, float, list, type(None))) and value != 10**400
    ]

    def value(name):
        return st.sampled_from([*right[name] * (200 // max(len(right[name]), 1)), *plain])

    some = st.lists(st.sampled_from(sorted(right)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: value(name) for name in names})
    )
    return st.tuples(some, some)


@pytest.mark.slow
def test_command_line(digits, place):
    digits.save_to_disk(place / "digits")
    (place / "quotas.yaml").write_text("zero: 2\n")
    (place / "names.txt").write_text("\n".join(map(str, range(10))))
    (place / "rows.txt").write_text("0\n5\n")
    outcomes = {0: 0, 2: 0}
    usual = [
        "--dataset_name",
        "digits",
        "--model_name_or_path",
        "embedded/tiny-clip",
        "--adaptation",
        "off",
        "--use_cpu",
    ]
    usual += ["--dataloader_num_workers", "0", "--overwrite_output_dir"]

    @fuzz(80)
    @given(command_lines(place))
    def call(given):
        flags, lines = given
        (place / "run.yaml").write_text(yaml.safe_dump({name: _plain(value) for name, value in lines.items()}))
        flags = [part for name, value in flags.items() for part in (f"--{name}", words(value))]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(["select", *usual, "--config", "run.yaml", *flags])
            except SystemExit as stopped:
                code = stopped.code
        said = [line for line in err.getvalue().replace("\r", "\n").split("\n") if line.startswith("error: ")]
        assert code in outcomes and len(said) == (code == 2), (code, err.getvalue()[-2000:])
        assert "Traceback" not in err.getvalue()
        assert not any(UNPRINTABLE.search(line) for line in [*said, *out.getvalue().splitlines()])
        assert code == 2 or re.search(r"rows?; CLIP agrees", out.getvalue())
        outcomes[code] += 1

    call()
    assert min(outcomes.values()) > 20


def _plain(value):
    return value.item() if isinstance(value, np.generic) else list(value) if isinstance(value, tuple) else value


def test_other_functions_of_python(digits, place):
    result = select_embeddings(IMAGES, TEXTS, LABELS)
    result.save("saved")
    model = CLIPModel(
        CLIPConfig(
            text_config={
                "num_hidden_layers": 1,
                "hidden_size": 8,
                "num_attention_heads": 1,
                "intermediate_size": 8,
                "vocab_size": 9,
            },
            vision_config={"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8},
        )
    )
    calls = {
        "semantic_alignment_score images": lambda it: semantic_alignment_score(it, TEXTS, LABELS),
        "semantic_alignment_score texts": lambda it: semantic_alignment_score(IMAGES, it, LABELS),
        "semantic_alignment_score labels": lambda it: semantic_alignment_score(IMAGES, TEXTS, it),
        "semantic_alignment_score kind": lambda it: semantic_alignment_score(IMAGES, TEXTS, LABELS, kind=it),
        "sample_diversity_score images": lambda it: sample_diversity_score(it, LABELS),
        "sample_diversity_score labels": lambda it: sample_diversity_score(IMAGES, it),
        "sample_diversity_score fraction": lambda it: sample_diversity_score(IMAGES, LABELS, neighbor_fraction=it),
        "sample_diversity_score number": lambda it: sample_diversity_score(IMAGES, LABELS, num_neighbors=it),
        "load_pruned repo": lambda it: load_pruned(it, ratio=0.3),
        "load_pruned ratio": lambda it: load_pruned("saved", ratio=it),
        "load_pruned count": lambda it: load_pruned("saved", count=it),
        "load_pruned revision": lambda it: load_pruned("me/x", ratio=0.3, revision=it),
        "load_adapters repo": lambda it: load_adapters(it),
        "load_adapters base_model": lambda it: load_adapters("saved", base_model=it),
        "load_adapters revision": lambda it: load_adapters("me/x", base_model=model, revision=it),
        "at ratio": result.at,
        "at count": lambda it: result.at(count=it),
        "apply": result.apply,
        "save folder": result.save,
        "save dataset": lambda it: result.save("saved", it),
        "push_to_hub": result.push_to_hub,
        "push_to_hub dataset": lambda it: result.push_to_hub("me/x", it),
        "push_to_hub private": lambda it: result.push_to_hub("me/x", private=it),
        "push_to_hub adapter_dir": lambda it: result.push_to_hub("me/x", adapter_dir=it),
        "from_folder": SelectionResult.from_folder,
        "from_hub": SelectionResult.from_hub,
        "from_hub revision": lambda it: SelectionResult.from_hub("me/x", it),
        "select_dataset": lambda it: select_dataset(it, model_name_or_path="embedded/tiny-clip"),
        "select_dataset column": lambda it: select_dataset(
            digits, label_column_name=it, adaptation="off", output_dir=""
        ),
    }
    for name, call in calls.items():
        for value in [*ANYTHING, *(ARRAYS if "images" in name or "texts" in name else LISTS)]:
            try:
                given_back = call(value)
            except InputError as error:
                sentence_of(error)
            except Exception as error:
                raise AssertionError(f"{name} of {value!r:.80}") from error
            else:
                if isinstance(given_back, np.ndarray):
                    assert given_back.dtype == np.float32 and np.isfinite(given_back).all(), name
                assert isinstance(given_back, (np.ndarray, SelectionResult, Dataset, type(None))), name
