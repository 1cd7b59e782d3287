"""The training loop that every learned part shares."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from adaptive.device import heap
from adaptive.events import Listener, Progress, Scalar, ignore

logger = logging.getLogger(__name__)
Rows = NDArray[np.int64]
LOG_EVERY = 20  # optimiser steps between two points of the loss curve
STEPS = "optimiser steps"
_NAMES = ("adam", "sparse")  # of the optimisers in a checkpoint
TRIM_EVERY = 250  # optimiser steps
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
    folder: Path | None = None,
    on_event: Listener = ignore,
    held_out: Callable[[], float] | None = None,
    sparse: Sequence[nn.Parameter] = (),
    after: Callable[[int], None] | None = None,
) -> int:
    """Minimise the mean of `loss(rows)` over all rows by AdamW with a linear schedule.

    Each epoch is seeded by its number and, where there is a `folder`, followed by a checkpoint in
    it, so a run that was interrupted goes on at its last whole epoch and ends where it would have
    ended.

    Args:
        loss: of a batch of row numbers, a scalar.
        lengths: [n] tokens of each row; batches hold rows of like length.
        folder: of the checkpoints, which a finished training leaves none of; None for none.
        on_event: is told losses and how far it is.
        held_out: how good the model is on rows that it does not learn from; the greater the
            better. It is asked after each epoch, the model keeps the weights of the best (of
            equals the last), and training stops where half of all its epochs were no better: most
            is won while the learning rate falls. None for all epochs, and the weights of the last.
        sparse: parameters whose gradients are sparse: of these only the rows that a batch read are
            moved, by Adam without decay. A table of 100,000 rows is otherwise nearly all of a step.
        after: is called after each step with the steps done, while the gradients are there.

    Returns:
        Optimiser steps done.
    """
    steps = options.epochs * math.ceil(len(lengths) / options.batch_size)
    optimizers = _optimizers(model, options, sparse)
    warm = max(1, round(options.warmup * steps))
    checkpoint = None if folder is None else folder / f"{options.name}.checkpoint.safetensors"
    best = _Best(None if folder is None else folder / f"{options.name}.best.safetensors")
    step, score, without = _restore(checkpoint, model, optimizers)
    device = next(model.parameters()).device
    epochs_done = step * options.epochs // steps
    on_event(Progress(options.name, step, steps, STEPS))
    told: float | None = None
    model.train()
    for number in range(epochs_done, options.epochs):
        if 2 * without >= options.epochs:
            logger.info("%s: %d epochs were no better, stopped early", options.name, without)
            break
        seed = options.seed * 1000 + number
        torch.manual_seed(seed)
        for rows in bucketed(lengths, options.batch_size, np.random.default_rng(seed)):
            rate = min(1.0, (step + 1) / warm) * (1.0 - step / steps)
            for group in (group for each in optimizers for group in each.param_groups):
                group["lr"] = options.learning_rate * rate
            with autocast(device, options.bfloat16):
                value = loss(rows)
            model.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            _clip(model, sparse)
            for optimizer in optimizers:
                optimizer.step()
            if step % LOG_EVERY == 0:
                told = float(value.detach())
                on_event(Scalar(f"loss/{options.name}", told, step))
            step += 1
            if step % TRIM_EVERY == 0:
                heap.trim()
            if after is not None:
                after(step)
            on_event(Progress(options.name, step, steps, STEPS, told))
        if held_out is not None:
            found = _measured(model, held_out)
            on_event(Scalar(f"held_out/{options.name}", found, step))
            without = 0 if found >= score else without + 1
            if found >= score:
                score = found
                best.keep(_weights(model))
        if checkpoint is not None:
            _save(checkpoint, model, optimizers, step, score, without)
    if held_out is not None:
        model.load_state_dict(best.weights())
    model.eval()
    for file in (checkpoint, best.file):
        if file is not None:
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


def _optimizers(
    model: nn.Module, options: Options, sparse: Sequence[nn.Parameter]
) -> list[torch.optim.Optimizer]:
    # On two CPU cores the unfused step takes as long as the backward pass.
    dense = _groups(model, options.weight_decay, sparse)
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(dense, lr=options.learning_rate, fused=True)
    ]
    if sparse:
        found.append(torch.optim.SparseAdam(list(sparse), lr=options.learning_rate))
    return found


def _clip(model: nn.Module, sparse: Sequence[nn.Parameter], most: float = 1.0) -> None:
    """Scale all gradients down to a norm of `most` together."""
    for parameter in sparse:
        if parameter.grad is not None:
            parameter.grad = parameter.grad.coalesce()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    values = [each._values() if each.is_sparse else each for each in grads]
    norm = nn.utils.get_total_norm(values)
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for each in values:
        each.mul_(scale)


def _groups(
    model: nn.Module, weight_decay: float, sparse: Sequence[nn.Parameter]
) -> list[dict[str, object]]:
    """Matrices decay; biases and norms do not."""
    apart = {id(p) for p in sparse}
    learned = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    return [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]


def autocast(device: torch.device, bfloat16: bool) -> contextlib.AbstractContextManager[object]:
    """Matrix products in bfloat16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else contextlib.nullcontext()


class _Best:
    """The best weights so far, in a file or in memory."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._weights: dict[str, torch.Tensor] = {}

    def keep(self, weights: dict[str, torch.Tensor]) -> None:
        if self.file is None:
            self._weights = weights
        else:
            _write(self.file, weights)

    def weights(self) -> dict[str, torch.Tensor]:
        return self._weights if self.file is None else load_file(self.file)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _save(
    file: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    step: int,
    score: float,
    without: int,
) -> None:
    """Weights, AdamW's moments and where training is, as tensors: no pickle."""
    tensors = {f"model.{name}": value for name, value in _weights(model).items()}
    for name, optimizer in zip(_NAMES, optimizers, strict=False):
        for index, state in optimizer.state_dict()["state"].items():
            values = {key: torch.as_tensor(value) for key, value in state.items()}
            tensors |= {f"{name}.{index}.{k}": v.detach().clone() for k, v in values.items()}
    tensors["step"] = torch.tensor(step)
    tensors["score"] = torch.tensor(score, dtype=torch.float64)
    tensors["without"] = torch.tensor(without)
    _write(file, tensors)


def _write(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    temporary = file.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    os.replace(temporary, file)


def _restore(
    file: Path | None, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[int, float, int]:
    """Load what `_save` wrote, if it is there.

    Returns:
        The step to go on at, the best score so far, and the epochs since.
    """
    if file is None or not file.is_file():
        return 0, -math.inf, 0
    tensors = load_file(file)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for name, optimizer in zip(_NAMES, optimizers, strict=False):
        state: dict[int, dict[str, torch.Tensor | int]] = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}."):
                _, index, field = key.split(".", 2)
                # SparseAdam counts steps by a number, AdamW by a tensor
                plain = name == "sparse" and field == "step"
                state.setdefault(int(index), {})[field] = int(value) if plain else value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(tensors["step"]), float(tensors["score"]), int(tensors["without"])
