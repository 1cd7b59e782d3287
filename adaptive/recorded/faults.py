"""Every fault of a file at once, by row, without a word of what stands in it."""

from __future__ import annotations

from adaptive.errors import DataError

SHOWN = 20  # faults that a message lists; the rest is counted


class Faults:
    """Collects what is wrong with the rows of a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[str] = []

    def add(self, row: int, what: str, model: str | None = None) -> None:
        """A fault of a row, counted from 1, in words that quote nothing of the row."""
        where = f"row {row}" if model is None else f"row {row}, {model}"
        self.found.append(f"{where}: {what}")

    def check(self) -> None:
        """Raise all of them.

        Raises:
            DataError: there is any.
        """
        if not self.found:
            return
        shown = [f"  - {each}" for each in self.found[:SHOWN]]
        more = len(self.found) - len(shown)
        told = f", of which {SHOWN} are shown" if more else ""
        count = "1 fault" if len(self.found) == 1 else f"{len(self.found):,} faults{told}"
        raise DataError("\n".join([f"{self.name}: {count}", *shown]))
