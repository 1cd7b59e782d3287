"""Thresholds of several labels, one a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
# losses of rows of which so many classes are both chosen and true, are chosen, and are true
Loss = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], Floats]

EDGE = 1e-4  # thresholds are held this far from 0 and 1
GRID = 40  # that are tried for a class, in each of at most `ROUNDS` rounds
ROUNDS = 5


def fit_thresholds(scores: Floats, true: Bools, loss: Loss) -> tuple[float, ...]:
    """The threshold [c] of each class, of least mean loss over rows that no weight learnt from.

    They are sought class by class, from 0.5 on, in rounds (cyclic optimization, Fan and Lin 2007, A
    study on threshold selection for multi-label classification), among midpoints of the scores. One
    is moved only where that is better by more than half a row's loss.

    Args:
        scores: [n, c] in [0, 1].
        true: [n, c].
    """
    found = np.full(scores.shape[1], 0.5)
    chosen, truly = scores >= 0.5, true.sum(1)
    for _ in range(ROUNDS):
        moved = False
        for number, own in enumerate(scores.T):
            rest = np.delete(chosen, number, 1)
            both, said = (rest & np.delete(true, number, 1)).sum(1), rest.sum(1)
            tried = np.concatenate([found[number : number + 1], _between(own)])
            taken = own >= tried[:, None]  # [g, n]
            losses = loss(both + (taken & true[:, number]), said + taken, truly).mean(1)
            best = int(losses.argmin())
            if losses[best] < losses[0] - 0.5 / len(scores):
                found[number], chosen[:, number], moved = tried[best], taken[best], True
        if not moved:
            break
    return tuple(found.tolist())


def f1_loss(both: NDArray[Any], said: NDArray[Any], true: NDArray[Any]) -> Floats:
    """1 - F1, 2 both / (said + true); 0 where there are none on either side."""
    sizes = said + true
    return np.where(sizes > 0, 1.0 - 2.0 * both / np.maximum(sizes, 1), 0.0)


def subset_loss(both: NDArray[Any], said: NDArray[Any], true: NDArray[Any]) -> Floats:
    """0 where just the true ones are chosen, else 1."""
    return ((both < said) | (both < true)).astype(np.float64)


def _between(scores: Floats) -> Floats:
    """Thresholds between scores [n] and beyond their ends, `GRID` at most."""
    values = np.unique(scores.astype(np.float64))
    middle = (values[1:] + values[:-1]) / 2
    found = np.concatenate([values[:1] - EDGE, middle, values[-1:] + EDGE])
    places = np.unique(np.linspace(0, len(found) - 1, GRID).round().astype(np.int64))
    held: Floats = np.clip(found[places], EDGE, 1.0 - EDGE)
    return held
