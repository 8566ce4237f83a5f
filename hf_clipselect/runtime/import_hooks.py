"""Call a function as soon as another library has been imported, without importing it."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import dropwhile
from types import ModuleType
from typing import Any


def when_imported(name: str, action: Callable[[], object]) -> None:
    """Call a function once a top-level module has been imported: now if it is there, else at the end of its import.

    The module need not be installed, and the action may import it; what it raises comes out of the import. Looking for
    the module with `importlib.util.find_spec` imports nothing and calls nothing.
    """
    if name in sys.modules:
        import_module(name)  # waits for another thread that is about to import it
        action()
    else:
        sys.meta_path.insert(0, _Hook(name, action))


class _Hook(MetaPathFinder):
    """Finds the module as the other finders do, and has its loader call the action in the end; then it is gone."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.name, self.action = name, action

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        # Where another thread has just removed the hook, there is no finder behind it: the caller asks the next one.
        behind = dropwhile(lambda finder: finder is not self, tuple(sys.meta_path))
        next(behind, None)
        spec = next((spec for finder in behind if (spec := finder.find_spec(name, path, target)) is not None), None)
        if spec is not None:
            self._extend(spec.loader)
        return spec

    def _extend(self, loader: Any) -> None:
        """The loader stays what it is to everybody who asks for it; one of its methods calls the action, too, once."""
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            vars(loader).pop("exec_module", None)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            self.action()

        loader.exec_module = exec_module
