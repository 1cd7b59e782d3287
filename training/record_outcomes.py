"""Step `outcomes`: calibrate every exit on the fit split, and record all held-out splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

from adaptive.bundle.outcomes import load_outcomes, save_outcomes
from adaptive.cells import Labels, known_labels, unknown_like
from adaptive.exits.calibration import fit_reliability, reliability_error
from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import Record, answers_of, features_of, routing_features, tabulate
from adaptive.policy.worth import as_good, concatenate, reclassified
from adaptive.tasks import SINGLE_LABEL, Task, task_from_json
from adaptive.tiers.tier import Tier
from adaptive.training.groups import load_groups
from adaptive.training.learn.recorded import Kept, recorded
from adaptive.training.parts import DTYPES, load_tiers, log_frequency_of, task_of
from adaptive.training.rows import load_rows
from adaptive.training.smooth import chances, expected_drop, fit_pool
from adaptive.training.steps import Context, Figures, Step
from adaptive.types import OutcomeTable, Sampled, Stage

HELD_OUT = ("fit", "search", "certify", "test")
TASK = "task.json"
ASKED = "labels"  # the step that asks for labels, see `adaptive.training.ask_labels`
SMOOTHED = ("fit", "search")  # whose rows' losses the search smoothes
BATCH = 128


def _work(context: Context, folder: Path) -> Figures:
    # in the dtype they will be served in: rounding moves answers near the boundary
    tiers = load_tiers(context, DTYPES[context.recipe.cost.dtype])
    rows = {split: load_rows(context.folder("data") / f"{split}.safetensors") for split in HELD_OUT}
    tokens, labels = rows["fit"]
    kept = Kept(recorded(tiers, tokens, BATCH, context.on_event), folder, context.device)
    task = task_of(context)
    if known_labels(labels):
        task = task.fitted(_full_logits(kept).numpy(), labels)
    reliability, figures = calibrate(kept, labels, right=context.recipe.abstains, task=task)
    (folder / TASK).write_text(json.dumps(task.to_json()), encoding="utf-8")
    save_file(reliability.to_tensors(), folder / "reliability.safetensors")
    reliability.to(context.device)
    # of the tiers, in what they say together
    pooled = task.exclusive and known_labels(labels)
    weights = fit_pool(kept, reliability, labels) if pooled else None
    frequency = log_frequency_of(context)
    for split, (tokens, labels) in rows.items():
        if not len(tokens):
            continue
        again = kept if split == "fit" else recorded(tiers, tokens, BATCH, context.on_event)
        parts, begun = _Parts([], [], []), 0
        for piece in again:
            own = labels[begun : begun + len(piece.tokens)]
            begun += len(own)
            parts.tables.append(tabulate(piece, reliability, own, None, frequency, task))
            parts.features.append(routing_features(piece, reliability, frequency, task).cpu())
            if split in SMOOTHED and weights is not None:
                parts.chances.append(chances(piece, reliability, weights))
        parts.save(folder, split)
    kept.remove()
    (folder / "stages.json").write_text(json.dumps(_describe(tiers)), encoding="utf-8")
    return figures


class _Parts(NamedTuple):
    """What is kept of a split, piece by piece."""

    tables: list[OutcomeTable]
    features: list[torch.Tensor]
    chances: list[NDArray[np.float64]]

    def save(self, folder: Path, split: str) -> None:
        save_outcomes(concatenate(self.tables), folder / f"{split}.safetensors")
        seen = {"features": torch.cat(self.features)}
        save_file(seen, folder / f"{split}.routing.safetensors")
        if self.chances:
            chance = {"chance": torch.from_numpy(np.concatenate(self.chances))}
            save_file(chance, folder / f"{split}.chance.safetensors")


def calibrate(
    records: Sequence[Record],
    labels: Labels,
    *,
    right: bool = False,
    task: Task = SINGLE_LABEL,
) -> tuple[Reliability, Figures]:
    """Temperature and reliability of every stage, on rows no weight was trained on.

    An answer is good where it is not worse than the full tier's in float32: as right, or more
    so; without labels, where the two agree.

    Args:
        records: of the rows, in pieces. They are gone over more than once.
        labels: [n, ...] of all rows.
        right: whether the full tier's last answer is good only where it is right, if labels are
            known. As good as itself it always is, which says nothing to a policy that may abstain.
        task: what the answers are, with what it fits itself.
    """
    stages = range(len(records[0].stages))
    reliability = Reliability(len(stages), task.features)
    full, last = _full_logits(records).numpy(), stages[-1]
    for k in stages:
        logits = torch.cat([each.logits[k].cpu() for each in records]).numpy()
        reliability.set_temperature(k, task.temperature(logits, labels, full))
    reliability.to(records[0].logits[0].device)
    found = [[row.cpu() for row in features_of(each, reliability, task)] for each in records]
    good = _good(records, reliability, labels, task)
    if right and known_labels(labels):
        answered = [answers_of(each, reliability, labels, task)[0][last] for each in records]
        good[:, last] = task.same(np.concatenate(answered), labels)
    reliability.cpu()
    errors = []
    for k in stages:
        features = torch.cat([each[k] for each in found])
        ok = good[:, k]
        mean, scale, weight, bias = fit_reliability(features.numpy(), ok, task.features)
        reliability.set_fit(k, (mean.tolist(), scale.tolist(), weight.tolist(), bias))
        errors.append(reliability_error(reliability(k, features).numpy(), ok))
    return reliability, {"calibration_error": max(errors)}


def _full_logits(records: Sequence[Record]) -> torch.Tensor:
    """The full tier's logits in float32, [n, c], on the host."""
    parts = [each.logits[-1] if each.reference is None else each.reference for each in records]
    return torch.cat([part.cpu() for part in parts])


def _good(
    records: Sequence[Record], reliability: Reliability, labels: Labels, task: Task
) -> NDArray[np.bool_]:
    """Whether each stage's answers are as good as the full tier's, [n, k]."""
    told = labels if known_labels(labels) else unknown_like(labels, len(labels))
    found, begun = [], 0
    for each in records:
        own = told[begun : begun + len(each.tokens)]
        begun += len(own)
        found.append(as_good(task.worth(*answers_of(each, reliability, own, task))[0]))
    return np.concatenate(found)


def load_table(context: Context, split: str) -> OutcomeTable:
    """A split's outcome table with the groups that targets name, without router risk."""
    folder = context.folder("outcomes")
    described = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    stages = tuple(Stage(*values) for values in described)
    table = load_outcomes(folder / f"{split}.safetensors", stages, split)
    if split == "search" and (context.folder(ASKED) / "step.json").is_file():
        table = _with_labels(table, context.folder(ASKED))
    return replace(table, groups=load_groups(context, split))


def _with_labels(table: OutcomeTable, folder: Path) -> OutcomeTable:
    """The outcomes of a pool's search rows with the labels that were asked for."""
    labels = load_numpy(folder / "search.safetensors")["labels"]
    sampled = Sampled(**json.loads((folder / "sampled.json").read_text(encoding="utf-8")))
    return replace(reclassified(table, labels=labels), sampled=sampled)


def load_features(context: Context, split: str) -> torch.Tensor:
    """What a router sees of a split's texts, [n, F]."""
    return load_file(context.folder("outcomes") / f"{split}.routing.safetensors")["features"]


def load_drop(context: Context) -> NDArray[np.float64] | None:
    """What each stage's answers to the search rows are expected to lose, [n, k].

    None where rows are without labels.
    """
    files = [context.folder("outcomes") / f"{split}.chance.safetensors" for split in SMOOTHED]
    tables = [load_table(context, split) for split in SMOOTHED]
    if not all(file.is_file() for file in files) or not tables[1].worth.known:
        return None
    return expected_drop(tables, [load_file(file)["chance"].numpy() for file in files], 1)


def load_reliability(context: Context) -> Reliability:
    """The calibrated exits."""
    tensors = load_file(context.folder("outcomes") / "reliability.safetensors")
    return Reliability.from_tensors(tensors, expected=task_of(context).features)


def load_task(context: Context) -> Task:
    """What answers are, with what was fitted of it."""
    file, task = context.folder("outcomes") / TASK, task_of(context)
    if not file.is_file():  # of a build before there were tasks
        return task
    return task_from_json(task.name, json.loads(file.read_text(encoding="utf-8")))


def _describe(tiers: tuple[Tier, ...]) -> list[list[int]]:
    return [[t, e, d] for t, tier in enumerate(tiers) for e, d in enumerate(tier.depths)]


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step("outcomes", ("data", *tiers), _reads, _work)


def _reads(context: Context) -> Any:
    # the chances distinguish what this step writes from what it wrote before there were any
    recipe = context.recipe
    reads: dict[str, Any] = {"dtype": recipe.cost.dtype, "writes": "chances"}
    if "full" in recipe.exported or recipe.cost.dtype != "float32":
        reads["reference"] = "float32"  # tables had none before
    return reads | ({"abstains": True} if recipe.abstains else {})
