"""Two runs that are started in one folder leave what one after the other leaves, or one of them is refused."""

import itertools
import random
import shutil

import pytest
from interrupted import content
from test_stopped_anywhere import Runs


pytestmark = pytest.mark.slow

COMMON = "--use_cpu --dataloader_num_workers 0 --num_train_epochs 2 --min_train_steps 4".split()
SETTINGS = {
    "first": ["--max_train_samples", "200"],
    "other size": ["--max_train_samples", "200", "--selection_ratio", "0.5"],
    "other objective": [
        "--max_train_samples",
        "200",
        "--objective",
        "clean",
        "--seed",
        "7",
        "--selection_count",
        "30",
    ],
    "other rows": ["--max_train_samples", "150"],
    "other rows, overwriting": ["--max_train_samples", "150", "--overwrite_output_dir"],
}
# Six of the twenty; each of the settings is in two or three of them.
PAIRS = list(itertools.islice(itertools.permutations(SETTINGS, 2), 3, None, 3))


@pytest.fixture
def runs(forking_client, tmp_path):
    return Runs(forking_client, tmp_path / "notes")


def test_a_folder_is_always_that_of_one_run_after_the_other(runs, tmp_path):
    def plan(folder, name: str, start: float = 0) -> dict:
        return {"flags": [*COMMON, *SETTINGS[name], "--output_dir", str(folder)], "start": start}

    known: dict[tuple[str, ...], dict] = {}

    def one_after_the_other(names: tuple[str, ...]) -> dict:
        if names not in known:
            folder = tmp_path / "expected"
            shutil.rmtree(folder, ignore_errors=True)
            for name in names:
                assert runs.at_once(plan(folder, name)) == [0], runs.output()
            known[names] = content(folder)
        return known[names]

    moments, refused = random.Random(0), 0
    for number, names in enumerate(PAIRS):
        folder = tmp_path / f"round-{number}"
        codes = runs.at_once(plan(folder, names[0]), plan(folder, names[1], moments.choice([0, 0.05, 0.3, 0.8, 1.5])))
        said = [(runs.notes / f"output-{rank}.txt").read_text() for rank in (0, 1)]
        assert not any("Traceback" in text for text in said), said
        ended = tuple(name for name, code in zip(names, codes, strict=True) if code == 0)
        assert ended and set(codes) <= {0, 2}, said
        for code, text in zip(codes, said, strict=True):
            assert code == 0 or "holds another run" in text or "is in use by another run" in text
        refused += len(names) - len(ended)
        left = content(folder)
        assert any(left == one_after_the_other(order) for order in orders(ended)), (names, codes, list(left))
    assert 0 < refused < len(PAIRS)  # other rows, without leave to overwrite


def orders(ended: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The orders in which none of the runs would be refused."""
    return [
        order
        for order in itertools.permutations(ended)
        if "other rows" not in order[1:] or order[0].startswith("other rows")
    ]
