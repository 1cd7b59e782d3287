"""Training parts on tiny modules and arrays: no recipe, no step, no work folder."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_transformers import tiny_backbone

from adaptive.measure.recording import record
from adaptive.text import tokens as token_rows
from adaptive.tiers.bag import Bag
from adaptive.tiers.tier import Tier
from adaptive.training.learn import recorded as pieces
from adaptive.training.learn import teacher as teachers
from adaptive.training.learn.answers import answers_of, share_right
from adaptive.training.learn.distill import distill
from adaptive.training.learn.exits import fit_exits, held_out_exits, with_fresh_exits
from adaptive.training.learn.loop import Options, fit
from adaptive.training.learn.prune import prune
from adaptive.training.learn.recorded import Kept
from adaptive.training.learn.teacher import (
    Teacher,
    outputs_of,
    read_outputs,
    write_outputs,
)
from adaptive.training.learn.tune import fine_tune
from adaptive.training.record_outcomes import calibrate
from adaptive.types import Tokens

ROWS, LABELS = 96, ("few", "many")


def texts(rows: int = ROWS, seed: int = 0) -> tuple[Tokens, np.ndarray]:
    """Rows of 3 to 9 tokens whose label their first token tells."""
    rng = np.random.default_rng(seed)
    lengths, labels = rng.integers(3, 10, rows), np.arange(rows, dtype=np.int32) % 2
    offsets = np.concatenate([[0], lengths.cumsum()])
    ids = rng.integers(10, 60, offsets[-1]).astype(np.int32)
    ids[offsets[:-1]] = 5 + labels
    return Tokens(ids, offsets, None, np.arange(rows), np.zeros(rows, np.bool_)), labels


def made() -> Tier:
    """An untrained tier of four layers with an exit behind each."""
    return Tier("full", tiny_backbone("bert", 2), range(5), LABELS)


@pytest.fixture(scope="module")
def tuned() -> Tier:
    """A tier that has learnt its labels. Not to be changed."""
    tier, (tokens, labels) = made(), texts()
    before = share_right(answers_of(tier, tokens), labels)
    assert fine_tune(tier, tokens, labels, Options("full", 6, 8, 3e-3)) == 6 * ROWS // 8
    assert share_right(answers_of(tier, tokens), labels) > max(0.9, before)
    return tier


@pytest.fixture(scope="module")
def teacher(tuned: Tier) -> Teacher:
    tokens, labels = texts()
    logits, pooled = outputs_of(tuned, tokens)
    return Teacher(tokens, labels, logits, pooled.unbind())


def test_the_loop_keeps_the_best_weights_without_a_folder() -> None:
    model, scores = torch.nn.Linear(1, 1), iter([1.0, 3.0, 2.0, 0.0])
    kept: list[torch.Tensor] = []

    def held_out() -> float:
        kept.append(model.weight.detach().clone())
        return next(scores)

    fit(model, lambda rows: model(torch.ones(len(rows), 1)).sum(), np.ones(8, np.int64),
        Options("net", 4, 4, 0.1), held_out=held_out)  # fmt: skip
    assert torch.equal(model.weight, kept[1])


def test_a_student_learns_from_a_teachers_tensors(teacher: Teacher, tuned: Tier) -> None:
    unlabelled = Teacher(
        teacher.tokens, np.full(ROWS, -1, np.int32), teacher.logits, teacher.pooled
    )
    table = tuned.backbone.embedding_table.detach()
    torch.manual_seed(0)
    bag = Tier("tiny", Bag.from_table(table, 16, 64), (0,), LABELS)
    distill(bag, unlabelled, Options("tiny", 20, 8, 2e-2))
    tokens, labels = texts(seed=1)
    assert share_right(answers_of(bag, tokens), labels) > 0.9


def test_a_pruned_tier_is_smaller_and_learns_back(teacher: Teacher, tuned: Tier) -> None:
    small, shape = prune(tuned, teacher.tokens, layers=2, heads=0.5, ffn=0.5, batches=2)
    assert (len(shape.layers), small.depths) == (2, (0, 1, 2))
    assert [len(heads) for heads in shape.heads] == [2, 2]
    assert [len(each) for each in shape.widths] == [24, 24]
    imitate = dict(enumerate([0, *shape.layers[1:], 4]))
    distill(small, teacher, Options("mid", 6, 8, 3e-3), imitate=imitate, hidden_weight=0.1)
    tokens, labels = texts(seed=1)
    assert share_right(answers_of(small, tokens), labels) > 0.9


def test_a_student_of_full_depth_begins_as_the_full_tier(teacher: Teacher, tuned: Tier) -> None:
    deep, _ = prune(tuned, teacher.tokens, layers=4, batches=1)
    batch = token_rows.pack(teacher.tokens, np.arange(8), torch.device("cpu"))
    with torch.inference_mode():
        for depth in range(5):
            own, began = (each.backbone.run(each.embed(batch), 0, depth) for each in (tuned, deep))
            torch.testing.assert_close(began.hidden, own.hidden)


def test_what_cannot_be_pruned_is_refused(teacher: Teacher, tuned: Tier) -> None:
    table = tuned.backbone.embedding_table.detach()
    bag = Tier("tiny", Bag.from_table(table, 16, 64), (0,), LABELS)
    with pytest.raises(ValueError, match="'tiny' is a bag"):
        prune(bag, teacher.tokens, layers=1)
    with pytest.raises(ValueError, match="5 layers to keep, of 4"):
        prune(tuned, teacher.tokens, layers=5)


def test_exits_are_fitted_on_states_and_run_no_layer(
    teacher: Teacher, tuned: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = with_fresh_exits(tuned)
    measure = held_out_exits(tier, *texts(seed=1))
    last = {name: value.clone() for name, value in tier.heads[-1].state_dict().items()}
    before = measure()
    with monkeypatch.context() as patch:
        patch.setattr(type(tier.backbone), "run", None)
        fit_exits(tier, teacher, Options("exits", 12, 8, 1e-2))
    assert measure() > max(0.75, before)
    for name, value in tier.heads[-1].state_dict().items():
        assert torch.equal(value, last[name])
    alone = Tier("full", tuned.backbone, (4,), LABELS)
    assert fit_exits(alone, teacher, Options("exits", 1, 8, 1e-2)) == 0


def test_outputs_in_files_are_those_in_memory(
    tuned: Tier, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "BATCH", 8)
    monkeypatch.setattr(teachers, "SHARD", 0)  # so that a file holds one batch
    write_outputs(tuned, token_rows.select(teacher.tokens, np.arange(20)), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"outputs-0000{n}.safetensors" for n in range(3)
    ]
    logits, pooled = read_outputs(tmp_path)
    rows = np.array([19, 3, 8, 3, 0])
    assert len(logits) == 20
    torch.testing.assert_close(logits[rows], teacher.logits[rows], atol=2e-2, rtol=1e-2)
    for mine, theirs in zip(pooled, teacher.pooled, strict=True):
        torch.testing.assert_close(mine[rows], theirs[rows], atol=2e-2, rtol=1e-2)


def test_files_of_before_there_were_shards_are_read(tmp_path: Path) -> None:
    pooled = torch.arange(24).half().reshape(2, 4, 3)
    save_file({"logits": pooled[0].clone(), "pooled": pooled}, tmp_path / "teacher.safetensors")
    logits, states = read_outputs(tmp_path)
    rows = np.array([3, 1])
    assert torch.equal(logits[rows], pooled[0][rows])
    assert torch.equal(states[1][rows], pooled[1][rows])


def test_an_interrupted_teacher_goes_on_at_its_first_missing_file(
    tuned: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "BATCH", 8)
    monkeypatch.setattr(teachers, "SHARD", 0)
    write_outputs(tuned, texts(20)[0], tmp_path)
    (tmp_path / "outputs-00001.safetensors").unlink()
    asked: list[int] = []

    def counted(tier: Tier, tokens: Tokens, **how: Any) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(len(tokens))
        return outputs_of(tier, tokens, **how)

    monkeypatch.setattr(teachers, "outputs_of", counted)
    write_outputs(tuned, texts(20)[0], tmp_path)
    assert asked == [8]


class Alive:
    """Of the results of some functions, how many rows were in memory whenever one was called."""

    def __init__(self) -> None:
        self.kept: list[tuple[weakref.ref[torch.Tensor], int]] = []
        self.before: list[int] = []
        self.largest = 0  # rows of one result

    def watch(
        self, run: Callable[..., Any], states: Callable[[Any], list[torch.Tensor]], rows: int
    ) -> Callable[..., Any]:
        """The function, its results' pooled states counted; `rows` is the axis that they lie on."""

        def counted(*given: Any, **named: Any) -> Any:
            self.before.append(sum(size for each, size in self.kept if each() is not None))
            found = run(*given, **named)
            sizes = [(weakref.ref(each), each.shape[rows]) for each in states(found)]
            self.kept += sizes
            self.largest = max(self.largest, *(size for _, size in sizes))
            return found

        return counted


@pytest.mark.parametrize("rows", [24, 96])
def test_what_a_teacher_keeps_in_memory_does_not_grow_with_its_rows(
    rows: int, tuned: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "BATCH", 8)
    monkeypatch.setattr(teachers, "SHARD", 0)
    alive = Alive()
    watched = alive.watch(outputs_of, lambda found: [found[1]], rows=1)
    monkeypatch.setattr(teachers, "outputs_of", watched)
    write_outputs(tuned, texts(rows)[0], tmp_path)
    assert len(alive.before) == rows // 8
    assert alive.largest == 8 and max(alive.before) <= 8  # the file that was written last
    _, pooled = read_outputs(tmp_path)
    assert all(isinstance(part, np.memmap) for each in pooled for part in each.parts)
    assert pooled[0][np.array([1, 2])].shape == (2, 32)


def two_exits(tuned: Tier) -> Tier:
    """The same backbone with fresh heads before and behind all layers."""
    torch.manual_seed(0)
    return Tier("full", tuned.backbone, (0, 4), LABELS)


def test_records_in_pieces_are_those_of_all_rows_at_once(
    tuned: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier, (tokens, labels) = two_exits(tuned), texts()
    full = record([tier], tokens, 16)
    monkeypatch.setattr("adaptive.measure.recording.ROWS", 40)
    kept = Kept(pieces.recorded([tier], tokens, 16), tmp_path, torch.device("cpu"))
    assert [len(each.tokens) for each in kept] == [40, 40, 16]
    for name in ("logits", "pooled"):
        for k, whole in enumerate(getattr(full, name)):
            joined = torch.cat([getattr(each, name)[k] for each in kept])
            torch.testing.assert_close(joined, whole, atol=1e-5, rtol=1e-5)
    (some, told), (every, whole_told) = calibrate(kept, labels), calibrate([full], labels)
    torch.testing.assert_close(some.temperature, every.temperature, atol=1e-3, rtol=1e-3)
    assert told["calibration_error"] == pytest.approx(whole_told["calibration_error"], abs=1e-3)
    kept.remove()
    assert not list(tmp_path.iterdir())


def test_of_what_stages_computed_one_piece_is_in_memory(
    tuned: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier, (tokens, labels), alive = two_exits(tuned), texts(), Alive()
    monkeypatch.setattr("adaptive.measure.recording.ROWS", 16)

    def pooled(found: Any) -> list[torch.Tensor]:
        return [found["pooled.1"]] if isinstance(found, dict) else [found.pooled[1]]

    for name in ("record", "load_file"):
        monkeypatch.setattr(pieces, name, alive.watch(getattr(pieces, name), pooled, rows=0))
    calibrate(Kept(pieces.recorded([tier], tokens, 16), tmp_path, torch.device("cpu")), labels)
    assert len(alive.before) > 2 * 6  # six pieces, gone over more than once
    assert alive.largest == 16 and max(alive.before) <= 16
