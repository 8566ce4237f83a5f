"""Forward passes side by side on a CPU, each on one thread.

The number of threads that share a matrix product decides its last digits (torch 2.13), and that number depends on the
machine, the launch and the load. With one thread a pass the bytes are the same everywhere.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch


Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread_each(device: torch.device, *, threads: int | None = None) -> Iterator[int]:
    """Let torch run each pass on one thread inside a block.

    Yields how many passes to run side by side: on a CPU `threads`, by default as many as torch had; 0 on other
    devices, which run one pass after the other.
    """
    before = torch.get_num_threads()
    if device.type != "cpu":
        yield 0
        return
    torch.set_num_threads(1)  # threads that start later inherit it
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """`map` with so many threads, 0 for the caller's own; results come in the order of the items.

    Items are taken in the caller's thread, and no more of them than the threads can work on.
    """
    if threads == 0:
        yield from map(work, items)
        return
    # By itself a new thread would inherit the number that was set last, by whatever thread.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
