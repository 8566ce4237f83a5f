"""The trainings of a comparison on disk, so that none is made twice.

Shapes: N rows of a set that is tested on.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.files import write_text_atomically


COMPARISON_FOLDER = "comparison"
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class ArmResult:
    """What came of one training.

    Args:
        num_rows (`int`): Rows that were learned.
        num_steps (`int`): Steps of the optimizer.
        seconds (`float`, *optional*): That the training took; `None` where it was stopped on the way.
        is_right (`dict[str, np.ndarray]`): For each set whether the class that is predicted first is right, `(N,)`,
            bool.
    """

    num_rows: int
    num_steps: int
    seconds: float | None
    is_right: dict[str, np.ndarray]


class ArmRecords:
    """The folder `comparison` of an output folder: settings.json, and a file for each training.

    Args:
        output_dir (`Path`): The output folder.
        settings (`dict`): All that decides what a training gives, but for its rows' arm and its seed, as JSON types.
            Records of other settings do not count.
    """

    def __init__(self, output_dir: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = output_dir / COMPARISON_FOLDER, settings

    def are_there(self) -> bool:
        """Whether the folder is of these settings."""
        return _read_json(self.folder / _SETTINGS) == self.settings

    def begin(self) -> None:
        """Make the folder, without what is there of other settings."""
        if self.are_there():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.folder / _SETTINGS, json.dumps(self.settings, indent=2) + "\n")

    def read(self, arm: str, seed: int) -> ArmResult | None:
        """The training of an arm by a seed, if it was made."""
        values = _read_json(self._path(arm, seed))
        if values is None:
            return None
        right = {name: np.array(list(text)) == "1" for name, text in values.pop("is_right").items()}
        return ArmResult(**values, is_right=right)

    def write(self, arm: str, seed: int, result: ArmResult) -> None:
        """Keep a training: in `is_right` 1 for a test row that it got right and 0 for another, in their order."""
        values = {
            "num_rows": result.num_rows,
            "num_steps": result.num_steps,
            "seconds": result.seconds,
            "is_right": {
                name: "".join("1" if right else "0" for right in rows) for name, rows in result.is_right.items()
            },
        }
        write_text_atomically(self._path(arm, seed), json.dumps(values, indent=2) + "\n")

    def _path(self, arm: str, seed: int) -> Path:
        return self.folder / f"{arm}_seed_{seed}.json"


def _read_json(path: Path) -> Any:
    """`None` where the file is missing or broken, as one is that a person edited."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
