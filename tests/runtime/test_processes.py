from pathlib import Path

import pytest
import torch
from process_clients import run_processes

from hf_clipselect.runtime.launch import make_accelerator
from hf_clipselect.runtime.processes import Processes


def test_a_lone_process_talks_to_nobody() -> None:
    processes = Processes(make_accelerator(use_cpu=True))
    assert (processes.index, processes.count) == (0, 1)
    item = object()  # could not be sent
    assert processes.gather(item) == [item]
    assert processes.broadcast(item) is item
    assert processes.on_main(lambda: item) is item
    processes.wait()
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes(count: int, tmp_path: Path) -> None:
    returned = run_processes(count, "talk", tmp_path)
    for index, told in enumerate(returned):
        assert told == {
            "index": index,
            "count": count,
            "seen": 200,
            "gathered": [{"rows": list(range(other))} for other in range(count)],
            "lists": [["of", other] for other in range(count)],
            "broadcast": {"from": 0},
            "main": {"by": 0},
            "refused": "0 refuses",
            "nothing": None,
        }
