"""Adapters from outside: what fits comes back bit-equal, everything else is refused in a sentence before it does
harm.
"""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from hf_clipselect import InputError, load_adapters
from hf_clipselect.adapters.adapter_files import fetch_adapter
from hf_clipselect.adapters.decision import check_peft_config
from hf_clipselect.adapters.mlp import MlpAdapterConfig
from hf_clipselect.adapters.peft_configs import peft_methods, read_peft_config
from hf_clipselect.adapters.peft_folder import load_into, save_adapters
from hf_clipselect.adapters.placing import refusing_misfits
from hf_clipselect.adapters.pretrained import check_given
from hf_clipselect.encoder.backbone import Backbone, load_backbone


PROJECTIONS = ["visual_projection", "text_projection"]
# What the methods need beyond their defaults on layers as narrow as those of the tests' CLIP.
SETTINGS = {
    "C3A": {"block_size": 4},
    "FOURIERFT": {"n_frequency": 4},
    "GRALORA": {"r": 2},
    "IA3": {"feedforward_modules": []},
    "LN_TUNING": {"target_modules": ["post_layernorm"]},
    "MISS": {"r": 2},
    "OFT": {"r": 0, "oft_block_size": 4},
    "ROAD": {"group_size": 4},
    "WAVEFT": {"n_frequency": 4},
}


@pytest.fixture(scope="module")
def backbone(clip_folder: Path) -> Backbone:
    return load_backbone(str(clip_folder))


@pytest.fixture
def clip(backbone: Backbone) -> CLIPModel:
    return copy.deepcopy(backbone.model)


def embeds(model: torch.nn.Module) -> torch.Tensor:
    pixels = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    tokens = torch.tensor([[512, 5, 6, 513], [512, 7, 8, 513]])
    with torch.inference_mode():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        return torch.cat([images, model.get_text_features(input_ids=tokens).pooler_output])


def trained(clip: CLIPModel, config: PeftConfig, folder: Path, base_model: str = "someone/clip") -> torch.Tensor:
    """Adapters with weights of their own, saved; returns the embeddings that they give."""
    adapted = get_peft_model(copy.deepcopy(clip), config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    save_adapters(adapted, folder, base_model=base_model, base_revision=None)
    return embeds(adapted)


@pytest.fixture
def mlp(clip: CLIPModel, tmp_path: Path) -> Path:
    trained(clip, MlpAdapterConfig(), tmp_path / "mlp")
    return tmp_path / "mlp"


@pytest.fixture
def lora(clip: CLIPModel, tmp_path: Path) -> Path:
    trained(clip, LoraConfig(r=2, target_modules=PROJECTIONS), tmp_path / "lora")
    return tmp_path / "lora"


def edit(folder: Path, **changes: object) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def refusal(clip: CLIPModel, folder: Path) -> str:
    """The message of the refusal, after which the model must be as it was."""
    before = embeds(clip)
    with pytest.raises(InputError) as error:
        load_adapters(folder, base_model=clip)
    assert torch.equal(embeds(clip), before) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("method", peft_methods())
def test_every_method_on_the_list_comes_back_bit_equal(clip, tmp_path, method):
    values = {"peft_type": method, "target_modules": PROJECTIONS, **SETTINGS.get(method, {})}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    plain = embeds(clip)
    expected = trained(clip, read_peft_config(path), tmp_path / "adapter")
    torch.manual_seed(3)  # whatever is drawn anew on loading would show
    state = torch.get_rng_state()
    loaded = load_adapters(tmp_path / "adapter", base_model=clip)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(embeds(loaded), expected) and not torch.equal(expected, plain)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=PROJECTIONS),
        LoraConfig(target_modules=r"vision_model\..*\.(q_proj|v_proj)", use_dora=True),
        LoraConfig(target_modules=PROJECTIONS, task_type="FEATURE_EXTRACTION", bias="all"),
        LoraConfig(target_modules=PROJECTIONS, rank_pattern={"visual_projection": 3}),
        MlpAdapterConfig(hidden_dim=3, scale=0.5),
    ],
    ids=["towers", "dora", "bias", "pattern", "mlp"],
)
def test_adapters_anywhere_in_the_model_load(clip, tmp_path, config):
    expected = trained(clip, config, tmp_path)
    assert torch.equal(embeds(load_adapters(tmp_path, base_model=clip)), expected)


def test_the_base_model_is_the_one_that_the_config_names_or_the_one_that_is_passed(clip, clip_folder, tmp_path):
    expected = trained(clip, MlpAdapterConfig(), tmp_path, base_model=str(clip_folder))
    assert torch.equal(embeds(load_adapters(tmp_path)), expected)
    edit(tmp_path, base_model_name_or_path="/home/somebody/clip")
    with pytest.raises(InputError, match=r"a folder of the machine .* /home/somebody/clip; pass base_model="):
        load_adapters(tmp_path)
    edit(tmp_path, base_model_name_or_path=None, revision="0" * 40)
    with pytest.raises(InputError, match="does not name its base model; pass base_model="):
        load_adapters(tmp_path)
    assert torch.equal(embeds(load_adapters(tmp_path, base_model=str(clip_folder))), expected)
    edit(tmp_path, base_model_name_or_path="embedded/no-such")
    with pytest.raises(InputError, match=r"pass base_model=.*embedded/no-such is not embedded"):
        load_adapters(tmp_path)


def test_a_base_folder_is_saved_as_an_absolute_path(clip, clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(clip_folder.parent)
    trained(clip, MlpAdapterConfig(), tmp_path, base_model=clip_folder.name)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(clip_folder)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_one_of_the_two_files_is_refused(clip, mlp, missing):
    (mlp / missing).unlink()
    assert f"holds no adapter that can be loaded: {missing} can't be read" in refusal(clip, mlp)


def test_pickle_is_never_read(clip, mlp):
    class Boom:
        def __reduce__(self) -> tuple:
            return (Path.touch, (mlp / "ran",))

    (mlp / "adapter_model.safetensors").unlink()
    torch.save({"a": Boom()}, mlp / "adapter_model.bin")
    assert "pickle files such as adapter_model.bin, which can run code, are never read" in refusal(clip, mlp)
    assert not (mlp / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 60_000, "is not JSON"),
        (b'{"peft_type": "LORA", "lora_alpha": NaN}', "lora_alpha to nan, which is no finite number"),
        (b"[1]", "holds a list, not an object"),
        (b"{}", "its peft_type is 'None'. Methods that adapt modules .*LORA, MISS, MLP_ADAPTER"),
        (b'{"peft_type": ["LORA"]}', "its peft_type is"),
        (b'{"peft_type": "NO_SUCH"}', "its peft_type is 'NO_SUCH'"),
        (b'{"peft_type": "ADALORA"}', "its peft_type is 'ADALORA'"),
        (b'{"peft_type": "PROMPT_TUNING"}', "its peft_type is 'PROMPT_TUNING'"),
        (b'{"peft_type": "XLORA", "adapters": {"a": "someone/else"}}', "its peft_type is 'XLORA'"),
        (b'{"peft_type": "LORA", "x": "' + b"x" * 65_536 + b'"}', "has more than 65,536 bytes"),
        (b'{"peft_type": "LORA", "lora_alpha": 1e999}', "lora_alpha to inf, which is no finite number"),
    ],
)
def test_a_config_that_is_none_is_refused(clip, mlp, content, message):
    (mlp / "adapter_config.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_adapters(mlp, base_model=clip)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 10**12}, "sets r to 1000000000000; at most 65536"),
        ({"r": 10**400}, "sets r to 1000"),
        ({"r": 60_000}, "do not fit their config"),
        ({"r": "8"}, "TypeError"),
        ({"r": 0}, "should be a positive integer"),
        ({"rank_pattern": {"visual_projection": 10**9}}, "sets rank_pattern to 1000000000"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "sets megatron_config"),
        ({"corda_config": {"cache_file": "/etc/passwd"}}, "sets corda_config"),
        ({"lora_ga_config": {"cache_file": "/etc/passwd"}}, "sets lora_ga_config"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights to 'pissa', which changes the base model"),
        ({"init_lora_weights": ["corda"]}, "init_lora_weights"),
        ({"task_type": "CAUSAL_LM"}, "is for the task CAUSAL_LM"),
        ({"base_model_name_or_path": ["a"]}, "sets base_model_name_or_path to"),
        ({"revision": 7}, "sets revision to 7"),
        ({"megatron_config": ["a"], "megatron_core": "antigravity"}, "sets megatron_config"),
        ({"alora_invocation_tokens": [1]}, "sets alora_invocation_tokens"),
        ({"eva_config": {"rho": 2}}, "only numbers, names and *_pattern mappings are"),
        ({"target_modules": ["visual_projection", "text_projektion"]}, "text_projection.lora_A.weight belongs to no"),
        ({"target_modules": ["jection"]}, "Target modules"),
        ({"rank_pattern": {str(i): 4 for i in range(501)}}, "sets rank_pattern to 501 values; at most 500"),
        ({"modules_to_save": [str(i) for i in range(401)]}, "use at most 400 names"),
        ({"modules_to_save": [["(a+)+!"]]}, "sets modules_to_save to ['(a+)+!'], but names of modules are texts"),
        ({"target_modules": "nowhere"}, "does not fit a CLIPModel"),
        ({"target_modules": 5}, "TypeError 'int' object is not iterable"),
        ({"target_modules": ["visual_projection"]}, "text_projection.lora_A.weight belongs to no module and 1 more"),
        ({"target_modules": [*PROJECTIONS, "q_proj"]}, "q_proj.lora_A.weight is missing and 3 more"),
        ({"modules_to_save": ["post_layernorm"]}, "post_layernorm.bias is missing"),
        ({"layer_replication": [[0, 60_000]]}, "does not fit a CLIPModel"),
    ],
    ids=str,
)
def test_a_config_that_asks_for_more_than_the_file_holds_is_refused(clip, lora, changes, message):
    assert message in refusal(clip, edit(lora, **changes))


# Each of these takes for ever on the names of a CLIP: groups with quantifiers, alternatives in a row, many
# quantifiers.
ENDLESS = [
    r"([a-z_.0-9]+)*X",
    "(?x)(.+) +X",
    "(.+)(?#)+X",
    "(.+)+X",
    "(.*){9}X",
    "(?:.|.)" * 50 + "X",
    ".?" * 60 + "X",
    ".*" * 30 + "X",
]
USED_IN = {
    "target_modules": lambda pattern: pattern,
    "exclude_modules": lambda pattern: pattern,
    "rank_pattern": lambda pattern: {"visual_projection": 2, pattern: 4},
    "alpha_pattern": lambda pattern: {pattern: 4},
    "layers_pattern": lambda pattern: ["layers", pattern],
    "modules_to_save": lambda pattern: [pattern],
}


@pytest.mark.parametrize("pattern", ENDLESS)
@pytest.mark.parametrize("key", USED_IN)
def test_a_pattern_that_takes_for_ever_to_match_is_refused(clip, lora, tmp_path, key, pattern):
    told = refusal(clip, edit(lora, **{key: USED_IN[key](pattern)}))
    assert f"sets {key} to " in told and ("no quantifier on a group" in told or "for ever to match" in told)
    with pytest.raises(InputError, match=f"--peft_config .* sets {key} to "):
        read_peft_config(lora / "adapter_config.json")


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "a)(b",
        "[",
        "[]",
        "a**",
        "*a",
        "(?=a)",
        r"(a)\1",
        "a|*",
        "{",
        "a{2}",
        "\\",
        "(" * 20_000 + ")" * 20_000,
    ],
)
def test_a_pattern_that_is_none_or_repeats_groups_is_refused(clip, lora, pattern):
    assert "sets exclude_modules to" in refusal(clip, edit(lora, exclude_modules=pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        "visual_projection",
        "all-linear",
        "^model.decoder.layers.0.encoder_attn.k_proj",
        r".*\.layers\.\d+\..*(q|k|v|out)_proj$",
        r"(?:vision|text)_model\.encoder\.layers\.(0|1[01]|[2-9])\.mlp\.fc[12]",
        ".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",  # of the documentation of LoraConfig
    ],
)
def test_usual_patterns_are_read(tmp_path, pattern):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "target_modules": pattern, "rank_pattern": {pattern: 2}}))
    assert read_peft_config(path).rank_pattern == {pattern: 2}


def test_a_config_of_any_size_is_read_only_as_far_as_one_can_be(clip, mlp):
    os.truncate(mlp / "adapter_config.json", 2**31)
    assert "has more than 65,536 bytes" in refusal(clip, mlp)


def test_the_config_is_checked_before_the_weights_are_read(mlp):
    edit(mlp, peft_type="XLORA")
    (mlp / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="its peft_type is 'XLORA'"):
        fetch_adapter(mlp)


def test_a_folder_has_no_revision(clip, mlp):
    with pytest.raises(InputError, match="is a local folder, which has no revision 'v1'; leave revision out"):
        load_adapters(mlp, base_model=clip, revision="v1")


def test_one_target_too_many_is_told_and_does_no_harm(clip, lora, tmp_path, caplog):
    expected = embeds(load_adapters(lora, base_model=copy.deepcopy(clip)))
    edit(lora, target_modules=[*PROJECTIONS, "query"])
    assert torch.equal(embeds(load_adapters(lora, base_model=copy.deepcopy(clip))), expected)
    assert "names target_modules that a CLIPModel does not have, and that nothing is loaded for: query." in caplog.text
    # Of one's own config it is a mistake in writing.
    with pytest.raises(InputError, match="does not have: query"):
        check_peft_config(clip, read_peft_config(lora / "adapter_config.json"))


def test_what_peft_cannot_name_the_weights_of_is_refused(clip):
    with pytest.raises(InputError, match="Some config does not fit a CLIPModel: NotImplementedError no data"):
        with refusing_misfits(clip, "Some config"):
            raise NotImplementedError("no data")


def test_hidden_sizes_are_compared_with_the_file_before_anything_is_allocated(clip, mlp):
    assert "at most 65536" in refusal(clip, edit(mlp, hidden_dim=10**11))
    assert "mlp_adapter_fc0.bias is (8,) float32, expected (9,) float32" in refusal(clip, edit(mlp, hidden_dim=9))


def test_what_belongs_to_other_libraries_in_a_config_is_left_aside(clip, lora, caplog):
    edit(
        lora,
        auto_mapping={"base_model_class": "X", "parent_library": "antigravity"},
        runtime_config={"a": 1},
        new_key=1,
    )
    load_adapters(lora, base_model=clip)
    assert "keys that this version of peft does not know and ignores: new_key." in caplog.text


FIRST = "base_model.model.visual_projection.mlp_adapter_fc0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(FIRST), f"{FIRST} is missing"),
        (lambda weights: weights.update(extra=torch.zeros(2)), "extra belongs to no module"),
        (
            lambda weights: weights.update({FIRST: torch.zeros(8, 7)}),
            f"{FIRST} is (8, 7) float32, expected (8, 8) float32",
        ),
        (lambda weights: weights.update({FIRST: torch.zeros(8, 8, dtype=torch.complex64)}), "(8, 8) complex64"),
        (lambda weights: weights[FIRST].fill_(float("nan")), f"{FIRST} holds NaN or infinite numbers"),
        (lambda weights: weights[FIRST][0, 0].fill_(float("-inf")), f"{FIRST} holds NaN or infinite numbers"),
        (lambda weights: weights.clear(), "fc0.bias is missing and 7 more"),
    ],
    ids=["missing", "extra", "shape", "complex", "nan", "inf", "empty"],
)
def test_weights_that_are_not_those_of_the_config_are_refused(clip, mlp, change, message):
    assert message in refusal(clip, edit_weights(mlp, change))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 pickle", b"\xff" * 64], ids=["empty", "zip", "length"])
def test_a_weights_file_in_another_format_is_refused(clip, mlp, content):
    (mlp / "adapter_model.safetensors").write_bytes(content)
    assert "adapter_model.safetensors of the folder" in refusal(clip, mlp)


def test_half_precision_weights_load_as_float32(clip, mlp):
    edit_weights(mlp, lambda weights: weights.update({name: value.half() for name, value in weights.items()}))
    loaded = load_adapters(mlp, base_model=clip)
    assert loaded.base_model.model.visual_projection.mlp_adapter_fc0["default"].weight.dtype == torch.float32


def test_what_is_checked_is_what_is_loaded(clip, mlp):
    """The files may change between the check and the use, as a folder on a shared disk does."""
    adapter = fetch_adapter(mlp)
    expected = embeds(load_adapters(mlp, base_model=copy.deepcopy(clip)))
    edit_weights(mlp, lambda weights: weights.clear())
    assert torch.equal(embeds(load_into(clip, adapter)), expected)


def warned_of(caplog: pytest.LogCaptureFixture) -> str:
    text = "\n".join(caplog.messages)
    caplog.clear()
    return text


def test_another_base_model_than_the_one_of_the_config_is_told(clip, clip_folder, mlp, tmp_path, caplog):
    load_adapters(mlp, base_model=str(clip_folder))
    assert f"say that they are made for 'someone/clip', and are put on '{clip_folder}'." in warned_of(caplog)
    load_adapters(mlp, base_model=load_backbone(str(clip_folder)).model)
    assert f"say that they are made for 'someone/clip', and are put on '{clip_folder}'." in warned_of(caplog)
    edit(mlp, base_model_name_or_path=None)
    load_adapters(mlp, base_model=copy.deepcopy(clip))
    assert "do not say which model they are made for" in warned_of(caplog)
    edit(mlp, base_model_name_or_path=str(clip_folder))
    load_adapters(mlp)
    load_adapters(mlp, base_model=os.path.relpath(clip_folder))
    assert warned_of(caplog) == ""
    embedded = load_backbone("embedded/tiny-clip").model
    adapted = get_peft_model(embedded, MlpAdapterConfig())
    save_adapters(adapted, tmp_path / "embedded", base_model="embedded/tiny-clip", base_revision=None)
    load_adapters(tmp_path / "embedded", base_model=load_backbone("embedded/tiny-clip").model)
    assert "made for" not in warned_of(caplog)


def test_given_adapters_sit_on_the_projections_of_the_same_model(clip, clip_folder, tmp_path, caplog):
    # A name in place of the folder: the test needs no download.
    backbone = replace(load_backbone(str(clip_folder)), name="someone/clip")
    plain = embeds(backbone.model)
    trained(clip, MlpAdapterConfig(), tmp_path / "other", base_model="openai/clip-vit-base-patch32")
    with pytest.raises(
        InputError, match=r"made for openai/clip-vit-base-patch32, but .*--model_name_or_path openai/clip"
    ):
        check_given(fetch_adapter(tmp_path / "other"), backbone)
    trained(clip, MlpAdapterConfig(), tmp_path / "elsewhere", base_model="/home/somebody/clip")
    check_given(fetch_adapter(tmp_path / "elsewhere"), backbone)
    check_given(fetch_adapter(edit(tmp_path / "elsewhere", base_model_name_or_path=None)), backbone)
    towers = LoraConfig(target_modules=["q_proj", *PROJECTIONS])
    trained(clip, towers, tmp_path / "towers", base_model=backbone.name)
    with pytest.raises(InputError, match=r"trains .*q_proj.* name these two in target_modules"):
        check_given(fetch_adapter(tmp_path / "towers"), backbone)
    assert torch.equal(embeds(backbone.model), plain)


@pytest.mark.parametrize("base", ["openai/clip-vit-base-patch32", "embedded/tiny-clip"])
def test_a_folder_may_be_a_copy_of_the_model_that_given_adapters_name(clip, backbone, tmp_path, caplog, base):
    trained(clip, MlpAdapterConfig(), tmp_path, base_model=base)
    check_given(fetch_adapter(tmp_path), backbone)
    assert f"say that they are made for {base!r}, and are put on {backbone.name!r}." in caplog.text
    with pytest.raises(InputError, match=f"made for {base}, but the model of the run is someone/clip"):
        check_given(fetch_adapter(tmp_path), replace(backbone, name="someone/clip"))


def test_a_peft_config_whose_adapters_could_not_be_loaded_again_is_refused_before_training(clip, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "init_lora_weights": "pissa"}))
    with pytest.raises(InputError, match=r"--peft_config .* changes the base model's weights"):
        read_peft_config(path)
    path.write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    check_peft_config(clip, read_peft_config(path))
    assert not isinstance(clip, PeftModel) and type(clip.visual_projection) is torch.nn.Linear


def test_more_weights_than_any_adapter_has_are_not_read(clip, mlp):
    os.truncate(mlp / "adapter_model.safetensors", 2**31 + 1)  # sparse: takes no room on the disk
    assert "adapter_model.safetensors has 2,147,483,649 bytes; at most 2,147,483,648" in refusal(clip, mlp)
