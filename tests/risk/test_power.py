"""Power and needed rows, against simulation and against search."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adaptive.risk import (
    betting,
    betting_power,
    binomial,
    binomial_power,
    rows_for_betting,
    rows_for_binomial,
    simulated_power,
)
from adaptive.risk.tables import drop_losses, drop_table

RECORD = Path(__file__).resolve().parents[2] / "benchmarks/records/certificate_power.json"
LEVEL, ACCURACY = 0.01, 0.95


@pytest.mark.parametrize(("level", "risk", "rows"), [(0.05, 0.02, 300), (0.01, 0.005, 2_000)])
def test_binomial_power_is_what_simulation_finds(level: float, risk: float, rows: int) -> None:
    test = partial(binomial, level=level)
    found = simulated_power(test, [1.0, 0.0], rows, weights=[risk, 1.0 - risk], draws=2_000)
    assert binomial_power(level, risk, rows) == pytest.approx(found, abs=0.035)


def test_binomial_power_where_not_one_loss_is_allowed_is_zero() -> None:
    assert binomial_power(0.01, 0.001, 100) == 0.0
    assert binomial_power(0.01, 0.001, 0) == 0.0


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("level", "risk"), [(0.1, 0.04), (0.05, 0.02), (0.05, 0.0)])
def test_rows_for_binomial_is_the_least_that_stays_enough(
    level: float, risk: float, power: float
) -> None:
    powers = np.array([binomial_power(level, risk, n) for n in range(1, 1_200)])
    least = int(np.flatnonzero(powers < power)[-1]) + 2
    assert rows_for_binomial(level, risk, power=power) == least


def test_rows_for_binomial_close_to_the_level_is_nearly_the_exact_number() -> None:
    rows = rows_for_binomial(0.01, 0.0098)
    assert rows is not None and rows > 1_000_000
    assert binomial_power(0.01, 0.0098, rows) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("rows", [1_000, 3_000])
@pytest.mark.parametrize(("worse", "better"), [(0.005, 0.002), (0.012, 0.009), (0.04, 0.045)])
def test_betting_power_is_nearly_what_simulation_finds(
    worse: float, better: float, rows: int
) -> None:
    losses, shares = drop_losses(worse, better, LEVEL, ACCURACY)
    test = partial(betting, level=0.0, low=-1.0, high=1.0 - LEVEL, seed=0)
    found = simulated_power(test, losses, rows, weights=shares, draws=600)
    formula = betting_power(losses, rows, 0.0, low=-1.0, high=1.0 - LEVEL, weights=shares)
    assert formula == pytest.approx(found, abs=0.09)


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("level", "risk"), [(0.01, 0.005), (0.05, 0.03), (0.3, 0.2)])
def test_rows_for_betting_are_about_enough(level: float, risk: float, power: float) -> None:
    weights = [risk, 1.0 - risk]
    rows = rows_for_betting([1.0, 0.0], level, weights=weights, power=power)
    assert rows is not None
    test = partial(betting, level=level, seed=0)
    found = simulated_power(test, [1.0, 0.0], rows, weights=weights, draws=600)
    assert found == pytest.approx(power, abs=0.09)


def test_rows_for_betting_from_observed_losses() -> None:
    losses = np.array([1.0] * 30 + [0.0] * 970)
    observed = rows_for_betting(losses, 0.05)
    assert observed == rows_for_betting([1.0, 0.0], 0.05, weights=[0.03, 0.97])


def test_a_promise_that_does_not_hold_needs_no_number_of_rows() -> None:
    for risk in (0.05, 0.2):
        assert rows_for_binomial(0.05, risk) is None
        assert rows_for_betting([1.0, 0.0], 0.05, weights=[risk, 1.0 - risk]) is None
    assert rows_for_betting([], 0.05) is None
    assert rows_for_betting([0.05 - 1e-16], 0.05) is None


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="weights"):
        betting_power([1.0, 0.0], 100, 0.05, weights=[1.0])


def test_a_wider_gap_or_less_certainty_needs_fewer_rows() -> None:
    by_risk = [rows_for_betting([1.0, 0.0], 0.05, weights=[r, 1 - r]) for r in (0.04, 0.02, 0.0)]
    assert by_risk == sorted(by_risk, reverse=True)
    by_delta = [rows_for_binomial(0.05, 0.03, delta=delta) for delta in (0.01, 0.05, 0.2)]
    assert by_delta == sorted(by_delta, reverse=True)


def test_losses_that_never_vary_are_counted_exactly() -> None:
    # Losses that are all 0: the capital at row t is known.
    rows = rows_for_betting([0.0], 0.1)
    assert rows is not None
    assert float(betting(np.zeros(2 * rows), 0.1, seed=0)) <= 0.05
    assert betting_power([0.0], rows, 0.1) == 1.0
    assert betting_power([0.0], rows - 1, 0.1) == 0.0


def test_simulation_is_seeded_and_does_not_depend_on_its_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulate = partial(
        simulated_power, partial(binomial, level=0.1), [1.0, 0.0], 100, weights=[0.05, 0.95]
    )
    found = simulate(draws=500, seed=3)
    monkeypatch.setattr("adaptive.risk.power.CHUNK", 1_000)
    assert simulate(draws=500, seed=3) == found
    assert simulate(draws=500, seed=4) != found


def test_drop_losses_have_the_mean_of_the_promise() -> None:
    losses, shares = drop_losses(0.05, 0.03, 0.02, 0.8)
    assert shares.sum() == pytest.approx(1.0)
    drop = 0.05 - 0.03
    assert float(losses @ shares) == pytest.approx(drop - 0.02 * 0.8)
    with pytest.raises(ValueError, match="negative"):
        drop_losses(0.05, 0.3, 0.02, 0.8)


def test_credit_for_better_answers_buys_power() -> None:
    (line,) = drop_table(
        [5_000], worse=0.012, better=0.009, level=LEVEL, accuracy=ACCURACY, delta=0.05,
        draws=200, seed=0,
    )  # fmt: skip
    assert line["betting"] > 0.7
    assert max(line["clipped_binomial"], line["clipped_hoeffding_bentkus"]) < 0.05


def test_the_record_keeps_what_the_project_promises() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    lines = {line["n"]: line for line in record["power"][0]["certified"]}
    assert sorted(lines) == [1_000, 2_000, 5_000, 10_000]
    assert lines[5_000]["betting"] > 0.9
    for line in lines.values():
        assert line["betting"] >= line["clipped_binomial"] >= line["clipped_hoeffding_bentkus"]
    for each in record["type1"]:
        error = 3.0 * math.sqrt(each["delta"] * (1.0 - each["delta"]) / each["draws"])
        assert each["wrong"] / each["draws"] <= each["delta"] + error, each["what"]
