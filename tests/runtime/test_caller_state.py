"""Calls give the same rows whatever the caller has set in torch and numpy, and leave it as it was."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_clipselect import (
    InputError,
    load_adapters,
    sample_diversity_score,
    select_dataset,
    select_embeddings,
    semantic_alignment_score,
)
from hf_clipselect.runtime.caller_state import own_settings


@contextmanager
def changed(now: Any, setter: Callable[[Any], None], value: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(now)


STATES: dict[str, Callable[[], AbstractContextManager]] = {
    "nothing": nullcontext,
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: changed(torch.float32, torch.set_default_dtype, torch.float64),
    "float16": lambda: changed(torch.float32, torch.set_default_dtype, torch.float16),
    "default device": lambda: changed(None, torch.set_default_device, "meta"),
    "default device cpu": lambda: changed(None, torch.set_default_device, "cpu"),
    "meta": lambda: torch.device("meta"),
    "deterministic": lambda: changed(False, torch.use_deterministic_algorithms, True),
    "anomaly": torch.autograd.detect_anomaly,
    "numpy raises": lambda: np.errstate(all="raise"),
    "no stderr": lambda: redirect_stderr(None),
    "products": lambda: changed("highest", torch.set_float32_matmul_precision, "medium"),
}


def state() -> dict[str, Any]:
    return {
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "numpy": np.geterr(),
        "stderr": sys.stderr,
        "products": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "random": torch.random.get_rng_state().tolist(),
    }


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=240)
    texts = rng.normal(size=(4, 16)).astype(np.float32)
    return texts[labels] + rng.normal(size=(240, 16)).astype(np.float32), texts, labels


def results(dataset: Dataset, clip_folder: Path, adapter: Path) -> dict[str, list]:
    """What every public function returns."""
    images, texts, labels = arrays()
    trained = select_embeddings(images, texts, labels, adaptation="always", num_train_epochs=2, selection_ratio=0.2)
    run = select_dataset(dataset, model_name_or_path=str(clip_folder), adaptation="off", use_cpu=True)
    weights = load_adapters(adapter).state_dict()
    loop = select_embeddings(images, texts, labels, objective="released", solver="sgd")
    return {
        "embeddings": trained.scores["sas"][:] + trained.selected.tolist(),
        "at": trained.at(0.5).selected.tolist(),
        "sgd": loop.at(0.4).selected.tolist(),
        "dataset": run.scores["sas"][:] + run.scores["sds"][:] + run.selected.tolist(),
        "alignment": semantic_alignment_score(images, texts, labels).tolist(),
        "diversity": sample_diversity_score(images, labels).tolist(),
        "adapters": [tensor.double().sum().item() for tensor in weights.values()],
        "dtypes": sorted({str(tensor.dtype) for tensor in weights.values()}),
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is made once for all the states: adapters, and the results with no state set."""
    return {"folder": tmp_path_factory.mktemp("adapters")}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", STATES)
def test_same_rows_and_state(name: str, kept: dict[str, Any], images_dataset: Dataset, clip_folder: Path) -> None:
    run = {"model_name_or_path": str(clip_folder), "use_cpu": True, "output_dir": kept["folder"]}
    if "results" not in kept:
        select_dataset(images_dataset, adaptation="always", num_train_epochs=1, **run)
        kept["results"] = results(images_dataset, clip_folder, kept["folder"] / "adapter")
    with STATES[name]():
        before = state()
        found = results(images_dataset, clip_folder, kept["folder"] / "adapter")
        assert state() == before
        with pytest.raises(InputError):
            select_embeddings(*arrays(), selection_ratio=7.0)
        with pytest.raises(InputError, match="holds another run"):
            select_dataset(images_dataset.select(range(50)), **run)
        assert state() == before
    assert found == kept["results"]


def test_arrays_of_inference_mode() -> None:
    images, texts, labels = arrays()
    expected = select_embeddings(images, texts, labels, adaptation="always", num_train_epochs=1)
    with torch.inference_mode():
        given = [torch.tensor(array) for array in (images, texts, labels)]
        found = select_embeddings(*given, adaptation="always", num_train_epochs=1)
        alignment = semantic_alignment_score(*given)
    assert (
        found.selected.tolist() == expected.selected.tolist() and found.scores["sas"][:] == expected.scores["sas"][:]
    )
    assert alignment.tolist() == semantic_alignment_score(images, texts, labels).tolist()
    assert sample_diversity_score(given[0], given[2]).tolist() == sample_diversity_score(images, labels).tolist()


def test_calls_that_overlap_give_back_what_the_first_one_found() -> None:
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with own_settings():
            inside.set()
            leave.wait()

    with STATES["float64"]():
        thread = threading.Thread(target=first)
        thread.start()
        inside.wait()
        with own_settings():
            leave.set()
            thread.join()
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float64
