"""The certificate that labels prove which were asked for, whenever it is wanted.

A row without a label counts as lost where a policy answers it otherwise than the full tier, so the
certificate is as valid before the end of the line as at it (see `adaptive.certificate.asking`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adaptive.bundle.contents import Bundle
from adaptive.bundle.ladder import ladder_of
from adaptive.certificate import asking
from adaptive.certificate.asking import Counts, Line, Standing
from adaptive.certificate.assumptions import (
    ALWAYS_ASSUMED,
    ROUNDED,
    asked_for,
    assumed,
    population,
    redacted,
)
from adaptive.certificate.certify import assuming, verdict_of, with_levels
from adaptive.certificate.looks import count_look
from adaptive.certificate.promises import Asked, Certificate, Claim, Conditions, Tested
from adaptive.certifying.recertify import conditions_of
from adaptive.certifying.unlabelled import Labels, Plan
from adaptive.policy.worth import reclassified
from adaptive.risk import rows_for_paired
from adaptive.text.row_hashes import hash_texts
from adaptive.tiers.store import is_rounded
from adaptive.types import Target


def finish(made: Plan, labels: Labels) -> Bundle:
    """The bundle with the certificate that the labels known so far prove; the look is counted.

    Args:
        labels: [n] of the plan's rows, positions in the bundle's labels; -1 where unknown.
    """
    first, *others = [_certificate(made, number, labels) for number in range(len(made.lines))]
    texts = hash_texts(made.tokens, made.bundle.tokenizer)
    certificate = with_levels(first, others)
    if is_rounded(made.bundle.tiers[-1]):
        certificate = assuming(certificate, ROUNDED)
    certificate = count_look(certificate, texts, made.table)
    return replace(
        made.bundle,
        targets=first.targets,
        costs=made.costs if made.bundle.costs is not None else None,
        policy=certificate.policy,
        ladder=ladder_of(first.front, {each.target.level: each.front for each in others}),
        outcomes={**made.bundle.outcomes, "certify": reclassified(made.table, labels=labels)},
        certificate=certificate,
    )


def _certificate(made: Plan, number: int, labels: Labels) -> Certificate:
    line, target, front = made.lines[number], made.targets[number], made.fronts[number]
    prices, rows, delta = made.prices[number], len(made), (1.0 - target.confidence) / made.looks
    behind = made.lost(number, labels)
    here, counts = asking.standing(line, behind), asking.count(behind)
    # the bound on the accuracy is paid for in each p-value; the full tier itself needs none
    spare = np.where(line.sure, 0.0, delta - line.error)
    p_values = np.minimum(asking.greatest(line, behind) + spare, 1.0)
    p_values[: here.passed] = np.minimum(p_values[: here.passed], delta)  # whatever rounding did
    lost = ((counts.worse + counts.unknown - counts.better) / rows - line.margin).tolist()
    excesses = np.where(line.sure, -line.margin, lost).tolist()
    served = int(np.argmin(prices[: max(here.passed, 1)]))
    said = verdict_of(front, served, here.passed)
    asked = Asked(
        labels=int((labels >= 0).sum()),
        accuracy=made.accuracy.bound(delta),
        accuracy_rows=made.accuracy.rows,
        accuracy_from=made.accuracy.source,
        ended=here.end != "asking",
    )
    short = said == "NOT CERTIFIED"
    needed = _needed(line, counts, here, rows, target) if short else None
    labels_needed = None
    if needed is not None:
        labels_needed = asking.labels_for(
            line.differs[here.passed],
            behind[here.passed],
            needed,
            line.margin,
            delta,
        )
    return Certificate(
        targets=(target,),
        claims=(Claim(target, None, rows, "paired_margin"),),
        verdict=said,
        obstacle=0 if short else None,
        rows_needed=needed,
        labels_needed=labels_needed,
        policy=front[served],
        certified=here.passed,
        front=tuple(
            Tested(policy, price, (excess,), (p,))
            for policy, price, excess, p in zip(
                front, prices, excesses, p_values.tolist(), strict=True
            )
        ),
        n=rows,
        seeds={"rows": made.seed},
        unit=made.costs.unit,
        conditions=_conditions(made, labels),
        assumptions=(
            *ALWAYS_ASSUMED,
            *population(made.count_repeats),
            *assumed([target], None, otherwise=not made.table.worth.own),
            *asked_for(asked.accuracy_from),
            *redacted(made.bundle.redact),
        ),
        asked=asked,
        planned=made.looks,
    )


def _conditions(made: Plan, labels: Labels) -> Conditions:
    bundle = made.bundle
    place, dtype = bundle.device.type, bundle.dtype
    return conditions_of(
        place,
        dtype,
        bundle.max_length,
        made.tokens,
        labels,
        made.costs,
        repeats=made.count_repeats,
        known=made.used,
        pairs=made.pairs,
    )


def _needed(line: Line, counts: Counts, here: Standing, rows: int, target: Target) -> int | None:
    """About the rows with which the policy that is next would pass."""
    if here.passed >= len(line.differs):
        return None
    differing = int(line.differs[here.passed].sum())
    known = max(differing - int(counts.unknown[here.passed]), 1)
    share = differing / rows / known  # of each labelled row that differs, in all
    worse, better = (float(each[here.passed]) * share for each in (counts.worse, counts.better))
    both = max(0.0, line.margin / target.level - worse) if target.level else 0.0
    needed = rows_for_paired(worse, better, both, target.level, delta=line.error)
    return None if needed is None else max(needed, rows + 1)
