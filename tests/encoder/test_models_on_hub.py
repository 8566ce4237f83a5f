"""Models on the Hub that have no safetensors on main, through a Hub on this machine and the real clients."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub


pytestmark = pytest.mark.slow

PICKLES = ("pickle", "stranger", "empty", "stale", "closed", "switched-off", "sharded")
NAMES = ("both", "converted", "sharded-converted", *PICKLES, "hostile", "nothing")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path):
    """A Hub with the models, and what is right of them."""
    work = tmp_path_factory.mktemp("models")
    with LoopbackHub(work / "hub") as hub:
        tokens = hub.tokens["converter"], hub.tokens["bob"]
        found = run_client(
            "model_clients", "publish", clip_folder, work, *tokens, env=hub.environment(hub.tokens["alice"])
        )
        yield hub, work, found


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 images in two class folders."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for row in range(24):
        path = folder / ("red", "blue")[row % 2] / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


def select(hub: LoopbackHub, home: Path, images: Path, model: str, output_dir: Path, **environment: str):
    command = [
        Path(sys.executable).with_name("hf-clipselect"),
        "select",
        "--dataset_name",
        images,
        "--model_name_or_path",
        model,
        "--output_dir",
        output_dir,
        "--adaptation",
        "always",
        "--num_train_epochs",
        "1",
        "--min_train_steps",
        "2",
        "--use_cpu",
        "--dataloader_num_workers",
        "0",
        "--temperature",
        "0.1",
    ]
    environment = {**hub.environment(home=home), "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)


def test_weights_are_found_and_what_was_taken_is_told(published, tmp_path):
    hub, work, truth = published
    # As the Hub answers where the owner has no discussions.
    hub.faults.add("status", path="/api/models/alice/switched-off/discussions", status=403, times=None)
    hub.requests.clear()
    environment = hub.environment(home=tmp_path)
    found = run_client("model_clients", "load", *NAMES, env=environment)
    requests = [record.path for record in hub.requests]
    for name in NAMES[:-2]:
        model, right = found[name], truth["newer"] if name == "stale" else truth["weights"]
        assert model["weights"] == right, name
        assert (model["name"], model["says"], model["revision"]) == (f"alice/{name}",) * 2 + (
            hub.head(f"alice/{name}"),
        )
        assert model["weights_sha256"] is None
    assert {"weights_revision", "weights_files"}.isdisjoint(found["both"])
    assert (
        found["converted"]["weights_revision"]
        == truth["requests"]["converted"]
        == hub.refs("alice/converted")["refs/pr/1"]
    )
    for name in ("converted", "sharded-converted"):
        assert found[name]["weights_revision"] == truth["requests"][name] and "weights_files" not in found[name]
    for name in PICKLES:
        files = sorted(path for path in hub.tree(f"alice/{name}") if path.endswith(".bin"))
        hashes = {file: hashlib.sha256(hub.read(f"alice/{name}", file)).hexdigest() for file in files}
        assert found[name]["weights_files"] == hashes, name
        assert "weights_revision" not in found[name]
    # Nothing is asked for or downloaded that is not needed.
    assert not [path for path in requests if "alice/both" in path and ("discussions" in path or path.endswith(".bin"))]
    assert not [path for path in requests if "converted" in path and path.endswith(".bin")]
    assert not hub.unknown

    refused = found["hostile"]["refused"]
    assert "pytorch_model.bin is refused: it is damaged, or holds more than tensors" in refused
    assert "neither model.safetensors nor pytorch_model.bin" in found["nothing"]["refused"]
    assert not (work / "it ran").exists()

    # From the cache alone, and with what has changed on the Hub since.
    scanned = run_client("model_clients", "scan", env=environment)
    assert scanned["warnings"] == [] and scanned["refs"].count("main") == len(NAMES)
    offline = run_client("model_clients", "load", *NAMES[:-2], env={**environment, "HF_HUB_OFFLINE": "1"})
    assert offline == {name: found[name] for name in NAMES[:-2]}


def test_the_command_line_selects_with_a_conversion_and_goes_on_without_the_hub(published, images, tmp_path):
    hub, work, truth = published
    home, output = tmp_path / "home", tmp_path / "run"
    done = select(hub, home, images, "alice/converted", output)
    assert done.returncode == 0, done.stderr[-3000:]
    commit, conversion = hub.head("alice/converted"), truth["requests"]["converted"]
    config = yaml.safe_load((output / "config.yaml").read_text())
    assert (config["model"]["revision"], config["model"]["weights_revision"]) == (commit, conversion)
    assert config["identity"]["model"] == f"{commit} with the weights of {conversion}"
    for path in ("report.json", "subset/selection.json", "features/manifest.json"):
        assert conversion in (output / path).read_text(), path
    for card in ("subset", "adapter"):
        told = f"weights from its conversion to safetensors by SFconvertbot, revision `{conversion}`"
        assert told in (output / card / "README.md").read_text()
    shards = {path: path.stat().st_mtime_ns for path in (output / "features").glob("images-*")}
    subset = (output / "subset" / "selection.json").read_bytes()
    seen = len(hub.requests)
    again = select(hub, home, images, "alice/converted", output, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in shards} == shards and len(hub.requests) == seen
    assert (output / "subset" / "selection.json").read_bytes() == subset
    # The base of adapters is found the same way; and a cache that lacks it is told of.
    environment = hub.environment(home=home)
    assert (
        run_client("model_clients", "load_adapters_of", output / "adapter", env=environment)["base"]
        == "alice/converted"
    )
    empty = hub.environment(home=tmp_path / "empty") | {"HF_HUB_OFFLINE": "1"}
    told = run_client("model_clients", "adapters_on", output / "adapter", "alice/converted", env=empty)["refused"]
    assert "alice/converted" in told and "HF_HUB_OFFLINE" in told and "e.g." not in told
