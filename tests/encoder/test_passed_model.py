"""A model that the caller has loaded: the same result as from its folder, and the caller's own stays as it was."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
from dual_encoders import KINDS, save_dual_encoder
from peft import LoraConfig, inject_adapter_in_model
from transformers import AutoModel, AutoProcessor, AutoTokenizer, BertConfig, BertModel

from hf_clipselect import InputError, load_adapters, select_dataset
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.passed_model import copy_backbone


def parts_of(folder):
    """Model and processor as a user loads them; the small encoders have no class of processor for all kinds."""
    backbone = load_backbone(str(folder))
    processor = SimpleNamespace(image_processor=backbone.image_processor, tokenizer=backbone.tokenizer)
    return AutoModel.from_pretrained(folder, dtype=torch.float32), processor


def state_of(model):
    """All that a run might change in a model."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "storage": [value.data_ptr() for value in model.state_dict().values()],
        "gradients": [parameter.requires_grad for parameter in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "kinds": [type(module) for module in model.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "dtypes": [value.dtype for value in model.state_dict().values()],
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
    }


def assert_same_state(model, before):
    now = state_of(model)
    weights, weights_before = now.pop("weights"), before["weights"]
    assert now == {name: value for name, value in before.items() if name != "weights"}
    assert all(torch.equal(weights[name], value) for name, value in weights_before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_copied(kind, tmp_path):
    folder = save_dual_encoder(kind, tmp_path / kind)
    model, processor = parts_of(folder)
    before, random_state = state_of(model), torch.get_rng_state()
    backbone, reference = copy_backbone(model, processor), load_backbone(str(folder))
    assert_same_state(model, before)
    assert torch.equal(torch.get_rng_state(), random_state)
    expected = reference.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.model.state_dict().items())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in backbone.model.parameters()}
    assert backbone.image_processor.to_json_string() == reference.image_processor.to_json_string()
    prompts = ["a photo of a cat.", "b"]
    assert backbone.tokenizer(prompts) == reference.tokenizer(prompts)
    assert (backbone.hidden_size, backbone.embed_dim) == (reference.hidden_size, reference.embed_dim)
    assert not backbone.model.training and not any(p.requires_grad for p in backbone.model.parameters())


@pytest.mark.slow
def test_the_result_is_that_of_the_folder_and_the_model_stays_as_it_was(clip_folder, images_dataset, tmp_path):
    settings = {"adaptation": "always", "num_train_epochs": 1, "dataloader_num_workers": 0}
    named = select_dataset(
        images_dataset, model_name_or_path=str(clip_folder), output_dir=tmp_path / "named", **settings
    )
    model, processor = (
        AutoModel.from_pretrained(clip_folder, dtype=torch.float32).train(),
        AutoProcessor.from_pretrained(clip_folder),
    )
    model.logit_scale.requires_grad_(False)
    seen = []
    model.visual_projection.register_forward_hook(lambda *_: seen.append("called"))
    before = state_of(model)
    passed = select_dataset(
        images_dataset, model=model, processor=processor, output_dir=tmp_path / "passed", **settings
    )
    assert_same_state(model, before)
    assert seen == []
    assert passed.selected.tolist() == named.selected.tolist()
    for column in ("sas", "sds", "margin"):
        assert passed.scores[column][:] == named.scores[column][:]
    told = passed.report["model"]
    assert told["in_memory"] and told["revision"] is None and len(told["weights_sha256"]) == 64
    assert "model_name_or_path" not in passed.report["arguments"]
    for card in (tmp_path / "passed" / "subset", tmp_path / "passed" / "adapter"):
        text = (card / "README.md").read_text(encoding="utf-8")
        assert re.search(
            "a model that was passed in memory, by its own account a model (in a local folder )?named clip", text
        )
        assert told["weights_sha256"] in text
    # It is known by its weights: the same again is not encoded or trained anew, and another one does not take its
    # place.
    files = sorted((tmp_path / "passed" / "features").glob("*"))
    times = [path.stat().st_mtime_ns for path in files if path.name.startswith("images-")]
    again = select_dataset(
        images_dataset,
        model=copy.deepcopy(model).eval(),
        processor=processor,
        output_dir=tmp_path / "passed",
        **settings,
    )
    assert [path.stat().st_mtime_ns for path in files if path.name.startswith("images-")] == times
    assert again.selected.tolist() == named.selected.tolist()
    other = copy.deepcopy(model)
    other.text_projection.weight.data[0, 0] += 1
    with pytest.raises(InputError, match="holds another run: model"):
        select_dataset(images_dataset, model=other, processor=processor, output_dir=tmp_path / "passed", **settings)
    adapted = load_adapters(tmp_path / "passed" / "adapter", base_model=copy.deepcopy(model))
    assert type(adapted.base_model.model) is type(model)
    taken = select_dataset(
        images_dataset,
        model=model,
        processor=processor,
        adapter_name_or_path=tmp_path / "passed" / "adapter",
        dataloader_num_workers=0,
    )
    assert taken.selected.tolist() == named.selected.tolist()


def test_precision_and_attention_of_the_model_do_not_count(clip_folder):
    processor = AutoProcessor.from_pretrained(clip_folder)
    half = AutoModel.from_pretrained(clip_folder, dtype=torch.bfloat16, attn_implementation="eager")
    whole = AutoModel.from_pretrained(clip_folder, dtype=torch.bfloat16).float()
    before = state_of(half)
    copied = copy_backbone(half, processor)
    assert_same_state(half, before)
    assert copied.model.dtype == torch.float32
    assert copied.identity() == copy_backbone(whole, processor).identity()


@pytest.mark.parametrize(
    ("says", "name"),
    [("owner/clip", "owner/clip"), ("", ""), ("no such place", ""), ("/no/such/folder", ""), ("../x\n", "")],
)
def test_what_a_model_says_of_its_origin_is_a_name_where_it_can_be_one(
    says, name, clip_folder, images_dataset, tmp_path
):
    model, processor = AutoModel.from_pretrained(clip_folder), AutoProcessor.from_pretrained(clip_folder)
    model.name_or_path = says
    assert copy_backbone(model, processor).name == name
    if says in ("owner/clip", ""):
        settings = {"adaptation": "always", "num_train_epochs": 1, "dataloader_num_workers": 0, "output_dir": tmp_path}
        select_dataset(images_dataset, model=model, processor=processor, **settings)
        card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
        told = "a model that was passed in memory, by its own account [owner/clip](https://huggingface.co/owner/clip)"
        assert (told if says else "an unnamed model that was passed in memory") in card
        assert ("base_model: owner/clip" in card) == bool(says)
        assert "The adapters fit the weights that were passed." in card and "revision=" not in card
        assert ('from_pretrained("owner/clip")' if says else 'base_model="path/to/model"') in card
        if not says:
            with pytest.raises(InputError, match="does not name its base model; pass base_model="):
                load_adapters(tmp_path / "adapter")


def with_lora(model):
    return inject_adapter_in_model(LoraConfig(target_modules=["q_proj"]), model)


def on_no_device(model):
    return model.to("meta")


def with_another_layer(model):
    model.vision_model.post_layernorm = torch.nn.Identity()
    return model


@pytest.mark.parametrize("change", [with_lora, on_no_device, with_another_layer])
def test_a_model_that_its_config_does_not_describe_is_refused(change, clip_folder):
    model, processor = AutoModel.from_pretrained(clip_folder), AutoProcessor.from_pretrained(clip_folder)
    with pytest.raises(InputError, match=r"^The model that was passed \(a CLIPModel\) can't be copied") as error:
        copy_backbone(change(model), processor)
    assert "\n" not in str(error.value)


def test_wrong_arguments_are_told(clip_folder, images_dataset):
    model, processor = AutoModel.from_pretrained(clip_folder), AutoProcessor.from_pretrained(clip_folder)
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    cases = [
        ({"model": model}, "model was passed without processor"),
        ({"processor": processor}, "processor was passed without model"),
        (
            {"model": "owner/clip", "processor": processor},
            "got a value of type str. The name of a model is passed as model_name",
        ),
        (
            {"model": torch.nn.Linear(2, 2), "processor": processor},
            "must be a PreTrainedModel of transformers, got a value of type Linear",
        ),
        ({"model": model, "processor": tokenizer}, "processor must have an image_processor and a tokenizer"),
        (
            {"model": model, "processor": SimpleNamespace(image_processor=3, tokenizer=tokenizer)},
            "processor must have",
        ),
        (
            {"model": model, "processor": processor, "model_name_or_path": "owner/clip"},
            "together with model_name_or_path",
        ),
        (
            {"model": model, "processor": processor, "model_revision": "v1"},
            "together with model_name_or_path or model_revision",
        ),
        (
            {"model": BertModel(BertConfig(**sizes)), "processor": processor},
            "The model that was passed is a BertModel without get_image",
        ),
    ]
    for arguments, told in cases:
        with pytest.raises(InputError) as error:
            select_dataset(images_dataset, **arguments)
        assert told in str(error.value) and "\n" not in str(error.value), arguments.keys()
