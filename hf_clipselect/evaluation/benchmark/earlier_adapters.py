"""Adapters against what they took at an earlier commit, whose code runs in a process of its own."""

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch

from ...config.arguments import EMBEDDED_MODEL
from ...encoder.backbone import load_backbone
from ...encoder.feature_rows import FeatureRows
from .bench import Bench
from .encoding_speed import cached_features, prompt_features, tiny_backbone
from .measured_rows import EARLIER_COMMIT
from .training_speed import train


REPOSITORY = Path(__file__).resolve().parents[3]
_ARRAYS = ("images", "texts", "labels")
# With the names that the earlier commit has.
_TRAIN_THERE = f"""
import sys, time
import numpy as np, torch
from hf_clipselect.adaptation.decision import adapt
from hf_clipselect.config import AdaptationArguments
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.feature_rows import FeatureRows
from hf_clipselect.launch import make_accelerator

images, texts, labels = (np.load(sys.argv[1] + "/" + name + ".npy") for name in {_ARRAYS})
model, accelerator = load_backbone({EMBEDDED_MODEL!r}).model, make_accelerator()
settings = dict(arguments=AdaptationArguments(adaptation="always"), seed=42, accelerator=accelerator)
start = time.process_time()
adapt(model, FeatureRows([images]), torch.from_numpy(texts), labels, **settings)
print(time.process_time() - start)
"""


def adapters(bench: Bench) -> None:
    """The trial and the final training on the features of all images, at both commits."""
    if (code := code_at(EARLIER_COMMIT)) is None:
        bench.leave_out("adapters", because=f"no git history with {EARLIER_COMMIT} here")
        return
    backbone = tiny_backbone(bench)
    images = cached_features(bench, backbone).take(np.arange(len(bench.images.labels)))
    texts = prompt_features(bench, backbone).numpy()
    for name, array in zip(_ARRAYS, (images, texts, bench.images.labels), strict=True):
        np.save(bench.folder / name, array)
    with tarfile.open(fileobj=io.BytesIO(code)) as files:
        files.extractall(bench.folder / EARLIER_COMMIT, filter="data")
    ours = min(seconds_here(images, texts, bench.images.labels) for _ in range(2))
    bench.report("adapters", ours, seconds_there(bench.folder))


def code_at(commit: str) -> bytes | None:
    """A tar archive of the package at a commit of this repository; `None` where the commit is not to be had."""
    git = ["git", "-C", str(REPOSITORY), "archive", "--format=tar", commit, "hf_clipselect"]
    try:
        done = subprocess.run(git, capture_output=True)
    except FileNotFoundError:  # no git
        return None
    return done.stdout if done.returncode == 0 else None


def seconds_here(images: np.ndarray, texts: np.ndarray, labels: np.ndarray) -> float:
    backbone, start = load_backbone(EMBEDDED_MODEL), time.process_time()
    train(backbone, FeatureRows([images]), torch.from_numpy(texts), labels)
    return time.process_time() - start


def seconds_there(folder: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN_THERE, str(folder)],
        env={**os.environ, "PYTHONPATH": str(folder / EARLIER_COMMIT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"The code of {EARLIER_COMMIT} failed: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])
