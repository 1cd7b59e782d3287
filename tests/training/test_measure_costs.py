"""The step that measures costs says when it was not alone."""

from __future__ import annotations

import pytest

from adaptive.training.measure_costs import about_load


@pytest.mark.parametrize(("load", "threads", "cpus"), [(1.0, 1, 2), (1.5, 1, 2), (8.3, 8, 16)])
def test_costs_of_a_quiet_machine_are_taken_as_they_are(
    load: float, threads: int, cpus: int
) -> None:
    assert about_load(load, threads, cpus) == []


def test_costs_that_were_measured_beside_other_work_come_with_a_warning() -> None:
    (told,) = about_load(2.0, 1, 2)
    assert "about 1.0 of 2 CPUs" in told and "--force costs" in told
    assert about_load(16.0, 8, 16)
