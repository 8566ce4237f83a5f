"""The frozen encoder and its cache; the decoding of single images has tests of its own (test_images.py)."""

import copy
import dataclasses
import io
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPTokenizer

from hf_clipselect import select_dataset
from hf_clipselect.data import read_images
from hf_clipselect.encoder import cache as cache_module
from hf_clipselect.encoder.backbone import load_backbone, warn_if_demonstration
from hf_clipselect.encoder.cache import FeatureCache, read_array, write_array
from hf_clipselect.encoder.features import encode_dataset
from hf_clipselect.encoder.images import open_image
from hf_clipselect.encoder.texts import encode_prompts
from hf_clipselect.errors import InputError, RunError
from hf_clipselect.runtime.launch import make_accelerator


PROMPTS = [["A photo of a cat.", "A photo of a dog.", "A photo of a small bird."]]


@pytest.fixture(scope="module")
def backbone(clip_folder):
    return load_backbone(str(clip_folder))


@pytest.fixture
def images(images_dataset):
    return read_images(images_dataset)


def encode(images, backbone, folder, *, num_workers=0, **options):
    """Encode, and read the mapped features into an array to compare."""
    accelerator = make_accelerator(use_cpu=True)
    encoded = encode_dataset(images, backbone, folder, accelerator=accelerator, num_workers=num_workers, **options)
    return dataclasses.replace(encoded, features=encoded.features.take(np.arange(len(encoded.features))))


def missing(cache):
    return [shard for shard in cache.shards() if not cache.is_whole(shard)]


def read(cache):
    features, unreadable = cache.open()
    return features.take(np.arange(len(features))), unreadable


def one_at_a_time(dataset, backbone):
    """The features as the obvious loop makes them; CLIP's own towers, no hook."""
    rows = []
    for row in dataset.with_format(None):
        pixel_values = backbone.image_processor(images=[open_image(row["image"])], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            rows.append(backbone.model.vision_model(pixel_values=pixel_values).pooler_output[0].numpy())
    return np.stack(rows)


def broken(backbone):
    """The same backbone by name and hash, but its model gives NaN: features that are right came from a cache."""
    model = copy.deepcopy(backbone.model)
    for parameter in model.parameters():
        parameter.fill_(float("nan"))
    return dataclasses.replace(backbone, model=model)


def encoded_image(image, form="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, form)
    return {"bytes": buffer.getvalue(), "path": None}


def dataset_of(images, labels=None):
    labels = [i % 2 for i in range(len(images))] if labels is None else labels
    features = Features({"image": Image(), "label": ClassLabel(names=["one", "two"])})
    return Dataset.from_dict({"image": images, "label": labels}, features=features)


def with_bad_image(images_dataset, *rows):
    undecoded = images_dataset.cast_column("image", Image(decode=False))[:]
    for row in rows:
        undecoded["image"][row] = {"bytes": b"not an image", "path": None}
    return Dataset.from_dict(undecoded, features=images_dataset.features)


def shard_files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("images-*.safetensors"))}


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


# Loading


def test_loads_frozen_float32_in_evaluation_mode(backbone, clip_folder):
    assert backbone.name == str(clip_folder)
    assert (backbone.hidden_size, backbone.embed_dim) == (16, 8)
    assert backbone.revision is None
    assert len(backbone.weights_sha256) == 64
    assert not any(module.training for module in backbone.model.modules())
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in backbone.model.parameters())
    json.dumps(backbone.identity())


def test_a_folder_is_known_by_its_weights_not_by_its_name(backbone, clip_folder, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(clip_folder, moved)
    assert load_backbone(str(moved)).identity() == backbone.identity()
    weights = load_file(moved / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1e-3
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    assert load_backbone(str(moved)).identity() != backbone.identity()


def test_the_embedded_model_says_that_it_is_a_demonstration(caplog):
    tiny = load_backbone("embedded/tiny-clip")
    (warning,) = [record.getMessage() for record in caplog.records if "demonstration" in record.getMessage()]
    assert "openai/clip-vit-base-patch32" in warning
    assert tiny.name == "embedded/tiny-clip"


def test_a_folder_is_known_from_any_directory(clip_folder, monkeypatch):
    monkeypatch.chdir(clip_folder.parent)
    assert load_backbone(clip_folder.name).name == str(clip_folder)


def test_the_warning_of_a_demonstration_names_no_folder(caplog):
    tiny = load_backbone("embedded/tiny-clip")
    for name, named in (("secretclient/scans", "on scans its scores"), ("", "on this dataset its scores")):
        caplog.clear()
        warn_if_demonstration(tiny, name)
        assert named in caplog.text and "secretclient" not in caplog.text
    caplog.clear()
    warn_if_demonstration(tiny, "embedded/digits")
    assert caplog.text == ""


def bert(folder, clip_folder):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(folder)


def no_weights(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()


def torn_weights(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def missing_weight(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def wrong_shape(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"] = torch.zeros(8, 9)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def no_tokenizer(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    for path in folder.glob("tokenizer*"):
        path.unlink()


def no_image_processor(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    (folder / "preprocessor_config.json").unlink()


def own_code(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard_of", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('the code of the repository was run')")


def own_code_for_images(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    config = {"image_processor_type": "Unheard", "auto_map": {"AutoImageProcessor": "code.Unheard"}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('the code of the repository was run')")


def own_code_for_prompts(folder, clip_folder):
    shutil.copytree(clip_folder, folder, dirs_exist_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Unheard", "auto_map": {"AutoTokenizer": ["code.Unheard", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('the code of the repository was run')")


def empty_folder(folder, clip_folder):
    pass


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (bert, "BertModel without get_image_features, get_text_features, visual_projection, text_projection"),
        (no_weights, "safetensors"),
        (torn_weights, "can't be loaded"),
        (missing_weight, "visual_projection.weight"),
        (wrong_shape, "mismatch"),
        (no_tokenizer, "no tokenizer"),
        (no_image_processor, "image processor"),
        (own_code, "custom code"),
        (own_code_for_images, "custom code"),
        (empty_folder, "config.json"),
    ],
)
def test_refuses_folders_that_hold_no_whole_dual_encoder(make, part, clip_folder, tmp_path):
    make(tmp_path, clip_folder)
    with pytest.raises(InputError) as error:
        load_backbone(str(tmp_path))
    assert_one_line(error, f"--model_name_or_path {tmp_path}", part, "openai/clip-vit-base-patch32")


def test_the_code_of_a_tokenizer_is_not_run_either(backbone, clip_folder, tmp_path):
    own_code_for_prompts(tmp_path, clip_folder)
    assert load_backbone(str(tmp_path)).tokenizer.get_vocab() == backbone.tokenizer.get_vocab()


@pytest.mark.parametrize(
    "name",
    [
        "no/such/folder",
        "",
        " ",
        "a b",
        "a\0b",
        "a\nb",
        "x" * 5000,
        "photos[1]",
        "/no/such",
        "~/no/such",
        "owner/clip/",
    ],
)
def test_refuses_names_that_lead_nowhere(name):
    with pytest.raises(InputError) as error:
        load_backbone(name)
    assert_one_line(error, "--model_name_or_path ", "neither a folder that exists nor a Hub id", "Hub id or folder")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("revision", ["", "a b", "a\0b", "a\nb", "../../main", "x" * 5000])
def test_refuses_revisions_that_no_repository_has(revision):
    with pytest.raises(InputError) as error:
        load_backbone("owner/clip", revision=revision)
    assert_one_line(error, "--model_revision ", "branch, tag or commit")
    assert len(str(error.value)) < 400


def test_a_folder_is_a_folder_by_any_name_and_has_no_revision(backbone, clip_folder, tmp_path, monkeypatch):
    folder = tmp_path / "clip [1] *"
    shutil.copytree(clip_folder, folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(folder), f"{folder}/", "~/clip [1] *"):
        assert load_backbone(name).identity() == backbone.identity()
        assert load_backbone(name).name == str(folder)
    with pytest.raises(InputError) as error:
        load_backbone(str(folder), revision="v1")
    assert_one_line(error, "is a folder, which has no revision; leave out --model_revision v1")
    with pytest.raises(InputError) as error:
        load_backbone(str(folder / "model.safetensors"))
    assert_one_line(error, "is a file; give the folder")


@pytest.mark.parametrize(
    "name", ["openai/clip-vit-base-patch32", "OpenAI/CLIP-ViT-base-patch32/", "no-such-user/no-such-clip"]
)
def test_no_error_recommends_what_just_failed(name):
    """The Hub can't be reached here, so that no other repository would do either."""
    with pytest.raises(InputError) as error:
        load_backbone(name)
    assert_one_line(error, f"--model_name_or_path {name} ")
    assert "e.g." not in str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": {"shortest_edge": 7}, "crop_size": {"height": 7, "width": 7}}, "doesn't match model"),
        ({"image_mean": [0.5]}, "mean must have 3 elements"),
    ],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_processor_of_another_model_is_refused(
    change, told, num_workers, images_dataset, clip_folder, tmp_path
):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    config = json.loads((folder / "preprocessor_config.json").read_text()) | change
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as error:
        select_dataset(
            images_dataset,
            model_name_or_path=folder,
            dataloader_num_workers=num_workers,
            adaptation="off",
            use_cpu=True,
        )
    assert_one_line(
        error, f"The image processor of {folder} does not fit the model: ", told, "preprocessor_config.json"
    )


def test_adapters_are_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "owner/clip"}')
    with pytest.raises(InputError) as error:
        load_backbone(str(tmp_path))
    assert_one_line(error, "config.json", "Adapters are named by --adapter_name_or_path")


def test_refuses_unknown_embedded_names():
    with pytest.raises(InputError) as error:
        load_backbone("embedded/large-clip")
    assert_one_line(error, "embedded/large-clip", "embedded/tiny-clip")


# Images and prompts; other dual encoders have tests of their own (test_dual_encoders.py)


def test_projected_features_are_those_of_the_model(backbone, images, tmp_path):
    features = encode(images, backbone, tmp_path, batch_size=60).features
    pictures = [open_image(value) for value in images.dataset["image"]]
    pixel_values = backbone.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        image_embeds = backbone.model.visual_projection(torch.from_numpy(features))
        assert torch.equal(image_embeds, backbone.model.get_image_features(pixel_values=pixel_values).pooler_output)
        texts = encode_prompts(backbone, PROMPTS, tmp_path)[0]
        for alike in (slice(0, 2), slice(2, 3)):  # texts of like lengths go through the model together
            tokens = backbone.tokenizer(PROMPTS[0][alike], padding=True, return_tensors="pt")
            text_embeds = backbone.model.text_projection(texts[alike])
            assert torch.equal(text_embeds, backbone.model.get_text_features(**tokens).pooler_output)


# Prompts


def test_several_templates_are_rows_of_their_own(backbone, tmp_path):
    prompts = [*PROMPTS, ["A drawing of a cat.", "A drawing of a dog.", "A drawing of a small bird."]]
    text = encode_prompts(backbone, prompts, tmp_path)
    assert (text.shape, text.dtype) == ((2, 3, 12), torch.float32)
    for template in range(2):
        for label in range(3):
            alone = encode_prompts(backbone, [[prompts[template][label]]], tmp_path / f"{template}{label}")
            torch.testing.assert_close(text[template, label], alone[0, 0], atol=1e-6, rtol=0)


def test_more_prompts_than_a_batch(backbone, tmp_path):
    prompts = [[f"A photo of number {number}." for number in range(600)]]
    text = encode_prompts(backbone, prompts, tmp_path / "all")
    alone = encode_prompts(backbone, [[prompts[0][599]]], tmp_path / "last")
    assert text.shape == (1, 600, 12)
    torch.testing.assert_close(text[0, 599], alone[0, 0], atol=1e-6, rtol=0)


def test_prompts_are_encoded_once(backbone, tmp_path):
    first = encode_prompts(backbone, PROMPTS, tmp_path)
    assert torch.equal(encode_prompts(broken(backbone), PROMPTS, tmp_path), first)


def test_changed_prompts_model_or_tokenizer_are_encoded_anew(backbone, tmp_path):
    encode_prompts(backbone, PROMPTS, tmp_path)
    changed = [[*PROMPTS[0][:2], "A photo of a bird."]]
    assert encode_prompts(broken(backbone), changed, tmp_path).isnan().all()
    other = dataclasses.replace(backbone, weights_sha256="0" * 64)
    encode_prompts(backbone, PROMPTS, tmp_path)
    assert encode_prompts(broken(other), PROMPTS, tmp_path).isnan().all()
    vocabulary = backbone.tokenizer.get_vocab()
    vocabulary["c</w>"], vocabulary["t</w>"] = vocabulary["t</w>"], vocabulary["c</w>"]
    other = dataclasses.replace(backbone, tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77))
    encode_prompts(backbone, PROMPTS, tmp_path)
    assert encode_prompts(broken(other), PROMPTS, tmp_path).isnan().all()


def test_damaged_prompt_features_are_made_anew(backbone, tmp_path):
    first = encode_prompts(backbone, PROMPTS, tmp_path)
    path = tmp_path / "text.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert torch.equal(encode_prompts(backbone, PROMPTS, tmp_path), first)
    assert path.read_bytes() == content


# The cache


def cache_of(folder, num_rows=10, **key):
    return FeatureCache(folder, key={"model": "m", **key}, num_rows=num_rows)


def filled(cache):
    features = np.arange(cache.num_rows * 3, dtype=np.float32).reshape(-1, 3)
    for shard in cache.shards():
        cache.write(shard, features[shard.start : shard.stop], {})
    return features


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_ROWS", 4)


@pytest.mark.usefixtures("small_shards")
def test_shards_cover_the_rows_in_order_and_are_read_in_order(tmp_path):
    cache = cache_of(tmp_path / "new" / "folder")
    assert [(shard.start, shard.stop) for shard in cache.shards()] == [(0, 4), (4, 8), (8, 10)]
    assert missing(cache) == cache.shards()
    features = np.arange(30, dtype=np.float32).reshape(10, 3)
    for shard in reversed(cache.shards()):
        cache.write(shard, features[shard.start : shard.stop], {shard.start: f"reason {shard.start}"})
    assert missing(cache) == []
    features_read, unreadable = read(cache)
    assert np.array_equal(features_read, features)
    assert features_read.dtype == np.float32
    assert unreadable == {0: "reason 0", 4: "reason 4", 8: "reason 8"}


@pytest.mark.usefixtures("small_shards")
def test_a_torn_shard_counts_as_missing(tmp_path):
    cache = cache_of(tmp_path)
    filled(cache)
    path = tmp_path / cache.shards()[1].file_name
    content = path.read_bytes()
    for length in (0, 5, 40, len(content) - 1):
        path.write_bytes(content[:length])
        assert missing(cache) == [cache.shards()[1]]
    with pytest.raises(RunError, match=path.name):
        cache.open()
    path.write_bytes(content)
    assert missing(cache) == []


@pytest.mark.usefixtures("small_shards")
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path):
    cache = cache_of(tmp_path, num_rows=4)
    cache.write(cache.shards()[0], np.ones((4, 3)), {2: "torn"})
    path = tmp_path / cache.shards()[0].file_name
    content = path.read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    reason = content.index(b"torn")
    for position in (data, data + 17, len(content) - 1, reason, content.index(cache.digest.encode())):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert missing(cache) == cache.shards()
    path.write_bytes(content)
    assert missing(cache) == []


def test_bytes_that_are_told_to_be_other_numbers_are_not_read(tmp_path):
    cache = cache_of(tmp_path, num_rows=4)
    cache.write(cache.shards()[0], np.ones((4, 8)), {})
    path = tmp_path / cache.shards()[0].file_name
    content = path.read_bytes()
    for told, other in ((b'"F32"', b'"I32"'), (b"[4,8]", b"[8,4]")):
        assert content.count(told) == 1
        path.write_bytes(content.replace(told, other))
        assert missing(cache) == cache.shards()


@pytest.mark.usefixtures("small_shards")
def test_shards_of_another_key_or_size_are_missing(tmp_path, monkeypatch):
    filled(cache_of(tmp_path, batch_size=8))
    assert len(missing(cache_of(tmp_path, batch_size=9))) == 3
    assert missing(cache_of(tmp_path, batch_size=8)) == []
    monkeypatch.setattr(cache_module, "SHARD_ROWS", 5)
    assert len(missing(cache_of(tmp_path, batch_size=8))) == 2


@pytest.mark.usefixtures("small_shards")
def test_the_manifest_lists_key_and_shards(tmp_path):
    cache = cache_of(tmp_path, batch_size=8)
    filled(cache)
    cache.write_manifest(complete=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["num_rows"] == 10
    assert manifest["key"]["batch_size"] == 8
    assert manifest["key_sha256"] == cache.digest
    assert [shard["file"] for shard in manifest["shards"]] == sorted(shard_files(tmp_path))
    assert [shard["rows"] for shard in manifest["shards"]] == [[0, 4], [4, 8], [8, 10]]
    assert len({shard["sha256"] for shard in manifest["shards"]}) == 3


def test_an_array_is_read_under_its_own_key_alone(tmp_path):
    path = tmp_path / "new" / "array.safetensors"
    write_array(path, {"a": 1}, np.ones((2, 3)))
    assert np.array_equal(read_array(path, {"a": 1}), np.ones((2, 3), np.float32))
    assert read_array(path, {"a": 2}) is None


# Whole datasets


def test_every_row_is_at_its_place_whatever_the_number_of_workers(backbone, images, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_ROWS", 16)
    alone = encode(images, backbone, tmp_path / "alone", batch_size=6)
    assert (alone.features.shape, alone.features.dtype) == ((60, 16), np.float32)
    assert (alone.num_encoded, alone.unreadable) == (60, {})
    np.testing.assert_allclose(alone.features, one_at_a_time(images.dataset, backbone), atol=1e-5)
    workers = encode(images, backbone, tmp_path / "workers", batch_size=6, num_workers=2)
    assert np.array_equal(workers.features, alone.features)
    assert workers.key == alone.key
    assert shard_files(tmp_path / "workers") == shard_files(tmp_path / "alone")
    assert len(shard_files(tmp_path / "alone")) == 4


def test_threads_change_no_bit(backbone, images, tmp_path):
    # How many there are is found by timing: what a killed run left must fit to what the next one adds.
    before = torch.get_num_threads()
    hashes = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        encode(images, backbone, tmp_path / str(threads))
        hashes.append(shard_files(tmp_path / str(threads)))
    torch.set_num_threads(before)
    assert hashes[0] == hashes[1] == hashes[2]


def test_a_shard_that_cannot_be_written_leaves_torch_as_it_was(backbone, images, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    (tmp_path / "images-00000.safetensors" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError) as error:  # its traceback is kept
        encode(images, backbone, tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 3 and error.tb is not None


def test_the_default_number_of_workers(backbone, images, tmp_path):
    features = encode(images, backbone, tmp_path / "default", num_workers=None).features
    assert np.array_equal(features, encode(images, backbone, tmp_path / "none").features)


def test_a_second_run_encodes_nothing_and_says_so(backbone, images, tmp_path, caplog):
    first = encode(images, backbone, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    caplog.set_level(logging.INFO, logger="hf_clipselect")
    second = encode(images, broken(backbone), tmp_path)
    assert second.num_encoded == 0
    assert np.array_equal(second.features, first.features)
    assert any("nothing to encode" in message and "60 rows" in message for message in caplog.messages)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert json.loads(before["manifest.json"])["key_sha256"] == first.key


def test_a_deleted_shard_alone_is_encoded_again_to_the_same_bytes(backbone, images, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_ROWS", 16)
    first = encode(images, backbone, tmp_path, batch_size=6)
    before = shard_files(tmp_path)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    (tmp_path / "images-00003.safetensors").unlink()
    (tmp_path / "manifest.json").unlink()
    second = encode(images, backbone, tmp_path, batch_size=6)
    assert second.num_encoded == 60 - 48
    assert np.array_equal(second.features, first.features)
    assert shard_files(tmp_path) == before
    changed = [name for name in before if (tmp_path / name).stat().st_mtime_ns != times[name]]
    assert changed == ["images-00003.safetensors"]


def test_a_missing_manifest_is_written_although_nothing_is_encoded(backbone, images, tmp_path):
    encode(images, backbone, tmp_path)
    content = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").unlink()
    assert encode(images, backbone, tmp_path).num_encoded == 0
    assert (tmp_path / "manifest.json").read_bytes() == content


def test_whatever_decides_the_features_is_part_of_the_key(backbone, images, images_dataset, tmp_path):
    first = encode(images, backbone, tmp_path)
    processor = copy.deepcopy(backbone.image_processor)
    processor.image_mean = [0.5, 0.5, 0.5]
    runs = {
        "batch size": (images, backbone, {"batch_size": 7}),
        "processor": (images, dataclasses.replace(backbone, image_processor=processor), {}),
        "model": (images, dataclasses.replace(backbone, weights_sha256="0" * 64), {}),
        "revision": (images, dataclasses.replace(backbone, weights_sha256=None, revision="0" * 40), {}),
        "rows": (read_images(images_dataset.select(range(59, -1, -1))), backbone, {}),
        "samples": (read_images(images_dataset, max_samples=30), backbone, {}),
    }
    keys = {first.key}
    for images_of_run, backbone_of_run, options in runs.values():
        run = encode(images_of_run, backbone_of_run, tmp_path, overwrite=True, **options)
        assert run.num_encoded == len(images_of_run.dataset)
        assert json.loads((tmp_path / "manifest.json").read_text())["key_sha256"] == run.key
        keys.add(run.key)
    assert len(keys) == 1 + len(runs)
    again = encode(images, backbone, tmp_path, overwrite=True)
    assert again.num_encoded == 60
    assert np.array_equal(again.features, first.features)


def test_features_of_another_key_are_not_replaced_unasked(backbone, images, tmp_path, monkeypatch):
    first = encode(images, backbone, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError) as error:
        encode(images, backbone, tmp_path, batch_size=7)
    assert_one_line(error, str(tmp_path), "batch_size 64 there, 7 now", "--overwrite_output_dir")
    assert "Another version" not in str(error.value)
    monkeypatch.setattr(cache_module, "_FORMAT", 10**6)
    with pytest.raises(InputError) as error:
        encode(images, backbone, tmp_path)
    assert_one_line(error, "format 2 there, 1000000 now", "Another version of hf_clipselect wrote them.")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert encode(images, backbone, tmp_path).key == first.key


def test_a_batch_that_does_not_fit_into_memory_goes_in_halves(backbone, images, tmp_path, monkeypatch, caplog):
    expected = encode(images, backbone, tmp_path / "plain", batch_size=50).features
    most = 13
    forward = type(backbone.model).get_image_features

    def short_of_memory(model, pixel_values):
        if len(pixel_values) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(model, pixel_values=pixel_values)

    monkeypatch.setattr(type(backbone.model), "get_image_features", short_of_memory)
    encoded = encode(images, backbone, tmp_path / "halved", batch_size=50)
    np.testing.assert_allclose(encoded.features, expected, atol=1e-6)
    assert [message[:60] for message in caplog.messages if "Out of memory" in message] == [
        "Out of memory with 50 images at once: going on with 25. For ",
        "Out of memory with 25 images at once: going on with 12. For ",
    ]
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        encode(images, backbone, tmp_path / "none", batch_size=4)
    assert shard_files(tmp_path / "none") == {}


def test_an_undecodable_image_stops_the_run_by_its_source_index(backbone, images_dataset, tmp_path):
    dataset = with_bad_image(images_dataset, 14, 40)
    for options, workers in (({}, 0), ({"max_samples": 30}, 2)):
        with pytest.raises(InputError) as error:
            encode(read_images(dataset, **options), backbone, tmp_path, num_workers=workers)
        assert_one_line(error, "source_index 14 ", "--on_bad_image drop")
        assert shard_files(tmp_path) == {}


def test_undecodable_images_can_be_dropped(backbone, images, images_dataset, tmp_path):
    whole = encode(images, backbone, tmp_path / "whole", batch_size=6).features
    # Batches of 6 with one bad image, and with nothing else.
    bad = [14, *range(30, 36)]
    broken_images = read_images(with_bad_image(images_dataset, *bad))
    dropped = encode(broken_images, backbone, tmp_path / "drop", batch_size=6, on_bad_image="drop")
    assert sorted(dropped.unreadable) == bad
    assert all("not an image" in reason for reason in dropped.unreadable.values())
    assert not dropped.features[bad].any()
    good = np.setdiff1d(np.arange(60), bad)
    np.testing.assert_allclose(dropped.features[good], whole[good], atol=1e-6)
    again = encode(broken_images, broken(backbone), tmp_path / "drop", batch_size=6, on_bad_image="drop")
    assert (again.num_encoded, again.unreadable) == (0, dropped.unreadable)


def test_dropped_images_in_the_cache_are_still_an_error_without_drop(backbone, images_dataset, tmp_path):
    images = read_images(with_bad_image(images_dataset, 14, 40), max_samples=30)
    encode(images, backbone, tmp_path, on_bad_image="drop")
    with pytest.raises(InputError) as error:
        encode(images, backbone, tmp_path)
    assert_one_line(error, "source_index 14 ", "--on_bad_image drop")


def test_a_stopped_run_goes_on_with_the_shard_that_it_lacks(backbone, images_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_ROWS", 16)
    images = read_images(with_bad_image(images_dataset, 40))
    with pytest.raises(InputError, match="source_index 40 "):
        encode(images, backbone, tmp_path)
    assert sorted(shard_files(tmp_path)) == ["images-00000.safetensors", "images-00001.safetensors"]
    rest = encode(images, backbone, tmp_path, on_bad_image="drop")
    assert rest.num_encoded == 60 - 32
    whole = encode(images, backbone, tmp_path / "whole", on_bad_image="drop")
    assert np.array_equal(rest.features, whole.features)


def test_features_that_are_not_finite_are_refused_and_not_kept(backbone, images_dataset, tmp_path):
    nan = broken(backbone)
    nan.model.visual_projection.weight.copy_(backbone.model.visual_projection.weight)
    images = read_images(with_bad_image(images_dataset, 0, 1), max_samples=30)
    with pytest.raises(InputError) as error:
        encode(images, nan, tmp_path, on_bad_image="drop")
    assert_one_line(error, "not finite", "source_index 2;")
    assert shard_files(tmp_path) == {}


def test_all_kinds_of_images_in_one_dataset(backbone, tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (12, 10), dtype=np.uint8)
    colour = PILImage.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    pairs = [  # the same picture twice: in an unusual form, and as plain RGB
        (PILImage.fromarray(grey), PILImage.fromarray(grey).convert("RGB")),
        (PILImage.fromarray(grey.astype(np.uint16) * 257), PILImage.fromarray(grey).convert("RGB")),
        (colour.convert("RGBA"), colour),
        (colour.quantize(), colour.quantize().convert("RGB")),
        (PILImage.fromarray(grey > 99), PILImage.fromarray(grey > 99).convert("RGB")),
    ]
    cmyk = encoded_image(colour.convert("CMYK"), "TIFF")
    images = [encoded_image(picture) for pair in pairs for picture in pair] + [cmyk, encoded_image(colour)]
    encoded = encode(read_images(dataset_of(images)), backbone, tmp_path)
    assert encoded.unreadable == {}
    np.testing.assert_allclose(encoded.features[0::2], encoded.features[1::2], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (3, 40), (40, 3)])
def test_tiny_and_narrow_images_keep_their_channels_last(size, backbone, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = PILImage.fromarray(pixels)
    features = encode(read_images(dataset_of([encoded_image(picture)] * 2)), backbone, tmp_path).features
    scaled = picture.resize([16 * side // min(picture.size) for side in picture.size], PILImage.Resampling.BICUBIC)
    left, top = (scaled.width - 16) // 2, (scaled.height - 16) // 2
    values = np.asarray(scaled.crop((left, top, left + 16, top + 16))) / 255
    processor = backbone.image_processor
    values = ((values - processor.image_mean) / processor.image_std).transpose(2, 0, 1)
    with torch.inference_mode():
        expected = backbone.model.vision_model(torch.from_numpy(values[None].astype(np.float32))).pooler_output
    np.testing.assert_allclose(features, expected.expand(2, -1), atol=1e-5)


@pytest.mark.parametrize("form", ["torch", "numpy", "arrow"])
def test_the_format_of_the_dataset_does_not_matter(form, backbone, images, images_dataset, tmp_path):
    formatted = read_images(images_dataset.with_format(form))
    expected = encode(images, backbone, tmp_path / "plain").features
    assert np.array_equal(encode(formatted, backbone, tmp_path / form, num_workers=2).features, expected)


def test_a_format_that_hides_the_image_column_does_not_matter(backbone, images, images_dataset, tmp_path):
    formatted = read_images(images_dataset.with_format("numpy", columns=["label"]))
    expected = encode(images, backbone, tmp_path / "plain").features
    assert np.array_equal(encode(formatted, backbone, tmp_path / "formatted").features, expected)


def test_datasets_with_an_indices_mapping(backbone, images, images_dataset, tmp_path):
    features = encode(images, backbone, tmp_path / "plain").features
    order = np.random.default_rng(0).permutation(60)
    shuffled = read_images(images_dataset.select(order))
    np.testing.assert_allclose(encode(shuffled, backbone, tmp_path / "b").features, features[order], atol=1e-6)
    picked = read_images(images_dataset.shuffle(seed=1).filter(lambda label: label != 1, input_columns="label"))
    np.testing.assert_allclose(
        encode(picked, backbone, tmp_path / "c", num_workers=2).features,
        one_at_a_time(picked.dataset, backbone),
        atol=1e-5,
    )


def test_images_that_are_files(backbone, images, images_dataset, tmp_path):
    paths = []
    for row, picture in enumerate(images_dataset["image"]):
        paths.append(str(tmp_path / f"{row}.png"))
        picture.save(paths[-1])
    features = Features({"image": Image(), "label": images_dataset.features["label"]})
    dataset = Dataset.from_dict({"image": paths, "label": images_dataset["label"][:]}, features=features)
    expected = encode(images, backbone, tmp_path / "bytes").features
    assert np.array_equal(encode(read_images(dataset), backbone, tmp_path / "files").features, expected)
