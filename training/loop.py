"""The training loop that every learned part shares."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from adaptive.training.journal import Journal

logger = logging.getLogger(__name__)
Rows = NDArray[np.int64]
LOG_EVERY = 20  # optimiser steps between two points of the loss curve
STEPS = "optimiser steps"
POOL = 50  # batches whose rows are sorted by length together


@dataclass(frozen=True, slots=True)
class Options:
    """How to optimise."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    warmup: float = 0.1  # share of the steps
    bfloat16: bool = False
    seed: int = 0


def fit(
    model: nn.Module,
    loss: Callable[[Rows], torch.Tensor],
    lengths: NDArray[np.int64],
    options: Options,
    folder: Path,
    journal: Journal,
    quiet: bool,
    held_out: Callable[[], float] | None = None,
) -> int:
    """Minimise the mean of `loss(rows)` over all rows by AdamW with a linear schedule.

    Each epoch is seeded by its number and followed by a checkpoint in `folder`, so a run that
    was interrupted goes on at its last whole epoch and ends where it would have ended.

    Args:
        loss: of a batch of row numbers, a scalar.
        lengths: [n] tokens of each row; batches hold rows of like length.
        held_out: how good the model is on rows that it does not learn from; the greater the
            better. It is asked after each epoch, the model keeps the weights of the best (of
            equals the last), and training stops where half of all its epochs were no better: most
            is won while the learning rate falls. None for all epochs, and the weights of the last.

    Returns:
        Optimiser steps done.
    """
    steps = options.epochs * math.ceil(len(lengths) / options.batch_size)
    # On two CPU cores the unfused step takes as long as the backward pass.
    optimizer = torch.optim.AdamW(
        _groups(model, options.weight_decay), lr=options.learning_rate, fused=True
    )
    warm = max(1, round(options.warmup * steps))
    checkpoint = folder / f"{options.name}.checkpoint.safetensors"
    best = folder / f"{options.name}.best.safetensors"
    step, score, without = _restore(checkpoint, model, optimizer)
    device = next(model.parameters()).device
    epochs_done = step * options.epochs // steps
    bar = tqdm(total=steps, initial=step, desc=options.name, disable=quiet)
    journal.at(step, steps, STEPS)
    told: float | None = None
    model.train()
    for number in range(epochs_done, options.epochs):
        if 2 * without >= options.epochs:
            logger.info("%s: %d epochs were no better, stopped early", options.name, without)
            break
        seed = options.seed * 1000 + number
        torch.manual_seed(seed)
        for rows in bucketed(lengths, options.batch_size, np.random.default_rng(seed)):
            for group in optimizer.param_groups:
                rate = min(1.0, (step + 1) / warm) * (1.0 - step / steps)
                group["lr"] = options.learning_rate * rate
            with autocast(device, options.bfloat16):
                value = loss(rows)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % LOG_EVERY == 0:
                told = float(value.detach())
                journal.scalar(f"loss/{options.name}", told, step)
                bar.set_postfix(loss=f"{told:.3f}")
            step += 1
            journal.at(step, steps, STEPS, told)
            bar.update()
        if held_out is not None:
            found = _measured(model, held_out)
            journal.scalar(f"held_out/{options.name}", found, step)
            without = 0 if found >= score else without + 1
            if found >= score:
                score = found
                _write(best, _weights(model))
        _save(checkpoint, model, optimizer, step, score, without)
    bar.close()
    if held_out is not None:
        model.load_state_dict(load_file(best))
    model.eval()
    for file in (checkpoint, best):
        file.unlink(missing_ok=True)
    return step


def _measured(model: nn.Module, held_out: Callable[[], float]) -> float:
    model.eval()
    with torch.no_grad():
        found = held_out()
    model.train()
    return found


def bucketed(
    lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> Iterator[Rows]:
    """All rows once, shuffled, in batches of like length."""
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * POOL):
        pool = order[start : start + batch_size * POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    for index in rng.permutation(len(batches)):
        yield batches[index]


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases and norms do not."""
    learned = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]


def autocast(device: torch.device, bfloat16: bool) -> contextlib.AbstractContextManager[object]:
    """Matrix products in bfloat16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else contextlib.nullcontext()


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _save(
    file: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    score: float,
    without: int,
) -> None:
    """Weights, AdamW's moments and where training is, as tensors: no pickle."""
    tensors = {f"model.{name}": value for name, value in _weights(model).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": v.detach().clone() for k, v in state.items()}
    tensors["step"] = torch.tensor(step)
    tensors["score"] = torch.tensor(score, dtype=torch.float64)
    tensors["without"] = torch.tensor(without)
    _write(file, tensors)


def _write(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    temporary = file.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    os.replace(temporary, file)


def _restore(
    file: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float, int]:
    """Load what `_save` wrote, if it is there.

    Returns:
        The step to go on at, the best score so far, and the epochs since.
    """
    if not file.is_file():
        return 0, -math.inf, 0
    tensors = load_file(file)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, index, field = name.split(".", 2)
            state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(tensors["step"]), float(tensors["score"]), int(tensors["without"])
