"""The application on a tiny cascade, in this process, and clients for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from tiny_cascade import tiny_texts

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle, LadderEntry
from adaptive.certifying.recertify import recertify
from adaptive.config import Preset
from adaptive.measure.recording import outcomes
from adaptive.serve.app import create_app
from adaptive.serve.deployment import Deployment
from adaptive.serve.service import Service
from adaptive.serve.settings import Settings
from adaptive.text import tokens as token_rows
from adaptive.types import NEVER, Policy, Target

TEXTS = tiny_texts(12, 7)


def certified_cascade(bundle: Bundle, metric: str = "agreement") -> Bundle:
    """The tiny cascade, certified for an agreement that its random tiers can keep.

    Args:
        metric: of another, labels are what the full tier answers.
    """
    texts = list(dict.fromkeys(tiny_texts(660, 2)))[:600]
    rows = token_rows.tokenize(bundle.tokenizer, texts, max_length=32)
    first, rest = (token_rows.select(rows, np.arange(300) + at) for at in (0, 300))
    told = [np.full(300, -1, np.int32)] * 2
    if metric != "agreement":
        told = [outcomes(bundle, part, told[0], 32).predictions[:, -1] for part in (first, rest)]
    search = outcomes(bundle, first, told[0], 32)
    family = []
    for share in (0.98, 0.95, 0.9, 0.8, 0.7, 0.6):
        levels = tuple(np.quantile(search.reliability, share, axis=0).tolist())
        family += [Policy((0, 1, 2), levels), Policy((2,), (*[NEVER] * 4, *levels[4:]))]
    ladder = tuple(LadderEntry(str(index), each) for index, each in enumerate(family))
    bundle = replace(bundle, outcomes={"search": search}, ladder=ladder)
    return recertify(bundle, rest, told[1], Target(metric, 0.4), levels=(0.6, 0.04))


@dataclass(frozen=True)
class Served:
    """An application that runs, and a client of it."""

    app: FastAPI
    client: httpx.AsyncClient

    @property
    def service(self) -> Service:
        """What it serves."""
        found: Service = self.app.state.service
        return found

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send JSON."""
        return await self.client.post(path, json=body, **options)


@asynccontextmanager
async def served(
    bundle: Bundle | Callable[[], Bundle],
    *,
    preset: dict[str, Any] | None = None,
    trial: Bundle | None = None,
    **given: Any,
) -> AsyncIterator[Served]:
    """Start, wait until it is ready, stop.

    Args:
        bundle: or what gives one, at the beginning and at each reload.
        trial: a canary.
        given: settings.
    """
    settings = Settings(**{"audit": {"share": 0}, **given})

    def deployment(found: Bundle, deliver: Any) -> Deployment:
        pipeline = AdaptivePipeline(found, Preset(bundle=found.name, **(preset or {})))
        return Deployment(pipeline, settings, deliver)

    def opened(deliver: Any) -> Deployment:
        return deployment(bundle if isinstance(bundle, Bundle) else bundle(), deliver)

    canary = None if trial is None else partial(deployment, trial)
    app, failures = create_app(settings, opened, canary), []

    def started(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            failures.append(task.exception())

    app.state.started = started
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client,
    ):
        found = Served(app, client)
        while not found.service.started:
            await asyncio.sleep(0.005)
            if failures:
                raise failures[0]
        yield found


def run(bundle: Any, work: Callable[[Served], Awaitable[None]], **settings: Any) -> None:
    """Do something with a server, and fail if it does not end."""

    async def all_of_it() -> None:
        async with asyncio.timeout(60), served(bundle, **settings) as server:
            await work(server)

    asyncio.run(all_of_it())


async def until(reached: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    while not reached():
        await asyncio.sleep(0.002)
