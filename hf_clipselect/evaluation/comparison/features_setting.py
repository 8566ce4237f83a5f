"""Ready CLIP embeddings from a file: logistic regressions on them are trained on what is kept, or a small
residual network where the file has the images.

The file holds `train_image_embeds`, `train_labels`, `test_image_embeds`, `test_labels`, `class_text_embeds` and, where
some classes have no text, `class_has_text`; those classes are left out. `train_images` and `test_images` `(N, H, W,
3)`, uint8, are the images; with them `test_image_embeds` is not needed. With `train_judge_embeds` and
`test_judge_embeds` `(N, J)`, features of the same rows, the logistic regressions are trained on these, and not on the
embeddings that the methods select by.

Legend: N rows, C classes, D embedding dimension, J width of the features of a judge.
"""

from functools import cached_property, partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from sklearn.linear_model import LogisticRegression

from ...errors import InputError
from ...pipeline.embeddings import select_embeddings
from ...results.selection_result import SelectionResult
from ...scores.arrays import as_numpy, checked_embeds, checked_labels, row_lengths
from ..baselines import TrainingDynamics
from ..baselines.pixel_proxy import train_pixel_proxy
from .cells import code_digest, digest_of
from .setting import Damage, Setting
from .small_resnet import SmallResNet, accuracy_of, as_pixels, embed_images, train_small_resnet


_TEST_EMBEDS = "test_image_embeds"
_NEEDED = ("train_image_embeds", "train_labels", _TEST_EMBEDS, "test_labels", "class_text_embeds")
_JUDGE = ("train_judge_embeds", "test_judge_embeds")
_OPTIONAL = ("class_has_text", "train_images", "test_images", *_JUDGE)
_RESNET = "small_resnet"
_MAX_ITERATIONS = 5000


class ReadyFeatures:
    """Embeddings of the classes that have a text, labels renumbered; images are empty where the file has none, and the
    features of the judge are then the embeddings.

    Args:
        path (`Path`): The file.

    Raises:
        InputError: It can't be read, an array is missing, or the arrays don't fit together.
    """

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in (*_NEEDED, *_OPTIONAL) if name in file.files}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError(f"{path} can't be read as an .npz file of embeddings: {error}.") from None
        needed = [name for name in _NEEDED if name != _TEST_EMBEDS or "test_images" not in arrays]
        if missing := [name for name in needed if name not in arrays]:
            raise InputError(f"{path} lacks the arrays {', '.join(missing)}; it must hold {', '.join(needed)}.")
        self.name = path.stem if path.stem != "features" else path.resolve().parent.name
        try:
            texts = as_numpy(checked_embeds(arrays["class_text_embeds"], "class_text_embeds"))
            classes = _classes_with_text(arrays, len(texts))
            self.texts = texts[classes].astype(np.float32)
            self.embeds, self.labels, self.images = _rows_of(arrays, "train", texts, classes)
            self.test_embeds, self.test_labels, self.test_images = _rows_of(arrays, "test", texts, classes)
            self.judge_embeds, self.test_judge_embeds = _judge_embeds(arrays, self.embeds, self.test_embeds, classes)
            if ("train_images" in arrays) != ("test_images" in arrays):
                raise InputError("train_images and test_images belong together; give both or neither.")
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


class FeaturesSetting(Setting):
    """The training rows of a file, with wrong labels.

    Args:
        damage ([`Damage`]): What is done to them; there are no images to damage.
        features ([`ReadyFeatures`]): The file.
        probe_c (`list[float]`): Inverse regularisation of the logistic regressions.
        **options: As in [`Setting`].

    Raises:
        InputError: Images are to be damaged.
    """

    def __init__(self, damage: Damage, features: ReadyFeatures, probe_c: list[float], **options: Any) -> None:
        if damage.corruption_rate:
            raise InputError(
                f"--corruption_rate {damage.corruption_rate} damages images, and a file of embeddings has none; leave "
                "it out."
            )
        self._features = features
        self._probes = {f"probe C={c:g}": c for c in probe_c}
        self.models = tuple(self._probes) if len(features.images) == 0 else (_RESNET,)
        super().__init__(features.name, damage, features.labels, **options)

    @property
    def num_test_rows(self) -> int:
        return len(self._features.test_labels)

    @property
    def num_classes(self) -> int:
        return len(self._features.texts)

    @cached_property
    def is_corrupted(self) -> np.ndarray:
        return np.zeros(self.num_rows, dtype=bool)

    @cached_property
    def images_digest(self) -> str:
        return digest_of(self._features.embeds, self._features.texts, self._features.images)

    def embed(self) -> tuple[np.ndarray, np.ndarray]:
        return self._features.embeds, self._features.texts

    @property
    def proxy_name(self) -> str:
        return super().proxy_name if len(self._features.images) == 0 else f"{_RESNET} on pixels of 10 epochs"

    def train_proxy(self, rows: np.ndarray, val_rows: np.ndarray) -> TrainingDynamics:
        """Of the network that is trained on the kept rows, without shifts and mirrors, where the file has images."""
        images = self._features.images
        if len(images) == 0:
            return super().train_proxy(rows, val_rows)
        return train_pixel_proxy(
            partial(SmallResNet, self.num_classes),
            images[rows],
            self.labels[rows],
            val_pixels=images[val_rows] if len(val_rows) else None,
            as_inputs=as_pixels,
            seed=self.seed,
        )

    def select(self, *, objective: str, ratio: float, **knobs: Any) -> SelectionResult:
        return select_embeddings(
            self._features.embeds,
            self._features.texts,
            self.labels,
            selection_ratio=ratio,
            objective=objective,
            seed=self.seed,
            **knobs,
        )

    def train_and_test(self, model: str, rows: np.ndarray) -> float:
        given = self._features
        if model == _RESNET:
            return accuracy_of(self._train_resnet(rows), given.test_images, given.test_labels)
        return float(self._train_probe(model, rows).score(given.test_judge_embeds, given.test_labels))

    def embed_test_rows(self, model: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Input of the network's last layer; of a probe, which has nothing before them, the logits."""
        given = self._features
        if model == _RESNET:
            return embed_images(self._train_resnet(rows), given.test_images), given.test_labels
        return self._train_probe(model, rows).decision_function(given.test_judge_embeds), given.test_labels

    def _train_resnet(self, rows: np.ndarray) -> SmallResNet:
        images, labels = self._features.images[rows], self.labels[rows]
        return train_small_resnet(images, labels, num_classes=self.num_classes, seed=self.seed)

    def _train_probe(self, model: str, rows: np.ndarray) -> LogisticRegression:
        probe = LogisticRegression(C=self._probes[model], max_iter=_MAX_ITERATIONS)
        return probe.fit(self._features.judge_embeds[rows], self.labels[rows])

    def training_key(self, model: str, rows: np.ndarray) -> dict[str, Any]:
        given = self._features
        if model == _RESNET:
            file = "evaluation/comparison/small_resnet.py"
            inputs, seed = (given.images[rows], given.test_images), {"seed": self.seed}
        else:
            file = "evaluation/comparison/features_setting.py"
            inputs, seed = (given.judge_embeds[rows], given.test_judge_embeds), {}  # a probe draws nothing
        content = digest_of(*inputs, self.labels[rows], given.test_labels)
        return {"model": model, "code": code_digest(file), "rows": content, **seed}


def _classes_with_text(arrays: dict[str, np.ndarray], num_classes: int) -> np.ndarray:
    has_text = arrays.get("class_has_text", np.ones(num_classes, dtype=bool))
    if has_text.shape != (num_classes,) or has_text.dtype != bool or not has_text.any():
        raise InputError(
            f"class_has_text must be {num_classes} booleans, one per row of class_text_embeds, and not all of them "
            f"false; got {has_text.dtype} of shape {has_text.shape}."
        )
    return np.flatnonzero(has_text)


def _judge_embeds(
    arrays: dict[str, np.ndarray], embeds: np.ndarray, test_embeds: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the judge for the rows whose class has a text, or else the embeddings."""
    given = [name for name in _JUDGE if name in arrays]
    if not given:
        return embeds, test_embeds
    if len(given) == 1:
        raise InputError(f"{' and '.join(_JUDGE)} belong together; give both or neither.")
    judged = []
    for name, split in zip(_JUDGE, ("train", "test"), strict=True):
        features = as_numpy(checked_embeds(arrays[name], name))
        labels = arrays[f"{split}_labels"]
        row_lengths(features, name)
        if len(features) != len(labels):
            raise InputError(
                f"{name} must have a row for each of the {len(labels)} {split}_labels, got {len(features)}."
            )
        judged.append(features[np.isin(labels, classes)].astype(np.float32))
    if judged[0].shape[1] != judged[1].shape[1]:
        widths = " and ".join(str(features.shape[1]) for features in judged)
        raise InputError(f"{' and '.join(_JUDGE)} must share their last dimension, got {widths}.")
    return judged[0], judged[1]


def _rows_of(
    arrays: dict[str, np.ndarray], split: str, texts: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, labels and images of the rows whose class has a text; empty where the file has none."""
    num_classes, embed_dim = texts.shape
    embeds_name, images_name = f"{split}_image_embeds", f"{split}_images"
    embeds, images = np.empty((0, embed_dim)), np.empty((0, 0, 0, 3), dtype=np.uint8)
    if embeds_name in arrays:
        embeds = as_numpy(checked_embeds(arrays[embeds_name], embeds_name))
        if embeds.shape[1] != embed_dim:
            raise InputError(
                f"{embeds_name} and class_text_embeds must share their last dimension, got {embeds.shape[1]} and "
                f"{embed_dim}."
            )
        row_lengths(embeds, embeds_name)  # refuses rows without a direction
    num_rows = len(embeds) if embeds_name in arrays else len(arrays[images_name])
    try:
        labels = checked_labels(arrays[f"{split}_labels"], num_rows=num_rows, num_classes=num_classes)
    except InputError as error:
        raise InputError(f"{split}_labels: {error}") from None
    if images_name in arrays:
        images = arrays[images_name]
        if images.shape[:1] + images.shape[3:] != (num_rows, 3) or images.dtype != np.uint8:
            raise InputError(
                f"{images_name} must be uint8 of shape ({num_rows}, height, width, 3), got {images.dtype} of shape "
                f"{images.shape}."
            )
    rows = np.isin(labels, classes)
    embeds = embeds[rows] if len(embeds) else embeds
    images = images[rows] if len(images) else images
    return embeds.astype(np.float32), np.searchsorted(classes, labels[rows]), images
