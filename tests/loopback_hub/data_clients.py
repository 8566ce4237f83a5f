"""What the tests of datasets on the Hub run in processes of their own: `python -m loopback_hub.data_clients NAME
[ARGUMENT ...]` prints JSON.
"""

import io
import json
import sys
from pathlib import Path


def clients_of_data(folder: str) -> dict:
    """All that is tested of datasets on the Hub, in one process, since each takes seconds to import the libraries."""
    from loopback_hub.outside_files_clients import rows_that_name_files
    from loopback_hub.result_clients import formats_push

    for name in ("outside", "pictures"):
        Path(folder, name).mkdir()
    return {
        "places": datasets_by_place(),
        "reference": reference_of_a_revision(),
        "outside files": rows_that_name_files(f"{folder}/outside/secret.png"),
        "formats": formats_push(f"{folder}/pictures"),
        "streams": streams_of_repositories(),
    }


def streams_of_repositories() -> dict:
    """Images of repositories as streams: files in class folders, Parquet, and rows that name other repositories."""
    from datasets import ClassLabel, Dataset, Features, Image
    from huggingface_hub import HfApi

    from hf_clipselect.config.arguments import DataArguments
    from hf_clipselect.data.image_stream import open_stream
    from hf_clipselect.data.source import load_stream
    from hf_clipselect.embedded import load_digits_dataset
    from loopback_hub.result_clients import refusal_of

    api, digits = HfApi(), load_digits_dataset("train").select(range(6)).cast_column("image", Image(decode=False))
    for name in ("files", "table", "thief"):
        api.create_repo(f"alice/{name}", repo_type="dataset", private=True)
    files = [row["image"]["bytes"] for row in digits]
    for number, content in enumerate(files):
        api.upload_file(
            repo_id="alice/files",
            repo_type="dataset",
            path_in_repo=f"train/{'ab'[number % 2]}/{number}.png",
            path_or_fileobj=content,
        )
    path = "hf://datasets/alice/files@main/train/a/0.png"
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    stolen = [{"image": {"bytes": None, "path": path}, "label": label} for label in (0, 1)]
    for name, rows in {"table": digits, "thief": Dataset.from_list(stolen, features=features)}.items():
        buffer = io.BytesIO()
        rows.to_parquet(buffer)
        api.upload_file(
            repo_id=f"alice/{name}",
            repo_type="dataset",
            path_in_repo="train.parquet",
            path_or_fileobj=buffer.getvalue(),
        )

    def read(name: str) -> list:
        rows, source = load_stream(DataArguments(dataset_name=f"alice/{name}"))
        stream, _ = open_stream(rows, source)
        images = [image["bytes"] for table in stream.batches() for image in table.column("image").to_pylist()]
        return [sorted(map(files.index, images)), source.name, len(source.revision or "")]

    return {"files": read("files"), "table": read("table"), "thief": refusal_of(lambda: read("thief"))}


def datasets_by_place() -> dict:
    """Rows by every way to name a repository or a part of it, and what is said of what isn't there."""
    from datasets import Dataset
    from huggingface_hub import HfApi

    from hf_clipselect.data.source import load_source
    from loopback_hub.result_clients import refusal_of

    api, commits = HfApi(), []
    api.create_repo("alice/rows", repo_type="dataset", private=True)
    for numbers in ([1, 2], [1, 2, 3]):
        for path, rows in {"data/a.parquet": numbers, "more/deep/b.parquet": [*numbers, 9]}.items():
            buffer = io.BytesIO()
            Dataset.from_dict({"x": rows}).to_parquet(buffer)
            commit = api.upload_file(
                repo_id="alice/rows", repo_type="dataset", path_in_repo=path, path_or_fileobj=buffer.getvalue()
            )
        commits.append(commit.oid)
        if len(commits) == 1:
            api.create_tag("alice/rows", tag="v1", repo_type="dataset")

    def loaded(name, **parts) -> list:
        dataset, source = load_source(name, **parts)
        known = commits.index(source.revision) if source.revision else None
        return [dataset["x"][:], source.name, known, source.data_dir, source.data_files]

    url = "hf://datasets/alice/rows"
    return {
        "folder": loaded("alice/rows", data_dir="data"),
        "files": loaded("alice/rows", data_files=["more/*/*.parquet"]),
        "old": loaded("alice/rows", revision="v1", data_dir="data"),
        "commit": loaded("alice/rows", revision=commits[0], data_dir="data"),
        "url": loaded(f"{url}/data"),
        "url of a tag": loaded(f"{url}@v1/data"),
        "url of a file": loaded(f"{url}@v1/more/deep/b.parquet"),
        "url and flag": loaded(f"{url}/more", data_dir="deep", revision="v1"),
        "files by url": loaded("", data_files=[f"{url}@v1/data/a.parquet"]),
        "two revisions": refusal_of(load_source, f"{url}@v1", revision="main"),
        "no revision": refusal_of(load_source, "alice/rows", revision="v2"),
        "no folder": refusal_of(load_source, f"{url}/none"),
        "no repository": refusal_of(load_source, "hf://datasets/alice/none"),
        "options": refusal_of(load_source, url, storage_options='{"token": "hush"}'),
    }


def reference_of_a_revision() -> list[bool]:
    """Whether the images of a reference are those of the commit and the folder that were selected from."""
    from datasets import DatasetDict
    from huggingface_hub import HfApi
    from made_results import make_result

    from hf_clipselect.data.source import load_source
    from hf_clipselect.results.source_images import reference_dataset
    from loopback_hub.result_clients import digest_of, pictures

    for seed in (0, 1):
        DatasetDict(train=pictures(12), test=pictures(6, seed + 1)).push_to_hub("alice/split", data_dir="some")
        if seed == 0:
            dataset, source = load_source("alice/split", data_dir="some")
    HfApi().upload_file(
        repo_id="alice/split", repo_type="dataset", path_in_repo="README.md", path_or_fileobj=b"No configs."
    )
    result = make_result(dataset, source=source, report=True)
    result.report["arguments"] |= {"dataset_name": "alice/split", "reference_split": "test"}
    found = digest_of(reference_dataset(result, "alice/pruned"))
    return [found == digest_of(pictures(6, seed + 1)) for seed in (0, 1)]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
