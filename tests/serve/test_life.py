"""Start, reload, stop: nothing in flight is lost, and nothing wrong is ever served."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra `serve`")

import httpx
from tiny_server import TEXTS, Served, run, until
from typer.testing import CliRunner

from adaptive.bundle.contents import Bundle
from adaptive.cli import app
from adaptive.serve.keys import hash_of

ROOT = Path(__file__).resolve().parents[2]
ADMIN = {"Authorization": "Bearer ak_admin"}
KEYS = ({"name": "a", "sha256": hash_of("ak_admin"), "scopes": ["predict", "admin", "routing"]},)


def broken(bundle: Bundle) -> Bundle:
    tiers = copy.deepcopy(bundle.tiers)
    with torch.no_grad():
        for weights in tiers[1].parameters():
            weights.fill_(float("nan"))
    return replace(bundle, tiers=tiers)


def test_a_reload_under_load_loses_nothing_and_a_bad_bundle_is_not_taken(
    tiny_cascade: Bundle,
) -> None:
    current = [tiny_cascade]

    async def work(server: Served) -> None:
        answered: list[int] = []
        going = True

        async def ask() -> None:
            while going:
                body = {"inputs": TEXTS}
                got = await server.post("/", body, headers=ADMIN)
                assert all("score" in each[0] for each in got.json())
                answered.append(got.status_code)

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        first = server.service.deployment
        settled: list[int] = []
        server.service.settle = lambda: settled.append(first.users)
        current[0] = replace(tiny_cascade, name="second")
        got = await server.client.post("/admin/reload", headers=ADMIN)
        assert got.status_code == 200 and got.json()["bundle"] == "second"
        second = server.service.deployment
        assert second is not first
        current[0] = broken(tiny_cascade)
        refused = await server.client.post("/admin/reload", headers=ADMIN)
        assert refused.status_code == 409
        assert "golden inputs failed on 1 of 3 tiers: mid" in refused.json()["error"]
        assert server.service.deployment is second
        seen = len(answered)
        while len(answered) < seen + 8:
            await asyncio.sleep(0.005)
        going = False
        await asyncio.gather(*clients)
        assert set(answered) == {200}
        assert first.users == 0
        assert await asyncio.to_thread(first.loop.join, 10)  # its thread has ended
        await until(lambda: len(settled) > 0)
        assert set(settled) == {0}  # once the first bundle had answered all that it had begun

    run(lambda: current[0], work, keys=KEYS)


def test_before_it_is_ready_probes_are_answered_and_nothing_else(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        server.service.started = False
        assert (await server.client.get("/health/live")).status_code == 200
        for path in ("/health/ready", "/health/startup", "/v2/health/ready"):
            assert (await server.client.get(path)).status_code == 503
        got = await server.post("/", {"inputs": TEXTS})
        assert got.status_code == 503 and got.headers["retry-after"]
        stream = await server.client.post("/v1/stream", content=b'"word1"')
        assert stream.status_code == 503
        server.service.started = True
        assert (await server.client.get("/health/startup")).json() == {"started": True}

    run(tiny_cascade, work)


def test_metrics_tell_who_answered_and_what_it_cost(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        await server.post("/", {"inputs": [*TEXTS, None]})
        lines = (await server.client.get("/metrics")).text.splitlines()
        figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        answers = {k: float(v) for k, v in figures.items() if "adaptive_answers_total" in k}
        assert sum(answers.values()) == len(TEXTS)
        assert float(figures["adaptive_items_refused_total"]) == 1
        assert float(figures['adaptive_requests_total{route="/",status="200"}']) == 1
        for stage in ("pre", "engine", "post", "total"):
            assert float(figures[f'adaptive_stage_seconds_count{{stage="{stage}"}}']) == 1
        assert float(figures["adaptive_requests_in_flight"]) == 0
        assert float(figures["adaptive_state"]) == 1

    run(tiny_cascade, work)


def test_wrong_usage_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2 and "expected a bundle" in result.stderr
    result = CliRunner().invoke(app, ["serve", "x", "--host", "0.0.0.0"])
    assert result.exit_code == 2 and "no keys" in result.stderr
    result = CliRunner().invoke(app, ["serve", str(tmp_path / "none")])
    assert result.exit_code == 3


@contextmanager
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own, and its address."""
    command = [sys.executable, "-m", "adaptive", "serve", str(folder), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        assert server.stderr is not None
        address, ready = "", False
        for text in server.stderr:
            line = json.loads(text) if text.startswith("{") else {}
            if line.get("message") == "listening":
                address = f"http://127.0.0.1:{line['port']}"
            ready = ready or line.get("message") == "ready"
            if address and ready:
                break
        assert address, "it did not start"
        yield server, address
    finally:
        server.kill()
        server.communicate()


@pytest.mark.slow
def test_sigterm_under_load_answers_what_is_in_flight_and_leaves(tiny_bundle: Path) -> None:
    async def load(server: subprocess.Popen[str], address: str) -> list[Any]:
        async def one(client: httpx.AsyncClient, index: int) -> Any:
            try:
                got = await client.post(f"{address}/", json={"inputs": TEXTS})
                return got.status_code if len(got.json()) == len(TEXTS) else got.text
            except httpx.ConnectError:
                return "refused"  # it listens no more

        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(timeout=30, limits=limits) as client:
            assert await one(client, 0) == 200
            sent = [asyncio.create_task(one(client, index)) for index in range(200)]
            while sum(task.done() for task in sent) < 20:
                await asyncio.sleep(0.001)
            server.send_signal(signal.SIGTERM)
            return await asyncio.gather(*sent, return_exceptions=True)

    with process(tiny_bundle) as (server, address):
        found = asyncio.run(load(server, address))
        assert server.wait(30) == 0
        assert found.count(200) >= 20
        # the kernel takes connections that the server has not taken yet when it ends to listen
        lost = [each for each in found if each not in (200, "refused")]
        assert all(isinstance(each, httpx.TransportError) for each in lost), lost
        children = subprocess.run(["ps", "--ppid", str(server.pid)], capture_output=True, text=True)
        assert len(children.stdout.splitlines()) <= 1


@pytest.mark.slow
def test_sighup_reloads(tiny_bundle: Path) -> None:
    with process(tiny_bundle) as (server, address):
        server.send_signal(signal.SIGHUP)
        assert server.stderr is not None
        for text in server.stderr:
            if json.loads(text)["message"] == "reloaded":
                break
        assert httpx.get(f"{address}/health/ready").json()["state"] == "ready"
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
