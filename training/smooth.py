"""What an answer is likely to lose against the full tier's, with the noise of its label smoothed.

On held-out rows the search compares policies by the labels of the few texts that a cheap stage
answers unlike the full tier. Those labels are nearly coins: which of the two is right is hard to
tell, or they would not differ. So the least lossy of a thousand policies is to a good part the
luckiest. Here each of those differences is replaced by its expectation, in two steps:

1. `fit_pool`: one posterior of all tiers' last answers, a log-linear opinion pool (Genest and
   Zidek 1986, combining probability distributions, Statistical Science 1, section 3), its weights
   fitted on the fit rows;
2. `expected_drop`: the true differences regressed on the pool's, over the differing answers of all
   stages, which takes away what is systematically wrong with the pool.

It serves the search alone, where a recipe's `search.losses` asks for it: it is steadier, and wrong
where the pool is wrong in a way that the regression does not see. The certificate counts labels as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import Record
from adaptive.types import OutcomeTable

Floats = NDArray[np.float64]

_PENALTY = 1e-3  # on the squared weights: settles them where tiers say the same
_PRIOR = 1.0  # rows' worth of belief in the pool as it is; decides where hardly any answers differ


def fit_pool(
    records: Sequence[Record], reliability: Reliability, labels: NDArray[np.int32]
) -> torch.Tensor:
    """The weight [m] of each tier's opinion, of least negative log-likelihood on labelled rows.

    Args:
        records: of the rows, in pieces; of these the tiers' last logits are in memory together.
        labels: [n] of all rows.
    """
    opinions = torch.cat([_opinions(each, reliability) for each in records], 1)
    known = torch.from_numpy(labels).long()
    weights = torch.zeros(len(opinions), requires_grad=True)
    with torch.no_grad():
        weights[-1] = 1.0  # the full tier's own
    optimiser = torch.optim.LBFGS([weights], max_iter=100)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        pooled = torch.einsum("m,mnc->nc", weights, opinions)
        value = torch.nn.functional.cross_entropy(pooled, known)
        value = value + _PENALTY * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


@torch.inference_mode()
def chances(record: Record, reliability: Reliability, weights: torch.Tensor) -> Floats:
    """How likely each stage's answer is right, all tiers heard, [n, k].

    Where the full tier is in int8 a further column is its answer in float32.
    """
    pool = torch.einsum("m,mnc->nc", weights, _opinions(record, reliability)).softmax(1)
    said = [*record.logits, *([] if record.reference is None else [record.reference])]
    answers = torch.stack([logits.argmax(1) for logits in said], 1).cpu()
    found: Floats = pool.gather(1, answers).double().numpy()
    return found


def expected_drop(tables: Sequence[OutcomeTable], chance: Sequence[Floats], wanted: int) -> Floats:
    """What each stage's answer is expected to lose, [n, k] of the wanted table.

    That is the chance that the full tier's answer is right less that of the stage's: 0 where
    the two are the same.

    Args:
        tables: labelled; the regression sees the rows of all.
        chance: of each table, by `chances`; the last column is of what answers are held to.
        wanted: which table's.
    """
    design, lost = zip(*map(_differing, tables, chance), strict=True)
    x, y = np.concatenate(design), np.concatenate(lost)
    offset = y - x[:, 1]  # from the pool as it is
    correction = np.linalg.solve(x.T @ x + _PRIOR * np.eye(2), x.T @ offset)
    slope = np.array([0.0, 1.0]) + correction
    drop: Floats = np.zeros(tables[wanted].predictions.shape)
    drop[_differs(tables[wanted])] = design[wanted] @ slope
    return drop


def _opinions(record: Record, reliability: Reliability) -> torch.Tensor:
    """Log probabilities of each tier's last exit, [m, n, c]."""
    last = {stage.tier: k for k, stage in enumerate(record.stages)}
    tempered = [reliability.temper(k, record.logits[k]) for k in last.values()]
    return torch.stack(tempered).log_softmax(2).cpu()


def _differs(table: OutcomeTable) -> NDArray[np.bool_]:
    differs: NDArray[np.bool_] = table.predictions != table.reference[:, None]
    return differs


def _differing(table: OutcomeTable, chance: Floats) -> tuple[Floats, Floats]:
    """Of the answers unlike the full tier's: (1, expected loss) [d, 2], and the true loss [d]."""
    right = (table.predictions == table.labels[:, None]).astype(np.float64)
    full_right = (table.reference == table.labels).astype(np.float64)
    differs = _differs(table)
    expected = (chance[:, -1:] - chance[:, : right.shape[1]])[differs]
    return np.stack([np.ones_like(expected), expected], 1), (full_right[:, None] - right)[differs]
