"""How often labels that are asked for certify a policy that breaks its promise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import labels_type1 as benchmark


@pytest.mark.slow
def test_a_policy_at_the_level_passes_no_more_often_than_delta() -> None:
    """Labels that flatter come first, the bound on the accuracy is drawn anew each time."""
    *_, (found,) = benchmark.counted(2_000)
    assert found["wrong"] <= found["allowed"] < 0.07 * found["draws"]
    assert found["labels"] < 0.2 * found["pool"]


def test_the_boundary_is_where_the_benchmark_says() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    _, answers, reference, labels = benchmark.boundary(rng, 200_000, 300, 0.9, 0.05)
    full = (reference == labels).mean()
    lost = [full - (own == labels).mean() for own in answers]
    assert lost[0] < 0.6 * lost[1] and lost[1] < lost[2]
    assert lost[1] == pytest.approx(0.05 * 0.9, abs=0.002)
    assert full == pytest.approx(0.9, abs=0.01)
