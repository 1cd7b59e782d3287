"""Token rows and labels of a split, as safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from adaptive.cells import Labels
from adaptive.text import tokens as token_rows
from adaptive.types import Tokens

FIELDS = ("ids", "offsets", "owner", "truncated")


def save_rows(file: Path, tokens: Tokens, labels: Labels) -> None:
    """Write token rows, one a text, and labels [n, ...]."""
    content = {name: getattr(tokens, name) for name in FIELDS} | {"labels": labels}
    if tokens.types is not None:
        content["types"] = tokens.types
    save_file({name: np.ascontiguousarray(value) for name, value in content.items()}, file)


def load_rows(file: Path) -> tuple[Tokens, Labels]:
    """What `save_rows` wrote."""
    content = load_file(file)
    tokens = Tokens(types=content.get("types"), **{name: content[name] for name in FIELDS})
    return tokens, content["labels"]


def load_training_rows(folder: Path) -> tuple[Tokens, Labels]:
    """The train split, then the unlabelled texts, whose labels are not known."""
    train, labels = load_rows(folder / "train.safetensors")
    extra, none = load_rows(folder / "unlabelled.safetensors")
    if not len(extra):
        return train, labels
    return token_rows.concatenate([train, extra]), np.concatenate([labels, none])
