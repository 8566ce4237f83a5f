"""selection.json as it is published, and as a stranger may have written it."""

import copy
import json

import pytest
from made_results import make_result

from hf_clipselect import SelectionResult
from hf_clipselect.errors import InputError
from hf_clipselect.hub import subset_card
from hf_clipselect.results.saved_selection import is_whole


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
        (("ratios", 0), True, "an entry of selection.json.ratios must be int or float, got True"),
        (("ratios", 0), 0.4, "no column selection_score_40, selected_40"),
        (("seed",), 2**32, "out of range"),
        (("objective", "name"), "magic", "objective.name must be one of diverse, clean, paper, released"),
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
