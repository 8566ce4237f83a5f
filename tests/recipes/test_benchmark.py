"""The benchmark on little data: what it prints and writes is whole, whatever the ratios are at that size."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Image
from recipe_files import launch_recipe, run_recipe


MACHINE = {"cpu", "cores", "memory_gb", "gpu", "blas", "torch_kernels", "torch_threads", "torch", "numpy", "unset"}
# Not ratios of times: these hold at any size.
ALWAYS = {"sds_error", "top_k_equal", "results_decoded", "report_decoded"}
# All but those that another test runs, that start whole commands, or that need packages.
PARTS = "tower captions pixels diversity noise selection embeddings adapters training large_selection".split()


def run(folder: Path, *flags: str, start: Callable = run_recipe) -> tuple[list[list[str]], dict]:
    """The cells of the printed table without its head, and the JSON; the exit code is checked against the latter."""
    done = start("benchmark.py", "--output_dir", "results", *flags, cwd=folder)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    written = json.loads((folder / "results" / "results.json").read_text())
    missed = [name for name, row in written["rows"].items() if row["met"] is False]
    assert done.returncode == int(bool(missed))
    assert done.stdout.splitlines()[-1].endswith(f"missed targets: {', '.join(missed) or 'none'}")
    head, *tables = (folder / "results" / "tables.md").read_text(encoding="utf-8").split("\n\n## ")
    assert head.startswith("`python recipes/benchmark.py --output_dir results") and written["machine"]["cpu"] in head
    printed = done.stdout.splitlines()
    for line in tables[0].splitlines():
        assert line in printed or not line.startswith("| "), line
    assert all(row["met"] for name, row in written["rows"].items() if name in ALWAYS)
    [table] = re.findall(r"\| what .*\n(?:\|.*\n)*", done.stdout)
    table = [line[2:-2].split(" | ") for line in table.splitlines()]
    assert table[0] == ["what", "ours", "other side", "ratio", "target", "met"]
    assert [cells[0] for cells in table[2:]] == [row["what"] for row in written["rows"].values()]
    return table[2:], written


def check_row(cells: list[str], row: dict) -> None:
    """What is printed is what is written, and "met" is what ratio and target say."""
    assert len(cells) == 6
    if "left_out" in row:
        assert cells[1] == row["left_out"] and row["met"] is None
        return
    quotients = {row["ours"]}
    if row["other"] is not None:
        quotients = {row["ours"] / row["other"], row["other"] / row["ours"] if row["ours"] else None}
    assert row["ratio"] in quotients and float(cells[3].replace(",", "")) == pytest.approx(row["ratio"], rel=0.005)
    assert cells[4] == row["target"]
    sign, _, bound = row["target"].partition(" ")
    expected = {
        "<=": lambda: row["ratio"] <= float(bound),
        ">=": lambda: row["ratio"] >= float(bound),
        "": lambda: None,
    }
    assert row["met"] is expected[sign]()
    assert cells[5] == {True: "yes", False: "NO", None: ""}[row["met"]]


@pytest.mark.slow
def test_the_table_and_the_json_tell_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    table, written = run(tmp_path, "--rows", "200", "--only", *PARTS, start=launch_recipe)
    for cells, row in zip(table, written["rows"].values(), strict=True):
        check_row(cells, row)
    assert written["machine"].keys() >= MACHINE and written["machine"]["torch"] == torch.__version__
    assert "OPENBLAS_CORETYPE=Prescott" in written["machine"]["unset"] and "Katmai" not in written["machine"]["blas"]
    assert written["arguments"]["rows"] == 200 and written["seconds"] > 0
    rows = written["rows"]
    assert rows.keys() >= {
        "tower_float32",
        "captions",
        "jpeg",
        "sds_products",
        "sds_sklearn",
        "herding_50000_10",
        "noise_model_100000_1000",
        "top_k",
        "embeddings_1000",
        "training",
        "selection",
        "selection_large",
        "overhead",
    }
    assert all(int(k) >= 50 for k in rows["sds_error"]["by_num_neighbors"])
    if not torch.cuda.is_available():
        assert {rows[name]["unit"] for name in ("training", "selection", "selection_large")} == {"CPU s"}
    assert sum(row["target"] != "" for row in rows.values() if "left_out" not in row) >= 15
    assert ("left_out" in rows["sds_gpu"]) is not torch.cuda.is_available()


@pytest.mark.slow
def test_parts_of_the_table_on_a_local_folder_of_images(tmp_path, images_dataset):
    images_dataset.save_to_disk(tmp_path / "images")
    table, written = run(tmp_path, "--only", "results", "encoding", "--rows", "50000", "--dataset_name", "images")
    assert [cells[0] for cells in table][0] == written["rows"]["results_decoded"]["what"]
    assert written["rows"]["encode"]["num_images"] == 60
    assert written["rows"]["report_decoded"]["trained"]
    memory = written["rows"]["results_memory"]
    stored = images_dataset.cast_column("image", Image(decode=False))["image"]
    assert memory["stored_bytes"] == sum(len(image["bytes"]) for image in stored)
    assert memory["decoded_bytes"] == 60 * 12 * 10 * 3
    assert memory["other"] == pytest.approx((memory["stored_bytes"] + memory["decoded_bytes"]) / 1e6)


@pytest.mark.slow
def test_scaling_fits_an_exponent_for_each_stage(tmp_path):
    table, written = run(tmp_path, "--scaling", "--rows", "4000")
    assert len(table) == len(written["stages"]) == 6
    for cells, row in zip(table, written["rows"].values(), strict=True):
        check_row(cells, row)
    for figures in written["stages"].values():
        *seconds, exponent = figures.values()
        assert [column.split(" rows")[0] for column in figures] == ["40", "400", "4,000", "exponent"]
        assert min(seconds) > 0
        assert exponent == pytest.approx(np.polyfit(np.log([40, 400, 4000]), np.log(seconds), 1)[0])


@pytest.mark.slow
def test_memory_of_whole_selections_stage_by_stage(tmp_path):
    table, written = run(tmp_path, "--memory", "--rows", "2000")
    rows = written["rows"]
    assert list(rows) == ["run_memory", "run_memory_plain"] and len(table) == 2
    stages = ["load", "encode", "adapt", "score", "select", "write"]
    assert list(written["stages"]) == [f"{stage}, adaptation {how}" for how in ("always", "off") for stage in stages]
    for cells, row in zip(table, rows.values(), strict=True):
        check_row(cells, row)
        assert list(row["peaks"]) == stages
        assert row["before"] > 0
        assert row["ours"] * 1e9 == pytest.approx(max(list(row["peaks"].values())[2:]), rel=1e-12)  # divided by 1e9
    assert [row["training_steps"] for row in rows.values()] == [200, 0]


def test_a_dataset_that_is_not_there_is_told_in_a_line(tmp_path):
    done = run_recipe("benchmark.py", "--only", "encoding", "--dataset_name", tmp_path / "absent", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
