"""What a certificate assumes and what it is about, in words."""

from __future__ import annotations

from collections.abc import Sequence

from adaptive.policy.targets import about_costs, may_abstain
from adaptive.types import Target

ALWAYS_ASSUMED = (
    "The texts to come are exchangeable with the certification rows: of the same source, time "
    "and kind. Of others nothing is promised.",
    "The certification rows served for nothing else: no weight, threshold, router or policy was "
    "fitted or chosen on them.",
    "It holds for this bundle, in this dtype and on this device family, for texts cut to this "
    "length; not for texts read in windows, and where longer texts are refused or read in windows "
    "not for those beside them either, if rows were cut: these are other texts then.",
    "Nobody chooses texts in order to be answered wrongly.",
)


def population(repeats: bool | None) -> list[str]:
    """Which texts the promise is about.

    Args:
        repeats: whether a text counts as often as it stands in the certification rows; None where
            that is not known.
    """
    if repeats is None:
        return []
    if repeats:
        return [
            "The promise is about texts as they come, one that comes often counting as often: the "
            "certification rows keep repeated texts. None of their texts was trained, fitted or "
            "searched on; on texts to come that were, the cascade is taken to do no worse."
        ]
    return [
        "Each different text counts once in the certification rows, and so it does in the promise: "
        "not as often as it comes in traffic where some texts repeat."
    ]


def looked_at(looks: int | None, planned: int, proved: float) -> str:
    """How often the certification rows were looked at, and what is proved after that.

    Args:
        looks: designs that were tested on them, this one included; None where that is not known.
        planned: looks that were planned beforehand.
        proved: the confidence after all of them.
    """
    if looks is None:
        return (
            "Looks were not counted: where other designs or promises were tested on these rows "
            "before, each such look costs delta, and so much less is proved."
        )
    times = f"{looks} look{'s' * (looks > 1)} at these rows, or at rows mostly the same"
    paid = f", {planned} planned beforehand at delta / {planned} each" if planned > 1 else ""
    return (
        f"{times}, stand in this machine's ledger{paid}. That the design which is served after "
        f"them keeps its promise has a confidence of {proved:.4g} (union bound over the looks), if "
        "no more than a verdict led from one design to the next."
    )


_REFERENCE = (
    "What is promised against the full tier is promised against it in float32, as torch computes "
    "it, though it is served otherwise."
)
ROUNDED = (
    "Its weights are kept in half precision: what was lost when they were rounded is not in the "
    "promise."
)


def assumed(
    targets: Sequence[Target], kept: Target | None, *, otherwise: bool = False
) -> list[str]:
    """Which means these targets are about, and what holds together.

    Args:
        kept: a bound on the loss of the policy that is served.
        otherwise: whether the full tier is served in another way than in float32 in torch.
    """
    return [*_means(targets), *_costs(targets, kept), *[_REFERENCE] * otherwise]


def redacted(kinds: Sequence[str]) -> list[str]:
    """What the texts were that a tier read.

    Args:
        kinds: of personal data that they had lost.
    """
    if not kinds:
        return []
    return [
        f"Texts lose personal data ({', '.join(kinds)}) before any tier reads them, as the "
        "certification rows did: in their place stand placeholders."
    ]


def asked_for(source: str) -> list[str]:
    """What a certificate assumes whose rows were labelled only where it matters.

    Args:
        source: the rows that bound the full tier's accuracy.
    """
    return [
        "Labels were asked only of rows that a policy answers otherwise than the full tier; the "
        "label of a row is the same whether, when and with which others it was asked. Rows without "
        "a label count as lost where the answers differ.",
        f"The full tier is at least as accurate on the texts to come as its lower bound from the "
        f"{source} says: these are of the same source as the certification rows.",
    ]


def _costs(targets: Sequence[Target], kept: Target | None) -> list[str]:
    """What a promise about costs is about."""
    told = []
    if about_costs(targets):
        told.append(
            "What a text costs is read from the cost table, by its length and the stages it ran "
            "through: its share of a full batch of that size, as measured on that processor with "
            "so many threads and on a machine as busy; not how long a request waits."
        )
    if kept is not None:
        both = max(0.0, 1.0 - 2.0 * (1.0 - kept.confidence))
        told.append(
            "The bound on what is lost against the full tier is a promise of its own at this "
            "confidence, for whichever policy of the front is served (union bound over the front); "
            f"that it holds together with the promise about costs has a confidence of {both:.4g}."
        )
    return told


def _means(targets: Sequence[Target]) -> list[str]:
    columns = sorted({target.group for target in targets if target.group is not None})
    left = [
        "Promises about answers are about the texts that are answered, as a share of those; the "
        "texts left to a person are bounded by the promise about them."
    ] * may_abstain(targets)
    if not columns:
        mean = (
            "It holds for the mean over texts, not for each text and not for each label or group."
        )
        return [mean, *left]
    told = ["It holds for means over texts, not for each text."]
    if any(target.group is None for target in targets):
        told.append("A promise without a group holds for the mean over all texts alone.")
    told += [
        f"A promise for each {column} holds in every group listed, by itself and so in any mix "
        "of them; not in groups that are not listed, nor in parts of them."
        for column in columns
    ]
    if "label" in columns:
        told.append("A text's label is its true one, not the one it is answered with.")
    return told + left
