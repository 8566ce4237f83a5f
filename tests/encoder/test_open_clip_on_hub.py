"""Models in the formats of OpenCLIP and sentence-transformers, through a Hub on this machine and the real clients."""

import pytest
import torch
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub
from transformers import CLIPModel


pytestmark = pytest.mark.slow

NAMES = ("alice/clip", "hf-hub:alice/clip", "hf-hub:alice/siglip", "alice/sentence")


def test_repositories_load_at_one_commit_and_later_without_the_hub(clip_folder, tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        alice = hub.environment(hub.tokens["alice"])
        truth = run_client("open_clip_clients", "publish", clip_folder, tmp_path, env=alice)
        environment = hub.environment(home=tmp_path / "home")
        hub.requests.clear()
        found = run_client("open_clip_clients", "load", *NAMES, "alice/clip@later", "alice/empty", env=environment)
        newer, refused = found.pop("alice/clip@later"), found.pop("alice/empty")["refused"]
        requests = [record.path for record in hub.requests]
        offline = run_client("open_clip_clients", "load", *NAMES, env={**environment, "HF_HUB_OFFLINE": "1"})
        heads = {name: hub.head(f"alice/{name}") for name in ("clip", "siglip", "sentence")}

    with torch.inference_mode():
        clip = CLIPModel.from_pretrained(clip_folder).eval()
        truth["sentence"] = clip.get_image_features(pixel_values=torch.zeros(1, 3, 16, 16)).pooler_output[0].tolist()
    assert not [model["refused"] for model in found.values() if "refused" in model]
    for name in NAMES:
        repo_id, short = name.removeprefix("hf-hub:"), name.rpartition("/")[2]
        model = found[name]
        assert model["embeds"] == pytest.approx(truth[short], abs=1e-5), name
        assert (model["name"], model["says"], model["revision"]) == (repo_id, repo_id, heads[short])
        assert model["weights_sha256"] is None and "weights_files" not in model
        assert len(model["tokens"]) > 2
    assert found["alice/clip"] == found["hf-hub:alice/clip"]
    # Pickles beside safetensors stay where they are.
    assert not [path for path in requests if path.endswith(".bin")] and not hub.unknown
    assert offline == found
    assert newer["revision"] != heads["clip"] and newer["embeds"] != found["alice/clip"]["embeds"]
    assert "has no config.json at revision main" in refused
