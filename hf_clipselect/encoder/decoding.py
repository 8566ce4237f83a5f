"""Batches of images, decoded ahead of the model: by processes where they can start, else by threads."""

import multiprocessing
import os
import warnings
from collections.abc import Generator, Iterable
from itertools import chain, islice
from multiprocessing.util import Finalize
from operator import length_hint

from torch.utils.data import DataLoader

from ..runtime.interrupts import held_back
from .pixels import PixelBatch, PreprocessedImages, SentImages, hand_over
from .threads import in_order


def decoded_batches(
    pixels: PreprocessedImages | SentImages, batches: Iterable[list], *, num_workers: int, pin_memory: bool = False
) -> Generator[PixelBatch, None, None]:
    """Decode batches, each of what `pixels` takes, in their order, with so many processes or threads; 0 for the
    caller's own thread. Batches are taken in the caller's thread, some of them ahead.

    Processes, threads and the caller decode the same values. `pin_memory` is for a GPU. Not for a thread of a
    `ThreadPoolExecutor`: a process that starts there can't end in order, since Python lets it wait for itself.
    """
    num_workers = min(num_workers, length_hint(batches, num_workers))
    if num_workers and why_no_processes() is None:
        # A GPU should not wait for a batch of large images; so many of floats, four times as large, would fill the
        # memory.
        ahead = 4 if pin_memory and pixels.lean is not None else 2
        batches = iter(batches)
        first = list(islice(batches, ahead * num_workers))
        loader = DataLoader(
            pixels,
            batch_sampler=chain(first, batches),
            collate_fn=hand_over,  # type: ignore[arg-type]  # `__getitems__` gives a batch, not a list
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=ahead,
            worker_init_fn=_end_without_the_run,
        )
        with held_back():  # the processes inherit it: an interrupt is for the run, which ends them
            decoded = iter(loader)
        yield from decoded
        return
    for batch in in_order(pixels.__getitems__, batches, threads=num_workers):
        yield batch.pin_memory() if pin_memory else batch


def _end_without_the_run(worker: int) -> None:
    """Lets a decoding process end where the run was killed; it would wait until somebody reads what it decoded."""
    run = os.getppid()

    def end() -> None:
        if os.getppid() != run:
            os._exit(1)

    Finalize(None, end, exitpriority=1000)  # before queues wait until they are empty


def why_no_processes() -> str | None:
    """Why this process can't start others that decode; `None` where it can.

    A start method other than fork runs the caller's script again in each process: without `if __name__ ==
    "__main__":` that fails, or never ends.
    """
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method != "fork":
        return f"the start method of multiprocessing is {method!r} here"
    return "this process is a daemonic one" if multiprocessing.current_process().daemon else None


def warn_if_threads(num_workers: int | None) -> None:
    """Warn a user who asked for decoding processes where threads take their place."""
    why = why_no_processes()
    if num_workers and why is not None:
        warnings.warn(
            f"{num_workers} processes were to decode the images: as many threads do so instead, since {why}. The "
            "result is the same.",
            stacklevel=2,
        )
