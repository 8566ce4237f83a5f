"""What `hf-clipselect push` does: publish what a run left, without running anything."""

import logging
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from ..config.arguments import HubArguments
from ..errors import InputError
from ..hub import CARD, Changes, Destination, check_is_not_source, license_kept, planned, publish
from ..pipeline.run_log import logged_to_stderr
from ..results.run_folder import RunFolder
from ..results.saved_selection import is_whole, published_report
from ..results.selection_result import SelectionResult
from ..runtime.terminal import printable
from ..selection import config_name
from .command_parsers import PUSH_FLAGS
from .run_summary import hub_lines, subset_folder


def run_command(arguments: Namespace) -> None:
    """Publish a folder, or print what that would change.

    Args:
        arguments (`argparse.Namespace`): Of the parser of this command, see `command_parsers`.

    Raises:
        InputError: There is no run in the folder, or the push can't work: no token, a wrong id, missing rights.
        PushError: The Hub can't be reached, or fails time after time.
    """
    folder = Path(arguments.output_dir)
    if not folder.is_dir():
        raise InputError(f"{arguments.output_dir} is no folder; give the output folder of a run.")
    hub = HubArguments(push_to_hub=True, **{name: getattr(arguments, name) for name in PUSH_FLAGS})
    subset = subset_folder(folder)
    is_run = subset != folder
    writes = is_run and not arguments.dry_run
    with logged_to_stderr(logging.INFO), RunFolder(folder).locked() if writes else nullcontext():
        result = SelectionResult.from_folder(folder)
        if not is_whole(result.report):
            raise InputError(
                f"{folder} holds a selection from embeddings, of which no card can be made; publish the folder of a "
                "run on images."
            )
        adapter = folder / "adapter" if is_run and result.report["adaptation"]["kept"] else None
        if adapter is None and result.report["adaptation"]["kept"] and hub.hub_model_id is not None:
            raise InputError(
                f"{folder} holds no adapters for --hub_model_id {hub.hub_model_id}; give the output folder of the "
                "run, which has them in its folder adapter."
            )
        check_is_not_source(hub.hub_dataset_id, result.source.name)
        destination = Destination.from_arguments(hub)
        destination.check()
        license = hub.license or license_kept(result.report, subset / CARD)
        stated = {} if license is None else {"license": license}
        report = published_report(result.report | {"arguments": result.report["arguments"] | stated})
        if arguments.dry_run:
            changes = planned(report, subset, destination, adapter=adapter)
            sys.stdout.write("".join(f"{printable(line)}\n" for part in changes for line in _told(part)))
            return
        publish(report, subset, destination, adapter=adapter)
    scores_only = not (subset / config_name(result.ratios[0])).is_dir()
    sys.stdout.write("".join(f"{printable(line)}\n" for line in hub_lines(result, hub, scores_only=scores_only)))


def _told(changes: Changes) -> list[str]:
    repository = changes.repository
    if changes.commit is not None and changes.tag is None:
        return [f"{repository}: nothing changes"]
    lines = [f"{repository}{': would be created' if changes.creates else ':'}"]
    for word, files in (("add", changes.added), ("replace", changes.replaced), ("remove", changes.removed)):
        lines += [f"  {word:7}  {path} ({_in_bytes(size)})" for path, size in sorted(files.items())]
    return [*lines, *([f"  {'tag':7}  {changes.tag}"] if changes.tag is not None else [])]


def _in_bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
