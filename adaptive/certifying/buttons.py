"""Texts to label in a notebook: one after another, with a button for each label."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

from adaptive.certifying.labelling import Labelling

MOST = 12  # labels that have a button each; of more, one is chosen from a list
UNKNOWN = "not known"


def buttons(turns: Labelling) -> Any:
    """A widget that shows each text that has to be labelled, and takes its label by a click.

    Tests go on as labels come, so the number of texts left is about right at any time. What is
    shown is the text alone: nothing of what any tier answers. Where ipywidgets is not installed,
    the texts come as a table instead; `turns.give` takes their labels in that order.

    Args:
        turns: the certificate in the making; `turns.bundle()` gives it whenever it is asked.
    """
    try:
        import ipywidgets
    except ImportError:
        return table(turns)
    return _Panel(turns, ipywidgets).box


def table(turns: Labelling) -> str:
    """The texts to label next, numbered, and how to give their labels."""
    texts = [f"{number:>3}  {_plain(text)}" for number, text in enumerate(turns.texts, 1)]
    if not texts:
        return progress(turns)
    names = ", ".join(turns.plan.bundle.labels)
    return "\n".join(
        [*texts, "", f"turns.give([...]) takes the label of each in this order: {names}, or None"]
    )


def progress(turns: Labelling) -> str:
    """How many labels there are, and about how many the next steps take."""
    told = f"{int((turns.labels >= 0).sum()):,} labels of {len(turns.plan):,} texts"
    if not turns.texts:
        certificate = turns.bundle().certificate
        assert certificate is not None, "`bundle` makes one"
        return f"{certificate.headline}, with {told}"
    steps = turns.outlook()
    return f"{told}; about {sum(step.labels for step in steps):,} more for the next steps"


def _plain(text: Any) -> str:
    """A text, or both of a pair, on one line."""
    if isinstance(text, dict):
        text = tuple(text.values())
    return " | ".join(text) if isinstance(text, tuple) else str(text)


class _Panel:
    """One text at a time; a batch of labels is given to the tests as a whole."""

    _list: Any  # of the labels, where there are too many for buttons

    def __init__(self, turns: Labelling, widgets: Any) -> None:
        self._turns, self._labels = turns, list[str | None]()
        self._text, self._progress = widgets.HTML(), widgets.Label()
        names = turns.plan.bundle.labels
        if len(names) <= MOST:
            choices = [self._button(widgets, name, partial(str, name)) for name in names]
        else:
            self._list = widgets.Dropdown(options=names)
            choices = [self._list, self._button(widgets, "this one", lambda: self._list.value)]
        self._choices = widgets.HBox([*choices, self._button(widgets, UNKNOWN, lambda: None)])
        self._choices.layout.flex_flow = "row wrap"
        self.box = widgets.VBox([self._text, self._choices, self._progress])
        self._show()

    def _button(self, widgets: Any, told: str, name: Callable[[], str | None]) -> Any:
        button = widgets.Button(description=told, tooltip=told)
        button.on_click(lambda _: self._take(name()))
        return button

    def _take(self, name: str | None) -> None:
        self._labels.append(name)
        if len(self._labels) == len(self._turns.texts):
            self._turns.give(self._labels)
            self._labels = []
        self._show()

    def _show(self) -> None:
        texts = self._turns.texts
        self._text.value = f"<b>{escape(_plain(texts[len(self._labels)]))}</b>" if texts else ""
        if not texts:
            self._choices.layout.display = "none"
        if not self._labels:  # forecasts take a moment: once a batch is enough
            self._progress.value = progress(self._turns)
