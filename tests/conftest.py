"""What all tests share: no network, a cache of their own, a small CLIP built in code, a few images, the real data if
there.
"""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


# Before any Hugging Face library is imported: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="clipselect-hf-")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from interrupted import ForkingClient
from made_reports import make_eight_report, make_eight_rows
from PIL import Image as PILImage
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from hf_clipselect.pipeline.provenance import origin


atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--printed_file", type=Path, help='File for what tests record under "printed", as Markdown.')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first: pytest-xdist gives out files in this order, and short ones fill the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Spares the garbage collector what was imported; accelerate makes it look through everything after a training."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Shows what tests record under "printed": what a test prints in a worker of pytest-xdist reaches nobody."""
    printed = {
        report.nodeid: text
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == "printed" and report.when == "call"
    }
    for test, text in printed.items():
        terminalreporter.section(test)
        terminalreporter.write_line(text)
    if config.option.printed_file:
        head = origin(["pytest", *config.invocation_params.args], REPOSITORY, "torch", "scikit-learn", "numpy")
        parts = [f"## {test}\n\n```\n{text}\n```\n" for test, text in sorted(printed.items())]
        config.option.printed_file.parent.mkdir(parents=True, exist_ok=True)
        config.option.printed_file.write_text("\n".join([f"{head}\n", *parts]), encoding="utf-8")


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine CLIP checkpoint of 10,000 random weights, with tokenizer and image processor."""
    folder = tmp_path_factory.mktemp("clip")
    alphabet = sorted(ByteLevel.alphabet())
    symbols = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={s: i for i, s in enumerate(symbols)}, merges=[], model_max_length=77)
    start, end = len(symbols) - 2, len(symbols) - 1
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "projection_dim": 8}
    config = CLIPConfig(
        text_config={
            "hidden_size": 12,
            "vocab_size": len(symbols),
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": end,
            **layers,
        },
        vision_config={"hidden_size": 16, "image_size": 16, "patch_size": 8, **layers},
        projection_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def forking_client() -> Iterator[ForkingClient]:
    """One for all files of a pytest worker: it takes ten seconds to start."""
    with ForkingClient() as client:
        yield client


def make_images_dataset() -> Dataset:
    """60 PNG images of three classes whose colours differ, with noise; another integer-free column rides along."""
    rng = np.random.default_rng(0)
    labels = [i % 3 for i in range(60)]
    base = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    pictures = [
        PILImage.fromarray(np.clip(base[label] + rng.normal(0, 30, (12, 10, 3)), 0, 255).astype(np.uint8))
        for label in labels
    ]
    features = Features({"image": Image(), "label": ClassLabel(names=["red thing", "green_thing", "blue thing"])})
    return Dataset.from_dict({"image": pictures, "label": labels}, features=features)


@pytest.fixture
def images_dataset() -> Dataset:
    return make_images_dataset()


@pytest.fixture
def eight_rows() -> Dataset:
    return make_eight_rows()


@pytest.fixture
def eight_report() -> dict:
    return make_eight_report()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real datasets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CLIPSELECT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set CLIPSELECT_DATA to a folder with beans-160px/ and cifar10/")
    return folder
