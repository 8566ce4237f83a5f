"""All kinds of methods on the digits, through the door that a sweep has."""

import numpy as np
import pytest

from hf_clipselect.evaluation.comparison import METHODS, SweepArguments, run_sweep, write_tables
from hf_clipselect.evaluation.comparison.controls import CONTROLS


@pytest.mark.slow
def test_every_method_at_its_best_on_the_digits(tmp_path, record_property):
    """One ratio and one seed, with a fifth of wrong labels."""
    proxied = ["el2n", "grand", "forgetting", "moso", "glister", "ccs", "d2_pruning", "ccs_cutoff"]
    papers = ["paper", "paper_quotas", "released", "released_quotas", "paper_loop", "paper_without_adapters_loop"]
    methods = ["robust", "prototypes", *papers, *proxied, *(control.name for control in CONTROLS)]
    flags = {"selection_ratio": [0.3], "seeds": [0], "num_val_rows": 100, "output_dir": str(tmp_path)}
    rows = {row["method"]: row for row in run_sweep(SweepArguments(methods=methods, **flags))}
    assert set(rows) == {*methods, "random", "full"}
    told = {name: (round(100 * row["accuracy"], 1), round(row["noise_share"], 3)) for name, row in rows.items()}
    told |= {name: (*told[name], rows[name]["settings"]) for name in ("ccs", "d2_pruning", "prototypes")}
    record_property("printed", f"accuracy in % and share of wrong labels at 0.3: {told}")
    for name, row in rows.items():
        counted = METHODS[name].family == "reference" or row["num_kept"] == 389
        assert counted and row["cpu_s"] >= 0, name
        assert ("proxy=network 64-128-10" in row["settings"]) == (name in proxied), name
        tuned = name in ("ccs", "d2_pruning", "prototypes")
        assert (row["settings_from"] == "tuned on seeds 1000, 1001") == tuned, name
    # What looks at labels keeps few wrong ones, and what keeps the hardest keeps many.
    for name in (
        "robust",
        "moso",
        "glister",
        "ccs",
        "ccs_cutoff",
        "released",
        *(control.name for control in CONTROLS),
    ):
        assert rows[name]["noise_share"] < 0.06, name
    for name in ("el2n", "grand", "forgetting"):
        assert rows[name]["noise_share"] > 0.4, name
    assert rows["ccs"]["accuracy"] > rows["random"]["accuracy"]
    write_tables(list(rows.values()), tmp_path, origin="a test")
    assert "| `gate_k_center` |" in (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert np.isfinite([row["accuracy"] for row in rows.values()]).all()
