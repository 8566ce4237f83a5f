"""Whether a selection is still one of the shards and scores that are there."""

from functools import partial

from datatrove.io import DataFolder

from ..encoder.threads import in_order
from ..errors import InputError
from ..runtime.words import counted, listed
from .score_files import SCORES
from .shards import list_shards
from .shuffle import Layout, read_score_file


# Object storage answers each in some tenths of a second.
_FOOTERS_AT_ONCE = 16


def check_unchanged(data: DataFolder, work: DataFolder, layout: Layout, *, key: str) -> None:
    """Raise `InputError` where a selection is not of what there is: where score files are gone, or are of other rows
    than those that were selected from, or of another reference than that of the key; and where a shard of theirs is
    gone or was replaced.
    """
    there = set(work.list_files(SCORES)) if work.isdir(SCORES) else set()
    shards = {shard.path: shard.identity for shard in list_shards(data, work)}
    left = [path for path in layout.scores if path in there]
    contents = dict(zip(layout.scores, layout.contents, strict=True))
    others, replaced = [path for path in layout.scores if path not in there], []
    for file, _ in in_order(partial(read_score_file, work), left, threads=_FOOTERS_AT_ONCE):
        if file.content != contents[file.path] or file.key != key:
            others.append(file.path)
        elif shards.get(file.shard) != file.of_shard:
            replaced.append(file.shard)
    if others:
        raise InputError(
            f"Since select {counted(len(others), 'score file')} of {len(contents)} {_were(len(others))} removed, or "
            f"made anew of another shard or reference: {listed(others, limit=3)}. Run score, which makes what is "
            "missing, and select again."
        )
    if replaced:
        raise InputError(
            f"The shard {listed(replaced, limit=3)} was replaced since it was scored, or is gone, so that its rows "
            "may be others. Run score and select again."
        )


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
