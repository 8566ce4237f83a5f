"""datatrove's executor on this machine, with a pool that notices when one of its processes was killed."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from datatrove.executor import LocalPipelineExecutor
from datatrove.utils.stats import PipelineStats

from ..errors import RunError


class LocalExecutor(LocalPipelineExecutor):
    """[`LocalPipelineExecutor`](https://github.com/huggingface/datatrove), whose own pool would wait forever for a
    task whose process was killed, as by a machine that runs out of memory.

    `run` raises `RunError` then, and the error of a task where one fails; the other tasks are ended, as all are where
    the process of `run` is killed.
    """

    def run(self) -> PipelineStats | None:
        ranks = self.get_incomplete_ranks()
        if self.workers == 1 or not ranks:
            return super().run()
        self.save_executor_as_json()
        others = set(multiprocessing.active_children())
        context = multiprocessing.get_context(self.start_method)
        # What the steps need is imported once for all processes.
        context.set_forkserver_preload(sorted({type(step).__module__ for step in self.pipeline}))
        num_workers = min(self.workers, len(ranks))
        with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_end_with_the_run) as pool:
            started = [pool.submit(_run_task, self, rank) for rank in ranks]
            try:
                stats = sum((task.result() for task in as_completed(started)), start=PipelineStats())
            except BrokenProcessPool as error:
                raise RunError(
                    "A process of this machine that ran a task was killed, perhaps for lack of memory, which fewer "
                    "--workers need less of. The same command runs what is missing."
                ) from error
            except BaseException:
                for worker in set(multiprocessing.active_children()) - others:
                    worker.terminate()
                raise
        with self.logging_dir.open("stats.json", "wt") as file:
            stats.save_to_disk(file)
        return stats


def worker_number() -> int:
    """Which of the processes of [`LocalExecutor`] this one is, from 0; 0 outside of them."""
    identity = multiprocessing.current_process()._identity
    return identity[-1] - 1 if identity else 0


def _end_with_the_run() -> None:
    """Lets a process of the pool end where the run was killed; it would work on, and then wait for ever."""
    run = multiprocessing.parent_process()
    assert run is not None

    def wait() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_task(executor: LocalExecutor, rank: int) -> PipelineStats:
    return executor._run_for_rank(rank, worker_number())
