"""`adaptive certify outcomes.jsonl`: a certificate from recorded outcomes alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from adaptive.cli.session import Session
from adaptive.errors import ConfigError

if TYPE_CHECKING:
    from adaptive.recorded.certifying import Certified
    from adaptive.recorded.reading import Source

PANEL = "Of recorded outcomes"
Tiers = Annotated[
    str | None,
    typer.Option(
        help="Models, cheapest first, the full one last: small,large.",
        show_default="all, by mean cost",
        rich_help_panel=PANEL,
    ),
]
Unit = Annotated[
    str | None,
    typer.Option(
        help="dollars or milliseconds.",
        show_default="dollars where they are known",
        rich_help_panel=PANEL,
    ),
]
PriceFile = Annotated[Path | None, typer.Option(help="A price list (YAML).", rich_help_panel=PANEL)]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder for what decides, the certificate and the verdict page.",
        show_default="<file>.router beside the file",
        rich_help_panel=PANEL,
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="lm-eval, inspect, routerarena or llmrouter: what wrote the file or folder.",
        show_default="our own form",
        rich_help_panel=PANEL,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="FIELD=NAME",
        help="A field under another name, such as group=category; repeatable.",
        rich_help_panel=PANEL,
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="WORST:BEST",
        help="Scores that are 0 and 1 here, such as 1:10.",
        show_default="0:1",
        rich_help_panel=PANEL,
    ),
]
ScorerName = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="exact, number, choice, f1 or json: how answers are compared and scored.",
        show_default="exact",
        rich_help_panel=PANEL,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompts", help="A file of id and prompt.", rich_help_panel=PANEL),
]
Again = Annotated[
    str | None,
    typer.Option(
        help="A second recorded run of the full model, to tell how it agrees with itself.",
        rich_help_panel=PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Deals the requests.", show_default="0", rich_help_panel=PANEL),
]


_OURS = (
    "tiers",
    "unit",
    "prices",
    "out",
    "form",
    "column",
    "scale",
    "scorer",
    "prompts",
    "again",
    "seed",
)


def checked(name: str, form: str | None) -> str:
    """The argument, if it can be recorded outcomes.

    Raises:
        ConfigError: it cannot.
    """
    from adaptive.recorded.files import FORMS, form_of

    if form is None and form_of(Path(name)) is None:
        raise ConfigError(
            f"{name}: a bundle needs DATA to be certified on; recorded outcomes are a file that "
            f"ends in {', '.join(FORMS)}, or logs that --from names"
        )
    return name


_THEIRS = (
    "text",
    "pair",
    "label",
    "where",
    "rename",
    "limit",
    "on_bad_row",
    "device",
    "dtype",
    "threads",
    "unlabelled",
    "ask",
    "labels",
    "state",
    "sample",
    "finish",
    "work",
    "texts",
    "group",
    "uncertified",
)


def check_options(context: typer.Context, *, bundle: bool) -> None:
    """Refuse options that say nothing of what is certified.

    Args:
        bundle: whether it is a bundle on its data; else recorded outcomes.

    Raises:
        ConfigError: naming them.
    """
    names = _OURS if bundle else _THEIRS
    given = [name for name in names if context.params.get(name)]
    if given:
        told = ", ".join(f"--{'from' if each == 'form' else each}" for each in given)
        kind = "recorded outcomes, not for a bundle and its data"
        other = "a bundle and its data, not for recorded outcomes"
        raise ConfigError(f"{told.replace('_', '-')}: for {kind if bundle else other}")


def source_of(
    path: str,
    *,
    form: str | None,
    columns: Sequence[str],
    scale: str | None,
    scorer: str | None,
    prompts: Path | None,
) -> Source:
    """Where the outcomes lie and how they are read, from a command line.

    Raises:
        ConfigError: an option that says nothing.
    """
    from adaptive.recorded.reading import Source

    named: dict[str, str] = {}
    for each in columns:
        field, _, name = each.partition("=")
        if not field or not name:
            raise ConfigError(f"--column {each!r}: expected FIELD=NAME")
        named[field] = name
    ends = (0.0, 1.0)
    if scale is not None:
        try:
            low, high = map(float, scale.split(":"))
        except ValueError:
            raise ConfigError(f"--scale {scale!r}: expected WORST:BEST, such as 1:10") from None
        ends = (low, high)
    return Source(Path(path), form=form, columns=named, scale=ends, scorer=scorer, prompts=prompts)


def certified(
    source: Source,
    *,
    targets: Sequence[str],
    levels: Sequence[float],
    confidence: float | None,
    tiers: str | None,
    unit: str | None,
    prices: Path | None,
    scorer: str | None,
    again: str | None,
    seed: int | None,
    looks: int,
    count_repeats: bool,
    session: Session,
) -> Certified:
    """Certify recorded outcomes, by the options of a command line.

    Raises:
        ConfigError: no target.
    """
    from adaptive.cli.certify import choose_targets
    from adaptive.recorded.certifying import certify_outcomes
    from adaptive.types import Target

    if not targets:
        raise ConfigError("expected --target, such as accuracy_drop=0.02")
    wanted = choose_targets(
        targets, 0.95 if confidence is None else confidence, [Target("work", 1)]
    )
    session.note("certify: reading, dealing, fitting, searching and testing recorded outcomes")
    return certify_outcomes(
        source,
        wanted,
        tiers=[name.strip() for name in tiers.split(",")] if tiers else (),
        unit=unit,
        prices=prices,
        levels=levels,
        scorer=scorer or "exact",
        again=again,
        seed=seed or 0,
        looks=looks,
        count_repeats=count_repeats,
    )


def certify(source: Source, *, out: Path | None, session: Session, **given: Any) -> dict[str, Any]:
    """Certify recorded outcomes as `certified` does, and write the folder."""
    from adaptive.recorded.store import write

    found = certified(source, session=session, **given)
    folder = out or source.path.with_name(f"{source.path.name.split('.')[0]}.router")
    return {"result": str(write(found, folder)), **facts_of(found)}


def facts_of(found: Certified) -> dict[str, Any]:
    """What was found, in a few figures."""
    from adaptive.config.targets import show_target
    from adaptive.recorded.page import policy_words
    from adaptive.recorded.verdicts import headline, verdict

    certificate, figures = found.certificate, found.figures
    return {
        "verdict": verdict(certificate, found.layout, figures),
        "headline": headline(certificate, found.layout, figures),
        "targets": [show_target(each) for each in certificate.targets],
        "n": certificate.n,
        "rows_needed": certificate.rows_needed,
        "labels_needed": certificate.labels_needed,
        "certified": certificate.certified,
        "front": len(certificate.front),
        "confidence_proved": certificate.confidence_proved,
        "looks": certificate.looks,
        "saving": figures.saving,
        "unit": certificate.unit,
        "cost": figures.cost,
        "costs": dict(figures.costs),
        "scores": dict(figures.scores),
        "shares": dict(figures.shares),
        "policy": policy_words(certificate.policy, found.layout),
        "requests": found.deal.requests,
        "dropped": found.dropped,
        "prompts": found.deal.prompts,
        "sessions": found.deal.sessions,
        "full_differs_from_itself": found.floor,
        "further": [
            {
                "target": show_target(each.target),
                "certified": each.certified,
                "front": len(each.front),
                "cost": next(t.cost for t in each.front if t.policy == each.policy),
                "rows_needed": each.rows_needed,
            }
            for each in certificate.further
        ],
        "notes": list(found.notes),
    }


def show(facts: dict[str, Any], console: Console) -> None:
    """The verdict, for a terminal."""
    lines = [facts["headline"], *facts["policy"]]
    lines += [
        f"{name}: {cost:.4g} {facts['unit']} a request alone, answers {facts['shares'][name]:.1%}"
        for name, cost in facts["costs"].items()
    ]
    for each in facts["further"]:
        lines.append(
            f"{each['target']}: {each['certified']} of {each['front']} policies passed, "
            f"{each['cost']:.4g} {facts['unit']} a request"
        )
    lines += [*facts["notes"], facts["result"]]
    for text in lines:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
