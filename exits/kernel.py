"""`judging.judge` as one Triton kernel, for GPUs.

In torch it is some fifty small kernels, which on a GPU take as long as a few layers on a short
text. Here one program computes one text: its logits, pooled states and anchor are read once.
Import it only where Triton is installed; torch's builds for GPUs bring it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from adaptive.exits.judging import Judged
from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability

_WIDTH = triton.next_power_of_2(len(FEATURES))


def judge_by_kernel(
    reliability: Reliability,
    stage: int,
    logits: torch.Tensor,
    pooled: torch.Tensor,
    prediction: torch.Tensor,
    streak: torch.Tensor,
    previous: torch.Tensor | None,
    anchor: torch.Tensor | None,
    log_length: torch.Tensor,
) -> Judged:
    """What an exit makes of b texts; takes and gives what `judging.judge` does."""
    rows, classes = logits.shape
    hidden = pooled.shape[1]
    probabilities = torch.empty(rows, classes, dtype=torch.float32, device=logits.device)
    later, run = torch.empty_like(prediction), torch.empty_like(streak)
    score = torch.empty_like(streak)
    if rows:
        _judge[(rows,)](
            logits.contiguous(),
            pooled.contiguous(),
            prediction,
            streak,
            pooled if previous is None else previous.contiguous(),
            logits if anchor is None else anchor.contiguous(),
            log_length,
            reliability.temperature,
            reliability.mean,
            reliability.scale,
            reliability.weight,
            reliability.bias,
            probabilities,
            later,
            run,
            score,
            stage,
            classes,
            hidden,
            FEATURE_COUNT=len(FEATURES),
            FEATURE_BLOCK=_WIDTH,
            CLASS_BLOCK=triton.next_power_of_2(classes),
            HIDDEN_BLOCK=triton.next_power_of_2(hidden),
            FIRST_STAGE=stage == 0,
            HAS_PREVIOUS=previous is not None,
        )
    return probabilities, later, run, score


@triton.jit(do_not_specialize=["stage"])  # one compilation serves all stages but the first
def _judge(  # type: ignore[no-untyped-def]
    logits_at,
    pooled_at,
    prediction_at,
    streak_at,
    previous_at,
    anchor_at,
    log_length_at,
    temperature_at,
    mean_at,
    scale_at,
    weight_at,
    bias_at,
    probabilities_to,
    prediction_to,
    streak_to,
    score_to,
    stage,
    classes,
    hidden,
    FEATURE_COUNT: tl.constexpr,
    FEATURE_BLOCK: tl.constexpr,
    CLASS_BLOCK: tl.constexpr,
    HIDDEN_BLOCK: tl.constexpr,
    FIRST_STAGE: tl.constexpr,
    HAS_PREVIOUS: tl.constexpr,
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

    same = tl.load(prediction_at + row) == chosen
    streak = tl.where(same, tl.load(streak_at + row) + 1.0, 0.0)
    tl.store(prediction_to + row, chosen.to(tl.int64))
    tl.store(streak_to + row, streak)

    saturation = 0.0
    if HAS_PREVIOUS:
        unit = tl.arange(0, HIDDEN_BLOCK)
        inside = unit < hidden
        now = tl.load(pooled_at + row * hidden + unit, mask=inside, other=0.0).to(tl.float32)
        was = tl.load(previous_at + row * hidden + unit, mask=inside, other=0.0).to(tl.float32)
        lengths = tl.sqrt(tl.sum(now * now, 0)) * tl.sqrt(tl.sum(was * was, 0))
        saturation = tl.sum(now * was, 0) / tl.maximum(lengths, 1e-8)

    if FIRST_STAGE:  # the anchor is this very exit
        anchor_agrees = 1.0
        anchor_probability = tl.exp(first)
        anchor_largest = tl.exp(first)
    else:
        anchor = tl.load(anchor_at + row * classes + place, mask=real, other=-1.0)
        anchor_agrees = tl.where(tl.argmax(anchor, 0) == chosen, 1.0, 0.0)
        anchor_probability = tl.sum(tl.where(place == chosen, anchor, 0.0), 0)
        anchor_largest = tl.max(anchor, 0)

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
    features = tl.where(index == 11, tl.load(log_length_at + row), features)
    at = stage * FEATURE_COUNT + index
    mean = tl.load(mean_at + at, mask=known, other=0.0)
    scale = tl.load(scale_at + at, mask=known, other=1.0)
    weight = tl.load(weight_at + at, mask=known, other=0.0)
    total = tl.sum((features - mean) / scale * weight, 0) + tl.load(bias_at + stage)
    tl.store(score_to + row, tl.sigmoid(total))
