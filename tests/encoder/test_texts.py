"""Texts through the frozen text tower: batches of like lengths, kept in shards."""

import copy
import dataclasses
import hashlib
from itertools import chain

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hf_clipselect.encoder import cache as cache_module
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.cache import write_array
from hf_clipselect.encoder.texts import encode_prompts, like_lengths, text_features
from hf_clipselect.encoder.tokens import tokenize


LIMIT = 77
LONG = "seven " * 200
WORDS = "cat dog bird ship of red old small on a".split()


@pytest.fixture(scope="module")
def backbone(clip_folder):
    return load_backbone(str(clip_folder))


@pytest.fixture(scope="module")
def captions():
    """A hundred of them, from one word to seven, and two that the model does not read to their ends."""
    rng = np.random.default_rng(0)
    texts = [f"{number} {' '.join(rng.choice(WORDS, rng.integers(1, 8)))}" for number in range(100)]
    return [*texts[:30], f"one {LONG}", *texts[30:70], f"two {LONG}", *texts[70:]]


@pytest.fixture
def shards_of_40(monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_ROWS", 40)


def tokens_through(backbone, prompts, folder):
    """How many tokens the model is given, padding included."""
    counts = []
    module = backbone.model.text_model.embeddings.token_embedding
    handle = module.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].numel()))
    try:
        encode_prompts(backbone, prompts, folder)
    finally:
        handle.remove()
    return sum(counts)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def one_at_a_time(backbone, texts):
    """CLIP's own text tower on each text alone, without padding and without a hook."""
    rows = []
    for text in texts:
        tokens = backbone.tokenizer([text], truncation=True, max_length=LIMIT, return_tensors="pt")
        with torch.inference_mode():
            rows.append(backbone.model.text_model(**tokens).pooler_output[0])
    return torch.stack(rows)


@pytest.mark.parametrize("rows", [4096, 40])
def test_every_text_gets_what_the_model_gives_for_it_alone(backbone, captions, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(cache_module, "SHARD_ROWS", rows)
    features = encode_prompts(backbone, [captions], tmp_path)
    torch.testing.assert_close(features[0], one_at_a_time(backbone, captions), atol=1e-5, rtol=0)
    shards = [f"texts-{index:05d}.safetensors" for index in range(3)]
    assert sorted(files(tmp_path)) == (["text.safetensors"] if rows == 4096 else shards)


def test_a_shard_depends_on_its_own_texts_alone(backbone, captions, shards_of_40, tmp_path):
    encode_prompts(backbone, [captions], tmp_path / "all")
    before = files(tmp_path / "all")
    encode_prompts(backbone, [[*captions, "one more"]], tmp_path / "all")
    after = files(tmp_path / "all")
    assert [name for name in before if before[name] != after[name]] == ["texts-00002.safetensors"]
    # Templates are rows of one long list, cut wherever a shard ends.
    encode_prompts(backbone, [captions[:51], captions[51:]], tmp_path / "templates")
    assert files(tmp_path / "templates") == before


@pytest.mark.parametrize("damage", ["absent", "torn", "of another model"])
def test_the_missing_shard_alone_is_encoded_and_ends_the_same(backbone, captions, shards_of_40, tmp_path, damage):
    run = tmp_path / "run"
    first = encode_prompts(backbone, [captions], run)
    before, path = files(run), run / "texts-00001.safetensors"
    if damage == "absent":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(before[path.name][:-9])
    else:
        encode_prompts(dataclasses.replace(backbone, weights_sha256="0" * 64), [captions], tmp_path / "other")
        path.write_bytes((tmp_path / "other" / path.name).read_bytes())
    of_a_shard = tokens_through(backbone, [captions[40:80]], tmp_path / "alone")
    assert tokens_through(backbone, [captions], run) == of_a_shard > 0
    assert files(run) == before
    assert tokens_through(backbone, [captions], run) == 0
    assert torch.equal(encode_prompts(backbone, [captions], run), first)


def test_the_one_file_of_an_earlier_version_is_read_whatever_the_number_of_texts(
    backbone, captions, shards_of_40, tmp_path
):
    tokens = backbone.tokenizer(captions, padding=True, truncation=True, max_length=LIMIT, return_tensors="pt")
    hashes = {name: hashlib.sha256(values.numpy().tobytes()).hexdigest() for name, values in tokens.items()}
    stored = np.arange(len(captions) * 12, dtype=np.float32).reshape(-1, 12)
    key = {"prompts": [captions], "tokens": hashes, **backbone.identity()}
    write_array(tmp_path / "text.safetensors", key, stored)
    assert encode_prompts(backbone, [captions], tmp_path)[0].numpy().tolist() == stored.tolist()
    assert list(files(tmp_path)) == ["text.safetensors"]
    # Of other texts it is left alone.
    assert encode_prompts(backbone, [captions[1:]], tmp_path).shape == (1, len(captions) - 1, 12)
    assert len(load_file(tmp_path / "text.safetensors")["features"]) == len(captions)


# What it costs


def test_one_long_text_costs_its_own_tokens(backbone, tmp_path):
    short = [f"{number} {WORDS[number % 10]}" for number in range(300)]
    bare = sum(map(len, backbone.tokenizer(short)["input_ids"]))
    without = tokens_through(backbone, [short], tmp_path / "short")
    assert bare <= without <= 8 / 7 * bare
    assert tokens_through(backbone, [[*short[:150], LONG, *short[150:]]], tmp_path / "long") == without + LIMIT


def test_batches_of_like_lengths_by_hand():
    # At most an eighth of the longest: 16, 14 and no more; 8, 7; 5 alone; and at most 32 tokens in each.
    widths = np.array([5, 16, 7, 14, 8, 13, 16, 5])
    assert [batch.tolist() for batch in like_lengths(widths, 32)] == [[1, 6], [3, 5], [4, 2], [0, 7]]
    assert [batch.tolist() for batch in like_lengths(widths, 50)] == [[1, 6, 3], [5], [4, 2], [0, 7]]
    assert [batch.tolist() for batch in like_lengths(np.array([40, 40]), 32)] == [[0], [1]]


def test_every_text_is_in_one_batch_that_is_full_or_alike():
    widths = np.random.default_rng(0).integers(1, 78, 1000)
    batches = like_lengths(widths, 256)
    assert sorted(chain.from_iterable(batches)) == list(range(1000))
    for batch in batches:
        width = widths[batch].max()
        assert len(batch) == 1 or len(batch) * width <= 256
        assert widths[batch].sum() >= 7 / 8 * len(batch) * width


# Tokens


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokens_are_padded_as_the_tokenizer_pads(backbone, captions, side):
    tokenizer = copy.deepcopy(backbone.tokenizer)
    tokenizer.padding_side = side
    tokens = tokenize(dataclasses.replace(backbone, tokenizer=tokenizer), [captions])
    numbers = np.array([90, 30, 0, 7])
    expected = tokenizer(
        [captions[n] for n in numbers], padding=True, truncation=True, max_length=LIMIT, return_tensors="pt"
    )
    padded = tokens.padded(numbers, LIMIT)
    assert padded.keys() == expected.keys() == {"input_ids", "attention_mask"}
    assert all(torch.equal(padded[name], expected[name]) for name in expected)
    assert (tokens.too_long.tolist(), tokens.limit) == ([30, 71], LIMIT)


def test_texts_that_nothing_keeps_have_the_same_features(backbone, captions, tmp_path):
    kept = encode_prompts(backbone, [captions, captions[::-1]], tmp_path)
    assert torch.equal(text_features(backbone, [captions, captions[::-1]]), kept)
