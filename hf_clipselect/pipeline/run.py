"""A run on images, from arguments to a published subset: prepare, the stages, report, write, publish."""

import logging
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..config.arguments import Arguments
from ..data import LabelledImages
from ..data.places import hub_place
from ..errors import InputError, PushError, RunError
from ..hub import Destination, check_is_not_source, publish
from ..results.run_report import summarize, with_sizes
from ..results.saved_selection import published_report
from ..results.selection_result import SelectionResult
from ..runtime.failures import during, explained_failures
from ..runtime.launch import make_accelerator
from ..scores.targets import Captions, Targets
from ..selection import Size
from .prepare_dataset import Passed, prepare_dataset
from .prepared import ImageInputs, Prepared
from .provenance import describe_run
from .read_stream import rows_to_write
from .run_log import collected_warnings
from .stages import Outcome, run_stages


logger = logging.getLogger(__name__)


def run_selection(arguments: Arguments, passed: Passed | None = None) -> SelectionResult:
    """Run a selection from checked arguments: what the command line and `select_dataset` share.

    Knobs of the objective that are `None` are filled from its preset. All that the run makes is in
    `arguments.run.output_dir` if that is not `None`. Raises `InputError` as `select_dataset`, or where the Hub would
    refuse the push; `RunError` where the machine failed (no memory, no disk, a process that is gone), and the same
    call goes on from what is in the folder; `PushError` where the Hub can't be reached, or fails time after time, and
    the results are in the folder.
    """
    seconds: dict[str, float] = {}
    place, run = arguments.run.output_dir, arguments.run
    with explained_failures(None if place is None else Path(place)), ExitStack() as stack:
        accelerator = make_accelerator(use_cpu=run.use_cpu, report_to=run.report_to, logging_dir=place)
        # Before warnings are collected for the report: those about the Hub do not describe the selection.
        destination = _check_destination(arguments, accelerator)
        warnings = stack.enter_context(collected_warnings())
        prepared = prepare_dataset(
            arguments, passed or Passed(), accelerator=accelerator, stack=stack, seconds=seconds
        )
        outcome = run_stages(prepared, seconds)
        description = _describe(prepared, outcome)
        report = _report(outcome, description, asked=prepared.sizes, seconds=seconds, warnings=warnings)
        images = prepared.inputs.images.dataset if prepared.inputs.read is None else None
        result = replace(outcome.result, report=report, images=images)
        if accelerator.is_main_process and place is not None:  # nobody would see what a temporary folder holds
            _write(prepared, result, outcome, description)
        # The other processes end here: they would time out while the main one pushes.
        accelerator.wait_for_everyone()
        if destination is not None and accelerator.is_main_process:
            _publish(prepared, destination, report)
        return result


def _check_destination(arguments: Arguments, accelerator: Accelerator) -> Destination | None:
    """Where the results go to on the Hub; the main process asks, and all stop if the answer is no."""
    if not arguments.hub.push_to_hub:
        if arguments.hub.hub_dataset_id is not None or arguments.hub.hub_model_id is not None:
            logger.info("Nothing is pushed to the Hub without --push_to_hub.")
        return None
    source = hub_place(arguments.data.dataset_name)
    check_is_not_source(arguments.hub.hub_dataset_id, source.repo if source else arguments.data.dataset_name)
    destination, problem = Destination.from_arguments(arguments.hub), None
    if accelerator.is_main_process:
        try:
            destination.check()
        except (InputError, PushError) as error:
            problem = error
    [problem] = broadcast_object_list([problem])
    if problem is not None:
        raise problem
    return destination


def _describe(prepared: Prepared[ImageInputs], outcome: Outcome) -> dict[str, Any]:
    return describe_run(
        prepared.arguments,
        prepared.objective,
        prepared.inputs.images,
        prepared.inputs.backbone,
        prepared.inputs.batch_size,
        outcome.adapted.adaptation,
        _describe_captions(outcome.rows.targets, num_captions=outcome.rows.features.texts.shape[1]),
    )


def _describe_captions(targets: Targets, *, num_captions: int) -> dict[str, int] | None:
    if not isinstance(targets, Captions):
        return None
    return {
        "num_captions": num_captions,
        "num_references": len(targets.references),
        "num_clusters": len(targets.cell_numbers),
    }


def _report(
    outcome: Outcome,
    description: dict[str, Any],
    *,
    asked: tuple[Size, ...],
    seconds: dict[str, float],
    warnings: list[str],
) -> dict[str, Any]:
    result, rows = outcome.result, outcome.rows
    plain_agrees = np.zeros(len(result.scores), dtype=bool)
    plain_agrees[rows.numbers] = outcome.adapted.plain.predicted == rows.targets.labels
    told, noise = description["arguments"], outcome.adapted.plain.noise
    if result.ratios != asked:
        told = with_sizes(told, result.ratios)  # the report names all that it describes, config.yaml those asked for
    return summarize(
        result.scores,
        class_names=result.scores.features["label"].names,
        ratios=result.ratios,
        plain_agrees=plain_agrees,
        unreadable=rows.unreadable,
        trust=outcome.trust,
        share_error=None if noise is None else noise.share_error,
        run={**description, "arguments": told, "seconds": seconds, "warnings": warnings, **asdict(outcome.checks)},
    )


def _write(
    prepared: Prepared[ImageInputs], result: SelectionResult, outcome: Outcome, description: dict[str, Any]
) -> None:
    # The settings are written last: in a folder that a killed run left, they always belong to the results.
    folder = prepared.inputs.folder
    config = folder.read_config()
    if not {"adaptation", "identity"} <= config.keys():
        raise RunError(
            f"{folder.path} was removed or changed while the run was using it; the same command starts again."
        )
    record = {key: config[key] for key in ("adaptation", "identity")}
    folder.write_config(record)
    with during("write"), _images_to_write(prepared, result, outcome) as images:
        scores_only = prepared.arguments.hub.scores_only
        folder.write_results(result, images, outcome.rows.unreadable, scores_only=scores_only, places=outcome.map)
    if not images.has_captions:
        description["source"]["class_names"] = images.class_names
    folder.write_config({**description, **record})


def _images_to_write(
    prepared: Prepared[ImageInputs], result: SelectionResult, outcome: Outcome
) -> AbstractContextManager[LabelledImages]:
    inputs = prepared.inputs
    if inputs.read is None:
        return nullcontext(inputs.images)
    scores_only = prepared.arguments.hub.scores_only
    return rows_to_write(
        inputs.read, inputs.images, inputs.folder, result, scores_only=scores_only, places=outcome.map
    )


def _publish(prepared: Prepared[ImageInputs], destination: Destination, report: dict[str, Any]) -> None:
    folder = prepared.inputs.folder
    adapter = folder.adapter if report["adaptation"]["kept"] else None
    try:
        publish(published_report(report), folder.subset, destination, adapter=adapter)
    except (PushError, OSError) as error:  # OSError: a card that a full disk does not take
        raise PushError(f"{error} The results are in {folder.path}: the same command again pushes them.") from None
