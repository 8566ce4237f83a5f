"""What the measurements share: sizes, a scratch folder, the images, a clock, and the figures."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config.arguments import EMBEDDED_MODEL, Arguments
from ...data import LabelledImages
from ...encoder.precision import resolve_precision
from ...runtime.launch import make_accelerator
from ..cost import cpu_seconds
from .made_data import CLASS_NAMES, image_dataset, load_images, pictures
from .measured_rows import CLOCK, CLOCK_MS, SHARE, TABLE


@dataclass(frozen=True)
class Timing:
    """Least CPU seconds, of this process and of children that have ended, and least seconds of a side's repeats."""

    cpu: float
    wall: float


@dataclass
class Bench:
    """What the measurements share.

    Args:
        folder (`Path`): A scratch folder.
        num_rows (`int`): Rows of a full measurement; all sizes are scaled to them.
        show (`Callable`): Gets the figures of each ratio as soon as it is measured.
        given_dataset (`str`, *optional*): Real images, as `--dataset_name`; default generated ones.
        results (`dict`): Name of a ratio -> its figures.
        stages (`dict`): Stage -> its figures, of the measurements that go stage by stage.
    """

    folder: Path
    num_rows: int
    show: Callable[[dict[str, Any]], None]
    given_dataset: str | None = None
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    @cached_property
    def device(self) -> torch.device:
        return make_accelerator().device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def clock(self) -> str:
        """What counts as the time of a side: a GPU works while the CPU waits."""
        return "wall" if self.on_gpu else "cpu"

    @property
    def clock_unit(self) -> str:
        return "s" if self.on_gpu else "CPU s"

    @property
    def precision(self) -> str:
        """Of the image tower, as a run takes it by default."""
        return resolve_precision("auto", self.device)

    def rows(self, count: int, *, least: int = 20) -> int:
        """`count` where a full run has 50,000 rows, and its share of `num_rows`."""
        return max(least, count * self.num_rows // 50_000)

    @cached_property
    def dataset_name(self) -> str:
        if self.given_dataset is not None:
            return self.given_dataset
        rows = self.rows(50_000)
        image_dataset(np.arange(rows) % 10, CLASS_NAMES, pictures(rows, 32)).save_to_disk(self.folder / "images")
        return str(self.folder / "images")

    @cached_property
    def images(self) -> LabelledImages:
        return load_images(self.dataset_name, self.rows(50_000))

    @property
    def run_folder(self) -> Path:
        """Output folder of `selection_arguments`."""
        return self.folder / "run"

    @cached_property
    def selection_arguments(self) -> Arguments:
        """A whole selection with the tiny CLIP, adapters included."""
        values = {"dataset_name": self.dataset_name, "max_train_samples": self.rows(50_000)}
        values |= {"model_name_or_path": EMBEDDED_MODEL}
        values |= {"output_dir": str(self.run_folder), "adaptation": "always"}
        return Arguments.from_dict(values)

    def some_images(self, count: int) -> LabelledImages:
        """The first rows: a run of them, which `datasets` reads as fast as the whole."""
        images = self.images
        count = min(count, len(images.labels))
        return replace(
            images,
            dataset=images.dataset.select(range(count)),
            labels=images.labels[:count],
            source_index=images.source_index[:count],
        )

    def report(self, name: str, ours: float, other: float | None = None, **figures: Any) -> None:
        """Note one row of the table and show it; a row without another side is a figure with a bound of its own."""
        row = TABLE[name]
        ratio = ours if other is None else ours / other if row.ratio == SHARE else other / ours
        bound = float(row.target.split()[1]) if row.target else 0.0
        met = None if not row.target else bool(ratio <= bound if row.target.startswith("<=") else ratio >= bound)
        unit = {CLOCK: self.clock_unit, CLOCK_MS: f"{self.clock_unit[:-1]}ms"}.get(row.unit, row.unit)
        result = {"what": row.what, "ours": ours, "other": other, "unit": unit, "ratio": ratio}
        self.results[name] = {**result, "target": row.target, "met": met, **figures}
        self.show(self.results[name])

    def leave_out(self, *names: str, because: str = "no GPU here") -> None:
        """Rows that can't be measured here; they are neither met nor missed."""
        for name in names:
            row = TABLE[name]
            self.results[name] = {"what": row.what, "target": row.target, "met": None, "left_out": because}
            self.show(self.results[name])

    def timed(self, sides: Mapping[str, Callable[[], object]], *, repeats: int = 1) -> dict[str, Timing]:
        """Run the sides in turns, since whatever else the machine does slows all of them; keep the best of each."""
        timings: dict[str, list[Timing]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, run in sides.items():
                cpu, wall = cpu_seconds(), time.perf_counter()
                run()
                if self.on_gpu:
                    torch.cuda.synchronize()
                timings[name].append(Timing(cpu_seconds() - cpu, time.perf_counter() - wall))
        return {
            name: Timing(min(t.cpu for t in values), min(t.wall for t in values)) for name, values in timings.items()
        }

    def seconds(self, sides: Mapping[str, Callable[[], object]], *, repeats: int = 1) -> dict[str, float]:
        """The times of `timed` by the clock that counts here."""
        return {name: getattr(timing, self.clock) for name, timing in self.timed(sides, repeats=repeats).items()}
