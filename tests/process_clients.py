"""Functions that run in several processes at once, and how a test starts them and gets what each of them returned."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from adapting import quick, turned_classes

from hf_clipselect.adapters import text_alignment as alignment
from hf_clipselect.adapters.out_of_fold import out_of_fold_alignment
from hf_clipselect.adapters.projections import IdentityProjections
from hf_clipselect.errors import InputError
from hf_clipselect.runtime.launch import make_accelerator
from hf_clipselect.runtime.processes import Processes
from hf_clipselect.scores.folds import fold_numbers
from hf_clipselect.selection import Candidates, distributed_top_k, resolve_objective, select_rows, select_subsets


def run_processes(count: int, client: str, folder: Path) -> list[Any]:
    """What a function of this module returned in each of `count` processes over gloo, in their order.

    Args:
        count: How many processes.
        client: The function, which gets the `Processes` and the folder.
        folder: An empty folder that all processes share.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    done = subprocess.run(
        [*command, __file__, client, str(folder)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"returned-{index}.json").read_text()) for index in range(count)]


def talk(processes: Processes, folder: Path) -> dict[str, Any]:
    """Every method once."""
    if processes.index == 0:
        for number in range(200):
            (folder / f"written-{number}").touch()
    processes.wait()
    seen = len(list(folder.glob("written-*")))
    sums = processes.sum(np.array([[processes.index, 1], [2**40 + 1, -1]]))
    unsigned = processes.sum(np.array([True, False]))
    return {
        "index": processes.index,
        "count": processes.count,
        "seen": seen,
        "sums": sums.tolist(),
        "dtypes": [str(sums.dtype), str(unsigned.dtype)],
        "from bools": unsigned.tolist(),
        "gathered": processes.gather({"rows": list(range(processes.index))}),
        "lists": processes.gather(["of", processes.index]),
        "broadcast": processes.broadcast({"from": processes.index}),
        "nothing": processes.broadcast(None if processes.index == 0 else "something"),
    }


class Counted:
    """Processes, with a count of the collectives and of the bytes that this one gave into them."""

    def __init__(self, processes: Processes) -> None:
        self.processes, self.calls, self.bytes = processes, 0, 0
        self.index, self.count = processes.index, processes.count

    def sum(self, counts: np.ndarray) -> np.ndarray:
        self.calls += 1
        self.bytes += counts.astype(np.int64).nbytes
        return self.processes.sum(counts)

    def gather(self, item: Any) -> list[Any]:
        self.calls += 1
        return self.processes.gather(item)


def score_families() -> dict[str, np.ndarray]:
    """Scores of all the rows, for `top_k_everywhere` and for the test that knows what must come out."""
    rng = np.random.default_rng(0)
    extremes = np.array(
        [3.4028235e38, -3.4028235e38, 1.1754944e-38, -1e-45, 1e-45, 0.0, -0.0, 1.0, np.nextafter(1, 2)]
    )
    families = {
        "random": rng.normal(size=1000),
        "close": 0.7 + rng.integers(40, size=1000) * 2.0**-24,  # differ in the lowest digit alone
        "tied": rng.integers(4, size=1000) / 4 - 0.5,
        "all equal": rng.choice([0.0, -0.0], size=100),
        "signed zeros": rng.choice([0.0, -0.0, 1.0, -1.0], size=100),
        "tiny": rng.integers(-9, 10, size=100) * 1e-45,
        "extremes": rng.choice(extremes, size=100),
        "seven rows": np.array([2.0, 1.0, 2.0, 3.0, 1.0, 2.0, 2.0]),
        "one row": np.array([0.5]),
        "no row": np.array([]),
    }
    return {name: scores.astype(np.float32) for name, scores in families.items()}


def slicings(num_rows: int, count: int) -> dict[str, list[int]]:
    """Where the slices of the processes begin, the first one's 0 left out."""
    rng = np.random.default_rng(num_rows)
    even = np.cumsum([len(part) for part in np.array_split(np.arange(num_rows), count)])[:-1]
    return {
        "even": even.tolist(),
        "uneven": np.sort(rng.integers(num_rows + 1, size=count - 1)).tolist(),
        "all on the first": [num_rows] * (count - 1),
        "all on the last": [0] * (count - 1),
    }


def counts_to_keep(num_rows: int) -> list[int]:
    return sorted({0, min(1, num_rows), num_rows // 3, num_rows // 2, max(num_rows - 1, 0), num_rows})


def top_k_everywhere(processes: Processes) -> dict[str, Any]:
    """The rows that this process keeps in each case, with the collectives and bytes that it took."""
    found = {}
    for family, scores in score_families().items():
        for slicing, starts in slicings(len(scores), processes.count).items():
            mine = np.split(scores, starts)[processes.index]
            for k in counts_to_keep(len(scores)):
                counted = Counted(processes)
                rows = distributed_top_k(mine, k, counted)
                found[f"{family}, {slicing}, {k}"] = [rows.tolist(), str(rows.dtype), counted.calls, counted.bytes]
    return found


def refusals(processes: Processes) -> dict[str, Any]:
    """What this process was told in each case of bad input; a good case after them shows that all are still in
    step.
    """
    last = processes.index == processes.count - 1
    good = np.arange(4, dtype=np.float32)
    cases = {
        "nan on the last": (np.array([1, np.nan, 3, 4], dtype=np.float32) if last else good, 3),
        "infinity everywhere": (np.array([1, -np.inf], dtype=np.float32), 1),
        "float64 on the first": (good if processes.index else good.astype(np.float64), 3),
        "a matrix on the last": (good.reshape(2, 2) if last else good, 3),
        "no row and nan": (np.array([np.nan], dtype=np.float32) if last else good[:0], 0),
        "too many": (good, 4 * processes.count + 1),
        "below none": (good, -1),
        "of nothing": (good[:0], 1),
        "another count on the last": (good, 2 if last else 3),
    }
    told = {}
    for name, (scores, k) in cases.items():
        counted = Counted(processes)
        try:
            distributed_top_k(scores, k, counted)
        except InputError as error:
            told[name] = [str(error), counted.calls]
    told["good"] = distributed_top_k(good, processes.count + 1, processes).tolist()
    return told


def subsets_of(num_rows: int, objective: str, processes: Counted | None) -> dict[str, list[int]]:
    """What `select_subsets` returns; without processes, what it returns in one."""
    rng = np.random.default_rng(num_rows)
    scores, labels = rng.integers(50, size=num_rows).astype(np.float32) / 50, rng.integers(5, size=num_rows)
    ratios = [1.0] if num_rows == 1 else [0.3, 1.0, 0.8]
    subsets = select_subsets(
        [scores] * len(ratios), Candidates(labels), ratios, resolve_objective(objective), processes=processes
    )
    return {str(ratio): rows.tolist() for ratio, rows in zip(ratios, subsets, strict=True)}


SUBSETS = [(num_rows, objective) for num_rows in (401, 7, 1) for objective in ("clean", "released", "paper")]


def select_everywhere(processes: Processes) -> dict[str, Any]:
    """What selecting from scores that every process holds returns on this one."""
    found: dict[str, Any] = {}
    for num_rows, objective in SUBSETS:
        counted = Counted(processes)
        found[f"{objective}, {num_rows}"] = subsets_of(num_rows, objective, counted), counted.calls
    scores, labels = np.linspace(0, 1, 401, dtype=np.float32), np.zeros(401, dtype=np.int64)
    loop = resolve_objective("released", {"solver": "sgd"})
    found["sgd"] = select_rows(scores, Candidates(labels), 100, loop, processes=processes).tolist()
    scores[300] = np.nan
    try:
        select_rows(scores, Candidates(labels), 100, resolve_objective("released"), processes=processes)
    except InputError as error:
        found["nan"] = str(error)
    return found


def select(processes: Processes, folder: Path) -> dict[str, Any]:
    """All of the selection in one launch, because starting processes takes longer than what they do."""
    return {
        "top_k": top_k_everywhere(processes),
        "refusals": refusals(processes),
        "subsets": select_everywhere(processes),
    }


def out_of_fold(processes: Processes, folder: Path) -> dict[str, list]:
    """Scores of adapters of three folds, in chunks of seven rows so that every process has some to score."""
    alignment._CHUNK_ROWS = 7
    images, texts, labels = turned_classes(num_rows=61)
    predicted, sas, margin = out_of_fold_alignment(
        IdentityProjections(8),
        images,
        texts,
        labels,
        fold_numbers(labels, 3, seed=0),
        num_steps=24,
        arguments=quick(train_batch_size=20),
        seed=3,
        accelerator=processes.accelerator,
    )
    return {"predicted": predicted.tolist(), "sas": sas.tolist(), "margin": margin.tolist()}


def main(client: str, folder: str) -> None:
    processes = Processes(make_accelerator(use_cpu=True))
    returned = globals()[client](processes, Path(folder))
    (Path(folder) / f"returned-{processes.index}.json").write_text(json.dumps(returned))


if __name__ == "__main__":
    main(*sys.argv[1:])
