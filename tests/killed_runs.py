"""A run of the digits that tests kill, damage and finish: its flags, and what must hold of its folder."""

import shutil
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from interrupted import ForkingClient, content, encoded_images


SHARD_ROWS = 64
FLAGS = (
    "--use_cpu --max_train_samples 400 --selection_ratio 0.3 0.125 --adaptation always --num_train_epochs 3 "
    "--min_train_steps 6 --dataloader_num_workers 0"
).split()
SHARD = "features/images-*"
SHARDS = [f"features/images-{index:05d}.safetensors" for index in range(7)]
KILLED = -signal.SIGKILL


class Runs:
    """Runs the same command again and again, each time in processes of its own."""

    def __init__(self, client: ForkingClient, notes: Path) -> None:
        self.client, self.notes = client, notes

    def plan(self, output_dir: Path, *flags: str, **plan: Any) -> dict[str, Any]:
        shutil.rmtree(self.notes, ignore_errors=True)
        self.notes.mkdir()
        runs = [[*FLAGS, *flags, "--output_dir", str(output_dir)]]
        return {"runs": runs, "shard_rows": SHARD_ROWS, "notes": str(self.notes), **plan}

    def kill(
        self,
        output_dir: Path,
        *kill: Any,
        processes: int = 1,
        ranks: tuple[int, ...] = (0,),
        flags: tuple[str, ...] = (),
    ) -> None:
        plan = self.plan(
            output_dir,
            *flags,
            processes=processes,
            dying_ranks=ranks,
            kill=dict(zip(("operation", "path", "nth", "moment"), kill, strict=False)),
        )
        codes = self.client.run(plan)
        assert [rank for rank, code in enumerate(codes) if code == KILLED] == list(ranks), self.output()
        assert all(codes), "a process that lost another one must not end as if all were well"

    def finish(self, output_dir: Path, *flags: str, processes: int = 1) -> list[list[str]]:
        """The images that each process encoded."""
        assert not any(self.client.run(self.plan(output_dir, *flags, processes=processes))), self.output()
        return encoded_images(self.notes)

    def output(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.notes.glob("output-*.txt")))


def undisturbed_runs(
    client: ForkingClient, folder: Path, counts: Collection[int]
) -> dict[int, tuple[Path, list[list[str]]]]:
    """The folder of a run that nobody disturbed, and the images it encoded, by the number of processes."""
    outcomes = {}
    for processes in counts:
        output_dir = folder / f"run-{processes}"
        outcomes[processes] = output_dir, Runs(client, folder / "notes").finish(output_dir, processes=processes)
    return outcomes


def assert_same_rows(folder: Path, expected: Path) -> None:
    """What must agree where another number of processes trained the adapters."""
    ours, theirs = content(folder), content(expected)
    assert list(ours) == list(theirs)
    assert [name for name in ours if name.startswith("features/") and ours[name] != theirs[name]] == []
    scores, expected_scores = pq.read_table(folder / "scores.parquet"), pq.read_table(expected / "scores.parquet")
    for name in scores.column_names:
        column, expected_column = scores[name], expected_scores[name]
        if name in ("sas", "margin", "sds") or name.startswith("selection_score"):
            np.testing.assert_allclose(column.to_numpy(), expected_column.to_numpy(), atol=1e-5)
        else:
            assert column == expected_column, name


def assert_nothing_half_written(folder: Path, expected: Path) -> None:
    """What bears its final name is what it will be in the end."""
    ours, theirs = content(folder) if (folder / "config.yaml").exists() else {}, content(expected)
    whole = {name: value for name, value in ours.items() if name.endswith((".safetensors", ".parquet"))}
    assert {name for name in whole if not is_hidden(name) and whole[name] != theirs[name]} == set()
    if (folder / "subset").exists():
        assert {name for name in ours if name.startswith("subset/")} == {n for n in theirs if n.startswith("subset/")}


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def missing_rows(folder: Path) -> int:
    return 400 - sum(rows_of(index) for index, name in enumerate(SHARDS) if (folder / name).exists())


def rows_of(index: int) -> int:
    return min(SHARD_ROWS, 400 - index * SHARD_ROWS)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again, were it with the same bytes."""
    files = {name: (folder / name).stat() for name in SHARDS if (folder / name).exists()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in files.items()}
