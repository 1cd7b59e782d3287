"""Tiers that raise, answer in no numbers, or hang; rows at fault; no text told anywhere."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_server import TEXTS, Served, certified_cascade, run, until

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.engine import Engine
from adaptive.errors import BundleError
from adaptive.policy.lookup import tier_alone
from adaptive.serve.logs import JsonLines
from adaptive.serve.probes import broken_tiers, golden_rows
from adaptive.tiers.state import State

CANARY = "canary7f3a"


@pytest.fixture(scope="module")
def certified(tiny_cascade: Bundle) -> Bundle:
    return certified_cascade(tiny_cascade)


@pytest.fixture
def own(certified: Bundle) -> Bundle:
    """The same with weights that may be broken."""
    return replace(certified, tiers=copy.deepcopy(certified.tiers))


def break_by_nan(bundle: Bundle, tier: int) -> None:
    with torch.no_grad():
        for weights in bundle.tiers[tier].parameters():
            weights.fill_(float("nan"))


def break_by_raising(bundle: Bundle, tier: int) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError(CANARY)

    bundle.tiers[tier].backbone.run = fails  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("way", [break_by_nan, break_by_raising])
@pytest.mark.parametrize("tier", [1, 2])
def test_a_broken_tier_is_fenced_off_and_the_rest_answers(own: Bundle, way: Any, tier: int) -> None:
    async def work(server: Served) -> None:
        before = (await server.post("/", {"inputs": TEXTS})).json()
        assert {each[0]["routing"]["degraded"] for each in before} == {False}
        way(own, tier)
        sent = [server.post("/", {"inputs": TEXTS}) for _ in range(4)]
        for got in await asyncio.gather(*sent):
            assert got.status_code == 200
            for each in got.json():
                routing = each[0]["routing"]
                assert routing["tier"] != own.tiers[tier].name
                assert routing["degraded"] and not routing["covered"]
        ready = await server.client.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["state"] == "degraded"
        assert list(ready.json()["fenced"]) == [own.tiers[tier].name]

    # a policy that asks the tier for every text, so that the fault is met
    asked = replace(own, policy=tier_alone(own.stages, tier), ladder=(), certificate=None)
    run(asked, work)


def test_a_first_tier_of_nan_leaves_the_full_tier_alone(own: Bundle) -> None:
    async def work(server: Served) -> None:
        break_by_nan(own, 0)
        got = (await server.post("/", {"inputs": TEXTS})).json()
        assert {each[0]["routing"]["tier"] for each in got} == {"full"}
        assert not any(each[0]["routing"]["covered"] for each in got)

    run(own, work)


def test_without_any_tier_nothing_is_answered_and_readiness_says_so(own: Bundle) -> None:
    async def work(server: Served) -> None:
        for tier in range(3):
            break_by_nan(own, tier)
        got = await server.post("/", {"inputs": TEXTS})
        assert got.status_code == 503
        assert (await server.client.get("/health/ready")).status_code == 503
        assert (await server.post("/", {"inputs": TEXTS})).status_code == 503

    run(own, work)


def test_a_row_at_fault_fails_alone(certified: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = 17  # tokens of this text alone
    poison = " ".join(["word1"] * (bad - 2))
    texts = [text for text in TEXTS if len(text.split()) != bad - 2]

    def failing(run_layers: Any) -> Any:
        def fails(state: State, start: int, stop: int) -> State:
            if bad in state.layout.lengths and stop > start:
                raise ValueError(poison)
            return run_layers(state, start, stop)  # type: ignore[no-any-return]

        return fails

    async def work(server: Served) -> None:
        for tier in certified.tiers[1:]:
            monkeypatch.setattr(tier.backbone, "run", failing(tier.backbone.run))
        sent = [server.post("/", {"inputs": [text]}) for text in texts]
        mixed = server.post("/", {"inputs": [texts[0], poison, texts[1]]})
        *others, got = await asyncio.gather(*sent, mixed)
        assert all("score" in each.json()[0][0] for each in others)
        answers = got.json()
        assert answers[1] == {"error": "the model failed on this item"}
        assert "score" in answers[0][0] and "score" in answers[2][0]
        assert (await server.post("/", {"inputs": poison})).status_code == 500
        assert server.service.state == "ready"

    asked = replace(certified, policy=tier_alone(certified.stages, 2), certificate=None)
    run(asked, work)


def test_an_engine_that_raises_answers_its_rows_all_the_same(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Served) -> None:
        monkeypatch.setattr(Engine, "_step", _raises_once(Engine._step))
        got = (await server.post("/", {"inputs": TEXTS})).json()
        assert all("score" in each[0] for each in got)

    run(certified, work)


def _raises_once(step: Any) -> Any:
    told: list[int] = []

    def once(self: Engine, more: bool) -> Any:
        if not told:
            told.append(1)
            raise KeyError(CANARY)
        return step(self, more)

    return once


def test_a_step_that_hangs_is_noticed_and_nobody_waits_for_it(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    step = Engine.step

    def hangs(self: Engine, **given: Any) -> Any:
        go.wait()
        return step(self, **given)

    async def work(server: Served) -> None:
        monkeypatch.setattr(Engine, "step", hangs)
        sent = [server.post("/", {"inputs": TEXTS}) for _ in range(3)]
        assert {got.status_code for got in await asyncio.gather(*sent)} == {503}
        assert (await server.client.get("/health/ready")).status_code == 503
        assert (await server.client.get("/health/live")).status_code == 503
        assert (await server.post("/", {"inputs": TEXTS})).status_code == 503
        go.set()
        await until(lambda: not server.service.hung)
        assert (await server.client.get("/health/ready")).status_code == 200
        assert len((await server.post("/", {"inputs": TEXTS})).json()) == len(TEXTS)

    run(certified, work, hang_s=0.1)


def test_probes_find_each_broken_tier(own: Bundle) -> None:
    rows = golden_rows(own)
    assert broken_tiers(own, rows) == {}
    break_by_nan(own, 1)
    break_by_raising(own, 2)
    found = broken_tiers(own, rows)
    assert found == {1: "answers that are no numbers", 2: "RuntimeError"}
    assert broken_tiers(own, rows, {1}) == {2: "RuntimeError"}


def test_nothing_starts_on_a_broken_tier_or_a_wrong_golden_answer(own: Bundle) -> None:
    label = AdaptivePipeline(own)(TEXTS[0])[0]["label"]
    other = next(each for each in own.labels if each != label)

    run(own, _nothing, golden=({"text": TEXTS[0], "label": label},))
    with pytest.raises(BundleError, match=f"golden input 0: expected '{other}'"):
        run(own, _nothing, golden=({"text": TEXTS[0], "label": other},))
    break_by_nan(own, 1)
    with pytest.raises(BundleError, match="golden inputs failed on 1 of 3 tiers: mid"):
        run(own, _nothing)


async def _nothing(server: Served) -> None:
    assert server.service.started


def test_no_text_is_told_anywhere(
    certified: Bundle, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [f"{CANARY} word1", {"text": CANARY, "text_pair": CANARY}, {CANARY: 1}]

    async def work(server: Served) -> None:
        post, told = server.client.post, []
        for inputs in (*texts, texts, f"{CANARY}\ud800", CANARY * 1000):
            body = json.dumps({"inputs": inputs, "input": inputs}).encode()
            told += [await post(path, content=body) for path in ("/", "/v1/classify")]
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [CANARY]}
        for name, kind in (("text", "BYTES"), (CANARY, "BYTES"), ("text", CANARY)):
            given = {"inputs": [{**tensor, "name": name, "datatype": kind}]}
            told.append(await server.post("/v2/models/tiny-cascade/infer", given))
        body = {"inputs": CANARY, "parameters": {"target": CANARY, "top_k": CANARY}}
        told.append(await server.post("/", body))
        body["parameters"] = {"target": f"agreement={CANARY}"}
        told.append(await server.post("/", body))
        told.append(await post("/", content=f'{{"inputs": {CANARY}'.encode()))
        told.append(await post("/v1/stream", content=f'"{CANARY}"\n{CANARY}\n'.encode()))
        told.append(await post(f"/{CANARY}?{CANARY}={CANARY}", headers={"X-Api-Key": CANARY}))
        told.append(await post(f"/models/{CANARY}", headers={"X-Request-Id": CANARY}))
        told.append(await server.client.get(f"/v2/models/{CANARY}"))
        told.append(await server.client.request(CANARY.upper(), "/"))
        _break_all(server)
        told.append(await server.post("/", {"inputs": [CANARY]}))
        told.append(await server.client.get("/metrics"))
        told.append(await server.client.get("/stats"))
        for each in told:
            assert CANARY not in each.text.lower(), each.request.url
            assert CANARY not in str(each.headers).lower()

    run(certified, work)
    lines = [JsonLines().format(record) for record in caplog.records if _ours(record)]
    assert sum('"message": "request"' in line for line in lines) > 20
    captured = capfd.readouterr()
    for text in (*lines, captured.out, captured.err):
        assert CANARY not in text.lower()


def _break_all(server: Served) -> None:
    """Whatever is raised inside quotes the text."""

    async def raises(*_: Any, **__: Any) -> None:
        raise ValueError(CANARY)

    server.service.answer = raises  # type: ignore[method-assign, assignment]


def _ours(record: logging.LogRecord) -> bool:
    """The client in this process logs addresses, too."""
    return not record.name.startswith(("httpx", "httpcore"))
