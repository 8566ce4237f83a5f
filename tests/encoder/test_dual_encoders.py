"""Every kind of dual encoder through the same door: encoded once, adapted, scored, saved, loaded again, given back."""

import copy
import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from dual_encoders import KINDS, POSITIONS, save_dual_encoder
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image as PILImage
from safetensors.numpy import load_file
from torch import nn
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from hf_clipselect import InputError, MlpAdapterConfig, load_adapters, select_dataset
from hf_clipselect.adapters.decision import check_peft_config
from hf_clipselect.adapters.peft_configs import read_peft_config
from hf_clipselect.adapters.peft_folder import save_adapters
from hf_clipselect.adapters.placing import new_adapters
from hf_clipselect.adapters.projections import Projections, embed_prompts
from hf_clipselect.data import read_images
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.dual_encoder import of_model, output_size
from hf_clipselect.encoder.features import encode_dataset
from hf_clipselect.encoder.texts import encode_prompts
from hf_clipselect.encoder.tokens import tokenize
from hf_clipselect.runtime.launch import make_accelerator


NAMES = ["red thing", "green_thing", "blue thing"]
PROMPTS = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
LONG = "a photo of a very " + "very " * 100 + "long dog."
LINEAR = [kind for kind in KINDS if not kind.startswith("siglip")]
POOLED = ["siglip", "siglip2"]


@pytest.fixture(scope="module")
def pictures():
    """42 images of three colours, of several shapes."""
    rng = np.random.default_rng(0)
    base = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    sizes = [(12, 10), (16, 16), (9, 30)]
    values = [
        np.clip(base[row % 3] + rng.normal(0, 40, (*sizes[row % 2 + row % 4 // 3], 3)), 0, 255) for row in range(42)
    ]
    return [PILImage.fromarray(value.astype(np.uint8)) for value in values]


@pytest.fixture(scope="module")
def dataset(pictures):
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    return Dataset.from_dict({"image": pictures, "label": [row % 3 for row in range(42)]}, features=features)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """Of each kind one, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("models")
    return lambda kind: folder / kind if (folder / kind).exists() else save_dual_encoder(kind, folder / kind)


@pytest.fixture(scope="module")
def finished_run(dataset, model_folder, tmp_path_factory):
    """Of each kind one run that trains adapters, made when it is first asked for; tests only read it."""

    @functools.cache
    def finish(kind):
        folder, output_dir = model_folder(kind), tmp_path_factory.mktemp(kind)
        return SimpleNamespace(folder=folder, output_dir=output_dir, result=run(dataset, folder, output_dir))

    return finish


@pytest.fixture(params=KINDS)
def finished(request, finished_run):
    return finished_run(request.param)


def run(dataset, folder, output_dir=None, **changes):
    settings = {
        "num_train_epochs": 3,
        "adaptation": "always",
        "prompt_template": "a photo of a {}.",
        "dataloader_num_workers": 0,
    }
    return select_dataset(dataset, model_name_or_path=folder, output_dir=output_dir, **{**settings, **changes})


def image_inputs(folder, pictures):
    return load_backbone(str(folder)).image_processor(images=pictures, return_tensors="pt")


def text_inputs(folder, texts):
    """As the model cards say: SigLIP was trained on padding, and without a mask."""
    backbone = load_backbone(str(folder))
    padded = backbone.model.config.model_type.startswith("siglip")
    tokens = backbone.tokenizer(
        texts, padding="max_length" if padded else True, truncation=True, max_length=POSITIONS, return_tensors="pt"
    )
    return {"input_ids": tokens["input_ids"]} if padded else tokens


@torch.inference_mode()
def embed(model, folder, pictures, texts=PROMPTS):
    """Unit-norm embeddings as the model gives them itself."""
    images = model.get_image_features(**image_inputs(folder, pictures)).pooler_output
    texts = model.get_text_features(**text_inputs(folder, texts)).pooler_output
    return nn.functional.normalize(images, dim=-1), nn.functional.normalize(texts, dim=-1)


def encode(dataset, backbone, folder, **options):
    accelerator = make_accelerator(use_cpu=True)
    encoded = encode_dataset(
        read_images(dataset), backbone, folder, accelerator=accelerator, **{"num_workers": 0, **options}
    )
    return encoded.features.take(np.arange(len(encoded.features)))


def randomized(adapted):
    generator = torch.Generator().manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return adapted.eval()


def write_json(path, values):
    path.write_text(json.dumps(values))
    return path


# A whole run


def test_cached_features_become_the_embeddings_of_the_model(finished, pictures):
    model = AutoModel.from_pretrained(finished.folder).eval()
    images, texts = embed(model, finished.folder, pictures)
    projections = Projections(model)
    cached = torch.from_numpy(load_file(finished.output_dir / "features" / "images-00000.safetensors")["features"])
    prompts = torch.from_numpy(load_file(finished.output_dir / "features" / "text.safetensors")["features"])
    with torch.inference_mode():
        torch.testing.assert_close(projections.embed_images(cached), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(embed_prompts(projections, prompts[None]), texts, atol=1e-5, rtol=0)
    assert images.std(dim=0).max() > 1e-2 and texts.std(dim=0).max() > 1e-2  # else all would be near


def test_scores_are_those_of_the_adapted_model_on_the_images_themselves(finished, dataset, pictures):
    adapted = load_adapters(finished.output_dir / "adapter")
    images, texts = embed(adapted, finished.folder, pictures)
    sas = (images * texts[dataset["label"][:]]).sum(dim=1).numpy()
    np.testing.assert_allclose(finished.result.scores["sas"][:], sas, atol=1e-5)
    plain = embed(AutoModel.from_pretrained(finished.folder).eval(), finished.folder, pictures)
    assert not torch.allclose(images, plain[0], atol=1e-2) and not torch.allclose(texts, plain[1], atol=1e-2)


def test_adapters_learn_what_the_labels_say(finished):
    adaptation = finished.result.report["adaptation"]
    assert adaptation["kept"] and adaptation["held_out_loss_adapted"] < adaptation["held_out_loss_plain"]


def test_adapters_load_with_plain_peft_too(finished, pictures):
    ours = load_adapters(finished.output_dir / "adapter")
    stock = PeftModel.from_pretrained(
        AutoModel.from_pretrained(finished.folder), finished.output_dir / "adapter"
    ).eval()
    for one, other in zip(
        embed(ours, finished.folder, pictures), embed(stock, finished.folder, pictures), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_adapters_given_back_give_the_same_scores(kind, finished_run, dataset):
    finished = finished_run(kind)
    again = run(dataset, finished.folder, adapter_name_or_path=finished.output_dir / "adapter")
    assert again.scores.to_dict() == finished.result.scores.to_dict()
    assert np.array_equal(again.selected, finished.result.selected)


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_a_repeated_run_finds_features_and_adapters(kind, finished_run, dataset):
    finished = finished_run(kind)
    before = {path: path.stat().st_mtime_ns for path in finished.output_dir.glob("[fa]*/*.safetensors")}
    again = run(dataset, finished.folder, finished.output_dir)
    assert again.scores.to_dict() == finished.result.scores.to_dict()
    assert len(before) == 3 and all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize("kind", [*KINDS, "roberta"])
def test_saved_adapters_come_back_bit_equal(kind, model_folder, pictures, tmp_path):
    folder = model_folder(kind)
    backbone = load_backbone(str(folder))
    adapted = randomized(new_adapters(backbone.model, MlpAdapterConfig()))
    expected = embed(adapted, folder, pictures)
    save_adapters(adapted, tmp_path, base_model=str(folder), base_revision=None)
    loaded = embed(load_adapters(tmp_path), folder, pictures)
    assert all(torch.equal(one, other) for one, other in zip(loaded, expected, strict=True))
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(head.name for head in of_model(backbone.model).heads)


# What is cached


def test_the_key_says_which_point_of_the_network_unless_it_is_before_projections(model_folder):
    clip = load_backbone(str(model_folder("clip"))).identity()
    assert sorted(clip) == ["dtype", "image_processor", "model", "revision", "weights_sha256"]
    for kind in POOLED:
        identity = load_backbone(str(model_folder(kind))).identity()
        assert identity["image_features"] == "output of vision_model.head"
        assert identity["text_features"] == "input of text_model.head"


@pytest.mark.parametrize("kind", POOLED)
def test_every_tensor_of_the_image_processor_reaches_the_model(kind, model_folder, dataset, tmp_path):
    backbone = load_backbone(str(model_folder(kind)))
    assert set(backbone.image_processor.model_input_names) == (
        {"pixel_values"} if kind == "siglip" else {"pixel_values", "pixel_attention_mask", "spatial_shapes"}
    )
    features = encode(dataset, backbone, tmp_path / "here", batch_size=5)
    assert features.shape == (42, backbone.hidden_size) == (42, backbone.embed_dim)
    for name, workers, limit in (("pipe", 2, 2**22), ("memory", 2, 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hf_clipselect.encoder.pixels._BYTES_THROUGH_A_PIPE", limit)
            assert np.array_equal(
                encode(dataset, backbone, tmp_path / name, batch_size=5, num_workers=workers), features
            )


def test_masks_and_shapes_are_halved_with_the_pixels(model_folder, dataset, tmp_path, monkeypatch):
    backbone = load_backbone(str(model_folder("siglip2")))
    expected = encode(dataset, backbone, tmp_path / "whole", batch_size=42)
    forward = type(backbone.model).get_image_features

    def short_of_memory(model, pixel_values, **others):
        if len(pixel_values) > 13:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(model, pixel_values=pixel_values, **others)

    monkeypatch.setattr(type(backbone.model), "get_image_features", short_of_memory)
    np.testing.assert_allclose(encode(dataset, backbone, tmp_path / "halves", batch_size=42), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "roberta"])
def test_long_prompts_are_cut_at_the_positions_of_the_model(kind, model_folder, pictures, tmp_path):
    backbone = load_backbone(str(model_folder(kind)))
    texts = [LONG, *PROMPTS]
    features = encode_prompts(backbone, [texts], tmp_path)
    _, expected = embed(backbone.model, model_folder(kind), pictures[:1], texts)
    inputs = text_inputs(model_folder(kind), texts)
    assert inputs["input_ids"].shape == (4, POSITIONS)
    torch.testing.assert_close(embed_prompts(Projections(backbone.model), features), expected, atol=1e-5, rtol=0)
    tokens = tokenize(backbone, [[PROMPTS[0], *texts], [*texts, PROMPTS[0]]])
    assert (tokens.too_long.tolist(), tokens.limit) == ([1, 5], POSITIONS)
    assert tokenize(backbone, [PROMPTS]).too_long.tolist() == []
    padded = tokens.padded(np.arange(1, 5), POSITIONS)
    assert padded.keys() == inputs.keys() and all(torch.equal(padded[name], inputs[name]) for name in inputs)


@pytest.mark.parametrize("kind", POOLED)
def test_siglip_prompts_are_padded_and_the_padding_is_seen(kind, model_folder, tmp_path):
    backbone = load_backbone(str(model_folder(kind)))
    alone = encode_prompts(backbone, [PROMPTS[:1]], tmp_path / "alone")
    torch.testing.assert_close(encode_prompts(backbone, [PROMPTS], tmp_path / "all")[:, :1], alone, atol=1e-6, rtol=0)
    tokens = backbone.tokenizer(PROMPTS[:1], return_tensors="pt")
    with torch.inference_mode():
        bare = backbone.model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        padded = backbone.model.text_model.head(alone[0])
    assert not torch.allclose(padded, bare, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_towers_keep_the_heads_in_float32(kind, model_folder, dataset, tmp_path):
    backbone = load_backbone(str(model_folder(kind)))
    half = load_backbone(str(model_folder(kind)), precision="bfloat16")
    model = half.model
    heads = tuple(f"{head.name}." for head in of_model(model).heads)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if name.startswith(heads) else torch.bfloat16), name
    assert half.identity()["dtype"] == "torch.bfloat16"
    assert half.logit_scale == backbone.logit_scale == float(backbone.model.logit_scale.exp())
    embeds = []
    for name, each in (("exact", backbone), ("near", half)):
        projections = Projections(new_adapters(copy.deepcopy(each.model), MlpAdapterConfig()))
        assert all(parameter.dtype == torch.float32 for parameter in projections.parameters())
        features = encode(dataset, each, tmp_path / name)
        assert features.dtype == np.float32
        with torch.inference_mode():
            texts = embed_prompts(projections, encode_prompts(each, [PROMPTS], tmp_path / name))
            embeds.append(torch.cat([projections.embed_images(torch.from_numpy(features)), texts]))
    exact, near = embeds
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert (near * exact).sum(dim=1).min() > 0.99


# Adapters on a head that pools


@pytest.mark.parametrize("kind", POOLED)
def test_an_adapter_on_a_pooler_by_the_formula(kind, model_folder, pictures):
    folder = model_folder(kind)
    model = load_backbone(str(folder)).model
    inputs = image_inputs(folder, pictures)
    with torch.inference_mode():
        before = model.get_image_features(**inputs).pooler_output
        adapted = get_peft_model(model, MlpAdapterConfig(hidden_dim=5, scale=0.7))  # by its default targets
        assert torch.equal(adapted.get_image_features(**inputs).pooler_output, before)
        head = randomized(adapted).get_base_model().vision_model.head
        first, last = head.mlp_adapter_fc0["default"], head.mlp_adapter_fc1["default"]
        hidden = nn.functional.gelu(before @ first.weight.T + first.bias)
        expected = before + 0.7 * (hidden @ last.weight.T + last.bias)
        torch.testing.assert_close(adapted.get_image_features(**inputs).pooler_output, expected)
        torch.testing.assert_close(head.add_residuals(before), expected)
        with adapted.disable_adapter():
            assert torch.equal(adapted.get_image_features(**inputs).pooler_output, before)
            assert torch.equal(head.add_residuals(before), before)
        assert torch.equal(adapted.unload().get_image_features(**inputs).pooler_output, before)
    assert not any("mlp_adapter" in name for name, _ in model.named_modules())


def test_output_sizes_of_heads_and_of_nothing_else(model_folder):
    model = load_backbone(str(model_folder("siglip"))).model
    assert output_size(model.vision_model.head) == output_size(model.text_model.head) == 12
    assert output_size(nn.Linear(3, 5)) == 5
    assert output_size(model.vision_model) == output_size(nn.LayerNorm(4)) == 0
    with pytest.raises(InputError, match=r"'vision_model.post_layernorm', a torch.nn.*LayerNorm"):
        get_peft_model(model, MlpAdapterConfig(target_modules=["vision_model.post_layernorm"]))


def test_an_mlp_adapter_of_other_settings_goes_on_both_heads(dataset, model_folder, tmp_path):
    config = write_json(tmp_path / "mlp.json", {"peft_type": "MLP_ADAPTER", "hidden_dim": 3})
    result = run(dataset, model_folder("siglip"), tmp_path / "run", peft_config=config)
    assert result.report["adaptation"]["method"] == "MLP_ADAPTER"
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert saved["base_model.model.vision_model.head.mlp_adapter_fc0.weight"].shape == (3, 12)
    assert saved["base_model.model.text_model.head.mlp_adapter_fc1.weight"].shape == (12, 3)


@pytest.mark.parametrize("kind", LINEAR)
def test_lora_goes_on_linear_heads(kind, dataset, model_folder, tmp_path):
    config = read_peft_config(write_json(tmp_path / "lora.json", {"peft_type": "LORA", "r": 2}))
    model = load_backbone(str(model_folder(kind))).model
    check_peft_config(model, config)
    trained = [name for name, parameter in new_adapters(model, config).named_parameters() if parameter.requires_grad]
    assert {name.split(".")[2] for name in trained} == {"visual_projection", "text_projection"}


@pytest.mark.parametrize("kind", POOLED)
@pytest.mark.parametrize("targets", [{}, {"target_modules": ["vision_model.head.mlp.fc1", "text_model.head"]}])
def test_lora_behind_a_pooler_is_refused_before_anything_is_encoded(kind, targets, dataset, model_folder, tmp_path):
    config = write_json(tmp_path / "lora.json", {"peft_type": "LORA", "r": 2, **targets})
    with pytest.raises(
        InputError, match=r"method LORA, but .* behind vision_model.head.*leave peft_config out"
    ) as error:
        run(dataset, model_folder(kind), tmp_path / "run", peft_config=config)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        (
            {"target_modules": ["vision_model.head.mlp.fc1", "text_model.head"]},
            "vision_model.head.mlp.fc1.mlp_adapter_fc0",
        ),
        (
            {"target_modules": ["text_model.head"], "modules_to_save": ["vision_model.head"]},
            "vision_model.head.modules_to_save",
        ),
        ({"target_modules": ["fc2"]}, "encoder.layers.0.mlp.fc2"),
    ],
)
def test_mlp_adapters_inside_a_pooler_or_a_tower_are_refused(settings, trained, model_folder, tmp_path):
    config = read_peft_config(write_json(tmp_path / "mlp.json", {"peft_type": "MLP_ADAPTER", **settings}))
    model = load_backbone(str(model_folder("siglip"))).model
    with pytest.raises(InputError, match=rf"trains .*{trained}.*only vision_model.head and text_model.head read"):
        check_peft_config(model, config)


def test_given_lora_adapters_on_a_pooled_model_are_refused(dataset, model_folder, tmp_path):
    folder = model_folder("siglip")
    config = LoraConfig(r=2, target_modules=["text_model.head"], init_lora_weights=False)
    save_adapters(
        get_peft_model(AutoModel.from_pretrained(folder), config),
        tmp_path / "lora",
        base_model=str(folder),
        base_revision=None,
    )
    load_adapters(tmp_path / "lora")  # as a model it is one like any other
    with pytest.raises(
        InputError, match="method LORA, but the features of a SiglipModel are cached behind vision_model.head"
    ):
        run(dataset, folder, adapter_name_or_path=tmp_path / "lora")


def test_adapters_of_one_kind_do_not_go_on_another(dataset, model_folder, tmp_path):
    folder = model_folder("siglip")
    adapted = new_adapters(load_backbone(str(folder)).model, MlpAdapterConfig())
    save_adapters(adapted, tmp_path, base_model=str(folder), base_revision=None)
    with pytest.raises(InputError, match=r"does not fit a CLIPModel: .*vision_model.head"):
        run(dataset, model_folder("clip"), adapter_name_or_path=tmp_path)


# What is no such model


_SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (
            lambda: ViTModel(ViTConfig(image_size=16, patch_size=8, **_SIZES)),
            "ViTModel without get_image_features, get_text_f",
        ),
        (
            lambda: BertModel(BertConfig(vocab_size=20, **_SIZES)),
            "BertModel without get_image_features, get_text_features, v",
        ),
        (
            lambda: GPT2Model(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)),
            "GPT2Model without get_image_features",
        ),
        (
            lambda: SiglipVisionModel(SiglipVisionConfig(image_size=16, patch_size=8, **_SIZES)),
            "SiglipVisionModel without get_image_features",
        ),
    ],
)
def test_a_model_without_features_of_images_and_texts_is_refused(model, found, tmp_path):
    model().save_pretrained(tmp_path)
    with pytest.raises(InputError) as error:
        load_backbone(str(tmp_path))
    assert f"--model_name_or_path {tmp_path} is a {found}" in str(error.value) and "\n" not in str(error.value)
    for known in ("CLIP", "AltCLIP", "SigLIP 2", "vision-text-dual-encoder", "e.g. openai/clip-vit-base-patch32"):
        assert known in str(error.value)


def test_a_siglip_that_does_not_pool_its_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a SiglipModel without vision_model.head"):
        load_backbone(str(save_dual_encoder("siglip", tmp_path, vision_use_head=False)))


def test_embeddings_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(InputError, match="vision_model.head and text_model.head are not .* of one size"):
        load_backbone(str(save_dual_encoder("siglip", tmp_path, hidden_size=16)))
