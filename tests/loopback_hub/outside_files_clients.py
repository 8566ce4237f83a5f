"""A dataset on the Hub whose rows name files of whoever loads it: `python -m loopback_hub.outside_files_clients NAME
[ARGUMENT ...]`.
"""

import io
import json
import sys
from pathlib import Path


def png(shade: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8), shade).save(buffer, "PNG")
    return buffer.getvalue()


def rows_that_name_files(secret: str) -> dict:
    """What each door says of such a dataset, and of one whose images are files of the repository."""
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Dataset, Features, Image, load_dataset
    from huggingface_hub import HfApi

    from hf_clipselect import InputError, SelectionResult, select_dataset
    from hf_clipselect.data import load_source, read_images

    Path(secret).write_bytes(png(7))
    images = [{"bytes": png(row), "path": None} for row in range(11)] + [{"bytes": None, "path": secret}]
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    hostile = Dataset.from_dict({"image": images, "label": [0, 1] * 6}, features=features)
    api = HfApi()
    for name in ("hostile", "folder"):
        api.create_repo(f"alice/{name}", repo_type="dataset")
    pq.write_table(hostile.with_format("arrow")[:], Path(secret).with_name("train.parquet"))
    api.upload_file(
        repo_id="alice/hostile",
        repo_type="dataset",
        path_or_fileobj=Path(secret).with_name("train.parquet"),
        path_in_repo="train.parquet",
    )
    for name in "ab":
        for row in range(6):
            api.upload_file(
                repo_id="alice/folder",
                repo_type="dataset",
                path_or_fileobj=png(20 * row),
                path_in_repo=f"{name}/{row}.png",
            )
    table = Path(secret).with_name("train.parquet")
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {table}\n---\n"
    api.create_repo("alice/card", repo_type="dataset")
    api.upload_file(repo_id="alice/card", repo_type="dataset", path_or_fileobj=card.encode(), path_in_repo="README.md")
    settings = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "off", "dataloader_num_workers": 0}

    def told(call, *args, **kwargs) -> str:
        try:
            call(*args, **kwargs)
        except InputError as error:
            return str(error)
        return "fine"

    loaded = load_dataset("alice/hostile", split="train")
    kept = select_dataset(loaded, selection_count=12, allow_outside_files=True, **settings)
    folder = str(Path(secret).parent / "saved")
    return {
        "by its card": told(load_source, "alice/card"),
        "by name": told(read_images, *load_source("alice/hostile")),
        "passed": told(select_dataset, loaded, **settings),
        "passed as a stream": told(select_dataset, loaded.to_iterable_dataset(), **settings),
        "passed in part": told(read_images, loaded.select(range(11))),
        "changed": told(read_images, loaded.filter(lambda row: True).map(lambda row: {"more": 1})),
        "saved": told(kept.save, folder, loaded),
        "pushed": told(kept.push_to_hub, "alice/kept", loaded),
        "saved all the same": told(kept.save, folder, loaded, allow_outside_files=True),
        "made in memory": told(select_dataset, hostile, **settings),
        "files of a repository": told(read_images, *load_source("alice/folder")),
        "files of a repository, passed": told(select_dataset, load_dataset("alice/folder", split="train"), **settings),
        "rows of a scores file": len(SelectionResult.from_folder(folder).scores),
        "pulled": pulled_from_strangers(Path(secret).parent, kept),
    }


def pulled_from_strangers(folder: Path, kept) -> dict:
    """What `pull` says of repositories whose rows, or those of whose source, name files, and what it wrote."""
    import contextlib
    import dataclasses
    import io

    from datasets import load_dataset
    from huggingface_hub import HfApi
    from made_results import make_result

    from hf_clipselect.cli import main
    from hf_clipselect.data import load_source
    from hf_clipselect.results.explorer.explored import open_selection

    api = HfApi()
    _, hostile = load_source("alice/hostile")
    columns = {"image_column": "image", "label_column": "label", "content_id": kept.source.content_id}
    kept = dataclasses.replace(kept, source=dataclasses.replace(hostile, **columns))
    pictures, source = load_source("alice/folder")
    own = make_result(pictures, (0.5,), source=source, report=True)
    for name, result in (("rows", kept), ("source", kept), ("pictures", own)):
        result.save(folder / name)
        api.create_repo(f"alice/pruned-{name}", repo_type="dataset")
        if name == "rows":
            (folder / name / "count_12").mkdir()
            (folder / "train.parquet").rename(folder / name / "count_12" / "train-00000-of-00001.parquet")
            card = "---\nconfigs:\n- config_name: count_12\n  data_files: count_12/*.parquet\n---\n"
            (folder / name / "README.md").write_text(card)
        api.upload_folder(repo_id=f"alice/pruned-{name}", repo_type="dataset", folder_path=folder / name)
    said = {}
    for name in ("rows", "source", "pictures"):
        target = folder / f"pulled-{name}"
        words = ["pull", f"alice/pruned-{name}", "--selection_count", "12", "--output_dir", str(target)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
            code = main(words)
        rows = len(load_dataset(str(target), split="train")) if target.exists() else 0
        said[name] = [code, err.getvalue(), rows, open_selection(f"alice/pruned-{name}").images.missing]
    return said


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
