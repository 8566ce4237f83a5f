"""What a run shows people of itself: `report.html`, and the suspect rows as a table and as a picture."""

from .grid import GRID_COLUMNS, PICTURE_SIDE, draw_grid
from .html import rows_with_pictures, write_html
from .preview import draw_preview
from .suspects import captions_of, for_spreadsheets, pick_suspects, suspects_table, verdict
from .thumbnails import small_images


__all__ = [
    "GRID_COLUMNS",
    "PICTURE_SIDE",
    "captions_of",
    "draw_grid",
    "draw_preview",
    "for_spreadsheets",
    "pick_suspects",
    "rows_with_pictures",
    "small_images",
    "suspects_table",
    "verdict",
    "write_html",
]
