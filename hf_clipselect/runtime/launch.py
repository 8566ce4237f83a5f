"""The Accelerate engine that a run was launched under."""

import atexit
import os
import sys
from collections.abc import Sequence
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs

from ..errors import InputError
from .words import in_one_line


# How long processes wait for each other: also while one writes a large subset. NCCL's own limit is 10 minutes.
_PATIENCE = timedelta(hours=6)


def make_accelerator(
    *, use_cpu: bool = False, report_to: str | Sequence[str] = "none", logging_dir: str | None = None
) -> Accelerator:
    """An `Accelerator` for however this process was launched; `report_to` names the trackers of the training loss,
    which may write files to `logging_dir`: one or several, "all" that are installed, or "none".

    Raises `InputError` where the processes of the launch do not see each other, the engine splits models, or a
    tracker is unknown or not installed.
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to)
    trackers, given = [name for name in names if name != "none"], " ".join(names)
    try:
        accelerator = Accelerator(
            cpu=use_cpu or not torch.accelerator.is_available(),
            mixed_precision="no",  # adapters train in float32, whatever `accelerate config` says
            log_with=trackers or None,
            project_dir=logging_dir,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
    except ValueError as error:
        raise InputError(
            f"Accelerate refuses --report_to {given}, --use_cpu {use_cpu} or how it was launched: "
            f"{in_one_line(error, 400)}"
        ) from None
    # Accelerate warns of a tracker that is not installed, and trains without it.
    if absent := [name for name in trackers if name not in ("all", *map(str, accelerator.log_with))]:
        raise InputError(
            f"--report_to {' '.join(absent)}: that tracker is not installed; install it, or leave the name out."
        )
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if launched != accelerator.num_processes:
        # Independent runs would both write the output folder.
        raise InputError(
            f"{launched} processes were launched, but Accelerate sees {accelerator.num_processes}. For several "
            "processes on the CPU: ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 "
            "recipes/select.py --use_cpu ..."
        )
    _check_engine(accelerator.distributed_type)
    if torch.distributed.is_initialized():
        atexit.register(_leave_group)
    return accelerator


def exit_now(code: int) -> None:
    """End a process that was launched with others, of which one may be gone; a lone process goes on.

    An orderly exit is not to be had: the threads of the group may wait for a process that is gone, and those of gloo
    abort the interpreter when it shuts down on them ("terminate called without an active exception", torch 2.13).
    """
    if torch.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _check_engine(engine: DistributedType) -> None:
    if engine in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise InputError(
            f"Accelerate was configured for {engine.value}, which splits a model over processes; the adapters are too "
            "small for that. Use plain data parallelism: accelerate launch --multi_gpu, or one of "
            "recipes/accelerate_configs."
        )


def _leave_group() -> None:
    # NCCL warns of a group that is still there at the end of a process.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
