"""What a stranger gets from a published run: `python -m loopback_hub.publishing_clients NAME [ARGUMENT ...]` prints
JSON.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path


def digest_of(rows: Iterable[dict]) -> str:
    """Of all rows in their order: pixels, labels, scores."""
    digest = hashlib.sha256()
    for row in rows:
        if "image" in row:
            digest.update(row["image"].tobytes())
        digest.update(json.dumps({key: value for key, value in row.items() if key != "image"}).encode())
    return digest.hexdigest()


def facts(dataset) -> list:
    return [len(dataset), repr(dataset.features), digest_of(dataset)]


def embeddings(model) -> str:
    import torch

    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        texts = model.get_text_features(input_ids=torch.tensor([[0, 5, 1]])).pooler_output
    return hashlib.sha256(images.numpy().tobytes() + texts.numpy().tobytes()).hexdigest()


def source() -> dict:
    """A dataset on the Hub whose card states a license, and a model."""
    from huggingface_hub import DatasetCard, HfApi

    from hf_clipselect.embedded import load_digits_dataset, tiny_clip_path

    HfApi().create_repo("me/tiny-clip")
    HfApi().upload_folder(repo_id="me/tiny-clip", folder_path=tiny_clip_path())

    load_digits_dataset("test").select(range(150)).push_to_hub("me/source", split="train")
    card = DatasetCard.load("me/source")
    card.data.license = "cc-by-4.0"
    card.push_to_hub("me/source", repo_type="dataset")
    return {}


def publish_adapters(work: str) -> dict:
    """Our adapters and stock LoRA of a model on the Hub, each with its card; what their embeddings are."""
    from datasets import load_dataset

    from hf_clipselect import load_adapters, select_dataset

    lora = Path(work, "lora.json")
    lora.write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    dataset, found = load_dataset("me/source", split="train"), {}
    for name, settings in {"mlp": {}, "lora": {"peft_config": lora}}.items():
        folder = Path(work, name)
        result = select_dataset(
            dataset,
            model_name_or_path="me/tiny-clip",
            adaptation="always",
            num_train_epochs=1,
            dataloader_num_workers=0,
            output_dir=folder,
            **settings,
        )
        result.push_to_hub(
            f"me/{name}-pruned", dataset, adapter_dir=folder / "adapter", hub_model_id=f"me/{name}-adapters"
        )
        found[name] = embeddings(load_adapters(folder / "adapter"))
    return found


def on_disk(folder: str) -> dict:
    """What the run left, by the names under which it is asked for on the Hub."""
    from datasets import load_dataset

    from hf_clipselect import SelectionResult, load_adapters

    subset, result = Path(folder, "subset"), SelectionResult.from_folder(folder)
    original = load_dataset("me/source", split="train")
    return {
        "ratio_30": facts(load_dataset(str(subset), "ratio_30", split="train")),
        "ratio_50": facts(load_dataset(str(subset), "ratio_50", split="train")),
        "plain": facts(load_dataset(str(subset), split="train")),
        "scores": facts(load_dataset(str(subset), "scores", split="train")),
        "another ratio": facts(result.at(0.8).apply(original)),
        "adapters": embeddings(load_adapters(Path(folder, "adapter"))),
    }


def on_the_hub(pruned: str, adapters: str) -> dict:
    """The same from the Hub, in a process that knows nothing but its address."""
    import datasets
    from datasets import load_dataset
    from peft import PeftModel
    from transformers import AutoModel

    import hf_clipselect
    from hf_clipselect.embedded import tiny_clip_path

    original = load_dataset("me/source", split="train")
    result = hf_clipselect.SelectionResult.from_hub(pruned)
    stream = load_dataset(pruned, "ratio_30", split="train", streaming=True)
    base = AutoModel.from_pretrained(tiny_clip_path(), dtype="float32")  # the checkpoint is stored in half precision
    assert isinstance(stream, datasets.IterableDataset)
    return {
        "ratio_30": facts(load_dataset(pruned, "ratio_30", split="train")),
        "ratio_50": facts(load_dataset(pruned, "ratio_50", split="train")),
        "plain": facts(load_dataset(pruned)["train"]),
        "scores": facts(load_dataset(pruned, "scores", split="train")),
        "another ratio": facts(result.at(0.8).apply(original)),
        "adapters": embeddings(hf_clipselect.load_adapters(adapters)),
        "streamed": digest_of(stream),
        "by peft": embeddings(PeftModel.from_pretrained(base, adapters).eval()),
        "plain clip": embeddings(AutoModel.from_pretrained(tiny_clip_path(), dtype="float32")),
        "pruned": facts(hf_clipselect.load_pruned(pruned, ratio=0.8)),
    }


def scores_only(repo: str) -> dict:
    from datasets import load_dataset

    from hf_clipselect import load_pruned

    return {
        "columns": load_dataset(repo, split="train").column_names,
        "ratio_30": facts(load_pruned(repo, ratio=0.3)),
        "another ratio": facts(load_pruned(repo, ratio=0.8)),
    }


def from_python(folder: str) -> dict:
    """A result pushed from Python, another ratio of it pushed from what was published, and what is refused."""
    from datasets import load_dataset

    from hf_clipselect import SelectionResult, select_dataset, select_embeddings
    from hf_clipselect.errors import InputError

    dataset = load_dataset("me/source", split="train")
    settings = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "always", "num_train_epochs": 2}
    result = select_dataset(
        dataset, selection_ratio=[0.3, 0.5], output_dir=folder, dataloader_num_workers=0, **settings
    )
    options = {"adapter_dir": Path(folder, "adapter"), "hub_model_id": "me/python-adapters"}
    first = result.push_to_hub("me/python", dataset, private=True, **options)
    again = result.push_to_hub("me/python", dataset, **options)
    half = SelectionResult.from_hub("me/python").at(0.8)
    half.push_to_hub("me/python-80", dataset, tag="best", license="apache-2.0")
    half.push_to_hub("me/python-80", revision="dev")
    half.push_to_hub("me/python-80", create_pr=True)
    scores = half.push_to_hub("me/python-scores")

    def refusal(call, *arguments, **keywords) -> str:
        try:
            call(*arguments, **keywords)
        except InputError as error:
            return str(error)
        return "nothing was refused"

    embeds = [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]
    bare = select_embeddings(embeds, embeds[:2], [0, 1, 0], selection_ratio=0.5)
    return {
        "pushed": [[part.repo_id, part.repo_type, part.is_new] for part in (*first, *again, *scores)],
        "ratio_30": [facts(result.apply(dataset)), facts(load_dataset("me/python", split="train"))],
        "ratio_80": [
            facts(half.apply(dataset)),
            facts(load_dataset("me/python-80", "ratio_80", split="train", revision="best")),
        ],
        "refused": [
            refusal(half.push_to_hub, "me/x", dataset.select(range(149))),
            refusal(half.push_to_hub, "me/x", dataset, adapter_dir=folder),
            refusal(half.push_to_hub, "me/x", create_pr=True, tag="v1"),
            refusal(half.push_to_hub, "bob/x"),
            refusal(half.push_to_hub, "me/x", license="Apache"),
            refusal(half.push_to_hub, "me/x", license="apache"),
            refusal(bare.push_to_hub, "me/x"),
        ],
    }


def stranger(*repos: str) -> dict:
    """What somebody without rights is told."""
    from datasets import load_dataset

    found = {}
    for repo in repos:
        try:
            load_dataset(repo, "ratio_30", split="train")
        except Exception as error:
            found[repo] = type(error).__name__
    return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
