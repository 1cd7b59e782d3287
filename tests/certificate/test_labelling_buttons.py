"""Labelling in a notebook: a click a text, to the same certificate."""

from __future__ import annotations

import sys

import ipywidgets
import pytest
from tiny_pool import pool, searched

from adaptive.bundle.contents import Bundle
from adaptive.certifying import buttons as module
from adaptive.certifying.labelling import Labelling, certify
from adaptive.types import Target

DROP = Target("accuracy_drop", 0.3)


def clicked(box: ipywidgets.VBox, name: str) -> None:
    (found,) = [b for b in box.children[1].children if getattr(b, "description", "") == name]
    found.click()


def test_clicks_lead_to_the_certificate_that_a_function_gets(tiny_cascade: Bundle) -> None:
    bundle = searched(tiny_cascade)
    texts, labels = pool(bundle, 250)
    turns = Labelling(bundle, texts, target=DROP, batch=15)
    box = module.buttons(turns)
    clicks = 0
    while box.children[0].value:
        text = box.children[0].value.removeprefix("<b>").removesuffix("</b>")
        clicked(box, labels[text])
        clicks += 1
    found = certify(bundle, texts, lambda few: [labels[t] for t in few], target=DROP, batch=15)
    assert turns.bundle().certificate == found.certificate
    assert box.children[2].value.startswith(f"CERTIFIED, with {clicks} labels of 250 texts")
    assert box.children[1].layout.display == "none"


def test_texts_are_shown_as_text_and_unknown_labels_are_taken(tiny_cascade: Bundle) -> None:
    bundle = searched(tiny_cascade)
    texts = pool(bundle, 250)[0]
    turns = Labelling(bundle, texts, target=DROP, batch=2)
    first = turns.texts
    box = module.buttons(turns)
    clicked(box, "not known")
    clicked(box, "good")
    assert turns.texts != first and (turns.labels >= 0).sum() == 1
    turns.texts[0] = "<script>"
    clicked(box, "bad")
    turns.texts[1] = ("<b>", "two")
    module._Panel(turns, ipywidgets)._show()
    assert module._Panel(turns, ipywidgets).box.children[0].value == "<b>&lt;script&gt;</b>"
    assert module._plain(turns.texts[1]) == "<b> | two"


def test_many_labels_are_chosen_from_a_list(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    bundle = searched(tiny_cascade)
    turns = Labelling(bundle, pool(bundle, 250)[0], target=DROP, batch=1)
    box = module.buttons(turns)
    box.children[1].children[0].value = "so-so"
    clicked(box, "this one")
    assert sorted(set(turns.labels.tolist())) == [-1, bundle.labels.index("so-so")]


def test_without_widgets_the_texts_come_as_a_table(
    tiny_cascade: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    bundle = searched(tiny_cascade)
    turns = Labelling(bundle, pool(bundle, 250)[0], target=DROP, batch=3)
    told = module.buttons(turns)
    assert all(text in told for text in turns.texts) and "bad, good, so-so, or None" in told
