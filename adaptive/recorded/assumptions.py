"""What a certificate of recorded outcomes assumes and what it is about, in words."""

from __future__ import annotations

from collections.abc import Sequence

from adaptive.policy.metrics import metric_of
from adaptive.recorded.dealing import Deal
from adaptive.types import Target


def assumed_of(targets: Sequence[Target], dealt: Deal, *, count_repeats: bool) -> tuple[str, ...]:
    """The assumptions under which the promises hold."""
    told = [
        "The requests to come are exchangeable with the recorded ones: of the same source, time "
        "and kind. A benchmark's requests are not your traffic's.",
        "The models answer as they did when they were recorded: under these fingerprints. Under "
        "others the verdict is STALE.",
        "The certification rows served for nothing else: no estimate, threshold or policy was "
        "fitted or chosen on them, and the tiers, the scorer and the promise were fixed before.",
        "Answers that were drawn at random are promised for as drawn that way: one recorded draw "
        "of each model a request, judged by the signals of that draw.",
        "Scores are as recorded: what a judge or a scorer says of an answer is promised, not what "
        "is true of it.",
        "It holds for the mean over requests, not for each request.",
        "No one chooses requests in order to be answered wrongly.",
    ]
    if dealt.sessions is not None:
        told.append(
            "One request of each session certifies, drawn at random: the promise is about a "
            "request drawn from a session drawn at random."
        )
    if dealt.prompts is not None and not count_repeats:
        told.append(
            "Each different prompt counts once, and so it does in the promise: not as often as it "
            "comes in traffic where some repeat."
        )
    if any(metric_of(target).budget for target in targets):
        told.append(
            "What a request costs at most is as the price list says: no prompt is longer than its "
            "`max_input`, and no answer than its `max_tokens`."
        )
    if columns := sorted({target.group for target in targets if target.group is not None}):
        told.append(
            f"A promise for each {columns[0]} holds in every one listed, and so in any mix of them."
        )
    return tuple(told)
