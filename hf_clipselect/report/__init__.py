"""What a run shows people of itself: `report.html`."""

from .html import write_html


__all__ = ["write_html"]
