"""Results of a sweep outlive a change of the package's code if three of them, computed again, are equal."""

import numpy as np
import pytest
from recipe_files import run_recipe
from small_sweeps import cell_files, sweep_of, write_features

from hf_clipselect.evaluation.comparison import SweepArguments, rekey_cells, run_sweep, write_tables
from hf_clipselect.evaluation.comparison.cells import Cells, plain_code


def age_cells(folder, **changed):
    """Rewrite the cells as those of other code, each kind by code of its own; some of their arrays changed."""
    cells = Cells(folder / "cells")
    for path, key, values in list(cells.all()):
        values |= {name: change(values[name]) for name, change in changed.items() if name in values}
        cells.store({**key, "code": f"an earlier commit's {key['code']}"}, values)
        path.unlink()
    return cell_files(folder)


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("blobs") / "features.npz")


@pytest.mark.parametrize("data", [pytest.param("embedded/digits", marks=pytest.mark.slow), "features"])
def test_cells_of_code_that_only_moved_are_found_again(data, features_file, tmp_path):
    if data == "features":
        arguments = sweep_of(features_file, tmp_path, methods=["moderate", "el2n", "clean"])
    else:
        arguments = SweepArguments(methods=["herding"], selection_ratio=[0.3], seeds=[0], output_dir=str(tmp_path))
    rows = run_sweep(arguments)
    old = age_cells(tmp_path)
    result = rekey_cells(arguments)
    assert result.differences == [] and len(result.compared) >= 3
    assert result.num_rekeyed == len(old) == len(cell_files(tmp_path)) and not old.keys() & cell_files(tmp_path).keys()
    rekeyed = cell_files(tmp_path)
    again = run_sweep(arguments)
    assert cell_files(tmp_path) == rekeyed  # nothing was computed, the costs are those of the first run
    np.testing.assert_equal(again, rows)
    assert rekey_cells(arguments).num_rekeyed == 0


@pytest.mark.parametrize(
    ("name", "change"), [("rows", lambda rows: rows[1:]), ("accuracy", lambda share: np.nextafter(share, 0))]
)
def test_cells_are_left_as_they_are_where_a_result_differs(name, change, features_file, tmp_path):
    arguments = sweep_of(features_file, tmp_path)
    run_sweep(arguments)
    old = age_cells(tmp_path, **{name: change})
    result = rekey_cells(arguments)
    assert result.num_rekeyed == 0 and cell_files(tmp_path) == old
    assert any(line.endswith(f": {name} differs") for line in result.differences)


def test_cells_of_other_data_are_not_taken_for_these(features_file, tmp_path):
    run_sweep(sweep_of(features_file, tmp_path, seeds=[1]))
    old = age_cells(tmp_path)
    result = rekey_cells(sweep_of(features_file, tmp_path))
    assert result.num_rekeyed == 0 and cell_files(tmp_path) == old
    assert any("there is no such cell" in line for line in result.differences)


def test_published_rows_are_compared_where_no_cells_are_kept(features_file, tmp_path):
    run = sweep_of(features_file, tmp_path / "run")
    kept = tmp_path / "kept"
    kept.mkdir()
    rows = run_sweep(run)
    write_tables(rows, kept, origin="a command")
    flags = ["--dataset_name", str(features_file), "--methods", "diverse", "clean", "--selection_ratio", "0.2", "0.5"]
    flags += ["--seeds", "0", "--probe_c", "1", "--output_dir", str(kept)]
    done = run_recipe("rekey_cells.py", *flags, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("3 results compared, 0 differences; 0 cells rekeyed\n")
    write_tables([{**row, "num_kept": 0} for row in rows], kept, origin="a command")
    done = run_recipe("rekey_cells.py", *flags, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.count("DIFFERS: ") == 3
    assert "num_kept is " in done.stdout and ", not 0\n" in done.stdout
    (kept / "results.csv").unlink()
    done = run_recipe("rekey_cells.py", *flags, cwd=tmp_path)
    assert done.returncode == 2 and "has neither cells/ nor results.csv; set --output_dir" in done.stderr


def test_comments_docstrings_and_formatting_are_no_part_of_the_code():
    one = '"""A module."""\n\ndef f(a):\n    """What it does."""\n    return [a, "b"]  # why\n'
    other = "'''Other words.'''\ndef f(a):\n    '''Others.'''\n    return [\n        a,\n        'b',\n    ]\n"
    assert plain_code(one) == plain_code(other)
    assert plain_code(one) != plain_code(one.replace("a,", "1,")) != plain_code(one.replace('"b"', '"c"'))
    assert plain_code('def f():\n    """Only words."""\n') == plain_code("def f():\n    'Others.'\n")
