"""Leaks and damaged images of a published selection, as another process reads them back from the loopback Hub."""

import pytest
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub


pytestmark = pytest.mark.slow


def test_what_was_found_and_left_out_is_read_back(tmp_path):
    pytest.importorskip("cleanvision")
    with LoopbackHub(tmp_path / "hub") as hub:
        put, got = (
            run_client("check_clients", name, env=hub.environment("hf_alice_write", tmp_path / name))
            for name in ("publish", "fetch")
        )
    card = got.pop("card")
    assert got == put
    leak_of = put["columns"]["leak_of"]
    assert (leak_of[7], leak_of[140]) == (60, 61)
    assert put["reasons"]["0.8"][7] == "copy of row 60 of the reference"
    assert not {row for row, original in enumerate(leak_of) if original >= 0} & set(put["selected"]["0.8"])
    assert put["report"][0]["dropped"] and put["report"][0]["rows"] == sum(original >= 0 for original in leak_of)
    assert "`leak_of`" in card and "`quality_issues`" in card
