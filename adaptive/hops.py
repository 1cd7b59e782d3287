"""A hop: what a batch runs from one decision to the next, on a GPU in a single launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.captures import Tensors, wanted
from adaptive.exits.measures import History
from adaptive.exits.reliability import Reliability
from adaptive.opinions import Opinion, answer_alone, opinion, overlook
from adaptive.tiers import attention
from adaptive.tiers.bag import Bag
from adaptive.tiers.captured import Filled, Told
from adaptive.tiers.state import Packed, State
from adaptive.tiers.tier import Tier
from adaptive.transfer import put
from adaptive.types import TokenBatch

BY_TOKEN = ("ids", "types", "hidden")  # what has a row for each token; all else for each text
Named = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Hop:
    """Some layers of a tier and the exits along them, the last of which decides who goes on."""

    exits: tuple[int, ...]  # of the tier, ascending; all but the last are switched off
    stage: int  # the last one's number in the cascade
    ends: bool  # behind it rows are done with the tier


@dataclass(frozen=True, slots=True)
class Around:
    """What is the same for all hops of a call."""

    reliability: Reliability
    bare: bool  # the policy is one exit, which answers everything
    in_graph: bool  # ONNX Runtime computes reliabilities


@dataclass(frozen=True, slots=True)
class Given:
    """b texts before a hop."""

    state: State | TokenBatch  # their tokens where it is the tier's first
    history: History | None  # of the tier's previous exit, if there is one
    anchor: torch.Tensor | None  # [b, c] probabilities at the first stage, behind it
    log_length: torch.Tensor | None  # [b], where reliabilities are asked for

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, [b]."""
        state = self.state
        return state.lengths if isinstance(state, TokenBatch) else state.layout.lengths


@dataclass(frozen=True, slots=True)
class Passed:
    """b texts behind a hop."""

    said: Opinion  # of its last exit
    state: State | None  # None where its graph ends the tier


def run(tier: Tier, hop: Hop, given: Given, around: Around) -> Passed:
    """Layers, and what the exits along them say."""
    if _one_launch(tier, given.state):
        return _launch(tier, hop, given, around)
    return _run(tier, hop, given, around, None)


def _run(tier: Tier, hop: Hop, given: Given, around: Around, layout: Told | None) -> Passed:
    """Kernel by kernel; with a layout as part of a capture."""
    advance = tier.advance if layout is None else tier.advance_uncaptured
    state = given.state
    if isinstance(state, TokenBatch):
        state = tier.embed(state, layout)
    rows = state.layout.rows
    history = given.history or History.start(rows, state.hidden.device)
    for exit in hop.exits[:-1]:
        state = advance(state, exit)
        history = overlook(tier, exit, state, history)
    last = hop.exits[-1]
    state = advance(state, last, past=around.bare)
    stage, reliability = hop.stage, around.reliability
    if around.bare:
        said = answer_alone(tier, last, state, stage=stage, reliability=reliability)
        return Passed(said, state)
    assert given.log_length is not None
    said = opinion(
        tier,
        last,
        state,
        history,
        given.anchor,
        given.log_length,
        stage=stage,
        reliability=reliability,
        in_graph=around.in_graph,
    )
    return Passed(said, state)


def _one_launch(tier: Tier, state: State | TokenBatch) -> bool:
    """Whether it is captured: few tokens, of layers that take nothing but their rows."""
    if isinstance(state, TokenBatch):
        values, tokens = tier.backbone.embedding_table, len(state.ids)
    else:
        values, tokens = state.hidden, state.hidden.shape[1]
    if not wanted(values.device):
        return False
    if isinstance(tier.backbone, Bag):
        return isinstance(state, TokenBatch) and state.seen is None
    return tokens <= tier.most_tokens and attention.fused(values)


def _launch(tier: Tier, hop: Hop, given: Given, around: Around) -> Passed:
    """By a graph of tokens and rows filled up to a few sizes."""
    filled = Filled.of(given.lengths)
    inputs = _inputs(hop, given, around)
    device = next(iter(inputs.values())).device
    inputs = {"ends": put(filled.ends, device), **inputs}
    sizes = {name: filled.tokens if name in BY_TOKEN else len(filled.ends) - 1 for name in inputs}
    sizes["ends"] = len(filled.ends)
    names = _outputs(hop, around)
    tokens, rows = (
        len(inputs[next(name for name in BY_TOKEN if name in inputs)]),
        len(given.lengths),
    )

    def function(*tensors: torch.Tensor) -> Tensors:
        named = dict(zip(inputs, tensors, strict=True))
        layout = filled.layout(named["ends"])
        return _named(_run(tier, hop, _rebuilt(named, layout), around, layout), names)

    found = tier.captures(
        # what was fitted lies where it lies, for as long as the graph does
        (hop, around.bare, filled.longest, around.reliability.temperature.data_ptr()),
        lambda: _named(_run(tier, hop, given, around, None), names),
        function,
        inputs,
        list(sizes.values()),
        [tokens if name in BY_TOKEN else rows for name in names],
    )
    return _passed(dict(zip(names, found, strict=True)), given)


def _inputs(hop: Hop, given: Given, around: Around) -> dict[str, torch.Tensor]:
    """Whatever is read of the texts."""
    state, history = given.state, given.history
    named: dict[str, torch.Tensor | None] = {}
    if isinstance(state, TokenBatch):
        named |= {"ids": state.ids, "types": state.types}
    else:
        named |= {"hidden": state.hidden.squeeze(0)}
    if not around.bare:
        named |= {"anchor": given.anchor, "log_length": given.log_length}
    if history is not None:
        named |= {name: getattr(history, name) for name in ("prediction", "streak", "pooled")}
    return {name: each for name, each in named.items() if each is not None}


def _outputs(hop: Hop, around: Around) -> tuple[str, ...]:
    """Names of whatever is read of it later on."""
    if around.bare:
        return ("probabilities",)
    answer = ("probabilities", "reliability")
    if not hop.ends:
        return (*answer, "pooled", "prediction", "streak", "hidden")
    return (*answer, "pooled") if hop.stage == 0 else answer  # a router reads it


def _rebuilt(named: Named, layout: Told) -> Given:
    """The texts of `_inputs`, filled up."""
    state: State | TokenBatch
    if "ids" in named:
        state = TokenBatch(named["ids"], layout.lengths, named.get("types"))
    else:
        state = State(named["hidden"].unsqueeze(0), layout)
    history = None
    if "prediction" in named:
        history = History(named["prediction"], named["streak"], named["pooled"])
    return Given(state, history, named.get("anchor"), named.get("log_length"))


def _named(passed: Passed, names: tuple[str, ...]) -> Tensors:
    """The outputs of these names."""
    said, history, state = passed.said, passed.said.history, passed.state
    found = {
        "probabilities": said.probabilities,
        "reliability": said.reliability,
        "pooled": said.pooled,
        "prediction": None if history is None else history.prediction,
        "streak": None if history is None else history.streak,
        "hidden": None if state is None else state.hidden.squeeze(0),
    }
    return tuple(each for name in names if (each := found[name]) is not None)


def _passed(named: Named, given: Given) -> Passed:
    """The inverse; what is not read later on is left out."""
    state = history = None
    if "hidden" in named:
        hidden, before = named["hidden"], given.state
        fresh = isinstance(before, TokenBatch)
        layout = Packed(before.lengths, hidden.device) if fresh else before.layout
        state = State(hidden.unsqueeze(0), layout)
        history = History(named["prediction"], named["streak"], named["pooled"])
    said = Opinion(named["probabilities"], named.get("pooled"), history, named.get("reliability"))
    return Passed(said, state)
