"""Ours against what a user would run instead, on finished bundles and their test rows.

Two runs of a bundle, under its own policy and with its full tier alone, and every peer of
`peer_models` that can be made here. Speeds are of all texts given at once, so that who sorts may
sort; latencies are of calls with one batch of texts each. Times are wall-clock time, from texts
to labels, and all take turns; a ratio is the median over rounds of two times of one round.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_models import PEERS, Ids, Serve, Shop

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.policy import tier_alone

SETS = ("clinc150", "ag_news", "sst2")
POLICY, FULL = "policy", "full only"
CALLS = 16  # of a round at most, for latencies
ALONE = 64  # texts at most where a batch is one
SAMPLE = 64  # texts for calibration
# A peer that agrees less with the full tier serves another model, and is not the fastest.
FAITHFUL = 0.95


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one way to answer."""

    whole: list[float]  # each round, all texts at once
    calls: list[float]  # each call of one batch, over all rounds


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the section `peers` needs to be told."""
    parser.add_argument("--bundles", type=Path, help="of finished ones, NAME/bundle each")
    parser.add_argument("--data", type=Path, help="NAME/test.csv each, columns text and label")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--threads", type=int, default=1, help="of ours and of every peer")


def peers(given: argparse.Namespace, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The record's parts about peers; of sets not measured now, what was there is kept."""
    threads = torch.get_num_threads()
    torch.set_num_threads(given.threads)
    lines = [line for line in kept.get("peers", []) if line["data"] not in given.sets]
    summary = dict(kept.get("certified_over_fastest_peer", {}))
    left_out: dict[str, str] = {}
    begun = os.getloadavg()[0]
    for name in given.sets:
        found, told = measure_set(name, given, left_out)
        lines += found
        summary[name] = told
    torch.set_num_threads(threads)
    return {
        "peers": lines,
        "certified_over_fastest_peer": summary,
        "peers_left_out": left_out,
        "load": {"before": round(begun, 2), "after": round(os.getloadavg()[0], 2)},
    }


def measure_set(
    name: str, given: argparse.Namespace, left_out: dict[str, str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every peer on one data set, and ours over the fastest at each batch size."""
    bundle = AdaptivePipeline.from_config(given.bundles / name / "bundle").bundle
    texts = some_texts(given.data / name / "test.csv", given.texts + SAMPLE, given.seed)
    sample, texts = texts[:SAMPLE], texts[SAMPLE:]
    lines, fastest = [], []
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(bundle, Path(folder), sample, given.threads)
        versions, ways = gather(given.peers, shop, left_out)
        ways |= ours(bundle)
        for batch in given.batches:
            found = list(measure_batch(ways, texts, batch, given.repeats))
            lines += [
                {"peer": line["peer"], "version": versions[line["peer"]], "data": name} | line
                for line in found
            ]
            same = [line for line in found if line["dtype"] == bundle.dtype]
            fastest.append(
                {"batch": batch, **over_fastest(found), "same_dtype": over_fastest(same)}
            )
    certified = bundle.certificate is not None and bundle.certificate.verdict == "CERTIFIED"
    answers = {way: ways[way](texts, max(given.batches)) for way in (POLICY, FULL)}
    return lines, {
        "policy": "certified" if certified else "uncertified, a held-out choice",
        "policy_agreement": round(float((answers[POLICY] == answers[FULL]).mean()), 4),
        "value": min((e["value"] for e in fastest if e["peer"] is not None), default=None),
        "by_batch": fastest,
    }


def gather(
    names: list[str], shop: Shop, left_out: dict[str, str]
) -> tuple[dict[str, str], dict[str, Serve]]:
    """Versions and ways of the peers that can be made; of the others, why not."""
    versions, ways = {}, {}
    for name in names:
        try:
            versions[name] = version(PEERS[name].package)
            serve = PEERS[name].make(shop)
            serve(shop.sample[:4], 4)  # some fail only then
            ways[name] = serve
        except Exception as error:  # whatever another runtime raises, the others are measured
            first = str(error).strip().partition("\n")[0]
            left_out[name] = f"{type(error).__name__}: {first[:100]}"
    return versions, ways


def ours(bundle: Bundle) -> dict[str, Serve]:
    """The bundle under its own policy, and its full tier alone."""
    alone = tier_alone(bundle.stages, len(bundle.tiers) - 1)
    full = replace(bundle, policy=alone, certificate=None)
    number = {label: index for index, label in enumerate(bundle.labels)}

    def serve(pipeline: AdaptivePipeline) -> Serve:
        def run(texts: list[str], batch: int) -> Ids:
            found = pipeline(texts, batch_size=batch)
            return np.array([number.get(each["label"], -1) for each in found])

        return run

    return {
        POLICY: serve(AdaptivePipeline(bundle)),
        FULL: serve(AdaptivePipeline(full)),
    }


def measure_batch(
    ways: Mapping[str, Serve], texts: list[str], batch: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """A line for each peer."""
    texts = texts[:ALONE] if batch == 1 else texts
    times, answers = timed(ways, texts, batch, repeats)
    for name in ways:
        if name in (POLICY, FULL):
            continue
        yield {
            "peer": name,
            "dtype": PEERS[name].dtype,
            "batch": batch,
            "texts_per_second_ratio": speed(times[POLICY], times[name]),
            "full_only_ratio": speed(times[FULL], times[name]),
            "p50_ratio": latency(times[POLICY], times[name], 50),
            "p99_ratio": latency(times[POLICY], times[name], 99),
            "peak_memory_ratio": None,
            "agreement": round(float((answers[name] == answers[FULL]).mean()), 4),
            "peer_milliseconds_a_text": round(
                1e3 * float(np.median(times[name].whole)) / len(texts), 3
            ),
            "texts": len(texts),
            "calls": len(times[name].calls),
        }


def timed(
    ways: Mapping[str, Serve], texts: list[str], batch: int, repeats: int
) -> tuple[dict[str, Times], dict[str, Ids]]:
    """Times of each way, taking turns, and its answers; the first round warms up."""
    times = {name: Times([], []) for name in ways}
    answers: dict[str, Ids] = {}
    starts = range(0, min(len(texts), CALLS * batch), batch)
    for repeat in range(repeats + 1):
        for name, serve in ways.items():
            found, spent = clocked(serve, texts, batch)
            calls = [clocked(serve, texts[i : i + batch], batch)[1] for i in starts]
            if repeat:
                times[name].whole.append(spent)
                times[name].calls.extend(calls)
            else:
                answers[name] = found
    return times, answers


def clocked(serve: Serve, texts: list[str], batch: int) -> tuple[Ids, float]:
    """Answers, and the seconds that they took."""
    begun = time.perf_counter()
    found = serve(texts, batch)
    return found, time.perf_counter() - begun


def speed(one: Times, other: Times) -> float:
    """Texts a second of one over those of the other."""
    ratios = [b / a for a, b in zip(one.whole, other.whole, strict=True)]
    return round(float(np.median(ratios)), 3)


def latency(one: Times, other: Times, percentile: int) -> float:
    """A percentile of one's calls over that of the other's."""
    a, b = (float(np.percentile(each.calls, percentile)) for each in (one, other))
    return round(a / b, 3)


def over_fastest(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Speed of the policy over that of the fastest peer, which is named."""
    faithful = [line for line in lines if line["agreement"] >= FAITHFUL]
    if not faithful:
        return {"value": None, "peer": None}
    found = min(faithful, key=lambda line: line["texts_per_second_ratio"])
    return {"value": found["texts_per_second_ratio"], "peer": found["peer"]}


def some_texts(file: Path, count: int, seed: int) -> list[str]:
    """Texts of a file, drawn without replacement."""
    with file.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    rows = np.random.default_rng(seed).permutation(len(texts))[:count]
    return [texts[row] for row in rows]
