"""Many candidates, risks and groups: what is certified, and how often wrongly."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from mapie.risk_control._base_controller import ltt_procedure
from mapie.risk_control.fwer_control import control_fwer

from adaptive.risk import (
    betting,
    binomial,
    bonferroni,
    by_group,
    fixed_sequence,
    hoeffding_bentkus,
    worst,
)

DRAWS, DELTA = 2_000, 0.05
ERROR = DELTA + 3.0 * math.sqrt(DELTA * (1.0 - DELTA) / DRAWS)


@pytest.mark.parametrize(
    ("p_values", "certified"),
    [
        ([0.01, 0.02, 0.2, 0.3], 1),  # not 2, the first that fails
        ([0.01, 0.02, 0.2, 0.001], 1),  # behind a failure nothing counts
        ([0.06, 0.001], None),
        ([0.05], 0),
        ([0.0, 0.0, 0.0], 2),
        ([], None),
    ],
)
def test_fixed_sequence_gives_the_last_certified(
    p_values: list[float], certified: int | None
) -> None:
    assert fixed_sequence(p_values, DELTA) == certified


def test_what_fixed_sequence_gives_has_passed_its_own_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        p_values = rng.beta(0.3, 2.0, rng.integers(1, 20))
        index = fixed_sequence(p_values, DELTA)
        if index is None:
            assert p_values[0] > DELTA
        else:
            assert (p_values[: index + 1] <= DELTA).all()
            assert index + 1 == len(p_values) or p_values[index + 1] > DELTA


def test_families_agree_with_mapie() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        p_values = rng.beta(0.3, 3.0, rng.integers(1, 15))
        theirs = control_fwer(p_values, 0.1, "fixed_sequence")
        index = fixed_sequence(p_values, 0.1)
        assert theirs.tolist() == list(range(0 if index is None else index + 1))
        theirs = control_fwer(p_values, 0.1, "bonferroni")
        assert theirs.tolist() == bonferroni(p_values, 0.1).tolist()


def test_the_whole_procedure_agrees_with_mapie() -> None:
    # Two risks of six candidates, ever bolder.
    rng = np.random.default_rng(2)
    losses = rng.random((2, 6, 1_024)) < np.linspace(0.02, 0.12, 6)[None, :, None]
    losses = losses.astype(float)
    levels = (0.1, 0.09)
    p_values = worst([hoeffding_bentkus(risk, a) for risk, a in zip(losses, levels, strict=True)])
    valid, theirs = ltt_procedure(
        losses.mean(-1),
        np.array(levels)[:, None],
        DELTA,
        np.full((2, 6), 1_024),
        fwer_method="split_fixed_sequence",
    )
    np.testing.assert_allclose(p_values, theirs[:, 0].clip(max=1.0), rtol=1e-9)
    index = fixed_sequence(p_values, DELTA)
    assert index == max(valid[0])
    assert index not in (None, 0, 5)  # some were certified, and some not


def test_a_sequence_at_the_level_is_certified_wrongly_at_most_delta_of_the_time() -> None:
    # Ten candidates whose losses nearly coincide, as those of neighbouring policies do.
    rng = np.random.default_rng(3)
    shared = rng.random((DRAWS, 1, 500))
    losses = np.where(rng.random((DRAWS, 10, 500)) < 0.8, shared, rng.random((DRAWS, 10, 500)))
    p_values = binomial((losses < 0.1).astype(float), 0.1)
    wrong = [fixed_sequence(each, DELTA) is not None for each in p_values]
    assert np.mean(wrong) <= ERROR
    assert np.mean([len(bonferroni(each, DELTA)) > 0 for each in p_values]) <= ERROR
    # Picking whichever candidate passes is the error that both exist to prevent.
    assert (p_values <= DELTA).any(1).mean() > 2.0 * DELTA


def test_the_candidate_past_the_certified_one_breaks_the_promise() -> None:
    # The first is safe, the second just not: the index of the first failure would be wrong
    # in nearly every draw, the last certified one in at most delta of them.
    rng = np.random.default_rng(4)
    risks = np.array([0.02, 0.1])
    losses = (rng.random((DRAWS, 2, 500)) < risks[:, None]).astype(float)
    found = [fixed_sequence(each, DELTA) for each in binomial(losses, 0.1)]
    assert np.mean([index == 1 for index in found]) <= ERROR
    assert np.mean([index == 0 for index in found]) > 0.9


@pytest.mark.parametrize("broken", [[0.1, 0.02, 0.02], [0.1, 0.1, 0.1]])
def test_several_promises_together_err_at_most_delta_of_the_time(broken: list[float]) -> None:
    rng = np.random.default_rng(5)
    losses = (rng.random((DRAWS, 1, 400)) < np.array(broken)[:, None]).astype(float)
    p = worst(np.moveaxis(binomial(losses, 0.1), 1, 0))
    assert p.shape == (DRAWS,)
    assert (p <= DELTA).mean() <= ERROR


def test_a_group_that_pays_for_the_mean_is_found() -> None:
    rng = np.random.default_rng(6)
    groups = (rng.random(4_000) < 0.1).astype(int)
    losses = (rng.random((200, 4_000)) < np.where(groups == 1, 0.1, 0.01)).astype(float)
    assert (binomial(losses, 0.05) <= DELTA).all()  # on the whole all is well
    p = worst(by_group(partial(binomial, level=0.05), losses, groups, 2))
    assert p.shape == (200,)
    assert (p <= DELTA).mean() <= 0.01


@pytest.mark.parametrize(
    "test", [partial(binomial, level=0.1), partial(betting, level=0.1, seed=0)]
)
def test_each_group_is_tested_on_its_own_rows(test: partial[np.ndarray]) -> None:
    rng = np.random.default_rng(7)
    losses, groups = (rng.random(600) < 0.03).astype(float), rng.integers(0, 3, 600)
    p = by_group(test, losses, groups, 4)
    for group in range(3):
        assert float(p[group]) == float(test(losses[groups == group]))
    assert p[3] == 1.0  # promised, and without a row
    assert worst(p) == 1.0


def test_what_is_no_p_value_is_refused() -> None:
    for bad in ([0.1, math.nan], [1.1], [-0.1], [[0.1]]):
        with pytest.raises(ValueError, match="p-values"):
            fixed_sequence(bad, DELTA)
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="delta"):
            bonferroni([0.1], delta)
    with pytest.raises(ValueError, match="promise"):
        worst([])


def test_groups_that_do_not_fit_are_refused() -> None:
    test = partial(binomial, level=0.1)
    with pytest.raises(ValueError, match="3 rows"):
        by_group(test, np.zeros(3), [0, 1], 2)
    for groups in ([0, 1, 2], [0, -1, 1]):
        with pytest.raises(ValueError, match=r"lie in \[0, 2\)"):
            by_group(test, np.zeros(3), groups, 2)
