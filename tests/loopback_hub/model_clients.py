"""What the tests of models on the Hub run in processes of their own: `python -m loopback_hub.model_clients NAME
ARGUMENTS`.

Each function prints what it found as JSON; HF_ENDPOINT, HF_TOKEN and HF_HOME come from the environment, as for a user.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from loopback_hub.result_clients import refusal_of


SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"


class Runs:
    """What a pickle holds that runs a command when it is read."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def publish(clip: str, work: str, converter: str, stranger: str) -> dict:
    """Repositories with the same weights in every form, some in pull requests of a converter or of a stranger.

    Returns the commits of the pull requests and the hash of the weights.
    """
    import torch
    from huggingface_hub import CommitOperationAdd, HfApi
    from safetensors.torch import load_file, save

    alice, safetensors = HfApi(), Path(clip) / SAFETENSORS
    weights = load_file(safetensors)

    def repository(name: str, write, **settings) -> None:
        folder = Path(work) / name
        shutil.copytree(clip, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        write(folder)
        alice.create_repo(f"alice/{name}", **settings)
        alice.upload_folder(repo_id=f"alice/{name}", folder_path=folder)

    def pickled(folder: Path) -> None:
        torch.save(weights, folder / PICKLE)

    def sharded(folder: Path) -> None:
        names = sorted(weights)
        shards = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
        for file, part in shards.items():
            torch.save({name: weights[name] for name in part}, folder / file)
        index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
        (folder / f"{PICKLE}.index.json").write_text(json.dumps(index))

    def hostile(folder: Path) -> None:
        torch.save({**weights, "logit_scale": Runs(f"{work}/it ran")}, folder / PICKLE)

    def request(name: str, token: str, **files) -> str:
        changes = [CommitOperationAdd(path, content) for path, content in files.items()]
        done = HfApi(token=token).create_commit(
            f"alice/{name}", changes, commit_message="Adding `safetensors` variant of this model", create_pr=True
        )
        return done.oid

    conversion = {SAFETENSORS: safetensors}
    for name in ("pickle", "converted", "stranger", "empty", "stale", "closed", "switched-off"):
        repository(name, pickled)
    repository("sharded", sharded)
    repository("sharded-converted", sharded)
    repository("hostile", hostile)
    repository("both", lambda folder: shutil.copy(safetensors, folder))
    repository("nothing", lambda folder: None)
    found = {"stranger": request("stranger", stranger, **conversion)}
    found["empty"] = request("empty", converter, **{"notes.md": b"none yet"})
    for name in ("converted", "stale", "closed", "switched-off"):
        found[name] = request(name, converter, **conversion)
    names = sorted(weights)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    parts = {file: save({name: weights[name] for name in part}, {"format": "pt"}) for file, part in shards.items()}
    parts[f"{SAFETENSORS}.index.json"] = json.dumps(index).encode()
    found["sharded-converted"] = request("sharded-converted", converter, **parts)
    # Others ask for the same after the converter did.
    request("converted", stranger, **{SAFETENSORS: b"of a stranger"})
    newer = {name: value + 1 for name, value in weights.items()}
    torch.save(newer, Path(work) / "newer.bin")
    alice.upload_file(repo_id="alice/stale", path_in_repo=PICKLE, path_or_fileobj=Path(work) / "newer.bin")
    alice.change_discussion_status("alice/closed", 1, "closed")
    return {"requests": found, "weights": hash_of(weights), "newer": hash_of(newer)}


def hash_of(weights) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def load(*names: str) -> dict:
    """What each model says of itself, with a hash of its weights; or why it can't be had."""
    from hf_clipselect import InputError
    from hf_clipselect.encoder.backbone import load_backbone

    found = {}
    for name in names:
        name, _, revision = name.partition("@")
        try:
            backbone = load_backbone(f"alice/{name}", revision=revision or "main")
        except InputError as error:
            found[name] = {"refused": str(error)}
        else:
            weights = hash_of(backbone.model.state_dict())
            found[name] = {**backbone.describe(), "weights": weights, "says": backbone.model.name_or_path}
    return found


def scan() -> dict:
    """The cache as the Hub client sees it: what it warns of, and the names of the commits."""
    from huggingface_hub import scan_cache_dir

    info = scan_cache_dir()
    return {"warnings": list(map(str, info.warnings)), "refs": sorted(ref for repo in info.repos for ref in repo.refs)}


def load_adapters_of(folder: str) -> dict:
    from hf_clipselect import load_adapters

    model = load_adapters(folder)
    return {"kind": type(model).__name__, "base": model.peft_config["default"].base_model_name_or_path}


def adapters_on(folder: str, base: str) -> dict:
    from hf_clipselect import load_adapters

    return {"refused": refusal_of(load_adapters, folder, base_model=base)}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
