"""The command line: what can be typed."""

from .commands import main, select


__all__ = ["main", "select"]
