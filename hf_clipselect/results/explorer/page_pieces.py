"""What several tabs of the page share: rows side by side, the choice of all, and word of what is newly shown."""

import numpy as np

from .explored import Explored
from .panels import panel
from .row_view import views_of


# No name of a class or group.
ALL = "\x00all"
# For an element of Gradio's that shows a row: tells explorer.js that the next one stands there.
TELL = "watch('value', () => document.dispatchEvent(new Event('clipselect:{}')));"


def strip(explored: Explored, title: str, rows: np.ndarray) -> str:
    """Rows side by side as thumbnails under a title."""
    thumbnails = explored.images.thumbnails(explored.source_index[rows])
    return panel("strip", title, views_of(explored, rows), thumbnails)
