import pytest

from hf_clipselect.hub.noise_words import about_percent, auto_keeps_all, confused_pairs


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "less than 1 %"), (0.0099, "less than 1 %"), (0.01, "about 1 %"), (0.1249, "about 12 %"), (1, "about 100 %")],
)
def test_a_share_is_told_as_it_is_known(share, words):
    assert about_percent(share) == words


def test_pairs_are_named_with_their_rows():
    pairs = [("eight", "nine", 10), ("one", "seven", 1), ("two", "three", 1)]
    noise = {"transitions": [dict(zip(("label", "clean_label", "rows"), pair, strict=True)) for pair in pairs]}
    assert confused_pairs(noise, limit=2) == "eight looks like nine (10 rows), one looks like seven (1 row)"
    assert confused_pairs({"transitions": []}, limit=2) == ""
    long = {"transitions": [{"label": "x" * 500, "clean_label": "y" * 40, "rows": 2}]}
    assert confused_pairs(long, limit=2) == f"{'x' * 40}... looks like {'y' * 40} (2 rows)"


@pytest.mark.parametrize(
    ("share", "num_pairs", "kept", "words"),
    [
        (0.0, 0, 1.0, "keeps all rows, since no label looks wrong; for a smaller set random rows would do"),
        (0.003, 2, 0.997, "keeps nearly all rows, since hardly any label looks wrong; for a smaller set random rows"),
        (0.003, 0, 0.997, "keeps nearly all rows, since hardly any label looks wrong; for a smaller set random rows"),
        (0.01, 1, 1.0, "keeps all rows, since hardly any label looks wrong;"),  # the only row of a class stays
        (0.00002, 1, 0.99998, "keeps nearly all rows, since hardly any label looks wrong;"),  # which is 1.0 rounded
        (0.12, 9, 0.88, None),
        (0.003, 1, 0.5, None),  # must_drop left out the others
        (0.003, 1, None, None),  # another size
    ],
)
def test_auto_tells_where_there_is_hardly_anything_to_leave_out(share, num_pairs, kept, words):
    pair = {"label": "eight", "clean_label": "nine", "rows": 1}
    noise = {"estimated_share": share, "transitions": [pair] * num_pairs}
    subset = {"ratio": 0.3 if kept is None else kept, "auto_ratio": None if kept is None else round(kept, 4)}
    said = auto_keeps_all(noise, subset)
    assert said is None if words is None else said.startswith(words)
    assert auto_keeps_all(None, subset) is None
