"""The order of a run: load -> encode -> adapt -> score -> select -> write. The only file that knows it."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel

from ..adapters import (
    Adaptation,
    AdapterFiles,
    Projections,
    align_rows,
    check_given,
    check_peft_config,
    embed_prompts,
    embed_rows,
    fetch_given,
    read_peft_config,
)
from ..config.arguments import Arguments
from ..data import LabelledImages
from ..data.row_facts import Listing, RowFacts, checked_class_quotas, read_facts
from ..encoder import Backbone, copy_backbone, encode_dataset, encode_prompts, load_backbone, warn_if_demonstration
from ..encoder.feature_rows import FeatureRows
from ..errors import PushError, RunError
from ..hub import Destination, publish
from ..results.earlier_sizes import with_earlier_sizes
from ..results.run_folder import RunFolder
from ..results.run_report import summarize, with_sizes
from ..results.scores_table import score_table
from ..results.saved_selection import published_report
from ..results.selection_result import SelectionResult
from ..results.subsets import check_demands, select_from_table
from ..runtime.failures import during, explained_failures
from ..runtime.launch import make_accelerator
from ..runtime.processes import Processes
from ..runtime.words import are, counted
from ..scores.arrays import as_numpy
from ..scores.captions import draw_references
from ..scores.clusters import cluster_names, image_clusters
from ..scores.ensemble import ensemble_alignment
from ..scores.folds import check_num_folds
from ..scores.sample_scores import cluster_scores, present_classes
from ..scores.trust import Trust, check_trust, measure_caption_trust, measure_trust
from ..selection import NUM_NEAREST, NeighborGraph, Objective, Size, check_sizes, resolve_objective
from .preparation import (
    check_caption_demands,
    check_destination,
    load_images,
    open_folder,
    prompts_of,
    warn_about_long_texts,
)
from .provenance import describe_run
from .row_scores import score_rows
from .run_adapters import RunAdapters
from .run_log import collected_warnings, timed


logger = logging.getLogger(__name__)


def run_selection(
    arguments: Arguments,
    *,
    dataset: Dataset | None = None,
    class_names: Sequence[str] | None = None,
    class_quotas: Mapping[str, int] | str | Path | None = None,
    must_keep: Listing | None = None,
    must_drop: Listing | None = None,
    passed_model: tuple[PreTrainedModel, Any] | None = None,
) -> SelectionResult:
    """Run a selection from checked arguments: what the command line and [`select_dataset`] share.

    Args:
        arguments (`Arguments`): All settings; the knobs of the objective that are `None` are filled from its preset.
        dataset (`Dataset`, *optional*): The dataset; by default it is loaded by `arguments.data.dataset_name`.
        class_names (`Sequence[str]`, *optional*): Names for the prompts instead of the dataset's own.
        class_quotas, must_keep, must_drop (*optional*): As [`select_dataset`] takes them, instead of the files of the
            arguments.
        passed_model (`tuple[PreTrainedModel, Any]`, *optional*): Model and processor, instead of what the arguments
            name.

    Returns:
        `SelectionResult`: The selection; everything else is in `arguments.run.output_dir` if that is not `None`.

    Raises:
        InputError: As [`select_dataset`], or the Hub would refuse the push.
        RunError: The machine failed: no memory, no disk, a process that is gone. The same call goes on from what is in
        the folder. PushError: The Hub can't be reached, or fails time after time; the results are in the folder.
    """
    seconds: dict[str, float] = {}
    place = arguments.run.output_dir
    with explained_failures(None if place is None else Path(place)), ExitStack() as stack:
        accelerator = make_accelerator(
            use_cpu=arguments.run.use_cpu, report_to=arguments.run.report_to, logging_dir=place
        )
        # Before the report's warnings are collected: what the Hub looks like is no part of the result.
        destination = check_destination(arguments, accelerator)
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
            images = load_images(arguments, dataset, class_names)
            prompts = prompts_of(images, arguments)
            facts = read_facts(
                images.dataset,
                images.source_index,
                group_column=arguments.data.group_column,
                must_keep=chosen.must_keep if must_keep is None else must_keep,
                must_drop=chosen.must_drop if must_drop is None else must_drop,
            )
            if arguments.adaptation.num_folds:
                check_num_folds(arguments.adaptation.num_folds, len(images.labels))
            if images.has_captions:
                check_caption_demands(images, arguments, facts, objective, sizes)
            else:
                check_demands(images.labels, images.class_names, facts, objective, sizes)
            model, options = arguments.model, {"device": accelerator.device, "bf16": arguments.model.bf16}
            if passed_model is None:
                backbone = load_backbone(model.model_name_or_path, revision=model.model_revision, **options)
            else:
                backbone = copy_backbone(*passed_model, **options)
            warn_if_demonstration(backbone, images.source.name)
            warn_about_long_texts(images, prompts, backbone)
            if peft_config is not None:
                check_peft_config(backbone.model, peft_config)
            if adapter is not None:
                check_given(adapter, backbone)
        folder = open_folder(stack, arguments, images, backbone, accelerator)
        run = _Run(
            arguments=arguments,
            objective=objective,
            sizes=sizes,
            facts=facts,
            peft_config=peft_config,
            adapter=adapter,
            images=images,
            prompts=prompts,
            backbone=backbone,
            accelerator=accelerator,
            folder=folder,
            seconds=seconds,
            warnings=warnings,
            destination=destination,
        )
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
        images, processes = self.images, Processes(self.accelerator)
        with timed(self.seconds, "encode"):
            rows = self._encode(processes)
        with timed(self.seconds, "adapt"):
            plain, model, adaptation = self._adapt(rows, processes)
        with timed(self.seconds, "score"):
            table, graph, trust = self._score(rows, plain, model, adaptation, processes)
        with timed(self.seconds, "select"):
            result = SelectionResult(
                scores=select_from_table(table, self.objective, self.sizes, graph=graph, processes=processes),
                ratios=self.sizes,
                objective=self.objective,
                source=images.source,
                seed=self.arguments.run.seed,
            )
            result = with_earlier_sizes(result, self.folder.subset, processes)
        plain_agrees = np.zeros(len(images.labels), dtype=bool)
        plain_agrees[rows.numbers] = plain.predicted == rows.labels
        description = describe_run(
            self.arguments, self.objective, images, self.backbone, adaptation, rows.describe_captions()
        )
        told = description["arguments"]
        if result.ratios != self.sizes:
            # The report names all that it describes, config.yaml those that were asked for.
            told = with_sizes(told, result.ratios)
        report = summarize(
            result.scores,
            class_names=table.features["label"].names,
            ratios=result.ratios,
            plain_agrees=plain_agrees,
            unreadable=rows.unreadable,
            trust=trust,
            run={**description, "arguments": told, "seconds": self.seconds, "warnings": self.warnings},
        )
        result = replace(result, report=report)
        if self.accelerator.is_main_process:
            self._write(result, rows.unreadable, description)
        # The last thing that processes wait for: a push may take longer than a collective may.
        self.accelerator.wait_for_everyone()
        if self.destination is not None and self.accelerator.is_main_process:
            self._publish(self.destination, report, with_adapters=adaptation.kept)
        return result

    def _encode(self, processes: Processes) -> "_Rows":
        arguments, images = self.arguments, self.images
        encoded = encode_dataset(
            images,
            self.backbone,
            self.folder.features,
            accelerator=self.accelerator,
            batch_size=arguments.model.per_device_eval_batch_size,
            num_workers=arguments.model.dataloader_num_workers,
            on_bad_image=arguments.data.on_bad_image,
            overwrite=arguments.run.overwrite_output_dir,
        )
        if processes.index > 0:
            processes.wait()  # until the main one has stored them: the last digits may be others on another machine
        text_features = encode_prompts(self.backbone, self.prompts, self.folder.features)
        if processes.index == 0:
            processes.wait()
        if encoded.unreadable:
            logger.warning(
                "%d of %s could not be read and %s no part.",
                len(encoded.unreadable),
                counted(len(images.labels), "image"),
                "takes" if len(encoded.unreadable) == 1 else "take",
            )
            logger.info("dropped.parquet names them with the reason.")
            if self.facts.must_keep is not None and (lost := self.facts.must_keep[list(encoded.unreadable)].sum()):
                logger.warning(
                    "%s of --must_keep %s among the images that could not be read, and %s not kept.",
                    counted(lost, "row"),
                    are(lost),
                    are(lost),
                )
        numbers = np.setdiff1d(np.arange(len(images.labels)), list(encoded.unreadable))
        classes, labels = present_classes(images.labels[numbers])
        rows = _Rows(
            numbers=numbers,
            classes=classes,
            labels=labels,
            image_features=encoded.features.subset(numbers) if encoded.unreadable else encoded.features,
            text_features=text_features[:, classes],
            features_key=encoded.key,
            unreadable={int(images.source_index[row]): reason for row, reason in sorted(encoded.unreadable.items())},
        )
        return self._with_clusters(rows, processes) if images.has_captions else rows

    def _with_clusters(self, rows: "_Rows", processes: Processes) -> "_Rows":
        """What stands in for the classes of image-text pairs, by plain CLIP: adapters are trained on the captions."""
        clusters, projections = None, Projections(self.backbone.model)
        if processes.index == 0:
            clusters = image_clusters(
                lambda some: as_numpy(embed_rows(projections, rows.image_features, some)),
                len(rows.labels),
                num_clusters=self.arguments.data.num_clusters,
                seed=self.arguments.run.seed,
            )
        references = draw_references(len(rows.classes), seed=self.arguments.run.seed)
        return replace(rows, clusters=processes.broadcast(clusters), references=references)

    def _adapt(self, rows: "_Rows", processes: Processes) -> tuple["_Plain", nn.Module, Adaptation]:
        """What plain CLIP says, before adapters take the place of its heads; and the model to score with."""
        projections = Projections(self.backbone.model)
        prompts = None if self.images.has_captions else as_numpy(embed_prompts(projections, rows.text_features))
        predicted, _, _ = align_rows(
            self.backbone.model, *rows.features, rows.labels, references=rows.references, processes=processes
        )
        ensemble = None
        if self.objective.alignment == "ensemble":
            ensemble = self._ensemble(rows, prompts, processes)
        plain = _Plain(predicted, prompts, ensemble)
        adapters = self._adapters
        if self.adapter is None:
            return plain, *adapters.train_or_find(
                rows.features,
                rows.labels,
                features_key=rows.features_key,
                peft_config=self.peft_config,
                references=rows.references,
            )
        return plain, *adapters.take(self.adapter)

    def _score(
        self, rows: "_Rows", plain: "_Plain", model: nn.Module, adaptation: Adaptation, processes: Processes
    ) -> tuple[Dataset, NeighborGraph | None, Trust]:
        arguments, images = self.arguments, self.images
        scores, graph = score_rows(
            model,
            *rows.features,
            rows.labels,
            rows.classes,
            processes=processes,
            neighbor_fraction=arguments.selection.neighbor_fraction,
            num_neighbors=arguments.selection.num_neighbors,
            num_nearest=NUM_NEAREST if self.objective.redundancy_weight else 0,
            clusters=rows.clusters,
            references=rows.references,
        )
        scores = replace(scores, ensemble=plain.ensemble)
        if arguments.adaptation.num_folds and adaptation.kept:
            predicted, sas, margin = self._adapters.out_of_fold(
                model,
                rows.features,
                rows.labels,
                adaptation,
                features_key=rows.features_key,
                peft_config=self.peft_config,
                references=rows.references,
            )
            scores = replace(scores, predicted_label=rows.classes[predicted], sas=sas, margin=margin)
        adapted = np.searchsorted(rows.classes, scores.predicted_label) if adaptation.kept else None
        labels, class_names = images.labels, images.class_names
        if rows.clusters is None:
            trust = measure_trust(
                rows.labels, plain.predicted, adapted, plain.prompts, [class_names[label] for label in rows.classes]
            )
        else:
            trust = measure_caption_trust(
                plain.predicted == rows.labels,
                None if adapted is None else adapted == rows.labels,
                num_references=len(rows.references),
            )
            scores = cluster_scores(scores, labels[rows.numbers], rows.clusters)
            labels = np.zeros_like(labels)  # an unreadable image is in no cluster, and a label is no gap
            labels[rows.numbers] = rows.clusters
            class_names = cluster_names(rows.clusters)
        check_trust(trust, strict=arguments.selection.strict)
        scores = scores.scattered(rows.numbers, len(labels))
        return score_table(labels, class_names, images.source_index, scores, self.facts), graph, trust

    @property
    def _adapters(self) -> RunAdapters:
        return RunAdapters(self.arguments, self.images, self.backbone, self.accelerator, self.folder)

    def _write(self, result: SelectionResult, unreadable: Mapping[int, str], description: dict[str, Any]) -> None:
        # Until the results are there, config.yaml tells of no knobs that they could be taken to be made with.
        config = self.folder.read_config()
        if not {"adaptation", "identity"} <= config.keys():
            raise RunError(
                f"{self.folder.path} was removed or changed while the run was using it; the same command starts again."
            )
        record = {key: config[key] for key in ("adaptation", "identity")}
        self.folder.write_config(record)
        with during("write"):
            self.folder.write_results(result, self.images, unreadable, scores_only=self.arguments.hub.scores_only)
        if not self.images.has_captions:
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

    def _ensemble(self, rows: "_Rows", prompts: np.ndarray, processes: Processes) -> np.ndarray:
        """Of plain CLIP whether adapters are kept or not: these know the labels that they would judge."""
        scores = None
        if processes.index == 0:
            model = self.backbone.model
            embeds = embed_rows(Projections(model), rows.image_features, np.arange(len(rows.labels)))
            scale = getattr(model, "logit_scale", None)
            scale = {} if scale is None else {"logit_scale": float(scale.exp())}
            scores = ensemble_alignment(embeds, prompts, rows.labels, seed=self.arguments.run.seed, **scale)
        return processes.broadcast(scores)


@dataclass(frozen=True)
class _Rows:
    """The readable rows, N of them, and what was encoded of them."""

    numbers: np.ndarray  # (N,), places in the dataset
    classes: np.ndarray  # (C,), those that have rows, in the numbering of the dataset; or captions
    labels: np.ndarray  # (N,), in [0, C)
    image_features: FeatureRows  # (N, H)
    text_features: torch.Tensor  # (T, C, H')
    features_key: str
    unreadable: dict[int, str]  # source_index -> reason
    clusters: np.ndarray | None = None  # (N,), and
    references: np.ndarray | None = None  # (R,), where labels are captions

    @property
    def features(self) -> tuple[FeatureRows, torch.Tensor]:
        return self.image_features, self.text_features

    def describe_captions(self) -> dict[str, int] | None:
        if self.clusters is None:
            return None
        counts = {"captions": len(self.classes), "references": len(self.references)}
        counts["clusters"] = int(self.clusters.max()) + 1
        return {f"num_{name}": count for name, count in counts.items()}


@dataclass(frozen=True)
class _Plain:
    """What CLIP without adapters says."""

    predicted: np.ndarray  # (N,), numbers of classes or captions among those that have rows
    prompts: np.ndarray | None  # (C, D), None for captions
    ensemble: np.ndarray | None  # (N,), where the objective needs it
