"""What is served now: requests through it, its exchange for another bundle, its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from adaptive.errors import AdaptiveError
from adaptive.options import Overflow
from adaptive.serve.audit import Audit
from adaptive.serve.canary import Trial, check_promise
from adaptive.serve.deployment import Deployment, Level
from adaptive.serve.feedback import Quarantine
from adaptive.serve.jobs import FAILED, Job
from adaptive.serve.keys import Caller
from adaptive.serve.limits import Load
from adaptive.serve.logs import told
from adaptive.serve.metrics import STATES, Metrics
from adaptive.serve.post import Replies, replies
from adaptive.serve.pre import Prepared, prepare
from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Settings
from adaptive.serve.traces import make_traces
from adaptive.types import Policy

log = logging.getLogger("adaptive.serve")
Deliver = Callable[[list[Job]], None]
Opener = Callable[[Deliver], Deployment]
TOKENISERS = 2  # threads; one request's texts are tokenised by one of them
FEW, SHORT = 4, 2000  # items, letters that the event loop tokenises itself: a thread costs as much
INLINE = 32  # items that are rendered in the event loop: a thread would cost as much


class GoneError(Exception):
    """The client has gone; nothing is answered."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request wants."""

    items: Sequence[Any]
    target: str | None = None
    overflow: Overflow | None = None  # None: the preset's
    function: str | None = None  # of scores, which the bundle's task has
    deadline: float | None = None  # on the monotonic clock
    paired: bool | None = None  # whether they have to be pairs
    in_turn: bool = False  # whether it waits for room, as pieces of a stream


class Service:
    """One application's state; used in the event loop's thread.

    Attributes:
        deployment: the one that new requests get.
        settle: called where all that is served has been loaded, at the start and after a change.
        state: of `STATES`, but for `degraded`.
    """

    def __init__(self, settings: Settings, opener: Opener, canary: Opener | None = None) -> None:
        """A service that has not started.

        Args:
            opener: opens the bundle, now and at each reload.
            canary: opens the settings' canary.
        """
        self.settings, self._opener, self._canary_opener = settings, opener, canary
        self.trial: Trial | None = None
        self.load, self.metrics = Load(settings.limits), Metrics(make_traces(settings.traces))
        self.deployment = opener(self._deliver)
        self.audit = Audit(settings.audit, self.deployment, self.metrics)
        self.started = self.hung = self.draining = False
        self.settle: Callable[[], None] = _nothing
        self._changed = False  # what is served, since `settle` was called
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = ThreadPoolExecutor(TOKENISERS, "pre")
        self._waiting: dict[Job, Deployment] = {}
        self._joining: list[tuple[Deployment, Job]] = []
        self._reloading = asyncio.Lock()
        self.quarantine = Quarantine(settings.feedback)
        self._tasks: list[asyncio.Task[None]] = []
        self._gauges()

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        return self.settings.name or self.deployment.bundle.name

    @property
    def state(self) -> str:
        """How it is, in a word."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        if self.hung or len(self.deployment.loop.fenced) == len(self.deployment.bundle.tiers):
            return "hung"
        return "degraded" if self.deployment.loop.fenced else "ready"

    async def start(self) -> None:
        """Try golden inputs, warm up, begin to answer.

        Raises:
            BundleError: a tier does not answer as it should.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(_make_ready, self.deployment)
        self.deployment.loop.start()
        self._tasks.append(asyncio.create_task(self._watch()))
        self.settle()
        self.started = True
        told("ready", bundle=self.deployment.bundle.name, levels=list(self.deployment.levels))

    async def stop(self) -> None:
        """End the threads; what is in flight has been waited for."""
        self.draining = True
        for task in self._tasks:
            task.cancel()
        self.roll_back("the server stops")
        self.deployment.loop.stop()
        if self.started and not self.hung:
            await asyncio.to_thread(self.deployment.loop.join, self.settings.drain_s)
        self._threads.shutdown(wait=False, cancel_futures=True)
        told("stopped", lost=len(self._waiting))

    @contextmanager
    def deployed(self, ask: Ask | None = None) -> Iterator[Deployment]:
        """The deployment of now, which is kept until the caller is done with it.

        Args:
            ask: a request that a canary may answer.

        Raises:
            Refusal: it cannot answer.
        """
        if not self.started:
            raise Refusal(503, "the server is starting", 1.0)
        if self.state == "hung":
            raise Refusal(503, "the model does not answer", 5.0)
        deployment, trial = self.deployment, self.trial
        if trial is not None and ask is not None and trial.takes(ask.target):
            deployment = trial.deployment
        deployment.users += 1
        try:
            yield deployment
        finally:
            deployment.users -= 1
            self._let_go(deployment)

    def _let_go(self, deployment: Deployment) -> None:
        """End a deployment that is served no more, once no request holds it."""
        trial = self.trial
        on_trial = trial is not None and deployment is trial.deployment
        if not (deployment.users or deployment is self.deployment or on_trial):
            deployment.loop.stop()
            self._changed = True

    async def answer(
        self, ask: Ask, caller: Caller, gone: asyncio.Future[None] | None = None
    ) -> Replies:
        """Answer a request's items.

        Args:
            gone: is done when the client has gone.

        Raises:
            Refusal: it cannot be, or not now.
            GoneError: the client has gone; its rows have left the engine.
        """
        with self.deployed(ask) as deployment:
            return await self.answer_by(deployment, ask, caller, gone)

    async def answer_by(
        self,
        deployment: Deployment,
        ask: Ask,
        caller: Caller,
        gone: asyncio.Future[None] | None = None,
    ) -> Replies:
        """The same by a deployment that is held."""
        level = deployment.level(ask.target)
        if caller.account.spent:
            level = replace(level, policy=deployment.full)
        overflow = ask.overflow or deployment.preset.overflow
        with self.metrics.stage("pre"):
            prepared = await self.prepared(deployment, ask, overflow)
        job = self.job(deployment, level.policy, prepared, ask.deadline)
        cost = float(job.cost.sum())
        caller.spend_cost(cost)
        spent = 0.0
        try:
            async with self.load.rows(cost, in_turn=ask.in_turn):
                spent = cost  # whatever ends it, so that going away or giving up is not for free
                with self.metrics.stage("engine"):
                    await self.run(deployment, job, gone)
            if deployment.loop.decides(level.policy) is None and (job.state == FAILED).any():
                raise Refusal(503, "no tier of the model is in order", 5.0)
            with self.metrics.stage("post"):
                found = await self._render(deployment, level, prepared, job, ask, overflow)
            own, full = float(found.joined.cost.sum()), float(found.full_cost.sum())
            spent = own * deployment.ms
            caller.account.note(own, full, deployment.longest)
        finally:
            caller.refund_cost(cost - spent)
        self.metrics.count(found)
        if deployment is self.deployment:
            self.audit.consider(level, prepared, found)
        elif self.trial is not None and deployment is self.trial.deployment:
            self.trial.audit.consider(level, prepared, found)
        return found

    async def prepared(self, deployment: Deployment, ask: Ask, overflow: Overflow) -> Prepared:
        """A request's items as token rows."""
        work = partial(
            prepare,
            deployment.bundle,
            ask.items,
            overflow=overflow,
            stride=deployment.stride,
            paired=ask.paired,
        )
        few = len(ask.items) <= FEW and _letters(ask.items) <= SHORT
        if few and not deployment.bundle.redact:  # which may take milliseconds a text
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def job(
        self,
        deployment: Deployment,
        policy: Policy,
        prepared: Prepared,
        deadline: float | None = None,
        *,
        patient: bool = False,
    ) -> Job:
        """Token rows for the loop."""
        lengths = prepared.tokens.lengths
        if deadline is None and self.settings.deadline_ms is not None:
            deadline = time.monotonic() + self.settings.deadline_ms / 1000.0
        return Job(
            prepared.tokens,
            policy,
            len(deployment.bundle.labels),
            deadline=float("inf") if deadline is None else deadline,
            cost=deployment.expected_ms(policy, lengths),
            patient=patient,
        )

    async def run(
        self, deployment: Deployment, job: Job, gone: asyncio.Future[None] | None = None
    ) -> None:
        """Have the loop answer a job; whatever ends the wait, the rows leave the engine."""
        job.result = done = asyncio.get_running_loop().create_future()

        def left(gone: asyncio.Future[None]) -> None:
            if not done.done():
                done.set_exception(GoneError())

        self._waiting[job] = deployment
        self._join(deployment, job)
        try:
            if gone is not None:
                gone.add_done_callback(left)
            await done
        finally:
            if gone is not None:
                gone.remove_done_callback(left)
            self._waiting.pop(job, None)
            if not job.delivered:
                deployment.loop.cancel(job)

    def _join(self, deployment: Deployment, job: Job) -> None:
        """A job joins the engine, together with all others of this turn of the event loop.

        One at a time they would be run one at a time, since the engine's thread begins as soon as
        it has a row.
        """
        if not self._joining:
            asyncio.get_running_loop().call_soon(self._submit)
        self._joining.append((deployment, job))

    def _submit(self) -> None:
        joining, self._joining = self._joining, []
        for deployment in dict.fromkeys(deployment for deployment, _ in joining):
            deployment.loop.submit([job for each, job in joining if each is deployment])

    async def _render(
        self,
        deployment: Deployment,
        level: Level,
        prepared: Prepared,
        job: Job,
        ask: Ask,
        overflow: Overflow,
    ) -> Replies:
        work = partial(
            replies,
            deployment.bundle,
            prepared,
            job,
            deployment.priced(level, overflow, prepared.paired),
            deployment.prices(deployment.full),
            function=ask.function,
        )
        return work() if len(prepared) <= INLINE else await asyncio.to_thread(work)

    def _deliver(self, jobs: list[Job]) -> None:
        """Jobs that are done; called in a loop's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, jobs)

    async def reload(self) -> None:
        """Open the bundle again, try it, and put it in the place of the one that is served.

        What is in flight is answered by the one that it began with. Where anything is wrong with
        the new one, all stays as it is.

        Raises:
            Refusal: there is a reload already, or the new one cannot be served.
        """
        if self._reloading.locked():
            raise Refusal(409, "the bundle is being reloaded already")
        async with self._reloading:
            try:
                new = await asyncio.to_thread(self._opened)
            except (AdaptiveError, OSError) as error:
                self.metrics.reloads.labels("refused").inc()
                log.error("the bundle was not exchanged: %s", type(error).__name__)
                raise Refusal(409, f"the bundle was not exchanged: {error}") from None
            audit = Audit(self.settings.audit, new, self.metrics)
            audit.inherit(self.audit)
            new.loop.start()
            old, self.deployment, self.audit = self.deployment, new, audit
            self.hung = False
            self._let_go(old)
            self.metrics.reloads.labels("done").inc()
            told("reloaded", bundle=new.bundle.name, levels=list(new.levels))

    async def start_trial(self) -> None:
        """Open the settings' canary, try it, and let it answer its share of the requests.

        Raises:
            Refusal: there is none, or one is on trial already, or it cannot be served.
        """
        if self._canary_opener is None:
            raise Refusal(409, "the settings name no canary")
        if self.trial is not None or self._reloading.locked():
            raise Refusal(409, "a canary is on trial already, or the bundle is being reloaded")
        async with self._reloading:
            try:
                canary = await asyncio.to_thread(self._opened, self._canary_opener)
            except (AdaptiveError, OSError) as error:
                log.error("the canary was not opened: %s", type(error).__name__)
                raise Refusal(409, f"the canary was not opened: {error}") from None
            check_promise(canary, self.deployment)
            canary.loop.start()
            self.trial = Trial(canary, self.settings, self.roll_back)
            told("canary", bundle=canary.bundle.name, share=self.trial.share)

    def roll_back(self, why: str) -> None:
        """End the trial of a canary, if there is one; what it has begun it answers."""
        trial, self.trial = self.trial, None
        if trial is not None:
            self.metrics.rollbacks.inc()
            log.warning("the canary was rolled back after %d requests: %s", trial.requests, why)
            self._let_go(trial.deployment)

    def _opened(self, opener: Opener | None = None) -> Deployment:
        deployment = (opener or self._opener)(self._deliver)
        _make_ready(deployment)
        return deployment

    async def _watch(self) -> None:
        """Whether the engine's step takes too long; its requests are then given up."""
        limit = self.settings.hang_s
        while True:
            await asyncio.sleep(min(1.0, limit / 4.0))
            if self._changed and not self._reloading.locked():
                self._changed = False
                self.settle()
            was, self.hung = self.hung, _hangs(self.deployment, limit)
            if self.hung and not was:
                log.error("a step of the engine takes more than %g seconds", limit)
            if self.trial is not None:
                canary = self.trial.deployment
                if canary.loop.fenced or _hangs(canary, limit):
                    self.roll_back("a tier of it is out of order")
            for job, deployment in list(self._waiting.items()):
                if _hangs(deployment, limit) and not job.result.done():
                    job.result.set_exception(Refusal(503, "the model does not answer", 5.0))

    def _canary_share(self) -> float:
        return 0.0 if self.trial is None else self.trial.share

    def _gauges(self) -> None:
        gauge, load = self.metrics.gauge, self.load
        gauge("requests_in_flight", "Requests in flight", lambda: load.requests)
        gauge("queued_milliseconds", "Expected time of rows in flight", lambda: load.queued_ms)
        gauge("canary_share", "Share of requests that a canary answers", self._canary_share)
        gauge("state", f"Number in: {', '.join(STATES)}", lambda: STATES.index(self.state))
        gauge("tiers_fenced", "Tiers fenced off", lambda: len(self.deployment.loop.fenced))
        gauge(
            "certified_levels",
            "Levels that may be asked for",
            lambda: sum(level.target is not None for level in self.deployment.levels.values()),
        )


def _nothing() -> None:
    pass


def _make_ready(deployment: Deployment) -> None:
    deployment.check()
    deployment.warm_up()


def _letters(items: Sequence[Any]) -> int:
    """The letters of items, of those that are no plain text too many."""
    return sum(len(item) if isinstance(item, str) else SHORT + 1 for item in items)


def _hangs(deployment: Deployment, limit: float) -> bool:
    """Whether the step that runs now takes more seconds."""
    loop = deployment.loop
    began = loop.began
    return began is not None and loop.clock() - began > limit


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.result is not None and not job.result.done():
            job.result.set_result(None)
