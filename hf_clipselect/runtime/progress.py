"""Bars of the stages that may last: how much of each is done, and how long the rest takes."""

from collections.abc import Callable
from types import TracebackType

from tqdm.auto import tqdm


# Told by a stage with its name and the part of its work that is done, in [0, 1].
Told = Callable[[str, float], None]

# A stage that is over before then, in seconds, shows no bar.
_DELAY = 5


class Progress:
    """Shows the stages that tell it of their work, one after the other, on stderr; those that end soon not at all."""

    def __init__(self, *, is_shown: bool = True) -> None:
        self._is_shown, self._stage = is_shown, ""
        self._bar: tqdm | None = None

    def __call__(self, stage: str, part: float) -> None:
        if self._bar is None or stage != self._stage:
            self._close()
            self._stage = stage
            self._bar = tqdm(
                total=1.0,
                desc=stage,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
                delay=_DELAY,
                disable=not self._is_shown,
            )
        self._bar.update(part - self._bar.n)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def untold(stage: str, part: float) -> None:
    """Takes what a stage tells where nobody asks."""
