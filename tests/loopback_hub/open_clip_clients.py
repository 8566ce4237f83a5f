"""What the tests of models in other formats run in processes of their own: `python -m loopback_hub.open_clip_clients
NAME ARGUMENTS`.

Each function prints what it found as JSON; HF_ENDPOINT, HF_TOKEN and HF_HOME come from the environment, as for a user.
"""

import json
import shutil
import sys
from pathlib import Path


def publish(clip: str, work: str) -> dict:
    """Two repositories in OpenCLIP's format, one with a later commit on a branch, and one of sentence-transformers.

    Returns embeddings of the models themselves.
    """
    import torch
    from huggingface_hub import HfApi
    from open_clip_models import save_open_clip
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    api, tokenizer, found = HfApi(), AutoTokenizer.from_pretrained(clip), {}
    for kind in ("clip", "siglip"):
        folder = Path(work) / kind
        model = save_open_clip(kind, folder, tokenizer)
        with torch.inference_mode():
            found[kind] = model.encode_image(torch.zeros(1, 3, 16, 16))[0].tolist()
        if kind == "siglip":  # as timm's repositories, which have a pickle beside it, and a config.json of timm
            (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_siglip_224"}))
            torch.save(load_file(folder / "open_clip_model.safetensors"), folder / "open_clip_pytorch_model.bin")
        api.create_repo(f"alice/{kind}")
        api.upload_folder(repo_id=f"alice/{kind}", folder_path=folder)
    weights = Path(work) / "clip" / "open_clip_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    api.create_branch("alice/clip", branch="later")
    api.upload_file(repo_id="alice/clip", path_in_repo=weights.name, path_or_fileobj=weights, revision="later")
    part = Path(work) / "sentence" / "0_CLIPModel"
    shutil.copytree(clip, part)
    torch.save(load_file(part / "model.safetensors"), part / "pytorch_model.bin")
    modules = [{"idx": 0, "name": "0", "path": part.name, "type": "sentence_transformers.models.CLIPModel"}]
    (part.parent / "modules.json").write_text(json.dumps(modules))
    api.create_repo("alice/sentence")
    api.upload_folder(repo_id="alice/sentence", folder_path=part.parent)
    api.create_repo("alice/empty")
    return found


def load(*names: str) -> dict:
    """What each model says of itself and makes of grey pixels; or why it can't be had."""
    import torch

    from hf_clipselect import InputError
    from hf_clipselect.encoder.backbone import load_backbone

    found = {}
    for name in names:
        repo, _, revision = name.partition("@")
        try:
            backbone = load_backbone(repo, revision=revision or "main")
        except InputError as error:
            found[name] = {"refused": str(error)}
            continue
        with torch.inference_mode():
            embeds = backbone.model.get_image_features(pixel_values=torch.zeros(1, 3, 16, 16)).pooler_output[0]
        tokens = backbone.tokenizer("a b")["input_ids"]
        says = backbone.model.name_or_path
        found[name] = {**backbone.describe(), "embeds": embeds.tolist(), "tokens": tokens, "says": says}
    return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
