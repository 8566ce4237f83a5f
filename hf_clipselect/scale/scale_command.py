"""What `recipes/web_scale.py` does: the steps of a selection from shards, each a command of its own."""

import argparse
import logging
import sys
from collections.abc import Sequence

from datatrove.io import get_datafolder

from ..config.command_parser import CommandParser
from ..errors import InputError, RunError
from ..pipeline.run_log import logged_to_stderr
from ..runtime.failures import explained_failures
from ..runtime.terminal import error_line
from ..runtime.words import in_one_line
from .executors import add_executor, executor_of
from .prepare_reference import SampleColumns, prepare_reference
from .scale_reference import FOLDER
from .score_files import SCORES
from .score_step import score_shards
from .select_commands import add_plan, add_select, add_write
from .storage_failures import explained_storage
from .whole_files import remove_left


_DESCRIPTION = """\
Select from shards of image-text pairs that outgrow one machine. First hf-clipselect select on a sample, then:

  web_scale.py prepare --sample_dir clipselect_output --work_dir s3://bucket/work
  web_scale.py score --data_dir s3://bucket/shards --work_dir s3://bucket/work --tasks 100 --executor slurm ...
  web_scale.py select --data_dir s3://bucket/shards --work_dir s3://bucket/work --selection_ratio 0.3
  web_scale.py write --data_dir s3://bucket/shards --work_dir s3://bucket/work
  web_scale.py plan --num_rows 1e9 --work_dir s3://bucket/work   # what it takes, by the shards scored so far

Folders may be on this machine or any URL of fsspec. Each command goes on from what is there."""
_DATA = "Folder of the shards: WebDataset .tar files, or .parquet."
_WORK = "Folder for reference, scores and results; the same in all steps, outside of --data_dir."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a step from the flags of a command line; returns the exit code, after one line on stderr if it is not 0.

    `--plan` as the first of them is another name of the step `plan`.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["--plan"]:
        given[0] = "plan"
    try:
        arguments = scale_parser().parse_args(given)
        folders = {flag: getattr(arguments, flag, None) for flag in ("data_dir", "work_dir")}
        with logged_to_stderr(logging.INFO), explained_failures(None), explained_storage(folders):
            for flag, folder in folders.items():
                _check_folder(flag, folder)
            arguments.run(arguments)
    except (InputError, RunError) as error:
        sys.stderr.write(error_line(error))
        return 2 if isinstance(error, InputError) else 1
    except SystemExit as ended:  # of the parser, which has said why
        return int(ended.code or 0)
    return 0


def _check_folder(flag: str, given: str | None) -> None:
    """Raise `InputError` where fsspec can't open a folder of this name, whatever is in it."""
    if given is None:
        return
    try:
        if given == "":
            raise ValueError("no folder is named")
        get_datafolder(given)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"--{flag} {given!r} can't be opened: {in_one_line(error, 200).rstrip('.')}. Give a folder of this "
            "machine, or a URL of fsspec such as s3://bucket/work; pip install 'hf_clipselect[s3,gcs]' has what s3:// "
            "and gs:// need."
        ) from error


def scale_parser() -> argparse.ArgumentParser:
    """What reads the flags of all steps; the parsed `run` does what the step does."""
    parser = CommandParser(description=_DESCRIPTION)
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    _add_prepare(steps)
    _add_score(steps)
    add_select(steps)
    add_write(steps)
    add_plan(steps)
    return parser


def _add_prepare(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("prepare", help="make the reference from a finished run on a sample")
    parser.add_argument("--sample_dir", required=True, help="Output folder of hf-clipselect select on a sample.")
    parser.add_argument("--work_dir", required=True, help=_WORK)
    parser.add_argument("--num_clusters", type=int, help="Clusters of images (default: as the sample's run).")
    parser.add_argument("--image_column_name", help="Image column of .parquet shards (default: as in the sample).")
    parser.add_argument("--text_column_name", help="Their caption or label column (default: as in the sample).")
    parser.add_argument("--uid_column_name", help="Their column of 128-bit uids (default: uids are made).")
    parser.set_defaults(run=_prepare)


def _prepare(arguments: argparse.Namespace) -> None:
    columns = SampleColumns(arguments.image_column_name, arguments.text_column_name, arguments.uid_column_name)
    work = get_datafolder(arguments.work_dir)
    remove_left(work, [FOLDER])
    reference = prepare_reference(arguments.sample_dir, work, columns=columns, num_clusters=arguments.num_clusters)
    kind = "captions" if reference.has_captions else "prompts of classes"
    sys.stdout.write(
        f"reference: {len(reference.embeds):,} rows of {len(set(reference.clusters.tolist())):,} clusters, "
        f"{len(reference.texts):,} {kind}, {'kept adapters' if reference.adapter_id else 'plain CLIP'}, "
        f"key {reference.key[:12]}\n"
    )


def _add_score(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("score", help="score all shards that have no scores of the reference yet")
    parser.add_argument("--data_dir", required=True, help=_DATA)
    parser.add_argument("--work_dir", required=True, help=_WORK)
    parser.add_argument(
        "--embeddings", action="store_true", help="Keep float16 embeddings, which --redundancy_weight of select needs."
    )
    parser.add_argument(
        "--label_errors", action="store_true", help="Add how probably each label is wrong, label_error_probability."
    )
    parser.add_argument("--use_cpu", action="store_true", help="Leave GPUs alone.")
    parser.add_argument(
        "--dataloader_num_workers",
        type=int,
        help="Processes that decode for each task (default: none on a CPU, all cores but one beside a GPU).",
    )
    add_executor(parser)
    parser.set_defaults(run=_score)


def _score(arguments: argparse.Namespace) -> None:
    work = get_datafolder(arguments.work_dir)
    remove_left(work, [SCORES])
    scored = score_shards(
        get_datafolder(arguments.data_dir),
        work,
        tasks=arguments.tasks,
        workers=arguments.workers,
        executor=executor_of(arguments),
        with_embeddings=arguments.embeddings,
        with_label_errors=arguments.label_errors,
        use_cpu=arguments.use_cpu,
        num_workers=arguments.dataloader_num_workers,
    )
    if scored is None:
        sys.stdout.write(
            "scores: the tasks are handed over; run the same command again when they have ended. It hands over what "
            "is missing then, shards that could not be read among it.\n"
        )
        return
    count, lost = scored.num_shards, scored.lost
    sys.stdout.write(f"scores: {count - len(lost)} of {count} shards\n")
    if scored.unreadable:
        sys.stdout.write(
            f"without scores: {scored.unreadable:,} of {scored.num_rows:,} rows, such as {scored.example}\n"
        )
    for shard in lost:
        sys.stdout.write(f"not readable: {shard.path}, see {shard.failed_path}\n")
