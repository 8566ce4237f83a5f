"""What is read of the fixtures of an earlier version: `python -m loopback_hub.earlier_clients NAME FOLDER` prints
JSON.

The script that made the fixtures runs this file with the code of then, and the tests with the code of now: `read`
gives both the same answer. It therefore uses the public names of the package alone.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path


SOURCES = ("digits-by-camera", "pairs")
NEW_SIZES = ({"ratio": 0.7}, {"count": 25})


def digest_of(rows: Iterable[dict]) -> str:
    """Of all rows in their order: pixels, and every other value exactly."""
    digest = hashlib.sha256()
    for row in rows:
        plain = {name: value.tobytes().hex() if hasattr(value, "tobytes") else value for name, value in row.items()}
        digest.update(json.dumps(plain).encode())
    return digest.hexdigest()


def facts(dataset) -> dict:
    return {"rows": len(dataset), "columns": dataset.column_names, "digest": digest_of(dataset)}


def embeddings(model) -> dict:
    """A few numbers of what the adapted and the plain model make of two images and a text."""
    import torch

    def numbers() -> list[float]:
        with torch.no_grad():
            images = model.get_image_features(pixel_values=pixels).pooler_output
            texts = model.get_text_features(input_ids=torch.tensor([[0, 5, 1]])).pooler_output
        return [*images[:, :4].flatten().tolist(), *texts[0, :4].tolist()]

    pixels = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    adapted = numbers()
    with model.disable_adapter():
        return {"adapted": adapted, "plain": numbers()}


def _upload(repo: str, kind: str, folder: Path) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(repo, repo_type=kind)
    HfApi().upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message="files")


def serve_sources(folder: str) -> dict:
    """The datasets that were selected from; where the clock of the Hub stands still, at the same commits as then."""
    for name in SOURCES:
        _upload(f"me/{name}", "dataset", Path(folder, "sources", name))
    return {}


def serve_published(folder: str) -> dict:
    _upload("me/pruned", "dataset", Path(folder, "published", "dataset"))
    _upload("me/adapters", "model", Path(folder, "published", "adapters"))
    return {}


def serve(folder: str) -> dict:
    return serve_sources(folder) | serve_published(folder)


def read(folder: str) -> dict:
    """All that a user gets from the two run folders, and from the repositories on the Hub."""
    from datasets import load_dataset

    from hf_clipselect.embedded import load_digits_dataset

    pairs, cameras = (load_dataset(f"me/{name}", split="train") for name in reversed(SOURCES))
    return {
        "run": _read_one(str(Path(folder, "run")), load_digits_dataset("train"), str(Path(folder, "run", "adapter"))),
        "captions_run": _read_one(
            str(Path(folder, "captions_run")), pairs, str(Path(folder, "captions_run", "adapter"))
        ),
        "published": _read_one("me/pruned", cameras, "me/adapters"),
    }


def push_again(folder: str) -> dict:
    """A selection read from the Hub and pushed onto a repository of then; what is read of it afterwards."""
    from datasets import load_dataset

    from hf_clipselect import SelectionResult

    _upload("me/again", "dataset", Path(folder, "published", "dataset"))
    source = load_dataset(f"me/{SOURCES[0]}", split="train")
    SelectionResult.from_hub("me/again").push_to_hub("me/again", source)
    return _read_one("me/again", source, "me/adapters")


def _read_one(place: str, source, adapters: str) -> dict:
    import tempfile

    from datasets import get_dataset_config_names, load_dataset

    from hf_clipselect import SelectionResult, load_adapters, load_pruned

    here = Path(place).is_dir()
    result = SelectionResult.from_folder(place) if here else SelectionResult.from_hub(place)
    subset = str(Path(place, "subset")) if here else place
    given = {f"count {size}" if isinstance(size, int) else f"ratio {size}": size for size in result.ratios}
    sizes = [{"count" if name.startswith("count") else "ratio": size} for name, size in given.items()]
    found = {
        "sizes": list(given),
        "seed": result.seed,
        "objective": result.objective.name,
        "scores": facts(result.scores),
        "dropped": result.dropped.tolist(),
        "adaptation": [result.report["adaptation"]["kept"], result.report["adaptation"]["num_steps"]],
        "subset": {
            name: facts(load_dataset(subset, name, split="train")) for name in get_dataset_config_names(subset)
        },
    }
    for size in (*sizes, *NEW_SIZES):
        [(name, value)] = size.items()
        chosen = result.at(**size)
        found[f"at {name} {value}"] = {
            "selected": chosen.selected.tolist(),
            "reasons": digest_of(chosen.scores.select_columns(["reason"])),
            "applied": facts(chosen.apply(source)),
            "pruned": facts(load_pruned(place, **size)),
        }
    with tempfile.TemporaryDirectory() as saved:
        result.save(saved, source)
        again = SelectionResult.from_folder(saved)
        found["saved"] = {
            "scores": facts(again.scores),
            "subset": {
                name: facts(load_dataset(saved, name, split="train")) for name in get_dataset_config_names(saved)
            },
            "sizes": len(again.ratios),
        }
    return found | {"embeddings": embeddings(load_adapters(adapters))}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
