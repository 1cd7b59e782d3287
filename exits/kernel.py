"""An exit's measures and reliability as one Triton kernel, for GPUs.

In torch it is some fifty small kernels, which on a GPU take as long as a few layers on a short
text. Here one program computes one text: its logits, pooled states and anchor are read once.
Import it only where Triton is installed; torch's builds for GPUs bring it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability

_WIDTH = triton.next_power_of_2(len(FEATURES))


@dataclass(frozen=True, slots=True)
class Judged:
    """What an exit makes of b texts."""

    probabilities: torch.Tensor  # [b, c] float32
    answer: torch.Tensor  # [b, 3] float32: the likeliest label, its probability, reliability
    history: torch.Tensor  # [b, 2 + h] float32: `History.packed`, for the tier's next exit


def judge_by_kernel(
    reliability: Reliability,
    stage: int,
    logits: torch.Tensor,
    pooled: torch.Tensor,
    history: torch.Tensor | None,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor | None,
) -> Judged:
    """What `measures.measure` and the reliability make of b texts.

    Args:
        logits: [b, c] as the head gives them.
        pooled: [b, h] what it read.
        history: [b, 2 + h] float32 of the tier's previous exit, packed; None at its first.
        anchor: [b, c] probabilities at the first stage; None at the first stage itself.
        log_length: [b]; None where reliabilities are not read.
    """
    rows, classes = logits.shape
    hidden = pooled.shape[1]
    probabilities = torch.empty(rows, classes, dtype=torch.float32, device=logits.device)
    answer = probabilities.new_empty(rows, 3)
    later = probabilities.new_empty(rows, 2 + hidden)
    if rows:
        _judge[(rows,)](
            logits.contiguous(),
            pooled.contiguous(),
            probabilities if history is None else history.contiguous(),
            probabilities if anchor is None else anchor.contiguous(),
            probabilities if log_length is None else log_length,
            reliability.temperature,
            reliability.mean,
            reliability.scale,
            reliability.weight,
            reliability.bias,
            probabilities,
            answer,
            later,
            stage,
            classes,
            hidden,
            FEATURE_COUNT=len(FEATURES),
            FEATURE_BLOCK=_WIDTH,
            CLASS_BLOCK=triton.next_power_of_2(classes),
            HIDDEN_BLOCK=triton.next_power_of_2(hidden),
            HAS_ANCHOR=anchor is not None,
            HAS_HISTORY=history is not None,
            HAS_LENGTH=log_length is not None,
        )
    return Judged(probabilities, answer, later)


@triton.jit(do_not_specialize=["stage"])  # one compilation serves all stages but the first
def _judge(  # type: ignore[no-untyped-def]
    logits_at,
    pooled_at,
    history_at,
    anchor_at,
    log_length_at,
    temperature_at,
    mean_at,
    scale_at,
    weight_at,
    bias_at,
    probabilities_to,
    answer_to,
    history_to,
    stage,
    classes,
    hidden,
    FEATURE_COUNT: tl.constexpr,
    FEATURE_BLOCK: tl.constexpr,
    CLASS_BLOCK: tl.constexpr,
    HIDDEN_BLOCK: tl.constexpr,
    HAS_ANCHOR: tl.constexpr,
    HAS_HISTORY: tl.constexpr,
    HAS_LENGTH: tl.constexpr,
):
    """One text; the measures are those of `measures.measure`, in the order of `FEATURES`."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, CLASS_BLOCK)
    real = place < classes
    logits = tl.load(logits_at + row * classes + place, mask=real, other=-float("inf"))
    logits = logits.to(tl.float32) / tl.load(temperature_at + stage)
    highest = tl.max(logits, 0)
    chosen = tl.argmax(logits, 0)
    shifted = logits - highest
    log_total = tl.log(tl.sum(tl.where(real, tl.exp(shifted), 0.0), 0))
    shares = tl.where(real, shifted - log_total, 0.0)  # logarithms of the probabilities
    probabilities = tl.where(real, tl.exp(shares), 0.0)
    tl.store(probabilities_to + row * classes + place, probabilities, mask=real)
    others = real & (place != chosen)
    first = -log_total
    second = tl.max(tl.where(others, shares, -float("inf")), 0)
    rest = tl.sum(tl.where(others, tl.exp(shares - second), 0.0), 0)
    entropy = -tl.sum(probabilities * shares, 0) / tl.log(classes.to(tl.float32))

    unit = tl.arange(0, HIDDEN_BLOCK)
    inside = unit < hidden
    pooled = tl.load(pooled_at + row * hidden + unit, mask=inside, other=0.0).to(tl.float32)
    before_at = history_at + row * (2 + hidden)
    streak = 0.0
    saturation = 0.0
    if HAS_HISTORY:
        same = tl.load(before_at) == chosen.to(tl.float32)
        streak = tl.where(same, tl.load(before_at + 1) + 1.0, 0.0)
        was = tl.load(before_at + 2 + unit, mask=inside, other=0.0)
        lengths = tl.sqrt(tl.sum(pooled * pooled, 0)) * tl.sqrt(tl.sum(was * was, 0))
        saturation = tl.sum(pooled * was, 0) / tl.maximum(lengths, 1e-8)
    later_to = history_to + row * (2 + hidden)
    tl.store(later_to, chosen.to(tl.float32))
    tl.store(later_to + 1, streak)
    tl.store(later_to + 2 + unit, pooled, mask=inside)

    anchor_agrees = 1.0  # where the anchor is this very exit
    anchor_probability = tl.exp(first)
    anchor_largest = tl.exp(first)
    if HAS_ANCHOR:
        anchor = tl.load(anchor_at + row * classes + place, mask=real, other=-1.0)
        anchor_agrees = tl.where(tl.argmax(anchor, 0) == chosen, 1.0, 0.0)
        anchor_probability = tl.sum(tl.where(place == chosen, anchor, 0.0), 0)
        anchor_largest = tl.max(anchor, 0)
    log_length = 0.0
    if HAS_LENGTH:
        log_length = tl.load(log_length_at + row)

    index = tl.arange(0, FEATURE_BLOCK)
    known = index < FEATURE_COUNT
    features = tl.where(index == 0, tl.exp(first), 0.0)
    features = tl.where(index == 1, tl.exp(first) - tl.exp(second), features)
    features = tl.where(index == 2, entropy, features)
    features = tl.where(index == 3, first - highest, features)
    features = tl.where(index == 4, first - second - tl.log(rest), features)
    features = tl.where(index == 5, tl.minimum(streak, 1.0), features)
    features = tl.where(index == 6, streak, features)
    features = tl.where(index == 7, saturation, features)
    features = tl.where(index == 8, anchor_agrees, features)
    features = tl.where(index == 9, anchor_probability, features)
    features = tl.where(index == 10, anchor_largest, features)
    features = tl.where(index == 11, log_length, features)
    at = stage * FEATURE_COUNT + index
    mean = tl.load(mean_at + at, mask=known, other=0.0)
    scale = tl.load(scale_at + at, mask=known, other=1.0)
    weight = tl.load(weight_at + at, mask=known, other=0.0)
    total = tl.sum((features - mean) / scale * weight, 0) + tl.load(bias_at + stage)
    tl.store(answer_to + row * 3, chosen.to(tl.float32))
    tl.store(answer_to + row * 3 + 1, tl.exp(first))
    tl.store(answer_to + row * 3 + 2, tl.sigmoid(total))
