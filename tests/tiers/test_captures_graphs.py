"""CUDA graphs on a CPU: instead of a GPU's work, what torch is called with is captured.

`make_fx` traces a function as CUDA captures one: numbers of the host are fixed as they were,
values may change in the inputs alone, and to ask for a value is an error.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cascade import make_cascade, tiny_texts
from tiny_transformers import tiny_backbone
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.device import captures
from adaptive.device.captures import Captures, size_of
from adaptive.engine import engine, hops
from adaptive.measure.timing import measure_hops
from adaptive.policy.lookup import tier_alone
from adaptive.text import tokens as token_rows
from adaptive.tiers import attention, captured
from adaptive.types import NEVER, Answers, Policy

Function = Callable[..., tuple[torch.Tensor, ...]]
Made = list[tuple[int, ...]]  # rows of the inputs of whatever was captured


def traced(
    function: Function, inputs: list[torch.Tensor], pool: Any
) -> tuple[captures._Graph, tuple[torch.Tensor, ...]]:
    """What `captures.capture` does on a GPU."""
    expected = tuple(each.clone() for each in function(*inputs))
    graph = make_fx(lambda *given: function(*given))(*inputs)
    outputs = tuple(torch.full_like(each, 7) for each in expected)

    def replay() -> None:
        for place, found in zip(outputs, graph(*inputs), strict=True):
            place.copy_(found)

    return captures._Graph(inputs, outputs, replay), expected


def kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    _ends: torch.Tensor,
    longest: int,
    _longest: int,
    **others: Any,
) -> torch.Tensor:
    """Variable-length attention that knows rows by a tensor alone; garbage where there are none."""
    place = torch.arange(len(query), dtype=torch.int32)
    row = torch.bucketize(place, ends[1:], right=True)
    seen = (row[:, None] == row[None, :]) | (place[:, None] == place)
    parts = (part.transpose(0, 1) for part in (query, key, value))
    out = functional.scaled_dot_product_attention(*parts, attn_mask=seen, scale=others["scale"])
    begin = torch.cat([ends, ends[-1:]]).index_select(0, row)
    real = (place < ends[-1]) & (place - begin < longest)
    return torch.where(real[:, None, None], out.transpose(0, 1), torch.nan)


@contextmanager
def like_gpu() -> Iterator[Made]:
    """The CPU taken for a GPU, where every warning is an error."""
    made: Made = []

    def noted(function: Function, inputs: list[torch.Tensor], pool: Any) -> Any:
        made.append(tuple(len(each) for each in inputs))
        return traced(function, inputs, pool)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for module in (captured, hops):
            patch.setattr(module, "wanted", lambda device: torch.is_inference_mode_enabled())
        # a launch writes over what the last one gave
        patch.setattr(hops, "fetch", lambda values: partial(np.copy, values.clone().numpy()))
        patch.setattr(captures, "capture", noted)
        patch.setattr(attention, "fused", lambda hidden: True)
        patch.setattr(attention, "VARLEN", kernel)
        warnings.simplefilter("error")
        yield made


@pytest.fixture
def made() -> Iterator[Made]:
    """What is captured on a CPU taken for a GPU."""
    with like_gpu() as made:
        yield made


def answers(bundle: Bundle, texts: list[str], policy: Policy, batch_size: int = 8) -> Answers:
    rows = token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
    return engine.answer(bundle, rows, policy, batch_size)


def uncaptured(bundle: Bundle, texts: list[str], policy: Policy, batch_size: int = 8) -> Answers:
    before = [tier.captures.off for tier in bundle.tiers]
    for tier in bundle.tiers:
        tier.captures.off = True
    found = answers(bundle, texts, policy, batch_size)
    for tier, off in zip(bundle.tiers, before, strict=True):
        tier.captures.off = off
    return found


def run(
    graphs: Captures, name: str, function: Function, x: torch.Tensor, size: int = 16
) -> tuple[torch.Tensor, ...]:
    found = graphs(name, x.device, function, {"x": x}, [size], [len(x)], clones)
    return function(x) if found is None else found


def clones(outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(each.clone() for each in outputs)


def assert_same(found: Answers, expected: Answers) -> None:
    np.testing.assert_array_equal(found.stage, expected.stage)
    np.testing.assert_array_equal(found.entry, expected.entry)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.reliability, expected.reliability, atol=1e-5)


def test_sizes_are_few_and_waste_little() -> None:
    sizes = [size_of(count) for count in range(1, 10_000)]
    assert all(size >= count for count, size in enumerate(sizes, 1))
    assert all(size < 1.25 * count + 16 for count, size in enumerate(sizes, 1))
    assert all(size < 1.13 * count for count, size in enumerate(sizes, 1) if count > 1024)
    assert sizes == sorted(sizes) and len(set(sizes)) < 50
    assert all(size_of(size) == size for size in sizes)


@pytest.mark.parametrize(("batch_size", "in_flight"), [(1, 3), (32, 2)])
def test_a_cascade_answers_the_same_by_graphs(
    made: Made, batch_size: int, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "IN_FLIGHT_ON_CPU", in_flight)
    bundle, texts = make_cascade(), tiny_texts(60)
    some = [NEVER if stage in (2, 5) else t for stage, t in enumerate(bundle.policy.thresholds)]
    fewer = replace(bundle.policy, thresholds=tuple(some))
    for policy in (fewer, bundle.policy, tier_alone(bundle.stages, 2)):
        expected = uncaptured(bundle, texts, policy, batch_size)
        for _ in range(3):  # as they come, captured, launched
            assert_same(answers(bundle, texts, policy, batch_size), expected)
    assert made
    entered = {sizes for sizes in made if len(sizes) == 1}
    assert entered and len(made) > len(entered)


def test_sizes_met_once_are_not_captured(made: Made) -> None:
    bundle = make_cascade()
    policy = tier_alone(bundle.stages, 2)
    bundle.tiers[2].captures = Captures()  # those before met some in making the cascade
    answers(bundle, tiny_texts(1), policy)
    assert not made
    answers(bundle, tiny_texts(1), policy)
    count = len(made)
    assert count == 1  # from tokens to answers, in one piece
    answers(bundle, tiny_texts(1), policy)
    assert len(made) == count


CASCADE = make_cascade(3)


@settings(max_examples=6, deadline=None)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_launches_leave_nothing_behind_for_the_next(counts: list[int], seed: int) -> None:
    """Batches of many sizes one after the other, in the same places of memory."""
    with like_gpu():
        for count in counts:
            texts = tiny_texts(count, seed + count)
            expected = uncaptured(CASCADE, texts, CASCADE.policy)
            assert_same(answers(CASCADE, texts, CASCADE.policy), expected)


def test_threads_share_graphs(made: Made) -> None:
    bundle = make_cascade()
    asked = [tiny_texts(count, count) for count in (1, 5, 9, 17, 30)] * 6
    expected = [uncaptured(bundle, texts, bundle.policy) for texts in asked]
    for texts in asked[:10]:
        answers(bundle, texts, bundle.policy)
    assert made
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda texts: answers(bundle, texts, bundle.policy), asked))
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@torch.inference_mode()
def test_what_cannot_be_captured_runs_as_it_is_with_a_warning(made: Made) -> None:
    graphs, x = Captures(), torch.arange(3.0)

    def asks(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x * float(x.sum()),)

    for attempt in range(4):
        if attempt == 1:
            with pytest.warns(RuntimeWarning, match="without CUDA graphs"):
                found = run(graphs, "asks", asks, x)
        else:
            found = run(graphs, "asks", asks, x)
        assert found[0].tolist() == [0.0, 3.0, 6.0]
    assert graphs.off and len(made) == 1


@pytest.mark.parametrize("wrong", [0.5, torch.nan])
@torch.inference_mode()
def test_a_graph_of_other_values_is_not_used(made: Made, wrong: float) -> None:
    graphs, x, calls = Captures(), torch.arange(3.0), []

    def drifts(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(1)
        return (x + (0.0 if len(calls) < 2 else wrong),)

    given = ("drifts", x.device, drifts, {"x": x}, [16], [3], clones)
    assert graphs(*given) is None
    with pytest.warns(RuntimeWarning, match="other values"):
        assert graphs(*given) is None
    assert graphs.off


@torch.inference_mode()
def test_graphs_are_bounded_and_those_unused_for_longest_go(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "MOST", 2)
    graphs, x = Captures(), torch.arange(3.0)

    for name in "aabbaccbbb":  # c puts b out, which was used before a; b comes back in a's place
        assert run(graphs, name, lambda x: (x + 1,), x)[0].tolist() == [1.0, 2.0, 3.0]
    assert len(made) == 4
    run(graphs, "c", lambda x: (x + 1,), x)
    assert len(made) == 4


@torch.inference_mode()
def test_a_larger_input_leaves_graphs_of_smaller_ones_as_they_are(made: Made) -> None:
    graphs = Captures()
    for size in (16, 16, 48, 48, 16, 48, 16):
        x = torch.arange(float(size - 3))
        assert run(graphs, "f", lambda x: (x * 2,), x, size)[0].tolist() == (x * 2).tolist()
    assert made == [(16,), (48,)]


def test_texts_like_those_of_the_warm_up_find_their_graphs(made: Made) -> None:
    pipe = AdaptivePipeline(make_cascade())
    pipe.warm_up(tiny_texts(30), batch_size=8)
    count = len(made)
    pipe(tiny_texts(30), batch_size=8)
    assert 0 < count == len(made)


@pytest.mark.slow
def test_costs_are_those_of_graphs(made: Made) -> None:
    bundle = make_cascade()
    given = {"batch_size": 8, "lengths": [4, 8], "repeats": 1}
    table = measure_hops(bundle.tiers, bundle.reliability, bundle.device, **given)
    assert len(made) > len(bundle.stages)
    assert (table.embed >= 0).all() and (table.decision >= 0).all()
    assert (table.embed.sum(0) + table.segment.sum(0) > 0).all()


def test_a_copied_tier_captures_anew(made: Made) -> None:
    bundle, texts = make_cascade(), tiny_texts(8)
    policy = tier_alone(bundle.stages, 2)
    for _ in range(2):
        answers(bundle, texts, policy)
    count, tier = len(made), copy.deepcopy(bundle.tiers[2])
    assert not tier.captures._graphs
    with torch.no_grad():
        for weight in tier.parameters():
            weight.mul_(1.5)
    other = make_cascade()
    other.tiers[2].load_state_dict(tier.state_dict())
    expected = uncaptured(other, texts, policy)
    changed = replace(bundle, tiers=(*bundle.tiers[:2], tier))
    for _ in range(3):
        assert_same(answers(changed, texts, policy), expected)
    assert len(made) > count


def test_graphs_do_not_outlive_the_place_of_their_weights() -> None:
    tier = make_cascade().tiers[2]
    before = tier.captures
    assert tier.eval().captures is before
    assert tier.to(torch.float64).captures is not before


def test_layers_are_captured_where_launching_outweighs_computing(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbone("bert")
    work = backbone.layer_work(0)
    assert captured.most_tokens(backbone) * work <= captured.MOST_WORK
    assert captured.most_tokens(tiny_backbone("modernbert")) == 0  # takes more than its rows
    bundle = make_cascade()
    policy = tier_alone(bundle.stages, 2)
    monkeypatch.setattr(bundle.tiers[2], "most_tokens", 40)
    for _ in range(3):
        answers(bundle, tiny_texts(60), policy, 8)
    assert made and max(sizes[0] for sizes in made) <= 17 + 2 * 48  # ends, ids and types


def test_nothing_is_captured_where_gradients_are_wanted(made: Made) -> None:
    tier, rows = make_cascade().tiers[2], tiny_texts(4)
    tokens = token_rows.tokenize(make_cascade().tokenizer, rows, max_length=32)
    for _ in range(3):
        state = tier.embed(token_rows.pack(tokens, np.arange(4)))
        state = tier.advance(state, 1)
        assert state.hidden.requires_grad
    assert not made
