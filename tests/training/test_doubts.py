"""What held-out answers say is wrong with a tier is told, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.policy.lookup import useful_tiers
from adaptive.policy.worth import classified, reclassified
from adaptive.training.doubts import about_full, about_order, about_useless
from adaptive.types import OutcomeTable, Stage

LABELS = np.random.default_rng(0).integers(0, 12, 240).astype(np.int32)


def answers(share: float, classes: int = 12, seed: int = 1) -> np.ndarray:
    """Right in that share of the rows, any class in the others."""
    rng = np.random.default_rng(seed)
    guesses = rng.integers(0, classes, len(LABELS))
    return np.where(rng.random(len(LABELS)) < share, LABELS % classes, guesses).astype(np.int32)


def test_classes_in_another_order_are_told_with_what_they_cost() -> None:
    order = np.array([0, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3])
    (told,) = about_full(order[answers(0.95)].astype(np.int32), LABELS, 12)
    assert "right label to" in told and "in another order it would be 9" in told
    assert "id2label" in told and "data.rename" in told


def test_a_half_permuted_head_is_told_though_it_is_above_chance() -> None:
    order = np.array([0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 6])
    (told,) = about_full(order[answers(0.95)].astype(np.int32), LABELS, 12)
    assert "another order" in told


def test_two_classes_the_wrong_way_round() -> None:
    (told,) = about_full(1 - answers(0.9, 2), LABELS % 2, 2)
    assert "another order" in told


def test_worse_than_guessing_without_an_order_that_helps_is_told() -> None:
    rng = np.random.default_rng(2)
    wrong = ((LABELS + rng.integers(1, 12, len(LABELS))) % 12).astype(np.int32)
    (told,) = about_full(wrong, LABELS, 12)
    assert "fewer than guessing would (8.33%)" in told


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_guessing_and_better_is_no_reason_for_doubt(share: float) -> None:
    assert about_full(answers(share), LABELS, 12) == []
    assert about_full(answers(share, 2), LABELS % 2, 2) == []


def test_a_full_tier_that_its_own_student_beats_widely_is_told() -> None:
    (told,) = about_order(0.5, 0.9, "tiny", 80)
    assert "50.00% of 80" in told and "tiny tier that learnt from it to 90.00%" in told


@pytest.mark.parametrize(
    ("full", "cheaper", "rows"), [(0.9, 0.8, 1000), (0.9, 0.93, 10_000), (0.6, 0.7, 50)]
)
def test_a_student_that_is_about_as_good_is_no_reason_for_doubt(
    full: float, cheaper: float, rows: int
) -> None:
    assert about_order(full, cheaper, "tiny", rows) == []
    assert about_order(None, cheaper, "tiny", rows) == []


def table_of(shares: list[float], labels: np.ndarray = LABELS) -> OutcomeTable:
    """Tiers of one exit each that are right in such shares of the rows."""
    columns = [answers(share, seed=5 + number) for number, share in enumerate(shares)]
    rows, tiers = len(labels), len(shares)
    return classified(
        stages=tuple(Stage(tier, 0, 0) for tier in range(tiers)),
        predictions=np.stack(columns, 1),
        reliability=np.zeros((rows, tiers), np.float32),
        risk=np.zeros((rows, tiers), np.float32),
        labels=labels.astype(np.int32),
        tokens=np.ones(rows, np.int64),
    )


NAMES = ("tiny", "mid", "full")


def test_a_tier_that_a_cheaper_one_beats_is_useless_and_told() -> None:
    table = table_of([0.9, 0.7, 0.95])
    assert useful_tiers(table) == (0, 2)
    (told,) = about_useless(table, NAMES)
    assert "the mid tier gives the right label to 7" in told and "the tiny tier" in told
    assert "left out of every path" in told and "mid.epochs" in told


@pytest.mark.parametrize("shares", [[0.7, 0.9, 0.95], [0.6, 0.9, 0.5], [0.9, 0.2], [0.9]])
def test_better_tiers_and_the_full_one_are_kept(shares: list[float]) -> None:
    table = table_of(shares)
    assert useful_tiers(table) == tuple(range(len(shares)))
    assert about_useless(table, NAMES) == []


def test_a_tier_that_answers_just_as_a_cheaper_one_is_left_out() -> None:
    table = table_of([0.8, 0.8, 0.9])
    predictions = table.predictions[:, [0, 0, 2]]
    assert useful_tiers(reclassified(table, predictions=predictions)) == (0, 2)


def test_a_tier_that_may_well_be_as_good_is_kept() -> None:
    table = table_of([0.8, 0.8, 0.9])
    right = table.predictions[:, 0] == table.labels
    predictions = table.predictions[:, [0, 0, 2]]
    worse, better = np.flatnonzero(right)[:21], np.flatnonzero(~right)[:20]
    predictions[worse, 1] = (table.labels[worse] + 1) % 12
    predictions[better, 1] = table.labels[better]
    assert useful_tiers(reclassified(table, predictions=predictions)) == (0, 1, 2)


def test_without_labels_tiers_are_held_to_the_full_ones_answers() -> None:
    table = table_of([0.9, 0.7, 1.0], np.full(len(LABELS), -1))
    assert useful_tiers(table) == (0, 2)
    (told,) = about_useless(table, NAMES)
    assert "the full tier's answer" in told
