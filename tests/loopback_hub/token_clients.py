"""What passing a token does, in a process where nobody is logged in: `python -m loopback_hub.token_clients NAME
FOLDER` prints JSON.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from loopback_hub.result_clients import digest_of, pictures, refusal_of


TOKEN = "hf_me_write"


def files_with_token(*folders: Path) -> Iterator[str]:
    """The files that hold the token, or bear it in their names."""
    for folder in folders:
        for path in folder.rglob("*"):
            if TOKEN in str(path) or (path.is_file() and TOKEN.encode() in path.read_bytes()):
                yield str(path)


def adapters(folder: Path) -> Path:
    """Adapters of the private model me/tiny-clip, as peft itself writes them."""
    from huggingface_hub import HfApi
    from peft import LoraConfig, get_peft_model
    from transformers import CLIPModel

    from hf_clipselect.embedded import tiny_clip_path

    api = HfApi(token=TOKEN)
    api.create_repo("me/tiny-clip", private=True)
    api.upload_folder(repo_id="me/tiny-clip", folder_path=tiny_clip_path())
    config = LoraConfig(r=2, target_modules=["visual_projection", "text_projection"])
    config.base_model_name_or_path = "me/tiny-clip"
    model = get_peft_model(CLIPModel.from_pretrained(tiny_clip_path()).float(), config)
    model.peft_config["default"].base_model_name_or_path = "me/tiny-clip"
    model.save_pretrained(folder / "adapter")
    return folder / "adapter"


def everything(folder: str) -> dict:
    """Private repositories only: pushed, pushed again, and read in every way, with the token as an argument."""
    from made_results import make_report, make_result

    from hf_clipselect import SelectionResult, load_adapters, load_pruned
    from hf_clipselect.data.source import load_source
    from hf_clipselect.encoder.backbone import load_backbone
    from hf_clipselect.hub import Repository

    work, told = Path(folder), []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)

    pictures(30).push_to_hub("me/source", split="train", private=True, token=TOKEN)
    dataset, source = load_source("me/source", token=TOKEN)
    result = make_result(dataset, (0.3,), source=source)
    kept = {"mode": "always", "kept": True, "reason": "Asked for.", "method": "LORA", "num_steps": 9, "batch_size": 8}
    kept |= {"learning_rate": 1e-3, "temperature": 0.1, "held_out_rows": 0, "held_out_agreement_plain": None}
    kept |= dict.fromkeys(("held_out_agreement_adapted", "standard_error", "adapter"))
    result = replace(result, report=make_report(result, adaptation=kept))
    push = {"adapter_dir": adapters(work), "hub_model_id": "me/adapters", "private": True}
    pushed = [result.push_to_hub("me/pruned", dataset, **push, token=TOKEN) for _ in range(2)]
    model = load_adapters("me/adapters", token=TOKEN)
    model.save_pretrained(work / "loaded")
    model.get_base_model().save_pretrained(work / "base")
    backbone = load_backbone("me/tiny-clip", token=TOKEN)
    backbone.tokenizer.save_pretrained(work / "tokenizer")
    refused = {
        "push": refusal_of(result.push_to_hub, "me/pruned", dataset),
        "from_hub": refusal_of(SelectionResult.from_hub, "me/pruned"),
        "load_pruned": refusal_of(load_pruned, "me/pruned", ratio=0.3),
        "load_adapters": refusal_of(load_adapters, "me/adapters"),
        "of another": refusal_of(SelectionResult.from_hub, "me/pruned", token="hf_bob_write"),
        "push of another": refusal_of(result.push_to_hub, "me/pruned", dataset, token="hf_bob_write"),
        "wrong": refusal_of(result.push_to_hub, "me/pruned", dataset, token="hf_wrong"),
        "odd": refusal_of(load_pruned, "me/pruned", ratio=0.3, token=f"“{TOKEN}”"),
        "odd push": refusal_of(result.push_to_hub, "me/pruned", dataset, token=f"“{TOKEN}”"),
        "empty": refusal_of(load_adapters, "me/adapters", token=""),
    }
    return {
        "new": [part.is_new for parts in pushed for part in parts],
        "read": SelectionResult.from_hub("me/pruned", token=TOKEN).selected.tolist() == result.selected.tolist(),
        "images": digest_of(load_pruned("me/pruned", ratio=0.3, token=TOKEN)) == digest_of(result.apply(dataset)),
        # Its rows come from the source, which is private too.
        "source": digest_of(load_pruned("me/pruned", ratio=0.8, token=TOKEN))
        == digest_of(result.at(0.8).apply(dataset)),
        "base": model.get_base_model().name_or_path,
        "refused": refused,
        "token in": [
            *files_with_token(work, Path(os.environ["HF_HOME"])),
            *(text for text in told if TOKEN in text),
            *(text for text in refused.values() if "hf_" in text.replace("HF_TOKEN", "") and "_write" in text),
            *(text for text in (repr(Repository("me/x", "model", token=TOKEN)), repr(pushed)) if TOKEN in text),
            *(text for text in (repr(model), repr(backbone), str(vars(backbone.tokenizer))) if TOKEN in text),
        ],
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
