"""Which promises of a certificate hold for texts as they are answered here, and why others do not.

What decides an answer (files, dtype, device family, length) is checked when a bundle is opened,
and refused where it is other than certified. Here is what changes no answer, or the texts asked:

- Promises in milliseconds are about one processor, number of threads and batch size.
- All promises are about single texts, or about pairs, as the certification rows were.
- They are about all texts, long ones cut at the bundle's length. Where long ones are refused, or
  read in windows, those that are left are another population: it lacks the long texts, whatever
  else a call holds. So it depends on how long texts are treated and not on whether a batch has one,
  which would mark just the batches of short texts. Where no certification row was cut, the two
  populations are one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adaptive.bundle.header import library_versions
from adaptive.certificate.promises import Certificate, Conditions
from adaptive.config.targets import show_target
from adaptive.device.processor import processor_of
from adaptive.policy.costs import MILLISECONDS
from adaptive.policy.metrics import metric_of
from adaptive.types import Policy, Target

COMPARED = ("torch", "transformers", "tokenizers", "onnxruntime")
NOTHING: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """How texts are answered, as far as promises ask."""

    batch_size: int
    length: int  # tokens that texts are cut at
    cuts: bool  # whether longer ones are cut, so that all are answered, from one row each
    pairs: bool | None = None  # whether they are pairs; None where there are none yet


class Coverage:
    """The promises of one certificate on one device. Whatever voids one is warned of once."""

    def __init__(self, certificate: Certificate | None, device: torch.device) -> None:
        """Warn where libraries are of another minor version than at the certification."""
        self.certificate, self.device = certificate, device
        self._known: dict[tuple[Policy, Use], tuple[Target, ...]] = {}
        self._told: set[str] = set()
        if certificate is not None:
            self._warn(other_versions(certificate.conditions))

    def __call__(self, policy: Policy, use: Use) -> tuple[Target, ...]:
        """The targets whose promises hold for texts that the policy answers in this way."""
        if (policy, use) not in self._known:
            self._known[policy, use] = self._find(policy, use)
        return self._known[policy, use]

    def _find(self, policy: Policy, use: Use) -> tuple[Target, ...]:
        certificate = self.certificate
        if certificate is None or not certificate.covers(policy):
            return NOTHING
        if reasons := other_texts(certificate.conditions, use):
            self._warn([f"not covered by the certificate: {reason}" for reason in reasons])
            return NOTHING
        timed = [each for each in certificate.targets if metric_of(each).unit == MILLISECONDS]
        changed = other_times(certificate.conditions, self.device, use.batch_size) if timed else []
        if not changed:
            return certificate.targets
        self._warn(
            [
                f"promises about milliseconds ({', '.join(map(show_target, timed))}) are not "
                f"covered here: they were certified with {' and '.join(changed)}. What is promised "
                "about answers stays; `adaptive certify` measures anew"
            ]
        )
        return tuple(each for each in certificate.targets if each not in timed)

    def _warn(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            if reason not in self._told:
                self._told.add(reason)
                warnings.warn(reason, UserWarning, stacklevel=2)


def other_texts(conditions: Conditions, use: Use) -> list[str]:
    """Why the texts are others than those that were certified, in words."""
    reasons = []
    if use.length < conditions.max_length:
        reasons.append(
            f"texts are cut at {use.length} tokens, and were certified cut at "
            f"{conditions.max_length}"
        )
    if use.pairs is not None and conditions.pairs is not None and use.pairs != conditions.pairs:
        kinds = ("single texts", "pairs of texts")
        reasons.append(
            f"these are {kinds[use.pairs]}, and the certificate is about {kinds[conditions.pairs]}"
        )
    if not use.cuts and conditions.cut:
        reasons.append(
            f"{conditions.cut:.2%} of the certification rows had more than "
            f"{conditions.max_length} tokens and were cut; where such texts are refused or read in "
            "windows, those beside them are another population than the certified one"
        )
    return reasons


def other_times(conditions: Conditions, device: torch.device, batch_size: int) -> list[str]:
    """What times depend on and is another than at the certification, in words."""
    found: dict[str, tuple[str | int | None, str | int]] = {
        "processor": (conditions.processor or None, processor_of(device)),
        "batch size": (conditions.batch_size, batch_size),
    }
    if device.type == "cpu":
        found["threads"] = (conditions.threads, torch.get_num_threads())
    return [
        f"{name} {was} (here {now})"
        for name, (was, now) in found.items()
        if was is not None and was != now
    ]


def other_versions(conditions: Conditions) -> list[str]:
    """A sentence about libraries of another minor version than recorded, if there are any."""
    here = library_versions()
    changed = [
        f"{name} {conditions.versions[name]} (here {here[name]})"
        for name in COMPARED
        if name in conditions.versions
        and name in here
        and _minor(conditions.versions[name]) != _minor(here[name])
    ]
    if not changed:
        return []
    return [
        f"the bundle was certified with {', '.join(changed)}: other versions may round otherwise, "
        "and so answer a few texts otherwise; `adaptive certify` on new rows tells"
    ]


def _minor(version: str) -> list[str]:
    """Of `2.8.1+cpu`, 2 and 8."""
    return version.partition("+")[0].split(".")[:2]
