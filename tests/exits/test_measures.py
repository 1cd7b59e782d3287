"""What the confidence measures say of answers whose confidence is known."""

from __future__ import annotations

import math

import pytest
import torch

from adaptive.exits.measures import FEATURES, History, measure


def column(features: torch.Tensor, name: str) -> torch.Tensor:
    return features[:, FEATURES.index(name)]


def first_exit(
    logits: torch.Tensor, anchor: torch.Tensor | None = None
) -> tuple[torch.Tensor, History]:
    b = len(logits)
    pooled = torch.randn(b, 6, generator=torch.Generator().manual_seed(0))
    return measure(logits, pooled, History.start(b, "cpu"), anchor, torch.zeros(b))


def test_measures_of_a_known_distribution() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
    features, _ = first_exit(p.clamp(min=1e-30).log())
    most, gap = column(features, "max_probability"), column(features, "margin")
    torch.testing.assert_close(most, torch.tensor([0.5, 1 / 3, 1.0]))
    torch.testing.assert_close(gap, torch.tensor([0.25, 0.0, 1.0]))
    expected = torch.tensor([1.5 * math.log(2) / math.log(3), 1.0, 0.0])
    torch.testing.assert_close(column(features, "entropy"), expected)


def test_energy_falls_as_logits_rise_and_log_odds_match_the_probability() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0], [5.0, 4.0, 2.0]])
    features, _ = first_exit(logits)
    torch.testing.assert_close(column(features, "energy"), -logits.logsumexp(1))
    expected = torch.logit(logits.softmax(1).amax(1))
    torch.testing.assert_close(column(features, "log_odds"), expected)


def test_log_odds_still_grow_where_the_probability_has_rounded_to_one() -> None:
    features, _ = first_exit(torch.tensor([[40.0, 0.0], [80.0, 0.0], [300.0, 0.0]]))
    assert column(features, "log_odds").tolist() == [40.0, 80.0, 300.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 3, 3000])
@pytest.mark.parametrize("size", [0.0, 1.0, 6e4])
def test_features_are_finite_float32_for_any_finite_logits(
    dtype: torch.dtype, classes: int, size: float
) -> None:
    signs = torch.randn(4, classes, generator=torch.Generator().manual_seed(1)).sign()
    logits = (signs * size).to(dtype)
    pooled = torch.ones(4, 8, dtype=dtype)
    anchor = logits.float().softmax(1)
    history = History.start(4, "cpu")
    for _ in range(2):
        features, history = measure(logits, pooled, history, anchor, torch.zeros(4))
        assert features.dtype == torch.float32
        assert features.shape == (4, len(FEATURES))
        assert features.isfinite().all()


def test_half_precision_logits_are_measured_in_float32() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.5]])
    features, _ = first_exit(logits)
    halved, _ = first_exit(logits.to(torch.bfloat16))
    torch.testing.assert_close(halved, features)


def test_streak_counts_agreeing_exits_and_restarts() -> None:
    answers = [0, 0, 0, 1, 1]
    history = History.start(1, "cpu")
    streaks, agrees = [], []
    for answer in answers:
        logits = torch.nn.functional.one_hot(torch.tensor([answer]), 3).float()
        features, history = measure(logits, torch.ones(1, 4), history, None, torch.zeros(1))
        streaks.append(column(features, "streak").item())
        agrees.append(column(features, "agrees_previous").item())
    assert streaks == [0, 1, 2, 0, 1]
    assert agrees == [0, 1, 1, 0, 1]


def test_saturation_is_the_cosine_with_the_previous_exit_only() -> None:
    logits = torch.tensor([[1.0, 0.0]])
    history = History.start(1, "cpu")
    seen = []
    for pooled in ([1.0, 0.0], [3.0, 0.0], [0.0, 2.0]):
        features, history = measure(logits, torch.tensor([pooled]), history, None, torch.zeros(1))
        seen.append(column(features, "saturation").item())
    assert seen == pytest.approx([0, 1, 0])


def test_the_anchor_gives_a_second_opinion() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    anchor = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    features, _ = first_exit(logits, anchor)
    assert column(features, "agrees_anchor").tolist() == [1, 0]
    torch.testing.assert_close(column(features, "anchor_probability"), torch.tensor([0.7, 0.2]))
    torch.testing.assert_close(column(features, "anchor_max_probability"), torch.full((2,), 0.7))
    without, _ = first_exit(logits)
    assert column(without, "agrees_anchor").tolist() == [0, 0]


def test_features_of_a_text_do_not_depend_on_its_batch_mates() -> None:
    generator = torch.Generator().manual_seed(2)
    steps = [(torch.randn(6, 4, generator=generator), torch.randn(6, 5, generator=generator))] * 3
    anchor = torch.randn(6, 4, generator=generator).softmax(1)
    rows = torch.tensor([4, 1])
    whole, part = History.start(6, "cpu"), History.start(2, "cpu")
    for logits, pooled in steps:
        every, whole = measure(logits, pooled, whole, anchor, torch.arange(6.0))
        some, part = measure(logits[rows], pooled[rows], part, anchor[rows], rows.float())
        torch.testing.assert_close(every[rows], some)
    compacted = whole.select(rows)
    assert compacted.prediction.tolist() == part.prediction.tolist()
    torch.testing.assert_close(compacted.streak, part.streak)
    assert compacted.pooled is not None and part.pooled is not None
    torch.testing.assert_close(compacted.pooled, part.pooled)


def test_measuring_leaves_the_history_it_was_given_alone() -> None:
    history = History.start(2, "cpu")
    measure(torch.eye(2), torch.eye(2), history, None, torch.zeros(2))
    assert history.prediction.tolist() == [-1, -1]
    assert history.pooled is None
