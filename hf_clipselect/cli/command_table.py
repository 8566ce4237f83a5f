"""The commands: each lies in a module of its name, with its parser and what it does."""

from argparse import ArgumentParser, Namespace
from importlib import import_module


# Of `<name>_command.py`, whose `<name>_parser(prog)` reads the flags and whose `run_command(arguments)` does the work.
COMMANDS = {
    "select": "turn a labelled image dataset into a smaller, cleaner one",
    "show": "print the summary of a run, or of a published selection",
    "suspects": "list and draw the most probably wrong labels of a selection",
    "explore": "look at a selection in the browser, and decide about single rows",
    "push": "publish what a run left, or tell what that would change",
    "pull": "get a published selection at any size, as a folder for load_dataset",
    "completion": "print what makes a shell complete commands and flags",
}


def parser_of(name: str, prog: str) -> ArgumentParser:
    """What reads the flags of a command; imports what the command needs, but for `select`."""
    if name == "select":
        from ..config.command_line import select_parser  # noqa: PLC0415

        return select_parser(prog)
    return getattr(import_module(f".{name}_command", __package__), f"{name}_parser")(prog)


def run_parsed(name: str, arguments: Namespace) -> None:
    """Do what a command does, with what its parser read."""
    import_module(f".{name}_command", __package__).run_command(arguments)
