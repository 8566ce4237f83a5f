"""Recipes as users launch them: subprocesses, `accelerate launch`, two processes, and the console command."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from recipe_files import RECIPES, run_recipe

from hf_clipselect.config.command_line import parse_arguments


SCRIPTS = sorted(RECIPES.glob("*.py"))
BIN = Path(sys.executable).parent


def launch(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}
    )


def selected(output_dir: Path) -> np.ndarray:
    return np.flatnonzero(pq.read_table(output_dir / "scores.parquet")["selected_30"].to_numpy())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_recipe_drops_its_own_folder_from_the_path_first(script):
    """Otherwise recipes/select.py hides the standard library's select, and the first subprocess dies."""
    body = ast.parse(script.read_text()).body
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    guard = next(node.lineno for node in body if "sys.path" in ast.unparse(node) and isinstance(node, ast.Assign))
    before = {alias.name for node in imports if node.lineno < guard for alias in node.names}
    assert before == {"os", "sys"}
    assert script.stem == "select" or script.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_recipe_prints_its_help(script, tmp_path):
    done = run_recipe(script.name, "--help", cwd=tmp_path)
    place = "--work_dir" if script.name == "web_scale.py" else "--output_"  # one folder for all of its steps
    assert done.returncode == 0 and place in done.stdout, done.stderr
    assert "(default: None)" not in done.stdout


@pytest.mark.parametrize(
    "path", sorted(RECIPES.glob("*/select*.yaml")), ids=lambda path: str(path.relative_to(RECIPES))
)
def test_every_yaml_recipe_parses_and_commits_nothing_private(path):
    arguments = parse_arguments(["--config", str(path)])
    assert arguments.data.dataset_name and arguments.model.model_name_or_path
    values = yaml.safe_load(path.read_text())
    assert not any(str(value).startswith(("/", "~")) for value in values.values())


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """The main job by `accelerate launch`, with no arguments but the folder."""
    folder = tmp_path_factory.mktemp("launched")
    done = launch(BIN / "accelerate", "launch", RECIPES / "select.py", "--use_cpu", "--output_dir", "run", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done, folder / "run"


@pytest.mark.slow
def test_accelerate_launch_selects_from_the_embedded_digits(launched):
    done, output_dir = launched
    assert "1297 rows of embedded/digits" in done.stdout and "ratio_30: 389 rows; CLIP agrees with" in done.stdout
    assert "demonstration model" in done.stderr and "openai/clip-vit-base-patch32" in done.stderr
    assert len(selected(output_dir)) == 389


@pytest.mark.slow
def test_the_subset_opens_in_a_fresh_offline_process(launched):
    _, output_dir = launched
    script = """
import sys
from datasets import load_dataset
subset = load_dataset(sys.argv[1], "ratio_30", split="train")
print(len(subset), subset[0]["image"].size, subset.features["label"].names[:2])
"""
    done = launch(sys.executable, "-c", script, output_dir / "subset", cwd=output_dir, HF_HUB_OFFLINE="1")
    assert done.stdout.strip() == "389 (8, 8) ['zero', 'one']", done.stderr


@pytest.mark.slow
def test_two_processes_give_the_single_process_subset(launched, tmp_path):
    _, output_dir = launched
    done = launch(
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29617",
        RECIPES / "select.py",
        "--use_cpu",
        "--output_dir",
        "run",
        cwd=tmp_path,
        ACCELERATE_USE_CPU="true",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert np.array_equal(selected(tmp_path / "run"), selected(output_dir))
    one, two = (pq.read_table(folder / "scores.parquet") for folder in (output_dir, tmp_path / "run"))
    for score in ("sas", "margin", "sds"):
        np.testing.assert_allclose(one[score].to_numpy(), two[score].to_numpy(), atol=1e-5)


@pytest.mark.slow
def test_processes_that_do_not_see_each_other_are_refused(tmp_path):
    # In a process of its own: Accelerate keeps for good what it made of the variable.
    command = [sys.executable, RECIPES / "select.py", "--use_cpu", "--output_dir", "run"]
    done = launch(*command, cwd=tmp_path, WORLD_SIZE="2")
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
def test_the_console_command_does_the_same_as_the_recipe(launched, tmp_path):
    _, output_dir = launched
    done = launch(BIN / "hf-clipselect", "select", "--config", RECIPES / "digits" / "select.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert np.array_equal(selected(tmp_path / "clipselect_output"), selected(output_dir))


def test_bad_input_exits_with_one_line(tmp_path):
    done = run_recipe("select.py", "--selection_ratio", "1.5", cwd=tmp_path)
    assert done.returncode == 2 and not any(tmp_path.iterdir())
    assert done.stderr.strip().splitlines() == [
        line for line in done.stderr.splitlines() if line.startswith("error: ")
    ]
    assert "(0, 1]" in done.stderr
