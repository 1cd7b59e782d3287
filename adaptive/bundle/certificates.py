"""The certificate in a bundle: as JSON, bound to the files it is about, and checked at loading."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Mapping, Set
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

from adaptive.bundle.files import finite, read_json
from adaptive.bundle.layout import FORMAT, LAYOUT
from adaptive.bundle.manifest import check_format
from adaptive.bundle.policies import (
    policy_from_json,
    policy_to_json,
    targets_from_json,
    targets_to_json,
)
from adaptive.certificate.promises import (
    Asked,
    Certificate,
    Claim,
    Conditions,
    Test,
    Tested,
    Verdict,
)
from adaptive.errors import BundleError
from adaptive.types import Policy, Stage, Target

_FREE = frozenset(
    {
        LAYOUT.header,
        LAYOUT.manifest,
        LAYOUT.policy,
        LAYOUT.recipe,
        LAYOUT.card,
        LAYOUT.certificate,
        LAYOUT.certificate_page,
    }
)
_WHENCE = frozenset({"is_local", "local_files_only", "name_or_path"})
_PROMISE = {
    "verdict",
    "obstacle",
    "rows_needed",
    "targets",
    "claims",
    "delta",
    "policy",
    "certified",
    "front",
}
# of promises about costs alone, and of those that labels were or may be asked for
_BESIDE = {"quality", "asked", "labels_needed"}
_COUNTS = ("labels", "accuracy_rows")
# of certificates since looks are counted
_LOOKS = {"looks", "looks_planned", "confidence_spent", "confidence_proved", "rows_seen_before"}
_SHARED = {"format", "n", "seeds", "unit", "conditions", "hashes", "assumptions", "further"}


def certificate_to_json(certificate: Certificate) -> dict[str, Any]:
    """The certificate as a JSON object, with what is served and what was tested in full."""
    return {
        "format": FORMAT,
        **_promise_to_json(certificate),
        "n": certificate.n,
        "seeds": dict(certificate.seeds),
        "unit": certificate.unit,
        "conditions": asdict(certificate.conditions),
        "hashes": dict(certificate.hashes),
        "assumptions": list(certificate.assumptions),
        "further": [_promise_to_json(each) for each in certificate.further],
        "looks": certificate.looks,
        "looks_planned": certificate.planned,
        "confidence_spent": certificate.spent,
        "confidence_proved": certificate.confidence_proved,
        "rows_seen_before": certificate.seen_before,
    }


def _promise_to_json(certificate: Certificate) -> dict[str, Any]:
    kept, asked, few = certificate.quality, certificate.asked, certificate.labels_needed
    return {
        "verdict": certificate.verdict,
        "obstacle": certificate.obstacle,
        "rows_needed": certificate.rows_needed,
        "targets": targets_to_json(certificate.targets),
        "claims": [
            {**asdict(claim), "target": certificate.targets.index(claim.target)}
            for claim in certificate.claims
        ],
        "delta": certificate.delta,
        "policy": policy_to_json(certificate.policy),
        "certified": certificate.certified,
        "front": [
            {**asdict(tested), "policy": policy_to_json(tested.policy)}
            for tested in certificate.front
        ],
        **({} if kept is None else {"quality": targets_to_json([kept])[0]}),
        **({} if asked is None else {"asked": asdict(asked)}),
        **({} if few is None else {"labels_needed": few}),
    }


def certificate_from_json(
    found: Mapping[str, Any], stages: tuple[Stage, ...], file: str = LAYOUT.certificate
) -> Certificate:
    """The certificate of a JSON object, for a cascade of these stages.

    Raises:
        BundleError: a field is missing or wrong, or they contradict each other.
    """
    check_format(dict(found), file)
    _expect(found, _PROMISE | _SHARED, file, _BESIDE | _LOOKS)
    try:
        shared: dict[str, Any] = {
            "n": _count(found, "n"),
            "seeds": {str(name): int(seed) for name, seed in found["seeds"].items()},
            "unit": str(found["unit"]),
            "conditions": Conditions(**found["conditions"]),
            "assumptions": tuple(str(each) for each in found["assumptions"]),
            **_looks_from_json(found),
        }
        for each in found["further"]:
            _expect(each, _PROMISE, f"{file}: further", _BESIDE)
        promises = [
            Certificate(**_promise_from_json(each, stages, file), **shared)
            for each in (found, *found["further"])
        ]
        hashes = {str(name): str(sha) for name, sha in found["hashes"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{file}: {type(error).__name__} in one of its fields") from None
    for each in promises:
        _agree(each, file)
    return replace(promises[0], hashes=hashes, further=tuple(promises[1:]))


def _looks_from_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """How often the rows were looked at; older certificates do not tell."""
    looks, spent = found.get("looks"), found.get("confidence_spent")
    planned, seen = found.get("looks_planned", 1), found.get("rows_seen_before", 0.0)
    if type(planned) is not int or planned < 1 or not finite(seen) or not 0.0 <= seen <= 1.0:
        raise ValueError("looks_planned")
    if (looks is None) != (spent is None) or (
        spent is not None and not (finite(spent) and spent > 0)
    ):
        raise ValueError("confidence_spent")
    told = None if looks is None else _count(found, "looks")
    return {"looks": told, "planned": planned, "spent": spent, "seen_before": seen}


def _promise_from_json(
    found: Mapping[str, Any], stages: tuple[Stage, ...], file: str
) -> dict[str, Any]:
    _known(found, "verdict", get_args(Verdict), file)
    targets = targets_from_json(found["targets"], file)
    claims = tuple(_claim(each, targets, file) for each in found["claims"])
    obstacle, needed = found["obstacle"], found["rows_needed"]
    return {
        "targets": targets,
        "claims": claims,
        "verdict": found["verdict"],
        "obstacle": None if obstacle is None else _count(found, "obstacle", len(claims)),
        "rows_needed": None if needed is None else _count(found, "rows_needed"),
        "policy": policy_from_json(found["policy"], stages, f"{file}: policy"),
        "certified": _count(found, "certified"),
        "front": tuple(_tested(each, stages, len(claims), file) for each in found["front"]),
        "quality": targets_from_json([found["quality"]], file)[0] if "quality" in found else None,
        "labels_needed": _count(found, "labels_needed") if "labels_needed" in found else None,
        "asked": _asked(found["asked"], file) if "asked" in found else None,
    }


def read_certificate(
    folder: Path, names: Collection[str], stages: tuple[Stage, ...]
) -> Certificate | None:
    """The certificate of a verified folder, None where it has none; not yet `check_bonds`."""
    if LAYOUT.certificate not in names:
        return None
    return certificate_from_json(read_json(folder / LAYOUT.certificate, LAYOUT.certificate), stages)


def bind(certificate: Certificate, folder: Path) -> Certificate:
    """The certificate with the hash of every file that decides what the bundle answers.

    Raises:
        BundleError: it was bound before, and to other files.
    """
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    if certificate.hashes:
        check_files(certificate, folder, names)
    return replace(certificate, hashes={n: content_hash(folder / n) for n in _bound(names)})


def check_files(certificate: Certificate, folder: Path, names: Collection[str]) -> None:
    """Check that the files are those that were certified.

    Raises:
        BundleError: naming the first that is not.
    """
    expected, found = certificate.hashes, _bound(names)
    for name in sorted(expected.keys() ^ set(found)):
        told = "was there when the bundle was certified" if name in expected else "came later"
        raise BundleError(_told(name, told))
    for name in found:
        if content_hash(folder / name) != expected[name]:
            raise BundleError(_told(name, "is not the one that was certified"))


def check_bonds(
    certificate: Certificate, policy: Policy, *, device: str, dtype: str, max_length: int
) -> None:
    """Check that a bundle is served as it was certified.

    Raises:
        BundleError: with another policy, dtype, device family or length.
    """
    if policy != certificate.policy and not certificate.covers(policy):
        raise BundleError(
            _told(LAYOUT.policy, "its chosen policy is none of those that were certified")
        )
    conditions = certificate.conditions
    for name, was, now in (
        ("device family", conditions.device, device),
        ("dtype", conditions.dtype, dtype),
        ("max_length", conditions.max_length, max_length),
    ):
        if was != now:
            raise BundleError(_told(LAYOUT.certificate, f"certified for {name} {was}, not {now}"))


def content_hash(path: Path) -> str:
    """SHA-256 of a file, without what writing it again may change.

    Safetensors count without their metadata, whose order is left to chance; a tokenizer's
    configuration without where it was loaded from.
    """
    digest = hashlib.sha256()
    if path.name == "tokenizer_config.json":
        told = read_json(path, path.name)
        kept = {key: value for key, value in told.items() if key not in _WHENCE}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            header.pop("__metadata__", None)
            digest.update(json.dumps(header, sort_keys=True).encode())
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _bound(names: Collection[str]) -> list[str]:
    """All files but those that only tell or choose, and other tables than the certified rows'."""
    rows = LAYOUT.outcomes("certify")
    return sorted(
        n for n in names if n not in _FREE and (n == rows or not n.startswith("outcomes/"))
    )


def _told(name: str, what: str) -> str:
    return (
        f"{name}: {what}; run `adaptive certify` on new data, or open the bundle with "
        "uncertified=True, which marks every answer"
    )


def _expect(found: Any, fields: Set[str], file: str, beside: Set[str] = frozenset()) -> None:
    if not isinstance(found, dict) or found.keys() - beside != fields:
        have = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise BundleError(f"{file}: expected {sorted(fields)}, found {have}")


def _known(found: Mapping[str, Any], name: str, known: Collection[str], file: str) -> None:
    if found[name] not in known:
        raise BundleError(f"{file}: `{name}` must be one of {', '.join(known)}")


def _agree(certificate: Certificate, file: str) -> None:
    p_values = [tested.p_value for tested in certificate.front]
    passed = next(
        (i for i, p in enumerate(p_values) if p > certificate.delta_tested), len(certificate.front)
    )
    if passed != certificate.certified:
        raise BundleError(
            f"{file}: {certificate.certified} policies are said to be certified, but the first "
            f"{passed} of its p-values pass"
        )
    policies = [tested.policy for tested in certificate.front]
    served = policies[: max(1, certificate.certified)]
    if certificate.policy not in served:
        raise BundleError(f"{file}: its policy is not one that it certifies")


def _claim(found: Mapping[str, Any], targets: tuple[Target, ...], file: str) -> Claim:
    _known(found, "test", get_args(Test), file)
    target, group = targets[_count(found, "target", len(targets))], found["group"]
    if (group is None) != (target.group is None):
        raise BundleError(f"{file}: a claim is for a group where its target names a column")
    return Claim(target, None if group is None else str(group), _count(found, "n"), found["test"])


def _asked(found: Mapping[str, Any], file: str) -> Asked:
    asked = Asked(**found)
    shares = finite(asked.accuracy) and 0.0 <= asked.accuracy <= 1.0
    texts = isinstance(asked.accuracy_from, str) and isinstance(asked.ended, bool)
    if not (shares and texts and all(_count(found, name) >= 0 for name in _COUNTS)):
        raise BundleError(f"{file}: `asked` needs counts, an accuracy in [0, 1] and its source")
    return asked


def _tested(found: Any, stages: tuple[Stage, ...], claims: int, file: str) -> Tested:
    excesses, p_values = tuple(found["excesses"]), tuple(found["p_values"])
    if not all(map(finite, (found["cost"], *excesses, *p_values))) or not all(
        0.0 <= each <= 1.0 for each in p_values
    ):
        raise BundleError(f"{file}: the front needs finite numbers, and p-values in [0, 1]")
    if not len(excesses) == len(p_values) == claims > 0:
        raise BundleError(f"{file}: {len(p_values)} p-values of a policy for {claims} claims")
    policy = policy_from_json(found["policy"], stages, f"{file}: front")
    return Tested(policy, found["cost"], excesses, p_values)


def _count(found: Mapping[str, Any], name: str, below: int | None = None) -> int:
    """A whole number from 0, and below the limit where there is one."""
    number = found[name]
    if type(number) is not int or number < 0 or (below is not None and number >= below):
        raise ValueError(name)
    return number
