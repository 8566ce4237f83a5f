"""What `hf-clipselect suspects` does: show the most probably wrong labels of a selection, for a check by eye."""

import argparse
import sys

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from datasets import Dataset

from ..errors import InputError
from ..results.report import (
    PICTURE_SIDE,
    captions_of,
    draw_grid,
    for_spreadsheets,
    pick_suspects,
    small_images,
    suspects_table,
    verdict,
)
from ..results.scores_table import column_values
from ..results.selection_result import SelectionResult
from ..results.source_images import source_dataset
from ..runtime.files import make_folder
from ..runtime.terminal import printable
from .given_selection import read_selection


_MAX_IN_GRID = 200
_MAX_NAME_LENGTH = 28


def run_command(arguments: argparse.Namespace) -> None:
    """Print the suspects, and write their tables and picture.

    Args:
        arguments (`argparse.Namespace`): Of the parser of this command, see `command_parsers`.

    Raises:
        InputError: There is no such selection, class or dataset, or a flag is out of range.
    """
    if arguments.num < 1:
        raise InputError(f"--num is how many rows to show and must be at least 1, got {arguments.num}.")
    result = read_selection(arguments.selection, arguments.revision)
    rows = pick_suspects(result.scores, num=arguments.num, label=arguments.label)
    dataset = _load_images(result, arguments) if len(rows) else None
    captions = None
    if dataset is not None and "better_caption" in result.scores.column_names:
        captions = captions_of(dataset, result.source.label_column)
    table = suspects_table(result.scores, rows, captions)
    _print_table(table)
    output_dir = make_folder(arguments.output_dir, "--output_dir")
    pyarrow.csv.write_csv(for_spreadsheets(table), output_dir / "suspects.csv")
    pq.write_table(table, output_dir / "suspects.parquet")
    _tell(f"tables: {output_dir / 'suspects.csv'}, {output_dir / 'suspects.parquet'}")
    # One of an earlier call would be taken for that of these tables.
    (output_dir / "suspects.png").unlink(missing_ok=True)
    if dataset is not None:
        shown = rows[:_MAX_IN_GRID]
        source_rows = column_values(result.scores, "source_index")[shown]
        images = small_images(dataset, result.source.image_column, source_rows, max_side=PICTURE_SIDE)
        draw_grid(result.scores, shown, images, captions).save(output_dir / "suspects.png")
        _tell(f"images: {output_dir / 'suspects.png'}, {len(shown)} of them")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _load_images(result: SelectionResult, arguments: argparse.Namespace) -> Dataset | None:
    """The dataset that the rows count in, or None, after a sentence that says why."""
    if not result.source.image_column:
        _tell("images: none, the selection was made from embeddings.")
        return None
    try:
        return source_dataset(
            result,
            arguments.selection,
            dataset_name=arguments.dataset_name,
            dataset_config_name=arguments.dataset_config_name,
            train_split_name=arguments.train_split_name,
            allow_outside_files=arguments.allow_outside_files,
        )
    except InputError as error:
        if arguments.dataset_name:
            raise
        _tell(f"images: none. {printable(error)} Or name it with --dataset_name.")
        return None


def _print_table(table: pa.Table) -> None:
    if len(table) == 0:
        _tell("No row is suspect: every given label fits best.")
        return
    of_model = "label_error_probability" in table.column_names
    kept = [name for name in table.column_names if name.startswith("selected_")]
    found = "noise model" if of_model else "CLIP proposes"
    heading = ["row", "label", found, "sas", "margin", *(name.removeprefix("selected_") for name in kept)]
    lines = []
    for row in table.to_pylist():
        proposed = _shorten(row["proposed_label"])
        line = [
            str(row["source_index"]),
            _shorten(row["label"]),
            verdict(row["label_error_probability"], proposed) if of_model else proposed,
            f"{row['sas']:.3f}",
            f"{row['margin']:+.3f}",
            *("kept" if row[name] else "-" for name in kept),
        ]
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(heading, *lines, strict=True)]
    for line in [heading, *lines]:
        cells = [
            cell.ljust(width) if column in (1, 2) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        _tell("  ".join(cells).rstrip())


def _shorten(name: str) -> str:
    name = printable(" ".join(name.split()))  # a line break in a name would break the table
    return name if len(name) <= _MAX_NAME_LENGTH else name[: _MAX_NAME_LENGTH - 3] + "..."
