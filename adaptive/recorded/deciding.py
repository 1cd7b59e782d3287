"""Decides for requests to come: which model is called first, and whether its answer is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive.certificate.promises import Certificate
from adaptive.errors import DataError, InputError
from adaptive.policy.lookup import choose_entry, last_exits
from adaptive.policy.metrics import metric_of
from adaptive.recorded.faults import Faults
from adaptive.recorded.fingerprints import Coverage, Fingerprint, compare
from adaptive.recorded.judging import Judges
from adaptive.recorded.layouts import Layout
from adaptive.recorded.outcomes import Outcomes, from_records
from adaptive.recorded.records import checked
from adaptive.types import ALWAYS, NEVER, Policy


@dataclass(frozen=True, slots=True)
class Router:
    """A certified policy over recorded models. It calls nothing: it tells what to call.

    Ask `route` for the model that answers first; give its answer's signals to `accept`; where that
    says no, ask `following` for the next, until an answer is accepted or None says that a person
    must answer.
    """

    layout: Layout
    policy: Policy
    judges: Judges
    certificate: Certificate
    fingerprints: Mapping[str, Fingerprint]
    verdict: str
    headline: str

    @property
    def models(self) -> tuple[str, ...]:
        """The models that may be called, in order of the policy's path."""
        last = last_exits(self.policy, self.layout.stages)
        return tuple(
            model
            for tier in self.policy.path
            if tier
            for model in self.layout.chains[tier - 1][: self._place(last[tier]) + 1]
        )

    def route(self, prompt: str, group: str | None = None) -> str:
        """The model to call first.

        Args:
            prompt: as it was recorded, before any template.
            group: as recorded, where groups were.
        """
        if self.policy.risk_weight is None:
            return self.models[0]
        one = _one({"prompt": prompt, "group": group, "models": {}}, self.layout.models)
        before = self.judges.before(one)
        risk = np.ones((1, len(self.layout.chains) + 1), dtype=np.float32)
        for tier, chain in enumerate(self.layout.chains, 1):
            known = [before[model] if model in before else np.full(1, 0.5) for model in chain]
            risk[:, tier] = 1.0 - np.mean(known, axis=0)
        return self.layout.chains[int(choose_entry(self.policy, risk)[0]) - 1][0]

    def accept(self, tier: str, signals: Mapping[str, Any]) -> bool:
        """Whether a model's answer is given.

        Args:
            tier: the model that answered.
            signals: what was recorded of an answer: `answer`, `tokens_out`, `characters`,
                `logprob_mean`, `finish_reason`, ...; besides the request's `prompt` and `group`,
                and `earlier`, the same fields of the models of its chain that answered before, by
                model. A signal that is missing counts as its mean.

        Raises:
            InputError: a signal that is none or has a wrong value, or a missing earlier answer.
        """
        stage, policy = self._stage(tier), self.policy
        threshold = policy.thresholds[stage]
        if stage == last_exits(policy, self.layout.stages)[policy.path[-1]]:
            threshold = policy.abstain
        if threshold in (ALWAYS, NEVER):
            return threshold == ALWAYS
        return bool(np.float32(self._reliability(stage, signals)) >= np.float32(threshold))

    def following(self, tier: str) -> str | None:
        """The model to call where the answer of this one is not accepted; None: a person."""
        names = self.models
        place = names.index(tier) if tier in names else len(names)
        return names[place + 1] if place + 1 < len(names) else None

    def covers(
        self, fingerprint: Fingerprint | Mapping[str, Any], tier: str | None = None
    ) -> Coverage:
        """Whether the certificate is about a model that shows this fingerprint.

        Args:
            tier: the model; None: the one that is asked for by that name.

        Returns:
            Covered, or STALE with the reasons.
        """
        now = fingerprint if isinstance(fingerprint, Fingerprint) else Fingerprint.of(fingerprint)
        known = (
            self.fingerprints.get(tier)
            if tier is not None
            else next((own for own in self.fingerprints.values() if own.asked == now.asked), None)
        )
        if known is None:
            return Coverage(False, ("no model of that name was recorded",))
        priced = any(metric_of(target).budget for target in self.certificate.targets)
        return compare(known, now, priced=priced)

    def _stage(self, tier: str) -> int:
        if tier not in self.models:
            raise InputError(
                {0: f"{tier!r} is none of the models called: {', '.join(self.models)}"}
            )
        return 1 + self.layout.models.index(tier)

    def _place(self, stage: int) -> int:
        """The stage's place in its chain."""
        return self.layout.stages[stage].exit

    def _reliability(self, stage: int, signals: Mapping[str, Any]) -> float:
        prefix = self.layout.prefixes[stage - 1]
        if prefix not in self.judges.after:
            return 0.5  # the full model is as good as itself
        told = dict(signals)
        request = {name: told.pop(name, None) for name in ("prompt", "group")}
        earlier = dict(told.pop("earlier", None) or {})
        if missing := [model for model in prefix[:-1] if model not in earlier]:
            raise InputError({0: f"`earlier` lacks the answers of {', '.join(missing)}"})
        models = {**{model: earlier[model] for model in prefix[:-1]}, prefix[-1]: told}
        one = _one({**request, "models": models}, self.layout.models)
        return float(self.judges.reliability(one, prefix)[0])


def _one(record: Mapping[str, Any], models: tuple[str, ...]) -> Outcomes:
    """A request as outcomes of one row."""
    faults = Faults("signals")
    row = {**record, "models": record["models"] or {models[0]: {}}}
    found = checked([(1, row)], faults)
    try:
        faults.check()
    except DataError as error:
        raise InputError({0: str(error)}) from None
    return from_records(found, models)
