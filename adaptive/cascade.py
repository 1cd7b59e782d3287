"""The hot loop: tier by tier, segment by segment, the sure leave and the unsure go on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive import tokens as token_rows
from adaptive.bundle.contents import Bundle
from adaptive.exits.measures import History, measure, remember
from adaptive.policy import is_bare, last_exits
from adaptive.routers.features import router_features, token_statistics
from adaptive.types import Answers, Policy, Tokens

SHALLOW_ROWS = 1024  # a tier without layers takes this many rows at once


@torch.inference_mode()
def answer(bundle: Bundle, tokens: Tokens, policy: Policy, batch_size: int) -> Answers:
    """Answer every token row under the policy.

    Each tier of the path runs over all rows that wait for it, sorted by length, in batches;
    those still unsure after its last switched-on exit wait for the next tier, so batches are
    full again at every tier. Rows of a batch do not influence each other.

    Args:
        tokens: r rows.
        batch_size: rows a transformer tier runs at once.

    Returns:
        Answers of the r rows, in their order.
    """
    wave = _Wave.start(bundle, tokens, policy)
    for tier in policy.path if is_bare(policy) else sorted({0, *policy.path}):
        waiting = wave.waiting(tier)
        size = batch_size if bundle.tiers[tier].backbone.layers else SHALLOW_ROWS
        for batch in token_rows.batches(tokens.lengths[waiting], size):
            _run_tier(wave, tier, waiting[batch])
    return wave.answers()


def _run_tier(wave: _Wave, index: int, rows: NDArray[np.int64]) -> None:
    """One tier over one batch: segment, head, reliability; the sure and the routed-on leave."""
    tier = wave.bundle.tiers[index]
    live = torch.from_numpy(rows).to(wave.device)
    state = tier.embed(token_rows.pad(wave.tokens, rows, wave.pad_id, wave.device))
    history = History.start(len(rows), wave.device)
    for exit in range(wave.exits(index)):
        stage = wave.first[index] + exit
        state = tier.advance(state, exit)
        if wave.bare and not wave.policy.on(stage):
            continue
        logits, pooled = tier.answer(state, exit)
        logits = wave.bundle.reliability.temper(stage, logits)
        if stage == 0 and not wave.bare:
            wave.look_first(live, logits, pooled)
        leaving, history = wave.judge(stage, live, logits, pooled, history)
        if leaving is not None:
            stay = (~leaving).nonzero().squeeze(1)  # the one synchronisation
            if not len(stay):
                return
            if len(stay) < len(live):
                live, state, history = live[stay], state.select(stay), history.select(stay)


@dataclass(slots=True)
class _Wave:
    """The rows of one call and what is known of them so far."""

    bundle: Bundle
    tokens: Tokens
    policy: Policy
    bare: bool
    device: torch.device
    pad_id: int
    first: list[int]  # first stage of each tier
    last: dict[int, int]  # last switched-on stage of each tier on the path
    statistics: torch.Tensor | None  # [r, S] for the router
    log_length: torch.Tensor  # [r]
    anchor: torch.Tensor  # [r, c] probabilities at the first stage
    probabilities: torch.Tensor  # [r, c]
    stage: torch.Tensor  # [r] int32, -1 until answered
    entry: torch.Tensor  # [r] int32
    reliability: torch.Tensor  # [r]

    @classmethod
    def start(cls, bundle: Bundle, tokens: Tokens, policy: Policy) -> _Wave:
        device, rows = bundle.device, len(tokens)
        statistics = None
        if policy.risk_weight is not None:
            values = token_statistics(tokens, bundle.log_frequency)
            statistics = torch.from_numpy(values).to(device)
        lengths = torch.from_numpy(tokens.lengths).to(device)
        blank = torch.zeros(rows, len(bundle.labels), device=device)
        return cls(
            bundle=bundle,
            tokens=tokens,
            policy=policy,
            bare=is_bare(policy),
            device=device,
            pad_id=bundle.tokenizer.pad_token_id or 0,
            first=[
                next(k for k, s in enumerate(bundle.stages) if s.tier == tier)
                for tier in range(len(bundle.tiers))
            ],
            last=last_exits(policy, bundle.stages),
            statistics=statistics,
            log_length=lengths.float().log(),
            anchor=blank,
            probabilities=blank.clone(),
            stage=torch.full((rows,), -1, dtype=torch.int32, device=device),
            entry=torch.full((rows,), policy.path[0], dtype=torch.int32, device=device),
            reliability=torch.full((rows,), torch.nan, device=device),
        )

    def waiting(self, tier: int) -> NDArray[np.int64]:
        """Rows that this tier runs on: unanswered and entered by now; the first sees all."""
        if tier == 0:
            return np.arange(len(self.tokens))
        there = (self.stage < 0) & (self.entry <= tier)
        rows: NDArray[np.int64] = there.nonzero().squeeze(1).cpu().numpy()
        return rows

    def exits(self, tier: int) -> int:
        """How many of the tier's exits run; off the path, the anchor alone."""
        return self.last.get(tier, self.first[tier]) - self.first[tier] + 1

    def look_first(self, live: torch.Tensor, logits: torch.Tensor, pooled: torch.Tensor) -> None:
        """The anchor's opinion, and the route that follows from it."""
        self.anchor[live] = logits.softmax(1)
        if self.statistics is None or self.bundle.router is None:
            return
        features = router_features(pooled, self.anchor[live], self.statistics[live])
        risk = self.bundle.router.risk(features)
        path = list(self.policy.path)
        cost = torch.tensor(self.policy.entry_cost, device=self.device)[path]
        assert self.policy.risk_weight is not None
        cheapest = (cost + self.policy.risk_weight * risk[:, path]).argmin(1)
        tiers = torch.tensor(path, dtype=torch.int32, device=self.device)
        self.entry[live] = tiers[cheapest]

    def judge(
        self,
        stage: int,
        live: torch.Tensor,
        logits: torch.Tensor,
        pooled: torch.Tensor,
        history: History,
    ) -> tuple[torch.Tensor | None, History]:
        """Who leaves after this stage, [b] bool; None where nobody can. Writes their answers."""
        elsewhere = self.entry[live] > self.bundle.stages[stage].tier
        if not self.policy.on(stage):
            later = remember(logits, pooled, history)
            return (elsewhere if stage == 0 and self.statistics is not None else None), later
        reliability = self.reliability[live]
        if not self.bare:
            features, history = measure(
                logits, pooled, history, self.anchor[live], self.log_length[live]
            )
            reliability = self.bundle.reliability(stage, features)
        done = ~elsewhere
        if stage != self.last[self.policy.path[-1]]:
            done &= reliability >= self.policy.thresholds[stage]
        answered = live[done]
        self.probabilities[answered] = logits[done].softmax(1)
        self.reliability[answered] = reliability[done]
        self.stage[answered] = stage
        return done | elsewhere, history

    def answers(self) -> Answers:
        """Everything to the host."""
        return Answers(
            probabilities=self.probabilities.cpu().numpy(),
            stage=self.stage.cpu().numpy(),
            entry=self.entry.cpu().numpy(),
            reliability=self.reliability.cpu().numpy(),
        )
