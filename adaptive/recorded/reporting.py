"""A report of recorded outcomes: the certification rows, and what was found on them."""

from __future__ import annotations

import numpy as np

from adaptive.bundle.page import promises
from adaptive.recorded.certifying import Certified
from adaptive.recorded.page import policy_words
from adaptive.recorded.verdicts import headline, verdict
from adaptive.reporting.subject import Listed, Subject, status_of, words_of
from adaptive.types import Evaluation


def of_outcomes(found: Certified, name: str) -> Subject:
    """What `certify_outcomes` found, on the requests that it certified on.

    Args:
        name: of the outcomes, for the page's head.
    """
    certificate, layout = found.certificate, found.layout
    places = ("the prompt", *layout.models)
    words = words_of(certificate, promises(certificate.targets), places)
    words |= {
        "headline": verdict(certificate, layout, found.figures),
        "meaning": " ".join(
            [
                headline(certificate, layout, found.figures),
                *policy_words(certificate.policy, layout),
            ]
        ),
        "costs": f"{certificate.unit} of each call, as recorded or by the price list",
        "router": "",
        "warnings": list(found.notes),
    }
    return Subject(
        name=name,
        item="request",
        rows="requests, those that certified: they had no part in fitting and searching",
        tiers=("prompt", *(" > ".join(chain) for chain in layout.chains)),
        places=places,
        lookup=found.tested,
        searched=found.searched,
        policy=certificate.policy,
        listed=tuple(
            Listed(str(index), tested.policy, status_of(certificate, tested.policy))
            for index, tested in enumerate(certificate.front)
        ),
        alone={model: _alone(found, model) for model in found.models},
        quality="accuracy" if found.tested.table.worth.exact else "score",
        words=words,
        answers=tuple(range(1, len(layout.chains) + 1)),
        calibrated=False,
    )


def _alone(found: Certified, model: str) -> Evaluation:
    """A model that is called for every request, and no other."""
    stage = found.layout.models.index(model) + 1
    table = found.tested.table
    before = found.layout.prefixes[stage - 1][:-1]
    run = found.tested.bare
    # a chain's stage counts the calls before it
    cost = run[:, stage] - (run[:, stage - 1] if before else 0.0)
    size = len(table)
    return Evaluation(
        stage=np.full(size, stage, dtype=np.int32),
        entry=np.full(size, table.stages[stage].tier, dtype=np.int32),
        answered=np.ones(size, dtype=np.bool_),
        score=table.worth.score[:, stage].astype(np.float64),
        alike=table.worth.alike[:, stage].astype(np.float64),
        cost=cost,
    )
