"""The app in which people look at a selection and decide about single rows: `hf-clipselect explore`."""

from .decision_log import DecisionLog
from .explored import Explored, open_selection
from .page import build_app, check_gradio, launch_options


__all__ = ["DecisionLog", "Explored", "build_app", "check_gradio", "launch_options", "open_selection"]
