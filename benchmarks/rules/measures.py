"""Every measure of every stage, and every router's risks, on a build's held-out rows.

Whatever is fitted is fitted on the build's fit rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fitted import routers_of
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from adaptive.types import OutcomeTable

Floats = NDArray[np.float64]
NAMES = (
    "tempered",
    "probability",
    "margin",
    "certainty",
    "energy",
    "streak",
    "saturation",
    "votes",
)


def measured(
    arrays: Mapping[str, NDArray[Any]],
    tables: Mapping[str, OutcomeTable],
    temperature: NDArray[np.float32],
    bag: Mapping[str, NDArray[np.float32]],
) -> dict[str, NDArray[Any]]:
    """`score.*` and `risk.*` of the rows to deal, `features.*` of these and of the fit rows.

    Args:
        arrays: what `record_stages.py` wrote.
        tables: of each split, the fit rows first; the others are dealt.
        temperature: of each stage, [k].
        bag: the router's features of each split.
    """
    fit, *splits = tables
    told = {name: _measures(arrays, table, name, temperature) for name, table in tables.items()}
    found: dict[str, NDArray[Any]] = {
        f"score.{name}": np.concatenate([told[split][name] for split in splits]) for name in NAMES
    }
    found["score.learned"] = _learned_to_exit(arrays, tables[fit], splits)
    stages = tables[fit].stages
    lasts = [max(k for k, s in enumerate(stages) if s.tier == t) for t in range(_tiers(tables))]
    last = len(stages) - 1
    teacher = {name: arrays[f"{name}.pooled.{last}"].astype(np.float32) for name in tables}
    for name, seen in (("bag", bag), ("teacher", teacher)):
        found[f"features.{name}.fit"] = seen[fit]
        found[f"features.{name}.pool"] = np.concatenate([seen[split] for split in splits])
    rows = np.arange(len(tables[fit]))
    truth = np.stack(  # probability of the true class by each tier's last stage
        [_softmax(arrays[f"{fit}.logits.{k}"])[rows, tables[fit].labels] for k in lasts], 1
    )
    sure = [told[name]["tempered"][:, lasts] for name in (fit, *splits)]
    risks = routers_of(
        {
            name: (found[f"features.{name}.fit"], found[f"features.{name}.pool"])
            for name in ("bag", "teacher")
        },
        tables[fit],
        truth,
        (sure[0], np.concatenate(sure[1:])),
    )
    return found | {f"risk.{name}": each.astype(np.float32) for name, each in risks.items()}


def _tiers(tables: Mapping[str, OutcomeTable]) -> int:
    return next(iter(tables.values())).stages[-1].tier + 1


def _measures(
    arrays: Mapping[str, NDArray[Any]],
    table: OutcomeTable,
    split: str,
    temperature: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    stages, size, answers = table.stages, len(table), table.predictions
    found = {name: np.zeros((size, len(stages)), np.float32) for name in NAMES}
    before: Floats | None = None
    for k, stage in enumerate(stages):
        logits = arrays[f"{split}.logits.{k}"].astype(np.float64)
        state = arrays[f"{split}.pooled.{k}"].astype(np.float64)
        same = float((logits.argmax(1) == answers[:, k]).mean())
        assert same > 0.999, f"{split}: only {same:.2%} of the answers are those recorded before"
        shares = _softmax(logits / float(temperature[k]))
        best = np.partition(shares, -2, axis=1)[:, -2:]
        found["tempered"][:, k] = best[:, 1]
        found["probability"][:, k] = _softmax(logits).max(1)
        found["margin"][:, k] = best[:, 1] - best[:, 0]
        found["certainty"][:, k] = (shares * np.log(shares + 1e-300)).sum(1)  # less the entropy
        found["energy"][:, k] = logits.max(1) + np.log(
            np.exp(logits - logits.max(1, keepdims=True)).sum(1)
        )
        found["votes"][:, k] = (answers[:, :k] == answers[:, [k]]).sum(1) / max(k, 1)
        if stage.exit and before is not None:
            agrees = answers[:, k] == answers[:, k - 1]
            found["streak"][:, k] = (found["streak"][:, k - 1] + 1) * agrees
            norms = np.linalg.norm(state, axis=1) * np.linalg.norm(before, axis=1)
            found["saturation"][:, k] = (state * before).sum(1) / np.maximum(norms, 1e-9)
        before = state
    return found


def _softmax(logits: NDArray[Any]) -> Floats:
    wide = logits.astype(np.float64)
    found = np.exp(wide - wide.max(1, keepdims=True))
    shares: Floats = found / found.sum(1, keepdims=True)
    return shares


def _learned_to_exit(
    arrays: Mapping[str, NDArray[Any]], fit: OutcomeTable, splits: list[str]
) -> Floats:
    """A linear layer on the hidden state, one for all exits of a tier, fitted to right or wrong."""
    columns = []
    for tier in sorted({s.tier for s in fit.stages}):
        own = [k for k, s in enumerate(fit.stages) if s.tier == tier]
        states = np.concatenate([arrays[f"fit.pooled.{k}"] for k in own]).astype(np.float32)
        mean, scale = states.mean(0), states.std(0) + 1e-6
        right = np.concatenate([fit.worth.score[:, k] for k in own]) > 0.5
        model = LogisticRegression(C=1e-3, max_iter=200).fit((states - mean) / scale, right)
        for k in own:
            seen = np.concatenate([arrays[f"{split}.pooled.{k}"] for split in splits])
            columns.append(model.predict_proba((seen.astype(np.float32) - mean) / scale)[:, 1])
    return np.stack(columns, 1)
