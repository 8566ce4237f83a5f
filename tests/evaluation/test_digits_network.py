import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.digits_network import Networks, _batches, digit_pixels, digits_accuracy, train_networks
from hf_clipselect.evaluation.robustness import corrupt_images


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    train = load_digits_dataset("train")
    return digit_pixels(train), np.array(train["label"])


def test_pixels_are_those_of_the_images(digits):
    pixels, _ = digits
    train = load_digits_dataset("train")
    assert pixels.shape == (1297, 64) and pixels.dtype == np.float32
    assert pixels.min() == 0 and pixels.max() == 1
    assert np.array_equal(pixels[7].reshape(8, 8), np.asarray(train[7]["image"], dtype=np.float32) / 255)


def test_pixels_of_damaged_images(digits):
    pixels, _ = digits
    damaged = corrupt_images(load_digits_dataset("train").select(range(10)), rate=0.5, seed=0)
    changed = (digit_pixels(damaged) != pixels[:10]).any(axis=1)
    assert np.array_equal(changed, np.array(damaged["corruption"]) != "none")


def test_logits_by_hand_on_four_rows():
    networks = Networks(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.zero_()
        networks.weights[0][0, 0, 5] = 2  # hidden unit 5 of the first network: 2 * pixel 0 - 1
        networks.biases[0][0, 0, 5] = -1
        networks.weights[1][0, 5, 3] = 10
        networks.biases[1][1, 0, 9] = 7  # the second network answers 9 whatever it sees
    pixels = torch.zeros(4, 64)
    pixels[:, 0] = torch.tensor([0.0, 0.5, 0.75, 1.0])
    logits = networks(pixels.expand(2, 4, 64))
    assert logits[0, :, 3].tolist() == [0, 0, 5, 10]
    assert logits[1, :, 9].tolist() == [7, 7, 7, 7]
    assert logits.abs().sum() == 15 + 28


def test_side_by_side_as_one_by_one(digits):
    """Against networks of `nn.Linear`, trained one after the other from the same weights on the same batches."""
    pixels, labels = torch.from_numpy(digits[0][:200]), torch.from_numpy(digits[1][:200])
    together = train_networks(pixels, labels, seed=4, num_networks=3, num_steps=30)
    generator = torch.Generator().manual_seed(4)
    start = Networks(3, generator)
    batches = list(_batches(200, 3, 30, generator))
    for number in range(3):
        alone = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        for layer, position in ((0, 0), (2, 1)):
            alone[layer].weight.data = start.weights[position][number].detach().T.clone()
            alone[layer].bias.data = start.biases[position][number, 0].detach().clone()
        optimizer = torch.optim.Adam(alone.parameters(), lr=1e-3)
        for rows in batches:
            optimizer.zero_grad()
            functional.cross_entropy(alone(pixels[rows[number]]), labels[rows[number]]).backward()
            optimizer.step()
        moved = (together.weights[0] - start.weights[0]).abs().max()
        assert moved > 0.01
        torch.testing.assert_close(together.weights[0][number], alone[0].weight.T, atol=2e-4, rtol=0)
        torch.testing.assert_close(together.biases[1][number, 0], alone[2].bias, atol=2e-4, rtol=0)


def test_initial_weights_are_drawn_as_those_of_linear_layers():
    networks = Networks(50, torch.Generator().manual_seed(1))
    for weight, fan_in in zip(networks.weights, (64, 128), strict=True):
        bound = fan_in**-0.5
        assert weight.abs().max() <= bound and weight.abs().max() > 0.99 * bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not torch.equal(networks.weights[0][0], networks.weights[0][1])


@pytest.mark.parametrize(("num_rows", "size"), [(300, 128), (128, 128), (3, 3), (1, 1)])
def test_batches_are_full_and_visit_rows_once_an_epoch(num_rows, size):
    per_epoch = num_rows // size
    batches = list(_batches(num_rows, 2, 3 * per_epoch, torch.Generator().manual_seed(0)))
    assert all(batch.shape == (2, size) for batch in batches)
    for epoch in range(3):
        for rows in torch.cat(batches[epoch * per_epoch : (epoch + 1) * per_epoch], dim=1):
            assert len(set(rows.tolist())) == per_epoch * size


def test_clean_digits_are_learned_and_wrong_labels_cost(digits):
    pixels, labels = digits
    clean = digits_accuracy(pixels, labels, seed=0)
    assert clean >= 0.95
    shuffled = np.random.default_rng(0).permutation(labels)
    assert digits_accuracy(pixels, shuffled, seed=0) <= 0.3
    few = digits_accuracy(pixels[:50], labels[:50], seed=0)
    assert 0.6 < few < clean


def test_it_is_a_mean_of_shares_of_500_rows(digits):
    pixels, labels = digits
    one = digits_accuracy(pixels[:100], labels[:100], seed=0, num_initialisations=1, num_steps=50)
    assert one * 500 == pytest.approx(round(one * 500))
    four = digits_accuracy(pixels[:100], labels[:100], seed=0, num_initialisations=4, num_steps=50)
    assert four * 2000 == pytest.approx(round(four * 2000))


def test_rows_of_one_class_teach_that_class_only(digits):
    pixels, labels = digits
    sevens = np.flatnonzero(labels == 7)
    accuracy = digits_accuracy(pixels[sevens], labels[sevens], seed=0)
    assert accuracy == pytest.approx(np.mean(np.array(load_digits_dataset("test")["label"]) == 7))


def test_the_same_whatever_threads_and_torch_do(digits):
    pixels, labels = digits
    before = torch.get_num_threads()
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = digits_accuracy(pixels[:300], labels[:300], seed=5, num_steps=100)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    torch.set_num_threads(2)
    try:
        again = digits_accuracy(pixels[:300], torch.from_numpy(labels[:300]), seed=5, num_steps=100)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert first == again
    others = {digits_accuracy(pixels[:300], labels[:300], seed=seed, num_steps=100) for seed in range(6, 10)}
    assert others != {first}


@pytest.mark.parametrize("shape", [(0, 64), (3, 63), (64,), (2, 8, 8)])
def test_pixels_of_another_shape(shape):
    with pytest.raises(InputError, match=r"shape \(rows, 64\) with at least one row, got .*digit_pixels"):
        digits_accuracy(np.zeros(shape), np.zeros(len(np.zeros(shape)), dtype=int), seed=0)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 10], [0.0, 1.0, 2.0], [-1, 0, 0]])
def test_labels_that_do_not_fit(labels):
    with pytest.raises(InputError, match="labels must be"):
        digits_accuracy(np.zeros((3, 64)), np.array(labels), seed=0)
