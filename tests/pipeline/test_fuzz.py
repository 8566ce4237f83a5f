"""Arguments of every kind, right and wrong, from Python: a right result, or one sentence."""

import contextlib

import numpy as np
import pytest
import torch
from datasets import Dataset
from fuzzed import ANYTHING, OF_DATASETS, RIGHT, few_digits, fuzz, is_right, sentence_of, some_of
from hypothesis import given
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


@pytest.fixture(scope="module")
def digits():
    return few_digits()


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
