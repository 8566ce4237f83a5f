"""Both doors lead through the same stages: the same rows come out, and the same functions are called on the way."""

import sys

import numpy as np
import pytest

from hf_clipselect import select_dataset, select_embeddings
from hf_clipselect.data import read_images
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.evaluation.comparison.clip_embeds import clip_embeds


MODEL = "embedded/tiny-clip"
STAGES = ["encode", "adapt", "score", "judge", "tabulate", "select"]


@pytest.fixture(scope="module")
def digits():
    return load_digits_dataset("train").select(range(400))


@pytest.fixture(scope="module")
def embeddings(digits):
    return clip_embeds(read_images(digits), MODEL)


def stages_called(call):
    """The functions of the stages that a call enters, in order, and what the call returns."""
    called = []

    def profile(frame, event, _):
        # The name first: this is asked of every call that is made.
        if event == "call" and (name := frame.f_code.co_name) in STAGES:
            if frame.f_globals.get("__name__", "").startswith("hf_clipselect.pipeline."):
                called.append(name)

    sys.setprofile(profile)
    try:
        result = call()
    finally:
        sys.setprofile(None)
    return called, result


# Not the ensemble: its folds are drawn by the last digits of the embeddings, which are normalised once more here.
@pytest.mark.parametrize("knobs", [{}, {"objective": "released"}, {"redundancy_weight": 0.5}], ids=str)
def test_both_doors_keep_the_same_rows(digits, embeddings, knobs):
    settings = {"adaptation": "off", "selection_ratio": [0.3, 0.6], **knobs}
    way, ours = stages_called(lambda: select_dataset(digits, model_name_or_path=MODEL, **settings))
    other_way, theirs = stages_called(lambda: select_embeddings(*embeddings, digits["label"], **settings))
    assert way == other_way == STAGES
    for ratio in (0.3, 0.6):
        assert np.array_equal(ours.at(ratio).selected, theirs.at(ratio).selected)
    np.testing.assert_allclose(np.array(ours.scores["sas"]), np.array(theirs.scores["sas"]), atol=1e-5)


@pytest.mark.slow
def test_adapters_lead_the_same_way(digits, embeddings):
    # On the heads of a model and on embeddings they are other adapters, so that only the way is compared.
    settings = {"adaptation": "always", "num_train_epochs": 2, "num_folds": 2}
    few, (images, texts) = digits.select(range(100)), embeddings
    way, _ = stages_called(lambda: select_dataset(few, model_name_or_path=MODEL, **settings))
    other_way, _ = stages_called(lambda: select_embeddings(images[:100], texts, few["label"], **settings))
    assert way == other_way == STAGES
