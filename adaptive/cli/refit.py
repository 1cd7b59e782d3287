"""`adaptive refit`: a canary of a bundle, fitted and certified on labels that users sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive.cli.certify import facts_of
from adaptive.cli.session import Session
from adaptive.errors import BundleError, DataError

if TYPE_CHECKING:
    from adaptive.pipeline import AdaptivePipeline

FILE = "feedback.jsonl"  # as the server keeps it


def refit(
    pipeline: AdaptivePipeline,
    feedback: Path,
    out: Path,
    levels: Sequence[float],
    session: Session,
    *,
    looks: int = 1,
) -> dict[str, Any]:
    """Fit and certify a bundle anew on labelled texts, into another folder.

    Args:
        feedback: a file of texts and labels, or the folder that a server keeps them in.
        looks: designs that are planned to be tested on these rows.

    Raises:
        BundleError: the bundle does not lie in a folder of its own.
        DataError: there is no such file, or too few rows.
    """
    from adaptive.bundle.card import render_card
    from adaptive.bundle.store import save_refitted
    from adaptive.config import load_source
    from adaptive.training.data import load_data
    from adaptive.training.refit import refit as fit

    folder = Path(pipeline.preset.bundle).expanduser()
    if not folder.is_dir():
        raise BundleError(f"{folder}: only a local folder can be fitted again; download it first")
    file = feedback / FILE if feedback.is_dir() else feedback
    if not file.is_file():
        raise DataError(f"{file}: no such file; expected labelled texts, as a server keeps them")
    bundle = pipeline.bundle
    pair = "text_pair" if _paired(file) else None
    source = load_source({"source": str(file), "text": "text", "label": "label", "pair": pair})
    data = load_data(source, cells=bundle.task.cells).with_labels(bundle.labels)
    with session.listening() as tell:
        fitted = fit(
            bundle,
            pipeline.tokenize(data.texts, data.pairs),
            data.labels_or_unknown(len(bundle.labels)),
            levels=levels,
            looks=looks,
            batch_size=pipeline.preset.batch_size,
            on_event=tell,
        )
    written = save_refitted(fitted, folder, out, card=render_card(fitted))
    facts = facts_of(fitted.certificate)
    told: dict[str, Any] = {"known": None, "repeated": 0, "without_rows": []}
    return {"result": str(written), "rows": len(data), **facts, **told}


def _paired(file: Path) -> bool:
    """Whether its first line has a second text."""
    import json

    with file.open(encoding="utf-8") as lines:
        first = lines.readline()
    try:
        found = json.loads(first)
    except ValueError:
        return False  # another form than JSON lines; the reader tells what is wrong
    return isinstance(found, dict) and "text_pair" in found
