"""What early exits gain on one GPU, against the full model eager, compiled and as CUDA graphs.

    python benchmarks/runtime_gpu.py
    python benchmarks/runtime_gpu.py --bundle FOLDER --data FILE.csv

Needs no network. Shapes of random weights get token ids drawn at random, half the rows short and
half long, and leave by the patterns of `runtime_cases`; a bundle gets the texts of a CSV file and
leaves by its own policy. Everything is timed from token rows on the host to labels on the host,
so no call returns before the device is done; ways take turns, ratios are medians over rounds.
Ours launches CUDA graphs where `adaptive.tiers.captured` reckons that they pay, and `full only,
without graphs` never, which shows whether it reckons right. The full models get padded batches of
rows alike in length, compiled and graphs of widths rounded up to a multiple of 32, so that few
shapes are compiled and captured. `--device cpu --small` shows that it runs; a record is written on
a GPU alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import records
import runtime_cases
import torch
from gpu_models import BASELINES, Row, Serve, baseline, join, ours
from peer_models import Plain
from runtime_peers import Times, latency, share_alike, some_texts, speed, timed
from transformers import BertConfig

from adaptive import AdaptivePipeline
from adaptive.answers import Prices
from adaptive.bundle.contents import Bundle
from adaptive.cascade import answer
from adaptive.policy import tier_alone
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.source import untrained_model
from adaptive.types import Policy
from adaptive.work import work_of

SHAPES: Mapping[str, Mapping[str, int]] = {
    "bert_base": {},
    "bert_large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
}
BATCHES = (1, 8, 32, 128, 512, 1024, 4096)
FULL, SINGLY = "full only", "full only, without graphs"
LEAST, MOST = 64, 8  # rows of a round at least; batches of a round, beyond them
SQUARE, SMALL_SQUARE = 8192, 256  # of the matmul whose speed is the peak


@dataclass(frozen=True, slots=True)
class Subject:
    """A cascade on the device, the rows it gets, and the policies it is measured under."""

    name: str
    bundle: Bundle
    rows: list[Row]
    policies: Mapping[str, Policy]

    @property
    def alone(self) -> Policy:
        """The last tier and nothing else."""
        return tier_alone(self.bundle.stages, len(self.bundle.tiers) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--bundle", type=Path, help="a finished one's folder")
    parser.add_argument("--data", type=Path, help="CSV with a column text, for the bundle")
    parser.add_argument("--baselines", nargs="*", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "records" / "runtime_gpu.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    if (given.bundle is None) != (given.data is None):
        parser.error("--bundle and --data go together")
    device = torch.device(given.device)
    peak = matmul_peak(device, getattr(torch, given.dtype), SMALL_SQUARE if given.small else SQUARE)
    found: dict[str, Any] = {"matmul_teraflops": round(peak / 1e12, 3), "lines": []}
    for subject in subjects(given, device):
        found["lines"] += measure(subject, given, peak)
    found["measured"] = {name: getattr(given, name) for name in ("dtype", "repeats", "seed")}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        records.write(given.record, found)
    print(json.dumps(found, indent=1), flush=True)


def subjects(given: argparse.Namespace, device: torch.device) -> Iterator[Subject]:
    """One after another, so that one alone is in memory."""
    kind = getattr(torch, given.dtype)
    for name in given.shapes:
        torch.manual_seed(given.seed)
        config = BertConfig(**(SMALL if given.small else SHAPES[name]))
        backbone = Backbone(untrained_model(config, kind)).eval().to(device)
        rows = random_rows(given.rows, config.vocab_size, given.seed)
        case = runtime_cases.case_of(name, backbone, None, join(rows), given.seed, [])
        policies = {pattern: case.policies[pattern] for pattern in runtime_cases.PATTERNS}
        yield Subject(name, case.bundle, rows, policies)
    if given.bundle is not None:
        pipe = AdaptivePipeline.from_config(
            given.bundle, device=device, dtype=kind, uncertified=True
        )
        texts = some_texts(given.data, given.rows, given.seed)
        found = pipe.tokenize(texts)
        rows = np.split(found.ids, found.offsets[1:-1])
        yield Subject(pipe.bundle.name, pipe.bundle, rows, {"policy": pipe.policy})


def measure(subject: Subject, given: argparse.Namespace, peak: float) -> list[dict[str, Any]]:
    """A line for each batch size and way."""
    lines = []
    plain = Plain(copy.deepcopy(subject.bundle.tiers[-1])).eval()
    policies = {FULL: subject.alone, SINGLY: subject.alone, **subject.policies}
    own = {
        name: ours(subject.bundle, policy, graphs=name != SINGLY)
        for name, policy in policies.items()
    }
    made = {name: baseline(name, plain, subject.bundle.device) for name in given.baselines}
    for batch in given.batches:
        rows = subject.rows[: max(LEAST, MOST * batch)]
        ways, left_out = usable({**own, **made}, rows, batch)
        times, answers = timed(ways, rows, batch, given.repeats)
        work = {
            name: total_work(subject.bundle, policy, rows, batch)
            for name, policy in policies.items()
        }
        place = {"shape": subject.name, "batch": batch, "rows": len(rows)}
        for name in ways:
            alike = share_alike(answers[name], answers[FULL])
            told = figures(name, len(rows), times, work, peak)
            lines.append(place | {"way": name, "agreement": alike} | told)
        lines += [place | {"way": name, "left_out": why} for name, why in left_out.items()]
    return lines


def figures(
    name: str, rows: int, times: Mapping[str, Times], work: Mapping[str, float], peak: float
) -> dict[str, Any]:
    """What one way's times say; ratios of our policies are over each baseline there is.

    `realised_over_ideal` is time saved over work saved, against the full tier in our engine.
    `utilisation` counts the matrices' multiply-adds of real tokens, without attention's own.
    """
    spent = float(np.median(times[name].whole))
    calls = times[name].calls
    done = work.get(name, work[FULL])
    found: dict[str, Any] = {
        "texts_per_second": round(rows / spent, 1),
        "p50_milliseconds": round(1e3 * float(np.percentile(calls, 50)), 3),
        "p99_milliseconds": round(1e3 * float(np.percentile(calls, 99)), 3),
        "utilisation": round(2 * done / spent / peak, 4),
    }
    if name in work:
        found["over"] = {
            other: {
                "texts_per_second_ratio": speed(times[name], times[other]),
                "p50_ratio": latency(times[name], times[other], 50),
            }
            for other in times
            if other in BASELINES
        }
    if name == SINGLY:
        found["over_graphs"] = speed(times[name], times[FULL])
    elif name in work and name != FULL:
        saved = 1 - done / work[FULL]
        realised = 1 - 1 / speed(times[name], times[FULL])
        found |= {"work_saved": round(saved, 3), "realised_over_ideal": round(realised / saved, 3)}
    return found


def usable(
    ways: Mapping[str, Serve], rows: list[Row], batch: int
) -> tuple[dict[str, Serve], dict[str, str]]:
    """The ways that can do it, and why the others cannot; compiles and captures."""
    found, left_out = {}, {}
    for name, serve in ways.items():
        try:
            serve(rows, batch)
            found[name] = serve
        except Exception as error:  # memory, a compiler, a capture: the others are measured
            first = str(error).strip().partition("\n")[0]
            left_out[name] = f"{type(error).__name__}: {first[:100]}"
    return found, left_out


def total_work(bundle: Bundle, policy: Policy, rows: list[Row], batch: int) -> float:
    """Multiply-adds of all rows under a policy."""
    work = work_of(bundle.tiers, bundle.router)
    given = join(rows)
    found = answer(bundle, given, policy, batch)
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


def random_rows(count: int, vocabulary: int, seed: int) -> list[Row]:
    """Token ids drawn at random."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(runtime_cases.some_lengths(count, rng), runtime_cases.MAX_LENGTH)
    ids = rng.integers(4, vocabulary, lengths.sum(), dtype=np.int32)
    return np.split(ids, np.cumsum(lengths)[:-1])


if __name__ == "__main__":
    main()
