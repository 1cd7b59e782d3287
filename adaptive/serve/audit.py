"""Whether the promise is kept while it is served, without labels.

Of each answer that a certificate covers, a coin that knows nothing of the text decides whether the
full tier answers it too, when nothing else is to do. How often both differ is tested after every
row (`adaptive.risk.drift`). Where the test finds it to be more than the promise allows, the level
steps back to the next safer policy that is certified for it, and never forward again: only another
certificate does that.

`agreement` is tested at the level that was promised. Of other promises, which need labels, it is
tested whether answers differ from the full tier's more often than they may have on the
certification rows: then the texts are others than those, and the certificate may not be about them.

Labels that users send test such promises themselves, by a second test for each level: of each
labelled text, by how much it breaks the promise (`adaptive.policy.metrics`), brought to [0, 1] by
the bounds of that number, so that the promise is a level in between.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.answers import Joined
from adaptive.bundle.contents import Bundle
from adaptive.cells import Labels
from adaptive.policy.lookup import Lookup, is_bare
from adaptive.policy.metrics import metric_of
from adaptive.risk import upper
from adaptive.risk.drift import DriftTest
from adaptive.serve.deployment import Deployment, Level
from adaptive.serve.jobs import ANSWERED, Job, select_rows
from adaptive.serve.logs import told
from adaptive.serve.metrics import Metrics
from adaptive.serve.post import Replies
from adaptive.serve.pre import Prepared
from adaptive.serve.settings import Audit as AuditSettings
from adaptive.types import Answers, Evaluation

log = logging.getLogger("adaptive.serve")
Worths = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEAST_LEVEL = 1e-4  # tested in place of a promise that nothing ever differs


class Audit:
    """The tests of one deployment, one for each level's policy."""

    def __init__(
        self,
        settings: AuditSettings,
        deployment: Deployment,
        metrics: Metrics,
        seed: int | None = None,
    ) -> None:
        self.settings, self.deployment, self.metrics = settings, deployment, metrics
        self.tests: dict[str, DriftTest] = {}
        self.labelled: dict[str, DriftTest] = {}  # by labels that users send
        self.steps: dict[str, int] = {}  # back, by level
        self.waiting = 0
        self.on_alarm: Callable[[Level], None] = self.step_back
        self._random = np.random.default_rng(seed)
        for level in deployment.levels.values():
            self._begin(level)

    def inherit(self, before: Audit) -> None:
        """Levels whose certificate is the same stay where they stood, and their tests go on."""
        for name, old in before.deployment.levels.items():
            new = self.deployment.levels.get(name)
            if new is None or new.certified != old.certified:
                continue
            self.deployment.levels[name] = replace(new, policy=old.policy)
            for own, others in ((self.tests, before.tests), (self.labelled, before.labelled)):
                own.pop(name, None)
                if name in others:
                    own[name] = others[name]
            if name in before.steps:
                self.steps[name] = before.steps[name]

    def consider(self, level: Level, prepared: Prepared, found: Replies) -> None:
        """Perhaps have some of a request's answers checked."""
        test, share = self.tests.get(level.name), self.settings.share
        if test is None or not share or self.deployment.loop.fenced:
            return
        if level.policy != self.deployment.levels[level.name].policy:
            return  # by the full tier alone, see `keys.Account`
        chosen = self._random.random(len(found)) < share
        joined = found.joined
        fit = joined.covered & ~joined.abstained & (joined.windows == 1)
        fit[list(found.errors)] = False
        items = np.flatnonzero(chosen & fit)
        if not len(items) or self.waiting + len(items) > self.settings.backlog:
            return
        rows = np.searchsorted(prepared.tokens.owner, items)
        job = Job(
            select_rows(prepared.tokens, rows.tolist()),
            self.deployment.full,
            len(self.deployment.bundle.labels),
            patient=True,
        )
        job.result = asyncio.get_running_loop().create_future()
        job.result.add_done_callback(
            partial(self._compare, level, answers_of(self.deployment.bundle, joined, items), job)
        )
        self.waiting += len(items)
        self.deployment.loop.submit([job])

    def _compare(self, level: Level, served: Labels, job: Job, done: asyncio.Future[None]) -> None:
        """The full tier has answered, too."""
        self.waiting -= len(served)
        now = self.deployment.levels[level.name]
        if done.cancelled() or now.policy != level.policy:
            return  # of a policy that is served no more
        good = (job.state == ANSWERED) & ~job.degraded
        full = answers_of(self.deployment.bundle, job.answers, np.arange(len(served)))
        unlike = ~self.deployment.bundle.task.same(served, full)[good]
        test = self.tests[level.name]
        for each in unlike.tolist():
            test.add(float(each))
        differ = int(unlike.sum())
        self.metrics.audited.labels(level.name, "alike").inc(len(unlike) - differ)
        self.metrics.audited.labels(level.name, "unlike").inc(differ)
        told(
            "audit",
            level=level.name,
            rows=len(unlike),
            unlike=differ,
            propensity=self.settings.share,
            p_value=test.p_value,
        )
        if test.p_value <= self.settings.alpha:
            self._alarm(now, test)

    def learn(self, level: Level, served: Worths, reference: Worths, answered: Bools) -> None:
        """Labels have come of texts that the level's policy and the full tier have answered.

        Args:
            served, reference: the scores of both, [n] in [0, 1].
            answered: [n] not left to a person.
        """
        test, now = self.labelled.get(level.name), self.deployment.levels[level.name]
        if test is None or now.policy != level.policy or level.target is None:
            return
        metric = metric_of(level.target)
        nothing, ones = np.zeros(len(served), np.int32), np.ones(len(served))
        did = Evaluation(nothing, nothing, answered, served, ones, ones)
        low, high = metric.bounds(level.target, math.inf)
        for each in metric.excess(level.target, did, reference).tolist():
            test.add((each - low) / (high - low))
        told("feedback", level=level.name, rows=len(served), p_value=test.p_value)
        if test.p_value <= self.settings.alpha:
            self._alarm(now, test)

    def _alarm(self, level: Level, test: DriftTest) -> None:
        log.error(
            "level %s: the promise is in danger after %d texts (p-value %.2g)",
            level.name,
            test.rows,
            test.p_value,
        )
        self.on_alarm(level)

    def step_back(self, level: Level) -> None:
        """To the next safer policy that is certified."""
        place = level.certified.index(level.policy)
        if not place:
            return
        safer = replace(level, policy=level.certified[place - 1])
        self.deployment.levels[level.name] = safer
        self.steps[level.name] = self.steps.get(level.name, 0) + 1
        self.metrics.steps_back.labels(level.name).inc()
        log.error("level %s: stepping back to the next safer policy", level.name)
        self._begin(safer)

    def _begin(self, level: Level) -> None:
        """A test of a level's policy from its first row on; none where it needs none."""
        self.tests.pop(level.name, None)
        self.labelled.pop(level.name, None)
        if level.target is None or level.policy not in level.certified:
            return
        if is_bare(level.policy) and level.policy == self.deployment.full:
            return  # it is the full tier
        metric = metric_of(level.target)
        if metric.about == "answers" and metric.labelled and level.target.group is None:
            low, high = metric.bounds(level.target, math.inf)
            if low < 0.0 < high:
                self.labelled[level.name] = DriftTest(-low / (high - low))
        limit = self._limit(level)
        if limit is not None and limit < 1.0:
            self.tests[level.name] = DriftTest(max(limit, LEAST_LEVEL))

    def _limit(self, level: Level) -> float | None:
        """The share of answers that may differ; None where nothing tells."""
        assert level.target is not None
        if level.target.metric == "agreement":
            return level.target.level
        bundle = self.deployment.bundle
        table = bundle.outcomes.get("certify")
        if table is None or not len(table):
            return None
        alike = (
            Lookup.of(table, self.deployment.pipeline.costs.of(table)).evaluate(level.policy).alike
        )
        return upper(int((alike < 1.0).sum()), len(table), self.settings.alpha)

    def condition(self) -> Mapping[str, object]:
        """What health and statistics say of it."""
        found: dict[str, dict[str, object]] = {
            name: {"stepped_back": self.steps.get(name, 0)}
            for name in dict.fromkeys((*self.tests, *self.labelled, *self.steps))
        }
        for name, test in self.tests.items():
            found[name] |= {"rows": test.rows, "unlike": round(test.mean, 6), "limit": test.level}
            found[name]["p_value"] = test.p_value
        for name, test in self.labelled.items():
            found[name] |= {"labelled_rows": test.rows, "labelled_p_value": test.p_value}
        return found


def answers_of(bundle: Bundle, found: Joined | Answers, items: NDArray[np.int64]) -> Labels:
    """What some texts were answered, [b, ...]."""
    if bundle.task.exclusive:
        return found.label[items].copy()
    assert found.probabilities is not None, "a server's engines give all of them"
    return bundle.task.answers(torch.from_numpy(found.probabilities[items]))
