import logging
import tracemalloc

import numpy as np
import pytest

from hf_clipselect.data.prompts import class_prompts
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.errors import InputError
from hf_clipselect.pipeline.run_log import collected_warnings
from hf_clipselect.scores.alignment import alignment_scores
from hf_clipselect.scores.trust import MAX_LISTED, MIN_ROWS, SAME_PROMPT, check_trust, measure_trust


def predicted_labels(images, texts):
    return alignment_scores(images, texts, np.zeros(len(images), dtype=int))[0]


def orthogonal(count):
    return np.eye(count, dtype=np.float32)


def rows_of(*counts):
    """Labels and predictions from (label, predicted, rows)."""
    labels, predicted, times = zip(*counts, strict=True)
    return np.repeat(labels, times), np.repeat(predicted, times)


def test_trust_by_hand():
    # cat is right 8 of 10 times; dog, of 10 rows, is taken for a cat 6 times, for a fox 3 times; fox is always right.
    labels, plain = rows_of((0, 0, 8), (0, 1, 2), (1, 0, 6), (1, 2, 3), (1, 1, 1), (2, 2, 10))
    trust = measure_trust(labels, plain, None, orthogonal(3), ["cat", "dog", "fox"])
    assert trust.chance == 1 / 3
    assert trust.disagreement_plain == 11 / 30 and trust.disagreement_adapted is None
    assert trust.below_chance == [{"name": "dog", "rows": 10, "plain": 0.1, "adapted": None}]
    assert trust.similar_prompts == []
    assert trust.confusions == [
        {"label": "dog", "predicted": "cat", "rows": 10, "plain": 0.6, "adapted": None},
        {"label": "dog", "predicted": "fox", "rows": 10, "plain": 0.3, "adapted": None},
        {"label": "cat", "predicted": "dog", "rows": 10, "plain": 0.2, "adapted": None},
    ]
    below, confused = trust.warnings
    assert "1 class less often than chance (33.3%): 'dog' (10.0% of 10 rows)." in below
    assert "in 1 pair: 'dog' for 'cat' (60.0% of 10 rows)." in confused
    entry = trust.to_dict()
    assert (entry["num_below_chance"], entry["num_similar_prompts"], entry["num_confused"]) == (1, 0, 1)
    assert entry["confusions"] == trust.confusions and "warnings" not in entry


def test_either_prediction_gives_cause_for_doubt():
    labels, plain = rows_of((0, 1, 9), (0, 0, 1), (1, 1, 10))
    adapted = labels.copy()
    for one, other, shares in ((plain, adapted, (0.1, 1.0)), (adapted, plain, (1.0, 0.1))):
        trust = measure_trust(labels, one, other, orthogonal(2), ["cat", "dog"])
        assert trust.below_chance == [{"name": "cat", "rows": 10, "plain": shares[0], "adapted": shares[1]}]
        [confusion] = trust.confusions
        assert (confusion["plain"], confusion["adapted"]) == pytest.approx((1 - shares[0], 1 - shares[1]))
        assert len(trust.warnings) == 2
    assert "'cat' (100.0% of 10 rows, 10.0% with adapters)" in trust.warnings[0]


def test_agreement_of_exactly_chance_and_half_a_class_taken_for_another_are_no_warnings():
    labels, plain = rows_of((0, 0, 5), (0, 1, 5), (1, 1, 10))
    trust = measure_trust(labels, plain, None, orthogonal(2), ["cat", "dog"])
    assert trust.warnings == [] and trust.below_chance == []
    assert [entry["plain"] for entry in trust.confusions] == [0.5]


@pytest.mark.parametrize("rows", [MIN_ROWS - 1, MIN_ROWS])
def test_a_few_wrong_rows_are_no_reason_to_doubt_a_class(rows):
    labels, plain = rows_of((0, 1, rows), (1, 1, 20))
    trust = measure_trust(labels, plain, None, orthogonal(2), ["cat", "dog"])
    assert len(trust.warnings) == (0 if rows < MIN_ROWS else 2)


def test_classes_without_rows_take_no_part():
    names = ["cat", "empty", "dog", "also empty"]
    texts = np.full((4, 4), np.nan, dtype=np.float32)
    texts[[0, 2]] = orthogonal(4)[[0, 2]]
    labels, plain = rows_of((0, 0, 4), (0, 2, 6), (2, 2, 10))
    trust = measure_trust(labels, plain, None, texts, names)
    assert trust.chance == 0.5
    assert [entry["name"] for entry in trust.below_chance] == ["cat"]
    texts[1] = texts[0]
    assert measure_trust(labels, plain, None, texts, names) == trust


def test_against_the_slow_obvious_version():
    rng = np.random.default_rng(0)
    num_classes, num_rows, names = 12, 700, [f"class {c}" for c in range(12)]
    labels = rng.integers(0, num_classes, num_rows)
    labels[labels == 7] = 8
    predictions = {
        key: np.where(
            rng.random(num_rows) < rng.random(num_classes)[labels] ** 2, labels, (labels * 5 + 1) % num_classes
        )
        for key in ("plain", "adapted")
    }
    texts = rng.normal(size=(num_classes, 3)).astype(np.float32)
    texts[4], texts[9] = texts[1] + 0.01, texts[5] + 0.05
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    trust = measure_trust(labels, predictions["plain"], predictions["adapted"], texts, names)

    matrices = {key: np.zeros((num_classes, num_classes)) for key in predictions}
    for key, predicted in predictions.items():
        for label, other in zip(labels, predicted, strict=True):
            matrices[key][label, other] += 1
    sizes = matrices["plain"].sum(axis=1)
    assert trust.chance == 1 / 11
    expected = {
        names[c]: tuple(matrices[key][c, c] / sizes[c] for key in predictions)
        for c in range(num_classes)
        if sizes[c] and min(matrices[key][c, c] / sizes[c] for key in predictions) < 1 / 11
    }
    assert {entry["name"]: (entry["plain"], entry["adapted"]) for entry in trust.below_chance} == expected
    expected = {
        (names[a], names[b]): tuple(matrices[key][a, b] / sizes[a] for key in predictions)
        for a in range(num_classes)
        for b in range(num_classes)
        if a != b and matrices["plain"][a, b] + matrices["adapted"][a, b]
    }
    found = {(entry["label"], entry["predicted"]): (entry["plain"], entry["adapted"]) for entry in trust.confusions}
    assert found == expected
    assert list(found.values()) == sorted(found.values(), key=max, reverse=True)
    cosines = texts.astype(np.float64) @ texts.T
    np.fill_diagonal(cosines, -2)
    expected = {
        (names[min(a, b)], names[max(a, b)])
        for a in range(num_classes)
        for b in [np.argmax(np.where(np.arange(12) == 7, -2, cosines[a]))]
        if a != 7 and cosines[a, b] >= SAME_PROMPT
    }
    assert {tuple(entry["classes"]) for entry in trust.similar_prompts} == expected and len(expected) >= 2


def test_prompts_on_both_sides_of_the_limit():
    angle = np.arccos(SAME_PROMPT)
    for cosine_is_above, turned in ((True, angle - 0.001), (False, angle + 0.001)):
        texts = np.array([[1, 0, 0], [0, 0, 1], [np.cos(turned), np.sin(turned), 0]], dtype=np.float32)
        labels = np.arange(3)
        trust = measure_trust(labels, labels, None, texts, ["sofa", "cat", "couch"])
        assert bool(trust.warnings) == cosine_is_above
    texts[2] = texts[0]
    trust = measure_trust(labels, labels, None, texts, ["sofa", "cat", "couch"])
    assert trust.similar_prompts == [{"classes": ["sofa", "couch"], "cosine": 1.0}]
    assert "1 pair of classes are nearly the same to CLIP: 'sofa' and 'couch' (cosine 1.000)" in trust.warnings[0]


def test_what_follows_from_a_shared_prompt_is_told_once():
    # The first of two equal prompts takes all rows of the second; dog is doubtful on its own.
    texts = orthogonal(4)
    texts[1] = texts[0]
    labels, plain = rows_of((0, 0, 10), (1, 0, 10), (2, 3, 9), (2, 2, 1), (3, 3, 10))
    trust = measure_trust(labels, plain, None, texts, ["sofa", "couch", "dog", "fox"])
    assert [entry["name"] for entry in trust.below_chance] == ["couch", "dog"]
    assert trust.to_dict()["num_confused"] == 2
    below, similar, confused = trust.warnings
    assert "1 pair of classes are nearly the same to CLIP: 'sofa' and 'couch'" in similar
    assert "'dog'" in below and "'dog' for 'fox'" in confused
    assert "couch" not in below + confused


def test_blocks_of_prompts_give_what_one_block_gives(monkeypatch):
    rng = np.random.default_rng(1)
    texts = rng.normal(size=(300, 4)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    labels, names = np.arange(300), [str(c) for c in range(300)]
    whole = measure_trust(labels, labels, None, texts, names).similar_prompts
    monkeypatch.setattr("hf_clipselect.scores.arrays._BLOCK_ELEMENTS", 300 * 7)
    blocks = measure_trust(labels, labels, None, texts, names).similar_prompts
    assert [pair["classes"] for pair in blocks] == [pair["classes"] for pair in whole] and len(whole) > 20


def test_many_classes_need_no_matrix_of_all_pairs():
    num_classes = 6000
    texts = np.ones((num_classes, 4), dtype=np.float32) / 2  # all prompts are one: the most pairs there can be
    labels, names = np.repeat(np.arange(num_classes), 5), [f"class {c}" for c in range(num_classes)]
    tracemalloc.start()
    trust = measure_trust(labels, np.zeros_like(labels), labels, texts, names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * num_classes**2  # half of the float32 matrix
    entry = trust.to_dict()
    assert entry["num_similar_prompts"] == entry["num_below_chance"] == entry["num_confused"] == num_classes - 1
    assert len(entry["similar_prompts"]) == len(entry["below_chance"]) == len(entry["confusions"]) == MAX_LISTED
    [warning] = trust.warnings
    assert "and 5,994 more" in warning and len(warning) < 900


def test_warnings_reach_the_log_or_become_one_error(caplog):
    labels, plain = rows_of((0, 1, 9), (0, 0, 1), (1, 1, 10))
    trust = measure_trust(labels, plain, None, orthogonal(2), ["50 %s cat", "dog"])
    with collected_warnings() as collected, caplog.at_level(logging.WARNING, "hf_clipselect"):
        check_trust(trust)
    assert collected == trust.warnings and len(collected) == 2
    with pytest.raises(InputError, match="--strict") as raised:
        check_trust(trust, strict=True)
    assert all(warning in str(raised.value) for warning in trust.warnings)
    check_trust(measure_trust(labels, labels, None, orthogonal(2), ["cat", "dog"]), strict=True)


def test_prompts_of_the_embedded_model_on_digits_are_told_apart():
    backbone = load_backbone("embedded/tiny-clip")
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    [prompts] = class_prompts([*names, "Nine"])
    texts = backbone.model.get_text_features(**backbone.tokenizer(prompts, padding=True, return_tensors="pt"))
    texts = texts.pooler_output.detach().numpy()
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    labels = np.arange(11)
    assert measure_trust(labels[:10], labels[:10], None, texts[:10], names).warnings == []
    # The tokenizer drops the case, so that these two are one prompt.
    [pair] = measure_trust(labels, labels, None, texts, [*names, "Nine"]).similar_prompts
    assert pair["classes"] == ["nine", "Nine"]


def test_real_clip_features_give_no_warning_and_wrong_names_do(real_data):
    stored = np.load(real_data / "clip-features-food101" / "features.npz")
    names, texts = [str(name) for name in stored["class_names"]], stored["class_text_embeds"].astype(np.float32)
    has_text = stored["class_has_text"]
    rows = has_text[stored["train_labels"]]
    labels = stored["train_labels"][rows].astype(np.int64)
    images = stored["train_image_embeds"][rows].astype(np.float32)
    classes = np.flatnonzero(has_text)
    plain = classes[predicted_labels(images, texts[classes])]
    trust = measure_trust(labels, plain, None, texts, names)
    assert trust.warnings == [] and trust.chance == 1 / 9
    assert trust.disagreement_plain == pytest.approx(0.064, abs=0.002)
    # Names in another order: every class is below chance, and taken for the one that it is.
    shuffled = np.roll(classes, 1)
    swapped = np.zeros(len(names), dtype=np.int64)
    swapped[classes] = shuffled
    wrong = measure_trust(labels, swapped[plain], None, texts, names)
    assert len(wrong.below_chance) == 9 and wrong.to_dict()["num_confused"] == 9
