"""A student of full depth learns all its exits together with its layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_transformers import tiny_backbone

from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.training.learn.distill import distill
from adaptive.training.learn.exits import fit_exits, with_fresh_exits
from adaptive.training.learn.loop import Options
from adaptive.training.learn.prune import prune
from adaptive.training.learn.teacher import Teacher, outputs_of
from adaptive.training.learn.tune import fine_tune
from adaptive.types import Tokens

ROWS, LABELS = 96, ("same", "other")
CPU = torch.device("cpu")


def texts(rows: int = ROWS, seed: int = 0) -> tuple[Tokens, NDArray[np.int32]]:
    """Rows of 4 to 9 tokens; the label tells whether the first two are of one kind.

    No sum over single tokens tells it, so an exit needs layers before it.
    """
    rng = np.random.default_rng(seed)
    lengths, kinds = rng.integers(4, 10, rows), rng.integers(0, 2, (rows, 2))
    offsets = np.concatenate([[0], lengths.cumsum()])
    ids = rng.integers(20, 60, offsets[-1]).astype(np.int32)
    ids[offsets[:-1]], ids[offsets[:-1] + 1] = 5 + kinds[:, 0], 7 + kinds[:, 1]
    labels = (kinds[:, 0] != kinds[:, 1]).astype(np.int32)
    return Tokens(ids, offsets, None, np.arange(rows), np.zeros(rows, np.bool_)), labels


def accuracies(tier: Tier) -> NDArray[np.float64]:
    """Share of right answers to unseen rows at each exit."""
    tokens, labels = texts(400, seed=1)
    state, right = tier.eval().embed(token_rows.pack(tokens, np.arange(400), CPU)), []
    with torch.inference_mode():
        for exit in range(len(tier.depths)):
            state = tier.advance(state, exit)
            right.append((tier.answer(state, exit)[0].argmax(1).numpy() == labels).mean())
    return np.array(right)


@pytest.fixture(scope="module")
def teacher() -> tuple[Tier, Teacher]:
    """A tier that learnt at its last exit alone, and what it says. Not to be changed."""
    torch.manual_seed(0)
    full, (tokens, labels) = Tier("full", tiny_backbone("bert", 2), range(5), LABELS), texts()
    fine_tune(full, tokens, labels, Options("full", 10, 16, 3e-3))
    logits, pooled = outputs_of(full, tokens)
    return full, Teacher(tokens, labels, logits, pooled.unbind())


def student(full: Tier, teacher: Teacher) -> Tier:
    return prune(full, teacher.tokens, layers=4, name="deep", batches=1, keep_first=True)[0]


def test_layers_and_exits_learn_together_and_the_last_exit_loses_nothing(
    teacher: tuple[Tier, Teacher],
) -> None:
    full, said = teacher
    after = with_fresh_exits(full)
    fit_exits(after, said, Options("exits", 12, 8, 1e-2))
    deep = student(full, said)
    before = {name: value.clone() for name, value in deep.state_dict().items()}
    distill(deep, said, Options("deep", 8, 16, 3e-3))
    moved = {name for name, value in deep.state_dict().items() if (value != before[name]).any()}
    layers = [f"backbone.{name}" for name, _ in deep.backbone.named_modules() if name]
    parts = [f"heads.{exit}." for exit in range(5)]
    parts += [name + "." for name in layers if name.split(".")[-1] in "0123"]
    assert len(parts) == 9
    assert all(any(name.startswith(part) for name in moved) for part in parts)
    apart, together = accuracies(after), accuracies(deep)
    assert together[-1] > apart[-1] - 0.03
    assert together[1:-1].mean() > apart[1:-1].mean()


def test_an_interrupted_training_ends_with_the_same_weights(
    teacher: tuple[Tier, Teacher], tmp_path: Path
) -> None:
    full, said = teacher

    def train(folder: Path, stop: int | None = None) -> Tier:
        epochs, deep = iter(range(10)), student(full, said)

        def held_out() -> float:
            if next(epochs) == stop:
                raise KeyboardInterrupt
            return 0.0

        folder.mkdir(exist_ok=True)
        options = Options("deep", 3, 16, 3e-3)
        distill(deep, said, options, held_out=held_out, folder=folder)
        return deep

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop=1)
    again = train(tmp_path / "cut")
    for name, value in again.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
