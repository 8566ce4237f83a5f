"""How decoding and the model share the cores of a machine."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from .pixels import PreprocessedImages, collate
from .tower import ImageTower


# Images that are timed, and below how many a dataset is not worth it.
_TRIAL_IMAGES = 8
_WORTH_A_TRIAL = 512


@contextmanager
def cores_shared(
    pixels: PreprocessedImages, tower: ImageTower, rows: Sequence[int], *, num_workers: int | None = None
) -> Iterator[int]:
    """Set torch's threads for a run over these rows, and give the number of decoding processes.

    With a GPU the cores are free to decode. On a CPU both work there, and threads that wait for a core spin: they would burn
    what the other side needs. A few images are timed, and each side gets its share of the cores; the features are the same
    for any share.

    Args:
        pixels (`PreprocessedImages`): What the workers run.
        tower (`ImageTower`): What runs here.
        rows (`Sequence[int]`): The rows to come.
        num_workers (`int`, *optional*): Decoding processes that the user asked for; the threads are then left alone.

    Yields:
        `int`: Decoding processes; 0 for none.
    """
    cores, threads = available_cores(), torch.get_num_threads()
    if num_workers is not None:
        workers = num_workers
    elif tower.backbone.model.device.type != "cpu":
        workers = max(1, cores - 1)
    elif cores == 1 or len(rows) < _WORTH_A_TRIAL:
        workers = 0
    else:
        decoding = round(_decoding_share(pixels, tower, list(rows[:_TRIAL_IMAGES])) * cores)
        workers = max(1, decoding)
        # The launchers of several processes give each of them one thread, whatever its share of the cores.
        most = cores if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1 else threads
        torch.set_num_threads(max(1, min(most, cores - decoding)))
    try:
        yield workers
    finally:
        torch.set_num_threads(threads)


def available_cores() -> int:
    """The cores that this process may use, shared with the other processes that were launched on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _decoding_share(pixels: PreprocessedImages, tower: ImageTower, rows: list[int]) -> float:
    """Decoding's part of the CPU time of an image."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, pixel_values, _ = collate(pixels.__getitems__(rows[:1]))
        tower(pixel_values)  # the first passes prepare more than they compute
        start = time.process_time()
        _, pixel_values, _ = collate(pixels.__getitems__(rows))
        decoded = time.process_time()
        tower(pixel_values)
        encoded = time.process_time()
    finally:
        torch.set_num_threads(threads)
    return (decoded - start) / max(encoded - start, 1e-9)
