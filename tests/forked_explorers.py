"""The explorer in processes of its own that begin with everything imported, Gradio included.

As `preloaded`, whose processes begin with the large libraries alone: for pages about what lies on the disk. A page of
a repository is served by `preloaded`, since huggingface_hub learns the address of the Hub when it is imported.

    python forked_explorers.py      reads orders from stdin as lines of JSON, and answers each with a line
"""

from preloaded import Command, serve


_IMPORTED = ("gradio", "hf_clipselect.cli.explore_command", "hf_clipselect.results.explorer")


class ForkedExplorer(Command):
    """A script that runs, with its arguments."""

    server = __file__


if __name__ == "__main__":
    serve(_IMPORTED)
