"""What Prometheus reads. Labels are names of the bundle and of routes, never of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from adaptive.serve.post import Replies
from adaptive.serve.traces import Traces

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGES = ("pre", "engine", "post", "total")
STATES = ("starting", "ready", "degraded", "hung", "draining")


class Metrics:
    """The figures of one application."""

    def __init__(self, traces: Traces | None = None) -> None:
        self.traces = traces or Traces()
        self.registry = own = CollectorRegistry()
        self.requests = Counter(
            "adaptive_requests", "Requests, by route and status", ["route", "status"], registry=own
        )
        self.seconds = Histogram(
            "adaptive_stage_seconds",
            "Time of requests in each stage: pre, engine, post; total of the whole",
            ["stage"],
            registry=own,
            buckets=SECONDS,
        )
        self._stages = {name: self.seconds.labels(name) for name in STAGES}
        self.answers = Counter(
            "adaptive_answers", "Items answered, by tier and exit", ["tier", "exit"], registry=own
        )
        self.refused = Counter("adaptive_items_refused", "Items that are no text", registry=own)
        self.marks = Counter(
            "adaptive_answers_marked",
            "Answers that are covered, late, degraded or abstained",
            ["mark"],
            registry=own,
        )
        self.cost = Counter("adaptive_cost", "Cost of answers", ["unit"], registry=own)
        self.full_cost = Counter(
            "adaptive_full_tier_cost",
            "Cost of the same had the full tier answered alone",
            ["unit"],
            registry=own,
        )
        self.reloads = Counter("adaptive_reloads", "Reloads", ["outcome"], registry=own)
        self.audited = Counter(
            "adaptive_audited",
            "Answers that the full tier gave too, by level, and whether both were alike",
            ["level", "outcome"],
            registry=own,
        )
        self.steps_back = Counter(
            "adaptive_steps_back",
            "Steps to a safer certified policy, by level",
            ["level"],
            registry=own,
        )
        self.rollbacks = Counter("adaptive_canary_rollbacks", "Canaries rolled back", registry=own)
        self.gauges: dict[str, Gauge] = {}

    def gauge(self, name: str, told: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        self.gauges[name] = Gauge(f"adaptive_{name}", told, registry=self.registry)
        self.gauges[name].set_function(read)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage of a request."""
        began = perf_counter()
        try:
            with self.traces.stage(name):
                yield
        finally:
            self._stages[name].observe(perf_counter() - began)

    def count(self, replies: Replies) -> None:
        """The answers of a request."""
        joined, bundle = replies.joined, replies.bundle
        good = np.ones(len(replies), np.bool_)
        good[list(replies.errors)] = False
        self.refused.inc(len(replies.errors))
        counts = np.bincount(joined.stage[good], minlength=len(bundle.stages))
        for stage in np.flatnonzero(counts).tolist():
            where = bundle.stages[stage]
            self.answers.labels(bundle.tiers[where.tier].name, where.exit).inc(int(counts[stage]))
        marks = {
            "covered": joined.covered,
            "late": replies.late,
            "degraded": replies.degraded,
            "abstained": joined.abstained,
        }
        for mark, which in marks.items():
            number = int((which & good).sum())
            if number:
                self.marks.labels(mark).inc(number)
        if good.any():
            self.cost.labels(joined.unit).inc(float(joined.cost[good].sum()))
            self.full_cost.labels(joined.unit).inc(float(replies.full_cost[good].sum()))

    def page(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def shares(self) -> dict[str, Any]:
        """How many answers each tier's exits gave, and what that cost."""
        found: dict[str, Any] = {"answers": {}, "cost": 0.0, "full_tier_cost": 0.0, "unit": None}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == "adaptive_answers_total":
                    key = f"{sample.labels['tier']}@{sample.labels['exit']}"
                    found["answers"][key] = int(sample.value)
                elif sample.name == "adaptive_cost_total":
                    found["cost"], found["unit"] = sample.value, sample.labels["unit"]
                elif sample.name == "adaptive_full_tier_cost_total":
                    found["full_tier_cost"] = sample.value
        return found
