"""A hop: what a batch runs from one decision to the next, on a GPU in a single launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.captures import Tensors, wanted
from adaptive.exits.measures import Past, packed
from adaptive.exits.reliability import Reliability
from adaptive.opinions import Opinion, Told, answer_alone, opinion, overlook
from adaptive.tiers import attention
from adaptive.tiers.bag import Bag
from adaptive.tiers.captured import Filled
from adaptive.tiers.state import Packed, State
from adaptive.tiers.tier import Tier
from adaptive.transfer import fetch, pinned
from adaptive.types import TokenBatch

NUMBERS = "numbers"  # the input of a graph that holds whole numbers of the host
BY_TOKEN = ("hidden",)  # what has a row for each token; all else for each text
Named = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Hop:
    """Some layers of a tier and the exits along them, the last of which decides who goes on."""

    exits: tuple[int, ...]  # of the tier, ascending; all but the last are switched off
    stages: tuple[int, ...]  # their numbers in the cascade
    ends: bool  # behind it rows are done with the tier

    @property
    def stage(self) -> int:
        """That of the exit that decides."""
        return self.stages[-1]


@dataclass(frozen=True, slots=True)
class Around:
    """What is the same for all hops of a call."""

    reliability: Reliability
    device: torch.device
    bare: bool  # the policy is one exit, which answers everything
    whole: bool  # all probabilities are wanted, not the best label's alone
    anchored: bool  # later stages read what the first one says
    routed: bool  # a router reads what the first one read
    in_graph: bool  # ONNX Runtime computes reliabilities

    def outputs(self, hop: Hop) -> tuple[str, ...]:
        """Names of whatever is read of a hop later on, beside its answers."""
        first = hop.stage == 0
        return (
            *(["probabilities"] if self.whole or (first and self.anchored) else []),
            *(["pooled"] if first and self.routed else []),
            *([] if hop.ends else ["history", "hidden"]),
        )


@dataclass(frozen=True, slots=True)
class Before:
    """b texts before a hop."""

    tokens: TokenBatch | None  # on the host, where it is the tier's first
    state: State | None  # else what the hop before left
    history: Past  # of the tier's previous exit
    anchor: torch.Tensor | None  # [b, c] probabilities at the first stage, behind it
    lengths: NDArray[np.int64]  # [b] tokens of each


@dataclass(frozen=True, slots=True)
class Behind:
    """b texts behind a hop."""

    said: Opinion  # of its last exit
    told: Told  # what it answers, for the host
    state: State | None  # None where nothing reads it


def run(tier: Tier, hop: Hop, before: Before, around: Around) -> Behind:
    """Layers, and what the exits along them say."""
    found = _launch(tier, hop, before, around) if _one_launch(tier, before, around) else None
    return found or _singly(tier, hop, before, around)


def _singly(tier: Tier, hop: Hop, before: Before, around: Around) -> Behind:
    """Kernel by kernel."""
    state, log_length = before.state, None
    if before.tokens is not None:
        state = tier.embed(before.tokens.to(around.device))
    if not around.bare:
        log_length = torch.from_numpy(before.lengths).float().log().to(around.device)
    said, state = _pass(tier, hop, state, before, around, log_length, tier.advance)
    return Behind(said, said.told(), state)


def _pass(
    tier: Tier,
    hop: Hop,
    state: State | None,
    before: Before,
    around: Around,
    log_length: torch.Tensor | None,
    advance: Callable[..., State],
) -> tuple[Opinion, State]:
    """From the state before the first layer to the opinion behind the last."""
    assert state is not None, "texts have tokens before a tier's first hop, and then states"
    reliability, history = around.reliability, before.history
    for exit, stage in zip(hop.exits[:-1], hop.stages[:-1], strict=True):
        state = advance(state, exit)
        history = overlook(tier, exit, state, history, stage=stage, reliability=reliability)
    last = hop.exits[-1]
    state = advance(state, last, past=around.bare)
    if around.bare:
        return answer_alone(tier, last, state, stage=hop.stage, reliability=reliability), state
    assert log_length is not None
    said = opinion(
        tier,
        last,
        state,
        history,
        before.anchor,
        log_length,
        stage=hop.stage,
        reliability=reliability,
        in_graph=around.in_graph,
    )
    return said, state


def _one_launch(tier: Tier, before: Before, around: Around) -> bool:
    """Whether it is captured: few tokens, of layers that take nothing but their rows."""
    if not wanted(around.device):
        return False
    if isinstance(tier.backbone, Bag):
        return before.tokens is not None and before.tokens.seen is None
    few = int(before.lengths.sum()) <= tier.most_tokens
    return few and attention.fused(tier.backbone.embedding_table)


def _launch(tier: Tier, hop: Hop, before: Before, around: Around) -> Behind | None:
    """By a graph of tokens and rows filled up to a few sizes; None where there is none."""
    filled, device = Filled.of(before.lengths), around.device
    inputs = _inputs(before, filled, around)
    rows, tokens = len(filled.ends) - 1, int(before.lengths.sum())
    sizes = {name: filled.tokens if name in BY_TOKEN else rows for name in inputs}
    sizes[NUMBERS] = len(inputs[NUMBERS])
    typed = before.tokens is not None and before.tokens.types is not None
    names = around.outputs(hop)

    def function(*tensors: torch.Tensor) -> Tensors:
        return _captured(
            tier, hop, around, filled, typed, dict(zip(inputs, tensors, strict=True)), names
        )

    def read(outputs: Tensors) -> Behind:
        told, *rest = outputs
        return _behind(
            fetch(told), {n: x.clone() for n, x in zip(names, rest, strict=True)}, before
        )

    return tier.captures(
        # what was fitted lies where it lies, for as long as the graph does
        (hop, around.bare, names, typed, filled.longest, around.reliability.bias.data_ptr()),
        device,
        function,
        inputs,
        list(sizes.values()),
        [len(before.lengths), *(tokens if n in BY_TOKEN else len(before.lengths) for n in names)],
        read,
    )


def _inputs(before: Before, filled: Filled, around: Around) -> dict[str, torch.Tensor]:
    """Whatever is read of the texts."""
    parts, batch = [filled.ends], before.tokens
    if batch is not None:
        fillers = np.zeros(filled.tokens - len(batch.ids), np.int32)
        parts += [batch.ids.numpy(), fillers]
        parts += [] if batch.types is None else [batch.types.numpy(), fillers]
    found: dict[str, torch.Tensor | None] = {NUMBERS: pinned(parts, around.device)}
    if before.state is not None:
        found["hidden"] = before.state.hidden.squeeze(0)
    if not around.bare:
        found |= {"anchor": before.anchor, "history": packed(before.history)}
    return {name: each for name, each in found.items() if each is not None}


def _captured(
    tier: Tier,
    hop: Hop,
    around: Around,
    filled: Filled,
    typed: bool,
    named: Named,
    names: tuple[str, ...],
) -> Tensors:
    """The hop on inputs that are filled up: its answers, and the outputs of these names."""
    rows, count = len(filled.ends), filled.tokens
    numbers = named[NUMBERS]
    layout = filled.layout(numbers[:rows])
    if "hidden" in named:
        state = State(named["hidden"].unsqueeze(0), layout)
    else:
        ids = numbers[rows : rows + count].long()
        types = numbers[rows + count :].long() if typed else None
        state = tier.embed(TokenBatch(ids, layout.lengths, types), layout)
    before = Before(None, state, named.get("history"), named.get("anchor"), layout.lengths)
    log_length = None if around.bare else layout.counts.float().log()
    advance = tier.advance_uncaptured  # a capture may not hold another one
    said, state = _pass(tier, hop, state, before, around, log_length, advance)
    found = {
        "probabilities": said.probabilities,
        "pooled": said.pooled,
        "history": packed(said.history),
        "hidden": state.hidden.squeeze(0),
    }
    return (said.summary(), *(each for name in names if (each := found[name]) is not None))


def _behind(told: Told, named: Named, before: Before) -> Behind:
    """What the graph gave, for the loop."""
    state = None
    if "hidden" in named:
        hidden, was = named["hidden"], before.state
        layout = Packed(before.lengths, hidden.device) if was is None else was.layout
        state = State(hidden.unsqueeze(0), layout)
    said = Opinion(
        named.get("probabilities"), named.get("pooled"), named.get("history"), None, None
    )
    return Behind(said, told, state)
