"""Is a selection worth it? The same training on its rows, on as many random rows, and on all rows.

Shapes: S seeds, N rows of a set that is tested on.
"""

import copy
import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list

from ...data import LabelledImages
from ...errors import InputError
from ...runtime.hub_ids import hide_paths
from .arm_records import ArmRecords, ArmResult
from .eval_sets import EvalSet
from .fitting import SetResult, fit_and_test, image_side
from .paired_difference import clear_differences, paired_difference
from .selected_rows import SelectedRows, pick_rows
from .training_arguments import ARMS, ClassifierArguments, ClassifierTrainingArguments


logger = logging.getLogger(__name__)

SELECTED = "selected"
# Another stream than `default_rng(seed)`, by which `add_label_noise` of the same seed would pick the very same rows.
_STREAM = 14

# What does not change a training: where it writes, what it tells, and which rows, which are told by their content.
_NO_MATTER = (
    *("output_dir", "hub_", "push_to_hub", "report_to", "log", "disable_tqdm", "save_", "resume", "run_name"),
    *("project", "trackio", "dataloader_num", "dataloader_p", "eval_", "per_device_eval", "local_rank", "do_"),
)
_OF_ROWS = (
    *("dataset_", "selection_ratio", "train_split_name", "image_column", "label_column", "allow_outside", "eval_"),
    *("max_train_samples", "max_eval_samples", "overwrite", "compare_", "source_dataset"),
)


class Comparison:
    """The trainings of `compare_with` beside one that is a run of its own.

    Of each seed one training on the selected rows, and one on each arm: as many random rows, drawn without quotas of
    classes by that seed, or all rows that the selection could choose from. The network, its first weights, the
    schedule and the number of passes over the rows are the same.

    Args:
        rows ([`SelectedRows`]): What is compared.
        eval_sets (`Sequence[EvalSet]`): What is tested on.
        arguments ([`ClassifierArguments`]): Network, augmentation, arms and number of seeds.
        training ([`ClassifierTrainingArguments`]): Schedule, and the first seed; the others are the next numbers. In
            its output folder lie the trainings that were made, which are the main process's.

    Raises:
        InputError: A set is the dataset that the selection was made from.
    """

    def __init__(
        self,
        rows: SelectedRows,
        eval_sets: Sequence[EvalSet],
        arguments: ClassifierArguments,
        training: ClassifierTrainingArguments,
    ) -> None:
        _check_test_rows(rows, eval_sets)
        self.rows, self.eval_sets, self.arguments, self.training = rows, eval_sets, arguments, training
        self.records = ArmRecords(Path(training.output_dir), _settings(rows, eval_sets, arguments, training))
        self.is_main = training.process_index == 0
        asked = not arguments.overwrite_output_dir
        self.has_begun: bool = _agreed(asked and self.is_main and self.records.are_there())

    def run(self, first: ArmResult) -> dict[str, Any]:
        """Make the trainings that have no record, and compare all of them.

        Args:
            first ([`ArmResult`]): The training on the selected rows by the first seed.

        Returns:
            `dict`: Plain JSON types: `seeds`; what is `equal` of all, "epochs" or "steps"; `arms` with the rows, steps
            and seconds by seed of each; and for each set in `eval` the `accuracy` of each arm by seed and, for arms
            other than the selected rows, the `difference` of these minus the arm, its `standard_error` and the two
            parts of this, as in [`PairedDifference`], and `is_clear`, of all arms and sets together, as in
            [`clear_differences`].

        Raises:
            InputError: A training diverged.
        """
        if self.is_main:
            self.records.begin()
            if self.records.read(SELECTED, self.training.seed) is None:
                self.records.write(SELECTED, self.training.seed, first)
        seeds = [self.training.seed + number for number in range(self.arguments.compare_seeds)]
        arms = [SELECTED, *(arm for arm in ARMS if arm in (self.arguments.compare_with or ()))]
        made: dict[str, list[ArmResult]] = {arm: [] for arm in arms}
        for seed in seeds:
            for arm in arms:
                result = _agreed(self.records.read(arm, seed) if self.is_main else None)
                made[arm].append(result or self._train(arm, seed))
        return {
            "seeds": seeds,
            "equal": "steps" if self.training.max_steps > 0 else "epochs",
            "arms": {arm: _facts(results) for arm, results in made.items()},
            "eval": _compared(made, list(first.is_right)),
        }

    def _train(self, arm: str, seed: int) -> ArmResult:
        train = arm_rows(self.rows, arm, seed)
        logger.info("training on %d rows: %s, seed %d", len(train.labels), ARMS.get(arm, "selected rows"), seed)
        seeded = copy.copy(self.training)
        seeded.seed = seed
        side = image_side(self.rows.selected)  # of other first rows the network might be another
        fitted = fit_and_test(train, self.eval_sets, self.arguments, seeded, side=side)
        result = arm_result(fitted.tested, len(train.labels), fitted.num_steps, fitted.seconds)
        if self.is_main:
            self.records.write(arm, seed, result)
        return result


def arm_rows(rows: SelectedRows, arm: str, seed: int) -> LabelledImages:
    """The rows that an arm learns.

    Args:
        rows ([`SelectedRows`]): What is compared.
        arm (`str`): `selected`, or one of `ARMS`.
        seed (`int`): Draws the random rows.

    Returns:
        [`LabelledImages`]: In the order of the source.
    """
    if arm == SELECTED:
        return rows.selected
    if arm == "full":
        return rows.candidates
    rng = np.random.default_rng([seed, _STREAM])
    drawn = rng.choice(len(rows.candidates.labels), size=len(rows.selected.labels), replace=False)
    return pick_rows(rows.candidates, np.sort(drawn))


def arm_result(tested: Sequence[SetResult], num_rows: int, num_steps: int, seconds: float | None) -> ArmResult:
    """What is kept of a training: how it did on each set, and as [`ArmResult`] has it."""
    right = {hide_paths(result.name): result.is_right for result in tested}
    return ArmResult(num_rows, num_steps, None if seconds is None else round(seconds, 1), right)


def _settings(
    rows: SelectedRows,
    eval_sets: Sequence[EvalSet],
    arguments: ClassifierArguments,
    training: ClassifierTrainingArguments,
) -> dict[str, Any]:
    """All that decides what the trainings give, but for the arm and the seed of each."""
    of_rows = {
        "source": rows.candidates.source.content_id,
        "source_fingerprint": rows.candidates.source.fingerprint,
        "candidates": _hash(rows.candidates.source_index),
        SELECTED: _hash(rows.selected.source_index),
        "eval": {
            hide_paths(tested.name): f"{tested.source.fingerprint} {_hash(tested.targets, tested.classes)}"
            for tested in eval_sets
        },
    }
    network = {k: _plain(v) for k, v in dataclasses.asdict(arguments).items() if not k.startswith(_OF_ROWS)}
    schedule = {k: _plain(v) for k, v in training.to_dict().items() if not k.startswith(_NO_MATTER)}
    return {**of_rows, "network": network, "training": schedule, "processes": training.world_size}


def _check_test_rows(rows: SelectedRows, eval_sets: Sequence[EvalSet]) -> None:
    """Refuse to test on the rows that are trained on: a dataset without splits gives them for every split."""
    for tested in eval_sets:
        if tested.source.fingerprint == rows.fingerprint:
            raise InputError(
                f"{hide_paths(tested.name)} holds the rows that were selected from, and a network that learns all of "
                "them can't be tested on them; name other rows with --eval_dataset."
            )


def _agreed(value: Any) -> Any:
    """The value of the main process, on every process; it can be pickled."""
    [value] = broadcast_object_list([value])
    return value


def _facts(results: Sequence[ArmResult]) -> dict[str, Any]:
    return {
        "num_rows": results[0].num_rows,
        "num_steps": results[0].num_steps,
        "seconds": [result.seconds for result in results],
    }


def _compared(made: dict[str, list[ArmResult]], names: Sequence[str]) -> dict[str, Any]:
    right = {
        name: {arm: np.stack([result.is_right[name] for result in results]) for arm, results in made.items()}
        for name in names
    }
    compared: dict[str, Any] = {
        name: {
            "num_rows": of_arms[SELECTED].shape[1],
            **{arm: {"accuracy": values.mean(axis=1).tolist()} for arm, values in of_arms.items()},
        }
        for name, of_arms in right.items()
    }
    others = [(name, arm) for name in names for arm in made if arm != SELECTED]
    differences = [paired_difference(right[name][SELECTED], right[name][arm]) for name, arm in others]
    for (name, arm), found, is_clear in zip(others, differences, clear_differences(differences), strict=True):
        compared[name][arm] |= {
            "difference": found.difference,
            "standard_error": found.standard_error,
            "is_clear": is_clear,
            "standard_error_of_test_rows": found.of_test_rows,
            "standard_error_of_seeds": found.of_seeds,
        }
    return compared


def _hash(*arrays: np.ndarray) -> str:
    content = hashlib.sha256()
    for array in arrays:
        content.update(str(array.shape).encode() + np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return content.hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
