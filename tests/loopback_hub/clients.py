"""What the real clients do in a process of its own: `python -m loopback_hub.clients NAME [ARGUMENT ...]` prints JSON.

The environment of that process points to a loopback Hub; nothing of the clients is replaced or patched.
"""

import hashlib
import json
import sys
from pathlib import Path


LARGE = bytes(range(256)) * 400  # binary, so it goes to large file storage
CARD = "---\nlicense: mit\ntags: [a]\n---\nA card.\n"


def status_of(function, *arguments, **options) -> str | int | None:
    """What a client call raised: the HTTP status, the name of the exception where it has none, None if it passed."""
    try:
        function(*arguments, **options)
    except Exception as error:
        response = getattr(error, "response", None)
        return type(error).__name__ if response is None else response.status_code
    return None


def api() -> dict:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download

    api, repo, found = HfApi(), "alice/m", {}
    found["user"] = api.whoami()["name"]
    found["urls"] = [str(api.create_repo(repo)), str(api.create_repo(repo, exist_ok=True))]
    found["create twice"] = status_of(api.create_repo, repo)
    found["missing"] = status_of(api.model_info, "alice/nothing")
    adds = {"README.md": CARD.encode(), "data/big.bin": LARGE, "data/ü x.txt": b"text", "empty.bin": b""}
    operations = [CommitOperationAdd(path, content) for path, content in adds.items()]
    first = api.create_commit(repo, operations, commit_message="first", commit_description="why")
    again = [CommitOperationAdd(path, content) for path, content in adds.items()]
    found["unchanged"] = api.create_commit(repo, again, commit_message="again").oid == first.oid
    folder = snapshot_download(repo)
    found["bytes"] = all((Path(folder) / path).read_bytes() == content for path, content in adds.items())
    found["files"] = sorted(api.list_repo_files(repo))
    found["card"] = api.model_info(repo).card_data.to_dict()
    tree = {item.path: item for item in api.list_repo_tree(repo, recursive=True)}
    found["lfs"] = tree["data/big.bin"].lfs.sha256 == hashlib.sha256(LARGE).hexdigest()
    found["tree ids"] = [tree["data"].tree_id, tree["README.md"].blob_id]
    found["listed"] = [item.path for item in api.list_repo_tree(repo, "data")]
    found["paths"] = sorted(item.path for item in api.get_paths_info(repo, ["data", "README.md", "none"]))
    found["metadata"] = api.model_info(repo, files_metadata=True).siblings[2].lfs.size

    local = Path(folder).parent / "local"
    (local / "sub").mkdir(parents=True)
    (local / "sub" / "weights.safetensors").write_bytes(b"8 bytes.")
    (local / "notes.txt").write_text("notes")
    second = api.upload_folder(repo_id=repo, folder_path=local, path_in_repo="up", delete_patterns="*.old")
    third = api.upload_file(repo_id=repo, path_or_fileobj=b"new", path_in_repo="up/notes.txt")
    found["stale"] = status_of(
        api.upload_file, repo_id=repo, path_or_fileobj=b"x", path_in_repo="x", parent_commit=first.oid
    )
    found["fresh"] = status_of(
        api.upload_file, repo_id=repo, path_or_fileobj=b"x", path_in_repo="x", parent_commit=third.oid
    )
    deletes = [CommitOperationDelete("up/"), CommitOperationDelete("x")]
    last = api.create_commit(repo, deletes, commit_message="delete")
    found["delete nothing"] = status_of(api.delete_file, "nothing", repo)
    found["history"] = [commit.title for commit in api.list_repo_commits(repo)]
    found["described"] = api.list_repo_commits(repo)[-2].message
    found["old"] = Path(api.hf_hub_download(repo, "up/notes.txt", revision=second.oid)).read_text()
    found["gone"] = status_of(api.hf_hub_download, repo, "up/notes.txt", force_download=True)
    found["bad card"] = status_of(
        api.upload_file, repo_id=repo, path_or_fileobj=b"---\nlicense: x\n---\n", path_in_repo="README.md"
    )
    found["head"] = last.oid
    return found


def refs() -> dict:
    from huggingface_hub import HfApi

    api, repo, found = HfApi(), "alice/d", {}
    options = {"repo_id": repo, "repo_type": "dataset"}
    api.create_repo(repo, repo_type="dataset")
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="x", **options)
    api.create_tag(repo, tag="v1", repo_type="dataset", tag_message="one")
    found["tag twice"] = status_of(api.create_tag, repo, tag="v1", repo_type="dataset")
    api.create_tag(repo, tag="v1", repo_type="dataset", exist_ok=True)
    found["tag nowhere"] = status_of(api.create_tag, repo, tag="v2", revision="none", repo_type="dataset")
    api.create_tag(repo, tag="v2", revision=first.oid, repo_type="dataset")
    api.delete_tag(repo, tag="v2", repo_type="dataset")
    api.create_branch(repo, branch="dev/one", revision="v1", repo_type="dataset")
    found["branch twice"] = status_of(api.create_branch, repo, branch="dev/one", repo_type="dataset")
    api.upload_file(path_or_fileobj=b"2", path_in_repo="x", revision="dev/one", **options)
    found["to a tag"] = status_of(api.upload_file, path_or_fileobj=b"2", path_in_repo="x", revision="v1", **options)
    pull = api.upload_file(path_or_fileobj=b"3", path_in_repo="x", create_pr=True, **options)
    found["pull request"] = [pull.pr_url, pull.pr_revision, pull.pr_num]
    api.upload_file(path_or_fileobj=b"4", path_in_repo="y", revision="refs/pr/1", **options)
    revisions = ("main", "v1", "dev/one", "refs/pr/1", first.oid)
    found["read"] = [
        Path(api.hf_hub_download(repo, "x", repo_type="dataset", revision=r)).read_text() for r in revisions
    ]
    found["info"] = (
        api.dataset_info(repo, revision="refs/pr/1").sha
        == api.list_repo_commits(repo, repo_type="dataset", revision="refs/pr/1")[0].commit_id
    )
    refs = api.list_repo_refs(repo, repo_type="dataset", include_pull_requests=True)
    found["refs"] = [ref.ref for ref in [*refs.branches, *refs.tags, *refs.pull_requests]]
    api.delete_branch(repo, branch="dev/one", repo_type="dataset")
    found["no revision"] = status_of(api.dataset_info, repo, revision="dev/one")
    return found


def rights() -> dict:
    from huggingface_hub import HfApi

    alice, reader, bob = (HfApi(token=token) for token in ("hf_alice_write", "hf_alice_read", "hf_bob_write"))
    nobody, wrong, found = HfApi(token=False), HfApi(token="hf_wrong"), {}
    alice.create_repo("alice/secret", private=True)
    alice.create_repo("alice/open")
    alice.create_repo("lab/shared", private=True)
    for repo in ("alice/secret", "alice/open", "lab/shared"):
        alice.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="x")
    found["roles"] = [api.whoami()["auth"]["accessToken"]["role"] for api in (alice, reader)]
    found["orgs"] = [org["name"] for org in alice.whoami()["orgs"]]
    found["secret"] = [status_of(api.model_info, "alice/secret") for api in (alice, reader, bob, nobody, wrong)]
    found["secret file"] = [status_of(api.hf_hub_download, "alice/secret", "x") for api in (bob, nobody, reader)]
    found["shared"] = [status_of(api.model_info, "lab/shared") for api in (reader, bob)]
    write = {"path_or_fileobj": b"2", "path_in_repo": "x"}
    found["write"] = [
        status_of(api.upload_file, repo_id="alice/open", **write) for api in (reader, bob, nobody, wrong)
    ]
    found["create"] = [status_of(api.create_repo, "alice/new") for api in (reader, bob, nobody, wrong)]
    found["whoami"] = status_of(wrong.whoami)
    found["check"] = [status_of(api.auth_check, "alice/open", write=True) for api in (alice, reader, bob)]
    found["tag"] = [status_of(api.create_tag, "alice/open", tag="v") for api in (reader, bob)]
    found["pull request"] = bob.upload_file(repo_id="alice/open", create_pr=True, **write).pr_num
    found["delete"] = status_of(bob.delete_repo, "alice/open")
    alice.update_repo_settings("alice/secret", private=False)
    found["opened"] = status_of(nobody.model_info, "alice/secret")
    alice.delete_repo("alice/secret")
    found["deleted"] = status_of(alice.model_info, "alice/secret")
    return found


def faults() -> dict:
    from huggingface_hub import HfApi

    api, found = HfApi(), {}

    def push(name: str, content: bytes = LARGE) -> str | int | None:
        api.create_repo(f"alice/{name}", exist_ok=True)
        return status_of(api.upload_file, repo_id=f"alice/{name}", path_or_fileobj=content, path_in_repo="x.bin")

    for name in ("put-500", "put-reset", "put-lost", "pre-429", "commit-500", "commit-reset", "commit-lost"):
        found[name] = push(name)
    found["again"] = push("commit-lost")
    push("read")
    for name in ("truncate", "cut"):
        path, content = f"{name}.bin", LARGE + name.encode()  # the cache keeps one copy of equal files
        api.upload_file(repo_id="alice/read", path_or_fileobj=content, path_in_repo=path)
        found[name] = status_of(api.hf_hub_download, "alice/read", path)
        # Nothing half-read is kept as the file: after the fault the bytes are right.
        found[f"{name} bytes"] = Path(api.hf_hub_download("alice/read", path)).read_bytes() == content
    return found


def killed_pushes(folder: str) -> dict:
    """Forked children push to a Hub in this process; each is killed at one more request, until one gets through."""
    import os

    from huggingface_hub import HfApi

    from loopback_hub.server import LoopbackHub

    outcomes: dict[str, list] = {"reset": [], "lost": []}
    with LoopbackHub(Path(folder)) as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.tokens["alice"])
        api.create_repo("alice/m")
        for kind, found in outcomes.items():
            while not found or found[-1]["status"]:
                content, commits, start = (
                    LARGE + f"{kind} {len(found)}".encode(),
                    hub.history("alice/m"),
                    len(hub.requests),
                )
                ready, tell = os.pipe()
                child = os.fork()
                if child == 0:
                    os.read(ready, 1)  # the fault is not there before the parent knows whom to kill
                    api.upload_file(repo_id="alice/m", path_in_repo="x.bin", path_or_fileobj=content)
                    os._exit(0)
                hub.faults.clear()
                hub.faults.add(kind, nth=len(found) + 1, call=lambda child=child: os.kill(child, 9))
                os.write(tell, b".")
                status = os.waitpid(child, 0)[1]
                routes = [record.route for record in hub.requests[start:]]
                found.append(
                    {"status": status, "at": routes[-1], "commits": len(hub.history("alice/m")) - len(commits)}
                )
    return outcomes


def pictures(count: int = 12):
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, Image, List, Value
    from PIL import Image as PILImage

    rng = np.random.default_rng(0)
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=["a", "b c"]),
            "score": Value("float64"),
            "v": List(Value("float32")),
        }
    )
    rows = {
        "image": [PILImage.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)) for _ in range(count)],
        "label": [i % 2 for i in range(count)],
        "score": rng.random(count).tolist(),
        "v": rng.random((count, 3)).astype("float32").tolist(),
    }
    return Dataset.from_dict(rows, features=features)


def digest_of(dataset) -> str:
    digest = hashlib.sha256()
    for row in dataset:
        digest.update(row["image"].convert("RGB").tobytes())
        digest.update(json.dumps([row["label"], row["score"], list(row["v"])]).encode())
    return digest.hexdigest()


def datasets_push() -> dict:
    dataset = pictures()
    first = dataset.push_to_hub("alice/d", "one", split="train", private=True)
    again = dataset.push_to_hub("alice/d", "one", split="train")
    dataset.select([3, 1]).push_to_hub("alice/d", "two", split="train")
    dataset.select([5]).push_to_hub("alice/d", "one", split="train", revision="dev")
    return {"same": first.oid == again.oid, "content": digest_of(dataset), "two": digest_of(dataset.select([3, 1]))}


def datasets_load() -> dict:
    from datasets import load_dataset

    one = load_dataset("alice/d", "one", split="train")
    stream = load_dataset("alice/d", "one", split="train", streaming=True)
    return {
        "one": digest_of(one),
        "two": digest_of(load_dataset("alice/d", "two")["train"]),
        "stream": digest_of(stream),
        "features": [one.features == pictures(1).features, stream.features == pictures(1).features],
        "dev": load_dataset("alice/d", "one", split="train", revision="dev").num_rows,
        "nothing": status_of(load_dataset, "alice/nothing"),
    }


def datasets_stranger() -> dict:
    from datasets import load_dataset

    return {"private": status_of(load_dataset, "alice/d", "one")}


def tiny_lora(seed: int):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import CLIPConfig, CLIPModel

    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "projection_dim": 8}
    text = {"hidden_size": 12, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, **layers}
    vision = {"hidden_size": 16, "image_size": 16, "patch_size": 8, **layers}
    torch.manual_seed(0)
    base = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules=["visual_projection", "text_projection"], init_lora_weights=False)
    return base, config, get_peft_model


def embeddings(model) -> str:
    import torch

    pixels = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    with torch.no_grad():
        output = model.get_image_features(pixel_values=pixels).pooler_output
    return hashlib.sha256(output.numpy().tobytes()).hexdigest()


def peft_push() -> dict:
    base, config, get_peft_model = tiny_lora(seed=7)
    plain = embeddings(base)
    model = get_peft_model(base, config).eval()
    model.push_to_hub("alice/lora", private=True)
    return {"plain": plain, "adapted": embeddings(model)}


def peft_load() -> dict:
    from peft import PeftModel

    base, _, _ = tiny_lora(seed=8)
    return {"adapted": embeddings(PeftModel.from_pretrained(base, "alice/lora").eval())}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
