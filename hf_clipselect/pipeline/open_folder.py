"""The output folder of a run, opened: checked, and this run's alone."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..results.run_folder import RunFolder
from ..runtime.processes import Processes


def open_folder(
    stack: ExitStack, path: str | None, identity: Mapping[str, Any], processes: Processes, *, overwrite: bool
) -> RunFolder:
    """Check the folder of a run and lock it until the stack is closed; without a path it is a temporary one.

    Of a stream the identity is a part of the whole one, which [`settle_identity`] is told.

    Raises `InputError` as [`RunFolder.check`], or where the processes do not see one folder.
    """
    temporary = None
    if path is None and processes.index == 0:
        temporary = stack.enter_context(tempfile.TemporaryDirectory())
    # All processes share the main one's.
    folder = RunFolder(Path(processes.broadcast(temporary) if path is None else path))
    problem = None
    if processes.index == 0:
        try:
            if path is not None:
                stack.enter_context(folder.locked())
            folder.check(identity, overwrite=overwrite)
            found = folder.read_config().get("identity")
            if isinstance(found, dict) and identity.items() <= found.items():
                identity = found
            folder.open(identity, overwrite=overwrite)
            if not folder.read_config():
                folder.write_config({"identity": identity})
        except InputError as error:
            problem = error
    problem = processes.broadcast(problem)
    if problem is not None:
        raise problem
    _check_shared(folder, processes)
    return folder


def settle_identity(folder: RunFolder, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """Record the whole identity of a run, of which [`open_folder`] was told a part, in a folder that is open.

    Raises `InputError` where the folder holds the results of another run, unless `overwrite` lets them go.
    """
    config = folder.read_config()
    found = config.get("identity")
    if isinstance(found, dict) and found.keys() >= identity.keys():
        folder.check(identity, overwrite=overwrite)
    if found != identity:
        folder.write_config({**config, "identity": dict(identity)})


def _check_shared(folder: RunFolder, processes: Processes) -> None:
    """Refuse machines that do not share the folder: each would hold only a part of the features."""
    with folder.mark() if processes.index == 0 else nullcontext() as name:
        name = processes.broadcast(name)
        apart = [index for index, sees in enumerate(processes.gather(folder.has_mark(name))) if not sees]
    if apart:
        raise InputError(
            f"--output_dir {folder.path} is not one folder for all: process {apart[0]} does not see what process 0 "
            "wrote there. On several machines give a folder on a file system that they share."
        )
