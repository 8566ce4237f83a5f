"""What is published of an adapter folder: the files themselves, but no path of this machine."""

import json
from pathlib import Path

import pytest

from hf_clipselect import InputError
from hf_clipselect.hub.publish import publishable_adapter


def folder_with(folder: Path, **config: object) -> bytes:
    content = json.dumps({"peft_type": "LORA", "r": 8, **config}, indent=3).encode()
    (folder / "adapter_config.json").write_bytes(content)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("card")
    return content


@pytest.mark.parametrize(
    ("base", "revision"),
    [("openai/clip", None), ("gpt2", "0" * 40), ("embedded/tiny-clip", None), (None, None), ("", None)],
)
def test_names_that_others_can_use_stay_byte_for_byte(tmp_path, base, revision):
    content = folder_with(tmp_path, base_model_name_or_path=base, revision=revision)
    assert publishable_adapter(tmp_path) == {
        "adapter_config.json": content,
        "adapter_model.safetensors": tmp_path / "adapter_model.safetensors",
    }


@pytest.mark.parametrize(
    "base", ["/home/me/secret-clip", "~/clip", "./clip", "C:\\clip", "clip", "an existing folder"]
)
def test_a_base_model_in_a_folder_is_not_named(tmp_path, base):
    (tmp_path / "clip").mkdir()
    content = folder_with(tmp_path, base_model_name_or_path=base.replace("an existing folder", str(tmp_path / "clip")))
    config = json.loads(publishable_adapter(tmp_path)["adapter_config.json"])
    assert config == {**json.loads(content), "base_model_name_or_path": None}
    assert (tmp_path / "adapter_config.json").read_bytes() == content


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_one_of_the_files_is_refused(tmp_path, missing):
    folder_with(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"has no {missing}; give the folder `adapter` of a run"):
        publishable_adapter(tmp_path)
