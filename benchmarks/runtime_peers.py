"""Ours against what a user would run instead, on finished bundles and their test rows.

Three runs of a bundle, under its own policy, with its full tier alone and with the best of the
other tiers alone, which a user would distil and stop there; and every peer of `peer_models` that
can be made here. Speeds are of all texts given at once, so that who sorts may
sort; latencies are of calls with one batch of texts each. Times are wall-clock time, from texts
to labels, and all take turns; a ratio is the median over rounds of two times of one round. Memory
is the peak of processes that load and serve the same texts, one a way, see `peer_memory`.

    pip install onnxruntime onnx onnxscript openvino nncf ctranslate2

makes the peers that are not torch's; those that fail are told in `left_out`.
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_memory import measure_peaks
from peer_models import (
    FULL,
    PEERS,
    POLICY,
    SINGLE,
    SMALL,
    Ids,
    Serve,
    Shop,
    serve_pipeline,
    texts_of,
)
from runtime_parts import shares

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.measure.evaluation import in_float32
from adaptive.policy.lookup import tier_alone
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.graphs import Graphs
from adaptive.tiers.tier import Tier
from adaptive.training.graphs import write_graphs

SETS = ("clinc150", "ag_news", "sst2")
CALLS = 16  # of a round at most, for latencies
SAMPLE = 64  # texts for calibration
# A peer that agrees less with the full tier serves another model, and is not the fastest.
FAITHFUL = 0.95


Peaks = Mapping[str, Mapping[int, int]]  # bytes of each way by batch size


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
    lines = [line for line in kept.get("peers", []) if line["data"] not in given.sets]
    summary = dict(kept.get("certified_over_fastest_peer", {}))
    for name in given.sets:
        found, summary[name] = measure_set(name, given)
        lines += found
    return {"peers": lines, "certified_over_fastest_peer": summary}


def measure_set(name: str, given: argparse.Namespace) -> tuple[list[dict[str, Any]], Any]:
    """Every peer on one data set, and ours over the fastest at each batch size."""
    source = given.bundles / name / "bundle"
    texts = some_texts(given.data / name / "test.csv", given.texts + SAMPLE, given.seed)
    sample, texts = texts[:SAMPLE], texts[SAMPLE:]
    lines, fastest, before = [], [], os.getloadavg()[0]
    with one_pool(given.threads), tempfile.TemporaryDirectory() as folder:
        bundle = AdaptivePipeline.from_config(source).bundle
        versions, ways, left_out = gather(
            given.peers, Shop(bundle, Path(folder), sample, given.threads)
        )
        tier, kept = strongest_small(bundle)
        ways |= ours(bundle, Path(folder), tier)
        peaks = measure_peaks(list(ways), source, Path(folder), texts, given.batches, given.threads)
        for batch in given.batches:
            found, own = measure_batch(ways, texts, batch, given.repeats)
            for line in found:
                peer = line["peer"]
                memory = memory_ratio(peaks, peer, batch)
                lines.append(
                    {"peer": peer, "version": versions[peer], "data": name} | line | memory
                )
            own["breakdown"] = parts_of(ways[POLICY], texts, batch, given.repeats)
            own["peak_megabytes"] = {each: megabytes(peaks, each, batch) for each in (POLICY, FULL)}
            kind = "int8" if SMALL in ways else bundle.dtype
            same = [line for line in found if line["dtype"] == kind]
            fastest.append(
                {"batch": batch, **over_fastest(found), "same_dtype": over_fastest(same), **own}
            )
    certified = bundle.certificate is not None and bundle.certificate.verdict == "CERTIFIED"
    return lines, {
        "policy": "certified" if certified else "uncertified, a held-out choice",
        "dtype": bundle.dtype,
        "single_tier": {"name": bundle.tiers[tier].name, "kept": round(kept, 4)},
        "value": min((e["value"] for e in fastest if e["peer"] is not None), default=None),
        "by_batch": fastest,
        "left_out": left_out,
        "measured": {
            "texts": len(texts),
            "repeats": given.repeats,
            "seed": given.seed,
            "threads": given.threads,
            "load": [round(before, 2), round(os.getloadavg()[0], 2)],  # before and after
        },
    }


@contextmanager
def one_pool(threads: int) -> Iterator[None]:
    """So many threads for torch, while it lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def gather(names: list[str], shop: Shop) -> tuple[dict[str, str], dict[str, Serve], dict[str, str]]:
    """Versions and ways of the peers that can be made; of the others, why not."""
    versions, ways, left_out = {}, {}, {}
    for name in names:
        try:
            versions[name] = version(PEERS[name].package)
            serve = PEERS[name].make(shop)
            serve(shop.sample[:4], 4)  # some fail only then
            ways[name] = serve
        except Exception as error:  # whatever another runtime raises, the others are measured
            first = str(error).strip().partition("\n")[0]
            left_out[name] = f"{type(error).__name__}: {first[:100]}"
    return versions, ways, left_out


def strongest_small(bundle: Bundle) -> tuple[int, float]:
    """The tier before the full one that answers best alone, and what it keeps of the accuracy.

    Both by the bundle's search rows. Later tiers cost more; of equals the first is taken.
    """
    table = bundle.outcomes["search"]
    *last, _ = {stage.tier: k for k, stage in enumerate(table.stages)}.values()  # of each tier
    kept = table.worth.score[:, last].mean(0) / table.worth.reference.mean()
    tier = int(kept.argmax())
    return tier, float(kept[tier])


def ours(bundle: Bundle, folder: Path, single: int) -> dict[str, Serve]:
    """The bundle under its own policy, and tiers alone: the full one in float32, and as served."""
    alone = tier_alone(bundle.stages, len(bundle.tiers) - 1)
    served = replace(bundle, policy=alone, certificate=None)
    small = replace(served, policy=tier_alone(bundle.stages, single))
    ways = {POLICY: bundle, FULL: in_float32(served), SINGLE: small}
    if bundle.tiers[-1].int8:
        ways[SMALL] = served
        if bundle.tiers[-1].in_graphs:
            export(ways[FULL].tiers[-1], folder / "float32")
    return {name: serve_pipeline(AdaptivePipeline(way)) for name, way in ways.items()}


def export(tier: Tier, folder: Path) -> None:
    """Let ONNX Runtime run the layers of a tier in float32."""
    assert isinstance(tier.backbone, Backbone)
    write_graphs(copy.deepcopy(tier.backbone), tier.depths, folder)
    tier.backbone.graphs = Graphs(folder, tier.backbone.layers)


def measure_batch(
    ways: Mapping[str, Serve], texts: list[str], batch: int, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A line for each peer, and what is known of ours.

    Ratios are ours over theirs: of speed, where more is better for us, and of latency, where less
    is. `full_only_ratio` is of speed, of the full tier in the peer's dtype where the bundle has
    it, else in float32; all others are of the policy.
    """
    texts = texts_of(texts, batch)
    times, answers = timed(ways, texts, batch, repeats)

    def each_text(name: str) -> float:
        return round(1e3 * float(np.median(times[name].whole)) / len(texts), 3)

    lines = [
        {
            "peer": name,
            "dtype": PEERS[name].dtype,
            "batch": batch,
            "texts_per_second_ratio": speed(times[POLICY], times[name]),
            "full_only_ratio": speed(
                times[SMALL if PEERS[name].dtype == "int8" and SMALL in times else FULL],
                times[name],
            ),
            "p50_ratio": latency(times[POLICY], times[name], 50),
            "p99_ratio": latency(times[POLICY], times[name], 99),
            "agreement": share_alike(answers[name], answers[FULL]),
            "peer_milliseconds": each_text(name),
            "texts": len(texts),
            "calls": len(times[name].calls),
        }
        for name in ways
        if name in PEERS
    ]
    own = {
        "policy_milliseconds": each_text(POLICY),
        "full_only_milliseconds": each_text(FULL),
        **({"full_only_int8_milliseconds": each_text(SMALL)} if SMALL in times else {}),
        "policy_agreement": share_alike(answers[POLICY], answers[FULL]),
        "over_single": {
            "texts_per_second_ratio": speed(times[POLICY], times[SINGLE]),
            "p50_ratio": latency(times[POLICY], times[SINGLE], 50),
            "p99_ratio": latency(times[POLICY], times[SINGLE], 99),
            "single_agreement": share_alike(answers[SINGLE], answers[FULL]),
        },
    }
    return lines, own


def parts_of(serve: Serve, texts: list[str], batch: int, repeats: int) -> dict[str, float]:
    """Where the time of the policy goes, from texts to answers."""
    found = shares(partial(serve, texts_of(texts, batch), batch), repeats)
    return {name: round(share, 4) for name, share in found.items()}


def memory_ratio(peaks: Peaks, peer: str, batch: int) -> dict[str, Any]:
    """Peak memory of the policy over the peer's, None where a process of theirs failed."""
    one, other = megabytes(peaks, POLICY, batch), megabytes(peaks, peer, batch)
    ratio = round(one / other, 3) if one and other else None
    return {"peak_memory_ratio": ratio, "peer_peak_megabytes": other}


def megabytes(peaks: Peaks, name: str, batch: int) -> int | None:
    """Peak memory of one way."""
    found = peaks[name].get(batch)
    return None if found is None else round(found / 2**20)


def timed(
    ways: Mapping[str, Serve], texts: list[str], batch: int, repeats: int
) -> tuple[dict[str, Times], dict[str, Ids]]:
    """Times of each way, taking turns, and its answers; the first round warms up."""
    times = {name: Times([], []) for name in ways}
    answers: dict[str, Ids] = {}
    starts = range(0, min(len(texts), CALLS * batch), batch)
    for repeat in range(repeats + 1):
        for name, serve in ways.items():
            answers[name], spent = clocked(serve, texts, batch)
            if repeat:
                calls = (clocked(serve, texts[i : i + batch], batch) for i in starts)
                times[name].whole.append(spent)
                times[name].calls.extend(took for _, took in calls)
    return times, answers


def clocked(serve: Serve, texts: list[str], batch: int) -> tuple[Ids, float]:
    """Answers, and the seconds that they took."""
    begun = time.perf_counter()
    found = serve(texts, batch)
    return found, time.perf_counter() - begun


def share_alike(one: Ids, other: Ids) -> float:
    """Share of the texts that both answer alike."""
    return round(float((one == other).mean()), 4)


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
