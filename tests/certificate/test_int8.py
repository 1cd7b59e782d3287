"""A full tier that is served in int8 is tested like any other policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_outcomes import STAGES, random_costs, random_table, saying

from adaptive.bundle.outcomes import load_outcomes, save_outcomes
from adaptive.certificate.claims import try_target
from adaptive.errors import BundleError
from adaptive.policy.lookup import Lookup, tier_alone
from adaptive.policy.targets import excess
from adaptive.policy.worth import concatenate, reclassified, worse_of
from adaptive.training.smooth import expected_drop
from adaptive.types import OutcomeTable, Target

ROWS = 400


def in_int8(share: float) -> OutcomeTable:
    """A table whose full tier answers a share of the texts unlike it does in float32."""
    table = random_table(3, ROWS)
    exact = table.predictions[:, -1].copy()
    changed = np.arange(ROWS) < share * ROWS
    exact[changed] = (exact[changed] + 1) % 3
    return reclassified(table, in_float32=exact)


def first_p_value(table: OutcomeTable, target: Target) -> float:
    full = tier_alone(STAGES, 2)
    results = [Lookup.of(table, random_costs(0, ROWS)).evaluate(full)]
    tried = try_target(target, [full], results, np.ones(1), table, 0, "paired")
    return float(tried.p_values[0, 0])


@pytest.mark.parametrize("metric", ["agreement", "accuracy_drop"])
def test_the_full_tier_keeps_nothing_by_definition_once_it_is_in_int8(metric: str) -> None:
    target = Target(metric, 0.05)  # type: ignore[arg-type]
    assert first_p_value(random_table(3, ROWS), target) == 0.0
    assert 0.0 < first_p_value(in_int8(0.0), target) < 0.05
    assert first_p_value(in_int8(0.5), Target("agreement", 0.05)) > 0.5


def test_what_answers_are_held_to_is_the_full_tier_in_float32() -> None:
    table = in_int8(0.25)
    found = excess(Target("agreement", 0.1), saying(table.predictions[:, -1], table), table)
    assert found.mean() == pytest.approx(0.25 - 0.1)
    assert (excess(Target("agreement", 0.1), saying(table.reference, table), table) == -0.1).all()
    lost = excess(Target("accuracy_drop", 0.0), saying(table.predictions[:, -1], table), table)
    right = (table.predictions[:, -1] == table.labels, table.reference == table.labels)
    assert lost.mean() == pytest.approx(right[1].mean() - right[0].mean())
    assert worse_of(table)[:, -1].any() and not worse_of(random_table(3, ROWS))[:, -1].any()


def test_expected_losses_are_against_the_full_tier_in_float32() -> None:
    table = in_int8(0.25)
    rng = np.random.default_rng(0)
    chance = rng.random((ROWS, len(STAGES) + 1))
    drop = expected_drop([table, table], [chance, chance], 1)
    same = table.predictions == table.reference[:, None]
    assert drop.shape == same.shape
    assert (drop[same] == 0.0).all() and (drop[~same] != 0.0).all()


def test_a_table_keeps_the_float32_answers_through_files_pieces_and_choices(
    tmp_path: Path,
) -> None:
    table, path = in_int8(0.25), tmp_path / "table.safetensors"
    save_outcomes(table, path)
    assert np.array_equal(load_outcomes(path, STAGES, "x").reference, table.reference)
    save_outcomes(random_table(3), path)
    assert load_outcomes(path, STAGES, "x").worth.own
    halves = [table.take(slice(0, 100)), table.take(slice(100, None))]
    assert np.array_equal(concatenate(halves).reference, table.reference)
    short = replace(table.classes, in_float32=table.reference[:9])
    save_outcomes(replace(table, classes=short), path)
    with pytest.raises(BundleError, match="reference must be int32"):
        load_outcomes(path, STAGES, "x")
