"""Data are cut into five disjoint parts by a seed, stratified; copies leave the first three."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_builds import context_of, recipe_in

from adaptive.config.recipe import SplitSizes
from adaptive.errors import DataError
from adaptive.training import prepare
from adaptive.training.data import Dataset, from_frame, from_memory
from adaptive.training.splits import PARTS, Splits, fold, make_splits


def make(count: int, classes: int = 2, prefix: str = "t") -> pd.DataFrame:
    labels = [f"c{i * classes // count}" for i in range(count)]  # sorted, as files often are
    return pd.DataFrame({"text": [f"{prefix}{i}" for i in range(count)], "label": labels})


def cut(data: Dataset, seed: int = 0, **sizes: Any) -> Splits:
    return make_splits(data, SplitSizes(**sizes), seed)


def parts(splits: Splits) -> dict[str, np.ndarray[Any, Any]]:
    return {part: getattr(splits, part) for part in PARTS}


def sizes_of(splits: Splits) -> list[int]:
    return [len(rows) for rows in parts(splits).values()]


def refusal(data: Dataset, **sizes: Any) -> str:
    with pytest.raises(DataError) as caught:
        cut(data, **sizes)
    return str(caught.value)


def test_parts_are_disjoint_and_use_every_row_by_default() -> None:
    splits = cut(from_frame(make(1000)))
    assert sorted(np.concatenate(list(parts(splits).values()))) == list(range(1000))
    assert sizes_of(splits) == [600, 100, 100, 100, 100]
    assert all(rows.dtype == np.int64 for rows in parts(splits).values())
    assert splits.report() == (
        "train 600, fit 100, search 100, certify 100, test 100 rows; "
        "0 left train, fit and search because certify or test has their text, 0 as copies; "
        "0 rows unused"
    )


def test_the_seed_decides() -> None:
    data = from_frame(make(500))
    first, again, other = cut(data, 1), cut(data, 1), cut(data, 2)
    for part in PARTS:
        assert np.array_equal(getattr(first, part), getattr(again, part))
        assert not np.array_equal(getattr(first, part), getattr(other, part))


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_every_label_is_spread_in_proportion(classes: int) -> None:
    data = from_frame(make(4000, classes))
    assert data.labels is not None
    for rows in parts(cut(data)).values():
        counts = np.bincount(data.labels[rows], minlength=classes)
        assert counts.max() - counts.min() <= 3


def test_the_rarest_label_is_trained_on() -> None:
    frame = make(300)
    frame.loc[[7, 200], "label"] = ["once", "also once"]
    for seed in range(5):
        assert {7, 200} <= set(cut(from_frame(frame), seed).train.tolist())


def test_sizes_are_rows_or_shares_and_the_rest_is_divided() -> None:
    data = from_frame(make(1000))
    splits = cut(data, fit=50, search=0.2, test=100)
    assert sizes_of(splits) == [557, 50, 200, 93, 100]  # 650 left, 6 to 1
    splits = cut(data, train=0.5, fit=0.1, search=0.1, certify=0.1, test=0.1)
    assert sizes_of(splits) == [500, 100, 100, 100, 100]
    assert len(splits.unused) == 100


def test_given_parts_stay_what_they_are() -> None:
    frames = {"train": make(300, 2, "a"), "validation": make(90, 2, "b"), "test": make(40, 2, "c")}
    data = from_frame(frames)
    assert data.split is not None
    splits = cut(data)
    assert sizes_of(splits) == [300, 30, 30, 30, 40]
    for part, rows in parts(splits).items():
        expected = part if part in ("train", "test") else "validation"
        assert set(data.split[rows]) == {expected}


def test_rows_taken_from_train_join_the_validation_rows_with_labels_in_proportion() -> None:
    frames = {"train": make(300, 3, "a"), "validation": make(60, 3, "b"), "test": make(40, 3, "c")}
    data = from_frame(frames)
    assert data.split is not None and data.labels is not None
    splits = cut(data, from_train=90, fit=50, search=50, certify=50)
    assert sizes_of(splits) == [210, 50, 50, 50, 40]
    assert len(set(np.concatenate(list(parts(splits).values())))) == 400
    held_out = np.concatenate([splits.fit, splits.search, splits.certify])
    assert (data.split[held_out] == "train").sum() == 90
    assert np.bincount(data.labels[splits.train]).tolist() == [70, 70, 70]
    elsewhere = cut(data, from_train=90, fit=20, search=100, certify=30)
    assert np.array_equal(splits.train, elsewhere.train)  # whatever the held-out rows serve for
    assert "301 wanted of 300" in refusal(data, from_train=301)


def test_train_rows_serve_where_there_are_no_validation_rows() -> None:
    data = from_frame({"train": make(900, 2, "a"), "test": make(40, 2, "c")})
    assert sizes_of(cut(data)) == [600, 100, 100, 100, 40]
    data = from_frame({"train": make(900, 2, "a"), "validation": make(90, 2, "b")})
    splits = cut(data)
    assert sizes_of(splits) == [771, 30, 30, 30, 129]


def test_a_text_that_train_repeats_is_not_both_trained_on_and_held_out() -> None:
    train = make(200, 2, "a")
    repeated = pd.concat([train, train], ignore_index=True)
    data = from_frame({"train": repeated, "validation": make(60, 2, "b"), "test": make(40, 2, "c")})
    splits = cut(data, from_train=100)
    texts = [{data.texts[i] for i in rows} for rows in parts(splits).values()]
    assert not any(a & b for n, a in enumerate(texts) for b in texts[:n])


def test_nothing_is_taken_from_train_where_no_rows_wait_for_it() -> None:
    assert "there are none" in refusal(from_frame(make(100)), from_train=10)


def texts_of(data: Dataset, splits: Splits) -> dict[str, list[str]]:
    return {part: [fold(data.texts[i]) for i in rows] for part, rows in parts(splits).items()}


def test_certify_and_test_hold_a_frequent_text_as_often_as_it_comes() -> None:
    frame = make(2000)
    often = np.random.default_rng(100).choice(2000, 1200, replace=False)
    frame.loc[often, "text"] = [f" Cancel  MY order{' ' * (i % 3)}" for i in often]
    data = from_frame(frame)
    splits = cut(data)
    held = texts_of(data, splits)
    for part in ("certify", "test"):
        assert len(held[part]) == 200
        assert held[part].count("cancel my order\0") / 200 == pytest.approx(0.6, abs=0.08)
    for part in ("train", "fit", "search"):
        assert "cancel my order\0" not in held[part]
    left = 2000 - sum(sizes_of(splits))
    assert splits.known == splits.duplicates == left > 900 and not splits.repeated
    assert f"{left:,} left train, fit and search" in splits.report()


def test_no_text_to_learn_or_search_on_stands_twice_or_is_judged_on() -> None:
    frame = make(4000)
    frame.loc[::2, "text"] = [f" T{i}\t " for i in range(1, 4000, 2)]  # as the next row, folded
    data = from_frame(frame)
    splits = cut(data)
    held = texts_of(data, splits)
    learnt = held["train"] + held["fit"] + held["search"]
    assert len(set(learnt)) == len(learnt)
    assert not set(learnt) & set(held["certify"] + held["test"])
    assert len(held["certify"]) == len(held["test"]) == 400
    assert splits.repeated > 0 < splits.known
    assert len(learnt) == 3200 - splits.known - splits.repeated


def test_search_keeps_a_text_before_fit_and_fit_before_train() -> None:
    frame = make(1000)
    dealt = cut(from_frame(frame))  # the texts do not decide which row goes where
    train, fit, search = (getattr(dealt, part).tolist() for part in PARTS[:3])
    frame.loc[train[:3], "text"] = frame.loc[search[:3], "text"].to_numpy()
    frame.loc[train[3:5], "text"] = frame.loc[fit[3:5], "text"].to_numpy()
    frame.loc[fit[0], "text"] = frame.loc[search[0], "text"]
    splits = cut(from_frame(frame))
    assert splits.train.tolist() == train[5:]
    assert splits.fit.tolist() == fit[1:]
    assert splits.search.tolist() == search
    assert (splits.known, splits.repeated) == (0, 6)


def test_of_a_text_in_train_and_test_the_train_row_leaves() -> None:
    test, validation, train = make(40, 2, "c"), make(90, 2, "b"), make(300, 2, "a")
    train.loc[:4, "text"] = test.loc[:4, "text"].str.upper()
    train.loc[5:7, "text"] = validation.loc[5:7, "text"]
    train.loc[20, "text"] = train.loc[21, "text"]
    test.loc[1, "text"] = test.loc[0, "text"]  # given test rows are never touched
    data = from_frame({"train": train, "validation": validation, "test": test})
    splits = cut(data)
    assert splits.duplicates == 4 + 3 + 1
    assert len(splits.test) == 40
    assert len(splits.train) == 300 - 8
    held_out = {data.texts[row] for part in PARTS[1:] for row in getattr(splits, part)}
    assert not held_out & {data.texts[row].lower() for row in splits.train}


def test_stored_steps_of_data_without_repeats_stay_good(tmp_path: Path) -> None:
    context = context_of(recipe_in(tmp_path), tmp_path)
    texts, labels = [f"t{i}" for i in range(40)], [i % 2 for i in range(40)]
    plain = replace(context, data=from_memory(texts, labels))
    repeated = replace(context, data=from_memory(["T0", *texts[:-1]], labels))
    assert "copies" in prepare.STEP.reads(repeated)
    assert "copies" not in prepare.STEP.reads(plain)


def test_too_few_rows_left_behind_copies_are_told() -> None:
    frame = make(200)
    frame.loc[:, "text"] = "same"
    assert "search keeps 0 of 20 without texts that stand in other parts" in refusal(
        from_frame(frame)
    )


def test_a_label_whose_train_rows_all_left_is_told() -> None:
    frame = make(400)
    frame.loc[390:, ["text", "label"]] = ["same", "other"]
    assert "in none of train's rows, once copies left train" in refusal(from_frame(frame))


def test_pairs_are_the_same_only_if_both_texts_are() -> None:
    count = 200
    texts, labels = ["same"] * count, [i % 2 for i in range(count)]
    assert cut(from_memory(texts, labels, [f"p{i}" for i in range(count)])).duplicates == 0
    assert fold("a b", "c") != fold("a", "b c")


def test_text_without_labels_is_cut_as_well() -> None:
    splits = cut(from_memory([f"t{i}" for i in range(200)]))
    assert sizes_of(splits) == [120, 20, 20, 20, 20]


def test_too_few_rows_are_told_with_the_file_and_both_numbers() -> None:
    data = from_frame(make(60))
    assert "data: too few rows, 60 give train 36, fit 6" in refusal(data)
    assert "data: too few rows, 100 wanted of 60" in refusal(data, train=100)
    many = from_frame(make(100, 50))
    assert "20 train rows for 50 labels" in refusal(many, train=20, fit=20, search=20, certify=20)


def test_one_class_only_is_told_with_its_rows() -> None:
    assert "one class only, all 200 train rows have the same label" in refusal(
        from_frame(make(200, 1))
    )


def test_a_label_that_no_train_row_has_is_told_by_file_and_row() -> None:
    test = make(40, 2, "c")
    test.loc[12, "label"] = "new"
    message = refusal(from_frame({"train": make(400), "test": test}))
    assert message.startswith("test, row 13: its label is in test and in none of train's rows")


def test_a_source_of_test_rows_alone_cannot_be_split() -> None:
    assert "expected train rows, found only test rows" in refusal(from_frame({"test": make(40)}))
