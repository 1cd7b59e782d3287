"""The hot loop: tier by tier, hop by hop, the sure leave and the unsure go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive import tokens as token_rows
from adaptive.batching import Queue, budget_of
from adaptive.bundle.contents import Bundle
from adaptive.hops import Around, Given, Hop, run
from adaptive.opinions import Opinion
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
    bundle: Bundle, tokens: Tokens, policy: Policy, batch_size: int, budget: int | None = None
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

    Returns:
        Answers of the r rows, in their order.
    """
    wave = _Wave.start(bundle, tokens, policy)
    budget = budget or budget_of(bundle.device)
    shallow = SHALLOW_ON_CPU if bundle.device.type == "cpu" else SHALLOW_ELSEWHERE
    for tier in policy.path if wave.around.bare else sorted({0, *policy.path}):
        if wave.answered.all():
            break
        hops = wave.hops(tier)
        layers = bundle.tiers[tier].depths[hops[0].exits[-1]]  # of the first hop
        first = batch_size if layers else max(batch_size, shallow)
        queue = Queue(wave.waiting(tier), tokens.lengths, batch_size, budget, first)
        _run_tier(wave, tier, hops, queue)
        budget = queue.budget
    return wave.answers()


def _run_tier(wave: _Wave, tier: int, hops: list[Hop], queue: Queue) -> None:
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
    live = pools.batch(place, parts) if place else wave.enter(rows)
    passed = run(wave.bundle.tiers[tier], hop, wave.given(live, hop), wave.around)
    if not hop.ends:
        assert passed.state is not None
        live.state, live.history = passed.state, passed.said.history
    return wave.ask(live, hop, place, passed.said)


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
    said: Opinion
    sure: Callable[[], Flags] | None  # [b] whether thresholds are reached; None where all leave
    risk: Callable[[], NDArray[Any]] | None  # [b, m] what the router says


@dataclass(frozen=True, slots=True)
class _Left:
    """Rows that one stage answered together."""

    rows: Rows  # [b]
    stage: int
    probabilities: torch.Tensor  # [b, c]
    reliability: torch.Tensor | None  # [b]


@dataclass(frozen=True, slots=True)
class _Wave:
    """The rows of one call, and who has left."""

    bundle: Bundle
    tokens: Tokens
    policy: Policy
    around: Around
    device: torch.device
    in_flight: int  # batches, at most
    first: list[int]  # first stage of each tier
    last: dict[int, int]  # last switched-on stage of each tier on the path
    statistics: torch.Tensor | None  # [r, S] for the router
    log_length: NDArray[np.float32]  # [r]
    anchor: torch.Tensor  # [r, c] probabilities at the first stage
    entry: NDArray[np.int32]  # [r] tier
    answered: Flags  # [r]
    left: list[_Left] = field(default_factory=list)

    @classmethod
    def start(cls, bundle: Bundle, tokens: Tokens, policy: Policy) -> _Wave:
        device, rows = bundle.device, len(tokens)
        statistics = None
        if policy.risk_weight is not None:
            values = token_statistics(tokens, bundle.log_frequency)
            statistics = put(values, device)
        return cls(
            bundle=bundle,
            tokens=tokens,
            policy=policy,
            around=Around(
                reliability=bundle.reliability,
                bare=is_bare(policy),
                in_graph=any(tier.in_graphs for tier in bundle.tiers),
            ),
            device=device,
            in_flight=IN_FLIGHT_ON_CPU if device.type == "cpu" else IN_FLIGHT_ELSEWHERE,
            first=[
                next(k for k, s in enumerate(bundle.stages) if s.tier == tier)
                for tier in range(len(bundle.tiers))
            ],
            last=last_exits(policy, bundle.stages),
            statistics=statistics,
            log_length=torch.from_numpy(tokens.lengths).float().log().numpy(),
            anchor=torch.zeros(rows, len(bundle.labels), device=device),
            entry=np.full(rows, policy.path[0], dtype=np.int32),
            answered=np.zeros(rows, dtype=np.bool_),
        )

    def waiting(self, tier: int) -> Rows:
        """Rows that this tier runs on: unanswered and entered by now; the first sees all."""
        if tier == 0:
            return np.arange(len(self.tokens))
        return np.flatnonzero(~self.answered & (self.entry <= tier))

    def hops(self, tier: int) -> list[Hop]:
        """From one switched-on exit of the tier to the next; off the path, the anchor alone."""
        first = self.first[tier]
        last = self.last.get(tier, first)
        found: list[Hop] = []
        exits: list[int] = []
        for stage in range(last if self.around.bare else first, last + 1):
            exits.append(stage - first)
            if stage == 0 or self.policy.on(stage):
                found.append(Hop(tuple(exits), stage, stage == last))
                exits = []
        return found

    def enter(self, rows: Rows) -> Live:
        """Rows before a tier's first hop."""
        return Live(rows, token_rows.pack(self.tokens, rows, self.device), None)

    def given(self, live: Live, hop: Hop) -> Given:
        """What a hop reads of a batch."""
        anchor = log_length = None
        if not self.around.bare:
            log_length = put(self.log_length[live.rows], self.device)
            if hop.stage:
                anchor = self.anchor.index_select(0, put(live.rows, self.device))
        return Given(live.state, live.history, anchor, log_length)

    def ask(self, live: Live, hop: Hop, place: int, said: Opinion) -> _Flight:
        """What a decision on a batch will need is sent on its way to the host."""
        risk = sure = None
        if hop.stage == 0 and not self.around.bare:
            risk = self.look_first(live, said)
        final = hop.stage == self.last[self.policy.path[-1]]
        if self.policy.on(hop.stage) and said.reliability is not None and not final:
            sure = fetch(said.reliability >= self.policy.thresholds[hop.stage])
        return _Flight(live, hop, place, said, sure, risk)

    def look_first(self, live: Live, said: Opinion) -> Callable[[], NDArray[Any]] | None:
        """The anchor's opinion is kept; the router's of it, if there is one."""
        index = put(live.rows, self.device)
        self.anchor[index] = said.probabilities
        if self.statistics is None or self.bundle.router is None:
            return None
        assert said.pooled is not None
        features = router_features(said.pooled, said.probabilities, self.statistics[index])
        return fetch(self.bundle.router.risk(features))

    def decide(self, flight: _Flight) -> Flags | None:
        """Who leaves after this hop, [b]; None where all go on. Keeps their answers."""
        rows, stage = flight.live.rows, flight.hop.stage
        if flight.risk is not None:
            self.entry[rows] = choose_entry(self.policy, flight.risk())
        # The route parts the rows behind the first stage; later on all belong here.
        routed = stage == 0 and self.statistics is not None
        elsewhere = self.entry[rows] > 0 if routed else np.zeros(len(rows), np.bool_)
        if not self.policy.on(stage):
            return elsewhere if routed else None
        done = ~elsewhere
        if flight.sure is not None:
            done &= flight.sure()  # the one synchronisation
        self.keep(stage, rows, done, flight.said)
        return done | elsewhere

    def keep(self, stage: int, rows: Rows, done: Flags, said: Opinion) -> None:
        """Keep the answers of those that are done, on the device."""
        gone, found, reliability = np.flatnonzero(done), said.probabilities, said.reliability
        if not len(gone):
            return
        if len(gone) < len(rows):
            index = put(gone, self.device)
            rows, found = rows[gone], found.index_select(0, index)
            reliability = None if reliability is None else reliability.index_select(0, index)
        self.left.append(_Left(rows, stage, found, reliability))
        self.answered[rows] = True

    def answers(self) -> Answers:
        """Everything to the host, in the order of the rows."""
        count = len(self.tokens)
        found = Answers(
            probabilities=np.zeros((count, len(self.bundle.labels)), dtype=np.float32),
            stage=np.full(count, -1, dtype=np.int32),
            entry=self.entry,
            reliability=np.full(count, np.nan, dtype=np.float32),
        )
        if self.left:
            rows = np.concatenate([part.rows for part in self.left])
            stages = [part.stage for part in self.left]
            found.stage[rows] = np.repeat(stages, [len(part.rows) for part in self.left])
            probabilities = torch.cat([part.probabilities for part in self.left])
            found.probabilities[rows] = probabilities.cpu().numpy()
            known = [part.reliability for part in self.left if part.reliability is not None]
            if known:  # all of a policy's answers have one, or none
                found.reliability[rows] = torch.cat(known).cpu().numpy()
        return found
