"""Torch's threads beside graphs: they would take the cores from these."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_cascade import make_cascade, tiny_texts

from adaptive.engine import answer
from adaptive.text.tokens import tokenize
from adaptive.tiers.graphs import Graphs
from adaptive.tiers.state import State
from adaptive.training.graphs import write_graphs

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("three_threads")


@pytest.mark.parametrize(
    ("in_graphs", "expected"), [(("mid", "full"), {1}), (("full",), {3}), ((), {3})]
)
def test_torch_computes_with_one_thread_where_graphs_run_all_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_graphs: tuple[str, ...], expected: set[int]
) -> None:
    bundle = make_cascade()
    for tier in bundle.tiers:
        if tier.name in in_graphs:
            write_graphs(tier.backbone, tier.depths, tmp_path / tier.name)
            tier.backbone.graphs = Graphs(tmp_path / tier.name, tier.backbone.layers)
    found: set[int] = set()
    for tier in bundle.tiers:
        embed = tier.backbone.embed

        def watched(*given: object, embed: object = embed) -> State:
            found.add(torch.get_num_threads())
            return embed(*given)  # type: ignore[operator,no-any-return]

        monkeypatch.setattr(tier.backbone, "embed", watched)
    rows = tokenize(bundle.tokenizer, tiny_texts(), max_length=32)
    answer(bundle, rows, bundle.policy, 8)
    assert found == expected
    assert torch.get_num_threads() == 3
