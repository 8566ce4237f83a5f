"""Selections with decisions of a person, as one process publishes and another reads them: `python -m
loopback_hub.decision_clients NAME FOLDER` prints JSON.
"""

import json
import sys
from pathlib import Path


REPOS = {"images": "me/decided", "scores": "me/decided-scores"}


def publish(folder: str) -> dict:
    """A noisy dataset, and what the command line makes of it and of decisions: with images, and scores alone."""
    from reviewed_digits import make_reviewed_digits

    from hf_clipselect.cli import main

    reviewed = make_reviewed_digits(Path(folder), num_rows=200)
    reviewed.dataset.push_to_hub("me/noisy-digits", split="train")
    command = "select --dataset_name me/noisy-digits --model_name_or_path embedded/tiny-clip --adaptation off"
    command += f" --dataloader_num_workers 0 --decisions {reviewed.path} --output_dir {folder}/out --push_to_hub"
    codes = [
        main([*command.split(), "--hub_dataset_id", REPOS["images"]]),
        main([*command.split(), "--hub_dataset_id", REPOS["scores"], "--scores_only"]),
    ]
    return {"codes": codes, "labels": reviewed.decided.tolist(), "given": reviewed.given.tolist()}


def read() -> dict:
    from datasets import load_dataset

    from hf_clipselect import SelectionResult, load_pruned

    source = load_dataset("me/noisy-digits", split="train")
    found = {"source": source["label"][:]}
    for kind, repo in REPOS.items():
        result = SelectionResult.from_hub(repo)
        subsets = {
            "pruned": load_pruned(repo, ratio=0.3),
            "another ratio": load_pruned(repo, ratio=0.6),
            "applied": result.at(0.6).apply(source),
        }
        if kind == "images":
            subsets["loaded"] = load_dataset(repo, "ratio_30", split="train")
        found[kind] = {
            "decisions": result.report["decisions"],
            "columns of the scores": load_dataset(repo, "scores", split="train").column_names,
            "subsets": {
                name: [subset.column_names, subset["source_index"][:], subset["label"][:], subset["given_label"][:]]
                for name, subset in subsets.items()
            },
        }
    return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
