"""Networks on pixels as the proxy: the same training as of any other, on the rows and networks that a setting has."""

from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from small_sweeps import sweep_of, write_features
from torch import nn

from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines import TrainingDynamics, select_baseline, train_probe
from hf_clipselect.evaluation.baselines.pixel_proxy import train_pixel_proxy
from hf_clipselect.evaluation.baselines.probe import _Probe
from hf_clipselect.evaluation.baselines.proxy import train_proxy
from hf_clipselect.evaluation.baselines.proxy_training import ProxyTraining
from hf_clipselect.evaluation.comparison import METHODS, SweepArguments, settings_of
from hf_clipselect.evaluation.comparison.small_resnet import SmallResNet, as_pixels
from hf_clipselect.evaluation.digits_network import digit_pixels


SHORT = {"num_epochs": 3, "num_runs": 2, "early_epochs": 1, "num_checkpoints": 2}


class HeadAlone(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.head = nn.Linear(width, num_classes)

    def embed(self, pixels):
        return pixels


def assert_same(one, other):
    for field in fields(TrainingDynamics):
        first, second = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second, field.name


def test_a_network_that_is_its_last_layer_is_trained_as_the_probe_is():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    rows = (rng.normal(size=(60, 5)) + 2 * np.eye(3, 5)[labels]).astype(np.float32)
    dynamics = train_pixel_proxy(
        partial(HeadAlone, 5, 3), rows, labels, val_pixels=rows[:7], learning_rate=0.2, batch_size=16, seed=4, **SHORT
    )
    training = ProxyTraining(3, 2, 16, 0.2, 5e-4, "sgd", 1, 2, seed=4)
    accelerator = Accelerator(cpu=True)
    probe = _Probe(rows, rows[:7], 3, accelerator)
    assert_same(dynamics, train_proxy(probe, labels, training, num_val_rows=7, accelerator=accelerator))


def test_photographs_go_through_the_network():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    colours = 255 * np.eye(3)[labels][:, None, None, :] + rng.normal(0, 60, (90, 8, 8, 3))
    images = np.clip(colours, 0, 255).astype(np.uint8)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    new = partial(train_pixel_proxy, partial(SmallResNet, 3), as_inputs=as_pixels, batch_size=16, **SHORT)
    dynamics = new(images, labels, val_pixels=images[:4])
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)
    assert dynamics.features.shape == (90, 64) and dynamics.early_val_features.shape == (4, 64)
    assert dynamics.early_head.shape == (3, 65) and dynamics.train_accuracy > 0.8
    # Of the same images, after the same epochs.
    np.testing.assert_allclose(dynamics.early_features[:4], dynamics.early_val_features, atol=1e-5)
    assert_same(dynamics, new(images, labels, val_pixels=images[:4]))
    with pytest.raises(InputError, match=r"of one shape, got \(8, 8, 3\) and \(4, 4, 3\) for a row"):
        new(images, labels, val_pixels=images[:4, :4, :4])


def test_the_digits_have_a_network_on_their_pixels(tmp_path):
    flags = {"selection_ratio": [0.3], "seeds": [0], "output_dir": str(tmp_path), "num_val_rows": 40}
    [setting] = settings_of(SweepArguments(methods=["el2n", "glister"], **flags))
    dynamics, cost = setting.proxy
    assert dynamics.features.shape == (1297, 128) and dynamics.early_head.shape == (10, 129) and cost.wall_s > 0
    # Four fifths have right labels, and a network of few epochs learns no others.
    assert 0.7 < dynamics.train_accuracy < 0.83
    wrong = np.sort(dynamics.error_norms[setting.is_noisy])
    right = np.sort(dynamics.error_norms[~setting.is_noisy])
    assert np.median(wrong) > right[int(0.95 * len(right))]
    kept = METHODS["el2n"].select(setting, [0.3]).rows[0.3]
    by_hand = select_baseline(
        "el2n",
        setting.embeddings.images,
        setting.labels,
        selection_ratio=0.3,
        class_balance="proportional",
        dynamics=dynamics,
    )
    assert np.array_equal(kept, by_hand.selected)
    told = METHODS["el2n"].columns(setting)
    assert told == {"settings": "proxy=network 64-128-10 on pixels of 10 epochs", "settings_from": "-"}
    # Found again: nothing is trained twice.
    [again] = settings_of(SweepArguments(methods=["el2n"], **flags))
    assert_same(dynamics, again.proxy[0]) and again.cells.num_stored == 0


def test_glister_validates_by_the_same_kind_of_proxy_on_rows_that_it_has_not_learnt(tmp_path):
    flags = {"selection_ratio": [0.3], "seeds": [0], "output_dir": str(tmp_path), "num_val_rows": 40}
    [setting] = settings_of(SweepArguments(methods=["glister"], **flags))
    dynamics, _ = setting.validated_proxy
    assert len(setting.validation_rows) == 40
    assert dynamics.features.shape == (1257, 128) and dynamics.early_val_features.shape == (40, 128)
    others = np.setdiff1d(np.arange(1297), setting.validation_rows)
    assert np.array_equal(setting.rows_to_validate, others)
    pixels = digit_pixels(load_digits_dataset("train"))
    by_hand = setting.train_proxy(others, setting.validation_rows)
    assert_same(dynamics, by_hand)
    assert np.array_equal(setting._pixels, pixels)
    kept = METHODS["glister"].select(setting, [0.3]).rows[0.3]
    assert len(kept) == 389 and not np.isin(kept, setting.validation_rows).any()
    assert setting.is_noisy[kept].mean() < 0.05
    assert METHODS["glister"].columns(setting)["settings"] == "proxy=network 64-128-10 on pixels of 10 epochs"


def test_a_file_without_images_has_the_probe_and_one_with_images_their_network(tmp_path):
    path = write_features(tmp_path / "features.npz")
    [setting] = settings_of(sweep_of(path, tmp_path))
    assert setting.proxy_name == "linear probe"
    assert_same(setting.proxy[0], train_probe(setting.embeddings.images, setting.labels, seed=0))
    with np.load(path) as file:
        arrays = dict(file)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (len(arrays[f"{split}_labels"]), 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "photographs.npz", **arrays)
    [setting] = settings_of(sweep_of(tmp_path / "photographs.npz", tmp_path))
    assert setting.proxy_name == "small_resnet on pixels of 10 epochs"
    dynamics = setting.train_proxy(np.arange(60), np.arange(100, 110))
    assert dynamics.features.shape == (60, 64) and dynamics.early_val_features.shape == (10, 64)
