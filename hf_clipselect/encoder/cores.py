"""How image decoding and the model share the cores of a machine."""

import os
import time
from collections.abc import Sequence

import torch

from .pixels import PreprocessedImages
from .threads import one_thread_each
from .tower import ImageTower


_TRIAL_IMAGES = 8
# Fewer rows are not worth a trial.
_WORTH_A_TRIAL = 512


def share_cores(
    pixels: PreprocessedImages, tower: ImageTower, rows: Sequence[int], *, num_workers: int | None = None
) -> tuple[int, int]:
    """How many processes decode (0 for none), and how many threads run the model on a CPU.

    With a GPU all other cores decode. On a CPU both sides need the cores, so a few images are timed and each side gets
    its share. `num_workers` is the number of processes that the user asked for.
    """
    cores, threads = available_cores(), torch.get_num_threads()
    if num_workers is not None:
        return num_workers, threads
    if tower.backbone.model.device.type != "cpu":
        return max(1, cores - 1), threads
    # Launchers give each of several processes one thread, whatever its share of the cores.
    most = cores if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1 else threads
    if cores == 1 or len(rows) < _WORTH_A_TRIAL:
        return 0, most
    decoding = round(_decoding_share(pixels, tower, list(rows[:_TRIAL_IMAGES])) * cores)
    return max(1, decoding), max(1, min(most, cores - decoding))


def available_cores() -> int:
    """The cores of this process: its share where several processes were launched on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _decoding_share(pixels: PreprocessedImages, tower: ImageTower, rows: list[int]) -> float:
    """The fraction of an image's CPU time that decoding takes."""
    with one_thread_each(torch.device("cpu")):
        tower(pixels.__getitems__(rows[:1]).pixels)  # the first passes prepare more than they compute
        start = time.process_time()
        batch = pixels.__getitems__(rows).pixels
        decoded = time.process_time()
        tower(batch)
        encoded = time.process_time()
    return (decoded - start) / max(encoded - start, 1e-9)
