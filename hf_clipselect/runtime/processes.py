"""What the processes of a run tell each other, so that all of them hold the same answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ..errors import InputError


Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """All processes of the launch; without an accelerator this one is alone, and talks to nobody.

    Every method but the properties is collective: a process that calls it waits until all others have called it too.
    """

    accelerator: Accelerator | None = None

    @property
    def index(self) -> int:
        """Number of this process, in `[0, count)`; 0 is the main one."""
        return 0 if self.accelerator is None else self.accelerator.process_index

    @property
    def count(self) -> int:
        """How many processes there are, on all machines together."""
        return 1 if self.accelerator is None else self.accelerator.num_processes

    def gather(self, item: Any) -> list[Any]:
        """One item from each process, in their order, on every process. It can be pickled; sizes may differ."""
        return [item] if self.count == 1 else gather_object([item])

    def broadcast(self, item: Any) -> Any:
        """The item of the main process, whatever the others give. It can be pickled."""
        if self.count == 1:
            return item
        [item] = broadcast_object_list([item])
        return item

    def on_main(self, compute: Callable[[], Result]) -> Result:
        """What a function gives in the main process, the only one that calls it; its `InputError` is raised in all.

        The result can be pickled. After any other error the main process ends, and the others lose it.
        """
        result: Any = None
        if self.index == 0:
            try:
                result = compute()
            except InputError as error:
                result = error
        result = self.broadcast(result)
        if isinstance(result, InputError):
            raise result
        return result

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.accelerator is not None and self.count > 1:
            self.accelerator.wait_for_everyone()
