"""The hot loop: tier by tier, hop by hop, the sure leave and the unsure go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.batching import Queue, budget_of
from adaptive.bundle.contents import Bundle, stages_of
from adaptive.hops import Around, Before, Behind, Hop, run
from adaptive.opinions import Told, on_host
from adaptive.policy import choose_entry, is_bare, last_exits
from adaptive.pools import Live, Pools, Rows, rows_of
from adaptive.routers.features import router_features, token_statistics
from adaptive.transfer import fetch, put
from adaptive.types import Answers, Policy, Tokens

# An exit before the first layer takes this many rows at once: it is a few small calls.
SHALLOW_ON_CPU, SHALLOW_ELSEWHERE = 1024, 16384
# Batches that are launched before the first of them is decided on. While a GPU computes one, the
# host decides on the other; a CPU computes and decides in the same thread.
IN_FLIGHT_ON_CPU, IN_FLIGHT_ELSEWHERE = 1, 2
Flags = NDArray[np.bool_]


@torch.inference_mode()
def answer(
    bundle: Bundle,
    tokens: Tokens,
    policy: Policy,
    batch_size: int,
    budget: int | None = None,
    *,
    whole: bool = True,
) -> Answers:
    """Answer every token row under the policy.

    Each tier of the path runs over all rows that wait for it, sorted by length, in batches, from
    one switched-on exit to the next: a hop. Those that an exit does not answer are parked before
    the next hop until they make a full batch with others, or no more can come; those still unsure
    after the tier's last switched-on exit wait for the next tier. Rows of a batch do not
    influence each other.

    Args:
        tokens: r rows.
        batch_size: rows that layers run at once, at most; embeddings take more.
        budget: tokens it runs at once, at most; None for what suits the device. Halved, with a
            warning, where memory runs out.
        whole: all probabilities are wanted, not the best label's alone.

    Returns:
        Answers of the r rows, in their order.
    """
    wave = _Wave.start(bundle, tokens, policy, whole)
    budget = budget or budget_of(bundle.device)
    shallow = SHALLOW_ON_CPU if bundle.device.type == "cpu" else SHALLOW_ELSEWHERE
    for tier in wave.plan.tiers:
        if wave.answered.all():
            break
        hops = wave.plan.hops[tier]
        layers = bundle.tiers[tier].depths[hops[0].exits[-1]]  # of the first hop
        first = batch_size if layers else max(batch_size, shallow)
        queue = Queue(wave.waiting(tier), tokens.lengths, batch_size, budget, first)
        _run_tier(wave, tier, hops, queue)
        budget = queue.budget
    return wave.answers()


def _run_tier(wave: _Wave, tier: int, hops: Sequence[Hop], queue: Queue) -> None:
    """One tier over all rows that wait for it, deepest first, in batches that stay full."""
    pools = Pools([[] for _ in hops], queue)
    flying: deque[_Flight] = deque()
    while True:
        place = pools.ready(more=bool(flying))
        if place is not None and len(flying) < wave.in_flight:
            # the first hop's rows come from the queue, the others' from where they were parked
            parts = pools.take(place)
            rows = rows_of(parts) if place else queue.take()
            start = partial(_start, wave, pools, tier, hops[place], place, rows, parts)
            flight = queue.attempt(start, rows)
            if flight is None:
                queue.put_back(pools.give_up())
            else:
                flying.append(flight)
        elif flying:
            flight = flying.popleft()
            stay = queue.attempt(partial(_land, wave, pools, flight), flight.live.rows)
            if stay is None:
                queue.put_back(pools.give_up())
            else:
                pools.park(flight.place + 1, stay)
        else:
            return


def _start(
    wave: _Wave, pools: Pools, tier: int, hop: Hop, place: int, rows: Rows, parts: list[Live]
) -> _Flight:
    """One batch through a hop; on a GPU it is under way when this returns."""
    live = pools.batch(place, parts) if place else Live(rows)
    behind = run(wave.bundle.tiers[tier], hop, wave.before(live, hop), wave.around)
    live.state, live.history = behind.state, behind.said.history
    return wave.ask(live, hop, place, behind)


def _land(wave: _Wave, pools: Pools, flight: _Flight) -> list[Live]:
    """Those of a batch that go on behind a hop, by batches."""
    leaving, live = wave.decide(flight), flight.live
    if flight.hop.ends:
        return []
    if leaving is None or not leaving.any():
        return pools.cut(live)
    stay = np.flatnonzero(~leaving)
    return pools.cut(live.select(stay)) if len(stay) else []


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch behind a hop, and what there is to decide by."""

    live: Live
    hop: Hop
    place: int  # of the hop in its tier
    told: Told
    probabilities: torch.Tensor | None  # [b, c]
    risk: Callable[[], NDArray[Any]] | None  # [b, m] what the router says


@dataclass(frozen=True, slots=True)
class _Left:
    """Rows that one stage answered together."""

    rows: Rows  # [b]
    stage: int
    told: Told  # [b, 3]
    probabilities: torch.Tensor | None  # [b, c]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What follows from a policy alone."""

    bare: bool
    anchored: bool  # stages behind the first one are asked
    tiers: tuple[int, ...]  # that run, in their order
    hops: dict[int, tuple[Hop, ...]]  # of each of them


@lru_cache(maxsize=256)
def _plan(depths: tuple[tuple[int, ...], ...], policy: Policy) -> _Plan:
    """From one switched-on exit to the next; off the path, the anchor alone.

    Args:
        depths: of each tier's exits.
    """
    stages, bare = stages_of(depths), is_bare(policy)
    last = last_exits(policy, stages)
    final = last[policy.path[-1]]
    tiers = policy.path if bare else tuple(sorted({0, *policy.path}))
    hops = {}
    for tier in tiers:
        first = next(k for k, stage in enumerate(stages) if stage.tier == tier)
        end = last.get(tier, first)
        found: list[Hop] = []
        passed: list[int] = []
        for stage in range(end if bare else first, end + 1):
            passed.append(stage)
            # a router decides behind the first stage, whether that may answer or not
            if stage == end or policy.on(stage) or (stage == 0 and policy.risk_weight is not None):
                exits = tuple(each - first for each in passed)
                found.append(Hop(exits, tuple(passed), stage == end, stage == final))
                passed = []
        hops[tier] = tuple(found)
    return _Plan(bare, final > 0 and not bare, tiers, hops)


@dataclass(frozen=True, slots=True)
class _Wave:
    """The rows of one call, and who has left."""

    bundle: Bundle
    tokens: Tokens
    policy: Policy
    plan: _Plan
    around: Around
    device: torch.device
    in_flight: int  # batches, at most
    statistics: torch.Tensor | None  # [r, S] for the router
    # probabilities [*, c] at the first stage, and which of them are each row's, [r]
    heard: list[torch.Tensor]
    place: NDArray[np.int64]
    entry: NDArray[np.int32]  # [r] tier
    answered: Flags  # [r]
    left: list[_Left] = field(default_factory=list)

    @classmethod
    def start(cls, bundle: Bundle, tokens: Tokens, policy: Policy, whole: bool) -> _Wave:
        device, rows = bundle.device, len(tokens)
        plan = _plan(tuple(tier.depths for tier in bundle.tiers), policy)
        statistics = None
        if policy.risk_weight is not None:
            values = token_statistics(tokens, bundle.log_frequency)
            statistics = put(values, device)
        return cls(
            bundle=bundle,
            tokens=tokens,
            policy=policy,
            plan=plan,
            around=Around(
                reliability=bundle.reliability,
                device=device,
                bare=plan.bare,
                whole=whole,
                anchored=plan.anchored,
                routed=statistics is not None and bundle.router is not None,
                in_graph=any(tier.in_graphs for tier in bundle.tiers),
            ),
            device=device,
            in_flight=IN_FLIGHT_ON_CPU if device.type == "cpu" else IN_FLIGHT_ELSEWHERE,
            statistics=statistics,
            heard=[],
            place=np.zeros(rows, dtype=np.int64),
            entry=np.full(rows, policy.path[0], dtype=np.int32),
            answered=np.zeros(rows, dtype=np.bool_),
        )

    def waiting(self, tier: int) -> Rows:
        """Rows that this tier runs on: unanswered and entered by now; the first sees all."""
        if tier == 0:
            return np.arange(len(self.tokens))
        return np.flatnonzero(~self.answered & (self.entry <= tier))

    def before(self, live: Live, hop: Hop) -> Before:
        """What a hop reads of a batch."""
        if hop.stages[0] and not self.around.bare and live.anchor is None:
            if len(self.heard) > 1:
                self.heard[:] = [torch.cat(self.heard)]
            index = put(self.place[live.rows], self.device)
            live.anchor = self.heard[0].index_select(0, index)
        lengths = self.tokens.lengths[live.rows]
        count = int(lengths.sum())
        return Before(self.tokens, live.rows, lengths, count, live.state, live.history, live.anchor)

    def ask(self, live: Live, hop: Hop, place: int, behind: Behind) -> _Flight:
        """What a decision on a batch will need."""
        said, risk = behind.said, None
        if hop.stages[0] == 0 and self.around.anchored:
            assert behind.anchor is not None
            live.anchor = behind.anchor
            risk = self.look_first(live, behind.anchor, said.pooled)
        return _Flight(live, hop, place, behind.told, said.probabilities, risk)

    def look_first(
        self, live: Live, anchor: torch.Tensor, pooled: torch.Tensor | None
    ) -> Callable[[], NDArray[Any]] | None:
        """The anchor's opinion is kept; the router's of it, if there is one."""
        self.place[live.rows] = np.arange(len(live.rows)) + sum(map(len, self.heard))
        self.heard.append(anchor)
        if self.statistics is None or self.bundle.router is None:
            return None
        assert pooled is not None
        statistics = self.statistics[put(live.rows, self.device)]
        features = router_features(pooled, anchor, statistics)
        return fetch(self.bundle.router.risk(features))

    def decide(self, flight: _Flight) -> Flags | None:
        """Who leaves after this hop, [b]; None where all go on. Keeps their answers."""
        rows, stage = flight.live.rows, flight.hop.stage
        if flight.hop.last and stage:  # all that came here leave
            self.leave(flight)
            return None
        if flight.risk is not None:
            self.entry[rows] = choose_entry(self.policy, flight.risk())
        # The route parts the rows behind the first stage; later on all belong here.
        routed = stage == 0 and self.statistics is not None
        elsewhere = self.entry[rows] > 0 if routed else np.zeros(len(rows), np.bool_)
        if not self.policy.on(stage):
            return elsewhere if routed else None
        done = ~elsewhere
        if not flight.hop.last:
            # the one synchronisation
            done &= on_host(flight.told)[:, 2] >= np.float32(self.policy.thresholds[stage])
        gone = np.flatnonzero(done)
        if len(gone):
            self.leave(flight, gone if len(gone) < len(rows) else None)
        return done | elsewhere

    def leave(self, flight: _Flight, gone: Rows | None = None) -> None:
        """A batch is answered, or those at the places `gone`; probabilities stay on the device."""
        rows, answer = flight.live.rows, flight.told
        found = flight.probabilities if self.around.whole else None
        if gone is not None:
            rows, answer = rows[gone], partial(np.take, on_host(answer), gone, axis=0)
            if found is not None:
                found = found.index_select(0, put(gone, self.device))
        self.left.append(_Left(rows, flight.hop.stage, answer, found))
        self.answered[rows] = True

    def answers(self) -> Answers:
        """Everything on the host, in the order of the rows."""
        count = len(self.tokens)
        found = Answers(
            label=np.zeros(count, dtype=np.int32),
            score=np.zeros(count, dtype=np.float32),
            probabilities=None,
            stage=np.full(count, -1, dtype=np.int32),
            entry=self.entry,
            reliability=np.full(count, np.nan, dtype=np.float32),
        )
        # those of the last stage may be on the device still, and come back together
        late = [part for part in self.left if isinstance(part.told, torch.Tensor)]
        left = [part for part in self.left if not isinstance(part.told, torch.Tensor)]
        told = [on_host(part.told) for part in left]
        waiting = [part.told for part in late if isinstance(part.told, torch.Tensor)]
        if waiting:
            told.append(on_host(torch.cat(waiting)))
            left += late
        if left:
            rows, values = np.concatenate([part.rows for part in left]), np.concatenate(told)
            stages = [part.stage for part in left]
            found.stage[rows] = np.repeat(stages, [len(part.rows) for part in left])
            found.label[rows], found.score[rows] = values[:, 0], values[:, 1]
            if not self.around.bare:
                found.reliability[rows] = values[:, 2]
        if not self.around.whole:
            return found
        probabilities = np.zeros((count, len(self.bundle.labels)), dtype=np.float32)
        parts = [part.probabilities for part in left if part.probabilities is not None]
        if parts:
            probabilities[rows] = torch.cat(parts).cpu().numpy()
        return replace(found, probabilities=probabilities)
