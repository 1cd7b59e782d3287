"""CERTIFICATE.md: the certificate as a page that a reviewer can check."""

from __future__ import annotations

from collections.abc import Sequence

from adaptive.certificate import Certificate, Tested
from adaptive.types import Policy, Stage, Target

_MEANING = {
    "CERTIFIED": "The policy below is the cheapest of those for which the promise is proved.",
    "NOT CERTIFIED": "No policy cheaper than the full tier could be proved to keep the promise, "
    "so the full tier answers every text alone.",
    "DO NOT ROUTE": "One stage that answers every text alone is as cheap as anything certified, "
    "so no text is routed.",
}
_TESTS = {
    "binomial": "the exact binomial test of losses of 0 and 1 (Clopper and Pearson 1934)",
    "betting": "the betting test of a bounded mean, rows in the seeded order "
    "(Waudby-Smith and Ramdas 2024, theorem 3)",
    "hoeffding_bentkus": "the test of Hoeffding and Bentkus (Bates et al. 2021, section 3.1)",
}


def render_certificate(
    certificate: Certificate, name: str, tiers: Sequence[str], stages: Sequence[Stage]
) -> str:
    """The certificate as Markdown.

    Args:
        name: of the bundle.
        tiers: their names.
        stages: of the cascade; policies are told by them.
    """
    target, conditions = certificate.target, certificate.conditions
    places = [f"{tiers[stage.tier]}@{stage.depth}" for stage in stages]
    facts = {
        "promise": promise(target),
        "confidence": f"{target.confidence:.4g} (delta {certificate.delta:.4g})",
        "policy": policy_line(certificate.policy, places),
        "certification rows": f"{certificate.n:,}, SHA-256 `{conditions.rows}`",
        "test": f"{_TESTS[certificate.test]}; policies in the order below, each at the whole of "
        "delta, up to the first that fails",
        "certified": f"the first {certificate.certified} of {len(certificate.front)} policies",
        "seeds": ", ".join(f"{key} {value}" for key, value in certificate.seeds.items()),
        "device family": conditions.device,
        "dtype": conditions.dtype,
        "tokens of a text": f"at most {conditions.max_length}",
        "costs": f"{certificate.unit}, {conditions.measured or 'as counted'}",
        "versions": ", ".join(f"{key} {value}" for key, value in conditions.versions.items()),
    }
    sections = [
        f"# Certificate of {_inline(name)}",
        f"**{certificate.headline}.** {_meaning(certificate)}",
        "\n".join(f"- {key}: {_inline(value)}" for key, value in facts.items()),
        "## Assumptions",
        "\n".join(f"- {each}" for each in certificate.assumptions),
        "## What was tested",
        "*Excess* is the mean over the certification rows of each row's share in breaking the "
        "promise, which holds where its expectation is at most 0; p is the probability, at most, "
        "of rows so good if it were broken. The front and its order come from other rows.",
        _front(certificate, places),
        "## Files",
        "SHA-256 of each file that decides what is answered, as "
        "`adaptive.bundle.certificates.content_hash` takes it. Loading refuses any other.",
        _table(["file", "SHA-256"], [[f"`{k}`", f"`{v}`"] for k, v in certificate.hashes.items()]),
    ]
    return "\n\n".join(sections) + "\n"


def promise(target: Target) -> str:
    """What the target promises, in words."""
    if target.metric == "agreement":
        return f"at most {target.level:.2%} of the texts answered unlike the full tier"
    if target.metric == "accuracy_drop":
        return f"at most {target.level:.2%} of the full tier's accuracy lost"
    return f"accuracy of at least {target.level:.2%}"


def policy_line(policy: Policy, places: Sequence[str]) -> str:
    """A policy in a line; `places` are the stages' names [k]."""
    on = ", ".join(
        place if threshold == float("-inf") else f"{place} from {threshold:.4g}"
        for place, threshold in zip(places, policy.thresholds, strict=True)
        if threshold != float("inf")
    )
    if policy.risk_weight is None:
        return on
    return f"{on}; entry by the router, risk weight {policy.risk_weight:.4g}"


def _meaning(certificate: Certificate) -> str:
    if not certificate.certified:
        return "Not even the full tier alone was proved to keep the promise. It answers every text."
    return _MEANING[certificate.verdict]


def _front(certificate: Certificate, places: Sequence[str]) -> str:
    rows = [
        _row(index, tested, certificate.certified, places)
        for index, tested in enumerate(certificate.front)
    ]
    return _table(["", "policy", f"cost ({certificate.unit})", "excess", "p", ""], rows)


def _row(index: int, tested: Tested, certified: int, places: Sequence[str]) -> list[str]:
    told = "certified" if index < certified else "failed" if index == certified else "not reached"
    figures = [f"{tested.cost:.4g}", f"{tested.excess:+.5f}", f"{tested.p_value:.3g}"]
    return [str(index), policy_line(tested.policy, places), *figures, told]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_inline(cell) for cell in line)} |" for line in lines)


def _inline(text: str) -> str:
    """Any text as one line that cannot break out of a table or heading."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
