"""A first recipe, of a checkpoint and a data set: what `adaptive build --model --data` builds."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from adaptive.tasks.multi_label import MultiLabel
from adaptive.tiers.families import family_of
from adaptive.tiers.find import find_source
from adaptive.tiers.source import problem_of, read_config

WIDTH, BIGRAMS = 128, 262144  # of the tiny tier, at most, and its hash buckets: 64 MiB


def first_recipe(model: str, source: str, *, text: str, label: str, keep: float) -> dict[str, Any]:
    """A recipe's sections: a bag, half of the layers at half their width, and the checkpoint.

    A checkpoint that is a classifier already, or an adapter, is taken as it is; any other is
    fine-tuned. One of several labels makes a recipe of several labels.

    Args:
        model: a hub id, a folder, or `package:NAME`.
        source: of labelled texts, as in a recipe's `data.source`.
        text, label: columns.
        keep: share of the full tier's accuracy, above 0 and below 1.

    Raises:
        BuildError: there is no such model, or it cannot be read.
        FamilyError: a family without adapter.
    """
    folder = find_source(model)
    config = read_config(folder)
    kinds = config.architectures
    classifies = kinds is None or any(kind.endswith("ForSequenceClassification") for kind in kinds)
    # names are ASCII, so that they serve as folders anywhere; a file's own may be of any script
    stem = PurePath(source).name.split(".")[0].split(":")[-1]
    name = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-_")
    # a token's vector is narrower than a layer in some families
    width = min(WIDTH, getattr(config, "embedding_size", config.hidden_size))
    bag = {"name": "tiny", "kind": "bag", "width": width, "bigrams": BIGRAMS}
    tiers: list[dict[str, Any]] = [bag]
    if config.num_hidden_layers > 1:
        heads = 0.5 if family_of(config).pruning.heads else 1.0
        layers = (config.num_hidden_layers + 1) // 2
        tiers += [{"name": "mid", "kind": "pruned", "layers": layers, "heads": heads, "ffn": 0.5}]
    tune = "none" if classifies else "full"
    several = classifies and problem_of(config) == MultiLabel().problem_type
    target: dict[str, Any] = {"level": round(1.0 - keep, 9)}
    return {
        "name": name or "cascade",
        "output": f"bundles/{name or 'cascade'}",
        "model": {"id": model},
        "data": {"source": source, "text": text, "label": label},
        "tiers": [*tiers, {"name": "full", "kind": "checkpoint", "tune": tune}],
        **({"task": {"kind": "multi_label"}} if several else {}),
        "target": target if several else {"metric": "accuracy_drop", **target},
    }
