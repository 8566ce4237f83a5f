import ast
import json
import os
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from datasets import Dataset
from preloaded import run_python
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation import metrics
from hf_clipselect.evaluation.metrics import METRICS, dunn_index, load_metric


FOLDER = Path(metrics.__file__).parent


def compute(name, **inputs):
    return load_metric(name).compute(**inputs)


# --- loading


def test_every_file_is_a_metric_of_its_name():
    files = {path.stem for path in FOLDER.glob("*.py") if not path.name.startswith("_")}
    assert files == set(METRICS)
    for name in METRICS:
        metric = load_metric(name)
        assert isinstance(metric, evaluate.Metric)
        assert metric.name == name
        assert "Returns:" in metric.inputs_description and metric.inputs_description in metric.compute.__doc__


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(
        InputError, match="no metric 'dunn' in hf_clipselect; it has dunn_index, selection_quality, top_k_"
    ):
        load_metric("dunn")


@pytest.mark.parametrize("name", METRICS)
def test_a_copy_of_the_file_alone_can_be_imported(name):
    """`evaluate.load` copies the file: it must import nothing from its own folder."""
    imports = [
        node for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())) if isinstance(node, ast.ImportFrom)
    ]
    assert all(node.level == 0 and not node.module.startswith("hf_clipselect.evaluation.metrics") for node in imports)


@pytest.mark.slow
def test_a_fresh_process_without_network_loads_and_combines_the_files(tmp_path):
    script = """
import json, socket, sys
def refuse(*_):
    raise AssertionError("a connection was asked for")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import evaluate
combined = evaluate.combine([evaluate.load(path) for path in sys.argv[1:]])
print(json.dumps(combined.compute(
    predictions=[[0.0, 1], [1, 0], [0, 1]], references=[1, 1, 0], selected=[True, True, False],
    embeds=[[0.0, 1], [0, 2], [3, 2]], is_noisy=[False, True, False], scores=[0.5, 0.1, 0.9],
)))
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    files = [str(FOLDER / f"{name}.py") for name in METRICS]
    (tmp_path / "script.py").write_text(script)
    done = run_python(tmp_path / "script.py", *files, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["top_1_accuracy"] == pytest.approx(1 / 3)
    assert figures["dunn_index"] == pytest.approx(3)
    assert figures["noise_share"] == 0.5 and figures["noise_auroc"] == 1
    assert figures["class_max_min"] == float("inf")


def test_combined_metrics_share_their_inputs():
    combined = evaluate.combine({"quality": load_metric("selection_quality"), "dunn": load_metric("dunn_index")})
    inputs = {"selected": [True, False, True], "references": [0, 0, 1], "embeds": np.eye(3)}
    figures = combined.compute(**inputs, is_corrupted=[1, 0, 0])
    assert figures["corrupted_share"] == 0.5 and figures["dunn_index"] == 1
    combined.add_batch(**inputs)  # the rest comes with compute
    assert combined.compute(is_corrupted=[1, 0, 0]) == {
        name: value for name, value in figures.items() if name not in ("coverage", "redundancy")
    }


def test_a_metric_goes_on_after_bad_input():
    metric = load_metric("dunn_index")
    with pytest.raises(InputError):
        metric.compute(embeds=np.eye(2), references=[0, 0])
    assert metric.compute(embeds=[[0.0, 0], [0, 1], [2, 0]], references=[0, 0, 1]) == {"dunn_index": 2}


# --- selection_quality


def test_selection_quality_of_four_rows_by_hand():
    scores = [0.9, 0.2, 0.2, 0.8]
    embeds = np.array([[1, 0], [0, 2], [3, 0], [-1, 0]], dtype=np.float32)
    figures = compute(
        "selection_quality",
        selected=[True, False, True, True],
        references=[0, 1, 1, 0],
        is_noisy=[False, True, True, False],
        scores=scores,
        is_corrupted=[True, True, False, False],
        embeds=embeds,
    )
    assert figures.pop("class_entropy") == pytest.approx(-(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3)))
    assert figures == {
        "num_kept": 3,
        "class_max_min": 2,
        "noise_share": pytest.approx(1 / 3),
        "noise_kept": 0.5,
        "noise_auroc": 1,
        "corrupted_share": pytest.approx(1 / 3),
        "coverage": pytest.approx((1 + 0 + 1 + 1) / 4),
        "redundancy": pytest.approx((1 + 1 - 1) / 3),
    }


def slow_quality(selected, labels, noisy, scores, embeds):
    """Every pair of rows in turn."""
    unit = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    kept = np.flatnonzero(selected).tolist()
    right, wrong = scores[~noisy], scores[noisy]
    shares = [np.mean([labels[row] == label for row in kept]) for label in np.unique(labels)]
    counts = [sum(labels[row] == label for row in kept) for label in np.unique(labels)]
    return {
        "num_kept": len(kept),
        "class_max_min": max(counts) / min(counts) if min(counts) else float("inf"),
        "class_entropy": -sum(share * np.log(share) for share in shares if share) / np.log(len(shares)),
        "noise_share": sum(noisy[row] for row in kept) / len(kept),
        "noise_kept": sum(selected[row] for row in np.flatnonzero(noisy)) / noisy.sum(),
        "noise_auroc": np.mean([(a > b) + (a == b) / 2 for a in right for b in wrong]),
        "coverage": np.mean([max(row @ unit[other] for other in kept) for row in unit]),
        "redundancy": np.mean([max(unit[row] @ unit[other] for other in kept if other != row) for row in kept]),
    }


@pytest.mark.parametrize("seed", range(5))
def test_selection_quality_equals_a_slow_version(seed):
    rng = np.random.default_rng(seed)
    labels, noisy = rng.integers(4, size=70), rng.random(70) < 0.3
    scores, embeds = rng.integers(5, size=70) / 4, rng.normal(size=(70, 6))
    embeds[:8] = embeds[8:16]  # copies
    selected = rng.random(70) < 0.4
    figures = compute(
        "selection_quality", selected=selected, references=labels, is_noisy=noisy, scores=scores, embeds=embeds
    )
    assert figures == pytest.approx(slow_quality(selected, labels, noisy, scores, embeds), abs=1e-6)


def test_selection_quality_tells_what_its_inputs_allow():
    assert set(compute("selection_quality", selected=[1, 1], references=[0, 1])) == {
        "num_kept",
        "class_max_min",
        "class_entropy",
    }
    one = compute(
        "selection_quality", selected=[1, 0], references=[3, 3], is_noisy=[0, 0], scores=[1, 2], embeds=np.eye(2)
    )
    assert (one["class_max_min"], one["class_entropy"], one["coverage"]) == (1, 1, 0.5)
    assert np.isnan([one["noise_kept"], one["noise_auroc"], one["redundancy"]]).all()
    lost = compute("selection_quality", selected=[1, 0], references=[0, 1])
    assert (lost["class_max_min"], lost["class_entropy"]) == (float("inf"), 0)


def test_selection_quality_takes_columns_and_tensors():
    table = Dataset.from_dict(
        {"selected_50": [True, False, True, False], "label": [0, 0, 1, 1], "wrong": [0, 1, 1, 0]}
    )
    from_columns = compute(
        "selection_quality", selected=table["selected_50"], references=table["label"], is_noisy=table["wrong"]
    )
    from_tensors = compute(
        "selection_quality",
        selected=torch.tensor(table["selected_50"][:]),
        references=torch.tensor(table["label"][:]),
        is_noisy=torch.tensor(table["wrong"][:]),
        embeds=torch.eye(4),
    )
    assert from_columns["noise_share"] == 0.5
    assert from_tensors == {**from_columns, "coverage": 0.5, "redundancy": 0}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"selected": [0, 0]}, "selected must keep at least one of the 2 rows; it marks each with True or False"),
        ({"references": [0, -1]}, "labels must be 0 or more, got -1 in row 1"),
        ({"is_noisy": [1]}, r"is_noisy must be 2 values True or False, one per row, got int64 of shape \(1,\)"),
        ({"is_corrupted": [0, 2]}, "is_corrupted must be 2 values True or False"),
        ({"is_noisy": [1, 0], "scores": [1]}, "scores must be 2 numbers, one per row, got 1"),
        ({"is_noisy": [1, 0], "scores": [1, np.nan]}, "Scores must be finite, got nan in row 1"),
        ({"embeds": np.eye(3)}, "embeds must have one row for each of the 2 rows of selected, got 3"),
    ],
)
def test_selection_quality_rejects(inputs, message):
    with pytest.raises(InputError, match=message):
        compute("selection_quality", **{"selected": [1, 0], "references": [0, 1], **inputs})


# --- top_k_accuracy


def test_top_k_accuracy_of_four_rows_by_hand():
    logits = [[3, 2, 1], [3, 2, 1], [3, 2, 1], [1, 1, 1]]
    figures = compute("top_k_accuracy", predictions=logits, references=[0, 1, 2, 1], top_k=(1, 2, 3, 9))
    # Of equal logits the lower class comes first: class 1 is second in the last row.
    assert figures == {"top_1_accuracy": 0.25, "top_2_accuracy": 0.75, "top_3_accuracy": 1, "top_9_accuracy": 1}
    assert compute("top_k_accuracy", predictions=logits, references=[0, 1, 2, 1], top_k=2) == {"top_2_accuracy": 0.75}


@pytest.mark.parametrize("seed", range(3))
def test_top_k_accuracy_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(200, 12)).astype(np.float32), rng.integers(12, size=200)
    metric = load_metric("top_k_accuracy")
    for rows in np.array_split(np.arange(200), 7):  # as an evaluation loop does
        metric.add_batch(predictions=torch.from_numpy(logits[rows]), references=torch.from_numpy(labels[rows]))
    figures = metric.compute()
    assert figures["top_1_accuracy"] == accuracy_score(labels, logits.argmax(axis=1))
    assert figures["top_5_accuracy"] == top_k_accuracy_score(labels, logits, k=5, labels=range(12))
    tied = rng.integers(3, size=(200, 12))
    figures = compute("top_k_accuracy", predictions=tied, references=labels)
    assert figures["top_1_accuracy"] == np.mean(tied.argmax(axis=1) == labels)
    stable = np.argsort(-tied, axis=1, kind="stable")[:, :5]
    assert figures["top_5_accuracy"] == np.mean((stable == labels[:, None]).any(axis=1))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"predictions": [[1, 2], [1]]},
            r"predictions must be logits of the same classes in every row, got .* \[1, 2\]",
        ),
        ({"predictions": [[1, 2], [1, np.nan]]}, "predictions must be numbers, got NaN in row 1"),
        ({"references": [0, 2]}, r"references must lie in \[0, 2\), as many classes as logits, got 2 in row 1"),
        ({"references": [0, -1]}, r"references must lie in \[0, 2\), as many classes as logits, got -1 in row 1"),
        ({"top_k": [1, 0]}, r"top_k must be integers of at least 1, such as \(1, 5\), got 0"),
    ],
)
def test_top_k_accuracy_rejects(inputs, message):
    with pytest.raises(InputError, match=message):
        compute("top_k_accuracy", **{"predictions": [[1, 2], [2, 1]], "references": [1, 0], **inputs})


# --- dunn_index


def slow_dunn(rows, labels):
    pairs = [(i, j) for i in range(len(rows)) for j in range(i)]
    between = [np.linalg.norm(rows[i] - rows[j]) for i, j in pairs if labels[i] != labels[j]]
    within = [np.linalg.norm(rows[i] - rows[j]) for i, j in pairs if labels[i] == labels[j]]
    return min(between) / max(within)


def test_dunn_index_of_four_rows_by_hand():
    embeds = [[0, 0], [0, 2], [3, 0], [3, 1]]
    assert compute("dunn_index", embeds=embeds, references=[0, 0, 1, 1]) == {"dunn_index": 1.5}
    # One wrong label: the rows at (0, 2) and (3, 0) share a class, 2 away from the row at the origin.
    swapped = compute("dunn_index", embeds=embeds, references=[0, 1, 1, 1])["dunn_index"]
    assert swapped == pytest.approx(2 / 13**0.5)


@pytest.mark.parametrize("block_mb", [64, 0.01])
@pytest.mark.parametrize("seed", range(4))
def test_dunn_index_equals_every_pair_in_turn(seed, block_mb, monkeypatch):
    monkeypatch.setattr(dunn_index, "_BLOCK_MB", block_mb)
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 5], size=80)
    rows = (rng.normal(size=(80, 4)) + 4 * labels[:, None]).astype(np.float32)
    result = compute("dunn_index", embeds=rows, references=labels)["dunn_index"]
    assert result == pytest.approx(slow_dunn(rows, labels), rel=1e-5)
    assert compute("dunn_index", embeds=100 * rows, references=labels)["dunn_index"] == pytest.approx(result, rel=1e-5)


def test_dunn_index_where_a_distance_is_nothing():
    rows = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    copies = rows[[0, 0, 0, 1, 1]]
    assert compute("dunn_index", embeds=copies, references=[0, 0, 0, 1, 1])["dunn_index"] == float("inf")
    assert compute("dunn_index", embeds=copies, references=[0, 0, 1, 1, 1])["dunn_index"] == 0
    assert compute("dunn_index", embeds=rows[[0, 0]], references=[0, 1])["dunn_index"] == 0


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"references": [1, 1]}, "needs at least two, got class 1 alone"),
        ({"references": [-1, 1]}, "labels must be 0 or more, got -1 in row 0"),
        ({"embeds": [[1.0, 2], [np.inf, 0]]}, "embeds must be finite; row 1 is not"),
        ({"embeds": [[1.0, 2], [1.0]]}, "embeds must have rows of one length"),
    ],
)
def test_dunn_index_rejects(inputs, message):
    with pytest.raises(InputError, match=message):
        compute("dunn_index", **{"embeds": [[0.0, 1], [1, 0]], "references": [0, 1], **inputs})
