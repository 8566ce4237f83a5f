"""`hf-clipselect show` over what earlier versions left, and what embeddings leave."""

import numpy as np
import pytest
from conftest import REPOSITORY

from hf_clipselect import select_embeddings
from hf_clipselect.cli import main


OLD = REPOSITORY / "tests" / "fixtures" / "made_at_d51eaaf"


@pytest.mark.parametrize(
    ("place", "rows", "load"),
    [
        ("run", "200 rows of embedded/digits", 'load_dataset("{}/subset", "ratio_30", split="train")'),
        ("captions_run", "150 rows of me/pairs", 'load_pruned("{}/subset", ratio=0.3)'),
        ("published/dataset", "150 rows of me/digits-by-camera", 'load_dataset("{}", "ratio_30", split="train")'),
    ],
)
def test_runs_of_earlier_versions(place, rows, load, capsys):
    folder = OLD / place
    assert main(["show", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(rows) and f"subset: {load.format(folder)}" in lines
    assert lines[-1].startswith("next: hf-clipselect ") and str(folder) in lines[-1] and len(lines) <= 10


def test_a_selection_from_embeddings(tmp_path, capsys):
    rng = np.random.default_rng(0)
    texts, labels = np.eye(3, 8), np.repeat([0, 1, 2], 100)
    embeds = texts[labels] + 0.1 * rng.normal(size=(300, 8))
    labels[:9] = 1
    select_embeddings(embeds, texts, labels, selection_ratio="auto").save(tmp_path / "saved")
    assert main(["show", str(tmp_path / "saved")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "300 rows of embeddings" and "looks like 0 (9 rows)" in lines[1]
    assert lines[2:4] == ["ratio_auto: 291 rows", f'subset: SelectionResult.from_folder("{tmp_path / "saved"}")']
    assert main(["push", str(tmp_path / "saved"), "--hub_dataset_id", "me/x"]) == 2
    assert "holds a selection from embeddings, of which no card can be made" in capsys.readouterr().err
