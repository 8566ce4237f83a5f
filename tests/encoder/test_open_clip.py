"""Models in OpenCLIP's format: what transformers computes with them against OpenCLIP's forward pass in plain torch."""

import json
import re
import shutil
from collections import OrderedDict

import numpy as np
import pytest
import torch
from open_clip_models import CONTEXT, PIXELS, QuickGELU, SiglipLike, randomized, save_open_clip, siglip_config
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import normalize
from transformers import AutoTokenizer

from hf_clipselect import InputError, load_adapters, select_dataset
from hf_clipselect.embedded.digits import load_digits_dataset
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.dual_encoder import of_model
from hf_clipselect.encoder.model_place import ModelPlace
from hf_clipselect.encoder.open_clip_config import to_transformers_config
from hf_clipselect.encoder.open_clip_inputs import tokenizer_of
from hf_clipselect.encoder.texts import encode_prompts
from hf_clipselect.encoder.tokens import tokenize


KINDS = ["clip", "siglip"]
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PICKLE = "open_clip_pytorch_model.bin"
NO_SIZE = '{"model_cfg": {"vision_cfg": {}, "text_cfg": {}}}'
PROMPTS = [["a photo of a cat.", "A red_thing, and a  DOG!", "x"]]


@pytest.fixture(scope="module")
def clip_tokenizer(clip_folder):
    return AutoTokenizer.from_pretrained(clip_folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, clip_tokenizer):
    """By kind the folder and the model; tests only read them."""
    root = tmp_path_factory.mktemp("open_clip")
    return {kind: (root / kind, save_open_clip(kind, root / kind, clip_tokenizer)) for kind in KINDS}


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of the folder of a kind that a test may change, and what changes its config."""

    def copy(kind):
        folder = tmp_path / "model"
        shutil.copytree(saved[kind][0], folder)
        return folder

    return copy


def changed(folder, part=None, **settings):
    config = json.loads((folder / CONFIG).read_bytes())
    (config["model_cfg"][part] if part else config["model_cfg"]).update(settings)
    (folder / CONFIG).write_text(json.dumps(config))
    return str(folder)


def pictures(shape=(PIXELS, PIXELS)):
    """Of different colours, with noise."""
    rng = np.random.default_rng(0)
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 250), (0, 0, 0)]
    noise = rng.integers(0, 60, (len(colours), *shape, 3))
    return [
        Image.fromarray(np.clip(row + colour, 0, 255).astype(np.uint8))
        for row, colour in zip(noise, colours, strict=True)
    ]


@torch.inference_mode()
def image_embeds(backbone, images):
    pixels = backbone.image_processor(images=images, return_tensors="pt")
    return backbone.model.get_image_features(**pixels).pooler_output


@torch.inference_mode()
def text_embeds(backbone, folder):
    """Through the cache of the run and the head."""
    head = backbone.model.get_submodule(of_model(backbone.model).text_head.name)
    return head(encode_prompts(backbone, PROMPTS, folder))[0]


def cleaned(kind):
    """What OpenCLIP makes of the prompts before it tokenizes them."""
    return ["a photo of a cat", "a red thing and a dog", "x"] if kind == "siglip" else PROMPTS[0]


def padded_tokens(kind, folder):
    """As OpenCLIP pads: to the context, with 0 for CLIP."""
    tokenizer, length = AutoTokenizer.from_pretrained(folder), CONTEXT[kind]
    filling = 0 if kind == "clip" else tokenizer.pad_token_id
    rows = [tokenizer(text)["input_ids"] for text in cleaned(kind)]
    end = rows[0][-1]
    rows = [row if len(row) <= length else [*row[: length - 1], end] for row in rows]
    return torch.tensor([row + [filling] * (length - len(row)) for row in rows])


def assert_alike(ours, theirs):
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert theirs.std(dim=0).mean() > 0.05, "embeddings that are all alike prove nothing"
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-5), (ours - theirs).abs().max()
    assert torch.allclose(normalize(ours, dim=-1), normalize(theirs, dim=-1), rtol=0, atol=1e-5)


# Parity


@torch.inference_mode()
def assert_parity(kind, folder, model, cache):
    backbone = load_backbone(str(folder))
    values = np.stack([np.asarray(image) for image in pictures()]).astype(np.float32) / 255
    preprocessing = json.loads((folder / CONFIG).read_bytes())["preprocess_cfg"]
    normalised = (values - preprocessing["mean"]) / preprocessing["std"]
    pixels = torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()
    assert_alike(image_embeds(backbone, pictures()), model.encode_image(pixels))
    assert_alike(text_embeds(backbone, cache), model.encode_text(padded_tokens(kind, folder)))
    assert backbone.logit_scale == pytest.approx(float(model.logit_scale.exp()))


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_openclip(kind, saved, tmp_path):
    assert_parity(kind, *saved[kind], tmp_path)


def test_quick_gelu(clip_tokenizer, tmp_path):
    folder = tmp_path / "model"
    model = save_open_clip("clip", folder, clip_tokenizer, QuickGELU)
    assert_parity("clip", folder, model, tmp_path)
    right, other = load_backbone(str(folder)), load_backbone(changed(folder, quick_gelu=False))
    assert not torch.allclose(image_embeds(right, pictures()), image_embeds(other, pictures()), atol=1e-4)


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_the_activation_of_an_image_tower_is_known_by_its_name(approximate, copied, tmp_path):
    folder = copied("siglip")
    vocab = len(AutoTokenizer.from_pretrained(folder))
    model = randomized(SiglipLike(vocab, approximate))
    save_file(model.state_dict(), folder / WEIGHTS)
    name = "vit_base_patch32_siglip_256" if approximate == "tanh" else "vit_base_patch16_siglip_512.v2_webli"
    changed(folder, "vision_cfg", timm_model_name=name)
    assert_parity("siglip", folder, model, tmp_path)


@pytest.mark.parametrize(
    ("name", "heads", "activation"),
    [
        ("vit_base_patch16_siglip_256", 12, "gelu"),
        ("vit_large_patch16_siglip_384", 16, "gelu"),
        ("vit_large_patch16_siglip_512", 16, "gelu_pytorch_tanh"),
        ("vit_so400m_patch14_siglip_384", 16, "gelu"),
        ("vit_so400m_patch16_siglip_384", 16, "gelu_pytorch_tanh"),
        ("vit_giantopt_patch16_siglip_256", 16, "gelu_pytorch_tanh"),
    ],
)
def test_image_towers_of_timm(name, heads, activation):
    """As timm 1.0.31 builds them."""
    model = siglip_config(vocab=60)["model_cfg"]
    model["vision_cfg"]["timm_model_name"] = name
    tensors = {f"visual.trunk.blocks.{layer}.mlp.fc1.weight": torch.empty(40, 32) for layer in range(3)}
    tensors["visual.trunk.patch_embed.proj.weight"] = torch.empty(32, 3, 14, 14)
    found = to_transformers_config(model, tensors, "the model").vision_config
    sizes = (found.hidden_size, found.intermediate_size, found.num_hidden_layers, found.patch_size)
    assert sizes == (32, 40, 3, 14)
    assert (found.num_attention_heads, found.hidden_act, found.layer_norm_eps) == (heads, activation, 1e-6)


def library_model(kind, settings):
    """Of OpenCLIP itself; the image tower of a SigLIP is one of timm that is as small as the rest."""
    pytest.importorskip("torchvision")
    open_clip = pytest.importorskip("open_clip")
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    if kind == "clip":
        return open_clip.model.CLIP(settings["embed_dim"], vision, text)
    timm = pytest.importorskip("timm")
    model = open_clip.model.CustomTextCLIP(settings["embed_dim"], {"layers": 1}, text, init_logit_bias=-10)
    sizes = {"img_size": PIXELS, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 12, "mlp_ratio": 1.5}
    trunk = timm.models.VisionTransformer(**sizes, class_token=False, global_pool="map", num_classes=0)
    model.visual = nn.Sequential(OrderedDict(trunk=trunk))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_library_itself(kind, saved, tmp_path):
    folder, _ = saved[kind]
    model = library_model(kind, json.loads((folder / CONFIG).read_bytes())["model_cfg"])
    model.load_state_dict(load_file(folder / WEIGHTS))
    assert_parity(kind, folder, model.eval(), tmp_path)


# Forms of the files


def as_pickle(folder):
    torch.save(load_file(folder / WEIGHTS), folder / PICKLE)


def as_model_safetensors(folder):
    save_file(load_file(folder / WEIGHTS), folder / "model.safetensors")


def with_the_text_tower_inside(folder):
    tensors = load_file(folder / WEIGHTS)
    inside = ("transformer", "text_projection", "positional_embedding", "token_embedding", "ln_final")
    renamed = {f"text.{name}" if name.startswith(inside) else name: value for name, value in tensors.items()}
    assert renamed.keys() != tensors.keys()
    torch.save({**renamed, "attn_mask": torch.zeros(2, 2)}, folder / PICKLE)


@pytest.mark.parametrize("write", [as_pickle, as_model_safetensors, with_the_text_tower_inside])
def test_every_file_that_openclip_writes_is_read(write, saved, copied, tmp_path):
    folder, _ = saved["clip"]
    other = copied("clip")
    write(other)
    (other / WEIGHTS).unlink()
    ours, theirs = load_backbone(str(other)), load_backbone(str(folder))
    assert torch.equal(image_embeds(ours, pictures()), image_embeds(theirs, pictures()))
    assert torch.equal(text_embeds(ours, tmp_path / "ours"), text_embeds(theirs, tmp_path / "theirs"))
    assert list(ours.weights.hashes) == ([PICKLE] if (other / PICKLE).exists() else [])


def test_half_precision_becomes_float32(copied):
    folder = copied("siglip")
    save_file({name: value.half() for name, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    backbone = load_backbone(str(folder))
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_of_features_covers_config_and_weights(kind, saved, copied):
    folder, _ = saved[kind]
    other = copied(kind)
    before = load_backbone(str(folder)).identity()
    assert load_backbone(str(other)).identity() == before
    settings = json.loads((other / CONFIG).read_bytes())
    preprocessing = {**settings["preprocess_cfg"], "mean": [0.1, 0.2, 0.3]}
    (other / CONFIG).write_text(json.dumps({**settings, "preprocess_cfg": preprocessing}))
    changed_config = load_backbone(str(other)).identity()
    assert changed_config["image_processor"]["image_mean"] == [0.1, 0.2, 0.3]
    save_file({name: value * 1.5 for name, value in load_file(other / WEIGHTS).items()}, other / WEIGHTS)
    hashes = [key["weights_sha256"] for key in (before, changed_config, load_backbone(str(other)).identity())]
    assert len(set(hashes)) == 3


def test_which_of_two_configs_is_read(copied, clip_folder):
    folder = copied("clip")
    # timm's own config.json, which repositories of both libraries have.
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_siglip_224"}))
    assert load_backbone(str(folder)).embed_dim == 10
    for path in clip_folder.iterdir():
        shutil.copy(path, folder)
    both = load_backbone(str(folder))
    assert both.embed_dim == 8 and torch.equal(
        image_embeds(both, pictures()), image_embeds(load_backbone(str(clip_folder)), pictures())
    )


# Inputs


def reference_pixels(image, size, mean, std, *, squash):
    """OpenCLIP's: the shorter side to `size` and a centre crop, or both sides to `size`."""
    width, height = image.size
    scale = size / min(width, height)
    wanted = (size, size) if squash else (int(width * scale), int(height * scale))
    resized = image.resize(wanted, Image.Resampling.BICUBIC)
    left, top = (wanted[0] - size) // 2, (wanted[1] - size) // 2
    values = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
    return torch.from_numpy(((values - mean) / std).transpose(2, 0, 1)).float()


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_prepared_as_the_checkpoint_says(kind, saved):
    folder, _ = saved[kind]
    settings = json.loads((folder / CONFIG).read_bytes())["preprocess_cfg"]
    processor = load_backbone(str(folder)).image_processor
    for shape in [(32, 64), (48, 32), (16, 16)]:
        (image, *_) = pictures(shape)
        ours = processor(images=[image], return_tensors="pt")["pixel_values"][0]
        theirs = reference_pixels(image, PIXELS, settings["mean"], settings["std"], squash=kind == "siglip")
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_preprocessing_that_is_left_out_is_openclips(copied):
    folder = copied("clip")
    settings = json.loads((folder / CONFIG).read_bytes())
    (folder / CONFIG).write_text(json.dumps({"model_cfg": settings["model_cfg"]}))
    processor = load_backbone(str(folder)).image_processor
    assert list(processor.image_mean) == [0.48145466, 0.4578275, 0.40821073] and processor.resample == 3
    assert dict(processor.crop_size) == {"height": PIXELS, "width": PIXELS}
    given = {"interpolation": "bilinear", "mean": 0.5}
    (folder / CONFIG).write_text(json.dumps({"model_cfg": settings["model_cfg"], "preprocess_cfg": given}))
    processor = load_backbone(str(folder)).image_processor
    assert processor.resample == 2 and list(processor.image_mean) == [0.5] * 3
    given = {"resize_mode": "longest"}
    (folder / CONFIG).write_text(json.dumps({"model_cfg": settings["model_cfg"], "preprocess_cfg": given}))
    with pytest.raises(InputError, match="resize_mode 'longest'"):
        load_backbone(str(folder))


def test_long_and_short_texts_have_the_context_of_the_model(saved, copied, tmp_path):
    folder, model = saved["siglip"]
    other = copied("siglip")
    config = json.loads((other / "tokenizer_config.json").read_bytes())
    (other / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 5}))
    assert_parity("siglip", other, model, tmp_path)
    backbone = load_backbone(str(folder))
    assert backbone.tokenizer.model_max_length == CONTEXT["siglip"]
    assert backbone.tokenizer("A_b:  C!")["input_ids"] == backbone.tokenizer("a b c")["input_ids"]


def test_a_tokenizer_of_another_place_is_taken_where_the_model_has_none(saved, copied, tmp_path):
    folder, model = saved["clip"]
    other = copied("clip")
    for path in other.glob("*token*"):
        path.unlink()
    for name in ("vocab.json", "merges.txt"):
        (other / name).unlink(missing_ok=True)
    assert sorted(path.name for path in other.iterdir()) == [CONFIG, WEIGHTS]
    changed(other, "text_cfg", hf_tokenizer_name=str(folder))
    with torch.inference_mode():
        theirs = model.encode_text(padded_tokens("clip", folder))
    assert_alike(text_embeds(load_backbone(str(other)), tmp_path), theirs)
    edited(other, lambda tensors: tensors.update({"token_embedding.weight": torch.ones(10, 20)}))
    with pytest.raises(InputError, match="its tokenizer has 514 tokens, and its text tower knows 10"):
        load_backbone(changed(other, "text_cfg", vocab_size=10))


def test_a_repository_names_no_folder_of_who_loads_it(clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(clip_folder, tmp_path / "me" / "mine")
    monkeypatch.setattr(ModelPlace, "file", lambda place, name: None)
    local = ModelPlace(str(tmp_path), tmp_path, is_open_clip=True)
    assert tokenizer_of(local, {"hf_tokenizer_name": str(clip_folder)}).model_max_length == 77
    hub = ModelPlace("me/model", tmp_path, commit="a" * 40, is_open_clip=True)
    for name in (str(clip_folder), "me/mine", "./me/mine", "../x", 5, ["me/mine"]):
        with pytest.raises(ValueError, match="has the hf_tokenizer_name .*, and no folder of this machine") as refused:
            tokenizer_of(hub, {"hf_tokenizer_name": name})
        assert repr(name)[:90] in str(refused.value)
    for name in ("nobody/tokens", "no-such-tokens"):
        with pytest.raises(ValueError, match=f"its tokenizer, {name}, can't be loaded: "):
            tokenizer_of(hub, {"hf_tokenizer_name": name})


# What is refused


@pytest.mark.parametrize(
    ("part", "settings", "named"),
    [
        ("vision_cfg", {"timm_model_name": "fastvit_mci0"}, 'vision_cfg.timm_model_name "fastvit_mci0"'),
        ("vision_cfg", {"timm_model_name": "vit_pe_core_base_patch16_224"}, "vision_cfg.timm_model_name"),
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_siglip_gap_224"}, "vision_cfg.timm_model_name"),
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_siglip_224"}, "vision_cfg.timm_pool"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "vision_cfg.layers"),
        ("vision_cfg", {"head_width": 0}, "vision_cfg.head_width 0"),
        ("vision_cfg", {"patch_size": [8, 8]}, "vision_cfg.patch_size [8, 8]"),
        ("vision_cfg", {"width": "24"}, 'vision_cfg.width "24"'),
        ("text_cfg", {"norm_kwargs": 5}, "text_cfg.norm_kwargs 5"),
        ("text_cfg", {"layers": -1}, "text_cfg.layers -1"),
        ("vision_cfg", {"no_ln_pre": True}, "vision_cfg.no_ln_pre true"),
        ("vision_cfg", {"attentional_pool": "parallel"}, "vision_cfg.attentional_pool"),
        ("vision_cfg", {"pool_type": "avg"}, 'vision_cfg.pool_type "avg"'),
        ("vision_cfg", {"image_size": [16, 32]}, "vision_cfg.image_size"),
        ("vision_cfg", {"from_the_future": 3}, "vision_cfg.from_the_future 3"),
        ("text_cfg", {"hf_model_name": "xlm-roberta-base"}, "text_cfg.hf_model_name"),
        ("text_cfg", {"pool_type": "eos"}, "text_cfg.pool_type"),
        ("text_cfg", {"no_causal_mask": True}, "text_cfg.no_causal_mask"),
        ("text_cfg", {"norm_kwargs": {"elementwise_affine": False}}, "text_cfg.norm_kwargs"),
        ("text_cfg", {"act_kwargs": {"inplace": True}}, "text_cfg.act_kwargs"),
        (None, {"multimodal_cfg": {"layers": 2}}, "model_cfg.multimodal_cfg"),
    ],
)
def test_what_transformers_lacks_is_named(part, settings, named, copied):
    with pytest.raises(InputError) as refused:
        load_backbone(changed(copied("clip"), part, **settings))
    assert named in str(refused.value) and "converted to transformers' format" in str(refused.value)


def edited(folder, edit):
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "edit", "named"),
    [
        ("clip", lambda tensors: tensors.pop("visual.ln_pre.weight"), "vision_model.pre_layrnorm.weight"),
        ("clip", lambda tensors: tensors.update({"visual.ls.gamma": torch.ones(2)}), "visual.ls.gamma"),
        ("clip", lambda tensors: tensors["ln_final.weight"].fill_(float("nan")), "not finite"),
        ("clip", lambda tensors: tensors.update({"visual.proj": torch.ones(3, 3)}), "visual_projection.weight"),
        ("siglip", lambda tensors: tensors.pop("visual.trunk.attn_pool.kv.bias"), "attn_pool.q.bias"),
        ("siglip", lambda tensors: tensors.pop("visual.trunk.patch_embed.proj.weight"), "patch_embed.proj.weight"),
        ("siglip", lambda tensors: tensors.pop("text.text_projection.bias"), "text_model.head.bias"),
        ("siglip", lambda tensors: tensors.update({"visual.head.proj.weight": torch.ones(2)}), "visual.head.proj"),
    ],
)
def test_weights_that_are_missing_left_over_or_damaged_are_named(kind, edit, named, copied):
    with pytest.raises(InputError) as refused:
        load_backbone(edited(copied(kind), edit))
    assert named in str(refused.value) and "can't be loaded" in str(refused.value)


@pytest.mark.parametrize("part", ["vision_cfg", "text_cfg"])
def test_layers_that_the_config_does_not_count_are_not_left_out(part, copied):
    with pytest.raises(InputError, match="weights are of layers that its open_clip_config.json does not count"):
        load_backbone(changed(copied("clip"), part, layers=1))


@pytest.mark.parametrize("settings", [{"std": [0, 0, 0]}, {"mean": [0.5, 0.5]}, {"interpolation": ["bicubic"]}])
def test_preprocessing_that_can_not_be_followed_is_told(settings, copied):
    folder = copied("clip")
    config = json.loads((folder / CONFIG).read_text())
    config["preprocess_cfg"] |= settings
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"its open_clip_config.json .*{next(iter(settings))}"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"model_cfg": {"vision_cfg": []}}', '{"model_cfg": null}', NO_SIZE]
)
def test_a_damaged_config_is_told(content, copied):
    folder = copied("clip")
    (folder / CONFIG).write_text(content)
    with pytest.raises(InputError, match="open_clip_config.json is damaged"):
        load_backbone(str(folder))


def test_a_model_without_weights_and_a_pickle_with_code_are_refused(copied, tmp_path):
    folder = copied("clip")
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match="none of open_clip_model.safetensors"):
        load_backbone(str(folder))
    (folder / PICKLE).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match="open_clip_pytorch_model.bin is refused"):
        load_backbone(str(folder))


def test_other_settings_of_the_tokenizer_are_refused(copied):
    folder = changed(copied("clip"), "text_cfg", tokenizer_kwargs={"strip_sep_token": True})
    with pytest.raises(InputError, match="of these only clean is read"):
        load_backbone(folder)


# sentence-transformers


def sentence_transformers(folder, clip_folder, part="0_CLIPModel"):
    shutil.copytree(clip_folder, folder / "0_CLIPModel")
    modules = [{"idx": 0, "name": "0", "path": part, "type": "sentence_transformers.models.CLIPModel"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return str(folder)


def test_the_clip_of_sentence_transformers_is_found(clip_folder, tmp_path):
    ours, theirs = load_backbone(sentence_transformers(tmp_path, clip_folder)), load_backbone(str(clip_folder))
    assert torch.equal(image_embeds(ours, pictures()), image_embeds(theirs, pictures()))
    assert ours.identity() == theirs.identity()
    assert ours.name == str(tmp_path / "0_CLIPModel")


@pytest.mark.parametrize("part", ["..", "", "1_Dense", "/etc", "0_CLIPModel/../0_CLIPModel"])
def test_a_part_that_is_no_folder_of_the_model_is_refused(part, clip_folder, tmp_path):
    with pytest.raises(InputError, match="no config.json"):
        load_backbone(sentence_transformers(tmp_path, clip_folder, part))


# A whole run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_digits_are_selected_with_it(kind, saved, tmp_path, monkeypatch):
    dataset = load_digits_dataset().select(range(120))
    settings = {"adaptation": "always", "num_train_epochs": 1, "dataloader_num_workers": 0}
    folder, _ = saved[kind]
    result = select_dataset(dataset, model_name_or_path=folder, output_dir=tmp_path, selection_ratio=0.25, **settings)
    assert len(result.selected) == 30 and np.ptp(result.scores["sas"][:]) > 0.01
    # The adapters name the model, and go onto it again.
    adapted, backbone = load_adapters(tmp_path / "adapter"), load_backbone(str(folder))
    images = [image.convert("RGB") for image in dataset["image"][:]]
    with torch.inference_mode():
        pixels = backbone.image_processor(images=images, return_tensors="pt")
        ours = normalize(adapted.get_image_features(**pixels).pooler_output, dim=-1)
        prompts = [f"a photo of a {name}." for name in dataset.features["label"].names]
        tokens = tokenize(backbone, [prompts]).padded(np.arange(10), CONTEXT["siglip"] if kind == "siglip" else 30)
        texts = normalize(adapted.get_text_features(**tokens).pooler_output, dim=-1)
    expected = (ours * texts[dataset["label"][:]]).sum(dim=1)
    np.testing.assert_allclose(result.scores["sas"][:], expected.numpy(), atol=1e-4)

    # What the card of the adapters says runs.
    card = (tmp_path / "adapter" / "README.md").read_text()
    card = card.replace("path/to/adapter", str(tmp_path / "adapter")).replace(f"path/to/{kind}", str(folder))
    monkeypatch.chdir(tmp_path)
    images[0].save("image.png")
    ours, stock = re.findall("```python\n(.*?)```", card, flags=re.DOTALL)
    names = {}
    exec(ours, names)
    inputs, given = names["inputs"], names["model"](**names["inputs"]).logits_per_image
    torch.testing.assert_close(names["probabilities"], given.softmax(dim=-1))
    exec(stock, names)
    assert torch.equal(names["model"].eval()(**inputs).logits_per_image, given)
