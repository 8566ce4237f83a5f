"""What a run tells about itself: `report.json` for programs, `report.html` for people."""

from .files import write_json
from .html import write_html
from .summary import summarize


__all__ = ["summarize", "write_html", "write_json"]
