"""The order of a run: load -> encode -> adapt -> score -> select -> write. The only file that knows it."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from .adaptation import (
    AdapterFiles,
    Projections,
    check_given,
    check_peft_config,
    embed_prompts,
    embed_rows,
    fetch_given,
    predict,
    read_peft_config,
)
from .arrays import as_numpy
from .config import Arguments
from .data import LabelledImages, prepare_dataset
from .encoder import (
    Backbone,
    encode_dataset,
    encode_prompts,
    load_backbone,
    warn_if_demonstration,
)
from .ensemble import ensemble_alignment
from .errors import InputError, PushError
from .failures import during, explained_failures
from .feature_rows import FeatureRows
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
from .selection import NUM_NEAREST, Objective, Size, check_sizes, resolve_objective
from .selection_file import published_report
from .source import load_source
from .summary import summarize
from .table_selection import check_demands, select_from_table
from .trust import check_trust, measure_trust


logger = logging.getLogger(__name__)


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
            if self.facts.must_keep is not None and (lost := self.facts.must_keep[list(encoded.unreadable)].sum()):
                logger.warning("%d of them are rows of must_keep.", lost)
        rows = np.setdiff1d(np.arange(len(images.labels)), list(encoded.unreadable))
        classes, labels = present_classes(images.labels[rows])
        readable = encoded.features.subset(rows) if encoded.unreadable else encoded.features
        features = (readable, text_features[:, classes])
        with timed(self.seconds, "adapt"):
            plain = predict(self.backbone.model, *features)
            # Before adapters take the place of the projections.
            prompts = as_numpy(embed_prompts(Projections(self.backbone.model), features[1]))
            ensemble = (
                self._ensemble(*features, labels, prompts, processes)
                if self.objective.alignment == "ensemble"
                else None
            )
            adapters = RunAdapters(arguments, images, self.backbone, self.accelerator, self.folder)
            if self.adapter is None:
                model, adaptation = adapters.train_or_find(
                    features, labels, features_key=encoded.key, peft_config=self.peft_config
                )
            else:
                model, adaptation = adapters.take(self.adapter)
        with timed(self.seconds, "score"):
            scores, graph = score_rows(
                model, *features, labels, classes, processes=processes,
                neighbor_fraction=arguments.selection.neighbor_fraction,
                num_neighbors=arguments.selection.num_neighbors,
                num_nearest=NUM_NEAREST if self.objective.redundancy_weight else 0,
            )  # fmt: skip
            scores = replace(scores, ensemble=ensemble)
            if arguments.adaptation.num_folds and adaptation.kept:
                predicted, sas, margin = adapters.out_of_fold(
                    model, features, labels, adaptation, features_key=encoded.key, peft_config=self.peft_config
                )
                scores = replace(scores, predicted_label=classes[predicted], sas=sas, margin=margin)
            trust = measure_trust(
                labels, plain, np.searchsorted(classes, scores.predicted_label) if adaptation.kept else None, prompts,
                [images.class_names[label] for label in classes],
            )  # fmt: skip
            check_trust(trust, strict=arguments.selection.strict)
            table = score_table(
                images.labels,
                images.class_names,
                images.source_index,
                scores.scattered(rows, len(images.labels)),
                self.facts,
            )
        with timed(self.seconds, "select"):
            result = SelectionResult(
                scores=select_from_table(table, self.objective, self.sizes, graph=graph, processes=processes),
                ratios=self.sizes,
                objective=self.objective,
                source=images.source,
                seed=arguments.run.seed,
            )
        plain_predictions = np.full(len(images.labels), -1, dtype=np.int64)
        plain_predictions[rows] = classes[plain]
        unreadable = {int(images.source_index[row]): reason for row, reason in sorted(encoded.unreadable.items())}
        description = describe_run(arguments, self.objective, images, self.backbone, adaptation)
        report = summarize(
            result.scores, class_names=images.class_names, ratios=self.sizes, plain_predictions=plain_predictions,
            unreadable=unreadable, trust=trust, run={**description, "seconds": self.seconds, "warnings": self.warnings},
        )  # fmt: skip
        result = replace(result, report=report)
        if self.accelerator.is_main_process:
            self._write(result, unreadable, description)
        # The last thing that processes wait for: a push may take longer than a collective may.
        self.accelerator.wait_for_everyone()
        if self.destination is not None and self.accelerator.is_main_process:
            self._publish(self.destination, report, with_adapters=adaptation.kept)
        return result

    def _write(self, result: SelectionResult, unreadable: Mapping[int, str], description: dict[str, Any]) -> None:
        # Until the results are there, config.yaml tells of no knobs that they could be taken to be made with.
        record = {key: self.folder.read_config()[key] for key in ("adaptation", "identity")}
        self.folder.write_config(record)
        with during("write"):
            self.folder.write_results(result, self.images, unreadable, scores_only=self.arguments.hub.scores_only)
        description["source"]["class_names"] = self.images.class_names
        self.folder.write_config({**description, **record})

    def _publish(self, destination: Destination, report: dict[str, Any], *, with_adapters: bool) -> None:
        adapter = self.folder.adapter if with_adapters else None
        try:
            publish(published_report(report), self.folder.subset, destination, adapter=adapter)
        except (PushError, OSError) as error:  # OSError: a card that a full disk does not take
            raise PushError(
                f"{error} The results are in {self.folder.path}: the same command again pushes them."
            ) from None

    def _ensemble(
        self,
        features: FeatureRows,
        text_features: torch.Tensor,
        labels: np.ndarray,
        prompts: np.ndarray,
        processes: Processes,
    ) -> np.ndarray:
        """Of plain CLIP whether adapters are kept or not: these know the labels that they would judge."""
        scores = None
        if processes.index == 0:
            model = self.backbone.model
            embeds = embed_rows(Projections(model), features, np.arange(len(labels)))
            scale = getattr(model, "logit_scale", None)
            scale = {} if scale is None else {"logit_scale": float(scale.exp())}
            scores = ensemble_alignment(embeds, prompts, labels, seed=self.arguments.run.seed, **scale)
        return processes.broadcast(scores)


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
