"""Whether each tier of a bundle answers as it should: finite, the same again, and as is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.engine import answer
from adaptive.policy.lookup import is_bare, tier_alone, without_tiers
from adaptive.serve.settings import Golden
from adaptive.text import inputs
from adaptive.text import tokens as token_rows
from adaptive.types import Answers, Policy, Tokens

# Any tokenizer makes tokens of these. Whatever they mean, they only have to be answered.
TEXTS = ("", "a", "the first of two short texts", "one two three four five six seven eight " * 200)
ASKED = 2.0  # a threshold that no reliability reaches: the exit is asked, and the row goes on


def golden_rows(bundle: Bundle, golden: Sequence[Golden] = ()) -> Tokens:
    """Token rows of the texts that every tier is tried on, those with known answers first."""
    paired = any(each.text_pair is not None for each in golden)
    texts, pairs, _ = inputs.check(
        [(each.text, each.text_pair or "") if paired else each.text for each in golden]
        + [(text, text) if paired else text for text in TEXTS]
    )
    return token_rows.tokenize(
        bundle.tokenizer, texts, pairs, max_length=bundle.max_length, redact=bundle.redact
    )


def broken_tiers(bundle: Bundle, rows: Tokens, gone: Collection[int] = ()) -> dict[int, str]:
    """Tiers that raise or do not answer in finite numbers, and why; those gone are passed over.

    Each is asked alone, then as the others ask it: with what they remember, to its last exit.
    """
    found: dict[int, str] = {}
    for tier in range(len(bundle.tiers)):
        if tier not in gone:
            why = fault(bundle, rows, tier_alone(bundle.stages, tier))
            if why is not None:
                found[tier] = why
    everywhere = Policy(tuple(range(len(bundle.tiers))), (ASKED,) * len(bundle.stages))
    for tier in range(1, len(bundle.tiers)):  # up to this tier, so that it is the one at fault
        above = range(tier + 1, len(bundle.tiers))
        policy = without_tiers(everywhere, bundle.stages, {*gone, *found, *above})
        if policy is None or tier not in policy.path or len(policy.path) < 2:
            continue
        why = fault(bundle, rows, policy)
        if why is not None:
            found[tier] = why
    return found


def fault(bundle: Bundle, rows: Tokens, policy: Policy) -> str | None:
    """What is wrong with a policy's answers to the rows; None where nothing is."""
    try:
        good = finite(answer(bundle, rows, policy, len(rows)), reliable=not is_bare(policy))
    except Exception as error:  # whatever a broken tier may raise
        return type(error).__name__
    return None if good.all() else "answers that are no numbers"


def attempt(
    bundle: Bundle, rows: Tokens, policy: Policy, batch_size: int
) -> tuple[Answers | None, NDArray[np.bool_]]:
    """Answers of rows [r] in no other company, and which are numbers, [r]; None where it raised."""
    try:
        answers = answer(bundle, rows, policy, batch_size)
    except Exception:  # whatever a row may raise
        return None, np.zeros(len(rows), np.bool_)
    return answers, finite(answers, reliable=not is_bare(policy))


def finite(answers: Answers, *, reliable: bool = False) -> NDArray[np.bool_]:
    """Which rows were answered in finite numbers, [r].

    Args:
        reliable: reliabilities were asked for, and have to be numbers, too.
    """
    found = np.isfinite(answers.score)
    if answers.probabilities is not None:
        found &= np.isfinite(answers.probabilities).all(1)
    return found & np.isfinite(answers.reliability) if reliable else found


def wrong_answers(
    bundle: Bundle, rows: Tokens, golden: Sequence[Golden], policy: Policy
) -> list[str]:
    """The golden inputs that the policy answers otherwise than known, by their place."""
    if not golden:
        return []
    answers = answer(bundle, rows, policy, len(rows))
    assert answers.probabilities is not None
    scores = torch.from_numpy(answers.probabilities[: len(golden)])
    given = [bundle.task.told(each, bundle.labels)[0] for each in scores]
    return [
        f"golden input {index}: expected {each.label!r}, the bundle answers {label!r}"
        for index, (each, label) in enumerate(zip(golden, given, strict=True))
        if each.label != label
    ]
