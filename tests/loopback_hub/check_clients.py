"""A selection with checks of its rows, published and read back: `python -m loopback_hub.check_clients NAME`."""

import json
import sys


def told(result) -> dict:
    """What a reader sees of the checks, and other sizes."""
    sizes = {str(size): result.at(size) for size in (0.3, 0.8)}
    return {
        "columns": {name: result.scores[name][:] for name in ("leak_of", "quality_issues", "must_drop")},
        "selected": {size: at.selected.tolist() for size, at in sizes.items()},
        "reasons": {size: at.scores["reason"][:] for size, at in sizes.items()},
        "report": [result.report["leaks"], result.report["quality"]],
    }


def publish() -> dict:
    from datasets import concatenate_datasets

    from hf_clipselect import select_dataset
    from hf_clipselect.embedded import load_digits_dataset

    test = load_digits_dataset("test")
    result = select_dataset(
        test.select(range(150)),
        model_name_or_path="embedded/tiny-clip",
        reference=concatenate_datasets([test.select(range(200, 260)), test.select([7, 140])]),
        drop_leaks=True,
        quality_checks="drop",
        selection_ratio=0.3,
        objective="clean",
        adaptation="off",
        use_cpu=True,
        dataloader_num_workers=0,
    )
    result.push_to_hub("alice/checked", test.select(range(150)))
    return told(result)


def fetch() -> dict:
    from huggingface_hub import hf_hub_download

    from hf_clipselect import SelectionResult

    with open(hf_hub_download("alice/checked", "README.md", repo_type="dataset"), encoding="utf-8") as card:
        return {**told(SelectionResult.from_hub("alice/checked")), "card": card.read()}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
