"""Step `certify`: test the front on the certification rows, which nothing else has used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from adaptive.bundle.certificates import certificate_from_json, certificate_to_json
from adaptive.certificate.assumptions import redacted
from adaptive.certificate.certify import assuming, at_levels, certify, with_levels
from adaptive.certificate.looks import count_look
from adaptive.certificate.promises import Certificate
from adaptive.certifying.recertify import conditions_of, expected_stop, full_accuracy, row_seed
from adaptive.config.targets import show_target
from adaptive.policy.lookup import evaluate, tier_alone
from adaptive.text.row_hashes import hash_texts
from adaptive.training.choose import costs_of, load_fronts, load_router
from adaptive.training.learn.routers import risk_of
from adaptive.training.measure_costs import load_costs
from adaptive.training.parts import max_length_of, task_of, tokenizer_of
from adaptive.training.record_outcomes import load_features, load_table
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import OutcomeTable


def _work(context: Context, folder: Path) -> Figures:
    recipe = context.recipe
    if recipe.certificate is None or context.pooled:  # a pool's is `certify_pool`'s
        return {}
    costs = costs_of(context, load_router(context))
    table = certified_table(context)
    tokens, labels = load_rows(context.folder("data") / "certify.safetensors")
    conditions = conditions_of(
        context.device.type,
        load_costs(context).measured["dtype"],
        max_length_of(context),
        tokens,
        labels,
        costs,
        repeats=True,  # the rows are dealt as they come
        pairs=context.figures("data").get("pairs"),
    )
    first, *further = [
        certify(
            [found.policy for found in front],
            table,
            costs,
            targets,
            row_seed(recipe.seed),
            conditions,
            test=recipe.certificate.test,
            accuracy=full_accuracy(load_table(context, "search")),
            expected=expected_stop(front),
            looks=recipe.certificate.looks,
        )
        for targets, front in zip(
            [recipe.targets, *at_levels(recipe.targets, recipe.levels)],
            load_fronts(context)[1],
            strict=True,
        )
    ]
    texts = hash_texts(tokens, tokenizer_of(context))
    certificate, meaning = with_levels(first, further), task_of(context).meaning
    if meaning is not None:
        certificate = assuming(certificate, meaning)
    for told in redacted(recipe.redact):
        certificate = assuming(certificate, told)
    certificate = count_look(certificate, texts, table)
    content = certificate_to_json(certificate)
    (folder / "certificate.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    served = next(t for t in certificate.front if t.policy == certificate.policy)
    full = tier_alone(table.stages, table.stages[-1].tier)
    prices = evaluate(full, table, costs.at(table.tokens)).cost
    return {
        "verdict": certificate.verdict,
        "headline": certificate.headline,
        "rows_needed": certificate.rows_needed,
        "certified": certificate.certified,
        "front": len(certificate.front),
        "n": certificate.n,
        "looks": certificate.looks,
        "confidence_proved": certificate.confidence_proved,
        "cost": served.cost,
        "cost_full_alone": float(prices.mean()) if len(table) else 0.0,
        "unit": certificate.unit,
        "quality": None if certificate.quality is None else show_target(certificate.quality),
        "further": {show_target(each.target): each.headline for each in certificate.further},
    }


def certified_table(context: Context) -> OutcomeTable:
    """Outcomes of the certification rows, of none where the split is empty."""
    if not context.figures("data")["certify"]:
        return load_table(context, "search").take(slice(0))
    table, router = load_table(context, "certify"), load_router(context)
    if router is None:
        return table
    return replace(table, risk=risk_of(router, load_features(context, "certify")))


def load_certificate(context: Context) -> Certificate | None:
    """The certificate, not yet bound to a bundle's files; None where the recipe wants none."""
    file = context.folder("certify") / "certificate.json"
    if not file.is_file():
        return None
    stages = load_table(context, "search").stages
    return certificate_from_json(json.loads(file.read_text(encoding="utf-8")), stages)


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step(
        "certify",
        ("data", *tiers, "outcomes", "costs", "groups", "policy"),
        section("target", "search", "cost", "certificate"),
        _work,
    )
