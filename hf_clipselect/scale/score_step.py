"""The step that scores shards: each task takes its part of them, and scores those that have no scores to trust."""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import tee
from typing import Any

import torch
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from ..encoder.cores import available_cores
from ..encoder.threads import in_order
from ..errors import InputError
from .executors import Executor, run_pipeline
from .local_executor import worker_number
from .scale_reference import Reference, read_adapter_of, read_reference_of
from .score_files import EMBEDDING, LABEL_ERROR, Shard, read_trusted, write_failure, write_scores
from .shard_scores import CheckedShard, ShardScorer
from .shards import UnreadableShardError, list_shards, read_shard


logger = logging.getLogger(__name__)

_CHECKS_AT_ONCE = 16


@dataclass(frozen=True)
class Scored:
    """What there is once shards were scored: of `num_shards` all but the `lost` ones, which could not be read.

    Of the `num_rows` rows of the others `unreadable` have no scores, and `example` tells of one of these why.
    """

    num_shards: int
    lost: list[Shard]
    num_rows: int
    unreadable: int
    example: str | None


class ScoreShards(PipelineStep):
    """Scores every so-many-th of some shards, and writes a score file for each, or why it can't be read.

    While a shard goes through the model, the next one is read and its first images are decoded. `sharing` tasks run on
    a machine at once, and share its cores. `num_workers` processes decode for each task, by default none on a CPU,
    where the tasks themselves are side by side, and all cores but one beside a GPU.
    """

    type, name = "hf_clipselect", "score"

    def __init__(
        self,
        data: DataFolder,
        work: DataFolder,
        shards: Sequence[Shard],
        *,
        key: str,
        columns: Sequence[str] = (),
        use_cpu: bool = False,
        num_workers: int | None = None,
        sharing: int = 1,
    ) -> None:
        super().__init__()
        self.data, self.work, self.shards, self.key = data, work, list(shards), key
        self.columns, self.use_cpu, self.num_workers = columns, use_cpu, num_workers
        self.sharing = sharing

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Score the shards `rank`, `rank + world_size` and so on; datatrove gives and takes no rows."""
        missing = [shard for shard in self.shards[rank::world_size] if not self.is_done(shard)]
        if not missing:
            return
        reference = read_reference_of(self.work)
        scorer = self._scorer()

        def checked(shard: Shard) -> tuple[Shard, CheckedShard | UnreadableShardError]:
            try:
                rows = read_shard(self.data, shard, reference.columns, has_captions=reference.has_captions)
                return shard, scorer.check(rows)
            except UnreadableShardError as error:
                return shard, error

        to_decode, to_score = tee(in_order(checked, missing, threads=1))
        start = time.perf_counter()
        with closing(scorer.decode(found for _, found in to_decode if isinstance(found, CheckedShard))) as decoded:
            for shard, found in to_score:
                if isinstance(found, UnreadableShardError):
                    logger.warning("The shard %s can't be read: %s", shard.path, found)
                    write_failure(self.work, shard, str(found), key=self.key)
                    self.stat_update("lost_shards")
                else:
                    scores = scorer.score(found, decoded, columns=self.columns)
                    seconds, num_rows = time.perf_counter() - start, len(found.rows.images)
                    write_scores(self.work, shard, scores, key=self.key, num_rows=num_rows, seconds=seconds)
                    self.stat_update("scored_rows", value=len(scores.row), unit="shard")
                start = time.perf_counter()

    def is_done(self, shard: Shard) -> bool:
        """Whether the scores of a shard are there, and can be trusted."""
        return self.told_of(shard) is not None

    def told_of(self, shard: Shard) -> dict[str, Any] | None:
        """What the score file of a shard tells of itself; None where the shard is not done."""
        found = read_trusted(self.work, shard, key=self.key, columns=self.columns)
        return None if found is None else found[0]

    def _scorer(self) -> ShardScorer:
        device = "cpu"
        if torch.cuda.is_available() and not self.use_cpu:
            device = f"cuda:{worker_number() % torch.cuda.device_count()}"
        cores = max(1, available_cores() // self.sharing)
        workers = self.num_workers
        if workers is None:
            workers = 0 if device == "cpu" else max(1, cores - 1)
        return _load_scorer(self.work.resolve_paths(""), self.key, device, workers, cores)


@lru_cache(maxsize=1)
def _load_scorer(work: str, key: str, device: str, num_workers: int, threads: int) -> ShardScorer:
    """The tasks of a process, one after the other, share the model."""
    folder = get_datafolder(work)
    reference = read_reference_of(folder)
    adapter = read_adapter_of(folder, reference)
    return ShardScorer(reference, adapter, device=device, num_workers=num_workers, threads=threads)


def score_shards(
    data: DataFolder,
    work: DataFolder,
    *,
    tasks: int = 1,
    workers: int = -1,
    executor: Executor | None = None,
    with_embeddings: bool = False,
    with_label_errors: bool = False,
    use_cpu: bool = False,
    num_workers: int | None = None,
) -> Scored | None:
    """Score all shards of a data folder that have no scores to trust, by the reference of the working folder.

    By default as many tasks run at once on this machine as it has GPUs, or cores where there are none. Gives None
    where the tasks are only on their way, as on Slurm. Raises `InputError` as [`list_shards`], [`read_reference_of`]
    and [`run_pipeline`], where a task finds another model than the reference's, and where the reference can't tell how
    probably labels are wrong, which was asked for.
    """
    executor = executor or Executor()
    if num_workers is not None and num_workers < 0:
        raise InputError(
            f"--dataloader_num_workers must be 0 or more, got {num_workers}; leave it out for as many as fit."
        )
    reference: Reference = read_reference_of(work)
    if with_label_errors:
        _check_label_judge(reference)
    columns = [name for name, asked in ((EMBEDDING, with_embeddings), (LABEL_ERROR, with_label_errors)) if asked]
    shards = list_shards(data, work)
    tasks, sharing = min(tasks, len(shards)), 1
    if executor.name == "local":
        if workers == -1:
            gpus = 0 if use_cpu else torch.cuda.device_count()
            workers = min(tasks, gpus or available_cores())
        sharing = min(workers, tasks)
    step = ScoreShards(
        data,
        work,
        shards,
        key=reference.key,
        columns=columns,
        use_cpu=use_cpu,
        num_workers=num_workers,
        sharing=sharing,
    )
    told = [reference.key, columns, tasks, [(shard.path, shard.size) for shard in shards]]
    logs = f"logs/score-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"
    done = run_pipeline(
        [step],
        folder=get_datafolder(work.resolve_paths(logs)),
        tasks=tasks,
        workers=workers,
        executor=executor,
        is_done=lambda rank: all(map(step.is_done, shards[rank::tasks])),
    )
    return _scored(step) if done else None


def _check_label_judge(reference: Reference) -> None:
    if reference.has_captions:
        raise InputError("--label_errors judges labels of classes, but the sample has captions; leave it out.")
    if reference.label_judge is None:
        raise InputError(
            "--label_errors is not possible: in the sample neither CLIP nor a regression tells the classes apart. "
            "Leave it out, or check class names, prompts and model of the sample's run, and run prepare again."
        )


def _scored(step: ScoreShards) -> Scored:
    lost, num_rows, unreadable, example = [], 0, 0, None
    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        for shard, told in zip(step.shards, pool.map(step.told_of, step.shards), strict=True):
            if told is None:
                lost.append(shard)
                continue
            num_rows, unreadable = num_rows + told["num_rows"], unreadable + told["unreadable"]
            if example is None and told["example"] is not None:
                example = f"{shard.path}, {told['example']}"
    return Scored(len(step.shards), lost, num_rows, unreadable, example)
