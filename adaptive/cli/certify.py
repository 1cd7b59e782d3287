"""`adaptive certify`: a new certificate for a bundle, on new data or a new device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console

from adaptive.cli.evaluate import labels_of
from adaptive.cli.session import Session
from adaptive.errors import BundleError, ConfigError
from adaptive.types import Metric, Target

if TYPE_CHECKING:
    from adaptive.certificate import Certificate
    from adaptive.pipeline import AdaptivePipeline
    from adaptive.training.data import Dataset


def choose_target(given: str | None, confidence: float | None, old: Target) -> Target:
    """The target of `metric=level` and a confidence; the old one's where nothing is given.

    Raises:
        ConfigError: no such metric, or the level or the confidence is no share.
    """
    metric, level = old.metric, old.level
    if given is not None:
        name, _, number = given.partition("=")
        known = {each: each for each in get_args(Metric)}
        if name not in known:
            raise ConfigError(
                f"--target {given!r}: expected one of {', '.join(known)}, then = and a level"
            )
        metric, level = known[name], _share("--target", number)
    chosen = old.confidence if confidence is None else confidence
    if not 0.0 < chosen < 1.0:
        raise ConfigError(f"--confidence {chosen:g}: expected a number between 0 and 1")
    return Target(metric, level, chosen)


def certify(
    pipeline: AdaptivePipeline, data: Dataset, target: Target, session: Session
) -> dict[str, Any]:
    """Certify an opened bundle on data, and put the certificate into its folder.

    Raises:
        BundleError: the bundle does not lie in a folder of its own, or cannot be certified.
        TargetError: the target needs labels that are not there.
    """
    from adaptive.bundle.card import render_card
    from adaptive.bundle.store import recertify_bundle
    from adaptive.certifying import recertify

    folder = Path(pipeline.preset.bundle).expanduser()
    if not folder.is_dir():
        raise BundleError(f"{folder}: only a local folder can be certified; download it first")
    bundle = recertify(
        pipeline.bundle,
        pipeline.tokenize(data.texts, data.pairs),
        labels_of(data),
        target,
        batch_size=pipeline.preset.batch_size,
        quiet=not session.bars,
    )
    written = recertify_bundle(bundle, folder, card=render_card(bundle))
    return {"result": str(written), **facts_of(bundle.certificate)}


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
    }


def show_certificate(facts: dict[str, Any], console: Console) -> None:
    """What `certify` found, for a terminal."""
    line = (
        f"{facts['headline']}: {facts['certified']} of {facts['front']} policies passed on "
        f"{facts['n']:,} rows"
    )
    for text in (line, facts["result"]):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _share(option: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{option}: {number!r} is no share; expected a number from 0 to 1")
    return value
