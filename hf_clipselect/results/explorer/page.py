"""The page: its tabs, its looks, and what it needs to be served. Gradio is imported when a page is built."""

import importlib.util
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...errors import InputError
from .decision_log import DecisionLog
from .explored import Explored
from .map_tab import build_map
from .panels import panel
from .review_tab import build_review
from .rows_tab import build_rows
from .sizes_tab import build_sizes


# What a browser on this machine asks for.
_OWN_NAMES = ["localhost", "127.0.0.1", "::1", "[::1]"]


def check_gradio() -> None:
    """Raise `InputError` where Gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise InputError("The explorer needs Gradio, which is not installed: pip install 'hf_clipselect[app]'")


def build_app(explored: Explored, log: DecisionLog | None = None, *, read_only: bool = False) -> Any:
    """The page as a `gradio.Blocks`, to be launched with [`launch_options`].

    Args:
        explored (`Explored`): What [`open_selection`] gives.
        log (`DecisionLog`, *optional*): Where decisions go; by default `decisions.parquet` in the working folder.
        read_only (`bool`, *optional*, defaults to `False`): Show suspects without buttons for decisions.

    Raises `InputError` without Gradio.
    """
    check_gradio()
    # Before the import, which asks for the newest version otherwise.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    log = log or DecisionLog(Path("decisions.parquet"))
    with gr.Blocks(analytics_enabled=False, title=f"{explored.title}: selection", mode="explorer") as app:
        heading = gr.HTML()
        with gr.Tabs():
            with gr.Tab("Review", elem_classes="cs-captions" if explored.has_captions else None):
                build_review(app, explored, log, read_only=read_only)
            with gr.Tab("Rows"):
                build_rows(app, explored)
            with gr.Tab("Map"):
                build_map(app, explored)
            with gr.Tab("Sizes"):
                build_sizes(app, explored)
        app.load(lambda: _heading(explored), None, heading, api_visibility="private", show_progress="hidden")
    return app


def launch_options(*, own_name: str | None = None) -> dict[str, Any]:
    """Arguments for `launch`: the page's looks and scripts, and nothing that talks to another machine.

    No files are taken. `own_name` is for a server that this machine alone reaches, by a name or address of its own: it
    answers to such names only, since a page of the web whose name comes to mean this machine would read it else.
    """
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    own = [Middleware(TrustedHostMiddleware, allowed_hosts=[*_OWN_NAMES, own_name])] if own_name else []

    # The theme's own fonts are fetched from the web.
    theme = gr.themes.Default(
        font=["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    folder = files(__package__)
    return {
        "theme": theme,
        "css": (folder / "explorer.css").read_text(encoding="utf-8"),
        "head": f"<script>{(folder / 'explorer.js').read_text(encoding='utf-8')}</script>",
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "share": False,
        "show_error": True,
        "quiet": True,
        "max_file_size": 0,
        "app_kwargs": {"middleware": own},
    }


def _heading(explored: Explored) -> str:
    scores, suspects = explored.scores, len(explored.suspects)
    kept = int(explored.column(f"selected_{explored.sizes[0]}").sum())
    cells = "clusters of captions" if explored.has_captions else "classes"
    lines = [f"{len(scores):,} rows", f"{len(explored.names):,} {cells}", f"{kept:,} kept", f"{suspects:,} suspect"]
    missing = explored.images.missing
    if missing:
        by_name = " Or name the dataset with --dataset_name." if explored.result.source.image_column else ""
        missing = f"Images are missing. {missing}{by_name}"
    return panel("heading", explored.title, lines, missing)
