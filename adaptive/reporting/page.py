"""A report's page: figures as JSON in one HTML file that loads nothing and opens offline."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

PARTS = ("page.html", "page.css", "page.js")


def render(figures: Mapping[str, Any]) -> str:
    """The page.

    Args:
        figures: of `adaptive.reporting.collect.figures_of`.

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    page, style, script = (
        (files("adaptive.reporting") / name).read_text(encoding="utf-8") for name in PARTS
    )
    # a label or text that holds `</script>` must not end the block it stands in
    content = json.dumps(figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    named = {
        "TITLE": html.escape(f"{figures['name']}: speed and accuracy"),
        "STYLE": style,
        "SCRIPT": script,
        "FIGURES": content,
    }
    # in one pass, so that nothing that is put in is taken for a mark
    return re.sub("@([A-Z]+)@", lambda found: named[found[1]], page)
