"""The map of the rows for the page: points with what they are coloured by, read from the run's folder or made now."""

import json

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ..embedding_map import make_map, read_map, write_map
from .explored import Explored


def find_map(explored: Explored) -> pa.Table | None:
    """What `map.parquet` of the run holds; None where there is none."""
    return None if explored.folder is None else read_map(explored.folder)


def draw_map(explored: Explored) -> pa.Table:
    """Make the map from the features that the run left, and write it into the run's folder for the next time.

    Raises `InputError` where the features are not here.
    """
    if explored.embeds is None or explored.folder is None:
        raise InputError(
            "A map needs the features of the run, which are in its output folder alone, and not in a published "
            "repository."
        )
    table = make_map(explored.embeds, explored.embeds.source_index, seed=explored.result.seed)
    write_map(explored.folder, table)
    return table


def points_of(explored: Explored, table: pa.Table) -> str:
    """JSON for the page: of each point that the selection knows its place, row number, class and colours in [0, 1].

    Places are scaled to [0, 1], with equal units in both directions.
    """
    numbers = table.column("source_index").to_numpy()
    rows = np.searchsorted(explored.source_index, numbers)
    rows[rows == len(explored.source_index)] = 0
    known = explored.source_index[rows] == numbers
    rows, numbers = rows[known], numbers[known]
    places = np.stack([table.column(name).to_numpy()[known] for name in ("x", "y")], axis=1).astype(np.float64)
    places -= places.min(axis=0, initial=np.inf)
    places /= max(places.max(initial=0), 1e-9)
    if explored.has_noise_model:
        wrong, ends = explored.column("label_error_probability")[rows], ["probably right", "probably wrong"]
    else:
        wrong, ends = np.clip(-explored.column("margin")[rows], 0, None), ["fits best", "another fits far better"]
        wrong = wrong / max(np.nanmax(wrong, initial=0), 1e-9)
    return json.dumps(
        {
            "x": np.round(places[:, 0], 4).tolist(),
            "y": np.round(places[:, 1], 4).tolist(),
            "row": numbers.tolist(),
            "label": explored.labels[rows].tolist(),
            "kept": explored.column(f"selected_{explored.sizes[0]}")[rows].astype(int).tolist(),
            "wrong": np.round(np.nan_to_num(wrong.astype(np.float64)), 3).tolist(),
            "ends": ends,
            "names": explored.names,
        }
    )
