"""A bundle that is served: the levels that it is certified for, its costs, its loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.answers import Prices
from adaptive.bundle.contents import Bundle
from adaptive.certifying.coverage import Coverage, Use
from adaptive.config import Preset, TargetChoice
from adaptive.config.targets import read_target, show_target
from adaptive.engine import answer
from adaptive.errors import BundleError, ConfigError
from adaptive.options import Overflow, choose_promise, choose_stride
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.costs import MILLISECONDS
from adaptive.policy.lookup import last_exits, tier_alone
from adaptive.policy.metrics import METRICS
from adaptive.serve.jobs import Job
from adaptive.serve.loop import Loop
from adaptive.serve.probes import broken_tiers, golden_rows, wrong_answers
from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Settings
from adaptive.types import Policy, Target


@dataclass(frozen=True, slots=True)
class Level:
    """One promise that may be asked for."""

    target: Target | None  # None: the bundle promises nothing
    policy: Policy
    certified: tuple[Policy, ...]  # policies that keep it, safe to cheap
    coverage: Coverage

    @property
    def name(self) -> str:
        """As `target` of a request."""
        return "" if self.target is None else show_target(self.target)


class Deployment:
    """What one bundle needs to answer requests. Levels change by stepping back alone.

    Attributes:
        users: requests that hold it; the service counts.
        ms: milliseconds that a unit of the costs takes.
        longest: what the full tier alone spends on the longest row, in the costs' unit.
    """

    def __init__(
        self,
        pipeline: AdaptivePipeline,
        settings: Settings,
        deliver: Callable[[list[Job]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pipeline, self.bundle, self.settings = pipeline, pipeline.bundle, settings
        self.preset: Preset = pipeline.preset
        self.stride = choose_stride(self.bundle, self.preset)
        self.rows = golden_rows(self.bundle, settings.golden)
        self.loop = Loop(self.bundle, self.preset.batch_size, self.rows, deliver, clock)
        self.levels = {level.name: level for level in _levels(pipeline)}
        self._default = next(iter(self.levels))
        self.full = tier_alone(self.bundle.stages, len(self.bundle.tiers) - 1)
        self.ms = 1.0 if pipeline.costs.unit == MILLISECONDS else math.nan
        self.users = 0
        self._prices: dict[Policy, Prices] = {}
        self._bounds: dict[Policy, NDArray[np.float64]] = {}
        self.longest = float(self.bound(self.full, np.array([self.bundle.max_length]))[0])

    @classmethod
    def open(
        cls,
        source: str | Path | Mapping[str, Any] | Preset,
        settings: Settings,
        deliver: Callable[[list[Job]], None],
        **options: Any,
    ) -> Deployment:
        """Open a bundle or preset; `options` are those of `AdaptivePipeline.from_config`.

        Raises:
            AdaptiveError: as `AdaptivePipeline.from_config` does.
        """
        return cls(AdaptivePipeline.from_config(source, **options), settings, deliver)

    @property
    def default(self) -> Level:
        """The level of requests that ask for none."""
        return self.levels[self._default]

    def check(self) -> None:
        """Try golden inputs on every tier, and those with known answers on the policy.

        Raises:
            BundleError: a tier does not answer as it should.
        """
        names = [tier.name for tier in self.bundle.tiers]
        bad = broken_tiers(self.bundle, self.rows)
        if bad:
            told = "; ".join(f"{names[tier]}: {why}" for tier, why in bad.items())
            raise BundleError(f"golden inputs failed on {len(bad)} of {len(names)} tiers: {told}")
        policy = self.default.policy
        wrong = wrong_answers(self.bundle, self.rows, self.settings.golden, policy)
        if wrong:
            raise BundleError("; ".join(wrong))

    def warm_up(self) -> None:
        """Whatever is done only once, and how long a unit of the costs takes."""
        runs = 2 if self.settings.warm_up else 1
        for level in self.levels.values():
            for _ in range(runs):
                answer(self.bundle, self.rows, level.policy, self.preset.batch_size)
        if math.isnan(self.ms):
            began = time.perf_counter()
            answer(self.bundle, self.rows, self.full, self.preset.batch_size)
            took = 1000.0 * (time.perf_counter() - began)
            self.ms = took / float(self.bound(self.full, self.rows.lengths).sum())

    def level(self, wanted: str | None) -> Level:
        """The level that a request asks for; None: the bundle's own.

        Raises:
            Refusal: it is not certified; those that are are listed.
        """
        if wanted is None:
            return self.default
        found = None
        if wanted.partition("=")[0] in METRICS and len(wanted) < 200:
            try:
                found = self.levels.get(show_target(Target(**read_target(wanted))))
            except ConfigError:
                found = None
        if found is None or found.target is None:
            certified = [level.name for level in self.levels.values() if level.target]
            raise Refusal(
                400, f"target: not certified. Certified: {', '.join(certified) or 'nothing'}"
            )
        return found

    def prices(self, policy: Policy) -> Prices:
        """What texts cost under a policy."""
        if policy not in self._prices:
            self._prices[policy] = Prices.of(self.bundle, policy, self.pipeline.costs)
        return self._prices[policy]

    def priced(self, level: Level, overflow: Overflow, paired: bool | None) -> Prices:
        """What texts cost at a level, and whether its promise holds for texts answered so."""
        cuts = overflow == "truncate"
        use = Use(self.preset.batch_size, self.bundle.max_length, cuts, paired)
        covered = bool(level.coverage(level.policy, use))
        return replace(self.prices(level.policy), covered=covered)

    def bound(self, policy: Policy, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """The most that rows of these lengths [r] can cost under a policy, in the costs' unit."""
        if policy not in self._bounds:
            last = last_exits(policy, self.bundle.stages)[policy.path[-1]]
            self._bounds[policy] = self.prices(policy).cost[policy.path[0], :, last]
        return self._bounds[policy][lengths]

    def expected_ms(self, policy: Policy, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same in milliseconds, [r]."""
        return self.bound(policy, lengths) * (0.0 if math.isnan(self.ms) else self.ms)


def _levels(pipeline: AdaptivePipeline) -> list[Level]:
    """The pipeline's own promise first, then the others that its certificate proves."""
    bundle, certificate = pipeline.bundle, pipeline.bundle.certificate
    own = Level(
        None if not _proved(bundle) or certificate is None else certificate.target,
        pipeline.policy,
        () if certificate is None else certificate.policies,
        Coverage(certificate, bundle.device),
    )
    found = [own]
    for each in () if certificate is None else certificate.further:
        if each.verdict != "NOT CERTIFIED":
            t = each.target
            choice = TargetChoice(
                metric=t.metric,
                level=t.level,
                confidence=t.confidence,
                group=t.group,
                bound=t.bound,
            )
            other = choose_promise(bundle, choice)
            coverage = Coverage(other.certificate, bundle.device)
            found.append(Level(t, other.policy, each.policies, coverage))
    return found


def _proved(bundle: Bundle) -> bool:
    return bundle.certificate is not None and bundle.certificate.verdict != "NOT CERTIFIED"
