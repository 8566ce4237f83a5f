"""A push of a selection from shards in parts, against a Hub in the same process, which `run_client` calls."""

import json
import os
import sys
from pathlib import Path

from loopback_hub.push_clients import CARD
from loopback_hub.server import LoopbackHub


def pushed_in_parts(folder: str) -> dict:
    """What four pushes left: one in parts of two that fails in the middle, the rest, the same, and a smaller one."""
    with LoopbackHub(Path(folder, "hub")) as hub:
        os.environ.update(hub.environment("hf_alice_write"))
        from datatrove.io import get_datafolder

        from hf_clipselect.errors import PushError
        from hf_clipselect.hub.push import Repository
        from hf_clipselect.scale import scale_push

        scale_push.FILES_PER_COMMIT = 2
        work, repository = Path(folder, "work"), Repository("alice/scores", "dataset", private=True)
        paths = ["lists/ratio_30.npy"]
        paths += [f"{name}/{shard}.parquet" for name in ("masks", "scores") for shard in "abc"]
        for path in paths[:-1]:
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(path.encode())
        scale_push.check_push(repository)
        found: dict = {}
        try:
            scale_push.push_selection(get_datafolder(str(work)), paths, CARD, repository)
        except (PushError, OSError, ValueError) as error:
            found["failed"] = type(error).__name__
        found["first"] = sorted(hub.tree("datasets/alice/scores"))
        (work / paths[-1]).write_bytes(b"late")
        again = scale_push.push_selection(get_datafolder(str(work)), paths, CARD, repository)
        found["second"] = sorted(hub.tree("datasets/alice/scores"))
        found["history"] = [commit.title for commit in hub.history("datasets/alice/scores")]
        same = scale_push.push_selection(get_datafolder(str(work)), paths, CARD, repository)
        found["new"] = [again.is_new, same.is_new, again.commit == same.commit]
        (work / "lists/ratio_30.npy").rename(work / "lists/count_9.npy")
        fewer = ["lists/count_9.npy", "masks/a.parquet", "scores/a.parquet"]
        scale_push.push_selection(get_datafolder(str(work)), fewer, CARD, repository)
        found["fewer"] = sorted(hub.tree("datasets/alice/scores"))
        return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
