"""The cards: valid headers, configs that load, nothing a user's text can break, no path of the user's disk."""

import copy
import os
import re
from importlib.resources import files

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image as PILImage

from hf_clipselect.errors import InputError
from hf_clipselect.hub import adapter_card, dataset_card
from hf_clipselect.hub.escape import code_block, code_span, escape_markdown, one_line, python_literal
from hf_clipselect.hub.naming import hide_paths, is_hub_id
from hf_clipselect.hub.wording import size_category


DATA_FILES = {
    "ratio_30": "ratio_30/train-*.parquet",
    "ratio_12_5": "ratio_12_5/train-*.parquet",
    "scores": "scores/train-*.parquet",
}
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
        "objective": {
            "name": "clean",
            "alignment": "margin",
            "diversity_weight": 0.0,
            "normalization": "none",
            "class_balance": "proportional",
            "solver": "exact",
            "ratio_weight": 2.0,
        },
        "adaptation": {
            "mode": "auto",
            "kept": True,
            "reason": "On 200 held-out rows the adapters were better.",
            "num_steps": 150,
            "learning_rate": 0.001,
            "temperature": 0.1,
            "held_out_rows": 200,
            "held_out_agreement_plain": 0.9,
            "held_out_agreement_adapted": 0.93118,
            "standard_error": 0.008,
        },
        "arguments": {"dataset_name": "me/flowers", "dataset_config_name": None, "selection_ratio": [0.3, 0.125]},
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


def make_subset(ratio, percent, rows):
    return {
        "ratio": ratio,
        "percent": percent,
        "rows": rows,
        "cut_score": 0.1,
        "label_agrees_kept": 0.99,
        "label_agrees_dropped": None,
        "class_share_min": ratio,
        "class_share_max": ratio,
    }


def make_hostile_report():
    report = make_report()
    report["classes"] = [make_class(name, 10, {"30": 3, "12_5": 1}) for name in HOSTILE]
    report["classes_without_images"] = HOSTILE
    report["warnings"] = HOSTILE
    report["adaptation"]["reason"] = " ".join(HOSTILE)
    report["arguments"] = {"prompt_template": HOSTILE, "dataset_config_name": HOSTILE[0], "</b>": "`"}
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


def make_dataset_card(report, **changes):
    return dataset_card(report, **({"data_files": DATA_FILES, "default_config": "ratio_30"} | changes))


def both_cards(report):
    return [make_dataset_card(report), adapter_card(report)]


def section(card, heading):
    return card.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", ["dataset_card.md", "adapter_card.md"])
def test_templates_are_in_the_package(name):
    assert "{{ title }}" in (files("hf_clipselect") / "templates" / name).read_text(encoding="utf-8")


def test_dataset_header():
    data = DatasetCard(make_dataset_card(make_report())).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["source_datasets"] == ["me/flowers"]
    assert data["task_categories"] == ["image-classification"]
    assert data["size_categories"] == ["n<1K"]
    assert data["tags"] == ["clip", "data-selection", "dataset-pruning", "hf_clipselect"]
    assert data["pretty_name"] == "Subsets of flowers"
    assert data["configs"][0] == {
        "config_name": "ratio_30",
        "data_files": [{"split": "train", "path": "ratio_30/train-*.parquet"}],
        "default": True,
    }
    assert [config["config_name"] for config in data["configs"]] == list(DATA_FILES)
    assert [config.get("default") for config in data["configs"]] == [True, None, None]


def test_adapter_header():
    data = ModelCard(adapter_card(make_report(), repo_id="me/flower-adapters")).data
    assert data.library_name == "peft"
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
    ("license_name", "in_header", "in_text"),
    [
        ("MIT", "mit", True),
        (None, None, False),
        ("", None, False),
        ("unknown", None, False),
        ("My licence", None, True),
    ],
)
def test_license(license_name, in_header, in_text):
    report = make_report()
    report["source"]["license"] = license_name
    card = make_dataset_card(report)
    assert DatasetCard(card).data.license == in_header
    assert ("License of the source" in card) == in_text


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (1_281_167, "1M<n<10M"), (10**11, "100B<n<1T"), (10**12, "n>1T")],
)
def test_size_category(rows, expected):
    assert size_category(rows) == expected


def test_size_category_is_that_of_the_default_subset():
    report = make_report()
    report["subsets"][1]["rows"] = 25_000
    assert DatasetCard(make_dataset_card(report)).data.size_categories == ["n<1K"]
    card = make_dataset_card(report, default_config="ratio_12_5")
    assert DatasetCard(card).data.size_categories == ["10K<n<100K"]


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
    (subset_folder / "README.md").write_text(make_dataset_card(make_report()), encoding="utf-8")

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
    (subset_folder / "README.md").write_text(make_dataset_card(make_hostile_report()), encoding="utf-8")
    subset = load_dataset(str(subset_folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert subset["source_index"][:] == [1, 4, 7]


def test_load_snippet_runs(subset_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    card = make_dataset_card(make_report())
    (subset_folder / "README.md").write_text(card, encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert snippet.count("load_dataset(") == len(DATA_FILES)
    names = {}
    exec(snippet.replace("path/to/subset", str(subset_folder)), names)
    assert len(names["subset"]) == 1
    assert len(names["scores"]) == 10


def test_snippets_name_the_repository():
    assert 'load_dataset("me/flowers-30", "ratio_30", split="train")' in make_dataset_card(
        make_report(), repo_id="me/flowers-30"
    )
    card = adapter_card(make_report(), repo_id="me/flower-adapters")
    assert 'load_adapters("me/flower-adapters")' in card
    assert f'AutoModel.from_pretrained("openai/clip-vit-base-patch32", revision="{COMMIT}")' in card
    assert 'PeftModel.from_pretrained(base, "me/flower-adapters")' in card
    assert '"A photo of a rose."' in card


@pytest.mark.parametrize(
    ("model_name", "expected"),
    [
        ("embedded/tiny-clip", "from_pretrained(tiny_clip_path())"),
        ("/models/my-clip", '"path/to/my-clip"'),
        ("", None),
    ],
)
def test_adapter_snippets_compile(model_name, expected):
    report = make_hostile_report()
    report["model"] |= {"name": model_name, "revision": None}
    card = adapter_card(report)
    snippets = re.findall(r"^```python\n(.*?)^```$", card, flags=re.DOTALL | re.MULTILINE)
    assert len(snippets) == (2 if expected else 0)
    for snippet in snippets:
        compile(snippet, "card", "exec")
        assert expected in snippet


def test_hostile_text_does_not_end_the_header():
    for card, reader in zip(both_cards(make_hostile_report()), (DatasetCard, ModelCard), strict=True):
        lines = card.splitlines()
        end = lines.index("---", 1)
        assert yaml.safe_load("\n".join(lines[1:end])) == reader(card).data.to_dict()
        assert "hf_clipselect" in reader(card).data.tags
        assert lines[end + 1].startswith("# ")
        card.encode("utf-8")


def test_hostile_text_stays_text():
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    friendly, hostile = make_hostile_report(), make_hostile_report()
    friendly["classes"] = [make_class(f"class {c}", 10, {"30": 3, "12_5": 1}) for c in range(len(HOSTILE))]
    friendly["classes_without_images"] = friendly["warnings"] = ["plain"] * len(HOSTILE)
    friendly["adaptation"]["reason"] = "plain"
    friendly["model"] |= {"name": "/models/plain", "revision": "plain", "prompt_template": ["plain {}"]}
    friendly["versions"] = {"plain": "1"}
    friendly["source"] = make_report()["source"] | {"name": "/data/plain", "config_name": "plain", "license": "plain"}
    for plain_card, hostile_card in zip(both_cards(friendly), both_cards(hostile), strict=True):
        plain_body, hostile_body = (card.split("\n---\n", 1)[1] for card in (plain_card, hostile_card))
        blocks = [token.type for token in parser.parse(hostile_body)]
        assert blocks == [token.type for token in parser.parse(plain_body)]
        assert "html_block" not in blocks
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


def test_templates_in_values_are_not_run():
    for card in both_cards(make_hostile_report()):
        assert "49" not in card.replace(COMMIT, "")
        assert "{% raw %}" in card


def test_no_raw_html_outside_blocks():
    for card in both_cards(make_hostile_report()):
        outside = re.sub(r"^(`{3,})\w+\n.*?^\1$", "", card, flags=re.DOTALL | re.MULTILINE)
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
        "prompt_template": ["A photo of a {}."],
    }
    cards = both_cards(report)
    for card in cards:
        assert not re.search(r"anna|secret|My Data|My Pictures|\.\./", card)
        assert str(tmp_path) not in card
        assert "a local folder named cifar10" in card
        assert "a local folder named my-clip" in card
        arguments = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, flags=re.DOTALL)[1])
        assert arguments == {
            "dataset_name": "cifar10",
            "model_name_or_path": "my-clip",
            "output_dir": "out",
            "config": "cifar10",
            "class_names_file": "names.txt",
            "peft_config": "lora.json",
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


def test_plain_clip_has_a_dataset_card_but_no_adapter_card():
    report = make_report()
    report["adaptation"] = {
        "mode": "off", "kept": False, "reason": "Adaptation is off.", "num_steps": 0, "learning_rate": None,
        "temperature": None, "held_out_rows": 0, "held_out_agreement_plain": None, "held_out_agreement_adapted": None,
        "standard_error": None,
    }  # fmt: skip
    card = make_dataset_card(report)
    assert "Adaptation is off." in card
    assert "were trained" not in card
    with pytest.raises(InputError, match="no adapters to describe"):
        adapter_card(report)


def test_nothing_is_left_to_fill_in():
    for card in both_cards(make_report()):
        assert "more information needed" not in card.lower()
        assert not re.search(r"\bNone\b|\bnan\b|\{\{|\{%|\{#", card)
        assert "\n\n\n" not in card
        assert not re.search(r"[ \t]$", card, flags=re.MULTILINE)
        assert card.endswith("\n") and "huggingface.co/papers/2410.11215" in card


def test_the_report_is_not_changed():
    report = make_report()
    before = copy.deepcopy(report)
    both_cards(report)
    assert report == before


def test_bad_input_is_told():
    with pytest.raises(InputError, match="choose one of ratio_30, ratio_12_5"):
        make_dataset_card(make_report(), default_config="scores")
    with pytest.raises(InputError, match="data_files names ratio_99"):
        make_dataset_card(make_report(), data_files={"ratio_99": "x.parquet"})
    with pytest.raises(InputError, match="repo_id must be a Hub id"):
        make_dataset_card(make_report(), repo_id="not/a/repo")
    with pytest.raises(InputError, match="repo_id must be a Hub id"):
        adapter_card(make_report(), repo_id="../here")


def test_a_sentence_that_begins_with_an_embedded_name_hides_its_paths_too():
    warning = "embedded/tiny-clip was trained on digits; on /home/me/photos its scores mean little."
    assert hide_paths(warning) == "embedded/tiny-clip was trained on digits; on photos its scores mean little."
    assert hide_paths("embedded/digits") == "embedded/digits"
