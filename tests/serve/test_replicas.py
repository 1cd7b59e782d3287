"""Replicas of the server, as far as it needs no Ray: the second try, what they share, how many."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_server import TEXTS, Served, run

from adaptive.bundle.contents import Bundle
from adaptive.errors import ConfigError
from adaptive.serve import relay
from adaptive.serve.metrics import Metrics
from adaptive.serve.refusals import Refusal
from adaptive.serve.relay import Reply, Sent, call, pass_on, seconds_of
from adaptive.serve.replicas import of_replicas, seconds_for, together
from adaptive.serve.scaling import QueuedCost
from adaptive.serve.settings import Settings

ANSWER = Reply(200, ((b"content-type", b"application/json"),), b"{}")


class DiedError(Exception):
    """What `ask` raises where a replica dies."""


def passed(replies: list[Any], path: str = "/", seconds: float = 5.0) -> tuple[Any, list[Sent]]:
    """What comes of a request where replicas do these things in turn, and what they were sent."""
    asked: list[Sent] = []

    async def ask(sent: Sent) -> Reply:
        asked.append(sent)
        found = replies[len(asked) - 1]
        if found is None:
            await asyncio.Event().wait()
        if isinstance(found, Exception):
            raise found
        reply: Reply = found
        return reply

    async def work() -> Any:
        try:
            return await pass_on(Sent("POST", path, b"", (), b""), ask, seconds, (DiedError,))
        except Refusal as refusal:
            return refusal.status

    return asyncio.run(work()), asked


def test_a_request_whose_replica_dies_is_sent_once_more_with_the_time_that_is_left() -> None:
    reply, asked = passed([DiedError(), ANSWER])
    assert reply == ANSWER and len(asked) == 2
    first, second = (float(dict(sent.headers)[b"x-deadline-ms"]) for sent in asked)
    assert 5000.0 >= first >= second > 0.0
    reply, asked = passed([DiedError(), DiedError(), ANSWER])
    assert reply == 503 and len(asked) == 2


@pytest.mark.parametrize("path", ["/v1/feedback", "/admin/reload"])
def test_what_changes_something_is_never_sent_twice(path: str) -> None:
    reply, asked = passed([DiedError(), ANSWER], path)
    assert reply == 503 and len(asked) == 1


def test_a_replica_that_does_not_answer_in_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "GRACE_S", 0.0)
    reply, asked = passed([None], seconds=0.01)
    assert reply == 504 and len(asked) == 1


def test_other_errors_of_a_replica_are_no_reason_to_ask_again() -> None:
    with pytest.raises(ValueError, match="own"):
        passed([ValueError("own"), ANSWER])


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(None, 2.0), (b"50", 0.05), (b"90000", 9.0), (b"soon", 2.0), (b"-1", 2.0), (b"nan", 2.0)],
)
def test_the_header_decides_how_long_a_request_may_take_up_to_the_most(
    told: bytes | None, seconds: float
) -> None:
    headers = () if told is None else ((b"x-deadline-ms", told),)
    assert seconds_of(headers, 2.0, 9.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("path", "told", "seconds"),
    [
        ("/", None, 0.05),
        ("/", b"9000", 9.0),
        ("/metrics", None, 20.0),
        ("/admin/reload", None, 600),
    ],
)
def test_a_deadline_for_answers_does_not_cut_a_reload_short(
    path: str, told: bytes | None, seconds: float
) -> None:
    headers = () if told is None else ((b"x-deadline-ms", told),)
    settings = Settings(deadline_ms=50, ray={"timeout_s": 20})
    sent = Sent("POST", path, b"", headers, b"")
    assert seconds_for(sent, settings) == pytest.approx(seconds)


def test_an_application_answers_in_its_own_process_as_over_http(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        body = f'{{"inputs": "{TEXTS[0]}"}}'.encode()
        for path, given in (("/", body), ("/v1/stream", b'"word1"\n"word2"\n'), ("/none", b"")):
            got = await server.client.post(path, content=given)
            headers = ((b"content-length", str(len(given)).encode()),)
            reply = await call(server.app, Sent("POST", path, b"", headers, given))
            assert (reply.status, reply.body) == (got.status_code, got.content)
        wrong = ((b"x-deadline-ms", b"soon"), (b"content-length", str(len(body)).encode()))

        async def ask(sent: Sent) -> Reply:
            return await call(server.app, sent)

        refused = await pass_on(Sent("POST", "/", b"", wrong, body), ask, 5.0, ())
        assert refused.status == 400

    run(tiny_cascade, work)


def test_a_call_that_is_cancelled_takes_its_rows_out_of_the_engine(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        body = b'{"inputs": ["word1 word2"]}'
        headers = ((b"content-length", str(len(body)).encode()),)
        task = asyncio.create_task(call(server.app, Sent("POST", "/", b"", headers, body)))
        while not server.service.load.requests:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.service.load.requests == 0 and server.service.load.queued_ms == 0.0

    run(tiny_cascade, work)


def test_replicas_share_budgets_and_the_chance_of_a_false_alarm() -> None:
    key = {"name": "web", "sha256": "0" * 64, "requests_a_minute": 9, "cost_a_minute": 100.0}
    one = Settings(keys=(key,), ray={"max_replicas": 4}, audit={"alpha": 0.02})
    own = of_replicas(one)
    assert (own.keys[0].requests_a_minute, own.keys[0].cost_a_minute) == (2, 25.0)
    assert own.audit.alpha == 0.005


def test_settings_for_one_process_alone_are_refused_each_by_its_name() -> None:
    key = {"name": "web", "sha256": "0" * 64, "requests_a_minute": 3}
    wrong = Settings(
        keys=(key,),
        canary={"bundle": "other"},
        feedback={"folder": "kept"},
        ray={"queued_ms": 5000.0},
    )
    with pytest.raises(ConfigError) as caught:
        of_replicas(wrong)
    starts = ("canary:", "feedback.folder:", "keys: web:", "ray.queued_ms:")
    assert all(fault.startswith(s) for fault, s in zip(caught.value.faults, starts, strict=True))


def test_figures_of_replicas_stand_on_one_page_and_a_refusal_is_everyones() -> None:
    pages = {}
    for name, count in (("a", 2), ("b", 3)):
        metrics = Metrics()
        metrics.requests.labels("/", 200).inc(count)
        metrics.gauge("state", "Number", lambda: 1.0)
        pages[name] = Reply(200, (), metrics.page())
    lines = together("/metrics", pages).body.decode().splitlines()
    assert 'adaptive_requests_total{replica="a",route="/",status="200"} 2.0' in lines
    assert 'adaptive_requests_total{replica="b",route="/",status="200"} 3.0' in lines
    assert sum(line.startswith("# TYPE adaptive_requests_total ") for line in lines) == 1
    refused = Reply(409, (), b"no")
    assert together("/admin/reload", {"a": Reply(200, (), b""), "b": refused}) == refused


def wanted(queued: dict[str, float], running: int = 2) -> float:
    context = SimpleNamespace(
        aggregated_metrics={"queued_ms": queued} if queued else {},
        current_num_replicas=running,
        target_num_replicas=running,
    )
    return QueuedCost(200.0)(context)[0]


def test_there_are_as_many_replicas_as_give_each_its_share_of_the_queued_cost() -> None:
    assert wanted({"a": 200.0, "b": 600.0}) == pytest.approx(4.0)
    assert wanted({"a": 100.0, "b": 0.0}) == pytest.approx(0.5)
    assert wanted({}) == 2
    assert wanted({"a": 400.0}) == pytest.approx(4.0)  # one of two has reported
