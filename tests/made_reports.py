"""Score tables and reports made by hand."""

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Value

from hf_clipselect.results.run_report import summarize
from hf_clipselect.results.scores_table import column_values
from hf_clipselect.selection import column_suffix


NAN = float("nan")


def scores_table(names, *, labels, predicted, sas, margin, sds, selected, source_index=None):
    """The scores table; a prediction of None marks a row that could not be read."""
    columns = {
        "source_index": list(range(len(labels))) if source_index is None else source_index,
        "label": labels,
        "predicted_label": predicted,
        "label_agrees": [None if p is None else bool(p == y) for p, y in zip(predicted, labels, strict=True)],
        "sas": sas,
        "margin": margin,
        "sds": sds,
        "duplicate_group": [None] * len(labels),
    }
    classes = ClassLabel(names=names)
    types = {
        "source_index": Value("int64"),
        "label": classes,
        "predicted_label": classes,
        "label_agrees": Value("bool"),
        "duplicate_group": Value("int64"),
    }
    types |= dict.fromkeys(("sas", "margin", "sds"), Value("float32"))
    for suffix, rows in selected.items():
        columns |= {
            f"selection_score_{suffix}": margin,
            f"selected_{suffix}": [r in rows for r in range(len(labels))],
        }
        types |= {f"selection_score_{suffix}": Value("float32"), f"selected_{suffix}": Value("bool")}
    kept = next(iter(selected.values()))
    columns["reason"] = [
        "not readable" if p is None else "kept" if r in kept else f"why {r}" for r, p in enumerate(predicted)
    ]
    types["reason"] = Value("string")
    features = Features({name: types[name] for name in columns})
    # In one piece: `Dataset.from_dict` looks at every value of a list, which takes long for a million of them.
    arrays = [pa.array(columns[name], features[name].pa_type) for name in features]
    return Dataset(pa.table(arrays, features.arrow_schema), info=DatasetInfo(features=features))


def with_noise(scores, wrong, clean):
    """The table with the columns of a noise model; a class of None marks a row that could not be read."""
    scores = scores.add_column("label_error_probability", np.asarray(wrong, np.float32), feature=Value("float32"))
    return scores.add_column("clean_label", clean, feature=scores.features["label"])


def with_random_noise(scores, seed=0, highest=1.0):
    """Probabilities that are higher where the prediction is another class, which is then the proposal above a half."""
    labels, predicted = column_values(scores, "label"), column_values(scores, "predicted_label")
    wrong = np.random.default_rng(seed).uniform(0, 0.4, len(labels)).astype(np.float32)
    wrong[labels != predicted] += np.float32(0.55)
    wrong = np.where(predicted < 0, NAN, wrong * highest).astype(np.float32)
    clean = np.where(wrong > 0.5, predicted, labels)
    return with_noise(
        scores, wrong, [None if p < 0 else c for c, p in zip(clean.tolist(), predicted.tolist(), strict=True)]
    )


def random_table(num_rows, names, ratios=(0.3,), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_rows) % len(names)
    predicted = np.where(rng.random(num_rows) < 0.7, labels, rng.integers(0, len(names), num_rows))
    margin = rng.normal(size=num_rows)
    ranks = np.argsort(-margin)
    return scores_table(
        names,
        labels=labels.tolist(),
        predicted=predicted.tolist(),
        sas=rng.random(num_rows),
        margin=margin,
        sds=rng.random(num_rows),
        selected={column_suffix(ratio): set(ranks[: int(ratio * num_rows)].tolist()) for ratio in ratios},
    )


def run_entries(**changes):
    entries = {
        "source": {
            "name": "me/pets",
            "config_name": None,
            "split": "train",
            "revision": None,
            "num_rows": np.int64(16),
        },
        "model": {"name": "", "revision": None, "embed_dim": 8, "prompt_template": ["A photo of a {}."]},
        "objective": {"name": "clean", "diversity_weight": np.float32(0.5), "ratio_weight": 2.0},
        "adaptation": {"mode": "auto", "kept": True, "reason": "Better by 3 points.", "standard_error": NAN},
        "arguments": {"selection_ratio": (0.5, 0.25), "push_to_hub": False},
        "captions": None,
        "versions": {"hf_clipselect": "0.1.0"},
        "seed": 42,
        "seconds": {"encode": 1.25, "score": 0.5},
        "warnings": ["The model is small & odd."],
    }
    return {**entries, **changes}


def summarize_table(scores, ratios=(0.3,), unreadable=None, trust=None, share_error=None, **changes):
    names = scores.features["label"].names
    return summarize(
        scores,
        class_names=names,
        ratios=ratios,
        plain_agrees=column_values(scores, "predicted_label") == column_values(scores, "label"),
        run=run_entries(**changes),
        unreadable=unreadable or {},
        trust=trust,
        share_error=share_error,
    )


def make_eight_rows():
    return scores_table(
        ["cat", "dog", "bird"],
        labels=[0, 0, 0, 0, 1, 1, 1, 1],
        predicted=[0, 0, 1, None, 1, 1, 2, 1],
        sas=[0.875, 0.75, 0.25, NAN, 0.75, 0.625, 0.125, 0.5],
        margin=[0.5, 0.375, -0.25, NAN, 0.625, 0.125, -0.5, 0.0625],
        sds=[1, 1, 1, NAN, 1, 1, 1, 1],
        selected={"50": {0, 1, 4, 5}, "12_5": {4}},
        source_index=[0, 2, 4, 6, 8, 10, 12, 14],
    )


def make_eight_noisy_rows():
    """Rows 2, 5 and 6 are probably wrong, the last but one most; by CLIP rows 2 and 6 are."""
    return with_noise(
        make_eight_rows(),
        wrong=[0.125, 0, 0.75, NAN, 0.25, 0.625, 0.875, 0.375],
        clean=[0, 0, 1, None, 1, 2, 2, 1],
    )


def make_eight_report():
    return summarize(
        make_eight_rows(),
        class_names=["cat", "dog", "bird"],
        ratios=[0.5, 0.125],
        plain_agrees=np.array([1, 0, 0, 0, 1, 1, 0, 0], dtype=bool),
        run=run_entries(),
        unreadable={6: "Cannot read image: truncated."},
    )
