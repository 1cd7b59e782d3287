"""`adaptive info`: what a bundle is, in a few tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from adaptive.cli.session import table

if TYPE_CHECKING:
    from adaptive.bundle.contents import Bundle

_LABELS_SHOWN = 10


def describe(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """The bundle as plain JSON."""
    from adaptive.bundle.certificates import read_certificate
    from adaptive.bundle.policies import policy_to_json, targets_to_json
    from adaptive.cli.certify import facts_of

    files = [f for f in folder.rglob("*") if f.is_file()]
    names = {f.relative_to(folder).as_posix() for f in files}
    certificate = read_certificate(folder, names, bundle.stages)
    covered = () if certificate is None else certificate.policies
    return {
        "name": bundle.name,
        "folder": str(folder),
        "bytes": sum(file.stat().st_size for file in files),
        "labels": list(bundle.labels),
        "max_length": bundle.max_length,
        "tiers": [
            {
                "tier": tier.name,
                "layers": tier.backbone.layers,
                "hidden": tier.backbone.hidden,
                "exits": list(tier.depths),
                "int8": tier.int8,
                "onnx_runtime": tier.in_graphs,
                "parameters": tier.parameter_count(),
            }
            for tier in bundle.tiers
        ],
        "router": None if bundle.router is None else bundle.router.kind,
        "targets": targets_to_json(bundle.targets),
        "policy": policy_to_json(bundle.policy),
        "certificate": facts_of(certificate),
        "ladder": [
            {"name": entry.name, **entry.figures, "certified": entry.policy in covered}
            for entry in bundle.ladder
        ],
        "info": dict(bundle.info),
    }


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
