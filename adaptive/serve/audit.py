"""Whether the promise is kept while it is served, without labels.

Of each answer that a certificate covers, a coin that knows nothing of the text decides whether the
full tier answers it too, when nothing else is to do. How often both differ is tested after every
row (`adaptive.risk.drift`). Where the test finds it to be more than the promise allows, the level
steps back to the next safer policy that is certified for it, and never forward again: only another
certificate does that.

`agreement` is tested at the level that was promised. Of other promises, which need labels, it is
tested whether answers differ from the full tier's more often than they may have on the
certification rows: then the texts are others than those, and the certificate may not be about them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.answers import Joined
from adaptive.cells import Labels
from adaptive.policy import Lookup, is_bare
from adaptive.risk import upper
from adaptive.risk.drift import DriftTest
from adaptive.serve.deployment import Deployment, Level
from adaptive.serve.jobs import ANSWERED, Job, select_rows
from adaptive.serve.logs import told
from adaptive.serve.metrics import Metrics
from adaptive.serve.post import Replies
from adaptive.serve.pre import Prepared
from adaptive.serve.settings import Audit as AuditSettings
from adaptive.types import Answers

log = logging.getLogger("adaptive.serve")
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
        self.steps: dict[str, int] = {}  # back, by level
        self.waiting = 0
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
            self.tests.pop(name, None)
            if name in before.tests:
                self.tests[name] = before.tests[name]
            if name in before.steps:
                self.steps[name] = before.steps[name]

    def consider(self, level: Level, prepared: Prepared, found: Replies) -> None:
        """Perhaps have some of a request's answers checked."""
        test, share = self.tests.get(level.name), self.settings.share
        if test is None or not share or self.deployment.loop.fenced:
            return
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
            partial(self._compare, level, self._answers(joined, items), job)
        )
        self.waiting += len(items)
        self.deployment.loop.submit(job)

    def _compare(self, level: Level, served: Labels, job: Job, done: asyncio.Future[None]) -> None:
        """The full tier has answered, too."""
        self.waiting -= len(served)
        now = self.deployment.levels[level.name]
        if done.cancelled() or now.policy != level.policy:
            return  # of a policy that is served no more
        good = (job.state == ANSWERED) & ~job.degraded
        full = self._answers(job.answers, np.arange(len(served)))
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
            self._step_back(now)

    def _answers(self, found: Joined | Answers, items: NDArray[np.int64]) -> Labels:
        """What some texts were answered, [b, ...]."""
        if self.deployment.bundle.task.exclusive:
            return found.label[items].copy()
        assert found.probabilities is not None, "a server's engines give all of them"
        return self.deployment.bundle.task.answers(torch.from_numpy(found.probabilities[items]))

    def _step_back(self, level: Level) -> None:
        """To the next safer policy that is certified."""
        place = level.certified.index(level.policy)
        if not place:
            return
        safer = replace(level, policy=level.certified[place - 1])
        self.deployment.levels[level.name] = safer
        self.steps[level.name] = self.steps.get(level.name, 0) + 1
        self.metrics.steps_back.labels(level.name).inc()
        log.error(
            "level %s: answers differ from the full tier's in %.4g of %d texts, where %.4g was "
            "promised or seen; stepping back to the next safer policy",
            level.name,
            self.tests[level.name].mean,
            self.tests[level.name].rows,
            self.tests[level.name].level,
        )
        self._begin(safer)

    def _begin(self, level: Level) -> None:
        """A test of a level's policy from its first row on; none where it needs none."""
        self.tests.pop(level.name, None)
        if level.target is None or level.policy not in level.certified:
            return
        if is_bare(level.policy) and level.policy == self.deployment.full:
            return  # it is the full tier
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
        return {
            name: {
                "rows": test.rows,
                "unlike": round(test.mean, 6),
                "limit": test.level,
                "p_value": test.p_value,
                "stepped_back": self.steps.get(name, 0),
            }
            for name, test in self.tests.items()
        } | {
            name: {"stepped_back": steps}
            for name, steps in self.steps.items()
            if name not in self.tests
        }
