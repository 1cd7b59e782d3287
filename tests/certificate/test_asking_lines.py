"""Labels only where they decide: the verdict is that of all labels, whichever came first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from adaptive.certificate.asking import (
    SPARED,
    Line,
    _passes,
    accuracy_bound,
    count,
    error_of_tests,
    greatest,
    next_rows,
    standing,
    steps,
)
from adaptive.risk import paired_margin

Labels = NDArray[np.int64]
DELTA, CLASSES = 0.05, 4


@dataclass(frozen=True)
class Case:
    """A line, and the answers and labels behind it."""

    line: Line
    answers: Labels  # [p, n]
    reference: Labels  # [n]

    def lost(self, labels: Labels) -> NDArray[np.float64]:
        """What each policy loses on each row, as far as labels, -1 where unknown, tell."""
        won = (labels == self.reference) * 1.0 - (labels == self.answers)
        known = np.where(labels < 0, np.nan, won)
        return np.where(self.line.differs, known, 0.0)


def case(seed: int, rows: int = 400, policies: int = 6, lost: float = 0.5) -> tuple[Case, Labels]:
    """Nested policies that differ from the full tier on ever more rows, and all labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    reference = np.where(rng.random(rows) < 0.9, labels, (labels + 1) % CLASSES)
    other = np.where(rng.random(rows) < lost, (reference + 2) % CLASSES, labels)
    ease = rng.random(rows)
    answers = [np.where(ease < share, other, reference) for share in np.linspace(0, 0.6, policies)]
    shares = np.array([0.9 * lost, 0.1 * (1.0 - lost)]) / (0.9 * lost + 0.1)  # worse and better
    sure, guess = np.arange(policies) == 0, np.tile(shares, (policies, 1))
    error = error_of_tests(DELTA)
    differs = np.stack(answers) != reference
    made = Line(differs, 0.04, error, sure, guess, seed)
    return Case(made, np.stack(answers), reference), labels


def asked(tried: Case, labels: Labels, batch: int) -> Labels:
    """The labels known at the end of the asking."""
    known = np.full(len(labels), -1)
    while len(rows := next_rows(tried.line, tried.lost(known), batch)):
        assert (known[rows] < 0).all() and len(rows) <= batch
        known[rows] = labels[rows]
    return known


@pytest.mark.parametrize("seed", range(6))
def test_the_verdict_is_that_of_all_labels_in_any_order(seed: int) -> None:
    tried, labels = case(seed, lost=(0.1, 0.3, 0.6)[seed % 3])
    whole = standing(tried.line, tried.lost(labels))
    assert whole.end != "asking"
    for batch in (7, 60):
        known = asked(tried, labels, batch)
        assert standing(tried.line, tried.lost(known)) == whole
        assert (known >= 0).sum() < tried.line.differs.any(0).sum() < len(labels)
    rng = np.random.default_rng(seed)
    known, before = np.full(len(labels), -1), 0
    for rows in np.array_split(rng.permutation(len(labels)), 12):
        known[rows] = labels[rows]
        here = standing(tried.line, tried.lost(known))
        assert before <= here.passed <= whole.passed  # what passed stays, and all labels agree
        assert here == whole or here.end == "asking"
        before = here.passed
    assert here == whole


@pytest.mark.parametrize("seed", range(4))
def test_labels_chosen_to_flatter_prove_no_more_than_all_labels(seed: int) -> None:
    tried, labels = case(seed)
    whole = standing(tried.line, tried.lost(labels)).passed
    won = (tried.answers[-1] == labels) & (tried.answers[-1] != tried.reference)
    flattering = np.argsort(~won, kind="stable")  # the rows first that speak for the policies
    known = np.full(len(labels), -1)
    for rows in np.array_split(flattering, 20):
        known[rows] = labels[rows]
        assert standing(tried.line, tried.lost(known)).passed <= whole


def test_no_label_is_asked_where_no_policy_differs() -> None:
    tried, labels = case(3)
    known = asked(tried, labels, 10)
    assert tried.line.differs.any(0)[known >= 0].all()
    agreeing = np.where(tried.line.differs.any(0), -1, labels)
    assert count(tried.lost(agreeing)).unknown.tolist() == tried.line.differs.sum(1).tolist()
    here = standing(tried.line, tried.lost(agreeing))
    assert here == standing(tried.line, tried.lost(np.full(len(labels), -1)))


def test_rows_that_serve_most_policies_come_first() -> None:
    tried, labels = case(1, lost=0.2)
    (first, *_) = steps(tried.line, tried.lost(np.full(len(labels), -1)))
    use = tried.line.differs[first.policy :].sum(0)
    assert (np.diff(use[first.rows]) <= 0).all() and use[first.rows].max() > 1
    assert tried.line.differs[first.policy][first.rows].all()


def test_steps_tell_about_what_deciding_takes() -> None:
    told, took = [], []
    for seed in range(12):
        tried, labels = case(seed, lost=0.25)
        nothing = tried.lost(np.full(len(labels), -1))
        told.append(sum(len(step.rows) for step in steps(tried.line, nothing)))
        took.append((asked(tried, labels, 5) >= 0).sum())
    assert 0.5 < np.mean(told) / np.mean(took) < 2.0


def test_the_full_tier_is_not_tested_and_labels_that_fit_nothing_count_as_neither() -> None:
    tried, labels = case(2)
    assert greatest(tried.line, tried.lost(np.full(len(labels), -1)))[0] == 0.0
    strange = np.full(len(labels), CLASSES)
    found = count(tried.lost(strange))
    assert not (found.worse.any() or found.better.any() or found.unknown.any())
    made = tried.line
    none = Line(made.differs[:, :0], 0.1, 0.05, made.sure, made.guess)
    assert standing(none, tried.lost(labels)[:, :0]).passed == 1


@pytest.mark.parametrize(("rows", "margin"), [(60, 0.1), (250, 0.03), (1000, 0.0095)])
def test_more_losses_never_prove_more_and_more_gains_never_less(rows: int, margin: float) -> None:
    worse, better = np.meshgrid(np.arange(0, 20, 2), np.arange(0, 16, 3), indexing="ij")
    found = paired_margin(worse, better, rows, margin, differing=40)
    assert (np.diff(found, axis=0) >= 0).all() and (np.diff(found, axis=1) <= 0).all()
    assert found.min() < DELTA < found.max()


def test_decisions_are_those_of_the_p_values() -> None:
    tried, labels = case(4, lost=0.1)
    counts, (rows, margin, error, differing) = count(tried.lost(labels)), tried.line.test
    assert differing == tried.line.differs.sum(1).max()
    lost = tried.lost(labels)
    p_values, passed = greatest(tried.line, lost), standing(tried.line, lost).passed
    given = (counts.worse, counts.better, rows, margin)
    own = paired_margin(*given, differing=differing, delta=error)
    assert (p_values[1 : passed + 1] == own[1 : passed + 1]).all()
    assert (p_values[:passed] <= error).all() and (p_values[passed:] > error).all()
    assert (p_values[passed + 1 :] == 1.0).all()
    for worse, better in ((9, 0), (20, 3), (14, 2), (15, 10), (15, 2), (13, 2)):
        p = paired_margin(worse, better, rows, margin, differing=differing, delta=error)
        assert _passes(tried.line.test, worse, better) == (p <= error)  # some known from others


def test_the_bound_on_the_accuracy_errs_as_seldom_as_it_says() -> None:
    rows = 300
    bounds = np.array([accuracy_bound(right, rows, DELTA) for right in range(rows + 1)])
    assert bounds[0] == 0.0 and bounds[-1] < 1.0
    for accuracy in (0.5, 0.8, 0.9, 0.97, 0.999):
        wrong = binom.pmf(np.arange(rows + 1), rows, accuracy)[bounds > accuracy].sum()
        assert wrong <= DELTA / SPARED
        assert wrong > DELTA / SPARED / 20 or accuracy > 0.99
    assert error_of_tests(DELTA) + DELTA / SPARED == pytest.approx(DELTA)
