"""Prepares a run on images: settings are checked, data and model loaded, the output folder opened."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import PreTrainedModel

from ..adapters.decision import check_peft_config
from ..adapters.peft_configs import read_peft_config
from ..adapters.pretrained import check_given, fetch_given
from ..config.arguments import Arguments, default_model
from ..data import LabelledImages, SourceImages, read_images
from ..data.decisions import CHOICES, Decision, checked_decisions, decisions_in_words
from ..data.image_stream import ImageStream
from ..data.places import read_storage_options
from ..data.prompts import class_prompts
from ..data.reference import read_reference
from ..data.row_facts import Listing, checked_class_quotas, read_facts
from ..data.source import load_source
from ..data.stream_rows import is_stream
from ..encoder.backbone import Backbone, load_backbone, warn_if_demonstration
from ..encoder.batch_size import resolve_batch_size
from ..encoder.cache import recorded_key
from ..encoder.image_quality import check_can_check_quality
from ..encoder.passed_model import copy_backbone
from ..encoder.precision import resolve_precision
from ..errors import InputError
from ..results.run_folder import RunFolder
from ..runtime.notices import NOT_IN_REPORT
from ..runtime.processes import Processes
from ..selection import Objective, Size, check_sizes, resolve_objective
from ..selection.objective import PRESETS
from .open_folder import open_folder, settle_identity
from .prepared import GivenRows, ImageInputs, Prepared, check_row_demands
from .provenance import identity, identity_before_reading
from .read_stream import find_stream, read_stream
from .run_log import timed
from .stream_checks import check_before_reading, check_can_be_streamed, check_caption_words


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passed:
    """Objects that a caller of `select_dataset` passes, where the command line names files."""

    dataset: Dataset | DatasetDict | IterableDataset | IterableDatasetDict | None = None
    class_names: Sequence[str] | None = None
    class_quotas: Mapping[str, int] | str | Path | None = None
    must_keep: Listing | None = None
    must_drop: Listing | None = None
    decisions: Mapping[int, Decision] | str | Path | None = None
    reference: Dataset | DatasetDict | None = None
    model: tuple[PreTrainedModel, Any] | None = None  # with its processor


def prepare_dataset(
    arguments: Arguments, passed: Passed, *, accelerator: Accelerator, stack: ExitStack, seconds: dict[str, float]
) -> Prepared[ImageInputs]:
    """Check the settings, load what they name, and open the output folder, which is locked until the stack closes.

    `seconds` gets the wall-clock seconds of the loading. Raises `InputError` as `select_dataset`.
    """
    arguments = _with_new_names(arguments)
    chosen, adaptation, recorded = arguments.selection, arguments.adaptation, _recorded(arguments)
    sizes = check_sizes(chosen.selection_ratio, chosen.selection_count)
    quotas = checked_class_quotas(chosen.class_quotas_file if passed.class_quotas is None else passed.class_quotas)
    has_captions = arguments.data.caption_column is not None
    knobs = {**chosen.knobs(), "class_quotas": quotas}
    objective = resolve_objective(chosen.objective, knobs, has_captions=has_captions)
    _check_row_checks(arguments, passed, objective)
    peft_config = None if adaptation.peft_config is None else read_peft_config(adaptation.peft_config)
    decisions = checked_decisions(chosen.decisions if passed.decisions is None else passed.decisions)
    with timed(seconds, "load"):
        adapter = fetch_given(adaptation.adapter_name_or_path)
        stream = _find_stream(arguments, passed, accelerator, has_decisions=decisions is not None)
        given = None
        if stream is not None:
            check_before_reading(stream, arguments, _listings(arguments, passed), passed.class_names, objective, sizes)
        else:
            images = _load_images(arguments, passed.dataset, passed.class_names, decisions)
            given = _check_given(images, arguments, passed, objective, sizes)
        backbone = _load_backbone(arguments, passed.model, accelerator, recorded)
        warn_if_demonstration(backbone, (images if stream is None else stream).source.name)
        if peft_config is not None:
            check_peft_config(backbone.model, peft_config)
        if adapter is not None:
            check_given(adapter, backbone)
    folder = open_folder(
        stack,
        arguments.run.output_dir,
        identity(images, backbone) if stream is None else identity_before_reading(stream, backbone),
        Processes(accelerator),
        overwrite=arguments.run.overwrite_output_dir,
    )
    with timed(seconds, "load"):
        batch_size = resolve_batch_size(
            arguments.model.per_device_eval_batch_size, backbone, Processes(accelerator), recorded
        )
    read = None
    if stream is not None:
        with timed(seconds, "read"):
            images, read = read_stream(
                stream,
                arguments,
                backbone,
                folder,
                batch_size,
                class_names=passed.class_names,
                decisions=decisions,
            )
            settle_identity(folder, identity(images, backbone), overwrite=arguments.run.overwrite_output_dir)
            given = _check_given(images, arguments, passed, objective, sizes)
    assert given is not None
    if accelerator.is_main_process and chosen.objective is None:
        _tell_of_another_default(folder, objective)
    if accelerator.is_main_process and images.decided is None:
        _tell_of_earlier_decisions(folder)
    return Prepared(
        inputs=ImageInputs(
            images,
            given.prompts,
            backbone,
            accelerator,
            folder,
            batch_size,
            peft_config,
            adapter,
            given.reference,
            read,
        ),
        rows=given.rows,
        arguments=arguments,
        objective=objective,
        sizes=sizes,
    )


@dataclass(frozen=True)
class _Given:
    """What follows from the labels of the rows, and was found to fit what is asked for."""

    prompts: list[list[str]]
    rows: GivenRows
    reference: SourceImages | None


def _check_given(
    images: LabelledImages, arguments: Arguments, passed: Passed, objective: Objective, sizes: Sequence[Size]
) -> _Given:
    prompts = _prompts_of(images, arguments)
    rows = _rows_of(images, arguments, passed)
    reference = read_reference(arguments.data, images, passed.reference)
    check_row_demands(rows, objective, sizes, num_folds=arguments.adaptation.num_folds)
    return _Given(prompts, rows, reference)


def _find_stream(
    arguments: Arguments, passed: Passed, accelerator: Accelerator, *, has_decisions: bool
) -> ImageStream | None:
    """The stream to select from; None where it is a dataset."""
    if not (is_stream(passed.dataset) or (passed.dataset is None and arguments.data.streaming)):
        return None
    check_can_be_streamed(arguments, Processes(accelerator))
    return find_stream(arguments, passed.dataset, _listings(arguments, passed), has_decisions=has_decisions)


def _listings(arguments: Arguments, passed: Passed) -> tuple[Listing | None, Listing | None]:
    """The rows that must be kept, and those that must be dropped."""
    chosen = arguments.selection
    return (
        chosen.must_keep if passed.must_keep is None else passed.must_keep,
        chosen.must_drop if passed.must_drop is None else passed.must_drop,
    )


def _check_row_checks(arguments: Arguments, passed: Passed, objective: Objective) -> None:
    """Raise `InputError` where leaks or damaged images are to be dropped, or looked for, and can't be."""
    chosen = arguments.selection
    if chosen.drop_leaks and arguments.data.reference_split is None and passed.reference is None:
        raise InputError(
            "--drop_leaks leaves out copies of a reference, and there is none; name a split, such as test, with "
            "--reference_split."
        )
    if objective.solver == "sgd" and (chosen.drop_leaks or chosen.quality_checks == "drop"):
        flag = "--drop_leaks" if chosen.drop_leaks else "--quality_checks drop"
        raise InputError(f"--solver sgd can't leave rows out, which {flag} does; leave one of them out.")
    if chosen.quality_checks != "off":
        check_can_check_quality()


def _load_images(
    arguments: Arguments,
    dataset: Any,
    class_names: Sequence[str] | None,
    decisions: Mapping[int, Decision] | None,
) -> LabelledImages:
    data = arguments.data
    source = None
    if data.caption_column is not None:
        check_caption_words(arguments, class_names)
    if dataset is None:
        dataset, source = load_source(
            data.dataset_name,
            data.dataset_config_name,
            data.train_split_name,
            revision=data.dataset_revision,
            data_files=data.data_files,
            data_dir=data.data_dir,
            storage_options=data.storage_options,
            allow_unread_files=data.allow_unread_files,
        )
    return read_images(
        dataset,
        source,
        image_column_name=data.image_column_name,
        label_column_name=data.label_column_name,
        caption_column=data.caption_column,
        id_column=data.id_column,
        class_names=class_names,
        class_names_file=data.class_names_file,
        max_samples=data.max_train_samples,
        decisions=decisions,
        storage_options=read_storage_options(data.storage_options),
        allow_outside_files=data.allow_outside_files,
    )


def _rows_of(images: LabelledImages, arguments: Arguments, passed: Passed) -> GivenRows:
    must_keep, must_drop = _listings(arguments, passed)
    facts = read_facts(
        images.dataset,
        images.source_index,
        group_column=arguments.data.group_column,
        id_column=arguments.data.id_column,
        must_keep=must_keep,
        must_drop=must_drop,
        decided=images.decided,
        has_captions=images.has_captions,
    )
    return GivenRows(
        labels=images.labels,
        class_names=images.class_names,
        has_captions=images.has_captions,
        source_index=images.source_index,
        source=images.source,
        facts=facts,
        num_clusters=arguments.data.num_clusters,
    )


def _with_new_names(arguments: Arguments) -> Arguments:
    if not arguments.model.bf16:
        return arguments
    logger.warning("--bf16 is the old name of --precision bfloat16; write that.", extra=NOT_IN_REPORT)
    return replace(arguments, model=replace(arguments.model, bf16=False))


def _recorded(arguments: Arguments) -> dict[str, Any]:
    """The key of the features that the run may go on from: what is left to the machine stays as it was for them."""
    run = arguments.run
    if run.output_dir is None or run.overwrite_output_dir:
        return {}
    return recorded_key(RunFolder(Path(run.output_dir)).features)


def _load_backbone(
    arguments: Arguments,
    passed: tuple[PreTrainedModel, Any] | None,
    accelerator: Accelerator,
    recorded: Mapping[str, Any],
) -> Backbone:
    model, device = arguments.model, accelerator.device
    precision = resolve_precision(model.precision, device, recorded)
    if passed is not None:
        backbone = copy_backbone(*passed, device=device, precision=precision)
    else:
        name = model.model_name_or_path
        if name is None:
            name = default_model(arguments.data.dataset_name)
        backbone = load_backbone(name, revision=model.model_revision, device=device, precision=precision)
    # Whatever is faster on this machine: the features that are there were not made in it.
    return replace(backbone, products=recorded.get("matmul_precision", "highest")) if recorded else backbone


def _prompts_of(images: LabelledImages, arguments: Arguments) -> list[list[str]]:
    """Templates x classes; or the captions as they are."""
    if images.has_captions:
        return [images.class_names]
    return class_prompts(images.class_names, arguments.model.prompt_template)


def _tell_of_another_default(folder: RunFolder, objective: Objective) -> None:
    """Warn where the run that left its results in the folder selected by another objective than the default."""
    earlier = folder.read_config().get("objective")
    name = earlier.get("name") if isinstance(earlier, dict) else None
    if name in PRESETS and name != objective.name:
        logger.warning(
            "The results in %s were selected by objective %s. This run names none and selects by %s, the default, so "
            "that other rows are kept; pass --objective %s to select as before.",
            folder.path,
            name,
            objective.name,
            name,
            extra=NOT_IN_REPORT,
        )


def _tell_of_earlier_decisions(folder: RunFolder) -> None:
    """Warn where the run that left its results in the folder was given decisions, and this one is not."""
    config = folder.read_config()
    earlier, arguments = config.get("decisions"), config.get("arguments")
    if not isinstance(earlier, dict) or not earlier.keys() >= set(CHOICES):
        return
    path = arguments.get("decisions") if isinstance(arguments, dict) else None
    logger.warning(
        "The results in %s were made with decisions about rows: %s. This run has none, so that every label is the "
        "dataset's own again; pass --decisions%s to have them back.",
        folder.path,
        decisions_in_words(earlier),
        "" if path is None else f" {path}",
        extra=NOT_IN_REPORT,
    )
