"""A published selection and a Space that shows it: `python -m loopback_hub.space_clients NAME [ARGUMENT ...]` prints
JSON.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from loopback_hub.result_clients import pictures, refusal_of


def push_selection() -> dict:
    """A public selection alone."""
    from made_results import make_result

    dataset = pictures(30)
    make_result(dataset, (0.3, 0.5), report=True, objective="robust", noise=True).push_to_hub("me/pruned", dataset)
    return {}


def push(folder: str) -> dict:
    """A public and a private selection; a Space of each, pushed twice, and once more for another version."""
    import logging

    from huggingface_hub import HfApi, SpaceCard, SpaceCardData
    from made_results import make_result

    from hf_clipselect.hub.space import push_space

    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("hf_clipselect").addHandler(handler)
    api = HfApi()
    dataset = pictures(30)
    result = make_result(dataset, (0.3, 0.5), report=True, objective="robust", noise=True)
    result.push_to_hub("me/pruned", dataset)
    result.push_to_hub("me/secret", dataset, private=True)
    warnings.clear()
    pushed = [push_space("me/explorer", "me/pruned") for _ in range(2)]
    told = list(warnings)
    secret = push_space("me/secret-explorer", "me/secret", private=True)
    secret_told = warnings[len(told) :]
    # What an earlier version left, and what its owner wrote.
    space = {"repo_id": "me/explorer", "repo_type": "space"}
    api.upload_file(path_in_repo="hf_clipselect-0.0.1-py3-none-any.whl", path_or_fileobj=b"old", **space)
    card = SpaceCard.load("me/explorer")
    card.text += "\nMy words.\n"
    card.data.pinned = True
    api.upload_file(path_in_repo="README.md", path_or_fileobj=str(card).encode(), **space)
    again = push_space("me/explorer", "me/pruned", revision="v1")
    api.create_repo("me/other", repo_type="space", space_sdk="gradio")
    api.upload_file(repo_id="me/other", repo_type="space", path_in_repo="app.py", path_or_fileobj=b"print()")
    api.create_repo("me/page", repo_type="space", space_sdk="static")
    api.upload_file(repo_id="me/page", repo_type="space", path_in_repo="index.html", path_or_fileobj=b"<p>Mine")
    secret_app = Path(api.hf_hub_download("me/secret-explorer", "app.py", repo_type="space")).read_text()
    local = Path(folder) / "subset"
    result.save(local, dataset)
    header = SpaceCard.load("me/explorer").data
    assert isinstance(header, SpaceCardData)
    return {
        "pushed": [asdict(part) for part in pushed],
        "told": told,
        "secret": [secret.is_new, api.space_info("me/secret-explorer").private, secret_told],
        "again": again.is_new,
        "files": sorted(api.list_repo_files(**space)),
        "header": header.to_dict(),
        "words": SpaceCard.load("me/explorer").text.count("My words."),
        "card": SpaceCard.load("me/explorer").text,
        "secret app": secret_app,
        "app": Path(api.hf_hub_download(filename="app.py", **space)).read_text(),
        "refused": {
            "of another": refusal_of(push_space, "bob/explorer", "me/pruned"),
            "no such repository": refusal_of(push_space, "me/explorer", "me/nothing"),
            "no selection": refusal_of(push_space, "me/explorer", "me/explorer"),
            "folder": refusal_of(push_space, "me/explorer", str(local)),
            "another app": refusal_of(push_space, "me/other", "me/pruned"),
            "another page": refusal_of(push_space, "me/page", "me/pruned"),
            "secret": refusal_of(push_space, "me/shown", "me/secret"),
            "secret, in a public Space": refusal_of(push_space, "me/explorer", "me/secret", private=True),
            "no id": refusal_of(push_space, "explorer", "me/pruned"),
            "token": refusal_of(push_space, "me/explorer", "me/pruned", token="hf_alice_read"),
        },
    }


def explore(*arguments: str) -> list:
    """Exit code, stdout and stderr of the command."""
    import contextlib
    import io

    from hf_clipselect.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(["explore", *arguments])
    return [code, out.getvalue(), err.getvalue()]


def download(repo: str, folder: str) -> dict:
    """The files of a Space, as the Hub puts them into its container."""
    from huggingface_hub import snapshot_download

    return {"folder": snapshot_download(repo, repo_type="space", local_dir=folder)}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
