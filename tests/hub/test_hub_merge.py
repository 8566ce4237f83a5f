"""Our card over another: what people wrote stays, what describes the files is ours, and pushing twice changes
nothing.
"""

import datetime
import random
import re
from importlib.resources import files

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from loopback_hub.card import check, read_header
from test_hub_cards import make_hostile_report, make_report

from hf_clipselect.errors import InputError
from hf_clipselect.hub import adapter_card, subset_card
from hf_clipselect.hub.merge import merge_cards, written_header


BEGIN, END = "<!-- hf_clipselect:begin: words -->", "<!-- hf_clipselect:end -->"
FINE = {"errors": [], "warnings": []}


def our_card(header, body="# Ours\n"):
    return f"---\n{header}---\n{BEGIN}\n{body}{END}\n"


OURS = our_card(
    """license: mit
size_categories: [n<1K]
source_datasets: [me/flowers]
task_categories: [image-classification]
tags: [clip, hf_clipselect]
configs:
- config_name: ratio_30
  data_files: [{split: train, path: ratio_30/train-*.parquet}]
  default: true
- config_name: scores
  data_files: [{split: train, path: scores/train-*.parquet}]
"""
)
MODEL_INDEX = """model-index:
- name: {name}
  results:
  - task: {{type: image-classification}}
    dataset: {{type: me/flowers, name: flowers}}
    metrics: [{{type: accuracy, value: {value}, name: {metric}}}]
"""
AGREEMENT = "agreement with the given labels on held-out rows"


@pytest.fixture(scope="module")
def real_cards(tmp_path_factory):
    """(kind, card) of the package's own cards, of several runs."""
    cards = []
    for report in (make_report(), make_hostile_report()):
        for configs in (("ratio_30", "scores"), ("ratio_30", "ratio_12_5", "scores"), ("scores",)):
            folder = tmp_path_factory.mktemp("subset")
            for config in configs:
                (folder / config).mkdir()
                pq.write_table(pa.table({"rows": [len(configs)]}), folder / config / "train-00000-of-00001.parquet")
            cards.append(("dataset", subset_card(report, folder, repo_id="me/flowers-30")))
        cards.append(("model", adapter_card(report, repo_id="me/flower-adapters")))
    report = make_report()
    report["adaptation"]["held_out_agreement_adapted"] = None
    return [*cards, ("model", adapter_card(report, repo_id="me/flower-adapters"))]


def header(card):
    return yaml.safe_load(REGEX_YAML_BLOCK.match(card)[2])


def body(card):
    match = REGEX_YAML_BLOCK.match(card)
    return card[match.end() :] if match else card


def merged_header(theirs, ours=OURS):
    return header(merge_cards(ours, f"---\n{theirs}---\n"))


# The text.


@pytest.mark.parametrize("name", ["dataset_card.md", "adapter_card.md"])
def test_the_templates_have_the_marks(name):
    template = (files("hf_clipselect.hub") / "templates" / name).read_text(encoding="utf-8")
    begin, *_, end = re.findall(r"^<!--.*-->$", template, flags=re.MULTILINE)
    assert begin.startswith("<!-- hf_clipselect:begin") and "text outside is kept" in begin
    assert template.endswith(f"\n{end}\n") and end == "<!-- hf_clipselect:end wrote {{ wrote }} -->"
    old = template.replace("# {{ title }}", "# An earlier title")
    assert merge_cards(template, old + "\nA note.\n") == template + "\nA note.\n"


def test_nothing_there_gives_our_card():
    for theirs in ("", "\n \n", "\ufeff"):
        assert merge_cards(OURS, theirs) == OURS


def test_a_header_alone_gets_our_text():
    assert body(merge_cards(OURS, "---\nlanguage: de\n---\n\n")) == body(OURS)
    assert merge_cards(OURS, "---\nlanguage: de\n---").splitlines()[-3:] == body(OURS).splitlines()
    assert merge_cards(OURS, OURS.removesuffix("\n" + body(OURS))) == OURS


@pytest.mark.parametrize("text", ["# Mine", "# Mine\n", "# Mine\n\n", "\n# Mine\n---\nA rule, and ```code```\n"])
def test_their_text_stays_and_ours_follows(text):
    for theirs in (text, f"---\nlanguage: de\n---\n{text}"):
        merged = merge_cards(OURS, theirs)
        assert body(merged).startswith(text)
        assert body(merged).removeprefix(text).lstrip("\n") == body(OURS)
        assert merged.count(f"\n\n{BEGIN}\n") == 1
        assert merge_cards(OURS, merged) == merged


def test_only_the_text_between_the_marks_is_replaced():
    old = merge_cards(our_card("license: mit\n", "# Old\n\ntext\n"), "")
    edited = old.replace(BEGIN, f"# Mine\n\n{BEGIN}").replace(f"{END}\n", f"{END} \n\nMore of mine")
    merged = merge_cards(OURS, edited)
    assert body(merged) == f"# Mine\n\n{BEGIN}\n# Ours\n{END} \n\nMore of mine"
    assert "# Old" not in merged


def test_marks_of_a_version_with_other_words_are_found():
    theirs = body(OURS).replace(BEGIN, "<!-- hf_clipselect:begin (other words) -->").replace("# Ours", "# Old")
    assert body(merge_cards(OURS, theirs)) == body(OURS)


@pytest.mark.parametrize(
    "text",
    [
        f"Mine.\n{BEGIN}\nThe end mark is lost.\n",
        f"Mine.\n{END}\nThe begin mark is lost.\n",
        f"{END}\nTurned round.\n{BEGIN}\n",
        f"Marks in `{BEGIN}` a line {END} are none.\n",
        f"- {BEGIN}\n- {END}\n",
    ],
)
def test_a_mark_without_its_partner_is_text(text):
    merged = merge_cards(OURS, text)
    assert body(merged) == f"{text}\n{body(OURS)}"
    later = our_card("license: mit\n", "# Later\n")
    assert body(merge_cards(later, merged)) == f"{text}\n{body(later)}"


@pytest.mark.parametrize("theirs", ["# Mine\r\n\r\nText.\r\n", "---\r\nlanguage: de\r\n---\r\n# Mine\r\n", "\r\n"])
def test_windows_line_ends_stay(theirs):
    merged = merge_cards(OURS, theirs)
    assert merged.count("\n") == merged.count("\r\n") > 10
    assert merge_cards(OURS, merged) == merged
    assert read_header(merged)["tags"] == ["clip", "hf_clipselect"]
    assert merge_cards(OURS, OURS.replace("\n", "\r\n")) == OURS.replace("\n", "\r\n")


def test_a_byte_order_mark_does_not_hide_the_header():
    assert merged_header("language: de\n") == header(merge_cards(OURS, "\ufeff---\nlanguage: de\n---\n"))


# The header.


def test_their_keys_keep_order_and_value_and_ours_follow():
    theirs = "pretty_name: Mine\nlicense: cc0-1.0\ntags: [rose, clip]\nlanguage: [en]\nsize_categories: [1M<n<10M]\n"
    merged = merged_header(theirs)
    assert list(merged) == [
        "pretty_name",
        "license",
        "tags",
        "language",
        "size_categories",
        "source_datasets",
        "task_categories",
        "configs",
    ]
    assert merged["pretty_name"] == "Mine" and merged["license"] == "cc0-1.0" and merged["language"] == ["en"]
    assert merged["tags"] == ["rose", "clip", "hf_clipselect"]
    assert merged["size_categories"] == ["n<1K"]


@pytest.mark.parametrize("theirs", ["tags: rose\n", "tags: [rose]\n", "tags:\n- rose\n", "tags: [rose, clip, rose]\n"])
def test_tags_are_united(theirs):
    expected = list(header(f"---\n{theirs}---\n")["tags"]) if "rose," in theirs else ["rose"]
    assert merged_header(theirs)["tags"] == [*expected, *(t for t in ("clip", "hf_clipselect") if t not in expected)]


@pytest.mark.parametrize("theirs", ["tags:\n", "tags: []\n", "tags: ~\n"])
def test_no_tags_give_ours(theirs):
    assert merged_header(theirs)["tags"] == ["clip", "hf_clipselect"]


def test_scalars_are_not_read_and_written_anew():
    theirs = """language: no
version: 1.10
mode: 0o17
time: 12:30:45
date: 2024-01-31
name: "yes"
note: |
  first

  ---
  indented: "x"
folded: >-
  one
  two
words: Größe 花 🌷
anchor: &a [1, 2]
alias: *a
empty:
"""
    merged = merge_cards(OURS, f"---\n{theirs}---\n")
    for line in (
        "language: no",
        "version: 1.10",
        "mode: 0o17",
        "time: 12:30:45",
        "date: 2024-01-31",
        'name: "yes"',
        "words: Größe 花 🌷",
    ):
        assert f"\n{line}\n" in merged
    before, after = yaml.safe_load(theirs), header(merged)
    assert {key: after[key] for key in before} == before
    assert after["date"] == datetime.date(2024, 1, 31)
    assert check(merge_cards(OURS, "---\nlanguage: no\n---\n"), "dataset") == FINE  # Norwegian, not false


def test_a_header_that_says_the_same_stays_verbatim():
    theirs = OURS.replace("license: mit", 'license:   "mit"  # checked by me').replace("[n<1K]", "\n  - n<1K")
    assert theirs != OURS
    assert merge_cards(OURS, theirs) == theirs
    assert merge_cards(OURS.replace("# Ours", "# New"), theirs) == theirs.replace("# Ours", "# New")


def test_configs():
    theirs = """configs:
- config_name: raw
  data_files: raw.csv
  default: true
- {config_name: ratio_12_5, data_files: old/*}
- {config_name: ratio_auto, data_files: old/*}
- {config_name: ratio_automatic, data_files: new/*}
- config_name: scores
  data_files: old.parquet
- config_name: count_500
- config_name: ratio_mine
  data_files: x.csv
"""
    assert [(c["config_name"], c.get("default")) for c in merged_header(theirs)["configs"]] == [
        ("raw", None),
        ("ratio_automatic", None),
        ("scores", None),
        ("ratio_mine", None),
        ("ratio_30", True),
    ]
    assert merged_header(theirs)["configs"][2] == header(OURS)["configs"][1]


def test_a_config_keeps_its_layout():
    line = "- {config_name: raw, data_files: 'x/*'}  # by me"
    assert f"\n{line.removesuffix('  # by me')}\n" in merge_cards(OURS, f"---\nconfigs:\n{line}\n---\n")


def test_a_config_named_default_stays_the_default():
    merged = merge_cards(OURS, "---\nconfigs:\n- config_name: default\n  data_files: data/*\n---\n")
    configs = MetadataConfigs.from_dataset_card_data(DatasetCardData(**header(merged)))
    assert list(configs) == ["default", "ratio_30", "scores"]
    assert configs.get_default_config_name() == "default"  # raises where there are two


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (
            "[{config_name: raw, a: 1}, {config_name: ratio_30, a: 2}, {config_name: ratio_5, a: 3}]",
            [{"config_name": "raw", "a": 1}],
        ),
        ("[{config_name: ratio_30, a: 2}, {config_name: scores}]", None),
        ("{features: [], a: 1}", {"features": [], "a": 1}),
        ("{config_name: raw}", {"config_name": "raw"}),
        ("{config_name: ratio_30}", None),
    ],
)
def test_dataset_info_of_our_configs_goes(theirs, expected):
    assert merged_header(f"dataset_info: {theirs}\n").get("dataset_info") == expected
    adapters = our_card("library_name: peft\n")
    assert "dataset_info" in merged_header(f"dataset_info: {theirs}\n", ours=adapters)


@pytest.mark.parametrize(
    ("theirs", "kept"),
    [
        ("[{config_name: raw, a: 1}, {config_name: ratio_30, a: 2}, {config_name: ratio_5, a: 3}]", ["raw"]),
        ("{features: [], a: 1}", [None]),
        ("{config_name: scores, a: 1}", []),
        ("nonsense", []),
        ("~", []),
    ],
)
def test_dataset_info_of_our_configs_is_ours_and_that_of_others_stays(theirs, kept):
    info = "- config_name: {}\n  features: [{{name: x, dtype: int64}}]\n  splits: [{{name: train, num_examples: 3}}]\n"
    ours = OURS.replace("configs:\n", f"dataset_info:\n{info.format('ratio_30')}{info.format('scores')}configs:\n")
    merged = merge_cards(ours, f"---\ndataset_info: {theirs}\nlanguage: de\n---\n# Mine\n")
    entries = header(merged)["dataset_info"]
    assert [entry.get("config_name") for entry in entries] == [*kept, "ratio_30", "scores"]
    assert entries[-2:] == header(ours)["dataset_info"] and header(merged)["language"] == "de"
    assert check(merged, "dataset") == FINE
    assert merge_cards(ours, merged) == merged
    # A later push with other configs, and one that says nothing of them, leave no entry of an earlier push.
    later = ours.replace("ratio_30", "ratio_50")
    names = [entry.get("config_name") for entry in header(merge_cards(later, merged))["dataset_info"]]
    assert names == [*kept, "ratio_50", "scores"]
    silent = header(merge_cards(OURS, merged)).get("dataset_info", [])
    assert [entry.get("config_name") for entry in silent] == kept


def test_what_describes_the_adapters_is_ours():
    ours = our_card(
        "base_model: me/clip\nbase_model_relation: adapter\nlibrary_name: peft\npipeline_tag: "
        "zero-shot-image-classification\ndatasets: [me/flowers]\nmetrics: [accuracy]\n"
    )
    theirs = "library_name: other\ndatasets: [you/birds]\nbase_model: you/clip\nmetrics: [f1]\nthumbnail: x.png\n"
    assert merged_header(theirs, ours) == {**header(ours), "thumbnail": "x.png"}


def test_model_index_holds_no_figures_of_an_earlier_push():
    def index(*entries):
        parts = [MODEL_INDEX.format(name=n, value=v, metric=m).removeprefix("model-index:\n") for n, v, m in entries]
        return "model-index:\n" + "".join(parts)

    theirs = index(("mine", 0.5, "accuracy"), ("ours", 0.6, AGREEMENT), ("old-name", 0.7, AGREEMENT))
    ours = our_card(index(("ours", 0.9, AGREEMENT)))
    found = merged_header(theirs, ours)["model-index"]
    assert [(e["name"], e["results"][0]["metrics"][0]["value"]) for e in found] == [("mine", 0.5), ("ours", 0.9)]
    unmeasured = our_card("library_name: peft\n")
    assert [e["name"] for e in merged_header(theirs, unmeasured)["model-index"]] == ["mine"]
    assert "model-index" not in merged_header(index(("ours", 0.6, AGREEMENT)), unmeasured)


@pytest.mark.parametrize("bad", ["a: [1\n", "a: b: c\n", "a: \x07\n", "- a\n", "just words\n", "[a]: b\n", "--- a\n"])
def test_a_broken_header_is_told(bad):
    with pytest.raises(InputError, match="header of the README.md that is there already.*Repair or remove it"):
        merge_cards(OURS, f"---\n{bad}---\n# Mine\n")


def test_a_header_nested_too_deeply_is_told():
    with pytest.raises(InputError, match="is nested too deeply. Repair or remove it"):
        merge_cards(OURS, f"---\na: {'[' * 1500}{']' * 1500}\n---\n# Mine\n")


# What must hold for all cards.


SCALARS = [
    "no",
    "1.10",
    "2024-01-31",
    '"a: b"',
    "'it''s'",
    "~",
    "true",
    "Größe",
    "花🌷",
    "|\n  two\n\n  lines\n",
    ">\n  fold\n  ed\n\n   x\n",
    "|2\n    led by spaces\n",
    '"\\u2028 \\x85 \\t"',
    "[a, {b: c}]",
    "{a: 1, b: [2]}",
    "\n- x\n- y: z\n",
    "&n [1]",
    "a #b",
    "x # comment",
    "'" + "long " * 60 + "'",
    "!custom x",
    "0x1F",
]
NAMES = ["pretty_name", "extra", "a key", "thumbnail", "annotations", "version", "größe", '"quoted: key"']
KNOWN = {
    "license": ["mit", "cc0-1.0", "other", "[mit, cc0-1.0]"],
    "language": ["en", "[en, de]", "\n- en"],
    "tags": ["[rose]", "\n- clip\n- rose", "[]", "[clip, hf_clipselect, x]"],
    "task_categories": ["[image-classification]", "\n- other"],
    "size_categories": ["[n<1K]", "\n- 1M<n<10M"],
    "source_datasets": ["[original]"],
    "configs": [
        "\n- config_name: default\n  data_files: data/*",
        "\n- config_name: raw\n  default: true\n  data_files: raw/*\n- config_name: ratio_70\n  data_files: old/*",
        "[{config_name: scores, data_files: x}, {config_name: ratio_30, data_files: [{split: train, path: y}], "
        "default: true}]",
    ],
    "dataset_info": [
        "\n  features:\n  - name: x\n    dtype: int64",
        "\n- config_name: ratio_30\n  features: []",
        "[{config_name: raw}, {config_name: scores}]",
    ],
    "base_model": ["you/clip"],
    "datasets": ["[you/birds]", "you/birds"],
    "library_name": ["other"],
    "model-index": [MODEL_INDEX.format(name="x", value=1, metric=AGREEMENT).removeprefix("model-index:")],
}
TEXTS = [
    "",
    "\n",
    "# Mine",
    "# Mine\n\n---\n\n| a |\n|---|\n",
    "---\n",
    f"{BEGIN}\n",
    f"{END}\n",
    f"a\n\n{BEGIN}\nold\n{END}\n\nb",
    f"{BEGIN}\n{BEGIN}\nold\n{END}",
    f"{END}\n{BEGIN}\nold\n{END}\n{END}\n",
    "```\nopen fence\n",
    "tail  \n\n\n",
    "\u2028\x0c\x85x\n",
]


def random_card(rng, *, sane):
    """A card as a person may have written it; `sane` ones would pass the Hub's own check."""
    lines = [f"{name}: {rng.choice(values)}" for name, values in KNOWN.items() if rng.random() < 0.3]
    if not sane:
        lines += [f"{name}: {rng.choice(SCALARS)}" for name in NAMES if rng.random() < 0.4]
    rng.shuffle(lines)
    if rng.random() < 0.4:
        lines.insert(rng.randrange(len(lines) + 1), "# a comment")
    head = "---\n" + "".join(f"{line.rstrip()}\n" for line in lines) + "---\n"
    card = (head if rng.random() < 0.8 else "") + "".join(rng.choices(TEXTS, k=2))
    return card.replace("\n", "\r\n") if rng.random() < 0.3 else card


def signed(header: str) -> str:
    """A card of ours as it is rendered: its end mark notes the header."""
    head = f"---\n{header}---\n"
    return f"{head}{BEGIN}\n# Ours\n<!-- hf_clipselect:end wrote {written_header(head)} -->\n"


def test_what_an_earlier_push_of_ours_wrote_does_not_go_stale():
    first = signed("license: mit\npretty_name: Subsets of small\nsource_datasets:\n- me/small\n")
    second = signed("license: cc-by-4.0\npretty_name: Subsets of big\nsource_datasets:\n- me/big\n")
    assert merge_cards(second, first) == second
    local = signed("pretty_name: Subsets of folder\n")  # a source that is not on the Hub and states no license
    assert merge_cards(local, second) == local
    edited = first.replace("license: mit", "license: cc0-1.0\nlanguage: en")
    merged = merge_cards(second, edited)
    assert merged.startswith(
        "---\nlicense: cc0-1.0\nlanguage: en\npretty_name: Subsets of big\nsource_datasets:\n- me/big\n---\n"
    )
    assert merge_cards(second, merged) == merged


@pytest.mark.slow
def test_merging_is_idempotent_for_many_cards(real_cards):
    rng = random.Random(0)
    tried = 0
    for number in range(300):
        kind, ours = rng.choice(real_cards)
        theirs = random_card(rng, sane=number % 2 == 0)
        try:
            merged = merge_cards(ours, theirs)
        except InputError:  # a rule where a header would begin
            continue
        tried += 1
        assert merge_cards(ours, merged) == merged
        if kind == "dataset":  # the header of adapters has no configs, and could have got some from theirs
            assert merge_cards(merged, merged) == merged
        before, after = REGEX_YAML_BLOCK.match(theirs), REGEX_YAML_BLOCK.match(merged)
        assert after is not None
        if before and "!custom" not in before[2]:
            mine = yaml.safe_load(before[2]) or {}
            kept = yaml.safe_load(after[2])
            assert {key: kept[key] for key in mine if key not in KNOWN} == {k: mine[k] for k in mine if k not in KNOWN}
            assert [key for key in kept if key in mine] == [key for key in mine if key in kept]
        for text in re.split(r"\r?\n", body(theirs)):
            # An earlier section of ours; our end mark notes the header, so another text stands before what follows it.
            assert text.removeprefix(END) in body(merged) or text in ("old", BEGIN)
    assert tried > 250


def test_the_hub_takes_what_is_merged(real_cards):
    rng = random.Random(1)
    tried = 0
    for _ in range(200):
        kind, ours = rng.choice(real_cards)
        theirs = random_card(rng, sane=True)
        if check(theirs, kind)["errors"]:
            continue
        tried += 1
        assert check(merge_cards(ours, theirs), kind) == FINE
    assert tried > 150


def test_our_own_cards(real_cards):
    for kind, card in real_cards:
        assert check(card, kind) == FINE
        assert merge_cards(card, card) == card
        for other_kind, other in real_cards:
            merged = merge_cards(card, other)
            assert body(merged) == body(card)
            assert kind != other_kind or check(merged, kind) == FINE
            assert merge_cards(card, merged) == merged
