"""`adaptive info`: what a bundle is, in a few tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console

from adaptive.cli.certify import looks_line
from adaptive.cli.session import table

_LABELS_SHOWN = 10


def describe(folder: Path) -> dict[str, Any]:
    """A bundle as plain JSON: every file is checked, no weight is loaded.

    Raises:
        BundleError: the bundle is damaged, foreign or unsafe; the message names the file.
    """
    from adaptive.bundle.certificates import read_certificate
    from adaptive.bundle.contents import stages_of
    from adaptive.bundle.files import read_json
    from adaptive.bundle.header import read_header
    from adaptive.bundle.layout import LAYOUT
    from adaptive.bundle.manifest import verify
    from adaptive.bundle.parts import read_policies
    from adaptive.bundle.policies import policy_to_json, targets_to_json
    from adaptive.cli.certify import facts_of

    root = folder.resolve()
    entries = verify(root)
    header = read_header(root)
    tiers = [_tier(root, name) for name in header.tiers]
    stages = stages_of(tuple(tuple(tier["exits"]) for tier in tiers))
    policy, ladder = read_policies(root, stages)
    certificate = read_certificate(root, entries.keys(), stages)
    covered = () if certificate is None else certificate.policies
    routed = LAYOUT.router in entries
    return {
        "name": header.name,
        "folder": str(folder),
        "bytes": sum(entry.size for entry in entries.values()),
        "labels": list(header.labels),
        "max_length": header.max_length,
        "tiers": tiers,
        "router": read_json(root / LAYOUT.router, LAYOUT.router).get("kind") if routed else None,
        "targets": targets_to_json(header.targets),
        "policy": policy_to_json(policy),
        "certificate": facts_of(certificate),
        "ladder": [
            {"name": entry.name, **entry.figures, "certified": entry.policy in covered}
            for entry in ladder
        ],
        "info": dict(header.info),
    }


def _tier(folder: Path, name: str) -> dict[str, Any]:
    """A tier by its card, and by the heads of the files that hold its weights."""
    from adaptive.bundle.files import read_json
    from adaptive.bundle.layout import LAYOUT
    from adaptive.errors import BundleError

    where = LAYOUT.tier(name)
    card = read_json(folder / where / "tier.json", f"{where}/tier.json")
    try:
        return {
            "tier": name,
            "layers": len(card["heads"]),
            "hidden": card["hidden"],
            "exits": [int(depth) for depth in card["depths"]],
            "int8": card["int8"],
            "onnx_runtime": card["graphs"],
            "parameters": sum(map(_numbers, sorted((folder / where).glob("*.safetensors")))),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{where}/tier.json: {type(error).__name__}: {error}") from None


def _numbers(file: Path) -> int:
    """How many numbers a file of tensors holds."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        keys = tensors.keys()
        return sum(math.prod(tensors.get_slice(key).get_shape()) for key in keys)


def show(facts: dict[str, Any], console: Console) -> None:
    """What `describe` found, for a terminal."""
    labels = facts["labels"]
    more = f" and {len(labels) - _LABELS_SHOWN} more" if len(labels) > _LABELS_SHOWN else ""
    lines = {
        "name": facts["name"],
        "folder": f"{facts['folder']} ({facts['bytes'] / 2**20:,.1f} MiB)",
        "labels": f"{len(labels)}: {', '.join(labels[:_LABELS_SHOWN])}{more}",
        "tokens": f"at most {facts['max_length']}",
        "router": facts["router"] or "none: every text enters at the policy's first tier",
        "target": "; ".join(_target(target) for target in facts["targets"]),
    }
    lines["certificate"] = facts["certificate"]["headline"]
    if kept := facts["certificate"].get("quality"):
        lines["certificate"] += f"; besides {kept}"
    if proposal := facts["certificate"].get("proposal"):
        lines["certificate"] += f"; {proposal}"
    if facts["certificate"]["verdict"] is not None:
        lines["looks"] = looks_line(facts["certificate"])
    for name in ("license", "language", "base_model", "device", "dtype"):
        if facts["info"].get(name):
            lines[name.replace("_", " ")] = str(facts["info"][name])
    for name, text in lines.items():
        console.print(f"{name:<12}{text}", markup=False, highlight=False, soft_wrap=True)
    tiers = [{**tier, "exits": _depths(tier["exits"])} for tier in facts["tiers"]]
    console.print(table("Tiers", tiers))
    console.print(table("Policies", facts["ladder"], percent=("accuracy", "agreement")))


def _target(target: dict[str, Any]) -> str:
    group = f" in each {target['group']}" if target["group"] else ""
    bound = f" beyond {target['bound']:g} milliseconds" if "bound" in target else ""
    level = f"{target['metric']} {target['level']:g}{bound}{group}"
    return f"{level}, confidence {target['confidence']:g}"


def _depths(depths: list[int]) -> str:
    return ", ".join(str(depth) for depth in depths)
