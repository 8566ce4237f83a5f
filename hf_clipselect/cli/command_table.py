"""The commands: what each does lies in a module of its name."""

from argparse import Namespace
from importlib import import_module


# Of `<name>_command.py`, whose `run_command(arguments)` does the work, by the flags that `command_parsers` reads.
COMMANDS = {
    "select": "turn a labelled image dataset into a smaller, cleaner one",
    "show": "print the summary of a run, or of a published selection",
    "suspects": "list and draw the most probably wrong labels of a selection",
    "explore": "look at a selection in the browser, and decide about single rows",
    "push": "publish what a run left, or tell what that would change",
    "pull": "get a published selection at any size, as a folder for load_dataset",
    "completion": "print what makes a shell complete commands and flags",
}


def run_parsed(name: str, arguments: Namespace) -> None:
    """Do what a command does, with what its parser read."""
    import_module(f".{name}_command", __package__).run_command(arguments)
