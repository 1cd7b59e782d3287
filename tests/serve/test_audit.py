"""The live promise: false alarms, delay, and steps back that are never taken forward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptive.risk.drift import DriftTest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_cascade import tiny_texts
from tiny_server import TEXTS, Served, certified_cascade, run, until

from adaptive.bundle.contents import Bundle
from adaptive.serve.deployment import Deployment


def greatest(level: float, losses: Any) -> float:
    test = DriftTest(level)
    for loss in losses:
        test.add(float(loss))
    return test.p_value


def test_false_alarms_are_no_more_than_alpha_however_often_one_looks() -> None:
    rng, level, alpha, runs = np.random.default_rng(0), 0.1, 0.05, 400
    alarms = sum(greatest(level, rng.random(400) < level) <= alpha for _ in range(runs))
    # of 400 with a chance of 0.05 each, more than 33 have a chance of 0.2 %
    assert alarms <= 33


def test_the_capital_is_a_martingale_at_the_level() -> None:
    """Its expectation over the next row is what it is, exactly."""
    test = DriftTest(0.2)
    for loss in (0, 1, 0, 0, 1):
        test.add(loss)
    found = []
    for loss in (0.0, 1.0):
        other = DriftTest(0.2)
        for each in (0, 1, 0, 0, 1, loss):
            other.add(each)
        found.append(other.capital)
    assert 0.8 * found[0] + 0.2 * found[1] == pytest.approx(test.capital, rel=1e-12)


def test_a_rise_is_found_soon_even_after_a_long_quiet_time() -> None:
    rng, alpha = np.random.default_rng(1), 0.01
    for quiet in (0, 5000):
        delays = []
        for _ in range(10):
            test = DriftTest(0.05)
            for _ in range(quiet):
                test.add(float(rng.random() < 0.02))
            delay = 0
            while test.p_value > alpha:
                delay += 1
                test.add(float(rng.random() < 0.3))
            delays.append(delay)
        assert np.mean(delays) < 80


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1])
def test_levels_and_losses_outside_their_bounds_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        DriftTest(level)
    with pytest.raises(ValueError, match="loss"):
        DriftTest(0.5).add(1.5)


@pytest.fixture(scope="module")
def certified(tiny_cascade: Bundle) -> Bundle:
    return certified_cascade(tiny_cascade)


def test_a_broken_promise_makes_the_level_step_back_and_stay_there(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "agreement=0.4"

    async def work(server: Served) -> None:
        first: Deployment = server.service.deployment
        policies = first.levels[name].certified
        place = policies.index(first.levels[name].policy)
        assert place > 0
        # the full tier's answers become others than they were at the certification
        monkeypatch.setattr(
            type(server.service.audit),
            "_compare",
            _all_unlike(type(server.service.audit)._compare),
        )
        while first.levels[name].policy == policies[place]:
            assert (await server.post("/", {"inputs": TEXTS})).status_code == 200
            await until(lambda: server.service.audit.waiting == 0)
        assert first.levels[name].policy == policies[place - 1]
        got = (await server.client.get("/stats")).json()
        assert got["audit"][name]["stepped_back"] == 1
        assert got["state"] == "ready"
        await server.service.reload()  # of the same certificate
        assert server.service.deployment is not first
        assert server.service.deployment.levels[name].policy == policies[place - 1]
        metrics = (await server.client.get("/metrics")).text
        assert f'adaptive_steps_back_total{{level="{name}"}} 1.0' in metrics
        other = (await server.post("/", {"inputs": TEXTS})).json()
        assert all(each[0]["routing"]["covered"] for each in other)

    run(certified, work, audit={"share": 0.999, "alpha": 0.01})


def _all_unlike(compare: Any) -> Any:
    def changed(self: Any, level: Any, served: Any, job: Any, done: Any) -> None:
        job.answers.label[:] = (served + 1) % 3
        compare(self, level, served, job, done)

    return changed


def test_a_kept_promise_is_audited_and_nothing_changes(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        before = dict(server.service.deployment.levels)
        await server.post("/", {"inputs": tiny_texts(300, 9)})
        await until(lambda: server.service.audit.waiting == 0)
        found = server.service.audit.tests["agreement=0.4"]
        assert found.rows > 250 and 0.0 < found.mean < 0.4 and found.p_value > 0.01
        assert server.service.deployment.levels == before
        await server.post("/", {"inputs": [*TEXTS, None, "word1 " * 99]})  # as many as may wait
        assert server.service.audit.waiting <= 300

    run(certified, work, audit={"share": 0.999, "backlog": 300})
