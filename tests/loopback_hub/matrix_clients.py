"""Every request of a push struck in turn: `python -m loopback_hub.matrix_clients NAME FOLDER FAULT` prints JSON.

Two finished runs are published: the first undisturbed, the second while one of its requests goes wrong. What stands on
main afterwards is the first or the second, whole; the same push again then ends as if nothing had happened.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from loopback_hub.server import LoopbackHub


DATASET, MODEL = "datasets/alice/pruned", "alice/adapters"
STRIKES = {
    "500": {"kind": "status", "status": 500},
    "reset": {"kind": "reset"},
    "lost answer": {"kind": "lost"},
}
# A request that is lost is done before the kill, one that is reset is not.
KILLS = {"kill before": "reset", "kill after": "lost"}


def make_runs(folder: Path) -> None:
    """Two finished runs of the digits: another ratio, other adapters."""
    from hf_clipselect import select_dataset
    from hf_clipselect.embedded import load_digits_dataset

    dataset = load_digits_dataset("test").select(range(60))
    common = {
        "model_name_or_path": "embedded/tiny-clip",
        "adaptation": "always",
        "num_train_epochs": 2,
        "dataloader_num_workers": 0,
    }
    select_dataset(dataset, selection_ratio=[0.3, 0.5], output_dir=folder / "first", **common)
    select_dataset(dataset, selection_ratio=[0.2, 0.5], seed=1, output_dir=folder / "second", **common)


class Case:
    """A Hub that starts every case from the state after the first push, with the second run to publish."""

    def __init__(self, folder: Path) -> None:
        # Commit ids, and so the card that names one, hold the time: one that stands still makes states comparable.
        self.hub = LoopbackHub(folder / "hub", clock=lambda: 1_700_000_000)
        self.folder, self.start = folder, folder / "start"
        os.environ.update(self.hub.environment("hf_alice_write", folder / "home"))

    def publish(self, run: str, *, with_adapters: bool = True) -> str:
        """Push a run as a new process would: nothing of the Hub in the cache, folders as the run left them."""
        from hf_clipselect.errors import PushError
        from hf_clipselect.hub import Destination, publish
        from hf_clipselect.hub.push import Repository

        shutil.rmtree(self.folder / "home", ignore_errors=True)
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / "runs" / run, work)
        destination = Destination(
            Repository("alice/pruned", "dataset"), Repository(MODEL, "model") if with_adapters else None
        )
        report = json.loads((work / "report.json").read_text())
        try:
            destination.check()
            publish(report, work / "subset", destination, adapter=work / "adapter")
        except PushError as error:
            return f"error: {error}"
        return "done"

    def prepare(self) -> None:
        """The state that every case starts from, and what an undisturbed push makes of it."""
        self.publish("first", with_adapters=False)
        self.hub.save(self.start)
        self.old = self.main()
        self.hub.load(self.start)
        assert self.publish("second") == "done"
        self.requests = [record.name for record in self.hub.requests]
        self.new, self.expected, self.commits = self.main(), self.hub.snapshot(), self.count_commits()

    def main(self) -> dict[str, dict[str, str]]:
        """Files on main of both repositories."""
        return {repo: self.hub.tree(repo) if self.hub.repository(repo) else {} for repo in (MODEL, DATASET)}

    def count_commits(self) -> list[int]:
        return [len(self.hub.history(repo)) for repo in (MODEL, DATASET)]

    def state(self) -> str:
        """What stands on main: "old" or "new" of the adapters and of the dataset, or what else there is."""
        now, words = self.main(), []
        for repo in (MODEL, DATASET):
            # A repository that was only created holds what the Hub puts there.
            is_old = now[repo] == self.old[repo] or (repo == MODEL and set(now[repo]) <= {".gitattributes"})
            words.append("old" if is_old else "new" if now[repo] == self.new[repo] else f"MIXED {sorted(now[repo])}")
        return ", ".join(words)

    def finish(self) -> dict:
        """The same push again, and whether all is as after an undisturbed one."""
        again = self.publish("second")
        same = self.hub.snapshot() == self.expected and self.count_commits() == self.commits
        return {"again": again, "same": same, "unknown": [record.name for record in self.hub.unknown]}


def struck(folder: str, fault: str) -> list[dict]:
    """A fault that the pusher lives through or tells of, at each request in turn."""
    case, table = Case(Path(folder)), []
    from hf_clipselect.runtime import retries

    retries._DELAYS_S = (0, 0, 0, 0)  # the Hub is here, and works again at once
    with case.hub:
        case.prepare()
        for number, request in enumerate(case.requests, start=1):
            case.hub.load(case.start)
            rule = case.hub.faults.add(nth=number, **STRIKES[fault])
            outcome = case.publish("second")
            found = {
                "request": request,
                "fault": fault,
                "struck": rule.struck,
                "outcome": outcome,
                "state": case.state(),
            }
            case.hub.faults.clear()
            table.append(found | case.finish())
    return table


def killed(folder: str, fault: str) -> list[dict]:
    """A forked child that pushes is killed with signal 9 at each request in turn."""
    case, table = Case(Path(folder)), []
    with case.hub:
        case.prepare()
        for number, request in enumerate(case.requests, start=1):
            case.hub.load(case.start)
            status = _push_in_child(case, KILLS[fault], number)
            case.hub.settle()
            found = {
                "request": request,
                "fault": fault,
                "struck": int(status == 9),
                "outcome": "killed",
                "state": case.state(),
            }
            case.hub.faults.clear()
            table.append(found | case.finish())
    return table


def _push_in_child(case: Case, kind: str, number: int) -> int:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)  # the fault is not there before the parent knows whom to kill
        case.publish("second")
        os._exit(0)
    case.hub.faults.add(kind, nth=number, call=lambda: os.kill(child, 9))
    os.write(tell, b".")
    status = os.waitpid(child, 0)[1]
    os.close(ready)
    os.close(tell)
    return status


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
