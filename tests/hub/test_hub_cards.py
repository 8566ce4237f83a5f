"""The cards: valid headers, configs that load, nothing a user's text can break, no path of the user's disk."""

import copy
import os
import re
import shlex
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset
from huggingface_hub import DatasetCard, ModelCard
from loopback_hub.card import check
from PIL import Image as PILImage

from hf_clipselect import select_dataset
from hf_clipselect.cli import main
from hf_clipselect.config.arguments import Arguments
from hf_clipselect.config.command_line import parse_arguments
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.hub import PREVIEW, adapter_card, command_words, subset_card
from hf_clipselect.hub.escape import code_block, code_span, escape_markdown, one_line, python_literal
from hf_clipselect.hub.merge import merge_cards
from hf_clipselect.hub.wording import size_category
from hf_clipselect.runtime.hub_ids import hide_paths, is_hub_id, lasting_name
from hf_clipselect.selection import resolve_objective


CONFIGS = ("ratio_30", "ratio_12_5", "scores")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = [
    "</td><script>alert(1)</script>",
    "a|b",
    "`code`",
    "---",
    "{{ 7*7 }}",
    "{% raw %}",
    "x: y # z",
    "two\n---\nlines",
    "```\n<b>out of the fence</b>",
    "[link](https://example.org) www.example.org https://example.org",
    "**bold** _and_ ~~gone~~",
    "1. item",
    "# heading",
    "<!-- comment -->",
    "<!-- hf_clipselect:end -->",
    "\n<!-- hf_clipselect:begin -->\nx\n<!-- hf_clipselect:end -->\n",
    "back\\slash\\|pipe",
    "&lt;entity&gt;",
    "\u202egnp.exe",
    "lone \udcff surrogate",
    "\u2028---\u2028",
]


def make_report():
    quantiles = {"0": -0.1, "0.05": 0.0, "0.25": 0.1, "0.5": 0.2, "0.75": 0.25, "0.95": 0.3, "1": 0.4}
    return {
        "source": {
            "name": "me/flowers",
            "config_name": None,
            "split": "train",
            "revision": COMMIT,
            "fingerprint": "8f14e45fceea167a",
            "num_rows": 2000,
            "image_column": "image",
            "label_column": "label",
            "license": "cc-by-4.0",
        },
        "model": {
            "name": "openai/clip-vit-base-patch32",
            "revision": COMMIT,
            "weights_sha256": None,
            "embed_dim": 512,
            "prompt_template": ["A photo of a {}."],
        },
        "objective": resolve_objective("clean").to_dict(),
        "adaptation": {
            "mode": "auto",
            "kept": True,
            "reason": "On 200 held-out rows the adapters were better.",
            "method": "MLP_ADAPTER",
            "num_steps": 150,
            "learning_rate": 0.001,
            "temperature": 0.1,
            "held_out_rows": 200,
            "held_out_agreement_plain": 0.9,
            "held_out_agreement_adapted": 0.93118,
            "standard_error": 0.008,
        },
        "arguments": {"dataset_name": "me/flowers", "dataset_config_name": None, "selection_ratio": [0.3, 0.125]},
        "captions": None,
        "noise": None,
        "versions": {"hf_clipselect": "0.1.0", "torch": "2.13.0"},
        "seed": 42,
        "seconds": {"load": 1.0, "encode": 1.0, "adapt": 1.0, "score": 1.0, "select": 1.0},
        "num_rows": 2000,
        "num_unreadable": 0,
        "unreadable": [],
        "classes": [make_class("rose", 1200), make_class("tulip", 800)],
        "classes_without_images": [],
        "accuracy_before": 0.9,
        "accuracy_after": 0.95,
        "score_quantiles": {"sas": quantiles, "margin": quantiles, "sds": quantiles},
        "subsets": [make_subset(0.3, "30", 600), make_subset(0.125, "12_5", 250)],
        "warnings": [],
    }


def make_class(name, rows, kept=None):
    kept = {"30": rows * 3 // 10, "12_5": rows // 8} if kept is None else kept
    return {"name": name, "rows": rows, "share": 0.5, "accuracy_before": 0.9, "accuracy_after": 0.95, "kept": kept}


def make_subset(ratio, suffix, rows):
    return {
        "ratio": ratio,
        "name": f"ratio_{suffix}",
        "suffix": suffix,
        "count": None,
        "auto_ratio": None,
        "rows": rows,
        "cut_score": 0.1,
        "label_agrees_kept": 0.99,
        "label_agrees_dropped": None,
        "class_share_min": ratio,
        "class_share_max": ratio,
    }


def noise_of(names, share):
    pairs = [{"label": a, "clean_label": b, "rows": 9} for a, b in zip(names, names[1:], strict=False)]
    by_class = dict.fromkeys(names, share)
    return {"estimated_share": share, "share_error": 0.01, "by_class": by_class, "transitions": pairs}


def make_hostile_report():
    report = make_report()
    report["classes"] = [make_class(name, 10, {"30": 3, "12_5": 1}) for name in HOSTILE]
    report["classes_without_images"] = HOSTILE
    report["warnings"] = HOSTILE
    report["leaks"] = {"reference": " ".join(HOSTILE), "rows": 3, "dropped": True}
    report["quality"] = {"rows": 3, "dropped": True, "issues": dict.fromkeys(HOSTILE, 1)}
    report["noise"] = noise_of(HOSTILE, 0.2)
    report["adaptation"]["reason"] = " ".join(HOSTILE)
    report["arguments"] = {
        "dataset_name": HOSTILE[9],
        "prompt_template": HOSTILE,
        "dataset_config_name": HOSTILE[0],
        "</b>": "`",
    }
    report["model"] |= {
        "name": "/models/" + "".join(HOSTILE[:4]),
        "revision": HOSTILE[2],
        "prompt_template": [f"{name} {{}}" for name in HOSTILE],
    }
    report["versions"] = {name: name for name in HOSTILE}
    report["source"] |= {
        "name": "/data/" + "".join(HOSTILE[:4]),
        "config_name": HOSTILE[7],
        "split": HOSTILE[0],
        "fingerprint": HOSTILE[2],
        "image_column": HOSTILE[1],
        "label_column": HOSTILE[8],
        "license": HOSTILE[4],
    }
    return report


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory):
    """Where make_dataset_card puts its folders."""
    make_dataset_card.root = tmp_path_factory.mktemp("cards")


def make_dataset_card(report, *, configs=CONFIGS, **ids):
    """The card of a folder with a Parquet file for each config."""
    folder = make_dataset_card.root / "-".join(configs)
    for config in configs:
        (folder / config).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"config": [config]}), folder / config / "train-00000-of-00001.parquet")
    return subset_card(report, folder, **ids)


def both_cards(report):
    return [make_dataset_card(report), adapter_card(report)]


def in_memory(report):
    report["arguments"]["dataset_name"] = ""
    return report


def give_adapters(report, name, revision):
    """The report of a run that was given its adapters."""
    report["adaptation"] |= {
        "adapter": {"name": name, "revision": revision},
        "reason": "The adapters were used as they are; nothing was trained.",
        "num_steps": 0,
        "held_out_rows": 0,
        "held_out_agreement_plain": None,
        "held_out_agreement_adapted": None,
    }
    return report


def python_blocks(card):
    return re.findall(r"^```python\n(.*?)^```$", card, flags=re.DOTALL | re.MULTILINE)


def command_of(card):
    [command] = re.findall(r"^(`{3,})bash\n(.*?)\n\1$", card, flags=re.DOTALL | re.MULTILINE)
    return command[1]


def section(card, heading):
    return card.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", ["dataset_card.md", "adapter_card.md"])
def test_templates_are_in_the_package(name):
    assert "{{ title }}" in (files("hf_clipselect.hub") / "templates" / name).read_text(encoding="utf-8")


def test_dataset_header():
    data = DatasetCard(make_dataset_card(make_report())).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["source_datasets"] == ["me/flowers"]
    assert data["task_categories"] == ["image-classification"]
    assert data["size_categories"] == ["n<1K"]
    assert data["tags"] == ["clip", "data-selection", "dataset-pruning", "hf_clipselect"]
    assert data["pretty_name"] == "Subsets of flowers"
    first = data["configs"][0]
    assert re.fullmatch(r"0\.0\.\d+", first.pop("version"))
    assert first == {
        "config_name": "ratio_30",
        "data_files": [{"split": "train", "path": "ratio_30/train-*.parquet"}],
        "default": True,
    }
    assert [config["config_name"] for config in data["configs"]] == list(CONFIGS)
    assert [config.get("default") for config in data["configs"]] == [True, None, None]


def test_configs_are_those_of_the_folder_in_the_order_of_the_report():
    report = make_report()
    report["subsets"].reverse()
    for configs in (
        ("scores", "ratio_30", "ratio_12_5", "ratio_99"),
        ("ratio_30",),
        ("scores",),
        ("ratio_30", "scores"),
    ):
        card = make_dataset_card(report, configs=configs)
        expected = [name for name in ("ratio_12_5", "ratio_30", "scores") if name in configs]
        entries = DatasetCard(card).data.to_dict()["configs"]
        assert [entry["config_name"] for entry in entries] == expected
        assert [entry.get("default", False) for entry in entries] == [True, *[False] * (len(expected) - 1)]
        assert f"Without a config name, `load_dataset` gives `{expected[0]}`" in card
        assert check(card, "dataset") == {"errors": [], "warnings": []}


def test_the_header_changes_with_the_files(tmp_path):
    def entries(rows):
        for config in CONFIGS:
            (tmp_path / config).mkdir(exist_ok=True)
            pq.write_table(pa.table({"row": rows}), tmp_path / config / "train-00000-of-00001.parquet")
        return DatasetCard(subset_card(make_report(), tmp_path)).data.to_dict()["configs"]

    first = entries([1])
    assert entries([1]) == first
    # The same number of rows and bytes: the version alone tells them apart, for the cache of `load_dataset`.
    assert all(new["version"] != old["version"] for new, old in zip(entries([2]), first, strict=True))


def test_adapter_header():
    data = ModelCard(adapter_card(make_report(), repo_id="me/flower-adapters")).data
    assert data.library_name == "hf_clipselect" and "peft" in data.tags
    assert data.base_model == "openai/clip-vit-base-patch32"
    assert data.base_model_relation == "adapter"
    assert data.datasets == ["me/flowers"]
    assert data.pipeline_tag == "zero-shot-image-classification"
    assert data.license is None
    assert data.model_name == "flower-adapters"
    (result,) = data.eval_results
    assert result.metric_name == "agreement with the given labels on held-out rows"
    assert result.metric_value == 0.9312
    assert (result.dataset_type, result.dataset_split, result.dataset_revision) == ("me/flowers", "train", COMMIT)


def test_the_library_is_peft_where_peft_alone_loads_the_adapters():
    report = make_report()
    assert "\nimport hf_clipselect  #" in adapter_card(report)
    report["adaptation"]["method"] = "LORA"
    card = adapter_card(report)
    assert ModelCard(card).data.library_name == "peft" and "import hf_clipselect" not in card
    assert check(card, "model") == {"errors": [], "warnings": []}
    # What an earlier version wrote into a card is renewed.
    old = adapter_card(make_report()).replace("library_name: hf_clipselect", "library_name: peft")
    assert ModelCard(merge_cards(adapter_card(make_report()), old)).data.library_name == "hf_clipselect"


def test_cards_tell_where_the_weights_come_from():
    report, digest = make_report(), "a" * 64
    for card in both_cards(report):
        assert "conversion" not in card and "weights" not in card and "in memory" not in card
    report["model"] |= {"weights_revision": "b" * 40}
    for card in both_cards(report):
        assert f"weights from its conversion to safetensors by SFconvertbot, revision `{'b' * 40}`" in card
    report = make_report()
    report["model"] |= {"weights_files": {"pytorch_model.bin": digest}}
    for card in both_cards(report):
        assert f"weights file `pytorch_model.bin` with sha256 `{digest}`" in card
    report = make_report()
    report["model"] |= {"name": "me/clip", "revision": None, "weights_sha256": digest, "in_memory": True}
    for card in both_cards(report):
        told = "a model that was passed in memory, by its own account [me/clip](https://huggingface.co/me/clip)"
        assert f"{told}, weights sha256 `{digest}`" in card


def test_no_model_index_without_a_measurement():
    report = make_report()
    report["adaptation"] |= {"held_out_agreement_plain": None, "held_out_agreement_adapted": None}
    card = adapter_card(report)
    assert ModelCard(card).data.eval_results is None
    assert "held out" not in section(card, "Results")


@pytest.mark.parametrize("name", ["", "embedded/digits", "/home/anna/flowers", "./flowers", "flowers", "~/me/flowers"])
def test_only_hub_ids_are_linked(name):
    report = make_report()
    report["source"] |= {"name": name, "revision": None}
    report["model"] |= {"name": name, "revision": None}
    data = DatasetCard(make_dataset_card(report)).data.to_dict()
    assert "source_datasets" not in data
    data = ModelCard(adapter_card(report)).data.to_dict()
    assert not {"base_model", "base_model_relation", "datasets", "model-index"} & set(data)


def test_an_existing_folder_is_not_a_hub_id(tmp_path, monkeypatch):
    assert is_hub_id("me/flowers")
    (tmp_path / "me" / "flowers").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("me/flowers", revision=COMMIT)


def test_a_name_without_namespace_needs_a_commit():
    assert is_hub_id("mnist", revision=COMMIT)
    assert not is_hub_id("mnist")


@pytest.mark.parametrize(
    ("stated", "in_header", "its_name"),
    [
        ("MIT", "mit", None),
        ("other", "other", None),
        ("cc-by-4.0, mit", ["cc-by-4.0", "mit"], None),
        (None, None, None),
        ("", None, None),
        ("unknown", None, None),
        ("My licence, 2nd", "other", "my-licence-2nd"),
    ],
)
def test_license(stated, in_header, its_name):
    report = make_report()
    report["source"]["license"] = stated
    card = make_dataset_card(report)
    header = DatasetCard(card).data.to_dict()
    assert (header.get("license"), header.get("license_name")) == (in_header, its_name)
    assert ("License of the source" in card) == (in_header is not None)
    assert check(card, "dataset") == {"errors": [], "warnings": []}


@pytest.mark.parametrize("source", [None, "cc-by-4.0"])
def test_a_license_that_was_given_stands_before_that_of_the_source(source):
    report = make_report()
    report["source"]["license"] = source
    report["arguments"]["license"] = "mit"
    card = make_dataset_card(report)
    assert DatasetCard(card).data.license == "mit"
    states = "" if source is None else "; the source states cc-by-4.0"
    assert f"- License: mit, as whoever made this selection states{states}\n" in card
    assert "--license mit" in command_of(card) and "License of the source" not in card
    assert "license" not in ModelCard(adapter_card(report)).data.to_dict()
    assert check(card, "dataset") == {"errors": [], "warnings": []}


def test_a_license_that_the_hub_refuses_is_named_beside_other():
    report = make_report()
    report["source"]["license"] = "my-own"
    header = DatasetCard(make_dataset_card(report, license_is_known=False)).data.to_dict()
    assert (header["license"], header["license_name"]) == ("other", "my-own")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (1_281_167, "1M<n<10M"), (10**11, "100B<n<1T"), (10**12, "n>1T")],
)
def test_size_category(rows, expected):
    assert size_category(rows) == expected


def test_size_category_is_that_of_the_default_config():
    report = make_report()
    report["subsets"][1]["rows"] = 25_000
    report["num_rows"] = 200_000
    for configs, category in (
        (CONFIGS, "n<1K"),
        (("ratio_12_5", "scores"), "10K<n<100K"),
        (("scores",), "100K<n<1M"),
    ):
        assert DatasetCard(make_dataset_card(report, configs=configs)).data.size_categories == [category]


@pytest.fixture
def subset_folder(tmp_path):
    """A folder as a run leaves it, with ten rows of which three or one are kept."""
    features = Features(
        {"image": Image(), "label": ClassLabel(names=["rose", "tulip"]), "source_index": Value("int64")}
    )
    rows = {
        "image": [PILImage.fromarray(np.full((4, 4), 20 * row, np.uint8)) for row in range(10)],
        "label": [row % 2 for row in range(10)],
        "source_index": list(range(10)),
    }
    dataset = Dataset.from_dict(rows, features=features)
    kept = {"ratio_30": dataset.select([1, 4, 7]), "ratio_12_5": dataset.select([4])}
    for config, part in (kept | {"scores": dataset.remove_columns("image")}).items():
        (tmp_path / "subset" / config).mkdir(parents=True)
        part.to_parquet(tmp_path / "subset" / config / "train-00000-of-00001.parquet")
    return tmp_path / "subset"


def test_configs_load(subset_folder, tmp_path):
    (subset_folder / "README.md").write_text(subset_card(make_report(), subset_folder), encoding="utf-8")

    def load(*config):
        return load_dataset(str(subset_folder), *config, split="train", cache_dir=str(tmp_path / "cache"))

    subset = load("ratio_30")
    assert subset["source_index"][:] == [1, 4, 7]
    assert subset.features["label"].names == ["rose", "tulip"]
    assert np.array_equal(np.asarray(subset[2]["image"]), np.full((4, 4), 140, np.uint8))
    assert load("ratio_12_5")["source_index"][:] == [4]
    assert load("scores").column_names == ["label", "source_index"]
    assert load()["source_index"][:] == [1, 4, 7]


def test_a_hostile_card_still_loads(subset_folder, tmp_path):
    (subset_folder / "README.md").write_text(subset_card(make_hostile_report(), subset_folder), encoding="utf-8")
    subset = load_dataset(str(subset_folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert subset["source_index"][:] == [1, 4, 7]


def test_load_snippet_runs(subset_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    card = subset_card(make_report(), subset_folder)
    (subset_folder / "README.md").write_text(card, encoding="utf-8")
    snippet = python_blocks(card)[0]
    assert snippet.count("load_dataset(") == len(CONFIGS)
    names = {}
    exec(snippet.replace("path/to/subset", str(subset_folder)), names)
    assert len(names["subset"]) == 1
    assert len(names["scores"]) == 10


@pytest.mark.slow
def test_snippets_of_a_run_of_the_embedded_digits_work(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    dataset = load_digits_dataset("train")
    result = select_dataset(
        dataset, model_name_or_path="embedded/tiny-clip", adaptation="off", output_dir=tmp_path / "run", use_cpu=True
    )
    card = (tmp_path / "run" / "subset" / "README.md").read_text(encoding="utf-8")
    load, other_ratio = python_blocks(card)
    names = {"source_dataset": dataset}
    exec(load.replace("path/to/subset", str(tmp_path / "run" / "subset")), names)
    assert names["subset"]["source_index"][:] == result.selected.tolist()
    assert len(names["scores"]) == len(dataset)
    exec(other_ratio.replace("path/to/subset", str(tmp_path / "run" / "subset")), names)
    assert names["subset"]["source_index"][:] == result.at(0.5).selected.tolist()


@pytest.mark.slow
def test_the_command_of_a_local_folder_runs_as_printed_on_a_copy(tmp_path):
    for folder in ("mine", "yours"):
        (tmp_path / folder / "digits").mkdir(parents=True)
        load_digits_dataset("test").select(range(80)).to_parquet(tmp_path / folder / "digits" / "train.parquet")
    flags = ["--model_name_or_path", "embedded/tiny-clip", "--adaptation", "off", "--selection_ratio", "0.4"]
    flags += ["--dataset_name", str(tmp_path / "mine" / "digits"), "--license", "mit"]
    assert main(["select", *flags, "--output_dir", str(tmp_path / "first")]) == 0
    card = (tmp_path / "first" / "subset" / "README.md").read_text(encoding="utf-8")
    assert "mine" not in card
    words = shlex.split(command_of(card).replace("PATH_OF_YOUR_COPY", str(tmp_path / "yours" / "digits")))
    assert main([*words[1:], "--output_dir", str(tmp_path / "second")]) == 0
    first, second = tmp_path / "first" / "subset", tmp_path / "second" / "subset"
    for name in ("ratio_40/train-00000-of-00001.parquet", PREVIEW):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    again = (second / "README.md").read_text(encoding="utf-8")
    fingerprint = "fingerprint `[0-9a-f]{16}`"  # which `datasets` makes of the path too
    assert re.sub(fingerprint, "", again) == re.sub(fingerprint, "", card) != card


def test_snippets_name_the_repository():
    assert 'load_dataset("me/flowers-30", "ratio_30", split="train")' in make_dataset_card(
        make_report(), repo_id="me/flowers-30"
    )
    card = adapter_card(make_report(), repo_id="me/flower-adapters")
    assert 'load_adapters("me/flower-adapters")' in card
    assert f'AutoModel.from_pretrained("openai/clip-vit-base-patch32", revision="{COMMIT}", dtype="float32")' in card
    assert 'PeftModel.from_pretrained(base, "me/flower-adapters")' in card
    assert '"A photo of a rose."' in card


def test_another_ratio_comes_from_the_scores():
    for configs in (CONFIGS, ("scores",)):
        for ids, expected in (
            ({}, 'SelectionResult.from_folder("path/to/subset").at(0.5)'),
            ({"repo_id": "me/flowers-30"}, 'SelectionResult.from_hub("me/flowers-30").at(0.5)'),
        ):
            snippet = python_blocks(make_dataset_card(make_report(), configs=configs, **ids))[-1]
            assert snippet == (
                f"from hf_clipselect import SelectionResult\n\nresult = {expected}\n"
                "subset = result.apply(source_dataset)\n"
            )
    assert "SelectionResult" not in make_dataset_card(make_report(), configs=("ratio_30",))


def test_scores_alone():
    card = make_dataset_card(make_report(), configs=("scores",), repo_id="me/flower-scores")
    data = DatasetCard(card).data.to_dict()
    assert data["task_categories"] == ["image-classification"]
    assert data["pretty_name"] == "CLIP scores of flowers"
    assert python_blocks(card)[1] == (
        'from hf_clipselect import load_pruned\n\nsubset = load_pruned("me/flower-scores", ratio=0.3)  # 600 rows\n'
    )
    assert f"from the source at its revision `{COMMIT}`:" in card
    assert "The images are not here" in card and "rows were kept" not in card
    # The run's subsets are told all the same: the scores mark their rows.
    assert "| `ratio_12_5` | 250 | 12.5% |" in card and "| tulip | 800 | 240 | 100 |" in card
    assert "`selected_30`, `selected_12_5`" in card
    assert "load_pruned" not in make_dataset_card(make_report())


@pytest.mark.parametrize(
    ("name", "revision", "loads"),
    [("me/flowers", None, True), ("embedded/digits", None, True), ("/data/flowers", None, False), ("", None, False)],
)
def test_the_source_is_loaded_only_where_a_name_suffices(name, revision, loads):
    report = make_report()
    report["source"] |= {"name": name, "revision": revision}
    card = make_dataset_card(report, configs=("scores",))
    assert ("load_pruned(" in card) == loads
    assert len(python_blocks(card)) == 2 + loads
    for snippet in python_blocks(card):
        compile(snippet, "card", "exec")


def test_adapters_are_named_with_their_commit():
    linked = f"They are those of [me/flower-adapters](https://huggingface.co/me/flower-adapters), revision `{COMMIT}`."
    ids = {"adapter_id": "me/flower-adapters", "adapter_revision": COMMIT}
    card = make_dataset_card(make_report(), **ids)
    assert f"They were trained for 150 steps. {linked}" in card
    assert "They are those of" not in make_dataset_card(make_report())
    given = give_adapters(make_report(), "me/other-adapters", "f" * 40)
    assert f"nothing was trained. {linked}" in make_dataset_card(given, **ids)
    card = make_dataset_card(given)
    assert (
        "nothing was trained. They are those of [me/other-adapters](https://huggingface.co/me/other-adapters), "
        "revision "
        f"`{'f' * 40}`." in card
    )
    assert "were trained for" not in card
    card = make_dataset_card(give_adapters(make_report(), "/home/anna/my_adapters", None))
    assert "They are those of the folder my\\_adapters." in card
    assert "anna" not in card


def test_the_card_of_given_adapters_claims_no_training():
    card = adapter_card(give_adapters(make_report(), "me/other-adapters", COMMIT))
    data = ModelCard(card).data.to_dict()
    assert data["base_model"] == "openai/clip-vit-base-patch32"
    assert not {"datasets", "model-index", "metrics"} & set(data)
    assert "[me/other-adapters](https://huggingface.co/me/other-adapters)" in card
    assert not re.search(r"trained by|Optimizer|InfoNCE|trained on\)|## Training|held out", card)
    assert "| all 2,000 | 90.0% | 95.0% |" in card
    assert check(card, "model") == {"errors": [], "warnings": []}


def flags_of(report):
    """Arguments as a report holds them."""
    return {name: value for name, value in report.items() if value is not None}


def test_the_command_gives_the_same_arguments():
    report = make_report()
    given = Arguments().to_dict() | {
        "dataset_name": "me/flowers",
        "dataset_config_name": "it's $HOME",
        "image_column_name": "--picture",
        "max_train_samples": 500,
        "model_name_or_path": "openai/clip-vit-base-patch32",
        "prompt_template": ['a "{}"; rm -rf *', "`whoami` {}"],
        "precision": "bfloat16",
        "adaptation": "always",
        "learning_rate": 1e-05,
        "selection_ratio": [0.3, 0.125],
        "objective": "paper",
        "diversity_weight": 0.0,
        "dataloader_num_workers": 0,
        "seed": 7,
    }
    report["arguments"] = flags_of(given)
    for card in both_cards(report):
        words = shlex.split(command_of(card))
        assert words[:4] == ["hf-clipselect", "select", "--dataset_name", "me/flowers"]
        assert parse_arguments(words[2:]).to_dict() == given
        assert "All arguments" not in card


def test_the_command_names_only_what_differs_from_the_default():
    report = make_report()
    report["arguments"] = flags_of(Arguments().to_dict())
    assert command_of(make_dataset_card(report)) == "hf-clipselect select --dataset_name embedded/digits"


@pytest.mark.parametrize("dataset_name", ["me/flowers", ""])
def test_the_card_does_not_change_with_the_place_of_the_result(dataset_name):
    report = make_report()
    report["arguments"] |= {"dataset_name": dataset_name, "seed": 7}
    expected = both_cards(report)
    report["arguments"] |= {
        "output_dir": "out",
        "overwrite_output_dir": True,
        "push_to_hub": True,
        "hub_dataset_id": "me/flowers-30",
        "hub_model_id": "me/flower-adapters",
        "hub_private_repo": True,
        "hub_revision": "dev",
        "hub_tag": "v7",
        "create_pr": True,
        "scores_only": True,
    }
    assert both_cards(report) == expected


@pytest.mark.parametrize(
    ("source", "arguments", "printed", "note"),
    [
        (
            "/data/my photos",
            {"dataset_name": "/data/my photos"},
            "--dataset_name PATH_OF_YOUR_COPY",
            "dataset my photos.",
        ),
        # As published: of a path its last part.
        ("photos", {"dataset_name": "photos"}, "--dataset_name PATH_OF_YOUR_COPY", "dataset photos."),
        (
            "",
            {"dataset_name": "", "data_files": ["/data/a.csv", "b.csv"]},
            "--data_files PATH_OF_YOUR_COPY/a.csv PATH_OF_YOUR_COPY/b.csv",
            "`PATH_OF_YOUR_COPY` is the folder of your copy of the files.",
        ),
        ("photos", {"dataset_name": "photos", "data_files": ["*.csv"]}, "--data_files '*.csv'", "dataset photos."),
        (
            "https://example.org/a.csv",
            {"dataset_name": "https://example.org/a.csv"},
            "https://example.org/a.csv",
            None,
        ),
        ("embedded/digits", {"dataset_name": "embedded/digits"}, "--dataset_name embedded/digits", None),
        ("me/flowers", {"dataset_name": "me/flowers"}, "--dataset_name me/flowers", None),
    ],
)
def test_the_command_names_nothing_that_only_its_user_has(source, arguments, printed, note):
    report = make_report()
    report["source"] |= {"name": source, "revision": None}
    report["arguments"] = arguments
    for card in both_cards(report):
        assert printed in command_of(card)
        parse_arguments(shlex.split(command_of(card))[2:])
        assert ("PATH_OF_YOUR_COPY` is" in card) == (note is not None)
        assert note is None or f"{note}\n\n" in card


def test_the_cards_tell_what_people_decided_and_what_leaks():
    assert not re.search(r"looked at|[Cc]op(y|ies) of|look damaged", make_dataset_card(make_report()))
    report = make_report() | {
        "decisions": {"keep": 1200, "relabel": 5, "drop": 2, "unsure": 1},
        "leaks": {"reference": "me/flowers, split test", "rows": 1, "dropped": True},
        "quality": {"rows": 7, "dropped": False, "issues": {"blurry": 4, "dark": 3, "odd_size": 0}},
    }
    card = make_dataset_card(report)
    for text in (
        "People looked at 1,208 rows: labels kept 1,200, labels replaced 5, rows dropped 2, undecided 1.",
        "Copies of rows of me/flowers, split test: 1 row, which no subset keeps.",
        "Images that look damaged, such as blurred or dark ones: 7 rows (blurry 4, dark 3), which subsets may keep.",
    ):
        assert f"\n\n{text}\n\n" in card
    assert "the label given in the source, or the new one of a person who looked at the row, possibly wrong" in card
    assert (
        "then five of ours" in card and "| `given_label` | class label | the label given in the source, what" in card
    )
    report["leaks"]["rows"] = report["quality"]["rows"] = 0
    card = make_dataset_card(report)
    assert "No row is a copy of a row of me/flowers, split test." in card and "dark ones: 0 rows.\n" in card
    report |= {"leaks": None, "quality": None, "decisions": None}
    assert "or the new one" not in make_dataset_card(report) and "four of ours" in make_dataset_card(report)
    report["leaks"] = {"reference": HOSTILE[0], "rows": 2, "dropped": False}
    assert "Copies of rows of &lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;: 2 rows" in make_dataset_card(report)


def test_the_picture_is_shown_where_there_is_one():
    assert "![" not in make_dataset_card(make_report(), configs=("ratio_30", "scores"))
    folder = make_dataset_card.root / "ratio_30-scores"
    (folder / PREVIEW).write_bytes(b"a picture")
    card = make_dataset_card(make_report(), configs=("ratio_30", "scores"))
    assert f"![Rows that `ratio_30` keeps, each with its label]({PREVIEW})" in section(card, "Rows")
    (folder / PREVIEW).rename(make_dataset_card.root / "scores" / PREVIEW)
    assert "![" not in make_dataset_card(make_report(), configs=("scores",))
    (make_dataset_card.root / "scores" / PREVIEW).unlink()


def test_how_to_get_it_stands_first_and_what_few_read_is_folded():
    card, adapters = make_dataset_card(make_report()), adapter_card(make_report())
    assert re.findall(r"^## (.*)$", card, re.MULTILINE)[0] == "Load" and "pip install datasets" in section(
        card, "Load"
    )
    assert re.findall(r"^## (.*)$", adapters, re.MULTILINE)[0] == "Quick start"
    for text in (card, adapters):
        assert text.index("pip install") < text.index("```python")
        assert text.count("<details>") == text.count("</details>") == text.count("<summary>") > 0
        folded = "".join(re.findall(r"<details>.*?</details>", text, re.DOTALL))
        assert "- Versions: " in folded and "- Seed: 42" in folded and "8f14e45fceea167a" in folded
        assert not re.search("Versions: |8f14e45fceea167a", text.replace(folded, "").split("</details>")[-1])
    assert "| tulip | 800 | 240 | 100 |" in "".join(re.findall(r"<details>.*?</details>", card, re.DOTALL))


@pytest.mark.parametrize("name", ["dataset_name", "model_name_or_path", "adapter_name_or_path", "data_files"])
def test_a_report_of_others_may_name_anything(name):
    for value in (10**30, -1, {"a": 1}, [3], [None], True, 0.5):
        report = make_report()
        report["arguments"][name] = value
        assert "hf-clipselect select" in command_words.command(report)
        command_words.command_note(report)


def test_a_dataset_in_memory_has_no_command():
    report = in_memory(make_report())
    report["arguments"] |= {"learning_rate": 1e-3, "class_balance": "none"}
    for card in both_cards(report):
        assert "hf-clipselect select" not in card
        block = re.search(r"All arguments:\n\n```yaml\n(.*?)```", card, flags=re.DOTALL)[1]
        assert yaml.safe_load(block) == {
            "selection_ratio": [0.3, 0.125],
            "learning_rate": 0.001,
            "class_balance": "none",
        }


@pytest.mark.parametrize(
    ("model_name", "base"),
    [
        ("embedded/tiny-clip", "tiny_clip_path()"),
        ("/models/my-clip", '"path/to/my-clip"'),
        ("", None),
    ],
)
def test_adapter_snippets_compile(model_name, base):
    report = make_hostile_report()
    report["model"] |= {"name": model_name, "revision": None}
    card = adapter_card(report)
    calls = [f"AutoProcessor.from_pretrained({base})", f'AutoModel.from_pretrained({base}, dtype="float32")']
    for snippet, call in zip(python_blocks(card), calls if base else [], strict=True):
        compile(snippet, "card", "exec")
        assert call in snippet


def test_adapter_snippets_of_a_base_in_another_format_compile():
    report = make_hostile_report()
    report["model"] |= {"name": "me/model", "revision": COMMIT, "format": "OpenCLIP"}
    report["adaptation"] |= {"method": "LORA"}
    card = adapter_card(report)
    snippets = python_blocks(card)
    for snippet in snippets:
        compile(snippet, "card", "exec")
        assert f'load_backbone("me/model", revision="{COMMIT}")' in snippet and "transformers" not in snippet
    assert len(snippets) == 2 and "peft alone" not in card
    assert ModelCard(card).data.library_name == "hf_clipselect"


def test_hostile_text_does_not_end_the_header():
    for card, reader in zip(both_cards(make_hostile_report()), (DatasetCard, ModelCard), strict=True):
        lines = card.splitlines()
        end = lines.index("---", 1)
        assert yaml.safe_load("\n".join(lines[1:end])) == reader(card).data.to_dict()
        assert "hf_clipselect" in reader(card).data.tags
        assert lines[end + 1].startswith("<!-- hf_clipselect:begin")
        assert lines[end + 2].startswith("# ")
        card.encode("utf-8")


def test_marks_cannot_be_forged():
    for report in (make_hostile_report(), in_memory(make_hostile_report())):
        for card in both_cards(report):
            lines = [line for line in re.split(r"[\r\n]", card) if line.startswith("<!--")]
            begin, end = lines
            assert begin.startswith("<!-- hf_clipselect:begin") and re.fullmatch(
                r"<!-- hf_clipselect:end wrote [\w= ]+ -->", end
            )
            assert card.endswith(f"\n{end}\n")


def test_hostile_text_stays_text():
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    friendly, hostile = make_hostile_report(), make_hostile_report()
    friendly["classes"] = [make_class(f"class {c}", 10, {"30": 3, "12_5": 1}) for c in range(len(HOSTILE))]
    friendly["classes_without_images"] = friendly["warnings"] = ["plain"] * len(HOSTILE)
    friendly["adaptation"]["reason"] = "plain"
    friendly["model"] |= {"name": "/models/plain", "revision": "plain", "prompt_template": ["plain {}"]}
    friendly["versions"] = {"plain": "1"}
    friendly["leaks"] = {"reference": "plain", "rows": 3, "dropped": True}
    friendly["quality"] = {"rows": 3, "dropped": True, "issues": {"plain": 1}}
    friendly["source"] = make_report()["source"] | {"name": "/data/plain", "config_name": "plain", "license": "plain"}
    for plain_card, hostile_card in zip(both_cards(friendly), both_cards(hostile), strict=True):
        plain_body, hostile_body = (card.split("\n---\n", 1)[1] for card in (plain_card, hostile_card))
        blocks = [token.type for token in parser.parse(hostile_body)]
        assert blocks == [token.type for token in parser.parse(plain_body)]
        html = [token.content for token in parser.parse(hostile_body) if token.type == "html_block"]
        assert all(re.match("<!-- hf_clipselect:|<details>\n<summary>|</details>\n", block) for block in html)
        inline = {child.type for token in parser.parse(hostile_body) for child in token.children or []}
        assert inline <= {"text", "softbreak", "code_inline", "link_open", "link_close"}
        # The one link of each card is that of the paper.
        assert parser.render(hostile_body).count("<a ") == 1


def test_escaped_text_renders_as_itself():
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for text in HOSTILE:
        for prefix, cell in (("", "p"), ("- ", "li"), ("# ", "h1"), ("| a |\n|---|\n| ", "td")):
            for shown in (escape_markdown(text), code_span(text)):
                html = parser.render(f"{prefix}{shown}{' |' if cell == 'td' else ''}")
                found = re.search(rf"<{cell}>(?:<code>)?(.*?)(?:</code>)?</{cell}>", html, flags=re.DOTALL)[1]
                expected = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                assert found.replace("&quot;", '"') == expected


def test_addresses_in_texts_are_no_links():
    # CommonMark makes links of neither; the Hub does, in the text of whoever named a class.
    shown = escape_markdown("see https://example.org and WWW.example.org").lower()
    assert "://" not in shown and "www." not in shown


def test_templates_in_values_are_not_run():
    for card in both_cards(make_hostile_report()):
        assert "49" not in re.sub(r"[0-9a-f]{16,}|version: [\d.]+", "", card)  # hashes may hold it
        assert "{% raw %}" in card


def test_no_raw_html_outside_blocks():
    for card in both_cards(make_hostile_report()) + both_cards(in_memory(make_hostile_report())):
        folds = r"^<details>\n<summary>|</summary>$|^</details>$"
        ours = rf"^(`{{3,}})\w+\n.*?^\1$|^<!-- hf_clipselect:[^\n]*-->$|{folds}"
        outside = re.sub(ours, "", card, flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"<(?!n<)[a-z/!]", outside.split("\n---\n", 1)[1])


def test_code_block_cannot_be_closed():
    block = code_block("before\n`````\nafter", "yaml")
    assert block == "``````yaml\nbefore\n`````\nafter\n``````"


def test_python_literal_is_one_line_of_python():
    for text in HOSTILE:
        assert eval(python_literal(text)) == one_line(text)
        assert "\n" not in python_literal(text)


def test_no_path_of_the_users_disk(tmp_path):
    report = make_report()
    folder = tmp_path / "My Data" / "cifar10"
    folder.mkdir(parents=True)
    report["source"] |= {"name": str(folder), "revision": COMMIT}
    report["model"] |= {"name": "C:\\Users\\anna\\my-clip", "revision": None}
    report["adaptation"]["reason"] = f"The file '{folder / 'a.png'}' and '/home/anna/My Pictures/b.png' are broken."
    report["warnings"] = ['Read "~/secret/names.txt" and /home/anna/c.png.']
    report["arguments"] = {
        "dataset_name": str(folder),
        "model_name_or_path": "C:\\Users\\anna\\my-clip",
        "output_dir": "../anna/out",
        "config": os.path.relpath(folder),
        "class_names_file": "~/secret/names.txt",
        "peft_config": "/home/anna/lora.json",
        "adapter_name_or_path": "/home/anna/adapters",
        "prompt_template": ["A photo of a {}."],
    }
    for card in both_cards(report):
        assert not re.search(r"anna|secret|My Data|My Pictures|\.\./", card)
        assert str(tmp_path) not in card
        assert command_of(card) == (
            "hf-clipselect select --dataset_name PATH_OF_YOUR_COPY --class_names_file names.txt --model_name_or_path "
            "PATH_OF_THE_MODEL --adapter_name_or_path PATH_OF_THE_ADAPTERS --peft_config lora.json"
        )
        assert (
            "\n\n`PATH_OF_YOUR_COPY` is the path of your copy of the dataset cifar10. `PATH_OF_THE_MODEL` is the path "
            "of the model my-clip. `PATH_OF_THE_ADAPTERS` is the path of the adapters adapters. `names.txt`, "
            "`lora.json` are files of whoever ran it.\n\n"
        ) in card
    # A dataset in memory has no name, but another argument may be a path.
    report["arguments"] |= {"dataset_name": ""}
    cards = both_cards(report)
    for card in cards:
        assert not re.search(r"anna|secret|My Data|My Pictures|\.\./", card)
        assert str(tmp_path) not in card
        assert "a local folder named cifar10" in card
        assert "a local folder named my-clip" in card
        arguments = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, flags=re.DOTALL)[1])
        assert arguments == {
            "model_name_or_path": "my-clip",
            "config": "cifar10",
            "class_names_file": "names.txt",
            "peft_config": "lora.json",
            "adapter_name_or_path": "adapters",
            "prompt_template": ["A photo of a {}."],
        }
    assert "names.txt" in cards[0]


@pytest.mark.parametrize(
    "text",
    ["kept and/or dropped", "https://huggingface.co/papers/2410.11215", "1 / 2", "me/flowers", "a</td>", "x:y", ""],
)
def test_what_is_no_path_is_left_alone(text):
    assert hide_paths(text) == text


def test_many_classes_show_the_extremes():
    report = make_report()
    report["classes"] = [make_class(f"class {c:03}", 1000, {"30": c, "12_5": 1}) for c in range(101)]
    card = make_dataset_card(report)
    shown = re.findall(r"^\| class (\d{3}) ", card, flags=re.MULTILINE)
    assert [int(c) for c in shown] == [*range(10), *range(91, 101)]
    assert "The dataset has 101 classes" in card
    assert "the config `scores` has the label" in card
    report["classes"].pop()
    card = make_dataset_card(report)
    assert len(re.findall(r"^\| class \d{3} ", card, flags=re.MULTILINE)) == 100
    assert "The dataset has" not in card


def test_many_classes_without_images_are_counted():
    report = make_report()
    report["classes_without_images"] = [f"empty {c}" for c in range(25)]
    assert "empty 19 and 5 more." in make_dataset_card(report)


def test_numbers_of_the_run():
    report = make_report()
    report["num_unreadable"] = 3
    report["source"]["num_rows"] = 5000
    card = make_dataset_card(report)
    assert "5,000 rows, of which 2,000 were considered; 3 could not be read" in card
    assert "| `ratio_12_5` | 250 | 12.5% | 0.1000 | 99.0% | n/a | 12.5% to 12.5% |" in card
    assert "| tulip | 800 | 240 | 100 |" in card
    assert "| `margin` | -0.1000 | 0.0000 | 0.1000 | 0.2000 | 0.2500 | 0.3000 | 0.4000 |" in card
    assert "`selection_score_30`, `selection_score_12_5`" in card
    assert "differs from the rest of its class" not in card
    card = adapter_card(report)
    assert "| 200 held out | 90.0% | 93.1% |" in card
    assert "| all 1,997 (trained on) | 90.0% | 95.0% |" in card


def test_diversity_is_told_where_it_counts():
    for weight in (0.1, "ratio"):
        report = make_report()
        report["objective"]["diversity_weight"] = weight
        assert "differs from the rest of its class" in make_dataset_card(report)


def card_of(name, **knobs):
    report = make_report()
    report["objective"] = resolve_objective(name, knobs).to_dict()
    return make_dataset_card(report)


def test_the_card_tells_which_rows_the_objective_keeps():
    assert "how well each image fits its label. The rows with the highest scores were kept." in card_of("clean")
    spread = "Rows whose label CLIP agrees with were kept first, spread evenly over easy and hard ones of each class."
    assert f"and how much it differs from the rest of its class. {spread}" in card_of("diverse")
    assert "kept first, those with the highest scores before the others." in card_of("clean", gate=True)
    assert "were kept, and what is like a kept row last." in card_of("clean", redundancy_weight=0.5)
    groups = card_of("clean", balance_by="group", class_quotas={"left": 3})
    assert "- Every group keeps about the same share of its rows" in groups
    assert "The number of rows of 1 of them was given." in groups and "Every class" not in groups
    assert "- The classes are evened out" in card_of("clean", class_balance="uniform")
    report = make_report() | {"captions": {"num_captions": 9, "num_references": 8, "num_clusters": 2}}
    report["objective"] = resolve_objective("diverse").to_dict()
    card = make_dataset_card(report)
    assert (
        "Rows whose caption CLIP agrees with were kept first, spread evenly over easy and hard ones of each cluster."
        in card
    )
    assert "- Every cluster keeps about the same share of its rows, however good or bad its captions are." in card


def test_the_card_tells_what_robust_keeps():
    judged = "CLIP and a regression on its embeddings told how probably each label is wrong"
    follow = "Rows of each class were kept so that their mean follows that of its rows with safe labels (herding)"
    assert f"{judged}. {follow}, those whose labels may be wrong last." in card_of("robust")
    assert "may be wrong or that are like a kept row last." in card_of("robust", redundancy_weight=0.5)
    gated = "Rows whose label CLIP agrees with were kept first, so that their mean follows that of the rows of their"
    assert gated in card_of("robust", gate=True)
    assert f"{judged}. The rows with the highest scores were kept." in card_of("clean", alignment="noise_model")


def test_the_card_tells_how_wrong_the_labels_look():
    names = ["rose", "tulip", "lily", "iris", "daisy", "poppy", "aster"]
    card = make_dataset_card(make_report() | {"noise": noise_of(names, 0.123)})
    pairs = ", ".join(f"{a} looks like {b} (9 rows)" for a, b in zip(names[:5], names[1:6], strict=True))
    told = f"About 12 % of the labels look wrong (human mistakes are often under-counted). Most often: {pairs}."
    assert f"\n\n{told}\n\n## Load" in card
    card = make_dataset_card(make_report() | {"noise": noise_of(names[:1], 0.001)})
    assert "\n\nLess than 1 % of the labels look wrong (human mistakes are often under-counted).\n\n## Load" in card
    assert "look wrong" not in make_dataset_card(make_report())


@pytest.mark.parametrize("share", [0.123, 0.001])
def test_the_card_tells_what_auto_came_to(share):
    report = make_report() | {"noise": noise_of(["rose", "tulip"], share)}
    rows = round(2000 * (1 - share))
    auto = make_subset((rows / 2000), "auto", rows) | {"auto_ratio": round(rows / 2000, 4)}
    report["subsets"] = [auto, report["subsets"][0]]
    report["classes"] = [make_class("rose", 1200, {"30": 360, "auto": rows - 700}), make_class("tulip", 800)]
    report["classes"][1]["kept"]["auto"] = 700
    card = make_dataset_card(report, configs=("ratio_auto", "ratio_30", "scores"))
    kept = f"`ratio_auto` keeps as many rows as have a right label by this estimate: {rows / 2000:.4f} of those that"
    assert kept in card
    assert ("random rows would do" in card) == (share < 0.01)
    assert f"| `ratio_auto` | {rows:,} | {rows / 2000:.1%} |" in card
    assert "In ratio\\_auto its share is about that of its labels that look right, and at least a tenth." in card
    assert check(card, "dataset") == {"errors": [], "warnings": []}
    alone = make_dataset_card(report, configs=("scores",))
    assert f'load_pruned("path/to/subset", ratio="auto")  # {rows:,} rows' in alone


@pytest.mark.parametrize(("rows", "is_moved"), [(1600, False), (1601, True), (1300, True), (1920, True)])
def test_the_card_tells_where_other_settings_moved_auto(rows, is_moved):
    report = make_report() | {"noise": noise_of(["rose", "tulip"], 0.2)}
    report["subsets"] = [make_subset(rows / 2000, "auto", rows) | {"auto_ratio": round(rows / 2000, 4)}]
    report["classes"] = [make_class("rose", 1200, {"auto": rows - 700}), make_class("tulip", 800, {"auto": 700})]
    bounds = ", as far as the other settings and a tenth of each class allow" if is_moved else ""
    kept = f"`ratio_auto` keeps as many rows as have a right label by this estimate{bounds}: {rows / 2000:.4f} of"
    assert kept in make_dataset_card(report, configs=("ratio_auto", "scores"))


def test_names_in_what_the_card_tells_of_labels_stay_text():
    card = make_dataset_card(make_hostile_report())
    told = card.split("Most often: ")[1].splitlines()[0]
    assert "<" not in told and "looks like a&#124;b (9 rows)" in told


def test_columns_of_some_runs_are_explained_where_they_are():
    row = pa.table({"source_index": [0], "group": ["left"], "must_keep": [True], "label_error_probability": [0.5]})
    folder = make_dataset_card.root / "with further columns"
    for config in ("ratio_30", "scores"):
        (folder / config).mkdir(parents=True)
        pq.write_table(row, folder / config / "train-00000-of-00001.parquet")
    card = subset_card(make_report(), folder)
    assert "| `group` | string | category" in card and "| `must_keep` | bool | whether" in card
    assert "| `label_error_probability` | float32 | probability that the given label is wrong, in [0, 1]" in card
    assert not any(f"`{name}`" in card for name in ("must_drop", "ensemble", "clean_label", "class_rank"))


def test_plain_clip_has_a_dataset_card_but_no_adapter_card():
    report = make_report()
    report["adaptation"] = {
        "mode": "off",
        "kept": False,
        "reason": "Adaptation is off.",
        "num_steps": 0,
        "learning_rate": None,
        "temperature": None,
        "held_out_rows": 0,
        "held_out_agreement_plain": None,
        "held_out_agreement_adapted": None,
        "standard_error": None,
    }
    card = make_dataset_card(report)
    assert "Adaptation is off." in card
    assert "were trained" not in card
    with pytest.raises(InputError, match="no adapters to describe"):
        adapter_card(report)


def test_nothing_is_left_to_fill_in():
    reports = [make_report(), in_memory(make_report()), give_adapters(make_report(), "me/other-adapters", COMMIT)]
    cards = [card for report in reports for card in both_cards(report)]
    for card in [*cards, make_dataset_card(make_report(), configs=("scores",))]:
        assert "more information needed" not in card.lower()
        assert not re.search(r"\bNone\b|\bnan\b|\{\{|\{%|\{#", card)
        assert "\n\n\n" not in card
        assert not re.search(r"[ \t]$|from\\\\_", card, flags=re.MULTILINE)
        assert card.endswith("\n") and "huggingface.co/papers/2410.11215" in card


def test_the_report_is_not_changed():
    report = make_report()
    before = copy.deepcopy(report)
    both_cards(report)
    assert report == before


def test_bad_input_is_told():
    with pytest.raises(InputError, match="holds no Parquet files of ratio_30, ratio_12_5, scores"):
        make_dataset_card(make_report(), configs=("ratio_99",))
    for argument in ("repo_id", "adapter_id"):
        with pytest.raises(InputError, match="must be a Hub id such as user/name, got 'not/a/repo'"):
            make_dataset_card(make_report(), **{argument: "not/a/repo"})
    with pytest.raises(InputError, match="repo_id must be a Hub id"):
        adapter_card(make_report(), repo_id="../here")


def test_a_sentence_that_begins_with_an_embedded_name_hides_its_paths_too():
    warning = "embedded/tiny-clip was trained on digits; on /home/me/photos its scores mean little."
    assert hide_paths(warning) == "embedded/tiny-clip was trained on digits; on photos its scores mean little."
    assert hide_paths("embedded/digits") == "embedded/digits"


def test_names_of_folders_last_and_other_names_stay(tmp_path, monkeypatch):
    for folder in ("client/scans", "embedded/digits"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("client/scans", "./client/scans/", str(tmp_path / "client/scans")):
        assert lasting_name(name) == str(tmp_path / "client/scans")
    for name in ("me/flowers", "embedded/digits", "", "../no/folder", "gpt2"):
        assert lasting_name(name) == name
    assert lasting_name("hf-hub:me/model") == "me/model"
