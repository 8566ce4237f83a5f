import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from datasets import ClassLabel, Image
from recipe_files import RECIPES, load_recipe
from sklearn.datasets import load_digits
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel

from hf_clipselect.embedded import load_digits_dataset, tiny_clip_path
from hf_clipselect.errors import InputError


WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def run_python(*arguments: str, **environment: str) -> str:
    """Standard output of a fresh process that sees this checkout and no network."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pixels(dataset) -> np.ndarray:
    return np.stack([np.asarray(image) for image in dataset["image"]])


def image_features(images) -> torch.Tensor:
    model = AutoModel.from_pretrained(tiny_clip_path(), dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(tiny_clip_path(), backend="pil")
    with torch.no_grad():
        return model.get_image_features(**processor(images=images, return_tensors="pt")).pooler_output


def text_features(prompts: list[str], **options) -> torch.Tensor:
    model = AutoModel.from_pretrained(tiny_clip_path(), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_clip_path())
    with torch.no_grad():
        tokens = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt", **options)
        return model.get_text_features(**tokens).pooler_output


@pytest.fixture(scope="module")
def all_digits():
    return load_digits_dataset("all")


@pytest.fixture(scope="module")
def digit_hits(all_digits) -> np.ndarray:
    """Whether "A photo of a seven." and its like classify each of the 1,797 digits rightly."""
    weights = torch.nn.functional.normalize(text_features([f"A photo of a {word}." for word in WORDS]), dim=1)
    predicted = (image_features(all_digits["image"][:]) @ weights.T).argmax(1).numpy()
    return predicted == np.array(all_digits["label"][:])


def test_digits_have_the_pixels_and_labels_of_scikit_learn(all_digits):
    source = load_digits()
    assert all_digits.column_names == ["image", "label"]
    assert all_digits.features["image"] == Image()
    assert all_digits.features["label"] == ClassLabel(names=WORDS)
    assert {(image.size, image.mode, image.format) for image in all_digits["image"]} == {((8, 8), "L", "PNG")}
    np.testing.assert_array_equal(pixels(all_digits), np.floor(source.images * 255 / 16).astype(np.uint8))
    np.testing.assert_array_equal(all_digits["label"][:], source.target)
    assert str(all_digits.split) == "all"


def test_split_is_stratified_disjoint_and_in_the_source_order(all_digits):
    train, test = load_digits_dataset(), load_digits_dataset("test")
    assert (len(train), len(test), len(all_digits)) == (1297, 500, 1797)
    assert (str(train.split), str(test.split)) == ("train", "test")
    assert len({part._fingerprint for part in (train, test, all_digits)}) == 3
    total = np.bincount(all_digits["label"][:])
    for part in (train, test):
        expected = total * len(part) / len(all_digits)
        assert np.abs(np.bincount(part["label"][:], minlength=10) - expected).max() <= 1
    # No two of the 1,797 images are equal, so the bytes of its pixels say which row of the source an image is.
    row_of = {image.tobytes(): row for row, image in enumerate(pixels(all_digits))}
    assert len(row_of) == len(all_digits)
    train_rows, test_rows = ([row_of[image.tobytes()] for image in pixels(part)] for part in (train, test))
    assert train_rows == sorted(train_rows)
    assert test_rows == sorted(test_rows)
    assert sorted(train_rows + test_rows) == list(range(1797))


def test_unknown_split_names_the_choices():
    with pytest.raises(InputError, match="'validation'.*train, test, all.*--train_split_name"):
        load_digits_dataset("validation")


def test_checkpoint_is_small_and_holds_no_pickle():
    files = [path for path in tiny_clip_path().rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in files) <= 3 * 1024**2


def test_zero_shot_accuracy_on_all_digits(digit_hits):
    assert digit_hits.mean() >= 0.70


def test_model_card_states_the_measured_accuracy(all_digits, digit_hits):
    card = (tiny_clip_path() / "README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line.startswith("|")
    ]
    stated = {row[0]: row[1] for row in rows if len(row) == 2}
    assert float(stated["`A photo of a seven.`"]) == pytest.approx(100 * digit_hits.mean(), abs=0.1)
    classes = rows[[row[0] for row in rows].index("zero") + 2]
    labels = np.array(all_digits["label"][:])
    measured = [100 * digit_hits[labels == label].mean() for label in range(10)]
    assert [float(cell) for cell in classes] == pytest.approx(measured, abs=0.1)
    assert "license: apache-2.0" in card.split("---")[1]
    assert "openai/clip-vit-base-patch32" in card


def test_image_processor_takes_photographs_of_any_shape_and_mode(all_digits):
    digit = all_digits["image"][3]
    images = [digit.resize((64, 40)), digit.resize((33, 90)).convert("RGBA"), digit.convert("RGB")]
    processor = AutoImageProcessor.from_pretrained(tiny_clip_path(), backend="pil")
    assert processor(images=images, return_tensors="pt").pixel_values.shape == (3, 3, 32, 32)
    assert image_features(images).isfinite().all()


def test_any_text_tokenises_and_only_its_end_is_the_end_token():
    tokenizer = AutoTokenizer.from_pretrained(tiny_clip_path())
    config = CLIPModel.from_pretrained(tiny_clip_path()).config.text_config
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == special
    assert tokenizer.model_max_length == config.max_position_embeddings
    assert tokenizer.unk_token_id not in special
    for text in ["", "Übergröße 北京 🙂", "dog-house #42 <x>\n\t", "".join(map(chr, range(0x20, 0x250)))]:
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
        assert tokenizer.unk_token_id not in ids
        assert max(ids) < config.vocab_size


def test_longest_text_fits_and_padding_does_not_matter():
    longest = text_features(["word " * 200])
    assert longest.isfinite().all()
    alone = text_features(["A photo of a seven."])
    padded = text_features(["A photo of a seven.", "word " * 200])[:1]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_pretraining_writes_a_model_and_depends_on_the_seed_alone(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    output = run_python(str(RECIPES / "pretrain_tiny_clip.py"), "--output_dir", str(first), "--steps", "3")
    assert "zero-shot accuracy on scikit-learn's digits" in output
    assert CLIPModel.from_pretrained(first).config.vision_config.image_size == 32
    assert "--steps 3 --seed 42" in (first / "README.md").read_text(encoding="utf-8")
    train, num_threads = load_recipe("pretrain_tiny_clip.py").train, torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        model, tokenizer = train(3, seed=42)
        other, _ = train(3, seed=7)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(num_threads)
    for part in (model.half(), tokenizer):
        part.save_pretrained(second)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    weights, others = model.state_dict(), other.half().state_dict()
    assert not any(torch.equal(weights[name], others[name]) for name in weights if "proj.weight" in name)
    # The shipped checkpoint has the vocabulary and the weights' shapes that the recipe gives today.
    shipped, fresh = (AutoTokenizer.from_pretrained(path) for path in (tiny_clip_path(), first))
    assert shipped.get_vocab() == fresh.get_vocab()
    shipped, fresh = (CLIPModel.from_pretrained(path) for path in (tiny_clip_path(), first))
    assert {n: p.shape for n, p in shipped.named_parameters()} == {n: p.shape for n, p in fresh.named_parameters()}


def test_pretraining_refuses_no_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pretrain", "--output_dir", str(tmp_path / "model"), "--steps", "0"])
    with pytest.raises(SystemExit) as ended:
        load_recipe("pretrain_tiny_clip.py").main()
    assert ended.value.code == 2
    assert "--steps must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
