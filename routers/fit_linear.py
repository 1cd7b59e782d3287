"""Fitting the logistic router and the one with a hidden layer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptive.routers.linear import Logistic, Perceptron

_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # sklearn's C; the first is the strongest prior
_FEW = 20  # with fewer rows of the rarer outcome a held-out choice is noise
_HELD_OUT = 0.2

_WIDTH = 64
_RATE = 1e-3
_BATCH = 128
_EPOCHS = 60
_PATIENCE = 6  # epochs without a better held-out loss


def fit_logistic(standard: NDArray[np.float32], worse: NDArray[np.bool_], seed: int) -> Logistic:
    """One regression a column of `worse` [n, o], its prior's strength chosen on held-out rows."""
    fits = [_fit_column(standard, column, seed) for column in worse.T]
    weight = np.stack([weight for weight, _ in fits], axis=1)
    bias = np.array([bias for _, bias in fits])
    return Logistic(torch.from_numpy(weight), torch.from_numpy(bias))


def _fit_column(
    standard: NDArray[np.float32], worse: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split

    def fit(strength: float, rows: NDArray[np.int64]) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=500).fit(standard[rows], worse[rows])

    every = np.arange(len(worse))
    strength = _STRENGTHS[1]
    if min(worse.sum(), (~worse).sum()) >= _FEW:
        fitted, held = train_test_split(
            every, test_size=_HELD_OUT, stratify=worse, random_state=seed
        )
        losses = [
            log_loss(worse[held], fit(value, fitted).predict_proba(standard[held])[:, 1])
            for value in _STRENGTHS
        ]
        strength = _STRENGTHS[int(np.argmin(losses))]
    model = fit(strength, every)
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])


def fit_perceptron(
    standard: NDArray[np.float32], worse: NDArray[np.bool_], seed: int
) -> Perceptron:
    """One network for all columns of `worse` [n, o], stopped early on held-out rows."""
    inputs, targets = torch.from_numpy(standard), torch.from_numpy(worse).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = nn.Linear(inputs.shape[1], _WIDTH)
        outer = nn.Linear(_WIDTH, targets.shape[1])
        # Start from the base rate: with rare failures the first epochs would only unlearn 0.5.
        share = (targets.sum(0) + 1) / (len(targets) + 2)
        outer.bias.data = torch.logit(share)
        order = torch.randperm(len(inputs))
        best = _train(nn.Sequential(inner, nn.GELU(), outer), inputs[order], targets[order])
    return Perceptron(
        best["0.weight"].T.contiguous(),
        best["0.bias"],
        best["2.weight"].T.contiguous(),
        best["2.bias"],
    )


def _train(
    network: nn.Sequential, inputs: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The weights of least held-out loss; the first rows are held out."""
    held = max(1, int(_HELD_OUT * len(inputs)))
    loss = nn.BCEWithLogitsLoss()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
    least, since, best = float("inf"), 0, _copy(network)
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(inputs) - held) + held, _BATCH):
            optimiser.zero_grad()
            loss(network(inputs[rows]), targets[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            now = float(loss(network(inputs[:held]), targets[:held]))
        least, since, best = (now, 0, _copy(network)) if now < least else (least, since + 1, best)
        if since >= _PATIENCE:
            break
    return best


def _copy(network: nn.Sequential) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
