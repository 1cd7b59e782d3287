"""Layers in ONNX Runtime: torch's answers, for any number and length of texts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_transformers import VOCABULARY, packed, tiny_backbone, tiny_rows

from adaptive.errors import BuildError, BundleError, FamilyError
from adaptive.tiers import graphs
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.graphs import FOLDER, MOST, Graphs, blocks, name_of, places
from adaptive.tiers.int8 import available, quantise
from adaptive.tiers.store import in_torch, load_tier, reference_of, save_tier
from adaptive.tiers.surgery import Shape, shrink
from adaptive.tiers.tier import Tier
from adaptive.training import graphs as written_by
from adaptive.training.graphs import write_graphs
from adaptive.types import TokenBatch

pytest.importorskip("onnxruntime")

LABELS = ("bad", "good", "so-so")
SAMPLE = [packed(tiny_rows(tuple(range(1, 41))))]
KINDS = ["float32", pytest.param("int8", marks=pytest.mark.skipif(not available(), reason="none"))]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tier, and its graphs of both kinds. Not to be changed."""
    folder = tmp_path_factory.mktemp("graphs")
    tier = Tier("full", tiny_backbone("bert"), (0, 2, 4), LABELS, own_head=True)
    save_tier(tier, folder / "tier")
    for kind in ("float32", "int8"):
        sample = SAMPLE if kind == "int8" else None
        write_graphs(tiny_backbone("bert"), tier.depths, folder / kind, sample=sample)
    return folder


def states(backbone: Backbone, batch: TokenBatch) -> torch.Tensor:
    """Hidden states behind the last layer, [t, h]."""
    with torch.inference_mode():
        return backbone.run(backbone.embed(batch), 0, backbone.layers).hidden[0]


def both(folder: Path, kind: str) -> tuple[Backbone, Backbone]:
    """The same model in torch and in ONNX Runtime."""
    ours, theirs = tiny_backbone("bert"), tiny_backbone("bert")
    if kind == "int8":
        quantise(ours.blocks)
    theirs.graphs = Graphs(folder / kind, 4)
    return ours, theirs


def watched_sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Threads of each session that is opened from here on, and whether it sums exactly."""
    opened: list[tuple[int, bool]] = []
    opens = graphs.open_session

    def watched(file: Path, told: str, threads: int, *, exact: bool = False) -> object:
        opened.append((threads, exact))
        return opens(file, told, threads, exact=exact)

    monkeypatch.setattr(graphs, "open_session", watched)
    return opened


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_graphs_answer_as_torch_does(written: Path, lengths: list[int]) -> None:
    ours, theirs = both(written, "float32")
    batch = packed(tiny_rows(tuple(lengths)))
    found, expected = states(theirs, batch), states(ours, batch)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.skipif(not available(), reason="none")
def test_int8_graphs_come_as_near_as_torchs_int8_layers(written: Path) -> None:
    exact = both(written, "float32")[0]
    torchs, graphs = both(written, "int8")
    rows = [packed(tiny_rows(lengths)) for lengths in ((40, 3), (9,), (25, 12, 5), (1, 1))]
    expected = torch.cat([states(exact, batch) for batch in rows])
    far = [
        float((torch.cat([states(each, batch) for batch in rows]) - expected).norm())
        for each in (graphs, torchs)
    ]
    assert far[0] <= 1.2 * far[1] <= 0.1 * expected.norm()


def test_a_channel_of_great_numbers_does_not_decide_the_steps_of_others(tmp_path: Path) -> None:
    """One that is a thousand times the others would leave them a step or none without factors."""
    plain, graphs = tiny_backbone("bert"), tiny_backbone("bert")
    for each in (plain, graphs):
        with torch.no_grad():
            norm = each.blocks[0].attention.output.LayerNorm
            norm.weight[3] *= 1000
            each.blocks[0].intermediate.dense.weight[:, 3] /= 1000
    write_graphs(graphs, (1, 4), tmp_path, sample=SAMPLE)
    graphs.graphs = Graphs(tmp_path, 4)
    batch = SAMPLE[0]
    with torch.inference_mode():
        found, expected = (each.run(each.embed(batch), 0, 1).hidden[0] for each in (graphs, plain))
    others = [i for i in range(32) if i != 3]
    assert (found - expected)[:, others].norm() <= 0.12 * expected[:, others].norm()


def test_a_number_beyond_the_sample_is_cut_and_not_turned_round(written: Path) -> None:
    """Wrapped around it would be a great number of the other sign."""
    ours, theirs = both(written, "float32")[0], both(written, "int8")[1]
    batch = packed(tiny_rows((9, 4)))
    state = ours.embed(batch)
    with torch.inference_mode():
        great = state.hidden * 30
        expected = ours.run(replace(state, hidden=great), 0, 2).hidden
        found = theirs.run(replace(theirs.embed(batch), hidden=great), 0, 2).hidden
    alike = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert alike > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_comes_to_the_same_in_any_company(written: Path, kind: str) -> None:
    _, backbone = both(written, kind)
    rows = tiny_rows((12, 5, 1, 30))
    together = states(backbone, packed(rows)).split([len(row) for row in rows])
    for row, found in zip(rows, together, strict=True):
        torch.testing.assert_close(states(backbone, packed([row])), found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["distilbert", "roberta", "electra"])
def test_families_whose_layers_see_their_row_alone_are_exported(
    tmp_path: Path, family: str
) -> None:
    ours, theirs = (tiny_backbone(family) for _ in range(2))
    write_graphs(tiny_backbone(family), (1, 4), tmp_path)
    theirs.graphs = Graphs(tmp_path, 4)
    batch = packed(tiny_rows())
    torch.testing.assert_close(states(theirs, batch), states(ours, batch), rtol=1e-5, atol=1e-5)


def test_a_graph_ends_where_an_exit_is(written: Path) -> None:
    assert sorted(each.name for each in (written / "float32").iterdir()) == [
        "00-02.onnx",
        "02-04.onnx",
    ]
    _, theirs = both(written, "float32")
    batch = packed(tiny_rows())
    with pytest.raises(ValueError, match="layers 0 to 3 are no segments"):
        theirs.run(theirs.embed(batch), 0, 3)


def test_graphs_of_layers_as_format_1_has_them_are_read(written: Path, tmp_path: Path) -> None:
    write_graphs(tiny_backbone("bert"), range(5), tmp_path)
    for layer in range(4):
        (tmp_path / name_of(layer, layer + 1)).rename(tmp_path / f"{layer:02}.onnx")
    former, theirs = tiny_backbone("bert"), both(written, "float32")[1]
    former.graphs = Graphs(tmp_path, 4)
    batch = packed(tiny_rows())
    assert torch.equal(states(former, batch), states(theirs, batch))


def test_a_segment_that_is_too_large_for_a_file_is_parted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_by, "MOST_BYTES", 1)
    write_graphs(tiny_backbone("bert"), (4,), tmp_path)
    assert Graphs(tmp_path, 4).stops == {0: 1, 1: 2, 2: 3, 3: 4}


def test_layers_of_other_sizes_have_graphs_of_their_own(tmp_path: Path) -> None:
    shape = Shape((0, 2), ((0, 1), (3,)), (tuple(range(16)), tuple(range(32))))
    ours = shrink(tiny_backbone("bert"), shape)
    write_graphs(shrink(tiny_backbone("bert"), shape), (2,), tmp_path)
    theirs = shrink(tiny_backbone("bert"), shape)
    theirs.graphs = Graphs(tmp_path, 2)
    batch = packed(tiny_rows())
    torch.testing.assert_close(states(theirs, batch), states(ours, batch), rtol=1e-5, atol=1e-5)


def test_an_activation_without_an_operator_is_refused(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert", hidden_act="silu")
    with pytest.raises(FamilyError, match=r"activation 'silu' are not exported.*gelu, gelu_new"):
        write_graphs(backbone, (4,), tmp_path)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "relu"])
def test_other_activations_are_exported(tmp_path: Path, activation: str) -> None:
    ours, theirs = (tiny_backbone("bert", hidden_act=activation) for _ in range(2))
    write_graphs(ours, (4,), tmp_path)
    theirs.graphs = Graphs(tmp_path, 4)
    batch = packed(tiny_rows())
    torch.testing.assert_close(states(theirs, batch), states(ours, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_eight_bits_where_sums_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    """Elsewhere graphs of 8 bits are opened in the precise way, which others have no need of."""
    import onnx

    opened = watched_sessions(monkeypatch)
    monkeypatch.setattr(written_by.int8, "sums_exactly", lambda: bits == 8)
    write_graphs(tiny_backbone("bert"), (4,), tmp_path, sample=SAMPLE)
    arrays = onnx.load(tmp_path / name_of(0, 4)).graph.initializer
    most = [
        np.abs(onnx.numpy_helper.to_array(each).astype(int)).max()
        for each in arrays
        if each.data_type == 3
    ]
    assert set(most) == {2 ** (bits - 1) - 1}
    Graphs(tmp_path, 4)
    monkeypatch.setattr(graphs.int8, "sums_exactly", lambda: False)
    Graphs(tmp_path, 4)
    seen = [exact for _, exact in opened]
    assert seen == ([False, False, True] if bits == 8 else [False, False])


@pytest.mark.parametrize("family", ["qwen3", "modernbert", "deberta-v2", "mpnet"])
def test_families_whose_layers_take_more_are_refused(tmp_path: Path, family: str) -> None:
    with pytest.raises(FamilyError, match=r"not exported.*Leave the tier out of `export`"):
        write_graphs(tiny_backbone(family), (4,), tmp_path)


def test_rows_that_run_in_blocks_come_to_the_same(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled up in attention or not, a row sees itself alone."""
    batch = packed(tiny_rows((40, 40, 40, 12, 12, 3, 40)))
    _, whole = both(written, "float32")
    expected = states(whole, batch)
    monkeypatch.setattr(graphs, "MOST", 50)
    parts = blocks(batch.lengths)
    assert [(part.start, part.stop) for part in parts] == [(0, 1), (1, 2), (2, 4), (4, 7)]
    torch.testing.assert_close(states(whole, batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("three_threads")
def test_several_threads_come_to_the_same(
    written: Path, monkeypatch: pytest.MonkeyPatch, kind: str, shared: bool
) -> None:
    _, several = both(written, kind)
    torch.set_num_threads(1)
    _, one = both(written, kind)
    monkeypatch.setattr(graphs, "SHARED", 0 if shared else 10**12)
    for lengths in ((9,), (9, 8), (12, 9, 8), (40, 40, 40, 12, 12, 3, 2, 1)):
        batch = packed(tiny_rows(lengths))
        torch.testing.assert_close(states(several, batch), states(one, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("three_threads")
def test_threads_share_a_product_where_rows_are_few_and_work_is_much(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, backbone = both(written, "float32")
    opened = watched_sessions(monkeypatch)
    size = sum(each.stat().st_size for each in (written / "float32").iterdir()) // 4
    monkeypatch.setattr(graphs, "SHARED", 20 * size)
    states(backbone, packed(tiny_rows((10, 9))))  # too little
    states(backbone, packed(tiny_rows((10, 10, 10))))  # a row for each thread
    assert opened == []
    states(backbone, packed(tiny_rows((10, 10))))
    assert [threads for threads, _ in opened] == [3, 3]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 9))
def test_as_many_blocks_as_keep_all_threads_busy(lengths: list[int], threads: int) -> None:
    rows = np.array(sorted(lengths, reverse=True))
    parts = blocks(rows, threads)
    assert sum(p.stop - p.start for p in parts) == len(rows)
    assert len(parts) <= -(-(rows.sum() // MOST + 1) // threads) * threads
    if len(rows) >= threads and rows.max() * threads <= rows.sum():
        assert len(parts) >= threads


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_blocks_hold_every_row_once_and_few_tokens(lengths: list[int]) -> None:
    rows = np.array(sorted(lengths, reverse=True))
    parts = blocks(rows)
    assert np.concatenate([np.arange(p.start, p.stop) for p in parts]).tolist() == [
        *range(len(rows))
    ]
    assert all(p.stop - p.start == 1 or rows[p].sum() < MOST + rows[p].max() for p in parts)
    assert len(parts) <= rows.sum() // MOST + 1


def test_places_part_the_rows_of_a_batch() -> None:
    found = places(np.array([2, 3]))
    assert found["take"].tolist() == [[0, 1, 0], [2, 3, 4]]
    assert found["back"].tolist() == [0, 1, 3, 4, 5]
    assert np.isneginf(found["bias"][:, 0, 0]).tolist() == [[False, False, True], [False] * 3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tier_with_graphs_is_written_whole_and_loads_as_it_was(
    written: Path, tmp_path: Path, kind: str
) -> None:
    int8 = kind == "int8"
    tier = load_tier(written / "tier", int8=int8, graphs=written / kind)
    assert tier.in_graphs and tier.int8 == int8 and tier.source == written / "tier"
    save_tier(tier, tmp_path)
    again, batch = load_tier(tmp_path), packed(tiny_rows())
    assert again.in_graphs and again.int8 == int8
    assert isinstance(tier.backbone, Backbone) and isinstance(again.backbone, Backbone)
    assert torch.equal(states(again.backbone, batch), states(tier.backbone, batch))
    assert (tmp_path / "model.safetensors").read_bytes() == (
        written / "tier" / "model.safetensors"
    ).read_bytes()
    plain = in_torch(again)
    assert not plain.in_graphs and not plain.int8 and plain.source is None
    assert reference_of(again).in_float32 and not reference_of(again).in_graphs
    work = [[t.segment_work(exit) for exit in range(3)] for t in (again, plain)]
    assert work[0] == work[1] and again.parameter_count() == plain.parameter_count()


def test_weights_that_graphs_stand_for_take_no_memory(written: Path) -> None:
    tier = load_tier(written / "tier", graphs=written / "float32")
    assert isinstance(tier.backbone, Backbone)
    assert {each.device.type for each in tier.backbone.blocks.parameters()} == {"meta"}


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_graph_does_not_tell_where_it_was_written(written: Path, kind: str) -> None:
    graph = (written / kind / name_of(0, 2)).read_bytes()
    assert b".py" not in graph and b"forward" not in graph


def test_a_missing_or_damaged_graph_is_named(written: Path, tmp_path: Path) -> None:
    tier = load_tier(written / "tier", graphs=written / "float32")
    save_tier(tier, tmp_path)
    graph = tmp_path / FOLDER / name_of(2, 4)
    graph.write_bytes(graph.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"layers/02-04.onnx: is missing or no graph"):
        load_tier(tmp_path)
    graph.unlink()
    with pytest.raises(BundleError, match=r"layers/02\*.onnx: is missing; graphs of all 4 layers"):
        load_tier(tmp_path)


def test_a_graph_of_something_else_is_refused(written: Path, tmp_path: Path) -> None:
    import onnx

    shutil.copytree(written / "float32", tmp_path, dirs_exist_ok=True)
    model = onnx.load(tmp_path / name_of(0, 2))
    model.graph.input[0].name = "other"
    for node in model.graph.node:
        node.input[:] = ["other" if name == "hidden" else name for name in node.input]
    onnx.save(model, tmp_path / name_of(0, 2))
    with pytest.raises(BundleError, match=r"layers/00-02.onnx: is no graph of layers"):
        Graphs(tmp_path, 4)


def test_what_cannot_run_in_graphs_is_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tier.json.*found cpu and bfloat16"):
        load_tier(written / "tier", dtype=torch.bfloat16, graphs=written / "float32")
    save_tier(Tier("tiny", Bag(VOCABULARY, 16, 0), (0,), LABELS), tmp_path / "bag")
    with pytest.raises(BundleError, match="a bag has no layers"):
        load_tier(tmp_path / "bag", graphs=written / "float32")


def test_what_is_not_installed_is_named(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(BundleError, match=r"pip install 'adaptive-cascade\[onnx\]'"):
        Graphs(written / "float32", 4)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(BuildError, match=r"onnx is not.*pip install 'adaptive-cascade\[onnx\]'"):
        write_graphs(tiny_backbone("bert"), (4,), tmp_path)
