"""How cost grows with texts, tiers, exits, classes and length.

Random weights of MiniLM's shape and random tokens; every exit is on and nobody leaves before the
last, which is the dearest way through. The number of texts alone grows through a generator and
the whole pipeline, under a bag that answers two in three and a much smaller shape behind it, lest
a million take an hour.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from peer_memory import peak_bytes
from transformers import BertConfig

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability
from adaptive.text.tokens import tokenize
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.source import untrained_model
from adaptive.tiers.tier import Tier
from adaptive.types import Policy, Target, Tokens

SHAPE = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
SMALL = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
LAYERS = 6
BATCH, LENGTH, TOKENS = 32, 32, 2048  # rows of a batch, tokens of a row, tokens of a run
UNREACHED = 2.0  # a threshold that no reliability reaches
NEAR_LINEAR = 1.1  # the greatest exponent that is called so
AXES: Mapping[str, Sequence[int]] = {
    "tiers": (1, 2, 3, 4),
    "exits": (1, 2, 3, 6),
    "classes": (2, 10, 100, 1000),
    "length": (8, 32, 128, 256, 512),
}


def scaling(tokenizer: Any, texts: list[str], given: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each place on each axis.

    `over_linear` is how much more cost has grown than what it is held against, both since the
    axis' first place: 1 is linear, less is better. Costs of tiers, exits, classes and length are
    those of a text, that of the number of texts is the whole.
    """
    torch.manual_seed(given.seed)
    lines = list(many_texts(tokenizer, texts, given.most))  # first, while little memory is held
    for axis, places in AXES.items():
        ways = {}
        for place in places:
            made = {"exits": LAYERS} | ({axis: place} if axis != "length" else {})
            rows = random_rows(place if axis == "length" else LENGTH, given.seed)
            bundle = make_bundle(tokenizer, SHAPE, **made)
            ways[place] = (partial(answer, bundle, rows, bundle.policy, BATCH), len(rows))
        lines += measured(axis, ways, given.repeats)
    return lines


def verdicts(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """How cost grows along each axis: as the place to the power of `exponent`, by a log-log fit.

    Cost is that of a text, but of all texts along the axis of their number. `unit_cost` is the
    least and the greatest `over_linear`, what one more tier, exit, class, token or text costs.
    """
    found = {}
    for axis in dict.fromkeys(line["axis"] for line in lines):
        own = [line for line in lines if line["axis"] == axis]
        places = np.log([line["at"] for line in own])
        cost = np.log([line["milliseconds_a_text"] for line in own])
        cost = cost + places if axis == "texts" else cost
        exponent = float(np.polyfit(places, cost, 1)[0])
        near = "linear or less" if exponent <= NEAR_LINEAR else "more than linear"
        units = [line["over_linear"] for line in own]
        found[axis] = {
            "exponent": round(exponent, 3) + 0.0,  # no -0.0
            "unit_cost": [min(units), max(units)],
            "verdict": near,
        }
    return found


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The lines as Markdown, each axis with its verdict."""
    rows = ["| axis | at | ms a text | over linear | peak MB |", "|---|---|---|---|---|"]
    for line in lines:
        peak = line.get("peak_megabytes", "")
        rows.append(
            f"| {line['axis']} | {line['at']:,} | {line['milliseconds_a_text']} "
            f"| {line['over_linear']} | {peak} |"
        )
    told = [
        f"{axis}: exponent {found['exponent']}, {found['verdict']}"
        for axis, found in verdicts(lines).items()
    ]
    return "\n".join([*rows, "", *told])


def measured(
    axis: str, ways: Mapping[int, tuple[Callable[[], Any], int]], repeats: int
) -> list[dict[str, Any]]:
    """Medians of CPU seconds a text, taking turns; the first round warms up."""
    times: dict[int, list[float]] = {place: [] for place in ways}
    for repeat in range(repeats + 1):
        for place, (run, count) in ways.items():
            begun = time.process_time()
            run()
            if repeat:
                times[place].append((time.process_time() - begun) / count)
    first = next(iter(ways))
    return [
        {
            "axis": axis,
            "at": place,
            "milliseconds_a_text": round(1e3 * float(np.median(times[place])), 4),
            "over_linear": round(
                float(np.median(np.divide(times[place], times[first]))) / (place / first), 3
            ),
        }
        for place in ways
    ]


def many_texts(tokenizer: Any, texts: list[str], most: int) -> Iterator[dict[str, Any]]:
    """Texts of a generator, answers thrown away; peak memory is the process' own so far."""
    pipeline = AdaptivePipeline(bag_bundle(tokenizer, texts))
    drain(pipeline(iter(texts), batch_size=BATCH))
    first = None
    count = 100
    while count <= most:
        begun = time.process_time()
        drain(pipeline(islice(cycle(texts), count), batch_size=BATCH))
        spent = (time.process_time() - begun) / count
        first = first or spent
        yield {
            "axis": "texts",
            "at": count,
            "milliseconds_a_text": round(1e3 * spent, 4),
            "over_linear": round(spent / first, 3),
            "peak_megabytes": round(peak_bytes() / 2**20),
        }
        count *= 10


def drain(answers: Iterator[Any]) -> None:
    deque(answers, maxlen=0)


def make_bundle(
    tokenizer: Any,
    shape: Mapping[str, int],
    *,
    layers: int = LAYERS,
    tiers: int = 1,
    exits: int = 1,
    classes: int = 2,
) -> Bundle:
    """Tiers alike, exits at even distances, the last one behind the last layer."""
    labels = tuple(f"class {i}" for i in range(classes))
    config = BertConfig(
        **shape, vocab_size=len(tokenizer), num_hidden_layers=layers, num_labels=classes
    )
    depths = tuple(layers * (i + 1) // exits for i in range(exits))
    made = tuple(
        Tier(f"tier {i}", Backbone(untrained_model(config, torch.float32)), depths, labels).eval()
        for i in range(tiers)
    )
    stages = tiers * exits
    return Bundle(
        name="scaling",
        labels=labels,
        tokenizer=tokenizer,
        tiers=made,
        reliability=Reliability(stages),
        router=None,
        log_frequency=np.zeros(len(tokenizer), dtype=np.float32),
        policy=Policy(tuple(range(tiers)), (UNREACHED,) * (stages - 1) + (0.0,)),
        targets=(Target("agreement", 0.01),),
        max_length=config.max_position_embeddings,
    )


def bag_bundle(tokenizer: Any, texts: list[str]) -> Bundle:
    """A bag before a small tier; two in three of the texts leave at the bag."""
    plain = make_bundle(tokenizer, SMALL, layers=2)
    bag = Tier("tiny", Bag(len(tokenizer), SMALL["hidden_size"], 1024), (0,), plain.labels).eval()
    reliability = Reliability(2)
    weight = -np.eye(len(FEATURES))[FEATURES.index("log_length")]  # short is sure: 1 / (1 + tokens)
    reliability.set_fit(0, (np.zeros(len(FEATURES)), np.ones(len(FEATURES)), weight, 0.0))
    lengths = tokenize(tokenizer, texts, max_length=plain.max_length).lengths
    sure = float(1 / (1 + np.quantile(lengths, 2 / 3)))
    policy = Policy((0, 1), (sure, 0.0))
    return replace(plain, tiers=(bag, *plain.tiers), reliability=reliability, policy=policy)


def random_rows(length: int, seed: int) -> Tokens:
    """Rows of one length, as many as a run's tokens make."""
    count = TOKENS // length
    ids = np.random.default_rng(seed).integers(4, 40, count * length, dtype=np.int32)
    return Tokens(
        ids=ids,
        offsets=np.arange(count + 1, dtype=np.int64) * length,
        types=None,
        owner=np.arange(count, dtype=np.int64),
        truncated=np.zeros(count, dtype=np.bool_),
    )
