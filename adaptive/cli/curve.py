"""`adaptive curve`: a picture of accuracy against cost."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive.cli.session import Session
from adaptive.errors import ConfigError

if TYPE_CHECKING:
    from adaptive.pipeline import AdaptivePipeline
    from adaptive.training.data import Dataset

SUFFIXES = (".png", ".svg")


def check_picture(output: Path) -> None:
    """Refuses what could not be drawn, before anything is computed.

    Raises:
        ConfigError: the suffix is no picture's, or matplotlib is missing.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--output {output}: expected a name that ends in .png or .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("curves need matplotlib: pip install 'adaptive-cascade[plots]'")


def draw(
    pipeline: AdaptivePipeline, data: Dataset, output: Path, *, work: bool, session: Session
) -> dict[str, Any]:
    """Writes the picture; returns its points.

    Args:
        work: count cost in layers x tokens, not in the bundle's measured milliseconds.
    """
    from adaptive.measure.curves import curve, plot
    from adaptive.measure.recording import outcomes
    from adaptive.measure.work import work_of

    bundle = pipeline.bundle
    tokens = pipeline.tokenize(data.texts, data.pairs)
    labels = data.labels_or_unknown(len(bundle.labels))
    with session.listening() as tell:
        table = outcomes(bundle, tokens, labels, pipeline.preset.batch_size, tell)
    costs = work_of(bundle.tiers, bundle.router) if work else pipeline.costs
    found = curve(bundle, pipeline.policy, table, costs)
    plot(found, output)
    return {"file": str(output), **asdict(found)}
