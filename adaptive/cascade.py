"""The hot loop: tier by tier, segment by segment, the sure leave and the unsure go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive import tokens as token_rows
from adaptive.batching import Queue, budget_of
from adaptive.bundle.contents import Bundle
from adaptive.exits.measures import History
from adaptive.opinions import Opinion, answer_alone, opinion, overlook
from adaptive.policy import choose_entry, is_bare, last_exits
from adaptive.pools import Live, Pools, Rows, rows_of
from adaptive.routers.features import router_features, token_statistics
from adaptive.tiers.state import State
from adaptive.tiers.tier import Tier
from adaptive.transfer import put
from adaptive.types import Answers, Policy, Tokens

SHALLOW_ROWS = 1024  # an exit before the first layer takes this many rows at once
Flags = NDArray[np.bool_]


@torch.inference_mode()
def answer(
    bundle: Bundle, tokens: Tokens, policy: Policy, batch_size: int, budget: int | None = None
) -> Answers:
    """Answer every token row under the policy.

    Each tier of the path runs over all rows that wait for it, sorted by length, in batches, one
    segment after the other. Those that an exit does not answer are parked before the next
    segment until they make a full batch with others, or nobody else comes; those still unsure
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
    for tier in policy.path if is_bare(policy) else sorted({0, *policy.path}):
        if wave.answered.all():
            break
        layers = bundle.tiers[tier].depths[wave.exits(tier)[0]]  # before the first exit that runs
        first = batch_size if layers else max(batch_size, SHALLOW_ROWS)
        queue = Queue(wave.waiting(tier), tokens.lengths, batch_size, budget, first)
        _run_tier(wave, tier, queue)
        budget = queue.budget
    return wave.answers()


def _run_tier(wave: _Wave, tier: int, queue: Queue) -> None:
    """One tier over all rows that wait for it, deepest first, in batches that stay full."""
    pools = Pools([[] for _ in wave.exits(tier)], queue)
    while (segment := pools.ready()) is not None:
        # the first segment's rows come from the queue, the others' from where they were parked
        parts = pools.take(segment)
        rows = rows_of(parts) if segment else queue.take()
        stay = queue.attempt(partial(_run_segment, wave, pools, tier, segment, rows, parts), rows)
        if stay is None:
            queue.put_back(pools.give_up())
        else:
            pools.park(segment + 1, stay)


def _run_segment(
    wave: _Wave, pools: Pools, tier: int, segment: int, rows: Rows, parts: list[Live]
) -> list[Live]:
    """Segment, head, reliability over one batch; those that go on behind it, by batches."""
    exit, model = wave.exits(tier)[segment], wave.bundle.tiers[tier]
    stage = wave.first[tier] + exit
    if segment:
        live = pools.batch(segment, parts)
    else:
        live = wave.enter(model.embed(token_rows.pack(wave.tokens, rows, wave.device)), rows)
    live.state = model.advance(live.state, exit, past=wave.bare)
    if stage and not wave.policy.on(stage):
        live.history, leaving = overlook(model, exit, live.state, live.history), None
    else:
        said = wave.ask(model, exit, stage, live)
        leaving = wave.judge(stage, live, said)
    if pools.ends(segment):
        return []
    if leaving is None or not leaving.any():
        return pools.cut(live)
    stay = np.flatnonzero(~leaving)
    return pools.cut(live.select(stay)) if len(stay) else []


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
    bare: bool
    in_graphs: bool  # ONNX Runtime is here and reckons reliabilities
    device: torch.device
    first: list[int]  # first stage of each tier
    last: dict[int, int]  # last switched-on stage of each tier on the path
    statistics: torch.Tensor | None  # [r, S] for the router
    log_length: torch.Tensor  # [r]
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
            bare=is_bare(policy),
            in_graphs=any(tier.in_graphs for tier in bundle.tiers),
            device=device,
            first=[
                next(k for k, s in enumerate(bundle.stages) if s.tier == tier)
                for tier in range(len(bundle.tiers))
            ],
            last=last_exits(policy, bundle.stages),
            statistics=statistics,
            log_length=put(tokens.lengths, device).float().log(),
            anchor=torch.zeros(rows, len(bundle.labels), device=device),
            entry=np.full(rows, policy.path[0], dtype=np.int32),
            answered=np.zeros(rows, dtype=np.bool_),
        )

    def waiting(self, tier: int) -> Rows:
        """Rows that this tier runs on: unanswered and entered by now; the first sees all."""
        if tier == 0:
            return np.arange(len(self.tokens))
        return np.flatnonzero(~self.answered & (self.entry <= tier))

    def exits(self, tier: int) -> range:
        """Which of the tier's exits run; off the path, the anchor alone."""
        last = self.last.get(tier, self.first[tier]) - self.first[tier]
        return range(last if self.bare else 0, last + 1)

    def enter(self, state: State, rows: Rows) -> Live:
        """Rows before a tier's first layer."""
        index = put(rows, self.device)
        history = History.start(len(rows), self.device)
        return Live(rows, state, history, self.anchor[index], self.log_length[index])

    def ask(self, model: Tier, exit: int, stage: int, live: Live) -> Opinion:
        """What an exit says of the rows before it."""
        reliability, before = self.bundle.reliability, (live.state, live.history)
        if self.bare:
            return answer_alone(model, exit, *before, stage=stage, reliability=reliability)
        said = opinion(
            model,
            exit,
            *before,
            live.anchor,
            live.log_length,
            stage=stage,
            reliability=reliability,
            in_graph=self.in_graphs,
        )
        live.history = said.history
        if stage == 0:
            self.look_first(live, said)
        return said

    def look_first(self, live: Live, said: Opinion) -> None:
        """The anchor's opinion is kept, and the route that follows from it."""
        index = put(live.rows, self.device)
        live.anchor = self.anchor[index] = said.probabilities
        if self.statistics is not None and self.bundle.router is not None:
            features = router_features(said.pooled, live.anchor, self.statistics[index])
            risk = self.bundle.router.risk(features).cpu().numpy()
            self.entry[live.rows] = choose_entry(self.policy, risk)

    def judge(self, stage: int, live: Live, said: Opinion) -> Flags | None:
        """Who leaves after this stage, [b]; None where nobody can. Keeps their answers."""
        # The route parts the rows behind the first stage; later on all belong here.
        routed = stage == 0 and self.statistics is not None
        elsewhere = self.entry[live.rows] > 0 if routed else np.zeros(len(live.rows), np.bool_)
        if not self.policy.on(stage):
            return elsewhere if routed else None
        done = ~elsewhere
        if said.reliability is not None and stage != self.last[self.policy.path[-1]]:
            # the one synchronisation
            done &= (said.reliability >= self.policy.thresholds[stage]).cpu().numpy()
        self.keep(stage, live.rows, done, said)
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
