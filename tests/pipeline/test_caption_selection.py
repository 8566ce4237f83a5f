"""Selection from image-text pairs through both doors, and what is said of it."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from captioned import drawn_pairs
from conftest import REPOSITORY
from datasets import Dataset, Features, Image, Value, concatenate_datasets, load_dataset
from loopback_hub.card import check, read_header
from loopback_hub.server import LoopbackHub
from preloaded import run_python
from sklearn.metrics import roc_auc_score

from hf_clipselect import SelectionResult, load_pruned, select_dataset, select_embeddings
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.errors import InputError
from hf_clipselect.results.scores_table import column_values


MODEL = "embedded/tiny-clip"


def select(dataset, **settings):
    return select_dataset(
        dataset,
        **{
            "model_name_or_path": MODEL,
            "caption_column": "text",
            "adaptation": "off",
            "num_clusters": 5,
            "dataloader_num_workers": 0,
            "use_cpu": True,
            **settings,
        },
    )


@pytest.fixture(scope="module")
def pairs():
    return drawn_pairs()


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    """One selection that several tests look at, and its folder."""
    folder = tmp_path_factory.mktemp("captions") / "out"
    return select(pairs[0], selection_ratio=[0.3, 0.5, 0.8], output_dir=folder), folder


def test_wrong_captions_are_found_and_left_out(run, pairs, record_property):
    result, wrong = run[0], pairs[1]
    shares = ", ".join(f"{100 * wrong[result.at(ratio).selected].mean():.1f}" for ratio in (0.2, 0.3, 0.5, 0.8))
    record_property("printed", f"wrong captions among the rows kept at 0.2, 0.3, 0.5, 0.8, %: {shares}")
    assert roc_auc_score(~wrong, result.scores["margin"]) > 0.95
    share = {ratio: wrong[result.at(ratio).selected].mean() for ratio in result.ratios}
    assert share[0.3] <= 0.02 and share[0.5] <= 0.03 and share[0.8] <= 0.06
    assert wrong.mean() > 0.19


def test_sizes_are_exact_nested_and_evenly_shared_by_the_clusters(run):
    result, _ = run
    subsets = [set(result.at(ratio).selected.tolist()) for ratio in result.ratios]
    assert [len(subset) for subset in subsets] == [180, 300, 480]
    assert subsets[0] < subsets[1] < subsets[2]
    sizes = Counter(result.scores["label"])
    assert sorted(sizes) == [0, 1, 2, 3, 4]
    for ratio, subset in zip(result.ratios, subsets, strict=True):
        kept = Counter(result.scores["label"][row] for row in subset)
        assert all(abs(kept[cluster] - ratio * sizes[cluster]) < 1 for cluster in sizes)


def test_the_scores_name_a_better_caption(run, pairs):
    scores, texts = run[0].scores, pairs[0]["text"]
    agrees, better = column_values(scores, "label_agrees"), column_values(scores, "better_caption")
    margin = column_values(scores, "margin")
    assert ((better < 0) == agrees).all() and ((margin > 0) == agrees).all() and 0 < agrees.sum() < 600
    rows = np.flatnonzero(~agrees)
    assert all(texts[better[row]] != texts[row] and texts.index(texts[better[row]]) == better[row] for row in rows)
    label, predicted = column_values(scores, "label"), column_values(scores, "predicted_label")
    assert (predicted[rows] == label[better[rows]]).all() and (predicted[agrees] == label[agrees]).all()
    assert scores.features["label"].names == [f"cluster {number}" for number in range(5)]


def test_what_is_in_the_folder(run, pairs):
    result, folder = run
    report = result.report
    texts = set(pairs[0]["text"])
    assert report["captions"] == {"num_captions": len(texts), "num_references": len(texts), "num_clusters": 5}
    assert report["model"]["prompt_template"] == [] and report["source"]["label_column"] == "text"
    assert report["trust"]["chance"] == 1 / (len(texts) + 1)
    assert [entry["name"] for entry in report["classes"]] == [f"cluster {number}" for number in range(5)]
    assert "class_names" not in yaml.safe_load((folder / "config.yaml").read_text())["source"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    suspect = result.scores[int(np.nanargmin(column_values(result.scores, "margin")))]
    assert pairs[0][suspect["source_index"]]["text"] in page and pairs[0][suspect["better_caption"]]["text"] in page
    card = (folder / "subset" / "README.md").read_text(encoding="utf-8")
    assert check(card, "dataset") == {"errors": [], "warnings": []}
    assert read_header(card)["task_categories"] == ["image-to-text"]
    for words in (
        "fits its caption",
        "5 clusters of images",
        "| cluster 0 |",
        "`better_caption`",
        "| `text` | string |",
    ):
        assert words in card
    assert "prompt" not in card.lower().replace("prompt_template", "")


def test_published_pairs_come_back_with_their_captions(run, pairs):
    result, folder = run
    subset = load_dataset(str(folder / "subset"), "ratio_30", split="train")
    assert subset["text"] == [pairs[0]["text"][row] for row in result.selected]
    again = SelectionResult.from_folder(folder)
    assert (
        again.selected.tolist() == result.selected.tolist() and again.report["captions"] == result.report["captions"]
    )
    assert again.at(0.1).apply(pairs[0])["text"] == result.at(0.1).apply(pairs[0])["text"]
    assert load_pruned(folder, ratio=0.5)["text"] == [pairs[0]["text"][row] for row in result.at(0.5).selected]
    with pytest.raises(InputError, match="not the dataset"):
        result.apply(pairs[0].select(range(599, -1, -1)))


def test_a_run_is_taken_up_and_another_number_of_clusters_encodes_nothing(run, pairs):
    result, folder = run
    written = {path: path.stat().st_mtime_ns for path in (folder / "features").iterdir() if path.suffix != ".json"}
    again = select(pairs[0], selection_ratio=0.3, output_dir=folder, num_clusters=2)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert again.report["captions"]["num_clusters"] == 2
    assert column_values(again.scores, "sas").tolist() == column_values(result.scores, "sas").tolist()
    select(pairs[0], selection_ratio=[0.3, 0.5, 0.8], output_dir=folder)


def test_copies_of_pairs_are_redundant(pairs):
    dataset = concatenate_datasets([pairs[0].select(range(200)), pairs[0].select(range(100))])
    result = select(dataset, selection_ratio=0.3, redundancy_weight=1.0, num_clusters=2)
    group = column_values(result.scores, "duplicate_group")
    assert (group[200:] == np.arange(100)).all()
    kept = set(result.selected.tolist())
    assert not [row for row in range(100) if {row, row + 200} <= kept]


def test_adapters_are_trained_on_pairs(pairs):
    result = select(pairs[0], adaptation="always", num_train_epochs=2, train_batch_size=64)
    adaptation = result.report["adaptation"]
    assert adaptation["kept"] and "the own caption fitted better than others" in adaptation["reason"]
    assert adaptation["held_out_rows"] == 180
    assert roc_auc_score(~pairs[1], result.scores["margin"]) > 0.9
    assert result.report["trust"]["disagreement_adapted"] is not None


@pytest.mark.slow
def test_folds_score_pairs_by_adapters_that_never_saw_them(pairs):
    settings = {"adaptation": "always", "num_train_epochs": 1, "train_batch_size": 64}
    result = select(pairs[0], num_folds=2, **settings)
    assert (
        column_values(result.scores, "margin").tolist()
        != column_values(select(pairs[0], **settings).scores, "margin").tolist()
    )
    assert roc_auc_score(~pairs[1], result.scores["margin"]) > 0.9


def test_unreadable_images_take_no_part(pairs):
    dataset = pairs[0].select(range(60)).cast_column("picture", Image(decode=False))
    images = list(dataset["picture"])
    images[7] = {"bytes": b"no image", "path": None}
    features = Features({"picture": Image(), "text": Value("string")})
    dataset = Dataset.from_dict({"picture": images, "text": dataset["text"]}, features=features)
    result = select(dataset, on_bad_image="drop", num_clusters=2, selection_ratio=1.0)
    assert result.scores[7]["better_caption"] is None and result.scores[7]["label_agrees"] is None
    assert result.scores[7]["reason"] == "not readable" and 7 not in result.selected and len(result.selected) == 59


def test_quotas_of_groups_and_lists_of_rows(pairs):
    dataset = pairs[0].add_column("camera", ["a", "b", "b"] * 200)
    result = select(
        dataset,
        selection_count=90,
        group_column="camera",
        balance_by="group",
        class_balance="uniform",
        must_keep=[3, 4],
        must_drop=[0, 1],
    )
    assert Counter(np.array(result.scores["group"])[result.selected]) == {"a": 45, "b": 45}
    assert {3, 4} <= set(result.selected.tolist()) and not {0, 1} & set(result.selected.tolist())


def test_captions_that_nothing_fits_are_doubted(pairs):
    dataset = pairs[0].remove_columns("text").add_column("text", [f"xq{row} zzv" for row in range(600)])
    with pytest.raises(InputError, match="other captions fits better than their own"):
        select(dataset, strict=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"caption_column": "words"},
            "caption_column words is not a text column of the dataset. Text columns: text;",
        ),
        ({"label_column_name": "text"}, "leave out label_column_name text"),
        ({"class_names": ["a"]}, "class_names are for labels"),
        ({"prompt_template": "a {}"}, "prompt_template 'a {}' is for the names of classes"),
        ({"alignment": "ensemble"}, "pass margin or cosine"),
        ({"class_quotas": {"cluster 0": 5}}, "class_quotas names classes, and captions have none"),
        ({"num_clusters": 601}, "num_clusters must lie between 1 and the number of rows, 600; got 601"),
        ({"num_clusters": 0}, "num_clusters must be a whole number of at least 1"),
        ({"caption_column": None}, "num_clusters=5 is for image-text pairs"),
        ({"selection_count": 601}, "601"),
    ],
)
def test_what_makes_no_sense_with_captions_is_refused(pairs, settings, message):
    with pytest.raises(InputError) as error:
        select(pairs[0], **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", None, "b"], "1 rows of column 'text' have no caption (first: source_index 1)"),
        (["a", "b", " \n"], "1 rows of column 'text' have no caption (first: source_index 2)"),
        (["a", "a", "a"], "All 3 rows of column 'text' have the caption 'a'"),
    ],
)
def test_captions_that_are_missing_or_all_the_same_are_refused(pairs, texts, message):
    dataset = pairs[0].select(range(3)).remove_columns("text").add_column("text", texts)
    with pytest.raises(InputError) as error:
        select(dataset, num_clusters=None)
    assert message in str(error.value)


def test_captions_that_the_model_can_not_read_to_their_ends_are_told(pairs, tmp_path, caplog):
    caplog.set_level("INFO")
    texts = list(pairs[0].select(range(60))["text"])
    limit = load_backbone(MODEL).tokenizer.model_max_length
    exact = " ".join(["seven"] * (limit - 2))  # beside the marks of beginning and end
    texts[3], texts[7], texts[30], texts[41] = exact, f"{exact} A", f"B {exact}", f"{exact} A"
    dataset = pairs[0].select(range(60)).remove_columns("text").add_column("text", texts)
    told = (
        f"3 of 60 captions are longer than the {limit} tokens that the model reads, and are cut there; the first is "
        "that of source_index 7."
    )
    for _ in range(2):  # the second run finds its features
        caplog.clear()
        report = select(dataset, num_clusters=2, output_dir=tmp_path / "out").report
        assert [message.startswith(told) for message in report["warnings"] if "tokens" in message] == [True]
        assert sum(message.startswith(told) for message in caplog.messages) == 1
        assert f"It begins with {exact[:60]!r}." in caplog.messages
    # Scores may be published of captions that may not be.
    assert "seven seven" not in (tmp_path / "out" / "report.json").read_text(encoding="utf-8")
    assert not any(
        "tokens" in message for message in select(pairs[0].select(range(60)), num_clusters=2).report["warnings"]
    )


def test_class_names_that_the_model_can_not_read_to_their_ends_are_told(pairs):
    dataset = pairs[0].select(range(30)).remove_columns("text").add_column("label", [row % 3 for row in range(30)])
    names = ["one", "two " * 100, "seven"]
    report = select(dataset, caption_column=None, num_clusters=None, class_names=names).report
    [told] = [message for message in report["warnings"] if "tokens" in message]
    assert told.startswith("The prompts of 1 of 3 classes are longer than") and repr(names[1][:60]) in told
    assert "with class_names." in told


def test_a_column_of_captions_that_is_taken_for_labels_is_pointed_out(pairs, caplog):
    select_dataset(pairs[0].select(range(30)), model_name_or_path=MODEL, adaptation="off", dataloader_num_workers=0)
    assert "If these are captions, name it with caption_column." in caplog.text


def test_embeddings_without_labels_are_pairs():
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(400, 32))
    images = texts + 0.5 * rng.normal(size=(400, 32))
    wrong = np.arange(400) < 80
    texts[wrong] = np.roll(texts[wrong], 1, axis=0)
    result = select_embeddings(images, texts, num_clusters=3, selection_ratio=[0.3, 0.8])
    assert wrong[result.at(0.8).selected].mean() <= 0.01 and len(result.at(0.8).selected) == 320
    assert set(result.scores["label"]) == {0, 1, 2}
    adapted = select_embeddings(images, texts, adaptation="always", num_train_epochs=1, num_folds=2)
    assert adapted.report["adaptation"]["kept"] and not wrong[adapted.selected].any()
    with pytest.raises(InputError, match="one row per image, got 399 for 400"):
        select_embeddings(images, texts[:399])
    with pytest.raises(InputError, match="num_clusters 3 is for image-text pairs"):
        select_embeddings(images, texts[:2], np.arange(400) % 2, num_clusters=3)


@pytest.mark.slow
def test_pairs_go_through_the_recipes(pairs, tmp_path):
    pairs[0].save_to_disk(tmp_path / "pairs")
    command = [REPOSITORY / "recipes" / "select.py", "--dataset_name", "pairs"]
    command += ["--model_name_or_path", MODEL, "--caption_column", "text", "--selection_count", "100", "--use_cpu"]
    command += ["--adaptation", "always", "--num_train_epochs", "2", "--min_train_steps", "10"]
    command += ["--push_to_hub", "--hub_dataset_id", "me/pairs", "--hub_model_id", "me/adapters"]
    with LoopbackHub(tmp_path / "hub") as hub:
        done = run_python(*command, env=hub.environment("hf_me_write"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        for repo, kind in (("datasets/me/pairs", "dataset"), ("me/adapters", "model")):
            card = hub.read(repo, "README.md").decode()
            assert check(card, kind) == {"errors": [], "warnings": []} and "caption" in card
        assert "--caption_column text" in card and "cluster 0" not in card
        assert any(path.startswith("count_100/train-") for path in hub.tree("datasets/me/pairs"))
    scores = pq.read_table(tmp_path / "clipselect_output" / "scores.parquet")
    assert sum(scores["selected_count_100"].to_pylist()) == 100
    assert set(scores["label"].to_pylist()) == {0, 1}  # one cluster for about 250 rows
    done = run_python(REPOSITORY / "recipes" / "suspects.py", "clipselect_output", "--num", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    table = pq.read_table(tmp_path / "suspects" / "suspects.parquet").to_pylist()
    texts = pairs[0]["text"]
    assert len(table) == 5 and all(row["label"] == texts[row["source_index"]] for row in table)
    assert all(row["proposed_label"] in texts and row["proposed_label"] != row["label"] for row in table)
    assert (tmp_path / "suspects" / "suspects.png").exists()
