"""A selection with decisions is published, and whoever reads it gets the labels that were decided."""

import pytest
from loopback_hub.card import check
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub
from reviewed_digits import REVIEWER


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decided")
    with LoopbackHub(folder / "hub") as hub:
        put = run_client("decision_clients", "publish", str(folder), env=hub.environment("hf_me_write"))
        yield hub, put, run_client("decision_clients", "read", env=hub.environment("hf_bob_write"))


@pytest.mark.parametrize("kind", ["images", "scores"])
def test_the_labels_that_were_decided_come_back(published, kind):
    _, put, found = published
    assert put["codes"] == [0, 0] and found["source"] == put["given"]
    assert found[kind]["decisions"] == {"keep": 15, "relabel": 20, "drop": 6, "unsure": 3}
    assert {"given_label", "decision"} <= set(found[kind]["columns of the scores"])
    sizes = {"pruned": 60, "loaded": 60, "another ratio": 120, "applied": 120}
    for name, (columns, rows, labels, given) in found[kind]["subsets"].items():
        assert len(rows) == sizes[name]
        assert columns[:3] == ["image", "label", "note"] and columns[-1] == "given_label"
        assert labels == [put["labels"][row] for row in rows]
        assert given == [put["given"][row] for row in rows]
        assert labels != given


def test_nobody_learns_who_decided(published):
    hub, *_ = published
    for repo in ("datasets/me/decided", "datasets/me/decided-scores"):
        files = {path: hub.read(repo, path) for path in hub.tree(repo)}
        assert len(files) >= 4 and not [path for path, content in files.items() if REVIEWER.encode() in content]
        assert "/decisions.parquet" not in files["selection.json"].decode()  # the place on the publisher's disk
        assert check(files["README.md"].decode(), "dataset")["errors"] == []
