"""Policies and targets as JSON, and back with every field checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adaptive.bundle.files import finite
from adaptive.errors import BundleError
from adaptive.policy.metrics import METRICS, target_fault
from adaptive.policy.targets import several
from adaptive.types import ALWAYS, NEVER, Policy, Stage, Target, metric_now

# JSON has no infinities, and a reader should see what they mean
_WORDS = {"never": NEVER, "always": ALWAYS}
_NUMBERS = {number: word for word, number in _WORDS.items()}


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """The policy as a JSON object; infinite thresholds become "never" and "always"."""
    return {
        "path": list(policy.path),
        "thresholds": [_NUMBERS.get(value, value) for value in policy.thresholds],
        "risk_weight": policy.risk_weight,
        "entry_cost": list(policy.entry_cost),
        "abstain": _NUMBERS.get(policy.abstain, policy.abstain),
    }


def policy_from_json(found: Any, stages: Sequence[Stage], file: str) -> Policy:
    """The policy of a JSON object, for a cascade of these stages.

    Raises:
        BundleError: a field is missing, of the wrong kind, or does not fit the stages; the
            message begins with `file`.
    """
    fields = _object(found, {"path", "thresholds", "risk_weight", "entry_cost", "abstain"}, file)
    tiers = 1 + max(stage.tier for stage in stages)
    policy = Policy(
        path=_path(fields["path"], tiers, file),
        thresholds=tuple(_threshold(value, file) for value in _list(fields, "thresholds", file)),
        risk_weight=_risk_weight(fields["risk_weight"], file),
        entry_cost=tuple(_number(value, file) for value in _list(fields, "entry_cost", file)),
        abstain=_threshold(fields["abstain"], file),
    )
    if len(policy.thresholds) != len(stages):
        raise BundleError(f"{file}: {len(policy.thresholds)} thresholds for {len(stages)} stages")
    if policy.risk_weight is not None and len(policy.entry_cost) != tiers:
        raise BundleError(f"{file}: {len(policy.entry_cost)} entry costs for {tiers} tiers")
    for index, stage in enumerate(stages):
        if policy.on(index) and stage.tier not in policy.path:
            raise BundleError(f"{file}: stage {index} is on, but its tier is off the path")
    if not any(policy.on(index) for index in range(len(stages))):
        raise BundleError(f"{file}: no stage is on, so nothing would answer")
    return policy


def targets_to_json(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """The targets as JSON objects, with a bound where there is one."""
    found = [asdict(target) for target in targets]
    return [{k: v for k, v in each.items() if k != "bound" or v is not None} for each in found]


def targets_from_json(found: Any, file: str) -> tuple[Target, ...]:
    """The targets of a list of JSON objects; BundleError where a field is wrong."""
    if not isinstance(found, list) or not found:
        raise BundleError(f"{file}: targets must be a list of one or more")
    targets = [_target(each, file) for each in found]
    try:
        return several(targets)
    except ValueError as error:
        raise BundleError(f"{file}: {error}") from None


def _target(found: Any, file: str) -> Target:
    told = {"bound"} if isinstance(found, dict) and "bound" in found else set()
    fields = _object(found, {"metric", "level", "confidence", "group"} | told, file)
    metric, group = metric_now(fields["metric"]), fields["group"]
    if group is not None and (not isinstance(group, str) or not group):
        raise BundleError(f"{file}: a target's `group` must be a column's name or null")
    if metric not in METRICS:
        raise BundleError(f"{file}: unknown metric {metric!r}; known: {', '.join(METRICS)}")
    level, confidence = _number(fields["level"], file), _number(fields["confidence"], file)
    bound = _number(fields["bound"], file) if told else None
    target = Target(metric, level, confidence, group, bound)
    fault = target_fault(target)
    if fault or not 0 < confidence < 1:
        fault = fault or f"a confidence of {confidence:g} is no share"
        raise BundleError(f"{file}: target {metric!r}: {fault}")
    return target


def _object(found: Any, keys: set[str], file: str) -> Mapping[str, Any]:
    if not isinstance(found, dict) or found.keys() != keys:
        have = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise BundleError(f"{file}: expected an object of {sorted(keys)}, found {have}")
    return found


def _list(fields: Mapping[str, Any], key: str, file: str) -> list[Any]:
    found = fields[key]
    if not isinstance(found, list):
        raise BundleError(f"{file}: `{key}` must be a list, found {type(found).__name__}")
    return found


def _path(found: Any, tiers: int, file: str) -> tuple[int, ...]:
    whole = isinstance(found, list) and all(type(tier) is int for tier in found)
    if not whole or not found or found != sorted(set(found)):
        raise BundleError(f"{file}: `path` must be a list of ascending tier numbers")
    if found[0] < 0 or found[-1] >= tiers:
        raise BundleError(f"{file}: path {found} for {tiers} tiers, numbered from 0")
    return tuple(found)


def _threshold(found: Any, file: str) -> float:
    if isinstance(found, str) and found in _WORDS:
        return _WORDS[found]
    return _number(found, file)


def _risk_weight(found: Any, file: str) -> float | None:
    return None if found is None else _number(found, file)


def _number(found: Any, file: str) -> float:
    if not finite(found):
        raise BundleError(f"{file}: expected a finite number, found {found!r}")
    return float(found)
