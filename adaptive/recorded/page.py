"""The verdict page: what was found, in plain words and a few figures."""

from __future__ import annotations

import math
from collections.abc import Iterable

from adaptive.certificate.promises import Certificate
from adaptive.policy.lookup import is_bare, last_exits
from adaptive.policy.metrics import promise
from adaptive.recorded.certifying import Certified
from adaptive.recorded.figures import Figures
from adaptive.recorded.layouts import Layout
from adaptive.recorded.verdicts import headline
from adaptive.types import ALWAYS, Policy


def render(found: Certified) -> str:
    """The page, as Markdown."""
    certificate, figures = found.certificate, found.figures
    lines = [
        f"# {headline(certificate, found.layout, figures)}",
        "",
        *_bullets(_facts(found)),
        "",
        "## The models and the policy",
        "",
        *_models(figures, certificate.unit),
        "",
        *_bullets(policy_words(certificate.policy, found.layout)),
        "",
    ]
    if certificate.further:
        lines += ["## Other levels", "", *_bullets(_further(certificate)), ""]
    if found.notes:
        lines += ["## To know", "", *_bullets(found.notes), ""]
    lines += ["## What is assumed", "", *_bullets(certificate.assumptions), ""]
    lines += ["## The models as they were recorded", "", *_bullets(_prints(found)), ""]
    return "\n".join(lines)


def _bullets(texts: Iterable[str]) -> list[str]:
    return [f"- {text}" for text in texts]


def _facts(found: Certified) -> list[str]:
    certificate, deal = found.certificate, found.deal
    counts = ", ".join(f"{len(rows):,} {name}" for name, rows in deal.rows.items() if len(rows))
    told = [
        f"Promised: {promise(target)}, at {target.confidence:.4g} confidence."
        for target in certificate.targets
    ]
    told.append(
        f"Requests: {deal.requests:,} complete ones ({found.dropped:,} left out for something that "
        f"is missing), dealt into {counts}."
    )
    if deal.prompts is not None:
        told.append(f"Distinct prompts: {deal.prompts:,} of {deal.requests:,}.")
    if deal.sessions is not None:
        told.append(f"Sessions: {deal.sessions:,}; each stays in one part.")
    told.append(
        f"Tested: {len(certificate.front)} policies in a fixed order, of which "
        f"{certificate.certified} passed."
    )
    if found.floor is not None:
        told.append(
            f"Two runs of {found.models[-1]} differ on {found.floor:.2%} of the requests: no "
            "promise of agreement below that means anything."
        )
    if certificate.quality is not None:
        told.append(f"Proved besides: {promise(certificate.quality)}.")
    return told


def _models(figures: Figures, unit: str) -> list[str]:
    lines = [f"| model | {unit} a request, alone | score, alone | answers |", "|---|---|---|---|"]
    for name, cost in figures.costs.items():
        shown = _share(figures.scores[name])
        lines.append(f"| {name} | {cost:.4g} | {shown} | {figures.shares[name]:.1%} |")
    lines.append(f"| **the policy** | {figures.cost:.4g} | {_share(figures.score)} | |")
    return lines


def _share(score: float) -> str:
    return "not known" if math.isnan(score) else f"{score:.2%}"


def policy_words(policy: Policy, layout: Layout) -> list[str]:
    """What a policy does, step by step."""
    last = last_exits(policy, layout.stages)
    if is_bare(policy):
        stage = next(iter(last.values()))
        return [f"{layout.models[stage - 1] if stage else 'no model'} answers every request."]
    told = []
    if policy.risk_weight is not None:
        told.append("The prompt decides which tier a request enters at.")
    final = last[policy.path[-1]]
    for tier in policy.path:
        for stage, each in enumerate(layout.stages):
            if each.tier != tier or stage == 0 or stage > last[tier]:
                continue
            model = layout.models[stage - 1]
            if stage == final:
                told.append(f"{model} answers what is left.")
            elif policy.on(stage):
                told.append(
                    f"{model} is called; its answer is given where its reliability is at least "
                    f"{policy.thresholds[stage]:.4g}."
                )
            else:
                told.append(f"{model} is called, for what its answer tells of the next one's.")
    if policy.abstain != ALWAYS:
        told.append(f"A person answers where that reliability is below {policy.abstain:.4g}.")
    return told


def _further(certificate: Certificate) -> list[str]:
    told = []
    for each in certificate.further:
        cost = next(t.cost for t in each.front if t.policy == each.policy)
        told.append(
            f"{promise(each.target)}: {each.certified} of {len(each.front)} policies passed; the "
            f"one to serve costs {cost:.4g} {certificate.unit} a request."
        )
    return told


def _prints(found: Certified) -> list[str]:
    told = []
    for model, each in found.fingerprints.items():
        parts = [f"asked for as {each.asked}"]
        if each.returned:
            parts.append(f"returned {', '.join(each.returned)}")
        parts += [f"{key} {value}" for key, value in each.settings.items()]
        if each.dates:
            parts.append(f"from {each.dates[0]} to {each.dates[1]}")
        told.append(f"{model}: {'; '.join(parts)}.")
    return told
