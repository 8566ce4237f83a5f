"""What a run tells about itself: `report.json` for programs, `report.html` for people."""

from .html import write_html
from .summary import summarize, write_json


__all__ = ["summarize", "write_html", "write_json"]
