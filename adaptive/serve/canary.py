"""Another bundle on trial: it answers a share of the requests, and goes at the first sign of harm.

Which requests come to it is drawn by coins that know nothing of the texts. Its answers are audited
as all are, by tests of its own; where one of them raises an alarm, a tier of it is fenced off or a
step of it hangs, it is rolled back, and what it has begun it still answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from adaptive.serve.audit import Audit
from adaptive.serve.deployment import Deployment, Level
from adaptive.serve.metrics import Metrics
from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Settings


class Trial:
    """A canary that runs."""

    def __init__(
        self, deployment: Deployment, settings: Settings, roll_back: Callable[[str], None]
    ) -> None:
        """A trial of a deployment whose golden inputs have passed.

        Args:
            roll_back: is told why.
        """
        assert settings.canary is not None
        self.deployment, self.share = deployment, settings.canary.share
        self.audit = Audit(settings.audit, deployment, Metrics())  # not among the server's figures
        self.requests = 0
        self._random = random.Random()

        def alarm(level: Level) -> None:
            roll_back(f"the promise {level.name} is in danger")

        self.audit.on_alarm = alarm

    def takes(self, target: str | None) -> bool:
        """Whether it answers a request for this level."""
        if self._random.random() >= self.share:
            return False
        try:
            self.deployment.level(target)
        except Refusal:  # it is not certified for it
            return False
        self.requests += 1
        return True

    def condition(self) -> dict[str, Any]:
        """What health and statistics say of it."""
        return {
            "bundle": self.deployment.bundle.name,
            "share": self.share,
            "requests": self.requests,
            "audit": self.audit.condition(),
        }


def check_promise(canary: Deployment, served: Deployment) -> None:
    """Refuse a canary that does not promise what the bundle in service does.

    Raises:
        Refusal: it promises something else, or nothing.
    """
    if canary.default.name != served.default.name:
        told = canary.default.name or "nothing"
        raise Refusal(
            409, f"the canary promises {told}, the bundle in service {served.default.name}"
        )
