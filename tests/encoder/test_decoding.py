"""The same batches whoever decodes them, and a selection ends wherever it is called."""

import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from datasets import Dataset, Image
from preloaded import run_python
from transformers import CLIPImageProcessorPil

from hf_clipselect import select_dataset
from hf_clipselect.encoder.decoding import decoded_batches, why_no_processes
from hf_clipselect.encoder.pixels import PreprocessedImages


README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"From Python[^\n]*:\n\n```python\n(.*?)```\n\n```\n(.*?)```", flags=re.DOTALL)
SNIPPET, SHOWN = EXAMPLE.search(README).groups()


@pytest.fixture
def start_method():
    """Sets the start method of multiprocessing for a test."""
    before = multiprocessing.get_start_method(allow_none=True)
    yield lambda method: multiprocessing.set_start_method(method, force=True)
    multiprocessing.set_start_method(before, force=True)


def test_processes_threads_and_the_caller_decode_the_same(start_method, images_dataset: Dataset) -> None:
    images = images_dataset.cast_column("image", Image(decode=False))
    pixels = PreprocessedImages(images, "image", CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16))
    batches = [list(range(start, start + 7)) for start in range(0, 56, 7)]
    found = {}
    for method, num_workers in (("fork", 2), ("spawn", 3), ("forkserver", 20), ("fork", 0)):
        start_method(method)
        decoded = list(decoded_batches(pixels, batches, num_workers=num_workers))
        assert [batch.rows for batch in decoded] == batches
        found[method, num_workers] = np.concatenate([np.asarray(batch.pixels["pixel_values"]) for batch in decoded])
    assert len({values.tobytes() for values in found.values()}) == 1


def test_processes_end_with_a_run_that_is_killed(images_dataset: Dataset) -> None:
    """Also where what they decoded waits in a full pipe."""
    images = images_dataset.cast_column("image", Image(decode=False))
    pixels = PreprocessedImages(images, "image", CLIPImageProcessorPil(size={"shortest_edge": 112}, crop_size=112))
    ended, held = os.pipe()
    run = os.fork()
    if run == 0:
        decoded = decoded_batches(pixels, [[row] for row in range(60)], num_workers=2)
        next(decoded)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(held)
    assert os.waitpid(run, 0)[1] == signal.SIGKILL
    assert select.select([ended], [], [], 120)[0], "a process still holds the pipe"
    os.close(ended)


def test_processes_start_where_they_can(start_method) -> None:
    start_method("fork")
    assert why_no_processes() is None
    for method in ("spawn", "forkserver"):
        start_method(method)
        assert why_no_processes() == f"the start method of multiprocessing is '{method}' here"
    start_method(None)
    assert (why_no_processes() is None) == (multiprocessing.get_all_start_methods()[0] == "fork")
    assert multiprocessing.get_start_method(allow_none=True) is None  # asking has decided nothing for the caller


def test_who_asks_for_processes_is_told_of_threads(start_method, images_dataset: Dataset, clip_folder: Path) -> None:
    run = {"model_name_or_path": str(clip_folder), "adaptation": "off", "use_cpu": True}
    start_method("fork")
    expected = select_dataset(images_dataset, dataloader_num_workers=2, **run)
    start_method("spawn")
    with pytest.warns(UserWarning, match="2 processes .* as many threads .* start method .* 'spawn'"):
        found = select_dataset(images_dataset, dataloader_num_workers=2, **run)
    assert found.scores.data.table == expected.scores.data.table


@pytest.mark.slow
def test_the_script_of_the_readme_needs_no_guard_where_processes_are_spawned(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import multiprocessing\nmultiprocessing.set_start_method('spawn')\n{SNIPPET}")
    done = run_python(script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, SHOWN), done.stderr[-2000:]


CHILDREN = """
import multiprocessing, os, sys, threading
from hf_clipselect import select_dataset
from hf_clipselect.embedded import load_digits_dataset

def run(answer=None, **more):
    dataset = load_digits_dataset("train").select(range(200))
    settings = {"model_name_or_path": "embedded/tiny-clip", "use_cpu": True, "adaptation": "off", **more}
    found = select_dataset(dataset, **settings).selected.tolist()
    if answer is not None:
        answer.put(found)
    return found

if __name__ == "__main__":
    expected, workers = run(), {"dataloader_num_workers": 2}
    for method, daemon, more in (
        ("fork", True, {}), ("fork", True, workers), ("fork", False, workers),
        ("fork", False, {"adaptation": "always", "num_train_epochs": 1}), ("spawn", True, workers),
    ):
        context = multiprocessing.get_context(method)
        answer = context.Queue()
        child = context.Process(target=run, args=(answer,), kwargs=more, daemon=daemon)
        child.start()
        same = answer.get() == (run(**more) if more.get("adaptation") else expected)
        child.join()
        print(method, daemon, same, child.exitcode, flush=True)
    found = []
    thread = threading.Thread(target=lambda: found.append(run(dataloader_num_workers=2)))
    thread.start()
    thread.join()
    print("thread", found == [expected])
"""


@pytest.mark.slow
def test_children_of_a_process_that_has_run_selections(tmp_path: Path) -> None:
    """Of several start methods, daemonic and not; OpenMP has threads here, which a fork loses."""
    script = tmp_path / "script.py"
    script.write_text(CHILDREN)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == (
        "fork True True 0\nfork True True 0\nfork False True 0\nfork False True 0\nspawn True True 0\nthread True\n"
    )
