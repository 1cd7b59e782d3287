"""CERTIFICATE.md: the certificate as a page that a reviewer can check."""

from __future__ import annotations

from collections.abc import Sequence

from adaptive.certificate.promises import Certificate, Conditions, Tested
from adaptive.policy.metrics import promise
from adaptive.policy.targets import about_costs, seeks_quality
from adaptive.types import Policy, Stage, Target

_TESTS = {
    "binomial": "the exact binomial test of losses of 0 and 1 (Clopper and Pearson 1934)",
    "paired": "the exact test of paired answers, the p-value maximised over what is not known "
    "(Barnard 1947; Berger and Boos 1994; see adaptive.risk.paired)",
    "paired_margin": "the exact test of paired answers at a margin that other rows fixed "
    "(Barnard 1947; see adaptive.risk.paired and adaptive.certificate.asking)",
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
    places = [f"{tiers[stage.tier]}@{stage.depth}" for stage in stages]
    facts = facts_of(certificate, places)
    sections = [
        f"# Certificate of {_inline(name)}",
        f"**{certificate.headline}.** {meaning(certificate)}",
        "\n".join(f"- {key}: {_inline(value)}" for key, value in facts.items()),
        "## Assumptions",
        "\n".join(f"- {each}" for each in certificate.assumptions),
        "## What was tested",
        "*Excess* is the mean over certification rows of each row's share in breaking a "
        "promise, which holds where its expectation is at most 0; p is the probability, at most, "
        "of rows so good if it were broken. A policy has the greatest of each that any promise "
        "or group gives it. The front and its order come from other rows. Below it each promise "
        "on its own rows: the policy that is served, and the first that failed.",
        _front(certificate, places),
        _claims(certificate),
        *(part for each in certificate.further for part in _other(each, places)),
        "## Files",
        "SHA-256 of each file that decides what is answered, as "
        "`adaptive.bundle.certificates.content_hash` takes it. Loading refuses any other.",
        _table(["file", "SHA-256"], [[f"`{k}`", f"`{v}`"] for k, v in certificate.hashes.items()]),
    ]
    return "\n\n".join(sections) + "\n"


def facts_of(certificate: Certificate, places: Sequence[str]) -> dict[str, str]:
    """What was promised, tested and found, and under which conditions, by a word each.

    Args:
        places: the stages' names [k].
    """
    conditions = certificate.conditions
    return {
        "promise": promises(certificate.targets),
        "confidence": f"{1 - certificate.delta:.4g} (delta {certificate.delta:.4g})",
        "policy": policy_line(certificate.policy, places),
        **_proved_besides(certificate),
        "certification rows": _rows(certificate),
        **_labels(certificate),
        **_looks(certificate),
        "test": f"{_tests(certificate)}; policies in the order below, each at "
        f"{_level(certificate)}, up to the first that fails",
        "certified": f"the first {certificate.certified} of {len(certificate.front)} policies",
        "seeds": ", ".join(f"{key} {value}" for key, value in certificate.seeds.items()),
        "device family": conditions.device,
        "dtype": conditions.dtype,
        "tokens of a text": _length(conditions),
        "costs": f"{certificate.unit}, {conditions.measured or 'as counted'}",
        "versions": ", ".join(f"{key} {value}" for key, value in conditions.versions.items()),
    }


def _rows(certificate: Certificate) -> str:
    conditions = certificate.conditions
    told = f"{certificate.n:,}{_kind(conditions)}, SHA-256 `{conditions.rows}`"
    if not conditions.known:
        return told
    return f"{told}; {conditions.known:,} more were left out, since the build had used them"


def _level(certificate: Certificate) -> str:
    if certificate.planned == 1:
        return "the whole of delta"
    return f"delta / {certificate.planned}, for as many looks that were planned"


def _looks(certificate: Certificate) -> dict[str, str]:
    """How often the rows were looked at, and what is proved after that."""
    if certificate.looks is None:
        return {"looks": "not counted"}
    told = f"{certificate.looks} at these rows, or at rows mostly the same"
    if certificate.looks > 1:
        told += f"; {certificate.seen_before:.0%} of them had been seen before"
    return {"looks": told, "confidence proved": f"{certificate.confidence_proved:.4g}"}


def _kind(conditions: Conditions) -> str:
    if conditions.pairs is None:
        return ""
    return " pairs of texts" if conditions.pairs else " single texts"


def _length(conditions: Conditions) -> str:
    told = f"at most {conditions.max_length}"
    if conditions.cut is None:
        return told
    return f"{told}; {conditions.cut:.2%} of the certification rows were longer and were cut"


def _labels(certificate: Certificate) -> dict[str, str]:
    """Where not all rows were labelled, which were, and what bounds the full tier's accuracy."""
    asked = certificate.asked
    if asked is None:
        return {}
    told = "to the end of the sequence" if asked.ended else "stopped before its end"
    return {
        "labels": f"{asked.labels:,} of the {certificate.n:,} rows, asked for where a policy "
        f"answers otherwise than the full tier, {told}; where an answer differs and there is no "
        "label, the row counts as lost",
        "full tier's accuracy": f"at least {asked.accuracy:.2%}, from {asked.accuracy_rows:,} "
        f"{asked.accuracy_from}; the margin is the level times that, and delta / 50 pays for it",
    }


def _proved_besides(certificate: Certificate) -> dict[str, str]:
    """What the policy loses at most, where costs are all that is promised."""
    kept = certificate.quality
    return {} if kept is None else {"proved besides": promise(kept)}


def promises(targets: Sequence[Target]) -> str:
    """What the targets promise together, in words."""
    return "; and ".join(map(promise, targets))


def policy_line(policy: Policy, places: Sequence[str]) -> str:
    """A policy in a line; `places` are the stages' names [k]."""
    on = ", ".join(
        place if threshold == float("-inf") else f"{place} from {threshold:.4g}"
        for place, threshold in zip(places, policy.thresholds, strict=True)
        if threshold != float("inf")
    )
    if policy.abstain != float("-inf"):
        on += f"; nobody answers below {policy.abstain:.4g} at the last"
    if policy.risk_weight is None:
        return on
    return f"{on}; entry by the router, risk weight {policy.risk_weight:.4g}"


def meaning(certificate: Certificate) -> str:
    """What the verdict means, in a sentence."""
    good = seeks_quality(certificate.targets)
    if certificate.verdict == "CERTIFIED":
        if good:
            return (
                "Of the policies for which the promise is proved, the one below lost least against "
                "the full tier on other rows."
            )
        return (
            "The policy below is the cheapest found: of the policies that were searched and "
            "tested, the cheapest for which the promise is proved."
        )
    if certificate.verdict == "DO NOT ROUTE":
        return (
            f"One stage that answers every text alone is as {'good' if good else 'cheap'} as "
            "anything certified, so no text is routed."
        )
    priced = about_costs(certificate.targets)
    first = "first policy below" if priced else "full tier alone"
    first = "cheapest stage alone" if good else first
    if not certificate.certified:
        return f"Not even the {first} was proved to keep the promise. It answers every text."
    return (
        f"No policy {'better' if good else 'cheaper'} than the {first} could be proved to keep the "
        "promise, so that answers every text."
    )


def _other(certificate: Certificate, places: Sequence[str]) -> list[str]:
    """The sections of another level's promise."""
    return [
        f"## {_inline(promises(certificate.targets))}",
        f"**{certificate.headline}.** {meaning(certificate)} Policy: "
        f"{_inline(policy_line(certificate.policy, places))}.",
        _front(certificate, places),
        _claims(certificate),
    ]


def _tests(certificate: Certificate) -> str:
    return "; ".join(dict.fromkeys(_TESTS[claim.test] for claim in certificate.claims))


def _claims(certificate: Certificate) -> str:
    """A row a claim; the columns of a policy that none is are left out."""
    served = next(t for t in certificate.front if t.policy == certificate.policy)
    failed = certificate.front[certificate.certified : certificate.certified + 1]
    head = ["promise", "texts", "rows", "excess", "p"] + ["excess (failed)", "p (failed)"] * len(
        failed
    )
    rows = [
        [promise(claim.target), claim.place or "all", f"{claim.n:,}"]
        + [
            cell
            for tested in (served, *failed)
            for cell in (f"{tested.excesses[index]:+.5f}", f"{tested.p_values[index]:.3g}")
        ]
        for index, claim in enumerate(certificate.claims)
    ]
    return _table(head, rows)


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
