"""Makes the reference from the output folder of a finished run on a sample: nothing that is there is made again.

Legend: N readable rows of the sample, K clusters or classes, M reference rows, R texts, D embed_dim.
"""

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from datatrove.io import DataFolder
from threadpoolctl import threadpool_limits

from ..adapters.adapter_files import AdapterFiles, adapter_files_id, fetch_adapter
from ..adapters.peft_folder import load_into
from ..adapters.projections import Projections, embed_prompts, embed_rows
from ..config.command_line import parse_arguments
from ..encoder.cache import digest, recorded_key
from ..encoder.images import FULL_WHITE
from ..errors import InputError
from ..pipeline.encode import EncodedRows, encode
from ..pipeline.plain_clip import label_judge
from ..pipeline.prepare_dataset import Passed, prepare_dataset
from ..pipeline.prepared import ImageInputs, Prepared
from ..runtime.launch import make_accelerator
from ..scores.arrays import as_numpy
from ..scores.clusters import find_clusters
from ..scores.diversity import neighbor_count, references_to_take
from ..scores.sample_scores import present_classes
from ..scores.targets import Classes
from .scale_reference import ModelOfSample, Reference, ShardColumns
from .shard_labels import classes_of_labels


# Rows of a cluster that the rows of all shards are compared with: the more, the less the diversity scores scatter.
_REFERENCES_PER_CLUSTER = 2048


@dataclass(frozen=True)
class SampleColumns:
    """Columns of Parquet shards where they bear other names than in the sample; and that of uids, if there is one."""

    image: str | None = None
    text: str | None = None
    uid: str | None = None


def prepare_reference(
    sample_dir: str | Path, work: DataFolder, *, columns: SampleColumns | None = None, num_clusters: int | None = None
) -> Reference:
    """Make the reference from the output folder of a run of the command line, and write it into the working folder.

    `num_clusters` is the number of clusters of images where the sample has captions, by default as in the sample's own
    run. Raises `InputError` where the folder holds no finished run, its dataset, model or adapters are not there any
    more as they were, or the working folder holds another reference.
    """
    sample_dir = Path(sample_dir)
    config = _finished_run(sample_dir)
    flags = ["--config", str(sample_dir / "config.yaml"), "--output_dir", str(sample_dir)]
    if num_clusters is not None:
        if config["arguments"].get("caption_column") is None:
            raise InputError(
                f"--num_clusters {num_clusters}: the sample has labels, whose classes take the place of clusters; "
                "leave it out."
            )
        flags += ["--num_clusters", str(num_clusters)]
    arguments = parse_arguments(flags)
    with ExitStack() as stack:
        prepared = prepare_dataset(
            arguments,
            Passed(),
            accelerator=make_accelerator(use_cpu=arguments.run.use_cpu),
            stack=stack,
            seconds={},
        )
        rows = encode(prepared)
        adapter = _kept_adapter(sample_dir, config)
        reference = _reference(prepared, rows, adapter, columns or SampleColumns())
    reference.write(work, adapter)
    return reference


def _finished_run(sample_dir: Path) -> dict:
    try:
        config = yaml.safe_load((sample_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        config = None
    whole = isinstance(config, dict) and {"arguments", "adaptation"} <= config.keys()
    if config is None or not whole or not (sample_dir / "scores.parquet").exists():
        raise InputError(
            f"--sample_dir {sample_dir} holds no finished run. Give the output folder of hf-clipselect select on a "
            "sample of the data, or run that again to its end."
        )
    if not config["arguments"].get("dataset_name"):
        raise InputError(
            f"The run in --sample_dir {sample_dir} was passed a dataset in Python, which can't be loaded again by "
            "name. Save the sample, and run hf-clipselect select on it with --dataset_name."
        )
    return config


def _kept_adapter(sample_dir: Path, config: dict) -> AdapterFiles | None:
    if not config["adaptation"].get("kept"):
        return None
    if adapter_files_id(sample_dir / "adapter") != config["adaptation"].get("files"):
        raise InputError(
            f"The adapters in --sample_dir {sample_dir} are not those that its run kept. Run hf-clipselect select on "
            "the sample again."
        )
    return fetch_adapter(sample_dir / "adapter")


def _reference(
    prepared: Prepared[ImageInputs], rows: EncodedRows, adapter: AdapterFiles | None, columns: SampleColumns
) -> Reference:
    inputs, features, targets = prepared.inputs, rows.features, rows.targets
    if isinstance(targets, Classes):
        centroids = np.empty((0, inputs.backbone.embed_dim), dtype=np.float32)
        clusters, text_features = targets.numbers[targets.labels], features.texts
        texts = [targets.names[number] for number in targets.numbers]
        is_named = prepared.arguments.data.class_names_file is not None
        class_of_label, labels_are_numbers = classes_of_labels(inputs.images, are_named=is_named)
        class_numbers = targets.numbers.tolist()
        with threadpool_limits(1):  # how many threads there are would decide last digits
            judge = label_judge(prepared, rows)
    else:
        clusters, centroids = find_clusters(
            lambda some: features.plain_embeds(inputs.model, some),
            len(targets.labels),
            num_clusters=prepared.rows.num_clusters,
            seed=prepared.seed,
        )
        present, _ = present_classes(prepared.rows.labels[rows.numbers])
        text_features = features.texts[:, targets.references]
        texts = [prepared.rows.class_names[number] for number in present[targets.references]]
        class_of_label, labels_are_numbers, class_numbers, judge = {}, False, [], None
    # Plain CLIP's projections are read first: adapters take the place of the model's heads.
    model = inputs.model if adapter is None else load_into(copy.deepcopy(inputs.model), adapter)
    projections = Projections(model)
    chosen = _reference_rows(clusters, seed=prepared.seed)
    source = inputs.images.source
    return Reference(
        has_captions=prepared.rows.has_captions,
        model=_model_of(inputs),
        columns=ShardColumns(columns.image or source.image_column, columns.text or source.label_column, columns.uid),
        seed=prepared.seed,
        num_rows=len(clusters),
        adapter_id=None if adapter is None else adapter.files_id,
        texts=texts,
        class_of_label=class_of_label,
        labels_are_numbers=labels_are_numbers,
        class_numbers=class_numbers,
        centroids=centroids,
        embeds=as_numpy(embed_rows(projections, features.images, chosen)),
        clusters=clusters[chosen],
        num_nearest=_num_nearest(prepared, clusters, clusters[chosen]),
        text_embeds=as_numpy(embed_prompts(projections, text_features)),
        label_judge=judge,
    )


def _reference_rows(clusters: np.ndarray, *, seed: int) -> np.ndarray:
    """At most 2,048 rows of each cluster, drawn with the seed: `(M,)`, int64, by cluster and row."""
    rng = np.random.default_rng([seed, 8])  # another stream than those of references, clusters and folds
    by_cluster = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[by_cluster], prepend=-1))
    parts = []
    for rows in np.split(by_cluster, starts[1:]):
        if len(rows) > _REFERENCES_PER_CLUSTER:
            rows = np.sort(rng.choice(rows, _REFERENCES_PER_CLUSTER, replace=False))
        parts.append(rows)
    return np.concatenate(parts)


def _num_nearest(prepared: Prepared[ImageInputs], clusters: np.ndarray, of_references: np.ndarray) -> np.ndarray:
    """How many nearest references stand for the nearest rows of each cluster, `(K,)`; 0 where it has none."""
    chosen = prepared.arguments.selection
    sizes, counts = np.bincount(clusters), np.bincount(of_references)
    nearest = np.zeros(len(sizes), dtype=np.int64)
    for cluster in np.flatnonzero(sizes):
        k = neighbor_count(int(sizes[cluster]), chosen.neighbor_fraction, chosen.num_neighbors)
        nearest[cluster] = references_to_take(k, int(sizes[cluster]), int(counts[cluster]))
    return nearest


def _model_of(inputs: ImageInputs) -> ModelOfSample:
    backbone, recorded = inputs.backbone, recorded_key(inputs.folder.features)
    return ModelOfSample(
        name=backbone.name,
        revision=backbone.revision,
        identity=digest(backbone.identity()),
        precision=backbone.precision,
        products=backbone.products,
        batch_size=inputs.batch_size,
        white=recorded.get("white", FULL_WHITE),
        is_lean="pixels" in recorded,
    )
