"""What a GPU computes against what it should: how far off, not whether.

Norms of differences are relative to that of what is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu.bench import Bench
from gpu.models import Row, join, launched_singly
from gpu.stages import Work
from gpu.subjects import CLINC, Subject

from adaptive.engine import answer
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier

DTYPES = ("bfloat16", "float16", "float32")
ROWS = (96, 32)  # compared, and of a batch
TEXTS = 512  # whose decisions are compared
Exits = list[torch.Tensor]  # states [t, h] behind each exit's segment, then logits [b, c]


def pieces(bench: Bench) -> Iterator[tuple[str, Work]]:
    """Of the full tier in each dtype, then of the policy's decisions."""
    for dtype in DTYPES:
        yield f"full tier, {dtype}", partial(full_tier, bench, dtype)
    yield "decisions", partial(decisions, bench)
    yield "bert_base, bfloat16", partial(against_own, bench, "bert_base", "bfloat16")


def full_tier(bench: Bench, dtype: str) -> dict[str, Any]:
    """Segments against the model's own forward, batches against single rows, graphs likewise."""
    subject = bench.subject(CLINC, dtype)
    rows = subject.rows[: ROWS[0]]
    found = against_own(bench, CLINC, dtype)
    found["batches_over_single_rows"] = compare(
        ours(subject, rows, ROWS[1]), ours(subject, rows, 1), subject
    )
    found["answers_over_own_forward"] = answers(subject, rows)
    return found | {"graphs_over_single_launches": graphs(subject)}


def against_own(bench: Bench, name: str, dtype: str) -> dict[str, Any]:
    """Segments on packed rows against transformers' forward on padded ones, and both in float32."""
    subject, exact = bench.subject(name, dtype), bench.subject(name, "float32")
    rows = subject.rows[: ROWS[0]]
    found, own = ours(subject, rows, ROWS[1]), theirs(subject, rows, ROWS[1])
    reference = theirs(exact, rows, ROWS[1])
    return {
        "segments_over_own_forward": compare(found, own, subject),
        "segments_over_float32": compare(found, reference, subject),
        "own_forward_over_float32": compare(own, reference, subject),
    }


@torch.inference_mode()
def ours(subject: Subject, rows: list[Row], batch: int) -> Exits:
    """The full tier's segments one after the other, launched singly."""
    tier, device = subject.bundle.tiers[-1], subject.bundle.device
    given, parts = join(rows), []
    with launched_singly(subject.bundle):
        for start in range(0, len(rows), batch):
            part = np.arange(start, min(start + batch, len(rows)))
            state, own = tier.embed(token_rows.pack(given, part, device)), []
            for exit in range(len(tier.depths)):
                state = tier.advance(state, exit)
                own.append(state.hidden[0])
            parts.append([*own, tier.answer(state, len(tier.depths) - 1)[0]])
    return [torch.cat(part).float().cpu() for part in zip(*parts, strict=True)]


@torch.inference_mode()
def theirs(subject: Subject, rows: list[Row], batch: int) -> Exits:
    """The same of transformers' own forward, padded, with its own attention."""
    tier, labeller = subject.bundle.tiers[-1], subject.shop.labeller
    parts = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        lengths = np.fromiter(map(len, part), np.int64)
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
        ids = torch.zeros(mask.shape, dtype=torch.int64)
        ids[mask] = torch.from_numpy(np.concatenate(part).astype(np.int64))
        mask, ids = mask.to(subject.bundle.device), ids.to(subject.bundle.device)
        seen = mask.long()
        states = labeller.model.base_model(ids, seen, output_hidden_states=True).hidden_states
        logits = own_logits(tier, labeller, ids, mask, states[-1])
        parts.append([*(states[depth][mask] for depth in tier.depths), logits])
    return [torch.cat(part).float().cpu() for part in zip(*parts, strict=True)]


def own_logits(
    tier: Tier, labeller: Any, ids: torch.Tensor, mask: torch.Tensor, last: torch.Tensor
) -> torch.Tensor:
    """Logits [b, c] of the model's own head, or of the last exit's on the mean of all tokens."""
    if labeller.head is None:
        found: torch.Tensor = labeller.model(ids, mask.long())[0]
        return found
    weight = mask.unsqueeze(-1).to(last.dtype)
    logits: torch.Tensor = labeller.head((last * weight).sum(1) / weight.sum(1))
    return logits


def compare(found: Exits, expected: Exits, subject: Subject) -> dict[str, Any]:
    """How far states and logits are off, by depth, and how often the label is another."""
    depths = [f"depth {depth}" for depth in subject.bundle.tiers[-1].depths]
    return {
        "relative_norm": {
            name: off(one, other)
            for name, one, other in zip([*depths, "logits"], found, expected, strict=True)
        },
        "greatest": float((found[-1] - expected[-1]).abs().max()),
        "greatest_logit": float(expected[-1].abs().max()),
        "labels_alike": float((found[-1].argmax(1) == expected[-1].argmax(1)).float().mean()),
    }


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over that of what was expected."""
    return float(f"{float((found - expected).norm() / expected.norm()):.3g}")


@torch.inference_mode()
def answers(subject: Subject, rows: list[Row]) -> dict[str, Any]:
    """Probabilities as the runtime gives them against those of transformers' own logits."""
    stage, device = len(subject.bundle.stages) - 1, subject.bundle.device
    logits = theirs(subject, rows, ROWS[1])[-1].to(device)
    expected = subject.bundle.reliability.temper(stage, logits).softmax(1).cpu().numpy()
    for _ in range(3):  # met, captured, launched
        found = answer(subject.bundle, join(rows), subject.alone, ROWS[1]).probabilities
    return {
        "greatest": float(np.abs(found - expected).max()),
        "labels_alike": float((found.argmax(1) == expected.argmax(1)).mean()),
    }


def graphs(subject: Subject) -> dict[str, Any]:
    """Probabilities by graphs against those of single launches, of single rows and in batches."""
    found = {}
    for batch, count in ((1, 24), (32, 96), (512, 512)):
        given = join(subject.rows[:count])
        for _ in range(3):  # met, captured, launched
            by_graph = answer(subject.bundle, given, subject.alone, batch)
        with launched_singly(subject.bundle):
            singly = answer(subject.bundle, given, subject.alone, batch)
        one, other = by_graph.probabilities, singly.probabilities
        found[f"batch {batch}"] = {
            "greatest": float(np.abs(one - other).max()),
            "labels_alike": float((one.argmax(1) == other.argmax(1)).mean()),
        }
    # how many there are says whether any was launched; a tier may have given them up
    made = [len(getattr(tier.captures, "_graphs", ())) for tier in subject.bundle.tiers]
    given_up = [tier.captures.off for tier in subject.bundle.tiers]
    return found | {"graphs": made, "given_up": given_up}


def decisions(bench: Bench) -> dict[str, Any]:
    """Who answers and what, of the policy here against a CPU in float32."""
    reference = bench.load("float32", torch.device("cpu"))
    rows = reference.rows[:TEXTS]
    expected = answer(reference.bundle, join(rows), reference.policies["policy"], 32)
    found: dict[str, Any] = {"texts": len(rows)}
    for dtype in DTYPES:
        here = bench.subject(CLINC, dtype)
        for _ in range(3):
            given = answer(here.bundle, join(rows), here.policies["policy"], 32)
        stage = given.stage == expected.stage
        label = given.label == expected.label
        reliability = np.abs(given.reliability - expected.reliability)
        found[dtype] = {
            "stages_alike": float(stage.mean()),
            "labels_alike": float(label.mean()),
            "both_alike": float((stage & label).mean()),
            # a policy of one stage asks for none
            "greatest_reliability": float(np.nan_to_num(reliability[stage]).max(initial=0.0)),
        }
    return found
