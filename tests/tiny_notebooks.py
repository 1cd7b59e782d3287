"""What notebooks run on: a bundle of random weights, labelled rows, unlabelled ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from tiny_pool import pool, searched, texts_of

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import save_bundle
from adaptive.types import Target

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
EVERYWHERE = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "ADAPTIVE_LOOKS": "off"}
# Names in the working folder, so that no output tells where it lies.
NAMES = {
    "ADAPTIVE_BUNDLE": "bundle",
    "ADAPTIVE_DATA": "rows.csv",
    "ADAPTIVE_POOL": "pool.csv",
    "ADAPTIVE_LEVEL": "0.3",
    "ADAPTIVE_REPORT": "report.html",
    "ADAPTIVE_ROUTER": "router",
}


def write_inputs(folder: Path, cascade: Bundle) -> None:
    """A bundle with searched policies, rows that it has not seen, and texts without labels."""
    bundle = replace(searched(cascade), targets=(Target("accuracy_drop", 0.3),))
    save_bundle(bundle, folder / "bundle", card=render_card(bundle), recipe="name: x\n")
    texts, labels = pool(bundle, 250)
    lines = ["text,label", *(f"{text},{labels[text]}" for text in texts)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    (folder / "pool.csv").write_text("text\n" + "\n".join(texts_of(250, 3)) + "\n")


def execute(name: str, folder: Path, seconds: int = 120) -> Any:
    """A notebook with its outputs, run in a folder by the variables of the environment."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=seconds, resources=where).execute()
    return notebook
