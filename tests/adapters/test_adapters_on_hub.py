"""Adapters through a Hub: pushed in one process, loaded in others, by the real clients."""

from pathlib import Path

import pytest
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub


pytestmark = pytest.mark.slow


def run_hub_client(
    hub: LoopbackHub,
    name: str,
    *arguments: object,
    token: str | None = "hf_alice_write",
    home: Path | None = None,
    **environment: str,
) -> dict:
    return run_client("adapter_clients", name, *arguments, env={**hub.environment(token, home), **environment})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory):
    """A Hub with good and bad adapters, their folders, and what they gave before the push."""
    work = tmp_path_factory.mktemp("published")
    with LoopbackHub(work / "hub") as hub:
        yield hub, work, run_hub_client(hub, "publish", work)


@pytest.fixture(scope="module")
def loaded(published):
    """What one process loads and is refused, and the paths that it asks the Hub for."""
    hub, _, before = published
    seen = len(hub.requests)
    found = run_hub_client(hub, "load", before["old"]["commit"])
    return found, [record.path for record in hub.requests[seen:]]


def test_adapters_come_back_bit_equal(published, loaded):
    hub, _, before = published
    old, new = before["old"], before["new"]
    assert len(hub.history("alice/adapters")) == 3 and hub.head("alice/adapters") == new["commit"]
    back, _ = loaded
    assert back["new"] == back["stock"] == new["embeddings"]
    assert back["old"] == old["embeddings"] and back["lora"] == before["lora"]["embeddings"]
    assert len({value["embeddings"] for value in before.values()}) == 3


def test_selecting_again_trains_nothing_and_gives_the_same_subset(published, tmp_path):
    hub, work, before = published
    again = run_hub_client(hub, "select_again", tmp_path)
    assert again["selected"] == before["new"]["selected"] != before["old"]["selected"]
    adaptation, commit = again["adaptation"], before["new"]["commit"]
    assert adaptation["adapter"] == {"name": "alice/adapters", "revision": commit}
    assert adaptation["reason"] == (
        f"The adapters of alice/adapters (revision {commit}) were used as they are; nothing was trained."
    )
    assert adaptation["kept"] and adaptation["num_steps"] == 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "adapter" / name).read_bytes() == (work / "new" / "adapter" / name).read_bytes()


def test_a_private_repository_opens_only_to_those_who_may_read_it(published):
    hub, _, before = published
    stranger = run_hub_client(hub, "stranger", token=None)
    assert stranger["open"] == before["new"]["embeddings"]
    assert "alice/secret does not exist, or it is private and nobody is logged in" in stranger["private"]


def test_what_nobody_should_load_is_refused(loaded):
    found, requests = loaded
    told = found["refusals"]
    assert not [path for path in requests if path.endswith(".bin")]
    # Where the config is refused, no weights are downloaded.
    weights = [path for path in requests if path.endswith(".safetensors")]
    assert [path for path in weights if "hole" in path] and not [p for p in weights if "xlora" in p or "huge" in p]
    expected = {
        "pickle": "pickle files such as adapter_model.bin, which can run code, are never read",
        "hole": "is missing",
        "xlora": "its peft_type is 'XLORA'",
        "huge": "sets hidden_dim to 100000000000; at most 65536",
        "local": "a folder of the machine that it was trained on, /home/somebody/clip; pass base_model=",
        "absent": "alice/absent does not exist, or it is private and the token in use may not read it",
        "revision": "alice/adapters has no revision 'v9'",
        "base": "can't be had; pass base_model=. base_model someone/clip",
        "run": "made for someone/clip, but the model of the run is embedded/tiny-clip",
        "name": "neither a folder nor a Hub id",
    }
    assert {name: text for name, text in expected.items() if text not in told[name]} == {}, told
    assert not [text for text in told.values() if "\n" in text or "hf_alice" in text]


def test_a_config_alone_in_the_cache_needs_a_connection(published, tmp_path):
    hub, _, _ = published
    run_hub_client(hub, "download_adapter_config", "alice/adapters", home=tmp_path)
    told = run_hub_client(hub, "refused", "alice/adapters", home=tmp_path, HF_HUB_OFFLINE="1")["refused"]
    assert "alice/adapters at revision" in told and "can't be read: " in told and "HF_HUB_OFFLINE" in told
