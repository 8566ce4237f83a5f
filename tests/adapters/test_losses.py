import math

import pytest
import torch

from hf_clipselect.adapters.losses import info_nce_loss
from hf_clipselect.errors import InputError


def explicit_loss(image_embeds, text_embeds, labels, temperature):
    """The definition, with all B x B logits."""
    logits = image_embeds @ text_embeds[labels].T / temperature
    positives = (labels[:, None] == labels[None, :]).double()
    target = positives / positives.sum(dim=1, keepdim=True)
    rows = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    columns = -(target * logits.T.log_softmax(dim=1)).sum(dim=1).mean()
    return (rows + columns) / 2


def random_batch(seed, *, num_rows, num_classes, embed_dim=8):
    generator = torch.Generator().manual_seed(seed)
    images = torch.nn.functional.normalize(torch.randn(num_rows, embed_dim, generator=generator), dim=1)
    texts = torch.nn.functional.normalize(torch.randn(num_classes, embed_dim, generator=generator), dim=1)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    return images.requires_grad_(), texts.requires_grad_(), labels


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(("num_rows", "num_classes"), [(1, 3), (6, 2), (40, 5), (30, 100)])
def test_equals_the_explicit_loss_and_its_gradients(num_rows, num_classes, temperature):
    images, texts, labels = random_batch(num_rows, num_rows=num_rows, num_classes=num_classes)
    loss = info_nce_loss(images, texts, labels, temperature=temperature)
    expected = explicit_loss(images.double(), texts.double(), labels, temperature)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, (images, texts))
    expected_gradients = torch.autograd.grad(expected, (images, texts))
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-6)


def test_three_rows_by_hand():
    # Logits against the prompts (a, b): rows 0 and 1 are of class a with (1, 0) and (0, 1), row 2 of b with (0, 1).
    eye = torch.eye(2)
    images, labels = eye[[0, 1, 1]], torch.tensor([0, 0, 1])
    e = math.e
    rows = (-1 + math.log(2 * e + 1) + math.log(2 + e) - 1 + math.log(2 + e)) / 3
    columns = (2 * (math.log(e + 2) - 1 / 2) + (math.log(1 + 2 * e) - 1)) / 3
    assert info_nce_loss(images, eye, labels, temperature=1.0).item() == pytest.approx((rows + columns) / 2, rel=1e-6)


def test_equals_cross_entropy_when_no_class_comes_twice():
    images, texts, _ = random_batch(0, num_rows=5, num_classes=5)
    labels = torch.tensor([3, 0, 4, 1, 2])
    logits = images @ texts[labels].T / 0.1
    diagonal = torch.arange(5)
    both = (
        torch.nn.functional.cross_entropy(logits, diagonal) + torch.nn.functional.cross_entropy(logits.T, diagonal)
    ) / 2
    torch.testing.assert_close(info_nce_loss(images, texts, labels), both)


def test_absent_classes_get_a_zero_gradient():
    images, texts, _ = random_batch(1, num_rows=4, num_classes=6)
    info_nce_loss(images, texts, torch.tensor([2, 2, 5, 2])).backward()
    assert torch.isfinite(images.grad).all()
    assert torch.isfinite(texts.grad).all()
    assert torch.equal(texts.grad.abs().sum(dim=1) > 0, torch.tensor([False, False, True, False, False, True]))


def test_is_lower_for_right_labels():
    texts = torch.eye(4)
    labels = torch.arange(4)
    assert info_nce_loss(texts, texts, labels) < info_nce_loss(texts, texts, labels.roll(1))


def test_computes_in_float32():
    images, texts, labels = random_batch(2, num_rows=12, num_classes=3)
    images, texts = images.bfloat16(), texts.bfloat16()
    loss = info_nce_loss(images, texts, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, info_nce_loss(images.float(), texts.float(), labels))


def test_rejects_an_empty_batch_and_a_bad_temperature():
    images, texts, labels = random_batch(3, num_rows=4, num_classes=2)
    with pytest.raises(InputError, match="empty batch"):
        info_nce_loss(images[:0], texts, labels[:0])
    with pytest.raises(InputError, match="temperature"):
        info_nce_loss(images, texts, labels, temperature=0.0)
