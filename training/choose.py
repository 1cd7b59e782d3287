"""Step `policy`: fit routers, search policies with and without them, order those to certify."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adaptive.bundle.policies import policy_from_json, policy_to_json
from adaptive.certificate.certify import at_levels
from adaptive.errors import TargetError
from adaptive.measure.timing import with_router
from adaptive.measure.work import routed
from adaptive.policy.costs import CostTable
from adaptive.policy.entries import forced, forced_entries
from adaptive.policy.fronts import front
from adaptive.policy.lookup import Lookup, tier_alone
from adaptive.policy.metrics import metric_of, promise
from adaptive.policy.search import Found, refine, search
from adaptive.policy.targets import about_costs, seeks_quality, several
from adaptive.policy.worth import worse_of
from adaptive.routers import Router
from adaptive.routers.fit import fit_router
from adaptive.training.doubts import about_useless
from adaptive.training.learn.routers import load_router as read_router
from adaptive.training.learn.routers import risk_of, save_router
from adaptive.training.measure_costs import load_costs, load_work
from adaptive.training.parts import steps_by_tier
from adaptive.training.record_outcomes import ASKED, load_drop, load_features, load_table
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import Policy, Target, Targets


def _work(context: Context, folder: Path) -> Figures:
    recipe, targets = context.recipe, context.recipe.targets
    table, costs = load_table(context, "search"), costs_of(context, None)
    smoothed = None if recipe.search.losses == "labels" else load_drop(context)
    drop = smoothed if recipe.search.losses == "expected" else None
    lookup = Lookup.of(table, costs.at(table.tokens), drop)
    what = "loss" if seeks_quality(targets) else "cost"  # what is to be made small
    ladder = _search(context, lookup, targets, routed=False)  # best first
    plain = _best(ladder, targets, exact=table.worth.own)
    best, router = plain, None
    figures: Figures = {f"{what}_no_router": getattr(plain, what)}
    for kind in recipe.router.candidates:
        candidate = fit_candidate(context, kind)
        priced = costs_of(context, candidate)
        routed = replace(table, risk=risk_of(candidate, load_features(context, "search")))
        seen = Lookup.of(routed, priced.at(table.tokens), drop)
        found = _search(context, seen, targets, routed=True)
        with_router = [f for f in found if f.policy.risk_weight is not None]
        if not with_router:
            continue
        figures[f"{what}_router_{kind}"] = reached = getattr(with_router[0], what)
        needed = getattr(plain, what) * (1 - recipe.router.min_gain)
        if reached < min(getattr(best, what), needed):
            best, router, ladder, lookup = with_router[0], candidate, found, seen
    rules = baselines(
        lookup, targets, best.policy, margin=recipe.search.margin, sweeps=recipe.search.sweeps
    )
    figures |= {f"{what}_{name}": reached for name, reached in rules.items()}
    figures["router"] = "none" if router is None else router.kind
    figures |= {"cost": best.cost, "excess": best.excess, "unit": costs.unit}
    figures |= {"loss": best.loss} if what == "loss" else {}
    figures["warnings"] = about_useless(table, list(steps_by_tier(context)))
    auto = recipe.search.losses == "auto" and smoothed is not None
    line = partial(
        front,
        lookup,
        sweeps=recipe.search.sweeps,
        margin=recipe.search.margin,
        drops=(None, smoothed) if auto else (drop,),
        rows=_certification_rows(context),
    )
    ordered = line(targets, ladder)
    further = [
        line(each, _search(context, lookup, each, routed=router is not None))
        for each in at_levels(targets, recipe.levels)
    ]
    _save(folder, best.policy, [ordered, *further], router)
    return figures | {"front": len(ordered)}


def _certification_rows(context: Context) -> int | None:
    """How many rows a line will be certified on, if there are any."""
    file = context.folder("outcomes") / "certify.safetensors"
    return len(load_table(context, "certify")) if file.is_file() else None


def _best(found: Sequence[Found], targets: Sequence[Target], *, exact: bool) -> Found:
    """The first of the found, best first, that keeps the targets.

    The full tier keeps any target that is relative to itself, so it stands in where too few
    rows leave no room for the margin. An accuracy it may miss, and a promise about costs, and
    with it everything.

    Args:
        exact: the full tier is served in float32 in torch; otherwise it may miss any target.

    Raises:
        TargetError: no policy keeps a target that the full tier may miss.
    """
    kept = [f for f in found if f.excess <= 0.0]
    asked = [target for target in targets if not (metric_of(target).full_keeps and exact)]
    if not kept and asked:
        told, least = " and ".join(map(promise, asked)), min(f.excess for f in found)
        lead = "cheapest stage" if seeks_quality(targets) else "full tier"
        remedy = "Ask for less, or train a better full tier"
        if not exact:
            remedy = (
                "Ask for less, or serve the full tier as it was trained: by torch, with "
                "`cost.dtype: float32` and out of `quantise.tiers` and `export.tiers`"
            )
        if about_costs(asked):
            remedy = "Allow more, or build a cheaper first tier"
        raise TargetError(
            f"target asks for {told}; with the margin, even the {lead} alone misses a target by "
            f"{least:.2%} on the search rows. {remedy}"
        )
    return (kept or found)[0]


def costs_of(context: Context, router: Router | None) -> CostTable:
    """The cost table that the recipe minimises, with a router's cost if there is one."""
    work = routed(load_work(context), router)
    if context.recipe.search.minimise == "work":
        return work
    return with_router(load_costs(context), work)


def fit_candidate(context: Context, kind: str) -> Router:
    """A router of one kind, fitted on the fit split: which tiers' last answers were worse."""
    table, features = load_table(context, "fit"), load_features(context, "fit")
    return fit_router(kind, features.numpy(), worse_of(table), context.recipe.seed)


def baselines(
    lookup: Lookup, target: Targets, best: Policy, *, margin: float, sweeps: int
) -> dict[str, float | None]:
    """Cost at the target of other entry rules, each with thresholds of its own.

    The rules cost nothing themselves. None where a rule cannot keep the target. Where costs are
    all that is promised, it is what is lost, by the rules alone.
    """
    table, good = lookup.table, seeks_quality(several(target))
    costs: dict[str, float | None] = {}
    for name, entry in forced_entries(lookup, best).items():
        free, rule = forced(lookup, best, entry)
        found = refine(free, target, rule, margin=margin, sweeps=sweeps)
        costs[name] = None if found is None else found.loss if good else found.cost
    if good:
        return costs
    full = tier_alone(table.stages, table.stages[-1].tier)
    return costs | {"full_alone": float(lookup.evaluate(full).cost.mean())}


def _search(
    context: Context, lookup: Lookup, targets: Sequence[Target], *, routed: bool
) -> list[Found]:
    config = context.recipe.search
    return search(lookup, targets, margin=config.margin, sweeps=config.sweeps, routed=routed)


def _save(folder: Path, chosen: Policy, fronts: list[list[Found]], router: Router | None) -> None:
    entries = [
        [{"policy": policy_to_json(f.policy), "cost": f.cost, "excess": f.excess} for f in ordered]
        for ordered in fronts
    ]
    content = {"chosen": policy_to_json(chosen), "fronts": entries}
    (folder / "policy.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    if router is not None:
        save_router(router, folder)


def load_router(context: Context) -> Router | None:
    """The router that paid, if one did."""
    folder = context.folder("policy")
    return read_router(folder) if (folder / "router.json").is_file() else None


def load_policies(context: Context) -> tuple[Policy, list[Found]]:
    """The held-out choice, and the policies to certify, safe to cheap, on the search rows."""
    chosen, fronts = load_fronts(context)
    return chosen, fronts[0]


def load_fronts(context: Context) -> tuple[Policy, list[list[Found]]]:
    """The held-out choice, and the fronts of the target and of its further levels."""
    stages = load_table(context, "search").stages
    file = context.folder("policy") / "policy.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    fronts = [
        [
            Found(policy_from_json(each["policy"], stages, "front"), each["cost"], each["excess"])
            for each in front
        ]
        for front in content["fronts"]
    ]
    return policy_from_json(content["chosen"], stages, "chosen"), fronts


def step(tiers: tuple[str, ...], *, pooled: bool = False) -> Step:
    """The step for a cascade whose tiers were left by these steps.

    Args:
        pooled: labels of the search rows were asked for, by a step of its own.
    """
    asked = (ASKED,) * pooled
    return Step("policy", (*tiers, "outcomes", "costs", "groups", *asked), _reads, _work)


def _reads(context: Context) -> Mapping[str, Any]:
    # these words distinguish what this step writes from what it wrote before
    levels = list(context.recipe.levels)
    return {
        **section("router", "target", "search")(context),
        "levels": levels,
        "writes": "lines of useful tiers, as free as the rows tell",
    }
