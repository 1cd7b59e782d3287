"""The model card: what the cascade is for, how good it is, and what it cannot promise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from adaptive.bundle.contents import Bundle
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.page import promises
from adaptive.policy.metrics import promise
from adaptive.types import ALWAYS, Policy

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_COLUMNS = {
    "name": "run",
    "accuracy": "accuracy",
    "agreement": "agreement with the full tier",
    "abstained": "answered by nobody",
    "work": "layers x tokens",
    "milliseconds": "milliseconds a text",
}
_SHOWN_LABELS = 20


def render_card(
    bundle: Bundle, report: Mapping[str, Any] | None = None, *, repository: str | None = None
) -> str:
    """README.md of a bundle: Markdown with YAML front matter, as model hubs read it.

    Args:
        bundle: its `info` gives licence, language, base model, data and device where known.
        report: of `adaptive.measure.evaluation.evaluate` on rows no step has seen: `rows`, one per
            way to answer, and `stage_shares`. None takes `bundle.info["figures"]`.
        repository: hub id to show in the example; None shows a folder of the bundle's name.
    """
    figures = bundle.info.get("figures") if report is None else report
    sections = [
        _front_matter(bundle),
        f"# {_inline(bundle.name)}",
        _summary(bundle),
        _section("How to use", _usage(repository or _slug(bundle.name))),
        _section("Figures", _figures(bundle, figures or {})),
        _section("Intended use", _intended(bundle)),
        _section("Limits", _bullets(_limits(bundle))),
        _section("How it was built", _built(bundle)),
        _section("Licence", _licence(bundle)),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(bundle: Bundle) -> str:
    info = bundle.info
    fields: dict[str, Any] = {
        "license": _inline(info.get("license", "unknown")),
        "library_name": "adaptive-cascade",
        "pipeline_tag": "text-classification",
        "tags": ["adaptive-cascade", "text-classification", "early-exit", "cascade"],
        "metrics": [bundle.task.metric],
    }
    if info.get("language"):
        fields["language"] = [_inline(each) for each in _many(info["language"])]
    # Hubs refuse a card whose data or base model is not one of theirs
    datasets = [each for each in _many(info.get("datasets") or []) if _HUB_ID.fullmatch(str(each))]
    if datasets:
        fields["datasets"] = datasets
    if _HUB_ID.fullmatch(str(info.get("base_model", ""))):
        fields["base_model"] = info["base_model"]
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def _summary(bundle: Bundle) -> str:
    labels = [f"`{_inline(label)}`" for label in bundle.labels[:_SHOWN_LABELS]]
    if len(bundle.labels) > len(labels):
        labels.append(f"and {len(bundle.labels) - len(labels)} more")
    tiers = ", ".join(
        f"`{tier.name}` ({tier.backbone.layers} layers, exits at {_listed(tier.depths)})"
        for tier in bundle.tiers
    )
    told = f"Labels: {', '.join(labels)}.\n\n" if bundle.task.cells.named else ""
    told += f"{bundle.task.meaning}\n\n" if bundle.task.meaning else ""
    return (
        f"A cascade of {len(bundle.tiers)} {bundle.task.cascade}{_many_labels(bundle)}. Each "
        "text is answered by the first exit that is sure enough, so easy texts cost a fraction "
        f"of the full model.\n\nTiers: {tiers}.\n\n{told}"
        f"Target: {promises(bundle.targets)}. {_verdict(bundle)}"
    )


def _many_labels(bundle: Bundle) -> str:
    return f" for {len(bundle.labels)} labels" if bundle.task.cells.named else ""


def _verdict(bundle: Bundle) -> str:
    certificate = bundle.certificate
    if certificate is None:
        return "No certificate."
    confidence = f" at {bundle.targets[0].confidence:.4g} confidence"
    told = (
        f"**{certificate.headline}**{'' if certificate.overlooked else confidence}; see "
        f"`{LAYOUT.certificate_page}`."
    )
    if certificate.proposal is not None:
        told += f" The cheapest way on: {certificate.proposal}."
    if certificate.quality is not None:
        told += f" Proved besides: {promise(certificate.quality)}."
    for each in certificate.further:
        told += f"\n\nAnother level: {promises(each.targets)}. **{each.headline}**"
    return told


def _usage(source: str) -> str:
    return (
        "```python\n"
        "from adaptive import AdaptivePipeline\n"
        f'pipeline = AdaptivePipeline.from_config("{_inline(source)}")\n'
        'pipeline(["a text", "another one"])\n'
        "```\n\n"
        "Each answer has `label`, `score` and `routing`, which names the tier and exit that "
        "answered, and whether it is `covered` by the certificate, whose `promise` is about the "
        "mean over texts, not about this text."
    )


def _figures(bundle: Bundle, figures: Mapping[str, Any]) -> str:
    rows = figures.get("rows") or []
    if not rows:
        return "No figures were recorded."
    columns = [key for key in _COLUMNS if any(row.get(key) is not None for row in rows)]
    named = _COLUMNS | {"accuracy": bundle.task.quality}
    table = [[named[key] for key in columns]]
    table += [[_cell(row.get(key), key) for key in columns] for row in rows]
    parts = [_table(table)]
    if shares := figures.get("stage_shares"):
        parts.append("Share of the texts that each stage answered:")
        parts.append(_table([["stage", "share"], *([k, f"{v:.1%}"] for k, v in shares.items())]))
    where = [str(bundle.info[key]) for key in ("device", "dtype") if bundle.info.get(key)]
    if where:
        parts.append(f"Measured on: {_inline(', '.join(where))}.")
    return "\n\n".join(parts)


def _intended(bundle: Bundle) -> str:
    what = (
        "into the labels above" if bundle.task.cells.named else "on the scale that it was built for"
    )
    return (
        f"Putting short texts, up to {bundle.max_length} tokens, {what}, where the "
        "texts resemble those it was built on. Not for decisions about people without a person "
        "who checks them."
    )


def _limits(bundle: Bundle) -> list[str]:
    languages = [str(each) for each in _many(bundle.info.get("language") or [])]
    limits = [
        *(f"**Warning:** {_inline(each)}" for each in bundle.info.get("warnings") or []),
        _promised(bundle),
        _cut(bundle),
        *_redacted(bundle),
        "Reliability is calibrated on the same texts; a text of no known label still gets one.",
    ]
    if languages:
        named = ["English" if each == "en" else each for each in languages]
        limits.append(f"Language: {_inline(', '.join(named))} only.")
    else:
        limits.append("Languages other than that of the training texts were not tested.")
    limits.append(
        f"Milliseconds were measured {_place(bundle)}. Another processor, dtype, number of threads "
        "or batch size has other costs: promises about them are not covered there, and a search "
        "may find another policy the cheapest."
    )
    if bundle.router is None:
        limits.append("No router is packed: every text enters at the first tier of the path.")
    limits.append("It answers as the full tier does, the full tier's errors and biases included.")
    return limits


def _place(bundle: Bundle) -> str:
    """Where and how costs were measured."""
    told = bundle.costs.measured if bundle.costs is not None else {}
    device = bundle.info.get("device") or told.get("device")
    if not device:
        return "on the device it was built on"
    parts = [str(device)]
    if device == "cpu" and "processor" in told:
        parts.append(str(told["processor"]))
    for name in ("threads", "batch_size"):
        if name in told:
            parts.append(f"{name.replace('_', ' ')} {told[name]}")
    return f"on {_inline(', '.join(parts))}"


def _cut(bundle: Bundle) -> str:
    told = f"Texts of more than {bundle.max_length} tokens are cut there, and flagged in the answer"
    share = bundle.info.get("cut")
    return f"{told}." if share is None else f"{told}: {share:.2%} of those it was built on were."


def _redacted(bundle: Bundle) -> list[str]:
    if not bundle.redact:
        return []
    return [
        f"Texts lose personal data ({', '.join(bundle.redact)}) before any tier reads them, which "
        "needs the extra `redact`. Names of people are not found, nor whatever else is in no "
        "pattern."
    ]


def _promised(bundle: Bundle) -> str:
    where = (
        "for texts exchangeable with those: of the same source, time and kind. On other texts "
        "accuracy and cost may both differ."
    )
    if bundle.certificate is None:
        return (
            "The policy was chosen to keep the target on held-out texts, without a certificate. "
            f"It can be expected to hold {where}"
        )
    kinds = {None: "texts", False: "single texts", True: "pairs of texts"}
    conditions = bundle.certificate.conditions
    counted = {
        None: "",
        True: "They are texts as they come, repeated ones included. ",
        False: "Each different text counts once among them. ",
    }[conditions.repeats]
    return (
        f"The target was tested on {bundle.certificate.n:,} {kinds[conditions.pairs]} "
        f"that served for nothing else. {counted}The certificate holds {where}"
    )


def _built(bundle: Bundle) -> str:
    parts = []
    if base := bundle.info.get("base_model"):
        parts.append(f"Full tier from: `{_source(base)}`.")
    if datasets := bundle.info.get("datasets"):
        parts.append(f"Data: {', '.join(f'`{_source(each)}`' for each in _many(datasets))}.")
    if steps := bundle.info.get("steps"):
        parts.append(_bullets(_inline(step) for step in steps))
    if versions := bundle.info.get("versions"):
        parts.append(
            "Versions: "
            + ", ".join(f"{_inline(k)} {_inline(v)}" for k, v in versions.items())
            + "."
        )
    parts.append(f"Policy: {_policy(bundle, bundle.policy)}.")
    parts.append(
        "The whole recipe is in `recipe.yaml`. `manifest.json` has the SHA-256 of every file, of "
        "this one too: after editing it run `adaptive.bundle.manifest.seal` on the folder."
    )
    return "\n\n".join(parts)


def _licence(bundle: Bundle) -> str:
    licence = bundle.info.get("license")
    if licence is None:
        return "Unknown. The licences of the base model and of the data apply to the weights."
    return f"{_inline(licence)}. The licences of the base model and of the data apply as well."


def _policy(bundle: Bundle, policy: Policy) -> str:
    on = [
        f"`{bundle.tiers[stage.tier].name}` at depth {stage.depth}"
        for index, stage in enumerate(bundle.stages)
        if policy.on(index)
    ]
    entry = "the first tier" if policy.risk_weight is None else "the tier the router names"
    left = "" if policy.abstain == ALWAYS else "; texts that it is least sure of get no label"
    return f"texts enter at {entry}; exits in use: {', '.join(on)}{left}"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(_inline(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _cell(value: Any, column: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.2%}" if column in ("accuracy", "agreement", "abstained") else f"{value:.4g}"


def _inline(value: Any) -> str:
    """Any value as one line that cannot break out of a table, code span or heading."""
    line = " ".join(str(value).split())
    return line.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").replace('"', "'")


def _source(value: Any) -> str:
    """A hub id as it is; of a folder the last part, since the rest tells of somebody's machine."""
    text = str(value)
    local = text.startswith(("/", "~", ".")) or "\\" in text or text.count("/") > 1
    return _inline(PurePath(text.replace("\\", "/")).name if local else text)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "bundle"


def _listed(depths: Sequence[int]) -> str:
    return ", ".join(str(depth) for depth in depths)


def _many(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)
