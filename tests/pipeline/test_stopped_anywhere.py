"""A run that is stopped at a random moment, and run again, ends where an undisturbed run ends."""

import random
import shutil
import signal
import time

import pytest
from interrupted import ForkingClient, assert_same, content


pytestmark = pytest.mark.slow

FLAGS = (
    "--use_cpu --max_train_samples 200 --selection_ratio 0.3 0.125 --adaptation always --num_train_epochs 2 "
    "--min_train_steps 4 --seed 3"
).split()


class Runs:
    def __init__(self, client: ForkingClient, notes) -> None:
        self.client, self.notes = client, notes

    def at_once(self, *runs: dict) -> list[int]:
        shutil.rmtree(self.notes, ignore_errors=True)
        self.notes.mkdir()
        return self.client.run({"at_once": runs, "shard_rows": 64, "notes": str(self.notes)})

    def output(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.notes.glob("output-*.txt")))


@pytest.fixture
def runs(forking_client, tmp_path):
    return Runs(forking_client, tmp_path / "notes")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_same_command_again_ends_the_same(runs, tmp_path, workers):
    def flags(folder) -> list[str]:
        return [*FLAGS, "--dataloader_num_workers", str(workers), "--output_dir", str(folder)]

    expected = tmp_path / "undisturbed"
    start = time.monotonic()
    assert runs.at_once({"flags": flags(expected)}) == [0], runs.output()
    seconds = time.monotonic() - start
    moments = random.Random(workers)
    for number in range(2 if workers else 6):
        folder = tmp_path / str(number)
        stops = [signal.SIGKILL, signal.SIGINT]
        moments.shuffle(stops)
        for stop in stops:
            after = moments.uniform(0, seconds)
            [code] = runs.at_once({"flags": flags(folder), "signal": stop, "after": after})
            if code == 0:  # it had ended before
                assert_same(folder, expected)
            else:
                assert code == -stop or stop == signal.SIGINT, runs.output()
            if (folder / "subset").exists():
                theirs = content(expected / "subset")
                assert content(folder / "subset") == theirs
        assert runs.at_once({"flags": flags(folder)}) == [0], runs.output()
        assert_same(folder, expected)
