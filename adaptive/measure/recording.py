"""Run every stage on every text, once, so that policies become look-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle, stages_of
from adaptive.cells import Labels
from adaptive.engine.batching import Limits, RowQueue, budget_of
from adaptive.events import Listener, Progress, ignore, within
from adaptive.exits.measures import History
from adaptive.exits.reliability import Reliability
from adaptive.policy.worth import concatenate
from adaptive.routers import Router
from adaptive.routers.features import router_features, token_statistics
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.text import tokens as token_rows
from adaptive.tiers.store import reference_of
from adaptive.tiers.tier import Tier
from adaptive.types import OutcomeTable, Stage, Tokens

PART, UNIT = "recording", "rows x tiers"
ROWS = 4096  # texts recorded at once; bounds memory at rows x stages x (hidden + classes)


@dataclass(frozen=True, slots=True)
class Record:
    """What every stage computed for every text."""

    stages: tuple[Stage, ...]
    logits: list[torch.Tensor]  # k times [n, c], untempered
    pooled: list[torch.Tensor]  # k times [n, h]
    tokens: Tokens
    reference: torch.Tensor | None = None  # [n, c] logits of the full tier in float32, see `record`


@torch.inference_mode()
def record(
    tiers: Sequence[Tier], tokens: Tokens, batch_size: int, on_event: Listener = ignore
) -> Record:
    """Run every tier to its end on every row, keeping what each exit computed, on the device.

    A full tier that is not run in float32 in torch is run so as well: in int8, in ONNX Runtime, in
    half precision. That is what answers are held to.

    Args:
        on_event: is told how many of rows x tiers are done.
    """
    stages = stages_of(tuple(tier.depths for tier in tiers))
    logits: list[torch.Tensor] = []
    pooled: list[torch.Tensor] = []
    n, total = len(tokens), runs_of(tiers) * len(tokens)
    for number, tier in enumerate(tiers):
        told = within(on_event, PART, number * n, total)
        for answer, seen in run_tier(tier, tokens, batch_size, told):
            logits.append(answer)
            pooled.append(seen)
    reference, full = None, tiers[-1]
    if not full.in_float32:
        told = within(on_event, PART, total - n, total)
        *_, (reference, _pooled) = run_tier(reference_of(full), tokens, batch_size, told)
    return Record(stages, logits, pooled, tokens, reference)


def runs_of(tiers: Sequence[Tier]) -> int:
    """How often `record` runs a row: by each tier, and by the full one in float32."""
    return len(tiers) + (not tiers[-1].in_float32)


def pieces(
    tiers: Sequence[Tier], tokens: Tokens, on_event: Listener
) -> Iterator[tuple[NDArray[np.int64], Listener]]:
    """`ROWS` row numbers at a time, with the listener for recording these."""
    runs = runs_of(tiers)
    for start in range(0, len(tokens), ROWS):
        rows = np.arange(start, min(start + ROWS, len(tokens)))
        yield rows, within(on_event, PART, runs * start, runs * len(tokens))


def run_tier(
    tier: Tier, tokens: Tokens, batch_size: int, on_event: Listener = ignore
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits [n, c] and pooled hidden states [n, h] of each exit."""
    device = next(tier.parameters()).device
    done: list[NDArray[np.int64]] = []
    parts: list[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def run(rows: NDArray[np.int64]) -> bool:
        state, found = tier.embed(token_rows.pack(tokens, rows, device)), []
        for exit in range(len(tier.depths)):
            state = tier.advance(state, exit)
            answer, seen = tier.answer(state, exit)
            found.append((answer.float(), seen.float()))
        parts.append(found)
        done.append(rows)
        on_event(Progress(PART, len(tokens) - len(queue), len(tokens), UNIT))
        return True

    limits, lengths = Limits(batch_size, budget_of(device)), tokens.lengths
    queue = RowQueue(limits)
    queue.add(np.arange(len(tokens)), lengths)
    while queue:
        rows = queue.take()
        if limits.attempt(partial(run, rows), lengths[rows]) is None:
            queue.add(rows, lengths[rows])
    order = torch.from_numpy(np.argsort(np.concatenate(done))).to(device)
    for exit in range(len(tier.depths)):
        answers, pooled = zip(*(part[exit] for part in parts), strict=True)
        yield torch.cat(answers)[order], torch.cat(pooled)[order]


@torch.inference_mode()
def features_of(
    record: Record, reliability: Reliability, task: Task = SINGLE_LABEL
) -> list[torch.Tensor]:
    """Each stage's confidence features, k times [n, F], as the hot loop would compute them."""
    device = record.logits[0].device
    log_length = torch.from_numpy(record.tokens.lengths).to(device).float().log()
    anchor = task.scores(reliability.temper(0, record.logits[0]))
    features, history = [], History.start(len(log_length), device)
    for k, stage in enumerate(record.stages):
        if stage.exit == 0:
            history = History.start(len(log_length), device)
        logits = reliability.temper(k, record.logits[k])
        row, history = task.measure(logits, record.pooled[k], history, anchor, log_length)
        features.append(row)
    return features


@torch.inference_mode()
def routing_features(
    record: Record,
    reliability: Reliability,
    log_frequency: NDArray[np.float32],
    task: Task = SINGLE_LABEL,
) -> torch.Tensor:
    """What the router sees of each text, [n, F]."""
    anchor = task.distribution(task.scores(reliability.temper(0, record.logits[0])))
    statistics = torch.from_numpy(token_statistics(record.tokens, log_frequency))
    return router_features(record.pooled[0], anchor, statistics.to(anchor.device))


@torch.inference_mode()
def tabulate(
    record: Record,
    reliability: Reliability,
    labels: Labels,
    router: Router | None,
    log_frequency: NDArray[np.float32],
    task: Task = SINGLE_LABEL,
) -> OutcomeTable:
    """The outcome table of recorded texts, on the host."""
    features = features_of(record, reliability, task)
    scores = [reliability(k, row) for k, row in enumerate(features)]
    tiers = record.stages[-1].tier + 1
    risk = torch.zeros(len(labels), tiers)
    if router is not None:
        risk = router.risk(routing_features(record, reliability, log_frequency, task))
    worth, classes = task.worth(*answers_of(record, reliability, labels, task))
    return OutcomeTable(
        stages=record.stages,
        worth=worth,
        reliability=torch.stack(scores, 1).cpu().numpy(),
        risk=risk.cpu().numpy(),
        tokens=record.tokens.lengths,
        classes=classes,
    )


@torch.inference_mode()
def answers_of(
    record: Record, reliability: Reliability, labels: Labels, task: Task = SINGLE_LABEL
) -> tuple[list[Labels], Labels, Labels | None]:
    """Each stage's answers, k times [n, ...], the labels, and the reference's: see `Task.worth`."""

    def answers(stage: int, logits: torch.Tensor) -> Labels:
        return task.answers(task.scores(reliability.temper(stage, logits)))

    found = [answers(stage, logits) for stage, logits in enumerate(record.logits)]
    last = len(found) - 1
    reference = None if record.reference is None else answers(last, record.reference)
    return found, labels, reference


def outcomes(
    bundle: Bundle,
    tokens: Tokens,
    labels: Labels,
    batch_size: int,
    on_event: Listener = ignore,
) -> OutcomeTable:
    """The outcome table of new texts, one token row each, recorded in pieces of `ROWS`."""
    tables = []
    for rows, told in pieces(bundle.tiers, tokens, on_event):
        piece = record(bundle.tiers, token_rows.select(tokens, rows), batch_size, told)
        tables.append(
            tabulate(
                piece,
                bundle.reliability,
                labels[rows],
                bundle.router,
                bundle.log_frequency,
                bundle.task,
            )
        )
    return concatenate(tables)
