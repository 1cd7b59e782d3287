"""Values as notebooks show them: short, escaped, and with what matters of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import adaptive
from adaptive.bundle.contents import Bundle
from adaptive.display import card
from adaptive.measure import sliders
from adaptive.measure.curves import Curve, Point
from adaptive.pipeline import AdaptivePipeline
from adaptive.types import NEVER, Policy

CURVE = Curve(
    "milliseconds",
    "accuracy",
    (
        Point("tier", "full", 10.0, 0.9),
        Point("tier", "tiny", 0.1, 0.7),
        Point("ladder", "policy-3", 2.0, 0.895),
        Point("chosen", "chosen policy", 3.0, 0.898),
    ),
)


def test_names_cannot_become_markup() -> None:
    shown = card("<b>x", [("<i>", "a & b")])
    assert "<i>" not in shown and "&lt;i&gt;" in shown and "a &amp; b" in shown


def test_a_policy_tells_what_each_switched_on_stage_asks_for() -> None:
    shown = Policy((0, 2), (0.9, NEVER, 0.8, 0.7), risk_weight=2.0)._repr_html_()
    assert "tiers 0, 2" in shown and "stage 0" in shown and "answers from 0.9 on" in shown
    assert "stage 1" not in shown and "answers from 0.7" not in shown  # the last takes all
    assert "risk weight 2" in shown


def test_a_pipeline_tells_what_answers_and_what_is_promised(tiny_cascade: Bundle) -> None:
    shown = AdaptivePipeline(replace(tiny_cascade, name="a <b>"))._repr_html_()
    assert "a &lt;b&gt;" in shown and "bad, good, so-so" in shown
    assert "answered unlike the full tier" in shown and "full@3" in shown


def test_a_prompt_shows_values_in_a_line_and_no_text(tiny_cascade: Bundle, tmp_path: Path) -> None:
    pipeline = AdaptivePipeline(tiny_cascade)
    assert repr(pipeline) == "<AdaptivePipeline tiny-cascade: tiny, mid, full; no certificate; cpu>"
    assert repr(tiny_cascade).startswith("<Bundle tiny-cascade: tiny (0 layers), mid (2 layers)")
    assert repr(CURVE) == "<Curve of accuracy against milliseconds: 4 points>"
    found = pipeline.explain("word1 word2")
    assert repr(found) == str(found)
    (tmp_path / "rows.csv").write_text("text,label\nsecret words,b\nothers,a\n")
    data = adaptive.load_data(tmp_path / "rows.csv")
    assert repr(data).endswith("rows.csv: 2 texts, 2 labels: a, b>") and "secret" not in repr(data)


def test_a_curve_shows_its_tiers_and_a_mark_for_each_point() -> None:
    shown = CURVE._repr_html_()
    assert shown.count("<rect") == 2 and shown.count("<circle") == 2
    assert "accuracy 89.80%, 3 milliseconds a text" in shown


def test_the_slider_rings_the_cheapest_policy_for_its_target() -> None:
    widget = CURVE.slider(0.99)
    chosen, told, _ = widget.children
    assert told.value.startswith("policy-3: accuracy 89.50%, 2 milliseconds a text, 5.0 times")
    chosen.value = 1.0
    assert told.value.startswith("full:")


def test_without_widgets_the_slider_is_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    figure = sliders.slider(CURVE, 0.99)
    ringed = figure.axes[0].collections[-1].get_offsets()
    assert np.asarray(ringed).tolist() == [[2.0, 0.895]]


def test_the_slider_says_where_no_policy_keeps_its_target() -> None:
    assert sliders.line(CURVE, 1.2) == "no policy keeps 120.00% of the full tier's accuracy"
