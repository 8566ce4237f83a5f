"""A selection as it is saved, and as a stranger may have written it: a file of his must not fill the memory."""

import copy
import dataclasses
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import make_result

from hf_clipselect import SelectionResult, load_pruned, select_embeddings
from hf_clipselect.errors import InputError
from hf_clipselect.hub import subset_card
from hf_clipselect.results.saved_selection import is_whole, read_scores
from hf_clipselect.results.scores_table import column_values


REMOVED = object()
STRANGE = [
    REMOVED,
    None,
    True,
    -1,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "strange",
    "\x00/\ud800",
    [],
    [[]],
    {},
    {"a": {}},
]


@pytest.fixture
def saved(images_dataset, tmp_path):
    result = make_result(images_dataset, (0.3, 0.125), unreadable=[5], name="someone/things", report=True)
    adapter = {"name": "someone/adapters", "revision": "0" * 40}
    result.report["adaptation"] |= {"kept": True, "adapter": adapter}
    origin = {"weights_revision": "1" * 40, "weights_files": {"pytorch_model.bin": "0" * 64}, "in_memory": False}
    result.report["model"] |= origin
    result.save(tmp_path)
    return tmp_path


def places(value, place=()):
    """The way to every value in a JSON document, the document itself included; of a list only to the first entry."""
    yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*place, key))


def changed(document, place, value):
    document = copy.deepcopy(document)
    *way, last = place
    holder = document
    for key in way:
        holder = holder[key]
    if value is REMOVED:
        del holder[last]
    else:
        holder[last] = value
    return document


def read(folder, document):
    """The result, or None where the document is refused in a sentence."""
    (folder / "selection.json").write_text(json.dumps(document))
    try:
        return SelectionResult.from_folder(folder)
    except InputError as error:
        assert str(error).startswith(f"{folder} holds no selection that can be read") and "\n" not in str(error)
        return None


@pytest.mark.slow
def test_whatever_a_stranger_changes_is_refused_or_harmless(saved):
    document = json.loads((saved / "selection.json").read_text())
    outcomes = {True: 0, False: 0}
    for number, place in enumerate(list(places(document))[1:]):
        for value in STRANGE[number % 15 :: 15]:  # all values at all places take minutes
            result = read(saved, changed(document, place, value))
            outcomes[result is None] += 1
            if result is not None and is_whole(result.report):
                assert subset_card(result.at(0.125).report, saved)
    assert min(outcomes.values()) > 15


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("ratios",), [], "selection.json.ratios is empty"),
        (("ratios", 0), 1.5, "must lie in (0, 1]"),
        (("ratios", 1), 0.3, "names 0.3 more than once"),
        (("ratios", 0), float("nan"), "NaN is no JSON"),
        (("ratios", 0), "most", "must be a number in (0, 1] or \"auto\", got 'most'"),
        (("ratios", 0), "auto", "no column selection_score_auto, selected_auto"),
        (("ratios", 0), True, "an entry of selection.json.ratios must be int or float or str, got True"),
        (("ratios", 0), 0.4, "no column selection_score_40, selected_40"),
        (("seed",), 2**32, "out of range"),
        (("objective", "name"), "magic", "objective.name must be one of robust, diverse, clean, paper, released"),
        (("objective", "solver"), "magic", "solver must be one of exact, sgd, got 'magic'"),
        (("objective", "alignment"), REMOVED, "alignment"),
        (("objective", "more"), 1, "more"),
        (("source", "fingerprint"), REMOVED, "source lacks fingerprint"),
        (("source", "num_rows"), 59, "for a source of 59 rows"),
        (("source", "num_rows"), -1, "out of range"),
        (("source", "revision"), "main", "source.revision must be a commit of 40 hexadecimal digits, got 'main'"),
        (("source", "license"), ["mit"], "source.license must be str or null, got ['mit']"),
        (("report",), REMOVED, "lacks report"),
        (("report", "versions"), [], "report.versions must be an object, got []"),
        (("report", "warnings"), {"a": 1}, "report.warnings must be a list"),
        (("report", "adaptation", "adapter"), "me", "report.adaptation.adapter must be an object, got 'me'"),
        (("report", "classes", 0, "name"), "other", "the classes of the report are not those of the scores"),
        (("report", "num_rows"), 61, "the report speaks of 61 rows, the scores have 60"),
    ],
)
def test_the_reason_is_told(saved, place, value, reason):
    document = changed(json.loads((saved / "selection.json").read_text()), place, value)
    (saved / "selection.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="holds no selection that can be read") as error:
        SelectionResult.from_folder(saved)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("column", "change", "reason"),
    [
        ("label_error_probability", lambda it: it + np.float32(0.5), "label_error_probability is missing, or lies"),
        ("label_error_probability", lambda it: it * np.float32("nan"), "label_error_probability is missing"),
        ("label_error_probability", lambda it: it.astype(np.float64), "no column label_error_probability of the exp"),
        ("clean_label", lambda it: it * 1, "no column clean_label of the expected type"),
        ("class_rank", lambda it: it + 1, "class_rank does not number the rows of each class from 0"),
        ("class_rank", lambda it: it * 0, "class_rank does not number"),
        ("class_rank", lambda it: -it, "class_rank does not number"),
    ],
)
def test_columns_of_a_noise_model_that_no_run_writes_are_refused(images_dataset, tmp_path, column, change, reason):
    result = make_result(images_dataset, ("auto", 0.5), objective="robust", noise=True, unreadable=[5])
    values = change(column_values(result.scores, column))
    values = pa.array(values, mask=np.arange(60) == 5) if values.dtype.kind == "i" else values
    scores = result.scores.remove_columns(column).add_column(column, values)
    dataclasses.replace(result, scores=scores).save(tmp_path)
    with pytest.raises(InputError, match="holds no selection that can be read") as error:
        SelectionResult.from_folder(tmp_path)
    assert reason in str(error.value)


def test_the_share_that_auto_keeps_is_noted_and_counted_anew(images_dataset, tmp_path):
    result = make_result(images_dataset, ("auto", 0.5), objective="robust", noise=True, unreadable=[5], report=True)
    result.save(tmp_path)
    document = json.loads((tmp_path / "selection.json").read_text())
    assert document["ratios"] == ["auto", 0.5]
    assert document["auto_ratio"] == round(len(result.selected) / 59, 4)
    assert list(document)[:3] == ["objective", "ratios", "auto_ratio"]
    back = read(tmp_path, changed(document, ("auto_ratio",), 0.1))
    assert back.ratios == ("auto", 0.5) and back.report["subsets"] == result.report["subsets"]
    assert read(tmp_path, changed(document, ("auto_ratio",), "all")) is None
    make_result(images_dataset).save(tmp_path)
    assert "auto_ratio" not in json.loads((tmp_path / "selection.json").read_text())


def test_what_is_said_twice_or_follows_from_the_scores_is_not_believed(saved):
    document = json.loads((saved / "selection.json").read_text())
    expected = read(saved, document)
    for place, value in [
        (("report", "source", "name"), "another/dataset"),
        (("report", "objective", "alignment"), "cosine"),
        (("report", "seed"), 7),
        (("report", "subsets", 0, "rows"), 60),
        (("report", "score_quantiles", "sas"), {"lowest": 0}),
        (("report", "classes", 0, "kept", "30"), 60),
        (("report", "arguments", "selection_ratio"), [0.9]),
    ]:
        assert read(saved, changed(document, place, value)).report == expected.report


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"ratios": NaN}', "\ufeff{}"])
def test_what_is_no_selection_is_refused(saved, text):
    (saved / "selection.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="holds no selection that can be read"):
        SelectionResult.from_folder(saved)
    (saved / "selection.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="holds no selection that can be read"):
        SelectionResult.from_folder(saved)


def test_what_is_told_of_wrong_labels_is_counted_anew(saved_scores):
    document, result = (
        json.loads((saved_scores / "selection.json").read_text()),
        SelectionResult.from_folder(saved_scores),
    )
    assert document["report"].keys() == {"noise"} and result.report == document["report"]
    for place, value in [(("by_class", "0"), 0.9), (("estimated_share",), "all"), (("transitions",), [])]:
        assert read(saved_scores, changed(document, ("report", "noise", *place), value)).report == result.report
    for place, value in [((), 5), ((), None), (("share_error",), "large"), (("share_error",), REMOVED)]:
        assert read(saved_scores, changed(document, ("report", "noise", *place), value)) is None


# The scores.


@pytest.fixture
def saved_scores(tmp_path):
    rng = np.random.default_rng(0)
    images, texts, labels = rng.normal(size=(200, 4)), rng.normal(size=(2, 4)), np.arange(200) % 2
    settings = {"groups": ["a", "b"] * 100, "num_neighbors": 1, "adaptation": "off"}
    select_embeddings(images, texts, labels, **settings).save(tmp_path)
    return tmp_path


def shard(folder):
    [path] = folder.glob("scores/*.parquet")
    return path


def claim_rows(folder, num_rows):
    document = json.loads((folder / "selection.json").read_text())
    document["source"]["num_rows"] = num_rows
    (folder / "selection.json").write_text(json.dumps(document))


def assert_refused_without_filling_the_memory(folder, message):
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    with pytest.raises(InputError, match=f"holds no selection that can be read .*{message}"):
        SelectionResult.from_folder(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6 and pa.total_allocated_bytes() - before < 20e6


def test_comes_back_whole(saved_scores):
    result = SelectionResult.from_folder(saved_scores)
    table = pq.read_table(shard(saved_scores))
    assert read_scores(saved_scores / "scores", num_rows=200).equals(table)
    pq.write_table(table.slice(0, 50), saved_scores / "scores" / "train-00000-of-00002.parquet", use_dictionary=False)
    pq.write_table(table.slice(50), saved_scores / "scores" / "train-00001-of-00002.parquet", row_group_size=7)
    shard_of_one = saved_scores / "scores" / "train-00000-of-00001.parquet"
    shard_of_one.unlink()
    assert SelectionResult.from_folder(saved_scores).scores[:] == result.scores[:]


def test_more_rows_than_bytes(saved_scores):
    table = pq.read_table(shard(saved_scores))
    many = table.slice(0, 1).take([0] * 1_000_000)
    with pq.ParquetWriter(shard(saved_scores), table.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(many, row_group_size=1_000_000)
    assert_refused_without_filling_the_memory(saved_scores, "claim 3000000 rows in .* bytes, for a source of 200 rows")
    claim_rows(saved_scores, 10**9)
    assert_refused_without_filling_the_memory(
        saved_scores, "claim 3000000 rows in .* bytes, for a source of 1000000000 rows"
    )


def test_one_long_text_for_all_rows(saved_scores):
    table, place = pq.read_table(shard(saved_scores)), 2
    name = table.schema.names[place]
    assert name == "group"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array(["x" * 1_000_000]))
    schema = table.schema
    table = table.set_column(place, pa.field(name, text.type), text)
    plain = pa.schema([field if field.name != name else pa.field(name, pa.string()) for field in schema])
    # As other writers do: text that stands in the file once, and no note that it was a dictionary.
    pq.write_table(table, shard(saved_scores), compression="zstd", store_schema=False)
    assert pq.read_schema(shard(saved_scores)).field(name).type == plain.field(name).type == pa.string()
    assert_refused_without_filling_the_memory(saved_scores, "would take 200000000 bytes of memory")


@pytest.mark.parametrize(
    "column", [pa.array([[1]] * 200), pa.array([{"a": 1}] * 200), pa.array([b"x"] * 200), pa.nulls(200)]
)
def test_columns_that_no_run_writes(saved_scores, column):
    pq.write_table(pq.read_table(shard(saved_scores)).append_column("more", column), shard(saved_scores))
    assert_refused_without_filling_the_memory(saved_scores, "the column 'more' of the scores holds")


def test_no_scores_at_all(saved_scores):
    shard(saved_scores).unlink()
    assert_refused_without_filling_the_memory(saved_scores, "there is no scores/")


def test_documents_that_are_too_large(saved_scores):
    with (saved_scores / "selection.json").open("ab") as file:
        file.truncate(200_000_000)  # takes no room on the disk
    assert_refused_without_filling_the_memory(saved_scores, "more than 100,000,000 bytes")
    (saved_scores / "README.md").write_text("---\nconfigs: []\n---\n")
    with (saved_scores / "README.md").open("ab") as file:
        file.truncate(200_000_000)
    with pytest.raises(InputError, match="no selection that can be read"):
        load_pruned(saved_scores, ratio=0.3)
