"""Functions that run in several processes at once, and how a test starts them and gets what each of them returned."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from adapting import quick, turned_classes

from hf_clipselect import select_embeddings
from hf_clipselect.adapters import text_alignment as alignment
from hf_clipselect.adapters.out_of_fold import out_of_fold_alignment
from hf_clipselect.adapters.projections import IdentityProjections
from hf_clipselect.errors import InputError
from hf_clipselect.runtime.launch import make_accelerator
from hf_clipselect.runtime.processes import Processes
from hf_clipselect.scores.folds import fold_numbers


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
    return {
        "index": processes.index,
        "count": processes.count,
        "seen": seen,
        "gathered": processes.gather({"rows": list(range(processes.index))}),
        "lists": processes.gather(["of", processes.index]),
        "broadcast": processes.broadcast({"from": processes.index}),
        "main": processes.on_main(lambda: {"by": processes.index}),
        "refused": refusal(processes),
        "nothing": processes.broadcast(None if processes.index == 0 else "something"),
    }


def refusal(processes: Processes) -> str:
    def refuse() -> None:
        raise InputError(f"{processes.index} refuses")

    try:
        processes.on_main(refuse)
    except InputError as error:
        return str(error)
    return "nobody refused"


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


def robust_selection(processes: Processes, folder: Path) -> dict[str, Any]:
    """Which rows the objective "robust" keeps, and the columns that it needs; plain CLIP is kept by all processes."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(5, 16))
    labels = np.arange(300) % 5
    images = texts[labels] + rng.normal(size=(300, 16))
    labels[::6] = (labels[::6] + 1) % 5
    result = select_embeddings(
        images, texts, labels, selection_ratio=[0.2, "auto", 0.7], adaptation="auto", num_train_epochs=1, seed=3
    )
    assert not result.report["adaptation"]["kept"]  # the last digits of a training follow the number of processes
    columns = ("label_error_probability", "clean_label", "class_rank", "selected_20", "selected_auto", "selected_70")
    return {name: result.scores[name][:] for name in columns} | {"noise": result.report["noise"]}


def main(client: str, folder: str) -> None:
    processes = Processes(make_accelerator(use_cpu=True))
    returned = globals()[client](processes, Path(folder))
    (Path(folder) / f"returned-{processes.index}.json").write_text(json.dumps(returned))


if __name__ == "__main__":
    main(*sys.argv[1:])
