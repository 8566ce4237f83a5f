"""Settings of torch and numpy that the caller made: put aside during a run, and restored after it."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits


class _ProcessWide:
    """Settings that all threads share: the first of several calls puts them aside, the last one puts them back."""

    def __init__(self) -> None:
        self._lock, self._calls, self._restore = threading.Lock(), 0, ExitStack()

    @contextmanager
    def as_torch_has_them(self) -> Iterator[None]:
        with self._lock:
            if self._calls == 0:
                self._put_aside()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    self._restore.close()

    def _put_aside(self) -> None:
        self._hold(torch.get_default_dtype(), torch.float32, torch.set_default_dtype)
        backends: Any = torch.backends
        # `torch.set_float32_matmul_precision` sets some of these.
        for backend, usual in (
            (backends.cuda.matmul, "ieee"),
            (backends.mkldnn.matmul, "ieee"),
            (backends.mkldnn.conv, "ieee"),
            (backends.cudnn.conv, "tf32"),
        ):
            now = getattr(backend, "fp32_precision", "none")  # not before torch 2.9
            if now != "none":
                self._hold(now, usual, partial(setattr, backend, "fp32_precision"))

    def _hold(self, now: Any, usual: Any, set_to: Callable[[Any], None]) -> None:
        if now != usual:
            self._restore.callback(set_to, now)
            set_to(usual)


_process_wide = _ProcessWide()
_imported_in = os.getpid()


@contextmanager
def own_settings() -> Iterator[None]:
    """Run a block, or a function that this decorates, as in a fresh process: settings of the caller change no row.

    Such settings are gradients and inference mode, autocast, the default dtype and device, the precision of float32
    products, and what numpy does about overflow. In a process that was forked from one that had imported this package,
    the threads of OpenMP are gone, and whoever waits for them waits forever: there, everything runs on one thread.
    """
    with ExitStack() as stack:
        stack.enter_context(_process_wide.as_torch_has_them())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is not None and torch.accelerator.is_available():
            stack.enter_context(torch.autocast(accelerator.type, enabled=False))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if sys.stderr is None:  # of a process that was started without one: progress bars write to it all the same
            stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if os.getpid() != _imported_in:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            stack.enter_context(threadpool_limits(1))
        yield
