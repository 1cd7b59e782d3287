"""How long parts train where a recipe does not say, and when they stop early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_builds import context_of, recipe_in, write_data, write_model
from torch import nn

from adaptive.config.steps import BagConfig, ExitsConfig, FullConfig, MidConfig, TransformerConfig
from adaptive.config.tiers import PrunedTier
from adaptive.tiers.surgery import Shape
from adaptive.training.build import build
from adaptive.training.epochs import LEAST, MOST, epochs_for, held_rows
from adaptive.training.learn.answers import answers_of
from adaptive.training.learn.loop import Options, fit
from adaptive.training.mid import cut
from adaptive.training.parts import load_built
from adaptive.training.rows import load_rows
from adaptive.training.teach import load_teacher


@pytest.mark.parametrize("rows", [1, 100, 2_000, 5_000, 15_000, 60_000, 1_000_000])
def test_few_rows_get_more_epochs_and_many_fewer(rows: int) -> None:
    epochs = epochs_for(None, rows, 32, 1000)
    batches = -(-rows // 32)
    assert LEAST <= epochs <= MOST
    assert epochs == MOST or epochs * batches >= 1000
    assert epochs == LEAST or (epochs - 1) * batches < 1000


def test_given_epochs_are_taken_as_they_are() -> None:
    assert [epochs_for(given, 100, 32, 1000) for given in (1, 7, 99)] == [1, 7, 99]


@pytest.mark.parametrize(
    "section",
    [
        FullConfig(),
        MidConfig(layers=1),
        BagConfig(kind="bag"),
        TransformerConfig(kind="transformer"),
        ExitsConfig(),
    ],
    ids=["full", "mid", "bag", "transformer", "exits"],
)
def test_no_section_counts_epochs_unless_it_is_told_to(section: Any) -> None:
    assert section.epochs is None


class Trained:
    """A net that is measured after each epoch of three batches by what `scores` says."""

    def __init__(self, folder: Path, scores: Sequence[float], epochs: int, **how: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.asked, self.calls, self.weights = 0, 0, []
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.scores, self.stop_at = scores, how.get("stop_at")
        measure: Callable[[], float] | None = self.measure if how.get("measured", True) else None
        options = Options("net", epochs, 4, 0.1, seed=1)
        lengths = np.ones(12, np.int64)
        self.done = fit(self.net, self.loss, lengths, options, folder, held_out=measure)

    def loss(self, rows: Any) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return (self.net(torch.ones(len(rows), 2)) - 5).square().mean()

    def measure(self) -> float:
        assert not self.net.training
        self.weights.append(self.state())
        self.asked += 1
        return self.scores[self.calls // 3 - 1 + self.before()]

    def before(self) -> int:
        """Epochs that an interrupted run had done."""
        return 0

    def state(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.net.parameters()])


def test_the_best_epochs_weights_are_kept(tmp_path: Path) -> None:
    found = Trained(tmp_path / "run", [0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8], 8)
    assert torch.equal(found.state(), found.weights[1])
    assert not found.net.training
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_of_equal_epochs_the_last_is_kept(tmp_path: Path) -> None:
    found = Trained(tmp_path / "run", [0.5, 0.9, 0.9, 0.9], 4)
    assert torch.equal(found.state(), found.weights[3])


def test_training_stops_where_half_of_the_epochs_were_no_better(tmp_path: Path) -> None:
    found = Trained(tmp_path / "run", [0.1, 0.2, 0.3] + [0.0] * 9, 12)
    assert (found.asked, found.done) == (9, 27)
    assert torch.equal(found.state(), found.weights[2])


def test_training_that_gets_better_and_better_takes_all_epochs(tmp_path: Path) -> None:
    found = Trained(tmp_path / "run", [number / 12 for number in range(12)], 12)
    assert (found.asked, found.done) == (12, 36)


def test_without_a_measure_all_epochs_are_trained(tmp_path: Path) -> None:
    found = Trained(tmp_path / "run", [], 12, measured=False)
    assert (found.asked, found.done) == (0, 36)


def test_measuring_changes_nothing_of_what_is_learnt(tmp_path: Path) -> None:
    plain = Trained(tmp_path / "plain", [], 3, measured=False)
    measured = Trained(tmp_path / "measured", [0.1, 0.2, 0.3], 3)
    assert torch.equal(plain.state(), measured.state())


@pytest.mark.parametrize("stop_at", [2, 8, 12, 16, 27])
def test_interrupted_anywhere_it_ends_with_the_same_best_weights(
    tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches an epoch; the best is the third of nine that are trained."""
    scores = [0.1, 0.2, 0.3] + [0.0] * 9
    whole = Trained(tmp_path / "whole", scores, 12)
    with pytest.raises(KeyboardInterrupt):
        Trained(tmp_path / "broken", scores, 12, stop_at=stop_at)
    checkpoint = tmp_path / "broken" / "net.checkpoint.safetensors"
    before = int(load_file(checkpoint)["step"]) // 3 if checkpoint.is_file() else 0
    assert before == (stop_at - 1) // 3
    monkeypatch.setattr(Trained, "before", lambda self: before)
    resumed = Trained(tmp_path / "broken", scores, 12)
    assert resumed.done == whole.done == 27
    assert resumed.asked == 9 - before
    assert torch.equal(resumed.state(), whole.state())


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Every part trained by default, on text whose labels only the full tier gives."""
    folder = tmp_path_factory.mktemp("unlabelled")
    write_model(folder / "model", labels=("bad", "good"))
    write_data(folder / "data.csv", 300)
    small: dict[str, Any] = {
        "full": {"tune": "none"},
        "data": {"label": None, "splits": {"train": 80, "fit": 40, "search": 40, "certify": 40}},
        "mid": {"layers": 1, "epochs": None},
        "tiny": {"kind": "bag", "width": 16},
        "exits": {"epochs": None},
        "target": {"metric": "agreement", "level": 0.8},
    }
    recipe = recipe_in(folder, small)
    build(recipe, folder / "run", quiet=True, until="mid")
    return context_of(recipe, folder / "run"), folder


def test_without_labels_the_full_tiers_answers_are_what_is_held_out(
    unlabelled: tuple[Any, Path],
) -> None:
    context, _ = unlabelled
    tokens, right = held_rows(context)
    assert (load_rows(context.folder("data") / "fit.safetensors")[1] < 0).all()
    full = load_built(context, "full")
    np.testing.assert_array_equal(right, answers_of(full, tokens))


def test_every_part_tells_its_optimiser_steps(unlabelled: tuple[Any, Path]) -> None:
    """80 rows and 320 made-up ones: 50 batches of mid's, 7 of the others'; 30 epochs at most."""
    context, _ = unlabelled
    for step, batches in (("mid", 50), ("tiny", 7), ("exits", 7)):
        done = context.figures(step)["optimiser_steps"]
        assert done % batches == 0 and LEAST * batches <= done <= MOST * batches
    assert "optimiser_steps" not in context.figures("full")  # taken as it is


def test_many_held_out_rows_are_thinned_evenly(
    unlabelled: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = unlabelled
    monkeypatch.setattr("adaptive.training.epochs.HELD_OUT", 4)
    every = load_rows(context.folder("data") / "fit.safetensors")[0]
    tokens, right = held_rows(context)
    assert len(tokens) == len(right) == 4
    ends = [tokens.ids[: tokens.lengths[0]], tokens.ids[-tokens.lengths[-1] :]]
    np.testing.assert_array_equal(ends[0], every.ids[: every.lengths[0]])
    np.testing.assert_array_equal(ends[1], every.ids[-every.lengths[-1] :])


@pytest.mark.parametrize(
    ("given", "layers"), [({}, [0]), ({"keep": "important"}, None), ({"keep": "first"}, [0])]
)
def test_a_mid_tier_keeps_the_first_layers_unless_told_otherwise(
    unlabelled: tuple[Any, Path], given: dict[str, str], layers: list[int] | None
) -> None:
    context, _ = unlabelled
    (_, mid) = context.recipe.small
    assert isinstance(mid, PrunedTier)
    config = mid.model_copy(update={"layers": 1, "epochs": None, **given})
    full = load_built(context, "full")

    def kept(config: PrunedTier) -> Shape:
        return cut(config, full, load_teacher(context).tokens, context.recipe.seed)[1]

    shape = kept(config)
    important = kept(config.model_copy(update={"keep": "important"}))
    assert list(shape.layers) == (layers or list(important.layers))
    given_epochs = config.model_copy(update={"keep": given.get("keep"), "epochs": 3})
    found = kept(given_epochs).layers
    assert found == (shape.layers if given else important.layers)
