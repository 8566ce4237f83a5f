"""What all command lines share: a help with one spelling of each flag and real defaults, and errors of one line.

No torch here.
"""

import re
from argparse import SUPPRESS, Action, ArgumentError, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any, NoReturn

from ..runtime.redaction import hide_secrets
from ..runtime.terminal import printable
from ..runtime.words import did_you_mean, in_one_line


_JSON = re.compile(r"\{.*\}", re.DOTALL)
_WIDEST_FLAG = 31


class CommandParser(ArgumentParser):
    """An `ArgumentParser` that says which flag or choice was probably meant, and ends in one line on stderr."""

    # The flag that lists all flags.
    all_flags = "--help"

    def __init__(self, **kwargs: Any) -> None:
        kwargs = {"formatter_class": _HelpFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(**kwargs)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return parsed

    def error(self, message: str) -> NoReturn:
        # The usage of forty flags would bury the one line that matters.
        # What was mistyped may hold a password.
        message = hide_secrets(_JSON.sub("{...}", in_one_line(message)))
        self.exit(2, printable(f"error: {message} (all flags: {self.all_flags})") + "\n")

    def _meant(self, unknown: Sequence[str]) -> str:
        known = {text for action in self._actions if action.help != SUPPRESS for text in action.option_strings}
        flags = (text.partition("=")[0].replace("-", "_") for text in unknown if text.startswith("--"))
        return "".join(did_you_mean(f"--{flag[2:]}", known) for flag in flags)

    def _check_value(self, action: Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except ArgumentError as error:
            choices = map(str, action.choices or ())
            raise ArgumentError(action, f"{error.message}{did_you_mean(str(value), choices)}") from None


class _HelpFormatter(RawDescriptionHelpFormatter):
    """A flag once, with what its value is and the default, where the words of its help do not tell it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_WIDEST_FLAG)

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        values = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {values}".rstrip()

    def _format_args(self, action: Action, default_metavar: str) -> str:
        if action.nargs == "?" and action.const is True:
            return ""  # the flag alone is what people type
        if action.nargs == "+":
            return f"{super()._format_args(action, default_metavar).partition(' ')[0]} ..."
        return super()._format_args(action, default_metavar)

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        if action.type in (int, float):
            return "N" if action.type is int else "X"
        return action.dest.rpartition("_")[2].upper()

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        default = action.default
        if not action.option_strings or default is None or default is False or default == SUPPRESS or "efault" in text:
            return text
        shown = ", ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})" if shown else text
