"""The engine: rows are submitted, batches run from exit to exit, finished rows come out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.device.transfer import fetch, put
from adaptive.engine.batching import Limits, Slots, budget_of
from adaptive.engine.exits import on_host, reaches
from adaptive.engine.finished import NONE, Finished, collect, finish, in_order, kept
from adaptive.engine.hops import HopInput, HopOutput, HopSettings, run_hop
from adaptive.engine.plan import Hop, plan_of
from adaptive.engine.rows import (
    CANCELLED,
    NO_DEADLINE,
    TAKEN,
    Batch,
    SlotTable,
    lengths_of,
    slots_of,
)
from adaptive.engine.scheduler import Scheduler
from adaptive.errors import BatchError
from adaptive.policy.lookup import choose_entry
from adaptive.routers.features import router_features, token_statistics
from adaptive.tiers.graphs import torch_threads
from adaptive.types import Answers, Policy, Tokens

# An exit before the first layer takes this many rows at once: it is a few small calls.
SHALLOW_ON_CPU, SHALLOW_ELSEWHERE = 1024, 16384
# Batches that are launched before the first of them is decided on. While a GPU computes one, the
# host decides on the other; a CPU computes and decides in the same thread.
IN_FLIGHT_ON_CPU, IN_FLIGHT_ELSEWHERE = 1, 2
Result = TypeVar("Result")


def answer(
    bundle: Bundle,
    tokens: Tokens,
    policy: Policy,
    batch_size: int,
    budget: int | None = None,
    *,
    whole: bool = True,
) -> Answers:
    """Answer every token row under the policy: an engine used by one caller.

    Args:
        tokens: r rows.
        batch_size, budget, whole: see `Engine`.

    Returns:
        Answers of the r rows, in their order.

    Raises:
        RuntimeError: what a batch raised, as it was raised.
    """
    return answer_by(Engine(bundle, policy, batch_size, budget, whole=whole), tokens)


@torch.inference_mode()
def answer_by(engine: Engine, tokens: Tokens) -> Answers:
    """The same by an engine that has no other rows, and has none afterwards.

    Raises:
        RuntimeError: what a batch raised; the engine may hold rows then.
    """
    engine.submit(tokens)
    parts = []
    while not engine.idle:
        try:
            parts.append(engine.step(more=False))
        except BatchError as error:
            raise error.cause from None
    slots, found = collect(parts)
    if engine.settings.whole and found.probabilities is None:  # there are no rows
        labels = len(engine.bundle.labels)
        found = replace(found, probabilities=np.zeros((0, labels), np.float32))
    return in_order(found, np.argsort(slots))


@dataclass(frozen=True, slots=True)
class Running:
    """A batch whose hop was launched, and what there is to decide by."""

    place: int  # of the hop in the plan
    batch: Batch  # as it stands behind the hop
    output: HopOutput
    risk: Callable[[], NDArray[Any]] | None  # [b, m] what the router says


class Engine:
    """One cascade under one policy, for rows that come and go at any time.

    `submit` gives each row a slot, a line in the slot table. Each `step` runs one batch of rows
    that wait before the same hop, from one switched-on exit to the next, of whatever tier. Rows
    that are sure enough leave and free their slots; the others wait before their next hop, where
    rows submitted later catch up with them. Rows of a batch do not influence each other, so no
    answer depends on company. One thread uses an engine; other engines may share the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        policy: Policy,
        batch_size: int,
        budget: int | None = None,
        *,
        whole: bool = True,
        keep: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An engine without rows.

        Args:
            batch_size: rows that layers run at once, at most; embeddings take more.
            budget: tokens that run at once, at most; None for what suits the device. Halved, with
                a warning, where memory runs out.
            whole: all scores are wanted, not the greatest alone.
            keep: what each exit says of rows that go on is kept, for `give_up`.
            clock: tells the time, in the unit of the deadlines.
        """
        self.bundle, self.policy, self.keep, self.clock = bundle, policy, keep, clock
        self.plan = plan_of(tuple(tier.depths for tier in bundle.tiers), policy)
        self.limits = Limits(batch_size, budget or budget_of(bundle.device))
        on_cpu = bundle.device.type == "cpu"
        self.in_flight = IN_FLIGHT_ON_CPU if on_cpu else IN_FLIGHT_ELSEWHERE
        shallow = SHALLOW_ON_CPU if on_cpu else SHALLOW_ELSEWHERE
        self.torch_threads = torch_threads(bundle.tiers)
        self.routed = policy.risk_weight is not None
        self.settings = HopSettings(
            reliability=bundle.reliability,
            device=bundle.device,
            bare=self.plan.bare,
            whole=whole,
            anchored=self.plan.anchored,
            routed=self.routed and bundle.router is not None,
            in_graph=bundle.task.exclusive and any(tier.in_graphs for tier in bundle.tiers),
            task=bundle.task,
        )
        self.rows = SlotTable()
        most = [
            batch_size if bundle.tiers[hop.tier].depths[hop.exits[-1]] else max(batch_size, shallow)
            for hop in self.plan.hops
        ]
        begins = [hop.begins for hop in self.plan.hops]
        self.scheduler = Scheduler(begins, most, self.rows, self.limits)
        self.running: deque[Running] = deque()

    @property
    def idle(self) -> bool:
        """Whether no row is in the engine."""
        return not self.rows.live and not self.running

    def submit(self, tokens: Tokens, deadline: float | NDArray[np.float64] = NO_DEADLINE) -> Slots:
        """Rows join; those of an engine without rows get the slots 0, 1, ....

        Args:
            tokens: r rows.
            deadline: when a row waits no longer for others to fill its batch, on the engine's
                clock; one for all or [r].

        Returns:
            The slot of each row, [r]. It is the row's until a step returns or names it, or it is
            cancelled.

        Raises:
            ValueError: token types are given unlike those of the rows in the engine.
        """
        statistics = token_statistics(tokens, self.bundle.log_frequency) if self.routed else None
        slots = self.rows.add(tokens, self.policy.path[0], deadline, statistics)
        if len(slots):
            self.scheduler.enter(0, slots)
        return slots

    @torch.inference_mode()
    def cancel(self, slots: Slots) -> None:
        """Rows leave unanswered; slots that are free already are passed over.

        Those in a batch that runs on the device leave when it comes back.
        """
        slots = np.unique(slots)
        slots = slots[self.rows.status[slots] == TAKEN]
        runs = np.isin(slots, slots_of([running.batch for running in self.running]))
        self.rows.cancel(slots[runs])
        self.scheduler.remove(slots[~runs])
        self.rows.release(slots[~runs])

    def give_up(self, slots: Slots) -> list[Finished]:
        """Rows leave with what the last exit that was asked said, unsure as it was.

        Needs `keep`. Rows of which no exit was asked yet leave unanswered, as by `cancel`; slots
        that are free already are passed over.

        Returns:
            Those that have an answer, by stage.
        """
        slots = np.unique(slots)
        slots = slots[self.rows.status[slots] == TAKEN]
        stages = self.rows.last[slots]
        found = [kept(self.rows, slots[stages == each], each) for each in set(stages.tolist())]
        self.cancel(slots)
        return [part for part in found if part.stage >= 0]

    def step(self, *, more: bool = True) -> Finished:
        """Run the best batch, and give what it finished.

        On a GPU a second batch is launched before the first one's rows are decided on.

        Args:
            more: rows may still be submitted. Else batches that are not full run from the front
                to the back, and each waits for whatever can still join it.

        Raises:
            BatchError: the batch failed. Its rows have left, unanswered; all others go on.
        """
        with self.torch_threads():
            if torch.is_inference_mode_enabled():  # entering it takes as long as some of the rest
                return self._step(more)
            with torch.inference_mode():
                return self._step(more)

    def _step(self, more: bool) -> Finished:
        while len(self.running) < self.in_flight:
            places = [running.place for running in self.running]
            chosen = self.scheduler.choose(self._now(), places, more=more)
            if chosen is None:
                break
            place, parts = chosen[0], self.scheduler.take(*chosen)
            launch = partial(self._launch, place, parts)
            launched = self._attempt(launch, place, slots_of(parts), lengths_of(parts))
            if launched is not None:
                self.running.append(launched)
        if not self.running:
            return NONE
        running = self.running.popleft()
        batch, land = running.batch, partial(self._land, running)
        return self._attempt(land, running.place, batch.slots, batch.lengths) or NONE

    def _now(self) -> float:
        return self.clock() if self.rows.timed else 0.0

    def _launch(self, place: int, parts: list[Batch]) -> Running:
        """One batch through a hop; on a GPU it is under way when this returns."""
        batch, hop = self.scheduler.join(place, parts), self.plan.hops[place]
        parts.clear()  # their states are not needed behind the hop
        output = run_hop(self.bundle.tiers[hop.tier], hop, self._input(hop, batch), self.settings)
        anchor, risk = batch.anchor, None
        if hop.stages[0] == 0 and self.plan.anchored:
            assert output.anchor is not None
            anchor = output.anchor
            self.rows.remember(batch.slots, anchor)
            risk = self._ask_router(batch, output)
        after = Batch(batch.slots, batch.lengths, output.state, output.exit.history, anchor)
        return Running(place, after, output, risk)

    def _input(self, hop: Hop, batch: Batch) -> HopInput:
        """What a hop reads of a batch."""
        ids, types, anchor = None, None, batch.anchor
        if hop.begins:
            ids, types = self.rows.tokens_of(batch.slots)
        if hop.stages[0] and not self.plan.bare and anchor is None:
            anchor = self.rows.anchor_of(batch.slots)
        return HopInput(batch.lengths, ids, types, batch.state, batch.history, anchor)

    def _ask_router(
        self, batch: Batch, output: HopOutput
    ) -> Callable[[], NDArray[np.floating]] | None:
        """The risk of each tier, [b, m], on its way to the host; None without a router."""
        if not self.settings.routed:
            return None
        pooled, anchor, statistics = output.exit.pooled, output.anchor, self.rows.statistics
        assert pooled is not None and anchor is not None and statistics is not None
        assert self.bundle.router is not None
        here = put(statistics[batch.slots], self.bundle.device)
        shares = self.bundle.task.distribution(anchor)
        return fetch(self.bundle.router.risk(router_features(pooled, shares, here)))

    def _land(self, running: Running) -> Finished:
        """Rows of a batch that ran leave or wait again. What can fail comes first."""
        batch, hop = running.batch, self.plan.hops[running.place]
        if running.risk is not None:
            self.rows.enter(batch.slots, choose_entry(self.policy, running.risk()))
        leaving, onward = self._decide(running)
        behind = {
            place: self.scheduler.cut(place, batch.select(rows))
            for place, rows in onward.items()
            if not self.plan.hops[place].begins
        }
        finished = NONE
        if len(leaving):
            entry = self.rows.entry[batch.slots[leaving]]
            settings = self.settings
            finished = finish(batch.slots, leaving, hop.stage, entry, running.output, settings)
        for place, rows in onward.items():
            if self.keep:
                self._keep(running, rows)
            if place in behind:
                self.scheduler.add(place, behind[place])
            else:
                self.scheduler.enter(place, batch.slots[rows])
        self.rows.release(finished.slots)
        if self.rows.cancelled:
            self.rows.release(batch.slots[self.rows.status[batch.slots] == CANCELLED])
        return finished

    def _keep(self, running: Running, rows: NDArray[np.int64]) -> None:
        """What the exit said of the batch's rows that go on, at these places."""
        output, probabilities = running.output, running.output.exit.probabilities
        if probabilities is not None:
            probabilities = probabilities.index_select(0, put(rows, self.bundle.device))
        stage = self.plan.hops[running.place].stage
        said = on_host(output.summary)[rows]
        self.rows.keep(running.batch.slots[rows], stage, said, probabilities)

    def _decide(self, running: Running) -> tuple[NDArray[np.int64], dict[int, NDArray[np.int64]]]:
        """Which rows [b'] of a batch are answered here, and the others by the hop they go to.

        Cancelled ones are neither.
        """
        slots, hop = running.batch.slots, self.plan.hops[running.place]
        # The router parts the rows behind the first stage; later on all belong where they are.
        entry = self.rows.entry[slots] if hop.stage == 0 and self.routed else None
        if not self.policy.on(hop.stage):
            answered = np.zeros(len(slots), np.bool_)
        elif hop.last:
            answered = np.ones(len(slots), np.bool_)
        else:
            answered = reaches(running.output.summary, self.policy.thresholds[hop.stage])
        if entry is not None:
            answered = answered & (entry == 0)
        going = ~answered
        if self.rows.cancelled:
            wanted = self.rows.status[slots] != CANCELLED
            answered, going = answered & wanted, going & wanted
        leaving, staying = np.flatnonzero(answered), np.flatnonzero(going)
        if not len(staying):
            return leaving, {}
        following = running.place + 1
        if entry is None:
            return leaving, {following: staying}
        places = np.full(len(self.bundle.tiers), following)
        for tier, place in self.plan.entry.items():
            places[tier] = place if tier else following
        there = places[entry[staying]]
        return leaving, {place: staying[there == place] for place in np.unique(there).tolist()}

    def _attempt(
        self,
        work: Callable[[], Result],
        place: int,
        slots: Slots,
        lengths: NDArray[np.int64],
    ) -> Result | None:
        """What `work` makes of a batch before or behind a hop; None where memory ran out.

        Then its rows, and all that wait behind layers, begin their tiers anew: their states
        were in memory.

        Raises:
            BatchError: it failed otherwise; its rows have left.
        """
        try:
            result = self.limits.attempt(work, lengths)
        except Exception as error:
            failed = self._not_waiting(place, slots)
            wanted = self.rows.status[failed] == TAKEN
            self.rows.release(failed)
            tier = self.plan.hops[place].tier
            raise BatchError(failed[wanted].tolist(), error, tier) from error
        if result is None:
            again = self._not_waiting(place, slots)
            cancelled = self.rows.status[again] == CANCELLED
            self.rows.release(again[cancelled])
            waited = self.scheduler.give_up_states()
            for hop, each in [(place, again[~cancelled]), *waited.items()]:
                self.scheduler.enter(self.plan.entry[self.plan.hops[hop].tier], each)
        return result

    def _not_waiting(self, place: int, slots: Slots) -> Slots:
        """Those of a batch's rows that were not put back for being too many."""
        return np.setdiff1d(slots, self.scheduler.waiting[place].slots)
