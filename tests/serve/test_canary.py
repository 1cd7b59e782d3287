"""A canary answers its share, is audited by itself, and goes at the first sign of harm."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_server import TEXTS, Served, certified_cascade, run, until

from adaptive.bundle.contents import Bundle
from adaptive.serve.keys import hash_of

KEY = "ak_all"
KEYS = ({"name": "all", "sha256": hash_of(KEY), "scopes": ("predict", "routing", "admin")},)
CANARY = {"bundle": "elsewhere", "share": 0.5}


@pytest.fixture(scope="module")
def certified(tiny_cascade: Bundle) -> Bundle:
    return certified_cascade(tiny_cascade)


def test_a_canary_answers_about_its_share_until_it_is_rolled_back(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        server.client.headers["X-API-Key"] = KEY
        service = server.service
        assert (await server.client.delete("/admin/canary")).json()["canary"] is None
        got = await server.post("/admin/canary")
        assert got.status_code == 200 and got.json()["canary"]["bundle"] == "other"
        assert (await server.post("/admin/canary")).status_code == 409
        trial = service.trial
        assert trial is not None
        before = await server.post("/", {"inputs": TEXTS})
        for _ in range(60):
            assert (await server.post("/", {"inputs": TEXTS[0]})).status_code == 200
        assert 10 <= trial.requests <= 50
        asked = trial.requests
        body = {"inputs": TEXTS, "parameters": {"target": "agreement=0.6"}}
        assert (await server.post("/", body)).status_code == 200
        assert (await server.client.delete("/admin/canary")).json()["canary"] is None
        assert service.trial is None and trial.deployment.loop.join(5)
        for _ in range(20):
            await server.post("/", {"inputs": TEXTS[0]})
        assert trial.requests <= asked + 1
        assert len((await server.post("/", {"inputs": TEXTS})).json()) == len(before.json())

    run(certified, work, trial=replace(certified, name="other"), keys=KEYS, canary=CANARY)


def test_an_alarm_of_its_own_audit_rolls_a_canary_back_and_leaves_the_rest(
    certified: Bundle,
) -> None:
    async def work(server: Served) -> None:
        server.client.headers["X-API-Key"] = KEY
        service = server.service
        assert (await server.post("/admin/canary")).status_code == 200
        trial, levels = service.trial, dict(service.deployment.levels)
        assert trial is not None
        test = trial.audit.tests[trial.deployment.default.name]
        for _ in range(200):
            test.add(1.0)
        while service.trial is not None:  # the next audited answer tells
            await server.post("/", {"inputs": TEXTS})
            await until(lambda: trial.audit.waiting == 0)
        assert service.deployment.levels == levels and service.state == "ready"
        assert "adaptive_canary_rollbacks_total 1.0" in service.metrics.page().decode()

    settings = {"keys": KEYS, "canary": CANARY, "audit": {"share": 0.999}}
    run(certified, work, trial=replace(certified, name="other"), **settings)


def test_a_canary_that_promises_less_is_refused(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        server.client.headers["X-API-Key"] = KEY
        got = await server.post("/admin/canary")
        assert got.status_code == 409 and "promises nothing" in got.json()["error"]
        assert server.service.trial is None

    nothing = replace(certified, certificate=None)
    run(certified, work, trial=nothing, keys=KEYS, canary=CANARY)


def test_without_a_canary_in_the_settings_there_is_no_trial(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        got = await server.post("/admin/canary", headers={"X-API-Key": KEY})
        assert got.status_code == 409

    run(certified, work, keys=KEYS)
