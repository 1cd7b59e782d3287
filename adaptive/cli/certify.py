"""`adaptive certify`: a new certificate for a bundle, on new data or a new device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from adaptive.cli.evaluate import labels_of
from adaptive.cli.session import Session
from adaptive.config.targets import read_target, show_target
from adaptive.errors import BundleError, ConfigError
from adaptive.types import Target, level_fault

if TYPE_CHECKING:
    from adaptive.pipeline import AdaptivePipeline
    from adaptive.promises import Certificate
    from adaptive.training.data import Dataset


def choose_targets(
    given: Sequence[str], confidence: float | None, old: Sequence[Target]
) -> tuple[Target, ...]:
    """The targets that a command line names, the old ones where it names none.

    Args:
        given: as `adaptive.config.targets.read_target` reads each.
        confidence: of all of them; None takes the old one.

    Raises:
        ConfigError: no such metric, a level that it cannot have, or a confidence that is no share.
    """
    chosen = old[0].confidence if confidence is None else confidence
    if not 0.0 < chosen < 1.0:
        raise ConfigError(f"--confidence {chosen:g}: expected a number between 0 and 1")
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
        if fault := level_fault(first.metric, level):
            raise ConfigError(f"--level {level:g}: {fault}")
    return tuple(given)


def _old_levels(first: Target, pipeline: AdaptivePipeline) -> tuple[float, ...]:
    from adaptive.bundle.certificates import read_certificate

    folder = Path(pipeline.preset.bundle).expanduser()
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    old = read_certificate(folder, names, pipeline.bundle.stages)
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
) -> dict[str, Any]:
    """Certify an opened bundle on data, and put the certificate into its folder.

    Raises:
        BundleError: the bundle does not lie in a folder of its own, or cannot be certified.
        TargetError: a target needs labels or groups that are not there.
    """
    from adaptive.bundle.card import render_card
    from adaptive.bundle.store import recertify_bundle
    from adaptive.certifying import recertify, without_rows
    from adaptive.training.progress import telling
    from adaptive.training.splits import distinct_rows

    folder = Path(pipeline.preset.bundle).expanduser()
    if not folder.is_dir():
        raise BundleError(f"{folder}: only a local folder can be certified; download it first")
    given, data = len(data), data.take(distinct_rows(data))
    with telling(None, "certify", lines=not session.bars):
        bundle = recertify(
            pipeline.bundle,
            pipeline.tokenize(data.texts, data.pairs),
            labels_of(data),
            targets,
            groups=data.groups,
            levels=levels,
            batch_size=pipeline.preset.batch_size,
            quiet=not session.bars,
        )
    written = recertify_bundle(bundle, folder, card=render_card(bundle))
    facts = facts_of(bundle.certificate)
    told = {"repeated": given - facts["n"], "without_rows": list(without_rows(bundle))}
    return {"result": str(written), **facts, **told}


def facts_of(certificate: Certificate | None) -> dict[str, Any]:
    """A certificate in a few figures."""
    if certificate is None:
        return {"verdict": None, "headline": "none: nothing is promised"}
    return {
        "verdict": certificate.verdict,
        "headline": certificate.headline,
        "rows_needed": certificate.rows_needed,
        "n": certificate.n,
        "certified": certificate.certified,
        "front": len(certificate.front),
        "quality": None if certificate.quality is None else show_target(certificate.quality),
        "further": [
            {"target": show_target(each.target), **facts_of(each)} for each in certificate.further
        ],
    }


def show_certificate(facts: dict[str, Any], console: Console) -> None:
    """What `certify` found, for a terminal."""
    lines = [_line(facts), *(f"{each['target']}: {_line(each)}" for each in facts["further"])]
    if facts["repeated"]:
        lines.append(f"{facts['repeated']:,} rows repeat the text of another and do not count")
    if facts["without_rows"]:
        lines.append(f"no row has: {', '.join(facts['without_rows'])}")
    for text in (*lines, facts["result"]):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _line(facts: dict[str, Any]) -> str:
    besides = f"; besides {facts['quality']}" if facts["quality"] else ""
    return (
        f"{facts['headline']}: {facts['certified']} of {facts['front']} policies passed on "
        f"{facts['n']:,} rows{besides}"
    )
