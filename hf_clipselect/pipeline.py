"""The order of a run: load -> encode -> adapt -> score -> select -> write. The only file that knows it."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from .adaptation import (
    AdapterFiles,
    check_given,
    check_peft_config,
    fetch_given,
    predict,
    read_peft_config,
)
from .config import DEFAULT_MODEL, Arguments
from .data import LabelledImages, prepare_dataset
from .encoder import (
    Backbone,
    encode_dataset,
    encode_prompts,
    load_backbone,
    warn_if_demonstration,
)
from .errors import InputError, PushError
from .failures import during, explained_failures
from .hub import Destination, publish
from .launch import make_accelerator
from .listings import Listing, checked_class_quotas, read_facts
from .processes import Processes
from .prompts import class_prompts
from .provenance import describe_run, identity
from .result import SelectionResult
from .run_adapters import RunAdapters
from .run_folder import RunFolder
from .run_log import collected_warnings, timed
from .score_table import RowFacts, present_classes, score_table
from .scoring import score_rows
from .selection import Objective, Size, check_sizes, is_count, resolve_objective
from .selection_file import published_report
from .source import load_source
from .summary import summarize
from .table_selection import check_demands, select_from_table


logger = logging.getLogger(__name__)


def select_dataset(
    dataset: Dataset,
    *,
    model_name_or_path: str = DEFAULT_MODEL,
    selection_ratio: float | Sequence[float] | None = None,
    selection_count: int | Sequence[int] | None = None,
    objective: str | None = None,
    adaptation: str = "auto",
    output_dir: str | Path | None = None,
    seed: int = 42,
    image_column_name: str | None = None,
    label_column_name: str | None = None,
    class_names: Sequence[str] | None = None,
    on_bad_image: str = "error",
    model_revision: str = "main",
    prompt_template: str | Sequence[str] | None = None,
    per_device_eval_batch_size: int = 64,
    dataloader_num_workers: int | None = None,
    bf16: bool = False,
    adapter_name_or_path: str | Path | None = None,
    peft_config: str | Path | None = None,
    temperature: float | None = None,
    learning_rate: float | None = None,
    num_train_epochs: int | None = None,
    train_batch_size: int | None = None,
    alignment: str | None = None,
    diversity_weight: float | str | None = None,
    normalization: str | None = None,
    class_balance: str | None = None,
    balance_by: str | None = None,
    min_per_class: int | None = None,
    class_quotas: Mapping[str, int] | str | Path | None = None,
    gate: bool | None = None,
    gate_floor: float | None = None,
    spread: bool | None = None,
    redundancy_weight: float | None = None,
    solver: str | None = None,
    ratio_weight: float | None = None,
    neighbor_fraction: float = 0.1,
    num_neighbors: int | None = None,
    group_column: str | None = None,
    must_keep: Listing | None = None,
    must_drop: Listing | None = None,
    overwrite_output_dir: bool = False,
    use_cpu: bool = False,
) -> SelectionResult:
    """Select the part of a labelled image dataset that is worth training on.

    Every image goes through the frozen CLIP once; adapters are trained on the cached features; every row gets a semantic
    alignment score (eq. 1 of https://huggingface.co/papers/2410.11215) and a sample diversity score (eq. 2); the objective
    turns them into exactly `floor(selection_ratio * num_rows + 0.5)` rows.

    Args:
        dataset (`Dataset`): A split with an image column and a label column.
        model_name_or_path (`str`, *optional*): Dual encoder with two projections: Hub id, folder or `embedded/tiny-clip`.
        selection_ratio (`float` or `Sequence[float]`, *optional*):
            Fraction of the rows to keep, in (0, 1]; with several, `.selected` is the first one's. Default 0.3, unless there is a count.
        selection_count (`int` or `Sequence[int]`, *optional*): Number of rows to keep, beside or instead of ratios.
        objective (`str`, *optional*, defaults to `"diverse"`):
            Preset `"diverse"`, `"clean"`, `"paper"` or `"released"` of the knobs below.
        adaptation (`str`, *optional*, defaults to `"auto"`): `"auto"`, `"always"` or `"off"`.
        output_dir (`str` or `Path`, *optional*): Folder for everything the run makes; by default nothing is left behind.
        seed (`int`, *optional*, defaults to 42): The same seed gives the same subset.
        image_column_name, label_column_name (`str`, *optional*): Found from the features when there is one candidate each.
        class_names (`Sequence[str]`, *optional*): One name per class for the prompts, instead of the dataset's own.
        on_bad_image (`str`, *optional*, defaults to `"error"`): `"error"`, or `"drop"` to leave unreadable images out.
        model_revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit of the model.
        prompt_template (`str` or `Sequence[str]`, *optional*): Prompts with `{}` for the class name; several are averaged.
        per_device_eval_batch_size (`int`, *optional*, defaults to 64): Images per forward pass.
        dataloader_num_workers (`int`, *optional*):
            Decoding processes; default the other cores beside a GPU, and on a CPU their share of the cores, which is timed.
        bf16 (`bool`, *optional*, defaults to `False`): Run the frozen towers in bfloat16 (GPU only).
        adapter_name_or_path (`str` or `Path`, *optional*):
            Hub id or folder of trained adapters on the two projections: nothing is trained, and the scores are theirs.
        peft_config (`str` or `Path`, *optional*): JSON file of another PEFT method for the two projections.
        temperature, learning_rate, num_train_epochs, train_batch_size: Training of the adapters; defaults as the flags.
        alignment, diversity_weight, normalization, class_balance, balance_by, min_per_class, gate, gate_floor, spread,
        redundancy_weight, solver, ratio_weight:
            Knobs as in [`Objective`]; one that is set wins over the preset.
        class_quotas (`Mapping[str, int]`, `str` or `Path`, *optional*):
            Rows to keep of some classes (or groups), by name, or a YAML file with such lines; the others share the rest.
        neighbor_fraction (`float`, *optional*, defaults to 0.1): Neighbours of the diversity score, as a fraction of the class.
        num_neighbors (`int`, *optional*): A fixed number of neighbours instead.
        group_column (`str`, *optional*): Categorical column whose shares the report compares, and quotas may be for.
        must_keep, must_drop (`str`, `Path` or `Sequence[int]`, *optional*):
            Rows that every subset holds, or none: their source_index, a file with one per line, or the name of a boolean column.
        overwrite_output_dir (`bool`, *optional*, defaults to `False`): Remove another run's results from `output_dir`.
        use_cpu (`bool`, *optional*, defaults to `False`): Run on the CPU even if there is a GPU.

    Returns:
        `SelectionResult`: Kept and dropped rows, scores of all rows, `.apply(dataset)` for the filtered dataset.

    Raises:
        InputError: The input is wrong; the message says what was given, what was expected and what to change.
        RunError: The machine failed; the same call goes on from what is in `output_dir`.

    Example:

    ```python
    result = select_dataset(dataset, selection_ratio=[0.3, 0.5], output_dir="clipselect_output")
    subset = result.apply(dataset)
    ```
    """
    values = dict(locals())
    sizes = check_sizes(selection_ratio, selection_count)
    values["selection_ratio"] = [size for size in sizes if not is_count(size)] or None
    values["selection_count"] = [size for size in sizes if is_count(size)] or None
    values["prompt_template"] = [prompt_template] if isinstance(prompt_template, str) else prompt_template
    for path in ("output_dir", "adapter_name_or_path", "peft_config", "model_name_or_path"):
        values[path] = None if values[path] is None else str(values[path])
    for listing in ("must_keep", "must_drop"):  # lists of rows are no argument of a command line
        values[listing] = str(values[listing]) if isinstance(values[listing], (str, Path)) else None
    arguments = Arguments.from_dict({**values, "dataset_name": ""})
    arguments.run.output_dir = values["output_dir"]  # None here means no folder at all, not the default one
    return run_selection(
        arguments,
        dataset=dataset,
        class_names=class_names,
        class_quotas=class_quotas,
        must_keep=must_keep,
        must_drop=must_drop,
    )


def run_selection(
    arguments: Arguments,
    *,
    dataset: Dataset | None = None,
    class_names: Sequence[str] | None = None,
    class_quotas: Mapping[str, int] | str | Path | None = None,
    must_keep: Listing | None = None,
    must_drop: Listing | None = None,
) -> SelectionResult:
    """Run a selection from checked arguments: what the command line and [`select_dataset`] share.

    Args:
        arguments (`Arguments`): All settings; the knobs of the objective that are `None` are filled from its preset.
        dataset (`Dataset`, *optional*): The dataset; by default it is loaded by `arguments.data.dataset_name`.
        class_names (`Sequence[str]`, *optional*): Names for the prompts instead of the dataset's own.
        class_quotas, must_keep, must_drop (*optional*): As [`select_dataset`] takes them, instead of the files of the arguments.

    Returns:
        `SelectionResult`: The selection; everything else is in `arguments.run.output_dir` if that is not `None`.

    Raises:
        InputError: As [`select_dataset`], or the Hub would refuse the push.
        RunError: The machine failed: no memory, no disk, a process that is gone. The same call goes on from what is in the folder.
        PushError: The Hub can't be reached, or fails time after time; the results are in the folder.
    """
    seconds: dict[str, float] = {}
    place = arguments.run.output_dir
    with explained_failures(None if place is None else Path(place)), ExitStack() as stack:
        accelerator = make_accelerator(
            use_cpu=arguments.run.use_cpu, report_to=arguments.run.report_to, logging_dir=place
        )
        # Before the report's warnings are collected: what the Hub looks like is no part of the result.
        destination = _check_destination(arguments, accelerator)
        warnings = stack.enter_context(collected_warnings())
        chosen = arguments.selection
        sizes = check_sizes(chosen.selection_ratio, chosen.selection_count)
        quotas = checked_class_quotas(chosen.class_quotas_file if class_quotas is None else class_quotas)
        objective = resolve_objective(chosen.objective, {**chosen.knobs(), "class_quotas": quotas})
        peft_config = None
        if arguments.adaptation.peft_config is not None:
            peft_config = read_peft_config(arguments.adaptation.peft_config)
        with timed(seconds, "load"):
            adapter = fetch_given(arguments.adaptation.adapter_name_or_path)
            images = _load(arguments, dataset, class_names)
            prompts = class_prompts(images.class_names, arguments.model.prompt_template)
            facts = read_facts(
                images.dataset, images.source_index, group_column=arguments.data.group_column,
                must_keep=chosen.must_keep if must_keep is None else must_keep,
                must_drop=chosen.must_drop if must_drop is None else must_drop,
            )  # fmt: skip
            check_demands(images.labels, images.class_names, facts, objective, sizes)
            backbone = load_backbone(
                arguments.model.model_name_or_path,
                revision=arguments.model.model_revision,
                device=accelerator.device,
                bf16=arguments.model.bf16,
            )
            warn_if_demonstration(backbone, images.source.name)
            if peft_config is not None:
                check_peft_config(backbone.model, peft_config)
            if adapter is not None:
                check_given(adapter, backbone)
        folder = _open_folder(stack, arguments, images, backbone, accelerator)
        run = _Run(
            arguments=arguments, objective=objective, sizes=sizes, facts=facts, peft_config=peft_config, adapter=adapter, images=images,
            prompts=prompts, backbone=backbone, accelerator=accelerator, folder=folder, seconds=seconds, warnings=warnings,
            destination=destination,
        )  # fmt: skip
        return run.execute()


@dataclass
class _Run:
    """The stages of one run, in order, and what they hand on."""

    arguments: Arguments
    objective: Objective
    sizes: tuple[Size, ...]
    facts: RowFacts
    peft_config: Any  # a `PeftConfig`, which only adaptation knows
    adapter: AdapterFiles | None  # those that were given
    images: LabelledImages
    prompts: list[list[str]]
    backbone: Backbone
    accelerator: Accelerator
    folder: RunFolder
    seconds: dict[str, float]
    warnings: list[str]
    destination: Destination | None

    def execute(self) -> SelectionResult:
        arguments, images, processes = self.arguments, self.images, Processes(self.accelerator)
        with timed(self.seconds, "encode"):
            encoded = encode_dataset(
                images, self.backbone, self.folder.features,
                accelerator=self.accelerator,
                batch_size=arguments.model.per_device_eval_batch_size,
                num_workers=arguments.model.dataloader_num_workers,
                on_bad_image=arguments.data.on_bad_image,
                overwrite=arguments.run.overwrite_output_dir,
            )  # fmt: skip
            if processes.index > 0:
                processes.wait()  # until the main one has stored them: the last digits may be others on another machine
            text_features = encode_prompts(self.backbone, self.prompts, self.folder.features)
            if processes.index == 0:
                processes.wait()
        if encoded.unreadable:
            logger.warning(
                "%d of %d images could not be read and take no part.", len(encoded.unreadable), len(images.labels)
            )
            logger.info("dropped.parquet names them with the reason.")
        rows = np.setdiff1d(np.arange(len(images.labels)), list(encoded.unreadable))
        classes, labels = present_classes(images.labels[rows])
        readable = encoded.features.subset(rows) if encoded.unreadable else encoded.features
        features = (readable, text_features[:, classes])
        with timed(self.seconds, "adapt"):
            plain = classes[predict(self.backbone.model, *features)]
            adapters = RunAdapters(arguments, images, self.backbone, self.accelerator, self.folder)
            if self.adapter is None:
                model, adaptation = adapters.train_or_find(
                    features, labels, features_key=encoded.key, peft_config=self.peft_config
                )
            else:
                model, adaptation = adapters.take(self.adapter)
        with timed(self.seconds, "score"):
            scores = score_rows(
                model, *features, labels, classes, processes=processes,
                neighbor_fraction=arguments.selection.neighbor_fraction,
                num_neighbors=arguments.selection.num_neighbors,
            )  # fmt: skip
            table = score_table(
                images.labels,
                images.class_names,
                images.source_index,
                scores.scattered(rows, len(images.labels)),
                self.facts,
            )
        with timed(self.seconds, "select"):
            result = SelectionResult(
                scores=select_from_table(table, self.objective, self.sizes, processes=processes),
                ratios=self.sizes,
                objective=self.objective,
                source=images.source,
                seed=arguments.run.seed,
            )
        plain_predictions = np.full(len(images.labels), -1, dtype=np.int64)
        plain_predictions[rows] = plain
        unreadable = {int(images.source_index[row]): reason for row, reason in sorted(encoded.unreadable.items())}
        description = describe_run(arguments, self.objective, images, self.backbone, adaptation)
        report = summarize(
            result.scores, class_names=images.class_names, ratios=self.sizes, plain_predictions=plain_predictions,
            unreadable=unreadable, run={**description, "seconds": self.seconds, "warnings": self.warnings},
        )  # fmt: skip
        result = replace(result, report=report)
        if self.accelerator.is_main_process:
            # Until the results are there, config.yaml tells of no knobs that they could be taken to be made with.
            record = {key: self.folder.read_config()[key] for key in ("adaptation", "identity")}
            self.folder.write_config(record)
            with during("write"):
                self.folder.write_results(result, images, unreadable, scores_only=arguments.hub.scores_only)
            description["source"]["class_names"] = images.class_names
            self.folder.write_config({**description, **record})
        # The last thing that processes wait for: a push may take longer than a collective may.
        self.accelerator.wait_for_everyone()
        if self.destination is not None and self.accelerator.is_main_process:
            adapter = self.folder.adapter if adaptation.kept else None
            try:
                publish(published_report(report), self.folder.subset, self.destination, adapter=adapter)
            except (PushError, OSError) as error:  # OSError: a card that a full disk does not take
                raise PushError(
                    f"{error} The results are in {self.folder.path}: the same command again pushes them."
                ) from None
        return result


def _check_destination(arguments: Arguments, accelerator: Accelerator) -> Destination | None:
    """Where the results go to on the Hub; the main process asks, and all stop if the answer is no."""
    if not arguments.hub.push_to_hub:
        if arguments.hub.hub_dataset_id is not None or arguments.hub.hub_model_id is not None:
            logger.info("Nothing is pushed to the Hub without --push_to_hub.")
        return None
    if arguments.hub.hub_dataset_id == arguments.data.dataset_name:
        raise InputError(
            f"--hub_dataset_id {arguments.hub.hub_dataset_id} is the source itself, which the subset would take the place of; "
            "choose another repository."
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


def _load(arguments: Arguments, dataset: Dataset | None, class_names: Sequence[str] | None) -> LabelledImages:
    data = arguments.data
    source = None
    if dataset is not None and not isinstance(dataset, Dataset):
        splits = (
            f" with the splits {', '.join(map(str, dataset))}; pass one of them" if isinstance(dataset, dict) else ""
        )
        raise InputError(
            f"Expected a datasets.Dataset with an image and a label column, got a {type(dataset).__name__}{splits}."
        )
    if dataset is None:
        dataset, source = load_source(data.dataset_name, data.dataset_config_name, data.train_split_name)
    return prepare_dataset(
        dataset,
        source,
        image_column_name=data.image_column_name,
        label_column_name=data.label_column_name,
        class_names=class_names,
        class_names_file=data.class_names_file,
        max_samples=data.max_train_samples,
    )


def _open_folder(
    stack: ExitStack, arguments: Arguments, images: LabelledImages, backbone: Backbone, accelerator: Accelerator
) -> RunFolder:
    path = arguments.run.output_dir
    if path is None:
        # All processes share the main one's folder.
        [path] = broadcast_object_list(
            [stack.enter_context(tempfile.TemporaryDirectory()) if accelerator.is_main_process else None]
        )
    folder = RunFolder(Path(path))
    mine = identity(images, backbone)
    folder.check(mine, overwrite=arguments.run.overwrite_output_dir)
    processes = Processes(accelerator)
    processes.wait()  # every process has checked before the main one changes anything
    if accelerator.is_main_process:
        folder.open(mine, overwrite=arguments.run.overwrite_output_dir)
        if not folder.read_config():
            folder.write_config({"identity": mine})
    _check_shared(folder, processes)
    return folder


def _check_shared(folder: RunFolder, processes: Processes) -> None:
    """Folders of one name on several machines need not be one folder: each would get a part of the features."""
    with folder.mark() if processes.index == 0 else nullcontext() as name:
        name = processes.broadcast(name)
        apart = [index for index, sees in enumerate(processes.gather(folder.has_mark(name))) if not sees]
    if apart:
        raise InputError(
            f"--output_dir {folder.path} is not one folder for all: process {apart[0]} does not see what process 0 wrote there. "
            "On several machines give a folder on a file system that they share."
        )
