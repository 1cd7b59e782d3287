"""`adaptive certify`: a new certificate for a bundle, on new data or a new device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from adaptive.cli.session import Session
from adaptive.config.targets import read_target, show_target
from adaptive.errors import ConfigError
from adaptive.policy.metrics import metric_of
from adaptive.types import Stage, Target, confidence_fault

if TYPE_CHECKING:
    from adaptive.certificate.promises import Certificate
    from adaptive.pipeline import AdaptivePipeline
    from adaptive.training.data import Dataset


def choose_targets(
    given: Sequence[str], confidence: float | None, old: Sequence[Target]
) -> tuple[Target, ...]:
    """The targets that a command line names, the old ones where it names none.

    Args:
        given: as `adaptive.config.targets.read_target` reads each.
        confidence: of all of them; None takes the old one.

    Raises:
        ConfigError: no such metric, a level that it cannot have, or a confidence that is no share
            or more than is certified.
    """
    chosen = old[0].confidence if confidence is None else confidence
    if fault := confidence_fault(chosen):
        raise ConfigError(f"--confidence {chosen:.10g}: {fault}")
    if given:
        return tuple(Target(**read_target(each), confidence=chosen) for each in given)
    return tuple(replace(each, confidence=chosen) for each in old)


def choose_levels(
    given: Sequence[float] | None,
    targets: Sequence[Target],
    pipeline: AdaptivePipeline,
) -> tuple[float, ...]:
    """Further levels of the first target: those given, else those it has in the old certificate.

    Raises:
        ConfigError: the target's metric cannot have such a level.
    """
    first = targets[0]
    if given is None:
        return _old_levels(first, pipeline)
    for level in given:
        if fault := metric_of(first).level_fault(first.metric, level):
            raise ConfigError(f"--level {level:g}: {fault}")
    return tuple(given)


def _old_levels(first: Target, pipeline: AdaptivePipeline) -> tuple[float, ...]:
    folder = Path(pipeline.preset.bundle).expanduser()
    old = _certificate_in(folder, pipeline.bundle.stages)
    if old is None:
        return ()
    # the levels of another metric, group or bound say nothing of this one's
    like = replace(first, level=old.target.level, confidence=old.target.confidence)
    if like != old.target:
        return ()
    return tuple(each.target.level for each in old.further if each.target.level != first.level)


def certify(
    pipeline: AdaptivePipeline,
    data: Dataset,
    targets: Sequence[Target],
    levels: Sequence[float],
    session: Session,
    *,
    looks: int = 1,
    count_repeats: bool = False,
    choose_runners: bool = False,
) -> dict[str, Any]:
    """Certify an opened bundle on data, and put the certificate into its folder.

    Args:
        looks: designs that are planned to be tested on these data.
        count_repeats: whether rows of the same text are separate requests, and count each.
        choose_runners: serve each tier by what is quickest here; see `adaptive.certify`.

    Raises:
        BundleError: the bundle does not lie in a folder of its own, or cannot be certified.
        TargetError: a target needs labels or groups that are not there.
    """
    from adaptive.certifying.recertify import without_rows
    from adaptive.public import certified

    how: dict[str, Any] = {
        "looks": looks,
        "count_repeats": count_repeats,
        "choose_runners": choose_runners,
    }
    with session.listening() as tell:
        bundle = certified(pipeline, data, tuple(targets), levels=levels, on_event=tell, **how)
    assert bundle.certificate is not None
    facts, known = facts_of(bundle.certificate), bundle.certificate.conditions.known
    tried = _tried(data, count_repeats=count_repeats) if choose_runners else 0
    repeated = len(data) - (known or 0) - facts["n"] - tried
    told = {
        "known": known,
        "tried": tried,
        "repeated": repeated,
        "without_rows": list(without_rows(bundle)),
    }
    folder = Path(pipeline.preset.bundle).expanduser()
    return {"result": str(folder.resolve()), **facts, **told}


def _tried(data: Dataset, *, count_repeats: bool) -> int:
    """Rows that runners were tried on."""
    from adaptive.training.served_here import parted
    from adaptive.training.splits import distinct_rows

    return len(parted(len(data) if count_repeats else len(distinct_rows(data)))[0])


def facts_of(certificate: Certificate | None) -> dict[str, Any]:
    """A certificate in a few figures."""
    if certificate is None:
        return {"verdict": None, "headline": "none: nothing is promised"}
    return {
        "verdict": certificate.verdict,
        "headline": certificate.headline,
        "rows_needed": certificate.rows_needed,
        "labels_needed": certificate.labels_needed,
        "proposal": certificate.proposal,
        "n": certificate.n,
        "labels": None if certificate.asked is None else certificate.asked.labels,
        "looks": certificate.looks,
        "looks_planned": certificate.planned,
        "confidence_proved": certificate.confidence_proved,
        "certified": certificate.certified,
        "front": len(certificate.front),
        "quality": None if certificate.quality is None else show_target(certificate.quality),
        "further": [
            {"target": show_target(each.target), **facts_of(each)} for each in certificate.further
        ],
    }


def promised(folder: Path) -> dict[str, Any]:
    """`facts_of` the certificate in a bundle's folder; no weight is loaded.

    Raises:
        BundleError: header, a tier's card or the certificate cannot be read.
    """
    from adaptive.bundle.contents import stages_of
    from adaptive.bundle.files import read_json
    from adaptive.bundle.header import read_header
    from adaptive.bundle.layout import LAYOUT

    cards = [f"{LAYOUT.tier(name)}/tier.json" for name in read_header(folder).tiers]
    depths = tuple(tuple(read_json(folder / card, card)["depths"]) for card in cards)
    return facts_of(_certificate_in(folder, stages_of(depths)))


def _certificate_in(folder: Path, stages: tuple[Stage, ...]) -> Certificate | None:
    from adaptive.bundle.certificates import read_certificate

    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    return read_certificate(folder, names, stages)


def certificate_lines(facts: dict[str, Any]) -> list[str]:
    """The verdict, what would mend it, and the verdicts of further levels."""
    if facts["verdict"] is None:
        return [facts["headline"]]
    lines = [_line(facts), *(f"{each['target']}: {_line(each)}" for each in facts["further"])]
    return [lines[0], facts["proposal"], *lines[1:]] if facts["proposal"] else lines


def show_certificate(facts: dict[str, Any], console: Console) -> None:
    """What `certify` found, for a terminal."""
    lines = [*certificate_lines(facts), looks_line(facts)]
    if facts["known"]:
        lines.append(
            f"{facts['known']:,} rows were trained, fitted or searched on and do not count"
        )
    if facts.get("tried"):
        lines.append(f"{facts['tried']:,} rows chose the runners and do not count")
    if facts["repeated"]:
        lines.append(f"{facts['repeated']:,} rows repeat the text of another and do not count")
    if facts["without_rows"]:
        lines.append(f"no row has: {', '.join(facts['without_rows'])}")
    for text in (*lines, facts["result"]):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def looks_line(facts: dict[str, Any]) -> str:
    """How often the certification rows were looked at, and what is proved after that."""
    if facts["looks"] is None:
        return "looks at these rows were not counted"
    planned = f" of {facts['looks_planned']} planned" if facts["looks_planned"] > 1 else ""
    return (
        f"looks at these rows: {facts['looks']}{planned}; proved: {facts['confidence_proved']:.4g}"
    )


def _line(facts: dict[str, Any]) -> str:
    besides = f"; besides {facts['quality']}" if facts["quality"] else ""
    few = "" if facts["labels"] is None else f", {facts['labels']:,} of them labelled"
    return (
        f"{facts['headline']}: {facts['certified']} of {facts['front']} policies passed on "
        f"{facts['n']:,} rows{few}{besides}"
    )
