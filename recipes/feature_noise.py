"""Measure selections from ready CLIP embeddings with wrong labels beside random rows and cleanlab.

    python recipes/feature_noise.py $CLIPSELECT_DATA/clip-features-food101/features.npz
    python recipes/feature_noise.py features.npz --noise pairwise --seeds 0 1 2

The file holds `train_image_embeds`, `train_labels`, `test_image_embeds`, `test_labels`, `class_text_embeds` and, where some classes
have no text, `class_has_text`; those classes are left out. For each seed a fifth of the training labels is made wrong. Prints, as
means over the seeds: the share of wrong labels among the kept rows for each ratio, the accuracy on the untouched test rows of a
logistic regression trained on the kept rows (C = 1, and C = 100, which learns wrong labels by heart), and how well the score finds
wrong labels (AUROC). cleanlab ranks by its normalized margin, with out-of-fold probabilities of a logistic regression on the same
embeddings; it needs the extra `peers` (pip install "hf_clipselect[peers]").
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from hf_clipselect import InputError, select_embeddings
from hf_clipselect.robustness import add_label_noise
from hf_clipselect.selection import selection_count, top_k


RATIOS = (0.2, 0.3, 0.5, 0.8)
PROBES = (1, 100)


def main() -> int:
    arguments = parse_arguments()
    methods = {
        "random": by_random,
        **{name: ours(name) for name in ("diverse", "clean", "released")},
        "cleanlab": by_cleanlab,
    }
    if arguments.without_cleanlab:
        del methods["cleanlab"]
    try:
        data = Features(Path(arguments.features))
        rows = {
            name: [measure(data, method, seed, arguments) for seed in arguments.seeds]
            for name, method in methods.items()
        }
    except (OSError, KeyError, ImportError, InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_table(rows, arguments)
    if arguments.output_json:
        settings = {name: getattr(arguments, name) for name in ("noise", "noise_rate", "seeds")}
        Path(arguments.output_json).write_text(json.dumps({**settings, "runs": rows}, indent=2) + "\n")
    return 0


class Features:
    """Embeddings of the classes that have a text, with labels renumbered among them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            classes = np.flatnonzero(arrays["class_has_text"]) if "class_has_text" in arrays else None
            texts = arrays["class_text_embeds"].astype(np.float32)
            classes = np.arange(len(texts)) if classes is None else classes
            self.texts = texts[classes]
            self.images, self.labels = self._split(arrays, "train", classes)
            self.test_images, self.test_labels = self._split(arrays, "test", classes)

    @staticmethod
    def _split(arrays: np.lib.npyio.NpzFile, split: str, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = arrays[f"{split}_labels"]
        rows = np.isin(labels, classes)
        return arrays[f"{split}_image_embeds"][rows].astype(np.float32), np.searchsorted(classes, labels[rows])


# What a method gives: kept rows per ratio, and a score that is higher where a label is right.
Kept = tuple[dict[float, np.ndarray], np.ndarray]


def ours(objective: str) -> Callable[[Features, np.ndarray, int], Kept]:
    def select(data: Features, labels: np.ndarray, seed: int) -> Kept:
        result = select_embeddings(
            data.images, data.texts, labels, selection_ratio=list(RATIOS), objective=objective, seed=seed
        )
        alignment = "sas" if result.objective.alignment == "cosine" else "margin"
        return {ratio: result.at(ratio).selected for ratio in RATIOS}, np.array(result.scores[alignment])

    return select


def by_random(data: Features, labels: np.ndarray, seed: int) -> Kept:
    # A stream of its own: the seed alone draws the very rows that have wrong labels.
    return kept_by(np.random.default_rng([seed, 1]).random(len(labels)))


def by_cleanlab(data: Features, labels: np.ndarray, seed: int) -> Kept:
    try:
        from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f'cleanlab is not installed ({error}): pip install "hf_clipselect[peers]", or pass --without_cleanlab.'
        ) from None
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(
        LogisticRegression(max_iter=2000), data.images, labels, cv=folds, method="predict_proba"
    )
    return kept_by(get_label_quality_scores(labels, probabilities, method="normalized_margin"))


def kept_by(scores: np.ndarray) -> Kept:
    return {ratio: top_k(scores, selection_count(ratio, len(scores))) for ratio in RATIOS}, scores


def measure(
    data: Features, method: Callable[[Features, np.ndarray, int], Kept], seed: int, arguments: argparse.Namespace
) -> dict[str, object]:
    labels = add_label_noise(data.labels, len(data.texts), rate=arguments.noise_rate, seed=seed, kind=arguments.noise)
    wrong = labels != data.labels
    kept, scores = method(data, labels, seed)
    return {
        "seed": seed,
        "noise": {str(ratio): float(wrong[rows].mean()) for ratio, rows in kept.items()},
        "probe": {f"{ratio}, C={c}": probe(data, labels, rows, c) for ratio, rows in kept.items() for c in PROBES},
        "auroc": float(roc_auc_score(~wrong, scores)),
    }


def probe(data: Features, labels: np.ndarray, rows: np.ndarray, c: float) -> float:
    model = LogisticRegression(C=c, max_iter=5000).fit(data.images[rows], labels[rows])
    return float(model.score(data.test_images, data.test_labels))


def print_table(rows: dict[str, list[dict]], arguments: argparse.Namespace) -> None:
    kind = "another class" if arguments.noise == "symmetric" else "the next class"
    print(
        f"{arguments.noise_rate:.0%} of the labels moved to {kind}, means of {len(arguments.seeds)} seeds, in percent\n"
    )
    names = [f"{ratio}, C={c}" for c, ratio in ((1, 0.2), (100, 0.3), (100, 0.8))]
    wrong, probes = (f"wrong kept at {ratio}" for ratio in RATIOS), (f"probe {name}" for name in names)
    print(f"| method | {' | '.join(wrong)} | {' | '.join(probes)} | AUROC |")
    print("|---" * (2 + len(RATIOS) + len(names)) + "|")
    for method, runs in rows.items():
        values = [np.mean([run["noise"][str(ratio)] for run in runs]) for ratio in RATIOS]
        values = [f"{100 * value:.2f}" for value in values]
        values += [f"{100 * np.mean([run['probe'][name] for run in runs]):.1f}" for name in names]
        print(f"| {method} | {' | '.join(values)} | {100 * np.mean([run['auroc'] for run in runs]):.2f} |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="NPZ file of embeddings, labels and texts.")
    parser.add_argument(
        "--noise", choices=("symmetric", "pairwise"), default="symmetric", help="Where labels move to."
    )
    parser.add_argument("--noise_rate", type=float, default=0.2, help="Share of the labels to make wrong.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--without_cleanlab", action="store_true", help="Leave the row of cleanlab out.")
    parser.add_argument("--output_json", help="File for the numbers.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
