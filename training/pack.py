"""Step `pack`: evaluate the finished cascade on the test split and write the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import adaptive
from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.ladder import ladder_of
from adaptive.bundle.store import save_bundle
from adaptive.certificate.promises import Tested
from adaptive.measure.evaluation import evaluate_texts
from adaptive.measure.timing import machine
from adaptive.policy.search import Found
from adaptive.routers import Router
from adaptive.text.row_hashes import hashes_of
from adaptive.training import choose_runners
from adaptive.training.certify_policy import load_certificate
from adaptive.training.choose import costs_of, load_fronts, load_router
from adaptive.training.groups import load_groups
from adaptive.training.kinds import KINDS
from adaptive.training.learn.routers import risk_of
from adaptive.training.measure_costs import load_costs
from adaptive.training.parts import (
    DTYPES,
    finished_steps,
    labels_of,
    load_tiers,
    log_frequency_of,
    max_length_of,
    tokenizer_of,
)
from adaptive.training.published import keep_beside, public_source, published, to_yaml
from adaptive.training.record_outcomes import (
    ASKED,
    HELD_OUT,
    load_features,
    load_reliability,
    load_table,
    load_task,
)
from adaptive.training.rows import load_rows
from adaptive.training.steps import Context, Figures, Step, section
from adaptive.types import OutcomeTable


def _work(context: Context, folder: Path) -> Figures:
    recipe = context.recipe
    bundle = _assemble(context)
    figures: Figures = {}
    if "test" in splits_of(context):
        tokens, labels = load_rows(context.folder("data") / "test.safetensors")
        groups = load_groups(context, "test")
        figures = evaluate_texts(
            bundle, bundle.policy, tokens, labels, groups=groups, batch_size=recipe.cost.batch_size
        )
    bundle = replace(bundle, info=_info(context, figures))
    text = to_yaml(published(recipe))
    save_bundle(bundle, recipe.output, card=render_card(bundle), recipe=text)
    keep_beside(recipe)
    return {"test": figures}


def warnings_of(context: Context) -> list[str]:
    """What the steps up to here warn of."""
    steps = ["data", "full", *finished_steps(context), "policy"]
    found = (warning for step in steps for warning in context.figures(step).get("warnings", ()))
    return list(dict.fromkeys(found))


def splits_of(context: Context) -> list[str]:
    """Held-out splits that have rows."""
    return [split for split in HELD_OUT if context.figures("data")[split]]


def _assemble(context: Context) -> Bundle:
    recipe, router = context.recipe, load_router(context)
    certificate = load_certificate(context)
    chosen, found = load_fronts(context)
    fronts: Sequence[Sequence[Found | Tested]] = found
    if certificate is not None:
        fronts = [each.front for each in (certificate, *certificate.further)]
    tables = {split: _table(context, split, router) for split in splits_of(context)}
    return Bundle(
        name=recipe.name,
        labels=labels_of(context),
        tokenizer=tokenizer_of(context),
        tiers=load_tiers(context, DTYPES[recipe.cost.dtype]),
        reliability=load_reliability(context).to(context.device),
        router=None if router is None else router.to(context.device),
        log_frequency=log_frequency_of(context),
        policy=chosen if certificate is None else certificate.policy,
        targets=recipe.targets,
        max_length=max_length_of(context),
        ladder=ladder_of(fronts[0], dict(zip(recipe.levels, fronts[1:], strict=True))),
        costs=costs_of(context, router),
        outcomes={split: tables[split] for split in ("search", "certify") if split in tables},
        certificate=certificate,
        seen=_seen(context),
        task=load_task(context),
        redact=recipe.redact,
    )


def _seen(context: Context) -> NDArray[np.uint64]:
    """Hashes of all rows that something was trained, fitted or searched on, made-up texts too."""
    files = [
        context.folder("data") / f"{split}.safetensors" for split in ("train", "fit", "search")
    ]
    files.append(context.folder("teacher") / "rows.safetensors")
    return hashes_of([load_rows(file)[0] for file in files])


def _table(context: Context, split: str, router: Router | None) -> OutcomeTable:
    table = load_table(context, split)
    if router is None:
        return table
    return replace(table, risk=risk_of(router, load_features(context, split)))


def _info(context: Context, figures: Figures) -> dict[str, Any]:
    recipe, costs = context.recipe, load_costs(context)
    info = {
        "base_model": public_source(recipe.model.id),
        "datasets": [public_source(recipe.data.source)],
        "device": costs.measured["device"],
        "dtype": costs.measured["dtype"],
        "versions": {"adaptive-cascade": adaptive.__version__, **machine(context.device)},
        "cut": context.figures("data")["cut"],
        "steps": _story(context),
        "warnings": warnings_of(context),
        "figures": figures,
        "policy": context.figures("policy"),
        "certificate": context.figures("certify"),
    }
    given = {name: getattr(recipe, name) for name in ("license", "language", "description")}
    return info | {key: value for key, value in given.items() if value}


def _story(context: Context) -> list[str]:
    """How it was built, in sentences."""
    data, recipe = context.figures("data"), context.recipe
    rows = ", ".join(f"{data[split]} {split}" for split in ("train", *HELD_OUT))
    story = [
        f"Rows: {rows}; {data['unlabelled']} unlabelled. {_copies(data)}",
        f"Full tier: {public_source(recipe.model.id)}, tuned: {recipe.last.tune}.",
    ]
    for tier in recipe.small:
        told = KINDS[tier.kind].told(context.figures(tier.name))
        story.append(f"{tier.name.capitalize()} tier: {told}.")
    if recipe.measured:
        found = context.figures("runners")
        story += [choose_runners.sentence(name, figures) for name, figures in found.items()]
    if recipe.int8:
        story += [_in_int8(name, told) for name, told in context.figures("quantise").items()]
    if recipe.exported:
        story += [_in_graphs(name, told) for name, told in context.figures("export").items()]
    margin = recipe.search.margin
    return [*story, _routing(context.figures("policy"), margin), _promise(context)]


def _copies(data: Figures) -> str:
    """Which rows left, once they were dealt."""
    if not data["duplicates"]:
        return "No text stands twice."
    copies = data["duplicates"] - data["known"]
    return (
        f"{data['known']} rows left train, fit and search because certify or test has their text, "
        f"{copies} as copies; certify and test keep their repeated texts."
    )


def _in_int8(name: str, figures: Figures) -> str:
    """What int8 did to a tier."""
    last = figures["exits"][-1]
    accuracy = ""
    if last["accuracy"] is not None:
        accuracy = f"its accuracy went from {last['accuracy_before']:.2%} to {last['accuracy']:.2%}"
    return (
        f"In int8: the layers of the {name} tier. On the fit rows "
        + (f"{accuracy}, " if accuracy else "")
        + f"{last['agreement']:.2%} of its answers stayed, and it was {figures['time_ratio']:.2f} "
        "times as fast."
    )


def _in_graphs(name: str, figures: Figures) -> str:
    """What ONNX Runtime did to a tier."""
    alone, together = figures["batch_1"], figures["batch_32"]
    return (
        f"In ONNX Runtime: the layers of the {name} tier, {alone['time_ratio']:.2f} times as fast "
        f"as torch's on single texts, {together['time_ratio']:.2f} times in batches of 32; "
        f"{together['exits'][-1]['agreement']:.2%} of its answers stayed."
    )


def _routing(figures: Figures, margin: float) -> str:
    """Which router was packed, and what every entry rule would have cost at the target."""
    what = "loss" if "loss" in figures else "cost"
    reached = {name[5:]: each for name, each in figures.items() if name.startswith(f"{what}_")}
    told = ", ".join(
        f"{name.replace('_', ' ')} {'misses the target' if each is None else f'{each:.3g}'}"
        for name, each in reached.items()
    )
    packed = (
        "Router: none, because none saved enough."
        if figures["router"] == "none"
        else f"Router: {figures['router']}."
    )
    return (
        f"{packed} With {margin:g} standard errors to spare, a policy costs "
        f"{figures['cost']:.3g} {figures['unit']} a text on the search rows"
        + (f" and loses {figures['loss']:.3g} against the full tier" if what == "loss" else "")
        + f"; other ways to enter, each with thresholds of its own: {told}."
    )


def _promise(context: Context) -> str:
    figures = context.figures("certify")
    if context.pooled and context.recipe.certificate is not None:
        asked = context.figures(ASKED)
        return (
            f"Search rows: {asked['labels']:,} labels were asked for, of {asked['rows']:,} texts; "
            "those of the certificate were asked for behind it."
        )
    if not figures:
        return "Policy: a held-out choice, not a certificate; the recipe asks for none."
    return (
        f"Certificate: {figures['headline']}. Of {figures['front']} policies in order, "
        f"{figures['certified']} passed on {figures['n']} rows; the one that is served costs "
        f"{figures['cost']:.3g} {figures['unit']} a text there, the full tier alone "
        f"{figures['cost_full_alone']:.3g}."
        + (f" Proved besides: {figures['quality']}." if figures["quality"] else "")
        + "".join(f" At {name}: {told}." for name, told in figures["further"].items())
    )


def step(tiers: tuple[str, ...]) -> Step:
    """The step for a cascade whose tiers were left by these steps."""
    return Step(
        "pack",
        ("data", *tiers, "outcomes", "costs", "groups", "policy", "certify"),
        _reads,
        _work,
    )


def _reads(context: Context) -> Mapping[str, Any]:
    # the hashes distinguish the bundles that this step writes from those it wrote before
    told = section("name", "output", "license", "language", "description")(context)
    return {**told, "writes": "hashes of the rows that were used"}
