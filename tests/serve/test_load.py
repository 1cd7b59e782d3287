"""Overload, deadlines, clients that vanish: every request has one answer, and rows never linger."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_server import TEXTS, Served, certified_cascade, run, until

from adaptive.bundle.contents import Bundle
from adaptive.engine import Engine
from adaptive.serve.bodies import parse
from adaptive.serve.keys import Keyring
from adaptive.serve.limits import Load
from adaptive.serve.refusals import Refusal
from adaptive.serve.service import Ask
from adaptive.serve.settings import Limits
from adaptive.types import Tokens


@pytest.fixture(scope="module")
def certified(tiny_cascade: Bundle) -> Bundle:
    return certified_cascade(tiny_cascade)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Engines whose steps wait until this is set."""
    go = threading.Event()
    step = Engine.step

    def waits(self: Engine, **given: Any) -> Any:
        go.wait()
        return step(self, **given)

    go.set()
    monkeypatch.setattr(Engine, "step", waits)
    yield go
    go.set()


@contextmanager
def refused(status: int) -> Iterator[None]:
    with pytest.raises(Refusal) as caught:
        yield
    assert caught.value.status == status


def test_beyond_the_limits_requests_are_refused_at_once_and_all_others_answered(
    certified: Bundle, held: threading.Event
) -> None:
    async def work(server: Served) -> None:
        held.clear()
        sent = [
            asyncio.create_task(server.post("/", {"inputs": TEXTS[i % 12]})) for i in range(600)
        ]
        await until(lambda: sum(task.done() for task in sent) >= 592)
        early = [task.result() for task in sent if task.done()]
        assert {each.status_code for each in early} == {429}  # while nothing at all is computed
        assert all(int(each.headers["retry-after"]) >= 1 for each in early)
        held.set()
        counts = Counter(each.status_code for each in await asyncio.gather(*sent))
        assert counts == {200: 8, 429: 592}
        assert (server.service.load.requests, server.service.load.queued_ms) == (0, 0.0)

    run(certified, work, limits={"requests": 8})


def test_queued_cost_is_bounded_and_one_request_is_always_taken(
    certified: Bundle, held: threading.Event
) -> None:
    async def work(server: Served) -> None:
        server.service.deployment.ms = 1.0
        held.clear()
        first = asyncio.create_task(server.post("/", {"inputs": TEXTS}))
        await until(lambda: server.service.load.queued_ms > 0)
        second = await server.post("/", {"inputs": TEXTS})
        assert second.status_code == 429 and second.json() == {"error": "too much work is queued"}
        held.set()
        assert (await first).status_code == 200
        assert (await server.post("/", {"inputs": TEXTS})).status_code == 200

    run(certified, work, limits={"queued_ms": 0.001})


def test_a_stream_waits_for_room_instead(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        server.service.deployment.ms = 1.0
        body = b"\n".join(b'"word1 word2"' for _ in range(500))
        sent = [server.client.post("/v1/stream", content=body) for _ in range(3)]
        for got in await asyncio.gather(*sent):
            assert len(got.text.splitlines()) == 500 and "error" not in got.text

    run(certified, work, limits={"queued_ms": 0.001})


def test_bodies_are_bounded_in_bytes_items_depth_and_kind(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        post: Callable[..., Any] = server.client.post
        cases = {
            b'{"inputs": "' + b"a" * 3000 + b'"}': 413,
            b'{"inputs": [' + b",".join([b'"a"'] * 21) + b"]}": 413,
            b'{"inputs": ' + b"[" * 30 + b"]" * 30 + b"}": 400,
            b"[" * 1900: 400,
            b'{"inputs": NaN}': 400,
            b'{"inputs": "\xff"}': 400,
            b'{"inputs": ' + b"9" * 1500 + b"}": 400,
            b"": 400,
            b"[]": 422,
            b"{}": 422,
            b'{"inputs": "a", "parameters": {"top_k": 0}}': 422,
            b'{"inputs": "a", "parameters": {"function_to_apply": "sigmoid"}}': 422,
        }
        for body, status in cases.items():
            got = await post("/", content=body)
            assert got.status_code == status, (body[:40], got.text)
            assert set(got.json()) == {"error"}
        line = await post("/v1/stream", content=b'"' + b"a" * 3000 + b'"')
        assert line.json() == {"error": "a line has more than 2000 bytes"}
        assert (await post("/nothing")).json() == {"error": "no such address or method"}
        for header in ("0", "-1", "nan", "soon", "inf"):
            given = {"X-Deadline-Ms": header}
            got = await server.post("/", {"inputs": "a"}, headers=given)
            assert got.status_code == 400

    run(certified, work, limits={"bytes": 2000, "items": 20})


def test_a_body_that_comes_too_slowly_is_given_up(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        async def body() -> Any:
            yield b'{"inputs": '
            await asyncio.sleep(30)

        got = await server.client.post("/", content=body())
        assert got.status_code == 408
        assert server.service.load.requests == 0

    run(certified, work, limits={"body_s": 0.05})


def test_json_is_as_deep_as_allowed_and_no_deeper() -> None:
    assert parse(b"[[1]]", 2) == [[1]]
    with refused(400):
        parse(b'[{"a": []}]', 2)
    with refused(400):
        parse(b"[" * 100_000 + b"]" * 100_000, 16)


def test_rows_of_a_client_that_has_gone_leave_the_engine(
    certified: Bundle, held: threading.Event
) -> None:
    async def work(server: Served) -> None:
        gone, loop = asyncio.Event(), server.service.deployment.loop
        body, sent = [b'{"inputs": ["word1", "word2 word3"]}'], []

        async def receive() -> dict[str, Any]:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
        held.clear()
        other = asyncio.create_task(server.post("/", {"inputs": TEXTS}))
        await until(lambda: loop.began is not None)
        vanishing = asyncio.create_task(server.app(scope, receive, send))
        await until(lambda: server.service.load.requests == 2)
        await until(lambda: len(server.service._waiting) == 2)
        (job,) = [each for each in server.service._waiting if len(each.tokens) == 2]
        gone.set()
        await vanishing
        assert sent[0]["status"] == 499
        held.set()
        assert len((await other).json()) == len(TEXTS)
        await until(lambda: not loop._busy)
        assert job.left == 2  # its rows were never answered
        assert server.service.load.requests == 0

    run(certified, work)


def test_a_deadline_gives_the_best_answer_so_far_and_says_so(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = threading.Event()
    run_layers = certified.tiers[2].backbone.run

    def slow(*given: Any) -> Any:
        late.wait(0.4)
        return run_layers(*given)

    async def work(server: Served) -> None:
        server.service.deployment.loop.step_s = 0.0
        monkeypatch.setattr(certified.tiers[2].backbone, "run", slow)
        soon = {"X-Deadline-Ms": "150"}
        got = await server.post("/v1/classify", {"input": TEXTS * 3}, headers=soon)
        assert got.status_code == 200
        data = got.json()["data"]
        hit = [each for each in data if each.get("routing", {}).get("deadline_hit")]
        assert hit and all(not each["routing"]["covered"] for each in hit)
        assert all(each["label"] in certified.labels and sum(each["probs"]) > 0.9 for each in hit)
        whole = await server.post("/", {"inputs": TEXTS[0]})
        assert whole.json()[0]["routing"]["deadline_hit"] is False

    run(certified, work)


def test_a_deadline_before_any_answer_is_an_error(certified: Bundle, held: threading.Event) -> None:
    async def work(server: Served) -> None:
        held.clear()
        first = asyncio.create_task(server.post("/", {"inputs": TEXTS}))
        await until(lambda: server.service.deployment.loop.began is not None)
        soon = {"X-Deadline-Ms": "20"}
        second = asyncio.create_task(server.post("/", {"inputs": "word1"}, headers=soon))
        await asyncio.sleep(0.1)
        held.set()
        assert (await second).status_code == 504
        assert (await first).status_code == 200

    run(certified, work)


def test_a_stream_s_piece_waits_until_there_is_room() -> None:
    async def work() -> None:
        load, order = Load(Limits(queued_ms=10.0)), []

        async def piece(name: str, cost: float) -> None:
            async with load.rows(cost, in_turn=True):
                order.append(name)
                await asyncio.sleep(0.01)
                order.append(f"{name} done")

        await asyncio.gather(piece("first", 8.0), piece("second", 8.0))
        assert order == ["first", "first done", "second", "second done"]
        with pytest.raises(Refusal):
            async with load.rows(5.0), load.rows(6.0):
                pass
        assert load.queued_ms == 0.0

    asyncio.run(work())


def test_requests_of_one_turn_of_the_event_loop_join_the_engine_together(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[int] = []
    submit = Engine.submit

    def counted(self: Engine, tokens: Tokens, *given: Any) -> Any:
        joined.append(len(tokens))
        return submit(self, tokens, *given)

    async def work(server: Served) -> None:
        service, caller = server.service, Keyring(()).caller(None, "predict")
        alone = [await service.answer(Ask([text]), caller) for text in TEXTS]
        joined.clear()
        found = await asyncio.gather(*(service.answer(Ask([text]), caller) for text in TEXTS))
        assert joined == [len(TEXTS)]
        assert [each.best(0) for each in found] == [each.best(0) for each in alone]

    monkeypatch.setattr(Engine, "submit", counted)
    run(certified, work)


def test_rows_that_cannot_join_fail_alone(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, bad = Engine.submit, TEXTS[0]

    async def work(server: Served) -> None:
        service, caller = server.service, Keyring(()).caller(None, "predict")
        prepared = await service.prepared(service.deployment, Ask([bad]), "truncate")
        ids = prepared.tokens.ids.tolist()

        def fails(self: Engine, tokens: Tokens, *given: Any) -> Any:
            if ids == tokens.ids[: len(ids)].tolist():  # the first of those that join
                raise MemoryError
            return submit(self, tokens, *given)

        monkeypatch.setattr(Engine, "submit", fails)
        found = await asyncio.gather(*(service.answer(Ask([text]), caller) for text in TEXTS))
        assert [len(each.errors) for each in found] == [1] + [0] * (len(TEXTS) - 1)

    run(certified, work)
