"""Weights in folders without safetensors: pickles of tensors are read, and nothing else of a pickle is."""

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file

from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.errors import InputError
from hf_clipselect.runtime.files import file_sha256


INDEX = "pytorch_model.bin.index.json"


@pytest.fixture
def folder(clip_folder, tmp_path):
    """The CLIP without its weights."""
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.fixture(scope="module")
def weights(clip_folder):
    return load_file(clip_folder / "model.safetensors")


def whole(folder, weights):
    torch.save(weights, folder / "pytorch_model.bin")


def of_old_pytorch(folder, weights):
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def in_half_precision(folder, weights):
    torch.save({name: value.half() for name, value in weights.items()}, folder / "pytorch_model.bin")


def in_shards(folder, weights):
    names = sorted(weights)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in shards.items():
        torch.save({name: weights[name] for name in part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("write", [whole, of_old_pytorch, in_half_precision, in_shards])
def test_pickles_of_tensors_are_read(write, folder, weights, clip_folder):
    write(folder, weights)
    backbone, reference = load_backbone(str(folder)), load_backbone(str(clip_folder))
    expected = reference.model.state_dict()
    for name, value in backbone.model.state_dict().items():
        assert value.dtype == expected[name].dtype
        assert torch.allclose(value, expected[name], atol=1e-3 if write is in_half_precision else 0), name
    files = sorted(path.name for path in folder.glob("*.bin"))
    assert backbone.weights.hashes == {name: file_sha256(folder / name) for name in files}
    assert backbone.describe()["weights_files"] == backbone.identity()["weights_files"] == backbone.weights.hashes
    assert not reference.weights.hashes and set(reference.describe()) == {"name", "revision", "weights_sha256"}
    assert backbone.identity() != reference.identity()


def test_safetensors_come_first(folder, weights, clip_folder):
    shutil.copy(clip_folder / "model.safetensors", folder)
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert load_backbone(str(folder)).identity() == load_backbone(str(clip_folder)).identity()


class Runs:
    """What a pickle holds that runs a command when it is read."""

    def __init__(self, marker):
        self.command = f"touch '{marker}'"

    def __reduce__(self):
        return os.system, (self.command,)


def hostile(folder, weights, marker):
    torch.save({**weights, "logit_scale": Runs(marker)}, folder / "pytorch_model.bin")


def hostile_and_plain(folder, weights, marker):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(marker)))


def hostile_shard(folder, weights, marker):
    in_shards(folder, weights)
    torch.save({"x": Runs(marker)}, folder / "pytorch_model-00002-of-00002.bin")


def whole_model(folder, weights, marker):
    torch.save(torch.nn.Linear(2, 2), folder / "pytorch_model.bin")


def nested(folder, weights, marker):
    torch.save({"state_dict": weights, "epoch": 3}, folder / "pytorch_model.bin")


def torn(folder, weights, marker):
    whole(folder, weights)
    content = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(content[: len(content) // 2])


def a_pointer(folder, weights, marker):
    (folder / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")


def empty(folder, weights, marker):
    (folder / "pytorch_model.bin").touch()


def of_other_shapes(folder, weights, marker):
    torch.save({name: torch.zeros(3) for name in weights}, folder / "pytorch_model.bin")


def without_a_weight(folder, weights, marker):
    torch.save({k: v for k, v in weights.items() if k != "visual_projection.weight"}, folder / "pytorch_model.bin")


def without_a_shard(folder, weights, marker):
    in_shards(folder, weights)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()


def index_that_leaves_the_folder(folder, weights, marker):
    whole(folder.parent, weights)
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(weights, "../pytorch_model.bin")}))


def index_of_nothing(folder, weights, marker):
    (folder / INDEX).write_text("[]")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (hostile, "pytorch_model.bin is refused"),
        (hostile_and_plain, "pytorch_model.bin is refused"),
        (hostile_shard, "pytorch_model-00002-of-00002.bin is refused"),
        (whole_model, "pytorch_model.bin is refused"),
        (nested, "holds no tensors by name"),
        (torn, "pytorch_model.bin is refused: it is damaged"),
        (a_pointer, "pytorch_model.bin is refused: it is damaged"),
        (empty, "pytorch_model.bin is refused: it is damaged"),
        (of_other_shapes, "can't be loaded: "),
        (without_a_weight, "visual_projection.weight"),
        (without_a_shard, "the shard pytorch_model-00002-of-00002.bin"),
        (index_that_leaves_the_folder, f"{INDEX} is damaged"),
        (index_of_nothing, f"{INDEX} is damaged"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused_and_runs_nothing(write, told, folder, weights, tmp_path):
    marker = tmp_path / "it ran"
    write(folder, weights, marker)
    with pytest.raises(InputError) as error:
        load_backbone(str(folder))
    message = str(error.value)
    assert message.startswith(f"--model_name_or_path {folder} (revision main) can't be loaded: ")
    assert told in message and "\n" not in message and "weights_only" not in message
    assert not marker.exists()


def test_the_hostile_pickles_would_run(folder, weights, tmp_path):
    """Otherwise the test above shows nothing."""
    marker = tmp_path / "it ran"
    hostile(folder, weights, marker)
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert marker.exists()
