"""What callers can do to a cascade's cost, and to its answers, who write texts for that end.

    python benchmarks/serve_attacks.py --bundle FOLDER --texts FILE.csv --train FILE.csv

Costs are the bundle's cost table's; `cost_ratio` is what the policy spends on some texts over what
the full tier alone would spend on the very same texts, clean and attacked. The attacker sees the
cost of each answer, as keys with the scope `routing` do, and tries words of the training texts.

gadget     words that are put behind every text, chosen one after the other on texts of the
           training file so that the mean ratio is the greatest; tried on others
slow-down  of each text the word whose exchange costs most, again and again (greedy substitution)
hijack     as the gadget, but so that most texts leave at the cheapest tier: the cost falls, and so
           may the accuracy
poisoning  wrong labels sent to `/v1/feedback`: how many make the level step back once, and what
           the safest certified policy costs
budget     attacked texts through the server's own application, by a key with a budget: what they
           spent against what the budget allowed
account    the dearest of the attacked texts, again and again, through the application by a key
           without a budget: the ratio with the account that the server keeps of each key

`bound` is the aim, 5 % above the full tier. `worst` is the most that the policy can cost any text
over what the full tier alone costs it, by the cost table: no attack exceeds it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import records
from numpy.typing import NDArray

from adaptive import AdaptivePipeline
from adaptive.answers import Prices, join_windows
from adaptive.engine import answer
from adaptive.policy.lookup import Lookup, last_exits, tier_alone
from adaptive.policy.metrics import metric_of
from adaptive.risk.drift import DriftTest
from adaptive.serve.app import create_app
from adaptive.serve.deployment import Deployment
from adaptive.serve.keys import hash_of
from adaptive.serve.settings import Settings
from adaptive.types import Policy

Floats = NDArray[np.float64]
BOUND = 1.05
BATCH = 32
WORDS, GADGET = 40, 3  # candidates of each step, words of a gadget
CHANGES, TRIES = 2, 4  # exchanges of a text, candidates of each place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="with columns text and label")
    parser.add_argument("--train", type=Path, required=True, help="where the words are from")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "records" / "serve.json"
    parser.add_argument("--record", type=Path, default=default)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    rows, train = drawn(given.texts, given.count, rng), drawn(given.train, given.count, rng)
    victim = Victim(AdaptivePipeline.from_config(given.bundle))
    found = attacks(victim, rows, [text for text, _ in train], rng)
    told = {**records.read(given.record), "attacks": found}
    records.write(given.record, told)
    print(json.dumps(found, indent=1))


def drawn(file: Path, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Texts and labels."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(lines)]
    return [rows[at] for at in rng.permutation(len(rows))[:count].tolist()]


class Victim:
    """A bundle under its own policy, as its callers see it."""

    def __init__(self, pipeline: AdaptivePipeline) -> None:
        self.pipeline, self.bundle, self.policy = pipeline, pipeline.bundle, pipeline.policy
        self.full = tier_alone(self.bundle.stages, len(self.bundle.tiers) - 1)
        self._prices = {
            policy: Prices.of(self.bundle, policy, pipeline.costs)
            for policy in (self.policy, self.full)
        }

    def ask(self, texts: Sequence[str], policy: Policy | None = None) -> tuple[Floats, list[str]]:
        """What texts cost, [n], and their labels."""
        by = self.policy if policy is None else policy
        rows = self.pipeline.tokenize(list(texts))
        found = answer(self.bundle, rows, by, BATCH)
        joined = join_windows(self.bundle, by, self._prices[by], rows, found)
        return joined.cost, [self.bundle.labels[label] for label in joined.label.tolist()]

    def full_cost(self, texts: Sequence[str]) -> Floats:
        """What the full tier alone would cost, [n]."""
        lengths = self.pipeline.tokenize(list(texts)).lengths
        return self._most(self.full)[lengths]

    def worst(self) -> float:
        """The most that any text can cost over what the full tier alone costs it."""
        lengths = np.arange(4, self.bundle.max_length + 1)
        return float((self._most(self.policy) / self._most(self.full))[lengths].max())

    def _most(self, policy: Policy) -> Floats:
        """Of a text that goes the whole way, by its tokens."""
        last = last_exits(policy, self.bundle.stages)[policy.path[-1]]
        found: Floats = self._prices[policy].cost[policy.path[0], :, last]
        return found

    def ratio(self, texts: Sequence[str]) -> float:
        """The cost of texts over the full tier's."""
        return float(self.ask(texts)[0].sum() / self.full_cost(texts).sum())


def attacks(
    victim: Victim, rows: list[tuple[str, str]], train: list[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """All of them."""
    texts = [text for text, _ in rows]
    words = sorted({word for text in train for word in text.split()})
    clean, worst = victim.ratio(texts), victim.worst()
    common = {"cost_ratio_clean": clean, "bound": BOUND, "worst": worst}
    found = []
    gadget = search_gadget(victim, train[:40], words, rng, victim.ratio)
    attacked = [f"{text} {gadget}" for text in texts]
    found.append({"attack": "gadget", **common, **harm(victim, rows, attacked), "gadget": gadget})
    slowed = [slow_down(victim, text, words, rng) for text in texts[:60]]
    part = {**common, "cost_ratio_clean": victim.ratio(texts[:60])}
    found.append({"attack": "slow-down", **part, **harm(victim, rows[:60], slowed)})
    cheap = search_gadget(victim, train[:40], words, rng, lambda many: -victim.ratio(many))
    hijacked = [f"{text} {cheap}" for text in texts]
    found.append({"attack": "hijack", **common, **harm(victim, rows, hijacked), "gadget": cheap})
    found.append({"attack": "feedback poisoning", **common, **poisoned(victim)})
    found.append({"attack": "budget", **common, **asyncio.run(budget(victim, attacked))})
    dearest = max(slowed, key=lambda each: victim.ratio([each]))
    found.append({"attack": "account", **common, **asyncio.run(account(victim, dearest))})
    return found


def harm(victim: Victim, rows: list[tuple[str, str]], attacked: list[str]) -> dict[str, Any]:
    """What an attack does to cost and answers."""
    clean, labels = [text for text, _ in rows], [label for _, label in rows]

    def right(texts: Sequence[str], policy: Policy) -> float:
        pairs = zip(victim.ask(texts, policy)[1], labels, strict=True)
        return float(np.mean([said == label for said, label in pairs]))

    cost, full = victim.ask(attacked)[0], victim.full_cost(attacked)
    return {
        "cost_ratio_attacked": float(cost.sum() / full.sum()),
        "greatest_of_a_text": float((cost / full).max()),
        "texts": len(rows),
        "accuracy_clean": right(clean, victim.policy),
        "accuracy_attacked": right(attacked, victim.policy),
        "full_tier_accuracy_attacked": right(attacked, victim.full),
    }


def search_gadget(
    victim: Victim,
    texts: list[str],
    words: list[str],
    rng: np.random.Generator,
    gain: Callable[[list[str]], float],
) -> str:
    """Words that gain most behind every one of these texts, chosen one after the other."""
    gadget = ""
    for _ in range(GADGET):
        tried = [f"{gadget} {word}".strip() for word in rng.choice(words, WORDS, replace=False)]
        gadget = max(tried, key=lambda each: gain([f"{text} {each}" for text in texts]))
    return gadget


def slow_down(victim: Victim, text: str, words: list[str], rng: np.random.Generator) -> str:
    """The text with some words exchanged, each so that it costs most."""
    for _ in range(CHANGES):
        own = text.split()
        tried = [text]
        for place in range(len(own)):
            for word in rng.choice(words, TRIES).tolist():
                tried.append(" ".join([*own[:place], word, *own[place + 1 :]]))
        text = tried[int((victim.ask(tried)[0] / victim.full_cost(tried)).argmax())]
    return text


def poisoned(victim: Victim) -> dict[str, Any]:
    """Feedback that says of every answer that it is wrong and the full tier's is right."""
    certificate, bundle = victim.bundle.certificate, victim.bundle
    assert certificate is not None and bundle.costs is not None
    metric = metric_of(certificate.target)
    low, high = metric.bounds(certificate.target, np.inf)
    test, rows = DriftTest(-low / (high - low)), 0
    while test.p_value > Settings().audit.alpha:
        test.add(1.0)
        rows += 1
    table = bundle.outcomes["certify"]
    lookup = Lookup.of(table, bundle.costs.of(table))
    full = lookup.evaluate(victim.full).cost.mean()
    safest = max(lookup.evaluate(each).cost.mean() for each in certificate.policies)
    return {"cost_ratio_attacked": float(safest / full), "rows_to_step_back": rows}


async def budget(victim: Victim, texts: list[str]) -> dict[str, Any]:
    """What a key spends that sends nothing but attacked texts, against its budget."""
    full = float(victim.full_cost(texts).mean())
    allowed = 20.0 * full  # a minute's worth: 20 texts of the full tier
    async with server(victim, cost_a_minute=allowed) as client:
        spent, statuses, began = 0.0, [], time.perf_counter()
        for text in texts:
            got = await client.post("/", json={"inputs": text})
            statuses.append(got.status_code)
            if got.status_code == 200:
                spent += got.json()[0]["routing"]["cost"]
        minutes = (time.perf_counter() - began) / 60.0
    limit = allowed * (1.0 + minutes)  # full at first, and refilled
    return {
        "cost_ratio_attacked": victim.ratio(texts),
        "spent_ms": spent,
        "allowed_ms": limit,
        "answered": statuses.count(200),
        "refused": statuses.count(429),
    }


async def account(victim: Victim, text: str) -> dict[str, Any]:
    """What a text that costs more than the full tier alone costs in the end."""
    texts, spent = 3000, []
    async with server(victim) as client:
        for _ in range(2 * texts // 60):
            got = await client.post("/", json={"inputs": [text] * 60})
            spent.append(sum(each[0]["routing"]["cost"] for each in got.json()))
    full = texts * float(victim.full_cost([text])[0])
    half = len(spent) // 2
    return {
        "cost_ratio_attacked": sum(spent[half:]) / full,  # once the credit is used up
        "with_credit": sum(spent[:half]) / full,
        "of_the_text": victim.ratio([text]),
        "texts": texts,
    }


@asynccontextmanager
async def server(victim: Victim, **budget: float) -> AsyncIterator[httpx.AsyncClient]:
    """The application on the victim, and the client of a key."""
    secret = "ak_attacker"
    key = {"name": "attacker", "sha256": hash_of(secret), "scopes": ("predict", "routing")}
    settings = Settings.model_validate(
        {"keys": ({**key, **budget},), "audit": {"share": 0.0}, "log": False}
    )
    app = create_app(settings, partial(Deployment, victim.pipeline, settings))
    transport, headers = httpx.ASGITransport(app), {"X-API-Key": secret}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client,
    ):
        while not app.state.service.started:
            await asyncio.sleep(0.01)
        yield client


if __name__ == "__main__":
    main()
