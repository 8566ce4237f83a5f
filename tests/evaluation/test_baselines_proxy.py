"""What a proxy's training takes down is what a slow reader of its weights finds, for a probe and for image
classifiers.
"""

import logging
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from forked_recipes import run_as_two
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from transformers import AutoModelForImageClassification, ResNetConfig, ViTConfig, ViTImageProcessorPil

from hf_clipselect import InputError
from hf_clipselect.evaluation.baselines import TrainingDynamics, train_image_classifier, train_probe
from hf_clipselect.evaluation.baselines.probe import _Probe
from hf_clipselect.evaluation.baselines.proxy import train_proxy
from hf_clipselect.evaluation.baselines.proxy_training import ProxyTraining


def clusters(num_rows=90, num_classes=3, embed_dim=6, *, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_rows) % num_classes
    embeds = rng.normal(size=(num_rows, embed_dim)) + 3 * rng.normal(size=(num_classes, embed_dim))[labels] + 2
    return embeds.astype(np.float32), labels


class LoggedProbe(_Probe):
    """A probe that keeps what it was asked for, and its weights at that time: before each step, as the loop reads
    ahead of none.
    """

    def new_model(self):
        self.model, self.passes = super().new_model(), []
        return self.model

    def batches(self, batches, **options):
        self.passes.append([])
        for rows, inputs in zip(batches, super().batches(batches, **options), strict=True):
            weights = torch.cat([self.model.head.weight, self.model.head.bias[:, None]], dim=1).detach().clone()
            self.passes[-1].append((rows, weights.double()))
            yield inputs


def logits_and_gradient(rows, labels, weights):
    weights = weights.clone().requires_grad_()
    logits = rows @ weights[:, :-1].T + weights[:, -1]
    functional.cross_entropy(logits, labels).backward()
    return logits.detach(), weights.grad


def test_what_is_taken_down_is_what_the_weights_show():
    """Every measure, from the weights of each step in float64 by autograd, row for row."""
    embeds, labels = clusters(40)
    training = ProxyTraining(4, 1, 16, 0.5, 0.0, "sgd", 2, 2, seed=0)
    probe = LoggedProbe(embeds, None, 3, Accelerator(cpu=True))
    dynamics = train_proxy(probe, labels, training, num_val_rows=0, accelerator=Accelerator(cpu=True))
    # Two epochs, a look at the early norms, two at MoSo, two epochs, two looks.
    assert len(probe.passes) == 9
    epochs, early, checkpoints = (
        (probe.passes[i] for i in (0, 1, 5, 6)),
        probe.passes[2],
        (probe.passes[3], probe.passes[7]),
    )
    rows, targets = torch.from_numpy(embeds).double(), torch.from_numpy(labels)

    margins, is_right, steps = np.zeros((4, 40)), np.zeros((4, 40), dtype=bool), []
    for epoch, batches in enumerate(epochs):
        assert sorted(np.concatenate([batch for batch, _ in batches])) == list(range(40))
        assert [len(batch) for batch, _ in batches] == [
            14,
            13,
            13,
        ]  # three of nearly one size, none of the 8 left over
        for batch, weights in batches:
            steps.append((batch, weights))
            for row in batch:
                logits, _ = logits_and_gradient(rows[row][None], targets[row][None], weights)
                margins[epoch, row] = logits[0, labels[row]].item() - np.delete(logits[0].numpy(), labels[row]).max()
                is_right[epoch, row] = logits[0].argmax() == labels[row]
    np.testing.assert_allclose(dynamics.margins, margins.mean(axis=0), atol=1e-5)
    forgotten = (is_right[:-1] & ~is_right[1:]).sum(axis=0)
    assert dynamics.forgetting_events.tolist() == np.where(is_right.any(axis=0), forgotten, 4).tolist()
    assert dynamics.train_accuracy == pytest.approx(is_right[3].mean())

    weights = early[0][1]
    for row in range(40):
        logits, gradient = logits_and_gradient(rows[row][None], targets[row][None], weights)
        error = logits[0].softmax(dim=0) - functional.one_hot(targets[row], 3)
        assert dynamics.error_norms[row] == pytest.approx(error.norm().item(), abs=1e-5)
        assert dynamics.gradient_norms[row] == pytest.approx(gradient.norm().item(), rel=1e-5)
    np.testing.assert_allclose(dynamics.early_head, weights, atol=1e-6)
    assert dynamics.early_features is embeds and dynamics.features is embeds

    moso = np.zeros(40)
    for looks, epoch in zip(checkpoints, (2, 4), strict=True):
        weights = looks[0][1]
        gradients = [logits_and_gradient(rows[i][None], targets[i][None], weights)[1].numpy() for i in range(40)]
        # By the weights of a layer that takes the rows about their mean.
        gradients = [
            np.concatenate([g[:, :-1] - g[:, -1:] * embeds.mean(axis=0), g[:, -1:]], axis=1) for g in gradients
        ]
        rate = 0.5 * (1 + np.cos(np.pi * (epoch * 3 - 1) / 12)) / 2
        for row in range(40):
            others = np.delete(gradients, row, axis=0).mean(axis=0)
            moso[row] += 12 / 40 * rate * np.sum(gradients[row] * others) / 2
    np.testing.assert_allclose(dynamics.moso, moso, rtol=1e-3, atol=1e-6)

    # The first two steps are those of gradient descent with momentum.
    velocity = 0.0
    for step in range(2):
        batch, weights = steps[step]
        velocity = 0.9 * velocity + logits_and_gradient(rows[batch], targets[batch], weights)[1]
        rate = 0.5 * (1 + np.cos(np.pi * step / 12)) / 2
        np.testing.assert_allclose(steps[step + 1][1], weights - rate * velocity, atol=1e-6)


def same(one: TrainingDynamics, other: TrainingDynamics) -> dict[str, bool]:
    return {field.name: np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)}


SHORT = {"num_epochs": 4, "num_runs": 2, "num_checkpoints": 2, "early_epochs": 1}


def test_a_probe_follows_its_seed_alone():
    embeds, labels = clusters()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    one = train_probe(embeds, labels, val_image_embeds=embeds[:7], **SHORT)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    torch.manual_seed(5)
    again = train_probe(3 * torch.from_numpy(embeds), torch.from_numpy(labels), val_image_embeds=embeds[:7], **SHORT)
    differing = [name for name, equal in same(one, again).items() if not equal]
    # Rows three times as long have the same direction but for the last digits.
    for name in differing:
        np.testing.assert_allclose(getattr(one, name), getattr(again, name), rtol=1e-3, atol=1e-5)
    exactly = train_probe(embeds, labels, val_image_embeds=embeds[:7], **SHORT)
    assert all(same(one, exactly).values())
    other = train_probe(embeds, labels, val_image_embeds=embeds[:7], seed=1, **SHORT)
    assert not same(one, other)["error_norms"] and same(one, other)["features"]


def test_a_probe_takes_embeddings_without_their_mean():
    embeds, labels = clusters()
    dynamics = train_probe(embeds, labels, val_image_embeds=embeds[:7], **SHORT)
    units = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    centred = units - units.mean(axis=0)
    expected = centred / np.sqrt(np.square(centred).sum(axis=1).mean())
    np.testing.assert_allclose(dynamics.features, expected, atol=1e-5)
    np.testing.assert_allclose(dynamics.early_val_features, expected[:7], atol=1e-5)
    assert {array.dtype for array in asdict(dynamics).values() if isinstance(array, np.ndarray)} == {
        np.dtype("float32")
    }


def test_more_runs_are_averaged_and_change_nothing_else():
    embeds, labels = clusters()
    options = {**SHORT, "num_runs": 1}
    alone = train_probe(embeds, labels, **options)
    both = train_probe(embeds, labels, **SHORT)
    equal = same(alone, both)
    assert not equal.pop("error_norms") and not equal.pop("gradient_norms") and all(equal.values())
    # What the second run adds is again an error norm.
    second = 2 * both.error_norms - alone.error_norms
    assert (second > 0).all() and (second < np.sqrt(2) + 1e-5).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 0}, "num_epochs must be a whole number of at least 1, got 0"),
        ({"num_runs": 1.5}, "num_runs must be a whole number of at least 1, got 1.5"),
        (
            {"num_epochs": 3, "early_epochs": 4, "num_checkpoints": 1},
            "early_epochs must be at most num_epochs, 3, got 4; train longer",
        ),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0, got 0.0"),
        ({"learning_rate": 1e30, "weight_decay": 10.0}, "diverged in epoch . with learning_rate 1e[+]30; lower it"),
        ({"val_image_embeds": np.ones((2, 3))}, "must share their last dimension, got 6 and 3"),
        ({"labels": np.arange(89)}, "labels must be 90 integers"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    embeds, labels = clusters()
    with pytest.raises(InputError, match=message):
        train_probe(**{"image_embeds": embeds, "labels": labels, **SHORT, **options})


def test_one_class_is_no_training():
    with pytest.raises(InputError, match="needs? at least two, got 1"):
        train_probe(np.ones((3, 4)), np.zeros(3, dtype=np.int64))


def test_a_proxy_that_learnt_nothing_is_told(caplog):
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        train_probe(rng.normal(size=(600, 8)), rng.integers(0, 3, 600), learning_rate=1e-6, **SHORT)
    assert "The proxy learnt next to nothing" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        train_probe(*clusters(), **SHORT)
    assert caplog.text == ""


# Image classifiers

RESNET = ResNetConfig(
    embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", downsample_in_first_stage=False
)
VIT = ViTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=12, patch_size=4
)
PROCESSOR = ViTImageProcessorPil(size={"height": 12, "width": 12})
QUICK = {"num_epochs": 6, "num_runs": 1, "num_checkpoints": 2, "batch_size": 16, "image_processor": PROCESSOR}


def with_labels(dataset: Dataset, labels: np.ndarray) -> Dataset:
    return (
        dataset.remove_columns("label")
        .add_column("label", labels.tolist())
        .cast_column("label", dataset.features["label"])
    )


@pytest.mark.parametrize(
    ("config", "options"), [(RESNET, {}), (VIT, {"optimizer": "adamw", "learning_rate": 5e-3})], ids=["resnet", "vit"]
)
def test_any_image_classifier_is_a_proxy(images_dataset, config, options):
    labels = np.array(images_dataset["label"])
    wrong = np.arange(60) % 10 == 4
    noisy = np.where(wrong, (labels + 1) % 3, labels)
    dynamics = train_image_classifier(
        with_labels(images_dataset, noisy), config, val_dataset=images_dataset.select(range(7)), **QUICK, **options
    )
    assert dynamics.features.shape == (60, 16) and dynamics.early_head.shape == (3, 17)
    assert dynamics.early_val_features.shape == (7, 16)
    # In evaluation mode an image gives the same features wherever it stands.
    np.testing.assert_allclose(dynamics.early_val_features, dynamics.early_features[:7], atol=1e-4)
    assert not np.array_equal(dynamics.features, dynamics.early_features)
    assert dynamics.train_accuracy > 0.75
    assert roc_auc_score(wrong, -dynamics.margins) > 0.95
    assert roc_auc_score(wrong, dynamics.error_norms) > 0.75


def test_a_pretrained_classifier_gets_a_head_of_its_own_and_follows_the_seed(images_dataset, tmp_path):
    """From a folder with its image processor; the norms are those of the model, loaded and trained by nobody."""
    torch.manual_seed(0)
    ten = type(RESNET).from_dict({**RESNET.to_dict(), "num_labels": 10})
    AutoModelForImageClassification.from_config(ten).save_pretrained(tmp_path)
    PROCESSOR.save_pretrained(tmp_path)
    options = {**QUICK, "num_epochs": 1, "num_checkpoints": 1, "early_epochs": 1, "image_processor": None}
    one, again = (train_image_classifier(images_dataset, str(tmp_path), **options) for _ in range(2))
    assert all(same(one, again).values())
    assert one.early_head.shape == (3, 17)
    # The recorded features and head give the recorded errors.
    logits = torch.from_numpy(one.early_features @ one.early_head[:, :-1].T + one.early_head[:, -1])
    errors = logits.softmax(dim=1) - functional.one_hot(torch.tensor(images_dataset["label"]), 3)
    np.testing.assert_allclose(one.error_norms, errors.norm(dim=1), atol=1e-5)


def test_images_and_models_that_do_not_serve_are_refused(images_dataset):
    with pytest.raises(InputError, match="A configuration does not say how images are prepared; pass image_processor"):
        train_image_classifier(images_dataset, RESNET)
    broken = images_dataset.to_list()
    broken[5] = {**broken[5], "image": {"bytes": b"no image", "path": None}}
    with pytest.raises(InputError, match="Row 5 of the dataset: Cannot read image"):
        train_image_classifier(Dataset.from_list(broken, features=images_dataset.features), RESNET, **QUICK)


SCRIPT = """
import os, sys
import numpy as np
from hf_clipselect.evaluation.baselines import train_probe

given = np.load(sys.argv[1])
dynamics = train_probe(
    given["embeds"], given["labels"], num_epochs=4, num_runs=2, num_checkpoints=2, val_image_embeds=given["embeds"][:5]
)
np.savez(sys.argv[2] + os.environ["RANK"], **vars(dynamics))
"""


@pytest.mark.slow
def test_two_processes_take_down_what_one_does(tmp_path):
    embeds, labels = clusters(101)
    np.savez(tmp_path / "given.npz", embeds=embeds, labels=labels)
    script = tmp_path / "probe.py"
    script.write_text(SCRIPT)
    for process in run_as_two(script, tmp_path / "given.npz", tmp_path / "found", cwd=tmp_path):
        assert process.returncode == 0, process.stderr[-3000:]
    alone = train_probe(embeds, labels, num_epochs=4, num_runs=2, num_checkpoints=2, val_image_embeds=embeds[:5])
    ranks = [np.load(tmp_path / f"found{rank}.npz") for rank in range(2)]
    for field in fields(alone):
        assert np.array_equal(ranks[0][field.name], ranks[1][field.name])
        np.testing.assert_allclose(ranks[0][field.name], getattr(alone, field.name), rtol=1e-3, atol=1e-5)
