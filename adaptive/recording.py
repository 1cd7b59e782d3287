"""Run every stage on every text, once, so that policies become look-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from adaptive import tokens as token_rows
from adaptive.bundle.contents import Bundle, stages_of
from adaptive.engine.batching import Limits, RowQueue, budget_of
from adaptive.exits.measures import History, measure
from adaptive.exits.reliability import Reliability
from adaptive.routers import Router
from adaptive.routers.features import router_features, token_statistics
from adaptive.tiers.store import reference_of
from adaptive.tiers.tier import Tier
from adaptive.types import OutcomeTable, Stage, Tokens
from adaptive.worth import classified, concatenate

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
def record(tiers: Sequence[Tier], tokens: Tokens, batch_size: int, quiet: bool = True) -> Record:
    """Run every tier to its end on every row, keeping what each exit computed, on the device.

    A full tier that is not run in float32 in torch is run so as well: in int8, in ONNX Runtime, in
    half precision. That is what answers are held to.
    """
    stages = stages_of(tuple(tier.depths for tier in tiers))
    logits: list[torch.Tensor] = []
    pooled: list[torch.Tensor] = []
    for tier in tiers:
        for answer, seen in _run_tier(tier, tokens, batch_size, quiet):
            logits.append(answer)
            pooled.append(seen)
    reference, full = None, tiers[-1]
    if not full.in_float32:
        *_, (reference, _pooled) = _run_tier(reference_of(full), tokens, batch_size, quiet)
    return Record(stages, logits, pooled, tokens, reference)


def _run_tier(
    tier: Tier, tokens: Tokens, batch_size: int, quiet: bool
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
        bar.update(len(rows))
        return True

    with tqdm(total=len(tokens), desc=f"record {tier.name}", disable=quiet, leave=False) as bar:
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
def features_of(record: Record, reliability: Reliability) -> list[torch.Tensor]:
    """Each stage's confidence features, k times [n, F], as the hot loop would compute them."""
    device = record.logits[0].device
    log_length = torch.from_numpy(record.tokens.lengths).to(device).float().log()
    anchor = reliability.temper(0, record.logits[0]).softmax(1)
    features, history = [], History.start(len(log_length), device)
    for k, stage in enumerate(record.stages):
        if stage.exit == 0:
            history = History.start(len(log_length), device)
        logits = reliability.temper(k, record.logits[k])
        row, history = measure(logits, record.pooled[k], history, anchor, log_length)
        features.append(row)
    return features


@torch.inference_mode()
def routing_features(
    record: Record, reliability: Reliability, log_frequency: NDArray[np.float32]
) -> torch.Tensor:
    """What the router sees of each text, [n, F]."""
    anchor = reliability.temper(0, record.logits[0]).softmax(1)
    statistics = torch.from_numpy(token_statistics(record.tokens, log_frequency))
    return router_features(record.pooled[0], anchor, statistics.to(anchor.device))


@torch.inference_mode()
def tabulate(
    record: Record,
    reliability: Reliability,
    labels: NDArray[np.int32],
    router: Router | None,
    log_frequency: NDArray[np.float32],
) -> OutcomeTable:
    """The outcome table of recorded texts, on the host."""
    features = features_of(record, reliability)
    scores = [reliability(k, row) for k, row in enumerate(features)]
    tiers = record.stages[-1].tier + 1
    reference = None if record.reference is None else _answers(record.reference)
    risk = torch.zeros(len(labels), tiers)
    if router is not None:
        risk = router.risk(routing_features(record, reliability, log_frequency))
    return classified(
        stages=record.stages,
        predictions=np.stack([_answers(logits) for logits in record.logits], 1),
        reliability=torch.stack(scores, 1).cpu().numpy(),
        risk=risk.cpu().numpy(),
        labels=labels,
        tokens=record.tokens.lengths,
        in_float32=reference,
    )


def _answers(logits: torch.Tensor) -> NDArray[np.int32]:
    """The greatest of each row, [n] of [n, c], on the host."""
    found: NDArray[np.int32] = logits.argmax(1).int().cpu().numpy()
    return found


def outcomes(
    bundle: Bundle, tokens: Tokens, labels: NDArray[np.int32], batch_size: int, quiet: bool = True
) -> OutcomeTable:
    """The outcome table of new texts, one token row each, recorded in pieces of `ROWS`."""
    tables = []
    for start in range(0, len(tokens), ROWS):
        rows = np.arange(start, min(start + ROWS, len(tokens)))
        piece = record(bundle.tiers, token_rows.select(tokens, rows), batch_size, quiet)
        tables.append(
            tabulate(
                piece,
                bundle.reliability,
                labels[rows],
                bundle.router,
                bundle.log_frequency,
            )
        )
    return concatenate(tables)
