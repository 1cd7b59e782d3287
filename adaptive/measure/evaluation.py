"""How well and at what cost a cascade answers labelled texts, against each tier alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.cells import Labels
from adaptive.engine import answer
from adaptive.events import Listener, ignore
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.lookup import evaluate, tier_alone
from adaptive.policy.targets import divide, excess
from adaptive.text import tokens as token_rows
from adaptive.tiers.store import reference_of
from adaptive.types import ALWAYS, Evaluation, Groups, OutcomeTable, Policy, Target, Tokens

TIMED = 1024  # texts timed at most
REPEATS = 3


def evaluate_texts(
    bundle: Bundle,
    policy: Policy,
    tokens: Tokens,
    labels: Labels,
    *,
    groups: Mapping[str, Groups] | None = None,
    batch_size: int = 32,
    on_event: Listener = ignore,
) -> dict[str, Any]:
    """Answer every text by the policy and by each tier alone.

    Args:
        tokens: one row a text.
        labels: [n, ...] as `bundle.task.cells` makes them; where some are not known, accuracies
            are None.
        groups: by column, to be told apart.

    Returns:
        `report`, with `milliseconds` a text measured on up to `TIMED` of them in `rows`, the
        `time_ratio` of the full tier as it is served and the policy, the `batch_size` timed, and
        the share of texts that were `cut` at `max_length` tokens; and `single`, see `best_single`.
    """
    table = replace(outcomes(bundle, tokens, labels, batch_size, on_event), groups=groups or {})
    found = report(bundle, policy, table)
    served = ways(bundle, policy)
    times = timings(bundle, served, tokens, batch_size)
    if not table.worth.own:
        plain = in_float32(bundle)
        alone = tier_alone(bundle.stages, len(bundle.tiers) - 1)
        times |= timings(plain, {_float_name(bundle): alone}, tokens, batch_size)
    for row in found["rows"]:
        row["milliseconds"] = times[row["name"]]
    found["time_ratio"] = _ratio(times[list(served)[-1]], times["policy"])
    found["single"] = best_single(bundle, policy, table, found["rows"])
    found["batch_size"] = batch_size
    found |= {"max_length": bundle.max_length, "cut": float(tokens.truncated.mean())}
    return found


def report(bundle: Bundle, policy: Policy, table: OutcomeTable) -> dict[str, Any]:
    """What the outcome table says of the policy and of each tier alone.

    Returns:
        `texts`; `quality`, what `accuracy` is called of other tasks than classes, see
        `Task.quality`; `rows`, each with `name`, `accuracy`, `agreement` with the full tier (of
        the texts answered), `work` in layers x tokens a text and, where the policy may abstain, the
        share `abstained`; `stage_shares` of the policy; `groups` of the table
        with the policy's accuracy and agreement in each; `accuracy_ratio` and `work_ratio` of
        the full tier and the policy. Where the full tier is not served in float32 in torch,
        accuracy and agreement are held to it in float32, which has the last row.
    """
    work = work_of(bundle.tiers, bundle.router).at(table.tokens)
    known = table.worth.known
    rows: list[dict[str, Any]] = []
    for name, way in ways(bundle, policy).items():
        result = evaluate(way, table, work)
        answered = result.answered
        row: dict[str, Any] = {
            "name": name,
            "accuracy": _mean(result.score, answered) if known else None,
            "agreement": _mean(result.alike, answered),
            "work": float(result.cost.mean()),
        }
        if way.abstain != ALWAYS:
            row["abstained"] = float(1.0 - answered.mean())
        rows.append(row)
    chosen = evaluate(policy, table, work)
    if not table.worth.own:
        every = np.ones(len(table), dtype=np.bool_)
        right = _mean(table.worth.reference, every) if known else None
        exact = {"name": _float_name(bundle), "accuracy": right, "agreement": 1.0}
        rows.append({**exact, "work": rows[-1]["work"]})
    first, last = rows[0], rows[-1]
    return {
        "texts": len(table),
        "quality": bundle.task.quality,
        "rows": rows,
        "stage_shares": stage_shares(bundle, chosen.stage),
        "groups": group_rows(table, chosen),
        "accuracy_ratio": _ratio(first["accuracy"], last["accuracy"]),
        "work_ratio": _ratio(last["work"], first["work"]),
    }


def best_single(
    bundle: Bundle, policy: Policy, table: OutcomeTable, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The fastest tier that keeps the targets on these rows when it answers all texts alone.

    It is what a user would take in place of the policy.

    Args:
        rows: of a report, with milliseconds.

    Returns:
        `name`, `accuracy_ratio`, `work_ratio` and `time_ratio` against the full tier, and
        `policy_time_ratio`, the policy's time over its own. None where no tier keeps the targets,
        or the rows lack the labels or groups that tell.
    """
    costs = (bundle.costs or work_of(bundle.tiers, bundle.router)).at(table.tokens)
    alone = {name: way for name, way in ways(bundle, policy).items() if name != "policy"}
    try:
        kept = [
            name
            for name, way in alone.items()
            if _keeps(bundle.targets, evaluate(way, table, costs), table)
        ]
    except ValueError:
        return None
    told = {row["name"]: row for row in rows}
    if not kept:
        return None
    name = min(kept, key=lambda each: told[each]["milliseconds"])
    own, full = told[name], told[list(alone)[-1]]
    return {
        "name": name,
        "accuracy_ratio": _ratio(own["accuracy"], rows[-1]["accuracy"]),
        "work_ratio": _ratio(full["work"], own["work"]),
        "time_ratio": _ratio(full["milliseconds"], own["milliseconds"]),
        "policy_time_ratio": _ratio(told["policy"]["milliseconds"], own["milliseconds"]),
    }


def _keeps(targets: Sequence[Target], result: Evaluation, table: OutcomeTable) -> bool:
    """Whether every target holds on these rows, in each of its groups.

    Raises:
        ValueError: labels or groups are missing.
    """
    for target in targets:
        groups, values = divide(target, table), excess(target, result, table)
        for number in np.unique(groups.index):
            if values[groups.index == number].mean() > 1e-12:  # but for rounding
                return False
    return True


def group_rows(table: OutcomeTable, result: Evaluation) -> list[dict[str, Any]]:
    """How the texts of each group were answered, and how the full tier answers them."""
    known, rows = table.worth.known, []
    for column, groups in table.groups.items():
        for number, name in enumerate(groups.names):
            own = groups.index == number
            if own.any():
                answered = own & result.answered
                rows.append(
                    {
                        "group": f"{column} = {name}",
                        "texts": int(own.sum()),
                        "accuracy": _mean(result.score, answered) if known else None,
                        "full_accuracy": _mean(table.worth.reference, own) if known else None,
                        "agreement": _mean(result.alike, answered),
                    }
                )
    return rows


def ways(bundle: Bundle, policy: Policy) -> dict[str, Policy]:
    """The policy, then each tier alone; the full one is last."""
    alone = {
        f"{tier.name} alone": tier_alone(bundle.stages, index)
        for index, tier in enumerate(bundle.tiers)
    }
    return {"policy": policy, **alone}


def in_float32(bundle: Bundle) -> Bundle:
    """The bundle with its full tier in float32 in torch, loaded anew where need be."""
    return replace(bundle, tiers=(*bundle.tiers[:-1], reference_of(bundle.tiers[-1])))


def _float_name(bundle: Bundle) -> str:
    """The row of a full tier that is served otherwise, in float32."""
    return f"{bundle.tiers[-1].name} alone, float32"


def stage_shares(bundle: Bundle, stage: NDArray[np.int32]) -> dict[str, float]:
    """Share of the texts [n] that each stage answered, by `tier@depth`."""
    shares = np.bincount(stage, minlength=len(bundle.stages)) / max(1, len(stage))
    return {
        stage_name(bundle, index): float(share) for index, share in enumerate(shares) if share > 0
    }


def stage_name(bundle: Bundle, stage: int) -> str:
    """A stage as people read it: `mid@2` is the mid tier's exit behind two layers."""
    place = bundle.stages[stage]
    return f"{bundle.tiers[place.tier].name}@{place.depth}"


def timings(
    bundle: Bundle, policies: Mapping[str, Policy], tokens: Tokens, batch_size: int
) -> dict[str, float]:
    """Milliseconds a text under each policy, token rows to answers.

    Medians of `REPEATS` runs over the same texts, the policies taking turns so that a machine
    that slows down slows all of them.
    """
    rows = np.linspace(0, len(tokens) - 1, min(TIMED, len(tokens))).astype(np.int64)
    some = token_rows.select(tokens, np.unique(rows))
    times: dict[str, list[float]] = {name: [] for name in policies}
    for repeat in range(REPEATS + 1):  # the first round warms up
        for name, policy in policies.items():
            took = _seconds(bundle, some, policy, batch_size)
            if repeat:
                times[name].append(took)
    return {name: float(np.median(t)) * 1e3 / len(some) for name, t in times.items()}


def _seconds(bundle: Bundle, tokens: Tokens, policy: Policy, batch_size: int) -> float:
    start = time.perf_counter()
    answer(bundle, tokens, policy, batch_size)
    if bundle.device.type == "cuda":
        torch.cuda.synchronize(bundle.device)
    return time.perf_counter() - start


def _mean(values: NDArray[np.floating], rows: NDArray[np.bool_]) -> float | None:
    """Over the rows; None where there are none."""
    return float(values[rows].mean(dtype=np.float64)) if rows.any() else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
