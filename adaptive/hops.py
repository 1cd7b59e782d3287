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
from adaptive.tiers.bag import Bag
from adaptive.tiers.captured import Filled, filled_up
from adaptive.tiers.state import Packed, State
from adaptive.tiers.tier import Tier
from adaptive.tokens import pack, places
from adaptive.transfer import fetch, pinned, put
from adaptive.types import TokenBatch, Tokens

NUMBERS = "numbers"  # the input of a graph that holds whole numbers of the host
HIDDEN = "hidden"  # has a row for each token; all else for each text
Named = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Hop:
    """Some layers of a tier and the exits along them, the last of which decides who goes on."""

    exits: tuple[int, ...]  # of the tier, ascending; all but the last are switched off
    stages: tuple[int, ...]  # their numbers in the cascade
    ends: bool  # behind it rows are done with the tier
    last: bool  # it answers whatever is left

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
        first = hop.stages[0] == 0
        return (
            *(["probabilities"] if self.whole else []),
            *(["anchor"] if first and self.anchored else []),
            *(["pooled"] if first and self.routed else []),
            *([] if hop.ends else ["history", HIDDEN]),
        )


@dataclass(frozen=True, slots=True)
class Before:
    """b texts before a hop."""

    tokens: Tokens  # of the call
    rows: NDArray[np.int64]  # [b] which of them
    lengths: NDArray[np.int64]  # [b] tokens of each
    count: int  # tokens of all
    state: State | None  # what the hop before left; None where it is the tier's first
    history: Past  # of the tier's previous exit
    anchor: torch.Tensor | None  # [b, c] probabilities at the first stage, behind it


@dataclass(frozen=True, slots=True)
class Behind:
    """b texts behind a hop."""

    said: Opinion  # of its last exit
    told: Told  # what it answers, for the host
    anchor: torch.Tensor | None  # [b, c] probabilities at the first stage, where it is one of them
    state: State | None  # None where nothing reads it


def run(tier: Tier, hop: Hop, before: Before, around: Around) -> Behind:
    """Layers, and what the exits along them say."""
    found = _launch(tier, hop, before, around) if _one_launch(tier, before, around) else None
    return found or _singly(tier, hop, before, around)


def _singly(tier: Tier, hop: Hop, before: Before, around: Around) -> Behind:
    """Kernel by kernel."""
    state, log_length = before.state, None
    if state is None:
        state = tier.embed(pack(before.tokens, before.rows, around.device))
    if not around.bare:
        logs = torch.from_numpy(before.lengths).float().log()
        log_length = put(logs.numpy(), around.device)  # without waiting for the device
    given = (before.history, before.anchor, log_length)
    said, anchor, state = _pass(tier, hop, state, *given, around, tier.advance)
    return Behind(said, said.told(later=hop.last), anchor, state)


def _pass(
    tier: Tier,
    hop: Hop,
    state: State,
    history: Past,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor | None,
    around: Around,
    advance: Callable[..., State],
) -> tuple[Opinion, torch.Tensor | None, State]:
    """From the state before the first layer to the opinion behind the last, and the anchor's."""
    last, reliability = hop.exits[-1], around.reliability
    if around.bare:
        state = advance(state, last, past=True)
        said = answer_alone(tier, last, state, stage=hop.stage, reliability=reliability)
        return said, None, state
    assert log_length is not None

    def ask(exit: int, stage: int) -> Opinion:
        return opinion(
            tier,
            exit,
            state,
            history,
            anchor,
            log_length,
            stage=stage,
            reliability=reliability,
            in_graph=around.in_graph,
        )

    for exit, stage in zip(hop.exits[:-1], hop.stages[:-1], strict=True):
        state = advance(state, exit)
        if stage == 0:  # later stages read its opinion, though it may not answer
            said = ask(exit, stage)
            history, anchor = said.history, said.probabilities
        else:
            history = overlook(tier, exit, state, history, stage=stage, reliability=reliability)
    state = advance(state, last)
    said = ask(last, hop.stage)
    return said, said.probabilities if hop.stage == 0 else anchor, state


def _one_launch(tier: Tier, before: Before, around: Around) -> bool:
    """Whether it is captured: few tokens, of layers that take nothing but their rows."""
    if not wanted(around.device):
        return False
    return isinstance(tier.backbone, Bag) or tier.captured(before.count)


def _launch(tier: Tier, hop: Hop, before: Before, around: Around) -> Behind | None:
    """By a graph of tokens and rows filled up to a few sizes; None where there is none."""
    filled = filled_up(before.lengths)
    inputs = _inputs(before, filled, around)
    rows, texts, tokens = len(filled.ends) - 1, len(before.lengths), before.count
    sizes = [
        len(each) if name == NUMBERS else filled.tokens if name == HIDDEN else rows
        for name, each in inputs.items()
    ]
    names = around.outputs(hop)

    def function(*tensors: torch.Tensor) -> Tensors:
        named = dict(zip(inputs, tensors, strict=True))
        return _captured(tier, hop, around, filled, named, names)

    def read(outputs: Tensors) -> Behind:
        answer, *rest = outputs
        named = {name: each.clone() for name, each in zip(names, rest, strict=True)}
        return _behind(answer.clone() if hop.last else fetch(answer), named, before)

    return tier.captures(
        # what was fitted lies where it lies, for as long as the graph does
        (hop, around.bare, names, filled.longest, around.reliability.bias.data_ptr()),
        around.device,
        function,
        inputs,
        sizes,
        [texts, *(tokens if name == HIDDEN else texts for name in names)],
        read,
    )


def _inputs(before: Before, filled: Filled, around: Around) -> dict[str, torch.Tensor]:
    """Whatever is read of the texts."""
    parts: list[NDArray[np.integer]] = [filled.ends]
    found: dict[str, torch.Tensor | None] = {}
    if before.state is None:
        flat = places(before.tokens, before.rows)
        parts.append(before.tokens.ids[flat])
        fillers = np.zeros(filled.tokens - len(parts[-1]), np.int32)
        parts.append(fillers)
        if before.tokens.types is not None:
            parts += [before.tokens.types[flat], fillers]
    else:
        found[HIDDEN] = before.state.hidden.squeeze(0)
    if not around.bare:
        found |= {"anchor": before.anchor, "history": packed(before.history)}
    found[NUMBERS] = pinned(parts, around.device)
    return {name: each for name, each in found.items() if each is not None}


def _captured(
    tier: Tier, hop: Hop, around: Around, filled: Filled, named: Named, names: tuple[str, ...]
) -> Tensors:
    """The hop on inputs that are filled up: its answers, and the outputs of these names."""
    numbers, count = named[NUMBERS], filled.tokens
    ends, ids = numbers[: len(filled.ends)], numbers[len(filled.ends) :].long()
    layout = filled.layout(ends)
    if HIDDEN in named:
        state = State(named[HIDDEN].unsqueeze(0), layout)
    else:
        types = ids[count:] if len(ids) > count else None
        state = tier.embed(TokenBatch(ids[:count], layout.lengths, types), layout)
    log_length = None if around.bare else layout.counts.float().log()
    given = (named.get("history"), named.get("anchor"), log_length)
    # a capture may not hold another one
    said, anchor, state = _pass(tier, hop, state, *given, around, tier.advance_uncaptured)
    found = {
        "probabilities": said.probabilities,
        "anchor": anchor,
        "pooled": said.pooled,
        "history": packed(said.history),
        HIDDEN: state.hidden.squeeze(0),
    }
    return (said.summary(), *(each for name in names if (each := found[name]) is not None))


def _behind(told: Told, named: Named, before: Before) -> Behind:
    """What the graph gave, for the loop."""
    state = None
    if HIDDEN in named:
        hidden, was = named[HIDDEN], before.state
        layout = Packed(before.lengths, hidden.device) if was is None else was.layout
        state = State(hidden.unsqueeze(0), layout)
    said = Opinion(
        named.get("probabilities"), named.get("pooled"), named.get("history"), None, None
    )
    return Behind(said, told, named.get("anchor"), state)
