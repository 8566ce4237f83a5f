"""Adapters are trained on cached features alone, kept or not for a stated reason, and come back bit-equal."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adapting import quick, turned_classes
from peft import PeftModel
from preloaded import run_python
from torch import nn

from hf_clipselect import InputError
from hf_clipselect.adapters.decision import _compared, adapt, held_out_rows
from hf_clipselect.adapters.losses import info_nce_loss
from hf_clipselect.adapters.mlp import MlpAdapterConfig
from hf_clipselect.adapters.peft_configs import read_peft_config
from hf_clipselect.adapters.peft_folder import save_adapters
from hf_clipselect.adapters.placing import new_adapters
from hf_clipselect.adapters.projections import IdentityProjections, Projections, embed_prompts
from hf_clipselect.adapters.text_alignment import align_rows
from hf_clipselect.adapters.training import Schedule, mean_loss, train_adapters
from hf_clipselect.config.arguments import AdaptationArguments
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.feature_rows import FeatureRows
from hf_clipselect.runtime.launch import make_accelerator


@pytest.fixture
def accelerator():
    return make_accelerator(use_cpu=True)


def agreement(model: nn.Module, images: FeatureRows, texts: torch.Tensor, labels: np.ndarray) -> float:
    return float((align_rows(model, images, texts, labels)[0] == labels).mean())


def test_auto_keeps_adapters_that_help_and_says_so(accelerator):
    data = turned_classes()
    model = IdentityProjections(8)
    assert agreement(model, *data) < 0.2
    adapted, outcome = adapt(model, *data, arguments=quick(), seed=0, accelerator=accelerator)
    assert isinstance(adapted, PeftModel) and outcome.kept
    assert agreement(adapted, *data) > 0.9
    assert outcome.held_out_agreement_adapted - outcome.held_out_agreement_plain > outcome.standard_error
    assert outcome.held_out_loss_adapted < outcome.held_out_loss_plain
    assert "the adapters were kept" in outcome.reason and 0 < outcome.num_steps <= 60
    assert outcome.method == "MLP_ADAPTER" and outcome.batch_size == 240


def test_auto_keeps_plain_clip_where_it_is_right_already(accelerator):
    images, _, labels = turned_classes()
    texts = torch.eye(8)[None, :4]
    model = IdentityProjections(8)
    kept, outcome = adapt(model, images, texts, labels, arguments=quick(), seed=0, accelerator=accelerator)
    assert kept is model and not outcome.kept and outcome.num_steps == 0
    assert "plain CLIP was kept" in outcome.reason
    always, outcome = adapt(
        model, images, texts, labels, arguments=quick(adaptation="always"), seed=0, accelerator=accelerator
    )
    assert isinstance(always, PeftModel) and "--adaptation always" in outcome.reason


def test_off_trains_nothing(accelerator):
    model = IdentityProjections(8)
    kept, outcome = adapt(model, *turned_classes(), arguments=quick(adaptation="off"), seed=0, accelerator=accelerator)
    assert kept is model and not outcome.kept and outcome.held_out_rows == 0


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_random_state_alone(accelerator):
    runs = []
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for seed in (0, 0, 1):
        adapted, _ = adapt(
            IdentityProjections(8), *turned_classes(), arguments=quick(), seed=seed, accelerator=accelerator
        )
        runs.append(torch.cat([p.detach().flatten() for p in adapted.parameters() if p.requires_grad]))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert torch.equal(before, torch.get_rng_state())


def test_held_out_rows_are_a_stratified_share_that_shrinks_with_the_dataset():
    small = np.repeat([0, 1], [100, 300])
    rows = held_out_rows(small, seed=0)
    assert np.bincount(small[rows]).tolist() == [30, 90]  # three tenths of a small dataset
    large = np.repeat([0, 1], [4000, 16000])
    assert np.bincount(large[held_out_rows(large, seed=0)]).tolist() == [400, 1600]  # a tenth of a large one
    assert np.array_equal(rows, held_out_rows(small, seed=0)) and not np.array_equal(
        rows, held_out_rows(small, seed=1)
    )
    huge = np.repeat([0, 1], [40_000, 60_000])
    assert np.bincount(huge[held_out_rows(huge, seed=0)]).tolist() == [2000, 3000]  # never more than 5,000
    assert (np.diff(rows) < 0).any()  # in random order: a batch of the held-out rows must hold all classes


def test_without_rows_to_hold_out_auto_keeps_plain_clip(accelerator):
    images, texts, _ = turned_classes(num_rows=4)
    model = IdentityProjections(8)
    kept, outcome = adapt(model, images, texts, np.arange(4), arguments=quick(), seed=0, accelerator=accelerator)
    assert kept is model and "none could be held out" in outcome.reason


def test_only_adapters_get_gradients_and_the_base_stays_bit_equal(accelerator, clip_folder):
    model = load_backbone(str(clip_folder)).model
    before = copy.deepcopy(model.state_dict())
    images, texts, labels = turned_classes()
    images, texts = FeatureRows([np.tile(images.take(np.arange(240)), 2)]), torch.cat([texts, texts[..., :4]], dim=-1)
    adapted, outcome = adapt(
        model, images, texts, labels, arguments=quick(adaptation="always"), seed=0, accelerator=accelerator
    )
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trained and all("mlp_adapter_" in name for name in trained)
    assert any(parameter.grad is not None for parameter in adapted.parameters() if parameter.requires_grad)
    assert all(parameter.grad is None for parameter in adapted.parameters() if not parameter.requires_grad)
    base = adapted.unload().state_dict()
    assert before.keys() == base.keys() and all(torch.equal(before[name], base[name]) for name in before)


def test_training_equals_a_plain_loop(accelerator):
    images, texts, labels = turned_classes(num_rows=10)
    arguments = quick(train_batch_size=4, num_train_epochs=3, min_train_steps=1)
    schedule = Schedule.for_rows(10, arguments)
    assert (schedule.batch_size, schedule.steps_per_epoch, schedule.num_steps, schedule.evaluate_every) == (4, 2, 6, 2)
    adapted = new_adapters(IdentityProjections(8), MlpAdapterConfig())
    plain = copy.deepcopy(adapted)
    train_adapters(
        adapted,
        images,
        texts,
        labels,
        arguments=arguments,
        schedule=schedule,
        num_steps=6,
        seed=5,
        accelerator=accelerator,
    )

    optimizer = torch.optim.Adam([p for p in plain.parameters() if p.requires_grad], lr=1e-2)
    rng = np.random.default_rng(5)
    for step in range(6):
        if step % 2 == 0:
            order = rng.permutation(10)
        if step == 4:  # two thirds of the run
            optimizer.param_groups[0]["lr"] = 1e-3
        rows = order[4 * (step % 2) :][:4]
        visual, text = plain.base_model.model.visual_projection, plain.base_model.model.text_projection
        image_embeds = nn.functional.normalize(visual(torch.from_numpy(images.take(rows))), dim=-1)
        text_embeds = nn.functional.normalize(text(texts[0]), dim=-1)
        loss = info_nce_loss(image_embeds, text_embeds, torch.from_numpy(labels[rows]), temperature=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for ours, theirs in zip(adapted.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("num_rows", "changes", "expected"),
    [
        # 1,297 // 256 = 5 steps in an epoch, 30 epochs: fewer than the least number of steps, 300
        (1297, {}, (256, 5, 300, 10, 1.0)),
        (2560, {}, (256, 10, 300, 10, 1.0)),  # exactly as many
        # 46 x 30 = 1,380 steps, of which 300 are taken: sqrt(4.6) x 256 = 549 rows
        (12_000, {}, (549, 21, 300, 30, 4.6**1.25)),
        # 195 x 30 = 5,850 would be 19.5 times as many, and 16 times is the most
        (50_000, {}, (1024, 48, 300, 30, 32.0)),
        (50_000, {"max_train_steps": 5850}, (256, 195, 5850, 195, 1.0)),
        (50_000, {"max_train_steps": 5850 // 2}, (362, 138, 2925, 293, 2**1.25)),
        (50_000, {"max_train_steps": 100}, (1024, 48, 300, 30, 32.0)),  # not below --min_train_steps
        (700, {"max_train_steps": 10, "min_train_steps": 10}, (627, 1, 10, 1, 6**1.25)),
        (300, {"max_train_steps": 3, "min_train_steps": 1}, (300, 1, 3, 1, 10**1.25)),  # no more rows than there are
    ],
)
def test_large_datasets_take_fewer_and_larger_steps(num_rows, changes, expected):
    schedule = Schedule.for_rows(num_rows, AdaptationArguments(**changes))
    assert dataclasses.astuple(schedule) == pytest.approx(expected)
    initial = [schedule.learning_rate(step, 1e-3) for step in (0, schedule.num_steps - 1)]
    assert initial == pytest.approx([1e-3 * expected[4], 1e-4 * expected[4]])


def test_no_step_waits_for_the_device_or_groups_its_labels(accelerator):
    """Neither of a few classes nor of more texts than rows, of which a batch has few."""
    for num_texts in (4, 60):
        images, texts, labels = turned_classes()
        texts = torch.cat([texts, torch.ones(1, num_texts - 4, 8)], dim=1)
        with torch.profiler.profile() as profiled:
            train_adapters(
                new_adapters(IdentityProjections(8), MlpAdapterConfig()),
                images,
                texts,
                labels,
                arguments=quick(),
                schedule=Schedule(30, 8, num_steps=12, evaluate_every=6),
                num_steps=12,
                seed=0,
                accelerator=accelerator,
            )
        names = [event.name for event in profiled.events()]
        assert names.count("aten::mm") >= 12
        # The loss that is shown, twice, and what Adam's kernel for the CPU reads of its own.
        waits = [event.cpu_parent for event in profiled.events() if event.name == "aten::item"]
        assert len([inside for inside in waits if inside is None or inside.name != "aten::_fused_adam_"]) == 2
        assert not [name for name in names if "unique" in name or "nonzero" in name]


def test_prompt_templates_are_averaged_as_unit_vectors():
    texts = torch.tensor([[[3.0, 0, 0, 0], [0, 1, 0, 0]], [[0, 1.0, 0, 0], [0, 1, 0, 0]]])
    text_embeds = embed_prompts(Projections(IdentityProjections(4)), texts)
    np.testing.assert_allclose(text_embeds, [[0.5**0.5, 0.5**0.5, 0, 0], [0, 1, 0, 0]], atol=1e-6)


def test_mean_loss_weights_batches_by_their_rows():
    images, texts, labels = turned_classes(num_rows=5)
    model = IdentityProjections(8)
    parts = [
        mean_loss(model, images.subset(rows), texts, labels[rows], batch_size=10, temperature=0.1)
        for rows in (np.arange(3), np.arange(3, 5))
    ]
    whole = mean_loss(model, images, texts, labels, batch_size=3, temperature=0.1)
    assert whole == pytest.approx((3 * parts[0] + 2 * parts[1]) / 5)


@pytest.mark.slow
def test_saved_adapters_load_bit_equal_in_a_fresh_process(accelerator, clip_folder, tmp_path):
    backbone = load_backbone(str(clip_folder))
    images, texts, labels = turned_classes()
    images, texts = FeatureRows([np.tile(images.take(np.arange(240)), 2)]), torch.cat([texts, texts[..., :4]], dim=-1)
    adapted, _ = adapt(
        backbone.model, images, texts, labels, arguments=quick(adaptation="always"), seed=0, accelerator=accelerator
    )
    save_adapters(adapted, tmp_path / "adapter", base_model=str(clip_folder), base_revision=None)
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = adapted.get_image_features(pixel_values=pixels).pooler_output
    torch.save({"pixels": pixels, "expected": expected}, tmp_path / "expected.pt")
    script = f"""
import torch, hf_clipselect
from peft import PeftModel
from transformers import CLIPModel
stored = torch.load({str(tmp_path / "expected.pt")!r})
ours = hf_clipselect.load_adapters({str(tmp_path / "adapter")!r})
stock = PeftModel.from_pretrained(CLIPModel.from_pretrained({str(clip_folder)!r}), {str(tmp_path / "adapter")!r})
with torch.inference_mode():
    for model in (ours, stock.eval()):
        assert torch.equal(model.get_image_features(pixel_values=stored["pixels"]).pooler_output, stored["expected"])
"""
    (tmp_path / "script.py").write_text(script)
    done = run_python(tmp_path / "script.py")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["peft_type"] == "MLP_ADAPTER" and config["base_model_name_or_path"] == str(clip_folder)


def write_json(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_any_stock_peft_method_can_be_trained(accelerator, tmp_path):
    config = read_peft_config(write_json(tmp_path / "lora.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    data = turned_classes()
    adapted, outcome = adapt(
        IdentityProjections(8), *data, arguments=quick(), seed=0, accelerator=accelerator, peft_config=config
    )
    assert outcome.kept and outcome.method == "LORA"
    assert agreement(adapted, *data) > 0.9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no PEFT config"),
        ('{"r": 4}', "is no PEFT config"),
        ('{"peft_type": "NO_SUCH_METHOD"}', "is no PEFT config"),
        ("[1]", "is no PEFT config"),
        ('{"peft_type": "LORA", "no_such_field": 1}', "LoraConfig does not know: no_such_field"),
    ],
)
def test_a_broken_peft_config_is_told_in_a_sentence(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_peft_config(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "trained"),
    [
        ({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}, "q_proj"),
        ({"peft_type": "LORA", "r": 4, "target_modules": ["visual_projection", "q_proj"]}, "q_proj"),
        ({"peft_type": "LORA", "r": 4, "modules_to_save": ["post_layernorm"]}, "post_layernorm"),
    ],
)
def test_a_peft_config_that_reaches_beyond_the_projections_is_refused(clip_folder, tmp_path, values, trained):
    config = read_peft_config(write_json(tmp_path / "config.json", values))
    with pytest.raises(InputError, match=f"trains .*{trained}.* name these two in target_modules"):
        new_adapters(load_backbone(str(clip_folder)).model, config)


def test_a_peft_config_that_targets_nothing_is_refused(tmp_path):
    config = read_peft_config(
        write_json(tmp_path / "config.json", {"peft_type": "LORA", "target_modules": ["nowhere"]})
    )
    with pytest.raises(InputError, match="does not fit the model"):
        new_adapters(IdentityProjections(8), config)


def test_dropout_follows_the_seed_too(accelerator, tmp_path):
    config = read_peft_config(write_json(tmp_path / "lora.json", {"peft_type": "LORA", "r": 4, "lora_dropout": 0.3}))
    weights = []
    for _ in range(2):
        torch.rand(3)  # whatever else draws random numbers
        adapted, _ = adapt(
            IdentityProjections(8),
            *turned_classes(),
            arguments=quick(adaptation="always"),
            seed=0,
            accelerator=accelerator,
            peft_config=config,
        )
        weights.append(torch.cat([p.detach().flatten() for p in adapted.parameters() if p.requires_grad]))
    assert torch.equal(*weights)


def test_held_out_rows_are_looked_at_without_dropout(accelerator, tmp_path):
    config = read_peft_config(write_json(tmp_path / "lora.json", {"peft_type": "LORA", "r": 4, "lora_dropout": 0.5}))
    images, texts, labels = turned_classes()
    adapted, arguments, losses = new_adapters(IdentityProjections(8), config), quick(), []

    def look(step: int) -> bool:
        losses.append([mean_loss(adapted, images, texts, labels, batch_size=64, temperature=0.1) for _ in range(2)])
        return True

    train_adapters(
        adapted,
        images,
        texts,
        labels,
        arguments=arguments,
        schedule=Schedule.for_rows(240, arguments),
        num_steps=36,
        seed=0,
        accelerator=accelerator,
        after_interval=look,
    )
    assert len(losses) == 3 and all(first == second for first, second in losses)


def test_the_order_of_the_rows_does_not_make_held_out_batches_of_one_class(accelerator):
    """Class-sorted rows, as every imagefolder has them, must be worth as much as shuffled ones."""
    labels = np.repeat(np.arange(4), 100)
    batches = np.split(labels[held_out_rows(labels, seed=0)], 5)
    assert all(len(np.unique(batch)) == 4 for batch in batches)


def test_small_classes_give_rows_to_hold_out_but_never_their_last():
    labels = np.repeat(np.arange(1500), 4)
    rows = held_out_rows(labels, seed=0)
    assert len(rows) == 600 and np.bincount(labels[rows]).max() == 1
    assert len(held_out_rows(np.arange(40), seed=0)) == 0


def test_of_many_texts_those_of_the_batch_are_trained_on_and_no_others_matter(accelerator):
    """Texts that no row has change nothing, though with them there are more than rows in a batch."""
    images, texts, labels = turned_classes()
    arguments = quick(train_batch_size=30)
    schedule = Schedule.for_rows(len(labels), arguments)
    unused = torch.randn(1, 60, 8, generator=torch.Generator().manual_seed(1))
    embeds = []
    for all_texts in (texts, torch.cat([unused[:, :30], texts, unused[:, 30:]], dim=1)):
        torch.manual_seed(0)
        model = new_adapters(IdentityProjections(8), MlpAdapterConfig())
        train_adapters(
            model,
            images,
            all_texts,
            labels + (30 if all_texts.shape[1] > 4 else 0),
            arguments=arguments,
            schedule=schedule,
            num_steps=40,
            seed=0,
            accelerator=accelerator,
        )
        projections = Projections(model)
        embeds.append(
            torch.cat(
                [
                    projections.embed_images(torch.from_numpy(images.take(np.arange(20)))),
                    projections.embed_texts(texts),
                ]
            ).detach()
        )
    torch.testing.assert_close(*embeds, atol=1e-4, rtol=0)
    plain = Projections(IdentityProjections(8)).embed_texts(texts)
    assert not torch.allclose(embeds[0][20:], plain, atol=1e-2)


@pytest.mark.parametrize(
    ("difference", "better", "words"),
    [
        (0.05, True, "more than one standard error of the difference, 2.0%, better"),
        (0.01, False, "not more than one standard error of the difference, 2.0%, better"),
        (0.0, False, "no better; one standard error of the difference is 2.0%"),
        (-0.05, False, "worse; one standard error of the difference is 2.0%"),
    ],
)
def test_the_finding_fits_the_figures(difference, better, words):
    assert _compared(difference, 0.02, better) == words
