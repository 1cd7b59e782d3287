"""A curve's points are policies evaluated, and the picture shows all kinds of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from tiny_cascade import tiny_texts

from adaptive.bundle.contents import Bundle
from adaptive.measure.curves import Curve, curve, plot
from adaptive.measure.evaluation import report
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.worth import reclassified
from adaptive.types import OutcomeTable


@pytest.fixture(scope="module")
def table(tiny_cascade: Bundle) -> OutcomeTable:
    tokens = AdaptivePipeline(tiny_cascade).tokenize(tiny_texts(60))
    labels = np.random.default_rng(0).integers(0, 3, 60).astype(np.int32)
    return outcomes(tiny_cascade, tokens, labels, 16)


@pytest.fixture(scope="module")
def found(tiny_cascade: Bundle, table: OutcomeTable) -> Curve:
    costs = work_of(tiny_cascade.tiers, tiny_cascade.router)
    return curve(tiny_cascade, tiny_cascade.policy, table, costs)


def test_tiers_and_the_chosen_policy_are_where_the_report_has_them(
    tiny_cascade: Bundle, table: OutcomeTable, found: Curve
) -> None:
    rows = {row["name"]: row for row in report(tiny_cascade, tiny_cascade.policy, table)["rows"]}
    assert (found.unit, found.quality) == ("layers x tokens", "accuracy")
    for point in (*found.of("tier"), *found.of("chosen")):
        row = rows["policy" if point.kind == "chosen" else f"{point.name} alone"]
        assert (point.cost, point.quality) == pytest.approx((row["work"], row["accuracy"]))
    assert {point.name for point in found.of("tier")} == {"tiny", "mid", "full"}
    assert {point.name for point in found.of("ladder")} == {"full", "chosen"}
    assert len(found.of("exit")) == len(tiny_cascade.stages)


def test_the_family_goes_from_the_first_tier_to_the_whole_cascade(
    tiny_cascade: Bundle, found: Curve
) -> None:
    family = found.of("family")
    costs = [point.cost for point in family]
    assert len(set(costs)) > 10 and costs == sorted(costs)
    assert costs[0] == pytest.approx(found.of("tier")[0].cost)
    assert costs[-1] > found.of("tier")[-1].cost  # full and the tiers before it


def test_without_labels_agreement_stands_in(tiny_cascade: Bundle, table: OutcomeTable) -> None:
    blind = reclassified(table, labels=np.full_like(table.labels, -1))
    costs = work_of(tiny_cascade.tiers, tiny_cascade.router)
    found = curve(tiny_cascade, tiny_cascade.policy, blind, costs)
    assert found.quality == "agreement"
    assert {p.quality for p in found.of("tier") if p.name == "full"} == {1.0}


def test_a_bundle_with_neither_ladder_nor_outcomes_has_a_curve(
    tiny_cascade: Bundle, table: OutcomeTable, tmp_path: Path
) -> None:
    plain = replace(tiny_cascade, ladder=(), outcomes={}, costs=None)
    found = curve(plain, plain.policy, table, AdaptivePipeline(plain).costs)
    assert found.of("ladder") == []
    plot(found, tmp_path / "curve.svg")
    assert "searched policies" not in (tmp_path / "curve.svg").read_text()


def test_the_picture_shows_every_kind_of_point(found: Curve, tmp_path: Path) -> None:
    figure = plot(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    told = {text.get_text() for text in legend.get_texts()}
    assert told == {
        "one shared threshold",
        "one exit alone",
        "searched policies",
        "one tier alone",
        "chosen",
    }
    assert {text.get_text() for text in axes.texts} == {"tiny", "mid", "full"}
    assert axes.get_xlabel() == "mean cost a text, layers x tokens"
    assert axes.get_ylabel() == "accuracy"


def test_a_picture_is_replaced_by_a_whole_one_alone(
    found: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(figure: Figure, path: Path, **how: object) -> None:
        path.write_text("half")
        raise OSError("the disk is full")

    file = tmp_path / "curve.svg"
    file.write_text("old")
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="full"):
        plot(found, file)
    assert [each.name for each in tmp_path.iterdir()] == ["curve.svg"]
    assert file.read_text() == "old"


def test_the_drawn_family_leaves_out_what_a_cheaper_policy_matches(found: Curve) -> None:
    line = plot(found).axes[0].lines[0]
    quality = [float(y) for y in np.asarray(line.get_ydata())]
    assert len(quality) > 1 and all(b > a for a, b in pairwise(quality))
