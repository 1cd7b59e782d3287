"""One batch size of one subject: ours and the baselines take turns, and what their times say.

Everything is timed from token rows on the host to labels on the host, so no call returns before
the device is done. Ratios are medians over rounds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gpu.models import Row, Serve, join, ours
from gpu.results import BASELINES, FULL, SINGLY
from gpu.subjects import CLINC, Subject
from peer_models import Ids
from runtime_peers import FAITHFUL, Times, clocked, latency, share_alike, speed

from adaptive.answers import Prices
from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.measure.work import work_of
from adaptive.types import Policy

WHOLE = (FULL, SINGLY)
LEAST, MOST = 32, (8, 4)  # rows of a round at least; batches of a round, beyond them
WARM = 3  # rounds before the first that counts: ours captures a size when it is met again,
ELSE = 2  # the others at once
ROUNDS = (3, 9)  # that count, at least and at most
CALLS = (16, 2)  # single calls of a round, of few rows and of many
MANY, SEVERAL = 32, 512


def measure(
    subject: Subject,
    batch: int,
    peak: float,
    *,
    baselines: tuple[str, ...] = BASELINES,
    policies: tuple[str, ...] = (),
    seconds: float = 5.0,
) -> list[dict[str, Any]]:
    """A line for each way of answering the subject's rows in batches of one size.

    Args:
        peak: FLOP/s of a large product, which utilisation is a share of.
        baselines: of `BASELINES`.
        policies: of the subject's, beside the full tier alone.
        seconds: that the rounds may take; at least three are made.
    """
    rows = subject.rows[: max(LEAST, MOST[batch > SEVERAL] * batch)]
    named = {FULL: subject.alone, SINGLY: subject.alone} if baselines else {FULL: subject.alone}
    named |= {name: subject.policies[name] for name in policies}
    own = {name: ours(subject.bundle, each, graphs=name != SINGLY) for name, each in named.items()}
    ways, left_out = usable(own, subject, baselines, rows, batch)
    times, answers = timed(ways, rows, batch, seconds)
    done = {name: total_work(subject.bundle, policy, rows, batch) for name, policy in named.items()}
    place = {"shape": subject.name, "batch": batch, "rows": len(rows)}
    lines = []
    for name in ways:
        alike = share_alike(answers[name], answers[FULL])
        told = figures(name, len(rows), times, done, peak)
        lines.append(place | {"way": name, "agreement": alike} | told)
    for name in named:
        if name in ways and name != SINGLY:
            line = next(each for each in lines if each["way"] == name)
            line["over_fastest"] = over_fastest(line, lines)
    return lines + [place | {"way": name, "left_out": why} for name, why in left_out.items()]


def usable(
    own: Mapping[str, Serve],
    subject: Subject,
    baselines: tuple[str, ...],
    rows: list[Row],
    batch: int,
) -> tuple[dict[str, Serve], dict[str, str]]:
    """The ways that can do it, and why the others cannot; compiles and captures."""
    found, left_out = {}, {}
    for name in (*own, *baselines):
        try:
            serve = own[name] if name in own else subject.shop.make(name)
            for _ in range(WARM if name in own else ELSE):
                serve(rows, batch)
            found[name] = serve
        except Exception as error:  # memory, a compiler, a capture: the others are measured
            first = str(error).strip().partition("\n")[0]
            left_out[name] = f"{type(error).__name__}: {first[:200]}"
    return found, left_out


def timed(
    ways: Mapping[str, Serve], rows: list[Row], batch: int, seconds: float
) -> tuple[dict[str, Times], dict[str, Ids]]:
    """Times of each way, taking turns, and its answers."""
    times = {name: Times([], []) for name in ways}
    answers: dict[str, Ids] = {}
    count = CALLS[batch > MANY]
    parts = [rows[i : i + batch] for i in range(0, min(len(rows), count * batch), batch)]
    least, most = ROUNDS
    for serve in ways.values():
        for part in parts * 2:
            serve(part, batch)
    begun = time.perf_counter()
    for done in range(most):
        if done >= least and (time.perf_counter() - begun) * (done + 1) / done > seconds:
            break
        for name, serve in ways.items():
            answers[name], spent = clocked(serve, rows, batch)
            times[name].whole.append(spent)
            times[name].calls.extend(clocked(serve, part, batch)[1] for part in parts)
    return times, answers


def figures(
    name: str, rows: int, times: Mapping[str, Times], work: Mapping[str, float], peak: float
) -> dict[str, Any]:
    """What one way's times say; ratios of ours are over each way to run the full tier.

    `realised_over_ideal` is time saved over work saved, against the full tier in our engine.
    `utilisation` counts the matrices' multiply-adds of real tokens, without attention's own.
    """
    spent = float(np.median(times[name].whole))
    calls = times[name].calls
    done = work.get(name, work[FULL])
    found: dict[str, Any] = {
        "texts_per_second": round(rows / spent, 1),
        "p50_milliseconds": round(1e3 * float(np.percentile(calls, 50)), 4),
        "p99_milliseconds": round(1e3 * float(np.percentile(calls, 99)), 4),
        "utilisation": round(2 * done / spent / peak, 4),
        "rounds": len(times[name].whole),
    }
    if name in work:
        found["over"] = {
            other: {
                "texts_per_second_ratio": speed(times[name], times[other]),
                "p50_ratio": latency(times[name], times[other], 50),
            }
            for other in times
            if other in BASELINES or (name not in WHOLE and other in WHOLE)
        }
    if name == SINGLY:
        found["over_graphs"] = speed(times[name], times[FULL])
    elif name in work and name != FULL:
        saved = 1 - done / work[FULL]
        ratio = speed(times[name], times[FULL])
        found |= {"over_full_only": ratio, "work_saved": round(saved, 3)}
        if saved > 0.0:
            found["realised_over_ideal"] = round((1 - 1 / ratio) / saved, 3)
    return found


def over_fastest(line: Mapping[str, Any], lines: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Our speed over that of the fastest way to run the full tier, where that answers like it.

    Labels of random weights are nearly coins, so of these nothing is asked.
    """
    least = FAITHFUL if line["shape"] == CLINC else 0.0
    faithful = {each["way"] for each in lines if each["agreement"] >= least}
    over = {name: each for name, each in line["over"].items() if name in faithful}
    if not over:
        return None
    whole = min(over, key=lambda name: over[name]["texts_per_second_ratio"])
    single = max(over, key=lambda name: over[name]["p50_ratio"])
    return {
        "value": over[whole]["texts_per_second_ratio"],
        "way": whole,
        "p50_ratio": over[single]["p50_ratio"],
        "p50_way": single,
    }


def total_work(bundle: Bundle, policy: Policy, rows: list[Row], batch: int) -> float:
    """Multiply-adds of all rows under a policy."""
    work = work_of(bundle.tiers, bundle.router)
    given = join(rows)
    found = answer(bundle, given, policy, batch, whole=False)
    prices = Prices.of(bundle, policy, work)
    spent = prices.cost[found.entry, given.lengths, found.stage]
    return float(spent.sum()) * float(work.measured["layer_multiply_adds"])


def matmul_peak(device: torch.device, dtype: torch.dtype, square: int) -> float:
    """FLOP/s of the fastest of a few large products."""
    one, other = (torch.randn(square, square, device=device).to(dtype) for _ in range(2))
    least = float("inf")
    for _ in range(10):
        begun = time.perf_counter()
        (one @ other)[0, 0].item()  # waits
        least = min(least, time.perf_counter() - begun)
    return 2 * square**3 / least
