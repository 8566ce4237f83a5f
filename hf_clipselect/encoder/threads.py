"""Forward passes side by side on a CPU, each on a thread of its own.

How many threads share one product decides its last digits (torch 2.13), and how many there are depends on the machine,
the launch and the load. One thread for each pass gives the same bytes everywhere, and no thread ever waits for
another.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch


Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread_each(device: torch.device, *, threads: int | None = None) -> Iterator[int]:
    """Take torch's threads apart for a block.

    Args:
        device (`torch.device`): Where the passes run.
        threads (`int`, *optional*): Passes side by side on a CPU; default as many as torch has threads.

    Yields:
        `int`: Passes to run side by side; 0 for a device that is no CPU, which takes one after the other.
    """
    before = torch.get_num_threads()
    if device.type != "cpu":
        yield 0
        return
    torch.set_num_threads(1)  # threads that start from here on take it over
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """`map` in threads, with no more items taken than threads can work on.

    Args:
        work (`Callable`): Runs in the threads.
        items (`Iterable`): Taken in the caller's thread.
        threads (`int`): How many; 0 to work in the caller's thread.

    Yields:
        What `work` returns, in the order of the items.
    """
    if threads == 0:
        yield from map(work, items)
        return
    # What a new thread takes over on its own is the number that was set last, by whatever thread.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))
    try:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
