"""What a step of training reads is on the device before it, and is what the rows have."""

import numpy as np
import pytest
import torch

from hf_clipselect.adapters import batches
from hf_clipselect.adapters.batches import batches_of, resident_images, resident_texts
from hf_clipselect.encoder.feature_rows import FeatureRows


CPU = torch.device("cpu")


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("rows_ahead", [1, 12, 8192])
def test_batches_hold_their_rows_and_the_texts_of_these(monkeypatch, resident, rows_ahead):
    monkeypatch.setattr(batches, "_ROWS_AHEAD", rows_ahead)
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 6, 40)
    order = np.split(rng.permutation(40), [5, 10, 15, 20, 25, 30, 35, 38])
    images = torch.from_numpy(features) if resident else FeatureRows([features[:7], features[7:]])
    found = list(batches_of(order, images, labels, device=CPU, texts_on=CPU))
    assert len(found) == len(order)
    for batch, rows in zip(found, order, strict=True):
        assert np.array_equal(batch.images, features[rows])
        assert batch.texts.tolist() == sorted(set(labels[rows]))
        assert batch.texts[batch.own_text].tolist() == labels[rows].tolist()
        counts = [labels[rows].tolist().count(text) for text in batch.texts.tolist()]
        torch.testing.assert_close(batch.log_counts, torch.tensor(counts).log())
    assert list(batches_of([], images, labels, device=CPU, texts_on=CPU)) == []


def test_the_next_batches_are_read_before_the_steps_of_the_ones_before_end(monkeypatch):
    monkeypatch.setattr(batches, "_ROWS_AHEAD", 4)
    asked = []

    def order():
        for start in range(0, 12, 2):
            asked.append(start)
            yield np.arange(start, start + 2)

    found = batches_of(order(), torch.eye(12), np.zeros(12, dtype=np.int64), device=CPU, texts_on=CPU)
    next(found)
    assert asked == [0, 2, 4, 6]


def test_on_the_cpu_features_stay_where_they_are():
    images, texts = FeatureRows([np.ones((6, 2), dtype=np.float32)]), torch.ones(1, 3, 2)
    assert resident_images(images, CPU, num_rows_read=100) is images
    assert resident_texts(texts, CPU) is texts


def test_resident_features_are_those_of_the_rows(monkeypatch):
    monkeypatch.setattr(batches, "_ROWS_AHEAD", 4)
    monkeypatch.setattr(batches, "_fits", lambda num_bytes, device: num_bytes <= 10 * 2 * 4)
    values = np.arange(22, dtype=np.float32).reshape(11, 2)
    images = FeatureRows([values[:3], values[3:]])
    assert torch.equal(
        resident_images(images.subset(np.arange(10)), CPU, num_rows_read=10), torch.from_numpy(values[:10])
    )
    assert resident_images(images, CPU, num_rows_read=100) is images  # too large
    few = images.subset(np.arange(10))
    assert resident_images(few, CPU, num_rows_read=9) is few  # not worth it
