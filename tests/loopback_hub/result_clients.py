"""What the tests of fetching and reading results run in processes of their own: `python -m loopback_hub.result_clients
NAME ARGUMENTS`.

Each function prints what it found as JSON; HF_ENDPOINT, HF_TOKEN and HF_HOME come from the environment, as for a user.
"""

import hashlib
import json
import sys
from pathlib import Path


def refusal_of(call, *args, **kwargs) -> str:
    """The message of the InputError that a call raises."""
    from hf_clipselect import InputError

    try:
        call(*args, **kwargs)
    except InputError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def fetch_put() -> dict:
    """Two commits of a public and of a private repository, the first one tagged."""
    from huggingface_hub import HfApi

    api = HfApi()
    for kind in ("dataset", "model"):
        api.create_repo("alice/open", repo_type=kind)
        api.create_repo("alice/secret", repo_type=kind, private=True)
        for repo in ("alice/open", "alice/secret"):
            for text in (b"old", b"new"):
                api.upload_file(repo_id=repo, repo_type=kind, path_in_repo="a.json", path_or_fileobj=text)
                if text == b"old":
                    api.create_tag(repo, tag="v1", repo_type=kind)
            for path in ("scores/x.parquet", "scores/deep/y.parquet", "ratio_30/z.parquet"):
                api.upload_file(repo_id=repo, repo_type=kind, path_in_repo=path, path_or_fileobj=path.encode())
    return {}


def fetch_get(repo: str) -> dict:
    from hf_clipselect.runtime.downloads import fetch_files

    found = {}
    for kind in ("dataset", "model"):
        fetched = fetch_files(repo, ["a.json", "scores/*", "absent.md"], repo_type=kind)
        old = fetch_files(repo, ["a.json"], repo_type=kind, revision="v1")
        again = fetch_files(repo, ["a.json"], repo_type=kind, revision=old.revision)
        found[kind] = {
            "files": sorted(
                p.relative_to(fetched.folder).as_posix() for p in fetched.folder.rglob("*") if p.is_file()
            ),
            "texts": [(fetch.folder / "a.json").read_text() for fetch in (fetched, old, again)],
            "revisions": [fetch.revision for fetch in (fetched, old, again)],
        }
    return found


def fetch_refused(*repos: str) -> list[str]:
    from hf_clipselect.runtime.downloads import fetch_files

    return [refusal_of(fetch_files, repo, ["a.json"], repo_type="dataset") for repo in repos]


def fetch_wrong() -> dict:
    from hf_clipselect.runtime.downloads import fetch_files

    return {
        name: refusal_of(fetch_files, repo, patterns, repo_type="dataset", revision=revision)
        for name, repo, patterns, revision in (
            ("id", "no such/id at all", ["a.json"], None),
            ("branch", "alice/open", ["a.json"], "v9"),
            ("commit", "alice/open", ["a.json"], "0" * 40),
            ("files", "alice/open", ["b.json", "other/*"], "v1"),
        )
    }


def pictures(count: int, seed: int = 0):
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as PILImage

    rng = np.random.default_rng(seed)
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b c", "d"])})
    images = [PILImage.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)) for _ in range(count)]
    return Dataset.from_dict({"image": images, "label": [i % 3 for i in range(count)]}, features=features)


def digest_of(dataset) -> str:
    """Of columns, features, and all values, the images by their pixels."""
    digest = hashlib.sha256(repr(dataset.features).encode())
    for row in dataset:
        digest.update(row.pop("image").tobytes())
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def source_put(folder: str) -> dict:
    """A private source that moves on, and selections from its first state: images, scores only, a local folder."""
    from dataclasses import replace

    from datasets import Image
    from huggingface_hub import HfApi
    from made_results import make_result

    from hf_clipselect import load_pruned
    from hf_clipselect.data.source import load_source

    api = HfApi()
    pictures(30).push_to_hub("alice/source", "small", split="train", private=True)
    card = Path(api.hf_hub_download("alice/source", "README.md", repo_type="dataset")).read_text()
    card = card.replace("---\n", "---\nlicense: [cc-by-4.0, mit]\n", 1)
    api.upload_file(
        repo_id="alice/source", repo_type="dataset", path_in_repo="README.md", path_or_fileobj=card.encode()
    )
    dataset, source = load_source("alice/source", "small")
    found = {"source": [source.revision, source.license, source.name, source.config_name, source.split]}

    def put(repo, place, *, sizes=(0.3, 0.5), with_images=True, private=False, **options):
        result = make_result(dataset, sizes, report=True, objective="robust", noise=True, **options)
        result.save(Path(folder) / place, dataset if with_images else None)
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=Path(folder) / place, delete_patterns="*")
        return result

    first = put("alice/pruned", "first", source=source, private=True)
    api.create_tag("alice/pruned", tag="v1", repo_type="dataset")
    second = put("alice/pruned", "second", sizes=(0.3, 0.5, "auto"), source=source, seed=1)
    put("alice/scores", "scores", source=source, with_images=False, private=True)
    put("alice/open-scores", "open", source=source, with_images=False)
    put("alice/of-folder", "folder", name="/mnt/data/flowers", with_images=False)
    put("alice/of-memory", "memory", with_images=False)
    put("alice/no-revision", "no revision", source=replace(source, revision=None), with_images=False)
    found["no revision"] = digest_of(load_pruned("alice/no-revision", ratio=0.8))
    found["first"] = {str(ratio): digest_of(first.at(ratio).apply(dataset)) for ratio in (0.3, 0.5, 0.8, "auto")}
    found["second"] = {str(ratio): digest_of(second.at(ratio).apply(dataset)) for ratio in (0.3, 0.5, 0.8, "auto")}
    found["reports"] = [first.at(ratio).report["subsets"] for ratio in (0.3, 0.8, "auto")]
    # The source moves on: another image in the same rows.
    other = list(dataset.cast_column("image", Image(decode=False))["image"])
    other[0] = other[1]
    moved = dataset.remove_columns("image").add_column("image", other).cast_column("image", Image())
    moved.select_columns(dataset.column_names).push_to_hub("alice/source", "small", split="train")
    return found


def result_get() -> dict:
    """As anyone who may read reads it."""
    from datasets import load_dataset

    from hf_clipselect import SelectionResult, load_pruned

    now, old = SelectionResult.from_hub("alice/pruned"), SelectionResult.from_hub("alice/pruned", revision="v1")
    commit = SelectionResult.from_hub("alice/pruned", "v1").source.revision
    source = load_dataset("alice/source", "small", split="train", revision=commit)
    moved = load_dataset("alice/source", "small", split="train")
    ratios = (0.3, 0.5, 0.8, "auto")
    return {
        "second": {str(ratio): digest_of(now.at(ratio).apply(source)) for ratio in ratios},
        "first": {str(ratio): digest_of(old.at(ratio).apply(source)) for ratio in ratios},
        "reports": [old.at(ratio).report["subsets"] for ratio in (0.3, 0.8, "auto")],
        "source": [old.source.revision, old.source.license, old.source.name, old.source.config_name, old.source.split],
        "pruned": {str(ratio): digest_of(load_pruned("alice/pruned", ratio=ratio)) for ratio in ratios},
        "pruned v1": {
            str(ratio): digest_of(load_pruned("alice/pruned", ratio=ratio, revision="v1")) for ratio in ratios
        },
        "scores": {str(ratio): digest_of(load_pruned("alice/scores", ratio=ratio)) for ratio in ratios},
        "refused": [
            refusal_of(now.apply, moved),
            refusal_of(now.apply, source.select(range(29))),
            refusal_of(load_pruned, "alice/no-revision", ratio=0.8),
            refusal_of(load_pruned, "alice/of-folder", ratio=0.3),
            refusal_of(load_pruned, "alice/of-memory", ratio=0.3),
            refusal_of(load_pruned, "alice/pruned", ratio=0.3, revision="v9"),
            refusal_of(load_pruned, "alice/nothing", ratio=0.3),
            refusal_of(SelectionResult.from_hub, "alice/nothing"),
            refusal_of(SelectionResult.from_hub, "alice/source"),
        ],
    }


def source_get() -> list:
    from hf_clipselect.data.source import load_source

    _, source = load_source("alice/source", "small")
    return [source.revision, source.license, source.fingerprint]


def formats_push(folder: str) -> dict[str, str]:
    """A push of the same rows in every format; for each, what is wrong with the subset that is read back."""
    from datasets import load_dataset
    from formats import contents, make_pictures, one_of_each_format
    from made_results import make_result

    pictures = make_pictures(Path(folder))
    stored, result, found = contents(pictures), make_result(pictures, (0.3,), report=True), {}
    for place, (name, dataset) in enumerate(one_of_each_format(pictures).items()):
        result.push_to_hub(f"alice/format-{place}", dataset)
        subset = load_dataset(f"alice/format-{place}", "ratio_30", split="train")
        rows, columns = contents(subset), list(pictures.features)
        wrong = [row["source_index"] for row in rows if any(row[c] != stored[row["source_index"]][c] for c in columns)]
        features = {c: str(subset.features[c]) for c in columns if subset.features[c] != pictures.features[c]}
        found[name] = f"rows {wrong}, features {features}" if wrong or features else ""
    return found


def folder_push(folder: str) -> dict:
    """A subset folder that people wrote in is pushed twice: what is on the Hub, and what is in the folder afterwards.

    The source states a license that the Hub does not know.
    """
    from huggingface_hub import DatasetCard, HfApi
    from made_results import make_result

    from hf_clipselect.hub import Destination, Repository, publish

    subset, dataset = Path(folder) / "subset", pictures(30)
    result = make_result(dataset, (0.3,), report=True)
    result.report["source"]["license"] = "my-own"
    result.save(subset, dataset)
    for name in ("notes.txt", ".git/config", "ratio_30/notes.txt", "extra/train-00000-of-00001.parquet"):
        (subset / name).parent.mkdir(exist_ok=True)
        (subset / name).write_text("mine")
    (subset / "README.md").write_text((subset / "README.md").read_text() + "\nMy words.\n")
    pushed = [
        publish(result.report, subset, Destination(Repository("alice/of-folder-push", "dataset"))) for _ in range(2)
    ]
    header = DatasetCard.load("alice/of-folder-push").data.to_dict()
    return {
        "new": [part.is_new for parts in pushed for part in parts],
        "there": sorted(HfApi().list_repo_files("alice/of-folder-push", repo_type="dataset")),
        "here": sorted(path.relative_to(subset).as_posix() for path in subset.rglob("*") if path.is_file()),
        "words": (subset / "README.md").read_text().count("My words."),
        "license": [header["license"], header["license_name"]],
    }


def result_stranger() -> list[str]:
    from hf_clipselect import SelectionResult, load_pruned

    assert len(SelectionResult.from_hub("alice/open-scores").at(0.5).selected) == 15
    return [
        refusal_of(SelectionResult.from_hub, "alice/pruned"),
        refusal_of(load_pruned, "alice/pruned", ratio=0.3),
        refusal_of(load_pruned, "alice/open-scores", ratio=0.3),
    ]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
