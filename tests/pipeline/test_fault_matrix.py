"""Each request of a push goes wrong in turn, in five ways: main is old or new, and the same push again finishes it."""

import pytest
from conftest import REPOSITORY
from loopback_hub.matrix_clients import KILLS, STRIKES, make_runs
from loopback_hub.processes import run_clients


FAULTS = (*STRIKES, *KILLS)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A row for each case. The faults run at once."""
    folder = tmp_path_factory.mktemp("matrix")
    make_runs(folder / "runs")
    calls = []
    for fault in FAULTS:
        (folder / fault).mkdir()
        (folder / fault / "runs").symlink_to(folder / "runs")
        calls.append(("killed" if fault in KILLS else "struck", folder / fault, fault))
    return sum(run_clients("matrix_clients", calls), [])


@pytest.mark.slow
def test_main_is_old_or_new_and_the_next_push_finishes(table, record_property):
    record_property("printed", "\n".join(as_lines(table)))
    requests = " ".join(row["request"] for row in table)
    assert all(
        step in requests
        for step in ("repos/create", "lfs batch", "PUT", "adapters commit main", "pruned commit main", "tag")
    )
    assert {row["fault"] for row in table} == set(FAULTS)
    told = (REPOSITORY / "CONTRIBUTING.md").read_text()
    assert f"each of the {len(table) // len(FAULTS)} requests" in told and f"each of the {len(table)} cases" in told
    assert [row for row in table if row["struck"] != 1] == []
    assert [row for row in table if row["state"] not in ("old, old", "new, old", "new, new")] == []
    assert [row for row in table if row["again"] != "done" or not row["same"] or row["unknown"]] == []


@pytest.mark.slow
def test_a_push_survives_what_does_not_kill_it(table):
    """One failed request is tried again, by the client or by us, and the push ends well without anybody's doing."""
    survived = [row for row in table if row["outcome"] != "killed"]
    assert [row for row in survived if row["outcome"] != "done" or row["state"] != "new, new"] == []


def as_lines(table: list[dict]) -> list[str]:
    """Requests x faults; in each cell what main of the adapters and main of the dataset held right after the fault."""
    requests = [row["request"] for row in table if row["fault"] == FAULTS[0]]
    columns = [[row["state"] for row in table if row["fault"] == fault] for fault in FAULTS]
    lines = [("request (adapters, dataset)", *FAULTS), *zip(requests, *columns, strict=True)]
    width = max(len(line[0]) for line in lines)
    return [f"{request:{width}}  " + "  ".join(f"{cell:11}" for cell in cells) for request, *cells in lines]
