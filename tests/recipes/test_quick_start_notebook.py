"""The notebook of the quick start does what it says, with the package that is installed and without a network."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from recipe_files import RECIPES

from hf_clipselect import SelectionResult


nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")

NOTEBOOK = RECIPES / "quick_start.ipynb"


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"  # that every hosted notebook has


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """The folder in which the notebook ran, and the outputs of its cells by the heading above each."""
    folder = tmp_path_factory.mktemp("notebook")
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    # The interpreter of the tests, whatever kernels the machine has.
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "Python 3", "language": "python"})
    )
    specs = jupyter_client.kernelspec.KernelSpecManager(kernel_dirs=[str(kernel.parent)], ensure_native_kernel=False)
    manager = jupyter_client.AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    (folder / "work").mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(folder / "work")}}
    nbclient.NotebookClient(notebook, km=manager, resources=resources, timeout=300).execute()
    outputs: dict[str, list[Any]] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = cell.source.splitlines()[0].lstrip("# ")
        else:
            outputs.setdefault(heading, []).extend(cell.outputs)
    return folder / "work", outputs


def printed(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def shown(outputs: list[Any], kind: str) -> list[str]:
    return [output.data[kind] for output in outputs if "data" in output and kind in output.data]


@pytest.mark.slow
def test_every_cell_shows_what_its_text_promises(executed: tuple[Path, dict[str, list[Any]]]) -> None:
    folder, outputs = executed
    assert outputs["Install"] == [] and outputs["Publish"] == []  # it is there, and there is no repository to push to
    [result] = shown(outputs["Select"], "text/plain")
    assert result.startswith("SelectionResult from 1297 rows") and "389 rows" in result
    assert shown(outputs["Select"], "text/html")
    suspects = outputs["Look at the suspects"]
    assert (
        printed(suspects).startswith("row 1068: eight, looks like nine (") and len(shown(suspects, "image/png")) == 3
    )
    [report] = shown(outputs["Look at the report"], "text/html")
    assert report.startswith('<iframe srcdoc="&lt;!') and "data:image/png" in report
    sizes = outputs["Take another size, and load it"]
    assert printed(sizes) == "389 rows at 0.3, 649 rows at 0.5\n"
    assert "num_rows: 649" in shown(sizes, "text/plain")[-1]
    assert "Traceback" not in str(outputs)


@pytest.mark.slow
def test_it_leaves_the_run_and_the_subset(executed: tuple[Path, dict[str, list[Any]]], tmp_path: Path) -> None:
    folder, _ = executed
    assert {path.name for path in folder.iterdir()} == {"clipselect_output", "digits_half"}
    result = SelectionResult.from_folder(folder / "clipselect_output")
    subset = load_dataset(str(folder / "digits_half"), split="train", cache_dir=str(tmp_path))
    assert subset["source_index"][:] == result.at(0.5).selected.tolist()
