"""What the tests of adapters on the Hub run in processes of their own: `python -m loopback_hub.adapter_clients NAME
ARGUMENTS`.

Each function prints what it found as JSON; HF_ENDPOINT, HF_TOKEN and HF_HOME come from the environment, as for a user.
"""

import hashlib
import json
import sys
from pathlib import Path

from loopback_hub.result_clients import refusal_of


def digits():
    from hf_clipselect.embedded import load_digits_dataset

    return load_digits_dataset("test").select(range(100))


def select(**settings):
    from hf_clipselect import select_dataset

    return select_dataset(digits(), model_name_or_path="embedded/tiny-clip", dataloader_num_workers=0, **settings)


def embeddings(model) -> str:
    import torch

    size = model.config.vision_config.image_size
    pixels = torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        texts = model.get_text_features(input_ids=torch.tensor([[1, 2, 3, 4]])).pooler_output
    return hashlib.sha256(images.numpy().tobytes() + texts.numpy().tobytes()).hexdigest()


def push(repo: str, folder: Path, **settings: object) -> str:
    """Creates a repository, or adds a commit to it; returns the commit."""
    from huggingface_hub import HfApi

    HfApi().create_repo(repo, exist_ok=True, **settings)
    return HfApi().upload_folder(repo_id=repo, folder_path=folder, commit_message="adapters").oid


def publish(work: str) -> dict:
    """Two commits of MLP adapters, LoRA in a private repository, and bad ones; what each good one gave before."""
    from hf_clipselect import load_adapters

    lora = Path(work) / "lora.json"
    lora.write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    found = {}
    runs = {
        "old": ("alice/adapters", {"seed": 7}, {}),
        "new": ("alice/adapters", {}, {}),
        "lora": ("alice/secret", {"peft_config": lora}, {"private": True}),
    }
    for name, (repo, settings, access) in runs.items():
        folder = Path(work) / name
        result = select(adaptation="always", num_train_epochs=1, output_dir=folder, **settings)
        found[name] = {
            "embeddings": embeddings(load_adapters(folder / "adapter")),
            "selected": result.selected.tolist(),
            "commit": push(repo, folder / "adapter", **access),
        }
    publish_bad(work)
    return found


def publish_bad(work: str) -> None:
    """Repositories that hold what nobody should load, made from good adapters."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    def copy(name: str) -> Path:
        return Path(shutil.copytree(Path(work) / "new" / "adapter", Path(work) / name))

    pickle = copy("pickle")
    weights = load_file(pickle / "adapter_model.safetensors")
    torch.save(weights, pickle / "adapter_model.bin")
    (pickle / "adapter_model.safetensors").unlink()
    hole = copy("hole")
    save_file(dict(list(weights.items())[1:]), hole / "adapter_model.safetensors")
    configs = {
        "xlora": {"peft_type": "XLORA", "adapters": {"0": "alice/secret"}},
        "huge": {"hidden_dim": 10**11},
        "local": {"base_model_name_or_path": "/home/somebody/clip"},
        "other": {"base_model_name_or_path": "someone/clip"},
    }
    for name, changes in configs.items():
        path = copy(name) / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    for name in ("pickle", "hole", *configs):
        push(f"alice/{name}", Path(work) / name)


def load(old: str) -> dict:
    """The ways to get the adapters back, and what is refused; the import alone makes the method known to peft."""
    import hf_clipselect

    return {
        "stock": stock_embeddings("alice/adapters", Path(hf_clipselect.__file__).parent / "embedded" / "tiny_clip"),
        "new": embeddings(hf_clipselect.load_adapters("alice/adapters")),
        "old": embeddings(hf_clipselect.load_adapters("alice/adapters", revision=old)),
        "lora": embeddings(hf_clipselect.load_adapters("alice/secret")),
        "refusals": refusals(old),
    }


def stock_embeddings(repo: str, base: Path) -> str:
    from peft import PeftModel
    from transformers import CLIPModel

    return embeddings(PeftModel.from_pretrained(CLIPModel.from_pretrained(base).float(), repo).eval())


def select_again(folder: str) -> dict:
    result = select(adapter_name_or_path="alice/adapters", output_dir=folder)
    return {"selected": result.selected.tolist(), "adaptation": result.report["adaptation"]}


def refusals(old: str) -> dict:
    from hf_clipselect import load_adapters

    found = {
        name: refusal_of(load_adapters, f"alice/{name}")
        for name in ("pickle", "hole", "xlora", "huge", "local", "absent")
    }
    found["revision"] = refusal_of(load_adapters, "alice/adapters", revision="v9")
    found["base"] = refusal_of(load_adapters, "alice/other")
    found["run"] = refusal_of(select, adapter_name_or_path="alice/other")
    found["name"] = refusal_of(load_adapters, "no folder, no id")
    return found


def fetch(repo: str, revision: str, *patterns: str) -> dict:
    """What fetch_files finds in a dataset repository and warns of, or the message of its refusal."""
    import logging

    from hf_clipselect import InputError
    from hf_clipselect.runtime.downloads import fetch_files

    warnings = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("hf_clipselect").addHandler(handler)
    try:
        fetched = fetch_files(repo, patterns, repo_type="dataset", revision=revision or None)
    except InputError as error:
        return {"refused": str(error), "warnings": warnings}
    finally:
        logging.getLogger("hf_clipselect").removeHandler(handler)
    return {"revision": fetched.revision, "warnings": warnings}


def fetch_each(asked: str) -> list[dict]:
    """[`fetch`] of each of several lists of arguments, which are JSON, one after another in this process."""
    return [fetch(*arguments) for arguments in json.loads(asked)]


def fetch_one_file(repo: str) -> dict:
    """As another program that leaves a part of the repository in the cache."""
    from huggingface_hub import hf_hub_download

    return {"path": hf_hub_download(repo, "a.json", repo_type="dataset")}


def download_adapter_config(repo: str) -> dict:
    from huggingface_hub import hf_hub_download

    return {"path": hf_hub_download(repo, "adapter_config.json")}


def refused(repo: str) -> dict:
    from hf_clipselect import load_adapters

    return {"refused": refusal_of(load_adapters, repo)}


def stranger() -> dict:
    from hf_clipselect import load_adapters

    return {"private": refusal_of(load_adapters, "alice/secret"), "open": embeddings(load_adapters("alice/adapters"))}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
