import copy
import importlib
import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

import hf_clipselect.adapters.mlp
from hf_clipselect.adapters.mlp import MlpAdapterConfig, MlpAdapterLayer
from hf_clipselect.errors import InputError


ROOT = Path(__file__).resolve().parents[2]
EMBED_DIM = 12
TARGETS = ("text_projection", "visual_projection")


@pytest.fixture(scope="session")
def _clip():
    torch.manual_seed(0)
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": EMBED_DIM,
    }
    text = {"vocab_size": 32, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(
        text_config=tower | text,
        vision_config=tower | {"image_size": 32, "patch_size": 16},
        projection_dim=EMBED_DIM,
    )
    return CLIPModel(config).eval()


@pytest.fixture
def clip(_clip):
    return copy.deepcopy(_clip)


class Projections(nn.Module):
    """What adaptation trains on: two projections of cached features and nothing else."""

    def __init__(self):
        super().__init__()
        self.visual_projection = nn.Linear(16, EMBED_DIM, bias=False)
        self.text_projection = nn.Linear(10, EMBED_DIM, bias=True)

    def forward(self, image_features, text_features):
        return self.visual_projection(image_features), self.text_projection(text_features)


def embed(model):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 3, 32, 32, generator=generator)
    tokens = torch.tensor([[1, 5, 6, 2], [1, 7, 8, 2], [1, 9, 9, 2]])
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels.to(dtype)).pooler_output
        return images, model.get_text_features(input_ids=tokens).pooler_output


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def train(model, *, steps=3):
    """A few real steps on a contrastive loss over random features, through the model's own projections."""
    generator = torch.Generator().manual_seed(2)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=1e-2)
    for _ in range(steps):
        image_features = torch.randn(6, model.visual_projection.weight.shape[1], generator=generator)
        text_features = torch.randn(6, model.text_projection.weight.shape[1], generator=generator)
        images = nn.functional.normalize(model.visual_projection(image_features), dim=-1)
        texts = nn.functional.normalize(model.text_projection(text_features), dim=-1)
        loss = nn.functional.cross_entropy(images @ texts.T / 0.1, torch.arange(6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def randomize(model, *, seed, adapter="default"):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f".{adapter}." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def test_forward_by_hand():
    model = nn.Module()
    model.visual_projection = nn.Linear(1, 1, bias=False)
    adapted = get_peft_model(model, MlpAdapterConfig(target_modules=["visual_projection"], scale=0.1))
    layer = adapted.visual_projection
    with torch.no_grad():
        layer.base_layer.weight.fill_(2.0)
        layer.mlp_adapter_fc0["default"].weight.fill_(10.0)
        layer.mlp_adapter_fc0["default"].bias.fill_(0.0)
        layer.mlp_adapter_fc1["default"].weight.fill_(0.5)
        layer.mlp_adapter_fc1["default"].bias.fill_(1.0)
    # Far from 0, gelu is x or 0: y = 2 h, and y + 0.1 * (0.5 * max(10 y, 0) + 1).
    output = layer(torch.tensor([[1.0], [-1.0], [0.0], [2.0]]))
    torch.testing.assert_close(output, torch.tensor([[3.1], [-1.9], [0.1], [6.1]]))


@pytest.mark.parametrize("hidden_dim", [None, 5])
def test_forward_equals_the_formula_written_out(hidden_dim):
    torch.manual_seed(0)
    adapted = randomize(get_peft_model(Projections(), MlpAdapterConfig(hidden_dim=hidden_dim, scale=0.7)), seed=3)
    layer = adapted.text_projection
    features = torch.randn(4, 10)
    first, last = layer.mlp_adapter_fc0["default"], layer.mlp_adapter_fc1["default"]
    assert first.weight.shape == (hidden_dim or EMBED_DIM, EMBED_DIM)
    expected = []
    for row in features:
        base = layer.base_layer.weight @ row + layer.base_layer.bias
        hidden = first.weight @ base + first.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        expected.append(base + 0.7 * (last.weight @ hidden + last.bias))
    torch.testing.assert_close(layer(features), torch.stack(expected))


def test_starts_from_the_base_model_bit_for_bit(clip):
    before = embed(clip)
    adapted = get_peft_model(clip, MlpAdapterConfig())
    assert same(embed(adapted), before)
    for name in TARGETS:
        layer = getattr(adapted, name)
        assert layer.mlp_adapter_fc0["default"].weight.any()
        assert not layer.mlp_adapter_fc1["default"].weight.any()
        assert not layer.mlp_adapter_fc1["default"].bias.any()


def test_initial_weights_follow_the_global_seed():
    def first_layer(seed):
        model = Projections()
        torch.manual_seed(seed)
        return get_peft_model(model, MlpAdapterConfig()).visual_projection.mlp_adapter_fc0["default"].weight

    assert torch.equal(first_layer(0), first_layer(0))
    assert not torch.equal(first_layer(0), first_layer(1))


def test_gradients_reach_the_adapter_only_and_leave_the_base_bit_equal(clip):
    base = {name: weight.clone() for name, weight in clip.state_dict().items()}
    adapted = get_peft_model(clip, MlpAdapterConfig())
    start = {name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(start) == 2 * 2 * 2 and all(".mlp_adapter_fc" in name for name in start)
    before = embed(adapted)
    train(adapted)
    parameters = dict(adapted.named_parameters())
    assert {name for name, parameter in parameters.items() if parameter.grad is not None} == set(start)
    assert all(not torch.equal(parameters[name], start[name]) for name in start)
    assert not any(torch.equal(a, b) for a, b in zip(embed(adapted), before, strict=True))
    after = adapted.unload().state_dict()
    assert after.keys() == base.keys() and all(torch.equal(after[name], base[name]) for name in base)


def test_trains_on_a_plain_module_and_loads_onto_clip(clip, tmp_path):
    cache = Projections()
    cache.visual_projection = copy.deepcopy(clip.visual_projection)
    cache.text_projection = copy.deepcopy(clip.text_projection)
    trained = train(get_peft_model(cache, MlpAdapterConfig()))
    trained.save_pretrained(tmp_path)
    features = torch.randn(5, 16)
    loaded = PeftModel.from_pretrained(clip, tmp_path)
    assert torch.equal(loaded.visual_projection(features), trained.visual_projection(features))
    assert torch.equal(loaded.text_projection(features), trained.text_projection(features))


def test_saved_files(clip, tmp_path):
    randomize(get_peft_model(clip, MlpAdapterConfig(hidden_dim=5)), seed=0).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "MLP_ADAPTER"
    assert config["target_modules"] == list(TARGETS)
    assert (config["hidden_dim"], config["scale"]) == (5, 1.0)
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == {
        f"base_model.model.{target}.mlp_adapter_fc{layer}.{kind}"
        for target in TARGETS
        for layer in (0, 1)
        for kind in ("weight", "bias")
    }
    assert isinstance(PeftConfig.from_pretrained(tmp_path), MlpAdapterConfig)


def test_loads_without_drawing_weights_first(clip, tmp_path):
    trained = train(get_peft_model(copy.deepcopy(clip), MlpAdapterConfig()))
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(clip, tmp_path, low_cpu_mem_usage=True)
    assert same(embed(loaded), embed(trained))


def test_loads_under_another_name(clip, tmp_path):
    adapted = randomize(get_peft_model(copy.deepcopy(clip), MlpAdapterConfig()), seed=0)
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(clip, tmp_path, adapter_name="other")
    assert list(loaded.peft_config) == ["other"]
    assert same(embed(loaded), embed(adapted))


def test_disable_adapter_and_unload_give_the_base_model(clip):
    before = embed(clip)
    adapted = randomize(get_peft_model(clip, MlpAdapterConfig()), seed=0)
    adapted_embeds = embed(adapted)
    with adapted.disable_adapter():
        assert same(embed(adapted), before)
    assert same(embed(adapted), adapted_embeds) and not same(adapted_embeds, before)
    unloaded = adapted.unload()
    assert isinstance(unloaded, CLIPModel) and same(embed(unloaded), before)
    assert not any(isinstance(module, MlpAdapterLayer) for module in unloaded.modules())


def test_several_adapters(clip, tmp_path):
    base = embed(clip)
    adapted = randomize(get_peft_model(clip, MlpAdapterConfig()), seed=0)
    adapted.add_adapter("second", MlpAdapterConfig(hidden_dim=5, scale=0.5))
    randomize(adapted, seed=1, adapter="second")
    first = embed(adapted)
    assert not any(parameter.requires_grad for name, parameter in adapted.named_parameters() if ".second." in name)
    adapted.set_adapter("second")
    second = embed(adapted)
    assert all(".second." in name for name, parameter in adapted.named_parameters() if parameter.requires_grad)
    assert not same(first, second)
    adapted.base_model.set_adapter(["default", "second"])
    for both, zero, one, two in zip(embed(adapted), base, first, second, strict=True):
        torch.testing.assert_close(both, zero + (one - zero) + (two - zero))

    adapted.set_adapter("second")
    adapted.save_pretrained(tmp_path)
    adapted.delete_adapter("default")
    assert list(adapted.peft_config) == ["second"] and same(embed(adapted), second)
    assert list(adapted.visual_projection.mlp_adapter_scale) == ["second"]
    adapted.load_adapter(tmp_path, adapter_name="again")
    adapted.set_adapter("again")
    assert same(embed(adapted), first)
    adapted.load_adapter(tmp_path / "second", adapter_name="twin")
    adapted.set_adapter("twin")
    assert same(embed(adapted), second)


def test_adapters_on_different_modules(clip):
    base = embed(clip)
    adapted = randomize(get_peft_model(clip, MlpAdapterConfig(target_modules=["visual_projection"])), seed=0)
    image, text = embed(adapted)
    assert not torch.equal(image, base[0]) and torch.equal(text, base[1])
    adapted.add_adapter("texts", MlpAdapterConfig(target_modules=r"text_proj.*"))
    randomize(adapted, seed=1, adapter="texts")
    assert same(embed(adapted), (image, text))
    adapted.base_model.set_adapter(["default", "texts"])
    assert torch.equal(embed(adapted)[0], image) and not torch.equal(embed(adapted)[1], text)


def test_target_by_regular_expression_and_exclusion(clip):
    adapted = get_peft_model(
        clip, MlpAdapterConfig(target_modules=r".*(_projection|mlp\.fc1)", exclude_modules=["text_projection"])
    )
    names = [name for name, module in adapted.get_base_model().named_modules() if isinstance(module, MlpAdapterLayer)]
    assert sorted(names) == [
        "text_model.encoder.layers.0.mlp.fc1",
        "vision_model.encoder.layers.0.mlp.fc1",
        "visual_projection",
    ]


def test_modules_to_save_are_trained_and_come_back(clip, tmp_path):
    config = MlpAdapterConfig(target_modules=["visual_projection"], modules_to_save=["text_projection"])
    adapted = get_peft_model(copy.deepcopy(clip), config)
    before = adapted.text_projection.weight.detach().clone()
    train(adapted)
    assert not torch.equal(adapted.text_projection.weight, before)
    adapted.save_pretrained(tmp_path)
    assert same(embed(PeftModel.from_pretrained(clip, tmp_path)), embed(adapted))


@pytest.mark.parametrize(
    "merge",
    [
        lambda model: model.merge_adapter(),
        lambda model: model.merge_and_unload(),
        lambda model: model.visual_projection.merge(),
    ],
)
def test_merging_is_refused_and_changes_nothing(clip, merge):
    # The fully trained module comes first in the model: a refusal at the first adapter would already have unwrapped
    # it.
    adapted = get_peft_model(clip, MlpAdapterConfig(modules_to_save=["post_layernorm"]))
    before = embed(randomize(adapted, seed=0))
    modules = [name for name, _ in adapted.named_modules()]
    with pytest.raises(ValueError, match="cannot be merged.*unload"):
        merge(adapted)
    assert same(embed(adapted), before) and [name for name, _ in adapted.named_modules()] == modules


def test_only_linear_layers_are_adapted(clip):
    with pytest.raises(
        InputError,
        match=r"torch.nn.Linear modules only.*'vision_model.encoder.layers.0.self_attn', a .*CLIPAttention;",
    ):
        get_peft_model(clip, MlpAdapterConfig(target_modules=r"vision.*\.self_attn"))
    with pytest.raises(ValueError, match="no_such_layer"):
        get_peft_model(clip, MlpAdapterConfig(target_modules=["no_such_layer"]))


def test_float32_adapter_on_a_bfloat16_base(clip, tmp_path):
    trained = train(get_peft_model(copy.deepcopy(clip), MlpAdapterConfig()))
    trained.save_pretrained(tmp_path)
    half = clip.to(torch.bfloat16)
    before = embed(half)
    fresh = get_peft_model(copy.deepcopy(half), MlpAdapterConfig())
    assert same(embed(fresh), before) and before[0].dtype == torch.bfloat16
    loaded = PeftModel.from_pretrained(half, tmp_path)
    for name, parameter in trained.named_parameters():
        if ".mlp_adapter_" in name:
            assert torch.equal(dict(loaded.named_parameters())[name], parameter), name
    for half_embeds, embeds in zip(embed(loaded), embed(trained), strict=True):
        assert half_embeds.dtype == torch.bfloat16
        torch.testing.assert_close(half_embeds.float(), embeds, rtol=0.05, atol=0.05)


def test_adapter_in_the_dtype_of_a_bfloat16_base(clip):
    adapted = get_peft_model(clip.to(torch.bfloat16), MlpAdapterConfig(), autocast_adapter_dtype=False)
    assert {parameter.dtype for parameter in adapted.parameters()} == {torch.bfloat16}
    assert embed(adapted)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("hidden_dim", [0, -3, 2.5, True, "8"])
def test_config_refuses_a_bad_hidden_dim(hidden_dim):
    with pytest.raises(InputError, match=r"hidden_dim .*at least 1"):
        MlpAdapterConfig(hidden_dim=hidden_dim)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 10**400, None, "1"])
def test_config_refuses_a_bad_scale(scale):
    with pytest.raises(InputError, match=r"scale .*finite number"):
        MlpAdapterConfig(scale=scale)


@pytest.mark.parametrize("name", ["target_modules", "exclude_modules", "modules_to_save"])
@pytest.mark.parametrize("value", [3, [3], [["text_projection"]], {"text_projection": 1}])
def test_config_refuses_what_names_no_modules(name, value):
    with pytest.raises(InputError, match=f"{name} .*list of names"):
        MlpAdapterConfig(**{name: value})


def test_registering_twice_is_harmless():
    types = list(PeftType)
    importlib.reload(hf_clipselect.adapters.mlp)
    assert list(PeftType) == types and types.count("MLP_ADAPTER") == 1
    assert PeftType("MLP_ADAPTER") is PeftType["MLP_ADAPTER"] is MlpAdapterConfig().peft_type


def test_stock_lora_is_unaffected(clip, tmp_path):
    config = LoraConfig(target_modules=["visual_projection", "text_projection"], r=2)
    adapted = train(get_peft_model(copy.deepcopy(clip), config))
    adapted.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"
    embeds = embed(adapted)
    assert not same(embeds, embed(clip))
    assert same(embed(PeftModel.from_pretrained(clip, tmp_path)), embeds)
    for merged, unmerged in zip(embed(adapted.merge_and_unload()), embeds, strict=True):
        torch.testing.assert_close(merged, unmerged)
