"""A hop: what a batch runs from one decision to the next, on a GPU in a single launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.device.captures import Tensors, wanted
from adaptive.device.transfer import fetch, pinned, put
from adaptive.engine.exits import ExitOutput, Read, Summary, run_exit
from adaptive.engine.plan import Hop
from adaptive.exits.measures import Past, packed
from adaptive.exits.reliability import Reliability
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.tiers.captured import Filled, filled_up
from adaptive.tiers.state import Packed, State
from adaptive.tiers.tier import Tier
from adaptive.types import TokenBatch

NUMBERS = "numbers"  # the input of a graph that holds whole numbers of the host
HIDDEN = "hidden"  # has a row for each token; all else for each text
Named = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class HopSettings:
    """What is the same for all hops of an engine."""

    reliability: Reliability
    device: torch.device
    bare: bool  # the policy is one exit, which answers everything
    whole: bool  # all scores are wanted, not the greatest alone
    anchored: bool  # later stages read what the first one says
    routed: bool  # a router reads what the first one read
    in_graph: bool  # ONNX Runtime computes reliabilities
    task: Task = SINGLE_LABEL  # what the answers are

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
class HopInput:
    """b rows before a hop."""

    lengths: NDArray[np.int64]  # [b] tokens of each
    ids: NDArray[np.int32] | None  # [t] of all, on the host, before a tier's first hop; else None
    types: NDArray[np.int8] | None  # [t] so, where the model has them
    state: State | None  # what the hop before left; None before a tier's first
    history: Past  # of the tier's previous exit
    anchor: torch.Tensor | None  # [b, c] probabilities at the first stage, behind it

    @property
    def count(self) -> int:
        """Tokens of all rows, t."""
        return int(self.lengths.sum())


@dataclass(frozen=True, slots=True)
class HopOutput:
    """b rows behind a hop."""

    exit: ExitOutput  # of its last exit
    summary: Summary  # [b, 3] what that answers, for the host
    anchor: torch.Tensor | None  # [b, c] probabilities at the first stage, where it is one of them
    state: State | None  # None where nothing reads it


def run_hop(tier: Tier, hop: Hop, given: HopInput, settings: HopSettings) -> HopOutput:
    """Layers and the exits along them."""
    if _one_launch(tier, given, settings):
        found = _launch(tier, hop, given, settings)
        if found is not None:
            return found
    return _kernel_by_kernel(tier, hop, given, settings)


def _kernel_by_kernel(tier: Tier, hop: Hop, given: HopInput, settings: HopSettings) -> HopOutput:
    state, log_length = given.state, None
    if state is None:
        state = tier.embed(to_device(given, settings.device))
    if not settings.bare:
        logs = torch.from_numpy(given.lengths).float().log()
        log_length = put(logs.numpy(), settings.device)  # without waiting for the device
    before = (given.history, given.anchor, log_length)
    exit, anchor, state = _advance(tier, hop, state, *before, settings, tier.advance)
    return HopOutput(exit, exit.summary(later=hop.last), anchor, state)


def to_device(given: HopInput, device: torch.device) -> TokenBatch:
    """The tokens of rows before a tier's first hop."""
    assert given.ids is not None
    ids = put(given.ids.astype(np.int64), device)
    types = None if given.types is None else put(given.types.astype(np.int64), device)
    return TokenBatch(ids, given.lengths, types)


def _advance(
    tier: Tier,
    hop: Hop,
    state: State,
    history: Past,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor | None,
    settings: HopSettings,
    advance: Callable[..., State],
) -> tuple[ExitOutput, torch.Tensor | None, State]:
    """From the state before the first layer to the last exit's output, and the first stage's."""
    ask = partial(
        run_exit,
        tier,
        reliability=settings.reliability,
        in_graph=settings.in_graph,
        task=settings.task,
    )
    if settings.bare:
        state = advance(state, hop.exits[-1], past=True)
        return ask(hop.exits[-1], state, stage=hop.stage, read="answer"), None, state
    for exit, stage in zip(hop.exits, hop.stages, strict=True):
        state = advance(state, exit)
        # later stages read what the first one says, though it may not answer
        read: Read = "all" if stage in (0, hop.stage) else "history"
        output = ask(exit, state, history, anchor, log_length, stage=stage, read=read)
        history = output.history
        anchor = output.probabilities if stage == 0 else anchor
    return output, anchor, state


def _one_launch(tier: Tier, given: HopInput, settings: HopSettings) -> bool:
    """Whether it is captured: few tokens, of layers that take nothing but their rows."""
    if not settings.task.exclusive or not wanted(settings.device):
        return False
    return not tier.backbone.layers or tier.captured(given.count)


def _launch(tier: Tier, hop: Hop, given: HopInput, settings: HopSettings) -> HopOutput | None:
    """By a graph of tokens and rows filled up to a few sizes; None where there is none."""
    filled = filled_up(given.lengths)
    inputs = _inputs(given, filled, settings)
    rows, texts, tokens = len(filled.ends) - 1, len(given.lengths), given.count
    sizes = [
        len(each) if name == NUMBERS else filled.tokens if name == HIDDEN else rows
        for name, each in inputs.items()
    ]
    names = settings.outputs(hop)

    def function(*tensors: torch.Tensor) -> Tensors:
        named = dict(zip(inputs, tensors, strict=True))
        return _captured(tier, hop, settings, filled, named, names)

    def read(outputs: Tensors) -> HopOutput:
        answer, *rest = outputs
        named = {name: each.clone() for name, each in zip(names, rest, strict=True)}
        return _output(answer.clone() if hop.last else fetch(answer), named, given)

    return tier.captures(
        # what was fitted lies where it lies, for as long as the graph does
        (hop, settings.bare, names, filled.longest, settings.reliability.bias.data_ptr()),
        settings.device,
        function,
        inputs,
        sizes,
        [texts, *(tokens if name == HIDDEN else texts for name in names)],
        read,
    )


def _inputs(given: HopInput, filled: Filled, settings: HopSettings) -> dict[str, torch.Tensor]:
    """Whatever is read of the texts."""
    parts: list[NDArray[np.integer]] = [filled.ends]
    found: dict[str, torch.Tensor | None] = {}
    if given.state is None:
        assert given.ids is not None
        fillers = np.zeros(filled.tokens - len(given.ids), np.int32)
        parts += [given.ids, fillers]
        if given.types is not None:
            parts += [given.types, fillers]
    else:
        found[HIDDEN] = given.state.hidden.squeeze(0)
    if not settings.bare:
        found |= {"anchor": given.anchor, "history": packed(given.history)}
    found[NUMBERS] = pinned(parts, settings.device)
    return {name: each for name, each in found.items() if each is not None}


def _captured(
    tier: Tier,
    hop: Hop,
    settings: HopSettings,
    filled: Filled,
    named: Named,
    names: tuple[str, ...],
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
    log_length = None if settings.bare else layout.counts.float().log()
    before = (named.get("history"), named.get("anchor"), log_length)
    # a capture may not hold another one
    exit, anchor, state = _advance(tier, hop, state, *before, settings, tier.advance_uncaptured)
    found = {
        "probabilities": exit.probabilities,
        "anchor": anchor,
        "pooled": exit.pooled,
        "history": packed(exit.history),
        HIDDEN: state.hidden.squeeze(0),
    }
    return (
        exit.summary_on_device(),
        *(each for name in names if (each := found[name]) is not None),
    )


def _output(summary: Summary, named: Named, given: HopInput) -> HopOutput:
    """What the graph gave, for the engine."""
    state = None
    if HIDDEN in named:
        hidden, was = named[HIDDEN], given.state
        layout = Packed(given.lengths, hidden.device) if was is None else was.layout
        state = State(hidden.unsqueeze(0), layout)
    exit = ExitOutput(named.get("probabilities"), named.get("pooled"), named.get("history"))
    return HopOutput(exit, summary, named.get("anchor"), state)
