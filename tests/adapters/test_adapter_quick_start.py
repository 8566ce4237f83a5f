"""The quick start of an adapter card, as a reader runs it: the package installed from its wheel, the adapters on the
Hub.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from loopback_hub.card import read_header
from loopback_hub.processes import TESTS, run_client
from loopback_hub.server import LoopbackHub
from PIL import Image


pytestmark = pytest.mark.slow

# As the Hub shows it for the library peft, without any import of ours.
SNIPPET_OF_THE_HUB = """
import sys

sys.modules["hf_clipselect"] = None  # as where it is not installed
from peft import PeftModel
from transformers import AutoModel

base = AutoModel.from_pretrained("me/tiny-clip", dtype="float32")
model = PeftModel.from_pretrained(base, "me/lora-adapters")
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick-start")
    with LoopbackHub(folder / "hub") as hub:
        environment = hub.environment("hf_me_write")
        run_client("publishing_clients", "source", env=environment)
        yield hub, run_client("publishing_clients", "publish_adapters", folder, env=environment)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel is installed in."""
    work = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", work, REPOSITORY]
    done = subprocess.run(list(map(str, [*pip, *build])), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    [wheel] = work.glob("*.whl")
    install = ["install", "--no-deps", "--no-index", "--target", work / "site", wheel]
    done = subprocess.run(list(map(str, [*pip, *install])), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return work / "site"


def code_blocks(card, language):
    return [part.split("\n```", 1)[0] for part in card.split(f"```{language}\n")[1:]]


def run(code, environment, folder, *paths):
    environment = {**environment, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    (folder / "snippet.py").write_text(code, encoding="utf-8")
    return subprocess.run([sys.executable, "snippet.py"], env=environment, cwd=folder, capture_output=True, text=True)


def test_both_roads_of_our_adapters_run_from_the_wheel(published, installed, tmp_path):
    hub, expected = published
    card = hub.read("me/mlp-adapters", "README.md").decode()
    header = read_header(card)
    assert header["library_name"] == "hf_clipselect" and "peft" in header["tags"]
    assert header["base_model"] == "me/tiny-clip"
    assert card.split("## Quick start\n\n", 1)[1].startswith("```shell\npip install hf_clipselect\n```\n")
    by_us, by_peft = code_blocks(card, "python")
    assert by_peft.startswith("import hf_clipselect")
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    code = f"""
{by_peft}
from loopback_hub.publishing_clients import embeddings

first = embeddings(model.eval())
{by_us}
print(hf_clipselect.__file__)
print(first, embeddings(model), tuple(probabilities.shape))
"""
    done = run(code, hub.environment("hf_me_write"), tmp_path, installed, TESTS)
    assert done.returncode == 0, done.stderr[-3000:]
    place, found = done.stdout.splitlines()[-2:]
    assert place == str(installed / "hf_clipselect" / "__init__.py")
    assert found == f"{expected['mlp']} {expected['mlp']} (1, 3)"


def test_stock_adapters_need_nothing_of_ours_and_ours_do_not_say_so(published, tmp_path):
    hub, expected = published
    card = hub.read("me/lora-adapters", "README.md").decode()
    header = read_header(card)
    assert header["library_name"] == "peft" and {"hf_clipselect", "peft"} <= set(header["tags"])
    _, by_peft = code_blocks(card, "python")
    assert "hf_clipselect" not in by_peft and "The same with peft alone:" in card
    code = f"""{SNIPPET_OF_THE_HUB}
from loopback_hub.publishing_clients import embeddings

first = embeddings(model.eval())
{by_peft}
print(first, embeddings(model.eval()))
try:
    PeftModel.from_pretrained(base, "me/mlp-adapters")
except KeyError as error:
    print(error)
"""
    done = run(code, hub.environment("hf_me_write"), tmp_path, TESTS)
    assert done.returncode == 0, done.stderr[-3000:]
    # Once peft takes what it does not know, the card may name it as the library.
    assert done.stdout.splitlines()[-2:] == [f"{expected['lora']} {expected['lora']}", "'MLP_ADAPTER'"]
