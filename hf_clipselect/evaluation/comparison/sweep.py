"""Runs methods x ratios x settings x seeds; what is in the folder already is not computed again."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from ...config.arguments import EMBEDDED_DATASET
from ...errors import InputError
from ..cost import Cost, measured
from ..metrics import load_metric
from ..robustness.label_noise import NoiseKind
from .cells import Cells, code_digest
from .digits_setting import DigitsSetting
from .features_setting import FeaturesSetting, ReadyFeatures
from .images_setting import ImagesSetting, LoadedImages
from .known_methods import FULL, METHODS, Method, Selected
from .setting import Damage, Setting, describe_setting
from .sweep_arguments import SweepArguments
from .tuning import tuned


logger = logging.getLogger(__name__)

CELLS_FOLDER = "cells"
# Wrong labels, damaged images and balance of what is kept; figures of the metric `selection_quality`.
_QUALITY = ("num_kept", "noise_share", "noise_kept", "corrupted_share", "class_max_min", "class_entropy")

Row = dict[str, Any]


def run_sweep(arguments: SweepArguments, settings: Sequence[Setting] | None = None) -> list[Row]:
    """Run a sweep, or what is left of it.

    Args:
        arguments ([`SweepArguments`]): What to run, and the folder.
        settings (`Sequence[Setting]`, *optional*): Those of the arguments, from [`settings_of`], for callers that go
            on with them: what they have computed is theirs.

    Returns:
        `list[dict]`: One row for each setting, method, ratio, seed and model, in that order; the method that keeps
            all rows comes once, with the ratio 1.

    Raises:
        InputError: The data can't be read, or a method can't serve them; raised before anything is computed.
    """
    settings = settings_of(arguments) if settings is None else settings
    for setting in settings:
        for name in arguments.methods:
            if check := METHODS[name].check:
                check(setting, arguments.selection_ratio)
    rows: list[Row] = []
    steps = [(setting, name) for setting in settings for name in arguments.methods]
    for done, (setting, name) in enumerate(steps, start=1):
        ratios = [1.0] if name == FULL else arguments.selection_ratio
        rows += measure(setting, METHODS[name], ratios)
        described = describe_setting(setting.name, setting.damage)
        logger.info("%d of %d: %s, seed %d, %s", done, len(steps), described, setting.seed, name)
    logger.info("%d results were computed, %d were there.", settings[0].cells.num_stored, settings[0].cells.num_found)
    return sorted(rows, key=lambda row: _order(row, arguments))


def settings_of(arguments: SweepArguments) -> list[Setting]:
    """The data of a sweep: one setting for each damage and seed.

    Args:
        arguments ([`SweepArguments`]): Of the sweep.

    Returns:
        `list[Setting]`: They share the cells in its folder, and know the settings of the same damage that methods are
            tuned on, where one of the methods is.

    Raises:
        InputError: The data can't be read.
    """
    is_tuned = any(METHODS[name].grid for name in arguments.methods)
    settings = _settings(arguments, [*arguments.seeds, *(arguments.tuning_seeds if is_tuned else [])])
    reporting = [setting for setting in settings if setting.seed in arguments.seeds]
    others = [setting for setting in settings if setting.seed not in arguments.seeds]
    for setting in reporting:
        setting.tuning = [other for other in others if replace(other.damage, seed=setting.seed) == setting.damage]
    return reporting


def _settings(arguments: SweepArguments, seeds: Sequence[int]) -> list[Setting]:
    options: dict[str, Any] = {
        "cells": Cells(Path(arguments.output_dir) / CELLS_FOLDER),
        "num_val_rows": arguments.num_val_rows,
        "max_gigabytes": arguments.max_gigabytes,
        "class_balance": arguments.class_balance,
    }
    # Kinds in NOISE_KINDS, or the arguments would be refused; without wrong labels all kinds are one.
    kinds = cast(list[NoiseKind], arguments.noise_kind)
    noises = [(kind, rate) for rate in arguments.noise_rate for kind in (kinds if rate else kinds[:1])]
    damages = [
        Damage(noise_kind, noise_rate, corruption_rate, arguments.corruption_severity, seed)
        for noise_kind, noise_rate in noises
        for corruption_rate in arguments.corruption_rate
        for seed in seeds
    ]
    name = os.path.expandvars(arguments.dataset_name)
    if "$" in name:
        raise InputError(
            f"--dataset_name {arguments.dataset_name} names a variable that is not set; set it to a folder."
        )
    if name != EMBEDDED_DATASET and not name.endswith(".npz"):
        loaded = LoadedImages(arguments, options["cells"])
        return [ImagesSetting(damage, loaded, Path(arguments.output_dir), **options) for damage in damages]
    if given := arguments.set_for_images():
        raise InputError(
            f"--{given[0]} is for a dataset of images, by its Hub id or its folder, and --dataset_name "
            f"{arguments.dataset_name} is none; leave it out."
        )
    if name == EMBEDDED_DATASET:
        return [DigitsSetting(damage, **options) for damage in damages]
    features = ReadyFeatures(Path(name))
    return [FeaturesSetting(damage, features, arguments.probe_c, **options) for damage in damages]


def kept_rows(setting: Setting, method: Method, ratios: list[float]) -> dict[float, np.ndarray]:
    """What a method keeps, from the cells where it is there.

    Args:
        setting ([`Setting`]): What it selects from.
        method ([`Method`]): Which one.
        ratios (`list[float]`): Fractions of the rows to keep.

    Returns:
        `dict[float, np.ndarray]`: Ratio -> row numbers, int64, rising.
    """
    return {ratio: values["rows"] for ratio, values in _selections(setting, method, ratios).items()}


def _selections(setting: Setting, method: Method, ratios: list[float]) -> dict[float, dict[str, np.ndarray]]:
    stored = {ratio: setting.cells.find(_selection_key(setting, method, ratio)) for ratio in ratios}
    found = {ratio: values for ratio, values in stored.items() if values is not None}
    missing = [ratio for ratio in ratios if ratio not in found]
    if missing:
        shared = method.shared_cost(setting)
        # As many threads as cores would decide last digits, and whose CPU seconds are compared.
        with threadpool_limits(1), measured() as own:
            selected = method.select(setting, missing)
        for ratio in missing:
            found[ratio] = _described(selected, ratio, setting, shared + own)
            setting.cells.store(_selection_key(setting, method, ratio), found[ratio])
    return found


def measure(setting: Setting, method: Method, ratios: list[float]) -> Iterator[Row]:
    """Rows of one method in one setting.

    Args:
        setting ([`Setting`]): What it selects from.
        method ([`Method`]): Which one.
        ratios (`list[float]`): Fractions of the rows to keep.

    Returns:
        `Iterator[dict]`: One row for each ratio and model.
    """
    chosen = tuned(setting, method, ratios, kept_rows=kept_rows, accuracy=_accuracy)
    variants = {variant.told: variant for variant in chosen.values()}
    selections = {
        told: _selections(setting, variant, [ratio for ratio in ratios if told in _told(chosen, ratio)])
        for told, variant in variants.items()
    }
    damage = setting.damage
    for ratio in ratios:
        for model in setting.models:
            variant = chosen[ratio, model]
            found = selections[variant.told]
            figures = setting.figures(model, found[ratio]["rows"])
            yield {
                "data": setting.name,
                "noise_kind": damage.noise_kind,
                "noise_rate": damage.noise_rate,
                "corruption_rate": damage.corruption_rate,
                "corruption_severity": damage.corruption_severity,
                "method": method.name,
                "selection_ratio": ratio,
                "seed": damage.seed,
                "model": model,
                "num_test_rows": setting.num_test_rows,
                **variant.columns(setting),
                "accuracy": figures.pop("accuracy"),
                **{name: value.item() for name, value in found[ratio].items() if name not in ("rows", "key")},
                **figures,
            }


def _told(chosen: dict[tuple[float, str], Method], ratio: float) -> set[str]:
    return {variant.told for (of_ratio, _), variant in chosen.items() if of_ratio == ratio}


def _selection_key(setting: Setting, method: Method, ratio: float) -> dict[str, Any]:
    return {
        "what": "selection",
        "content": setting.content,
        "seed": setting.seed,
        "ratio": ratio,
        "num_val_rows": setting.num_val_rows if method.name == "glister" else None,
        **(setting.proxy_key if method.needs_proxy else {"proxy": None}),
        "class_balance": setting.class_balance,
        "code": code_digest(),
        **method.key(),
    }


def _described(selected: Selected, ratio: float, setting: Setting, cost: Cost) -> dict[str, np.ndarray]:
    """The kept rows, and what is known of them because the clean ones are."""
    rows = selected.rows[ratio]
    figures = load_metric("selection_quality").compute(
        selected=np.isin(np.arange(setting.num_rows), rows),
        references=setting.labels,
        is_noisy=setting.is_noisy,
        is_corrupted=setting.is_corrupted,
    )
    values = {"rows": rows, **{name: figures[name] for name in _QUALITY}}
    values["noise_auroc"] = _auroc(setting.is_noisy, selected.scores)
    return {name: np.asarray(value) for name, value in {**values, **vars(cost)}.items()}


def _auroc(is_noisy: np.ndarray, scores: np.ndarray | None) -> float:
    """How well low scores find wrong labels; NaN without scores or wrong labels."""
    if scores is None or not is_noisy.any():
        return float("nan")
    scored = np.isfinite(scores)
    return float(roc_auc_score(~is_noisy[scored], scores[scored]))


def _accuracy(setting: Setting, model: str, rows: np.ndarray) -> float:
    return setting.figures(model, rows)["accuracy"]


def _order(row: Row, arguments: SweepArguments) -> tuple[Any, ...]:
    noise = row["noise_rate"], arguments.noise_kind.index(row["noise_kind"])
    place = arguments.methods.index(row["method"])
    return *noise, row["corruption_rate"], row["model"], place, row["selection_ratio"], row["seed"]
