"""Values as notebooks show them: a title and a small table, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

CELL = "style='text-align:left'"


def card(title: str, rows: Iterable[tuple[str, str]], picture: str = "") -> str:
    """HTML of a value: its title, a picture if there is one, and a row for each name and value.

    Args:
        picture: HTML, put in as it is.
    """
    lines = "".join(
        f"<tr><td {CELL}>{escape(name)}</td><td {CELL}>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<div><b>{escape(title)}</b>{picture}<table>{lines}</table></div>"


def scatter(points: Iterable[tuple[float, float, str]], width: int = 360, height: int = 170) -> str:
    """An SVG of points (x, y, kind) in [0, 1]; kind is `dot`, `square` or `star`."""
    marks = []
    for x, y, kind in points:
        a, b = 8 + x * (width - 16), height - 8 - y * (height - 16)
        if kind == "square":
            marks.append(f"<rect x='{a - 4:.1f}' y='{b - 4:.1f}' width='8' height='8'/>")
        elif kind == "star":
            marks.append(
                f"<circle cx='{a:.1f}' cy='{b:.1f}' r='7' fill='none' stroke='#d1345b' "
                f"stroke-width='3'/>"
            )
        else:
            marks.append(f"<circle cx='{a:.1f}' cy='{b:.1f}' r='2.5' opacity='.45'/>")
    frame = f"<path d='M4 4V{height - 4}H{width - 4}' fill='none' stroke='currentColor'/>"
    return (
        f"<svg width='{width}' height='{height}' fill='currentColor' role='img' "
        f"style='display:block'>{frame}{''.join(marks)}</svg>"
    )
