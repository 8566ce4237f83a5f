"""What a run checks, loads and opens before the first image is encoded."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict

from ..config.arguments import DEFAULT_PROMPT_TEMPLATE, Arguments
from ..data import LabelledImages, prepare_dataset
from ..data.places import hub_place, read_storage_options
from ..data.prompts import class_prompts
from ..data.row_facts import RowFacts
from ..data.source import load_source
from ..encoder.backbone import Backbone
from ..encoder.texts import too_long_prompts
from ..errors import InputError, PushError
from ..hub import Destination
from ..results.run_folder import RunFolder
from ..results.subsets import check_demands
from ..runtime.processes import Processes
from ..scores.clusters import check_num_clusters
from ..selection import Objective, Size
from .provenance import identity


logger = logging.getLogger(__name__)

# Signs of a long text that a message shows.
_SHOWN = 60


def check_destination(arguments: Arguments, accelerator: Accelerator) -> Destination | None:
    """Where the results go to on the Hub; the main process asks, and all stop if the answer is no."""
    if not arguments.hub.push_to_hub:
        if arguments.hub.hub_dataset_id is not None or arguments.hub.hub_model_id is not None:
            logger.info("Nothing is pushed to the Hub without --push_to_hub.")
        return None
    source = hub_place(arguments.data.dataset_name)
    if arguments.hub.hub_dataset_id == (source.repo if source else arguments.data.dataset_name):
        raise InputError(
            f"--hub_dataset_id {arguments.hub.hub_dataset_id} is the source itself, which the subset would take the "
            "place of; choose another repository."
        )
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


def load_images(
    arguments: Arguments, dataset: Dataset | DatasetDict | None, class_names: Sequence[str] | None
) -> LabelledImages:
    data = arguments.data
    source = None
    if class_names is not None and data.caption_column is not None:
        raise InputError("class_names are for labels, and captions are used as they are; leave them out.")
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
    return prepare_dataset(
        dataset,
        source,
        image_column_name=data.image_column_name,
        label_column_name=data.label_column_name,
        caption_column=data.caption_column,
        class_names=class_names,
        class_names_file=data.class_names_file,
        max_samples=data.max_train_samples,
        storage_options=read_storage_options(data.storage_options),
        allow_outside_files=data.allow_outside_files,
    )


def prompts_of(images: LabelledImages, arguments: Arguments) -> list[list[str]]:
    """Templates x classes; or the captions as they are."""
    templates = arguments.model.prompt_template
    if not images.has_captions:
        return class_prompts(images.class_names, templates)
    if templates != [DEFAULT_PROMPT_TEMPLATE]:
        raise InputError(
            f"--prompt_template {templates[0]!r} is for the names of classes; captions are used as they are. Leave it "
            "out."
        )
    return [images.class_names]


def warn_about_long_texts(images: LabelledImages, prompts: list[list[str]], backbone: Backbone) -> None:
    """Tell of prompts or captions whose ends the model will not read."""
    cut, limit = too_long_prompts(backbone, prompts)
    if images.has_captions:
        rows = np.flatnonzero(np.isin(images.labels, cut))
        if len(rows):
            logger.warning(
                "%d of %d captions are longer than the %d tokens that the model reads, and are cut there; the first "
                "is that of source_index %d. What stands at the end of such a caption does not count.",
                len(rows),
                len(images.labels),
                limit,
                images.source_index[rows[0]],
            )
            # Not in the warning: the report keeps that, and may be published without the captions.
            logger.info("It begins with %r.", images.class_names[images.labels[rows[0]]][:_SHOWN])
    elif len(cut):
        logger.warning(
            "The prompts of %d of %d classes are longer than the %d tokens that the model reads, and are cut there; "
            "the name of the first begins with %r. Give such classes shorter names with --class_names_file.",
            len(cut),
            len(images.class_names),
            limit,
            images.class_names[cut[0]][:_SHOWN],
        )


def check_caption_demands(
    images: LabelledImages, arguments: Arguments, facts: RowFacts, objective: Objective, sizes: Sequence[Size]
) -> None:
    """`check_demands` before there are clusters."""
    check_knobs_for_captions(objective)
    check_num_clusters(arguments.data.num_clusters, len(images.labels))
    check_demands(np.zeros_like(images.labels), ["all"], facts, objective, sizes)


def check_knobs_for_captions(objective: Objective) -> None:
    """Raise `InputError` for knobs that only classes have a meaning for."""
    if objective.alignment == "ensemble":
        raise InputError(
            "--alignment ensemble learns what the images of a class have in common, and captions have no classes; "
            "pass margin or cosine."
        )
    if objective.class_quotas and objective.balance_by == "class":
        raise InputError(
            "--class_quotas_file names classes, and captions have none, only clusters that are not known before the "
            "images are encoded; leave it out, or give quotas of groups with --group_column and --balance_by group."
        )


def open_folder(
    stack: ExitStack, arguments: Arguments, images: LabelledImages, backbone: Backbone, accelerator: Accelerator
) -> RunFolder:
    """The folder of the run, checked, and until the stack is closed this run's alone."""
    path, processes, problem = arguments.run.output_dir, Processes(accelerator), None
    is_temporary = path is None
    if is_temporary:  # all processes share the main one's
        path = stack.enter_context(tempfile.TemporaryDirectory()) if processes.index == 0 else None
        path = processes.broadcast(path)
    folder = RunFolder(Path(path))
    if processes.index == 0:
        try:
            if not is_temporary:
                stack.enter_context(folder.locked())
            _take_over(folder, identity(images, backbone), overwrite=arguments.run.overwrite_output_dir)
        except InputError as error:
            problem = error
    problem = processes.broadcast(problem)
    if problem is not None:
        raise problem
    _check_shared(folder, processes)
    return folder


def _take_over(folder: RunFolder, mine: Mapping[str, Any], *, overwrite: bool) -> None:
    folder.check(mine, overwrite=overwrite)
    folder.open(mine, overwrite=overwrite)
    if not folder.read_config():
        folder.write_config({"identity": mine})


def _check_shared(folder: RunFolder, processes: Processes) -> None:
    """Folders of one name on several machines need not be one folder: each would get a part of the features."""
    with folder.mark() if processes.index == 0 else nullcontext() as name:
        name = processes.broadcast(name)
        apart = [index for index, sees in enumerate(processes.gather(folder.has_mark(name))) if not sees]
    if apart:
        raise InputError(
            f"--output_dir {folder.path} is not one folder for all: process {apart[0]} does not see what process 0 "
            "wrote there. On several machines give a folder on a file system that they share."
        )
