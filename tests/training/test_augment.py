"""Made-up texts are pieces of training texts, whole at their ends, and short enough."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.config import Recipe
from adaptive.training.augment import augment
from adaptive.training.teach import copies_for
from adaptive.types import Tokens

CLS, SEP = 101, 102
SPECIAL = frozenset({CLS, SEP})


def rows_of(tokens: Tokens) -> list[list[int]]:
    return [row.tolist() for row in np.split(tokens.ids, tokens.offsets[1:-1])]


def make(rows: list[list[int]]) -> Tokens:
    lengths = [len(row) for row in rows]
    return Tokens(
        np.concatenate([np.array(row, np.int32) for row in rows]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.zeros(sum(lengths), np.int8),
        np.arange(len(rows)),
        np.zeros(len(rows), np.bool_),
    )


def text(first: int, words: int) -> list[int]:
    """A row whose words count upwards, so that a piece of it can be told."""
    return [CLS, *range(first, first + words), SEP]


def runs(words: list[int]) -> list[list[int]]:
    """Maximal runs that count upwards."""
    found: list[list[int]] = []
    for word in words:
        if found and word == found[-1][-1] + 1:
            found[-1].append(word)
        else:
            found.append([word])
    return found


def test_every_row_gets_its_copies_of_one_or_two_pieces_between_the_special_tokens() -> None:
    sources = [text(1000 * i, 20) for i in range(1, 9)]
    made = rows_of(augment(make(sources), 5, SPECIAL, 64, seed=0))
    assert len(made) == 40
    counts = set()
    for row in made:
        assert row[0] == CLS and row[-1] == SEP
        assert not SPECIAL & set(row[1:-1])
        pieces = runs(row[1:-1])
        counts.add(len(pieces))
        for piece in pieces:
            assert piece[0] // 1000 == piece[-1] // 1000
            assert 8 <= len(piece) <= 18
    assert counts == {1, 2}


def test_made_up_rows_are_no_longer_than_the_limit() -> None:
    made = augment(make([text(1000, 30), text(2000, 30)]), 20, SPECIAL, 16, seed=0)
    assert made.lengths.max() == 16
    assert all(row[-1] == SEP for row in rows_of(made))


def test_rows_without_words_stay_without() -> None:
    made = rows_of(augment(make([[CLS, SEP], [CLS, SEP]]), 2, SPECIAL, 16, seed=0))
    assert made == [[CLS, SEP]] * 4


def test_the_seed_decides() -> None:
    source = make([text(1000 * i, 12) for i in range(1, 5)])
    first, again, other = (augment(source, 3, SPECIAL, 64, seed) for seed in (0, 0, 1))
    assert (first.ids == again.ids).all()
    assert len(first.ids) != len(other.ids) or (first.ids != other.ids).any()


BARE = {
    "name": "b",
    "output": "o",
    "model": {"id": "m"},
    "data": {"source": "d"},
    "mid": {"layers": 2},
    "tiny": {"kind": "bag"},
}


@pytest.mark.parametrize(
    ("rows", "copies"),
    [(0, 0), (50, 4), (2_000, 4), (2_500, 3), (5_000, 1), (9_000, 0)],
)
def test_few_texts_get_some_made_up_by_default(rows: int, copies: int) -> None:
    assert copies_for(Recipe.model_validate(BARE), rows) == copies


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": {"augment": 0}},
        {"mid": {"layers": 2, "epochs": 1}},
        {"tiny": {"kind": "bag", "epochs": 1}},
        {"data": {"source": "d", "pair": "other"}},
    ],
)
def test_none_are_made_up_where_the_recipe_says_so_or_how_long_students_learn(change: dict) -> None:
    assert copies_for(Recipe.model_validate(BARE | change), 2_000) == 0


def test_the_number_that_a_recipe_asks_for_is_made() -> None:
    asked = {"teacher": {"augment": 7}, "mid": {"layers": 2, "epochs": 1}}
    assert copies_for(Recipe.model_validate(BARE | asked), 10**6) == 7
