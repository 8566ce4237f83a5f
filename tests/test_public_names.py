"""What `import hf_clipselect` gives, and what it leaves for later; in fresh processes, for this one has everything."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from peft import get_peft_model
from transformers import CLIPModel

import hf_clipselect
from hf_clipselect.adapters.mlp import MlpAdapterConfig
from hf_clipselect.cli.command_table import COMMANDS


SLOW = [
    "torch",
    "transformers",
    "datasets",
    "peft",
    "accelerate",
    "sklearn",
    "scipy",
    "matplotlib",
    "numpy",
    "pyarrow",
]
NAMES = {
    "InputError",
    "MlpAdapterConfig",
    "SelectionResult",
    "load_adapters",
    "load_pruned",
    "sample_diversity_score",
    "select_dataset",
    "select_embeddings",
    "semantic_alignment_score",
}


def run(code: str, *arguments: object) -> str:
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def loaded_by(code: str, *libraries: str) -> list[str]:
    """Those of the libraries that a fresh process has imported in the end."""
    return ast.literal_eval(
        run(f"import sys\n{code}\nprint([name for name in {libraries} if name in sys.modules])").splitlines()[-1]
    )


def test_names() -> None:
    assert set(hf_clipselect.__all__) == NAMES and hf_clipselect.__all__ == sorted(hf_clipselect.__all__)
    assert {*NAMES, "__version__"} <= set(dir(hf_clipselect))
    assert hf_clipselect.__version__ == version("hf_clipselect")
    star: dict[str, object] = {}
    exec("from hf_clipselect import *", star)
    assert star.keys() - {"__builtins__"} == NAMES
    assert all(value is getattr(hf_clipselect, name) for name, value in star.items() if name in NAMES)
    with pytest.raises(AttributeError, match="module 'hf_clipselect' has no attribute 'select'"):
        hf_clipselect.select  # noqa: B018


def test_type_checkers_see_what_is_loaded() -> None:
    tree = ast.parse(Path(hf_clipselect.__file__).read_text())
    [branch] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: f".{node.module}"
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == hf_clipselect._MODULES


@pytest.mark.parametrize(
    "code",
    [
        "import hf_clipselect",
        "from hf_clipselect import InputError",
        "from hf_clipselect.cli import main; main([])",
        "from hf_clipselect.cli import main; main(['--help'])",
        "from hf_clipselect.cli import main; main(['--version'])",
    ],
)
def test_what_needs_no_library_imports_none(code: str) -> None:
    assert loaded_by(code, *SLOW) == []


def test_flags_are_told_without_torch() -> None:
    helped = [[name, "--help"] for name in COMMANDS]
    code = f"from hf_clipselect.cli import main\nfor argv in {helped}: main(argv)\nmain(['explore', '--prot', '1'])"
    assert set(loaded_by(code, *SLOW)) <= {"numpy", "transformers"}


@pytest.mark.slow
def test_drawing_and_learning_libraries_wait_for_their_use() -> None:
    code = "import hf_clipselect; hf_clipselect.select_dataset; hf_clipselect.select_embeddings"
    assert loaded_by(code, "matplotlib", "sklearn") == []


THREADS = """
import threading, hf_clipselect
found, start = [], threading.Barrier(len(hf_clipselect.__all__))
def load(name):
    start.wait()
    found.append(getattr(hf_clipselect, name).__name__)
threads = [threading.Thread(target=load, args=(name,)) for name in hf_clipselect.__all__]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(found))
"""


@pytest.mark.slow
def test_threads_load_names_at_once() -> None:
    assert ast.literal_eval(run(THREADS)) == hf_clipselect.__all__


def test_package_as_a_module() -> None:
    command = [sys.executable, "-m", "hf_clipselect", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (0, f"hf-clipselect {version('hf_clipselect')}\n"), done.stderr


@pytest.fixture(scope="module")
def adapters(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CLIP, and MLP adapters of it that change what it says."""
    folder = tmp_path_factory.mktemp("adapters")
    model = get_peft_model(CLIPModel.from_pretrained(clip_folder), MlpAdapterConfig())
    for name, weights in model.named_parameters():
        if "mlp_adapter_" in name:
            torch.nn.init.normal_(weights, std=0.1, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    features = torch.ones(2, model.base_model.model.visual_projection.base_layer.in_features)
    with torch.no_grad():
        torch.save((features, model.visual_projection(features)), folder / "expected.pt")
    return clip_folder, folder


LOAD = """
import torch
from transformers import CLIPModel
model = PeftModel.from_pretrained(CLIPModel.from_pretrained(sys.argv[1]), sys.argv[2])
features, expected = torch.load(f"{sys.argv[2]}/expected.pt")
with torch.no_grad():
    assert torch.equal(model.visual_projection(features), expected)
assert not [finder for finder in sys.meta_path if "hf_clipselect" in type(finder).__module__]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import hf_clipselect; from peft import PeftModel",
        "from peft import PeftModel; import hf_clipselect",
        # Others look for peft, and import it in the middle of their own; the package is imported twice.
        """
import importlib, importlib.util, hf_clipselect
assert importlib.util.find_spec("peft") is not None and "peft" not in sys.modules
importlib.reload(hf_clipselect)
from transformers import Trainer
import peft.utils
from peft import PeftModel
""",
        # Two threads, of which each needs what the other one imports.
        """
import threading, hf_clipselect
thread = threading.Thread(target=lambda: hf_clipselect.load_adapters)
thread.start()
from peft import PeftModel
thread.join()
""",
    ],
)
def test_peft_loads_our_adapters(imports: str, adapters: tuple[Path, Path]) -> None:
    assert run(f"import sys\n{imports}\n{LOAD}", *adapters) == ""  # the checks are in the process
