"""Step `data`: load, split, tokenise. Later steps see token rows only, never text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.cells import Labels, unknown_like
from adaptive.config.recipe import Recipe
from adaptive.errors import BuildError, DataError
from adaptive.routers.features import log_frequencies
from adaptive.text import redact as personal
from adaptive.text import tokens as token_rows
from adaptive.tiers.find import find_source
from adaptive.tiers.source import read_config
from adaptive.tiers.vocabulary import length_of, load_tokenizer, vocabulary_of
from adaptive.training.data import Dataset, load_data, with_pool
from adaptive.training.rows import save_rows
from adaptive.training.splits import Splits, fold, make_splits, repeats
from adaptive.training.steps import Context, Figures, Step
from adaptive.types import Tokens

SPLITS = ("train", "fit", "search", "certify", "test")


def _reads(context: Context) -> Any:
    """The recipe's data section and the texts themselves."""
    recipe = context.recipe
    digest = hashlib.sha256()
    main = load_whole(recipe, context.data)
    for dataset in (main, *load_unlabelled(recipe)):
        for text in (*dataset.texts, *(dataset.pairs or ())):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        if dataset.labels is not None:
            digest.update(dataset.labels.tobytes())
    return {
        "seed": recipe.seed,
        # without a pool the files of builds before there were any stay good
        "data": recipe.data.model_dump(
            mode="json", exclude={"pool"} if recipe.data.pool is None else None
        ),
        "content": digest.hexdigest(),
        "tokenizer": [recipe.model.id, recipe.model.revision, recipe.model.max_length],
        "as it is": recipe.last.tune == "none",
        # named only where it matters, so that the files of other builds stay good
        **({} if recipe.task.kind == "single_label" else {"task": recipe.task.model_dump()}),
        **({"copies": "leave after dealing"} if repeats(main) else {}),
        **({"redact": recipe.redact} if recipe.redact else {}),
    }


def load_whole(recipe: Recipe, data: Dataset | None = None, groups: Sequence[str] = ()) -> Dataset:
    """A recipe's data, with its pool behind them if it names one, redacted if it says so.

    Args:
        data: in memory, in place of the recipe's source.
        groups: columns that divide the rows.
    """
    if data is None:
        data, pool = (
            load_data(recipe.data, recipe.seed, groups, recipe.task.cells),
            recipe.data.pool,
        )
        data = data if pool is None else with_pool(data, load_data(pool, recipe.seed))
    return redacted(data, recipe)


def load_unlabelled(recipe: Recipe) -> list[Dataset]:
    """A recipe's texts for distillation, a data set each source, redacted if it says so."""
    return [redacted(load_data(source, recipe.seed), recipe) for source in recipe.data.unlabelled]


def redacted(data: Dataset, recipe: Recipe) -> Dataset:
    """The data without the personal data that the recipe says its cascade shall not read.

    Raises:
        BuildError: it is not installed that finds them.
    """
    if not recipe.redact:
        return data
    if why := personal.lacking():
        raise BuildError(f"redact: {why}; or leave `redact` out of the recipe")
    return replace(
        data,
        texts=personal.redact(data.texts, recipe.redact),
        pairs=data.pairs and personal.redact(data.pairs, recipe.redact),
    )


def load_splits(
    recipe: Recipe, data: Dataset | None = None, groups: Sequence[str] = ()
) -> tuple[Dataset, Splits]:
    """A recipe's data and their splits, the same ones at every call.

    Args:
        data: in memory, in place of the recipe's source.
        groups: columns that divide the rows.

    Raises:
        DataError: the data are wrong; the message names file and row.
    """
    dataset = load_whole(recipe, data, groups)
    if dataset.labels is not None and dataset.cells != recipe.task.cells:
        raise DataError(
            f"{dataset.name}: the labels in memory were not read as those of a {recipe.task.kind} "
            "task; give load_data the recipe's `task`"
        )
    seed = recipe.seed if recipe.data.seed is None else recipe.data.seed
    return dataset, make_splits(dataset, recipe.data.splits, seed)


def _work(context: Context, folder: Path) -> Figures:
    recipe = context.recipe
    dataset, splits = load_splits(recipe, context.data)
    model = find_source(recipe.model.id, recipe.model.revision)
    tokenizer = load_tokenizer(model, recipe.model.id)
    limit = length_of(read_config(model), tokenizer)
    length = recipe.model.max_length or limit
    figures: Figures = {
        "duplicates": splits.duplicates,
        "known": splits.known,  # of the duplicates, those that certify or test has
        "max_length": length,
        "pairs": dataset.pairs is not None,
    }
    names = output_names(recipe, dataset.label_names, model)
    labels = dataset.labels_or_unknown(len(names))
    long: list[NDArray[np.int64]] = []  # rows that are cut
    longest = 0
    for name in SPLITS:
        rows = getattr(splits, name)
        tokens = _tokenize(tokenizer, dataset, rows, length)
        save_rows(folder / f"{name}.safetensors", tokens, labels[rows])
        figures[name] = len(rows)
        long.append(rows[tokens.truncated])
        longest = max(longest, int(tokens.lengths.max(initial=0)))
        if name == "train":
            frequency = log_frequencies(tokens, vocabulary_of(tokenizer))
            np.save(folder / "log_frequency.npy", frequency, allow_pickle=False)
    figures["longest"] = longest  # tokens of a row, cut
    rows_in_all = sum(figures[name] for name in SPLITS)
    figures |= _cut(recipe, tokenizer, dataset, np.concatenate(long), rows_in_all, limit)
    extra = _save_unlabelled(recipe, dataset, splits, tokenizer, folder, length, labels)
    figures |= {"unlabelled": len(extra), "unlabelled_cut": int(extra.truncated.sum())}
    if figures["unlabelled_cut"]:
        told = f"{figures['unlabelled_cut']:,} of {len(extra):,} unlabelled texts have more than"
        warning = f"{told} {length} tokens and are cut there"
        figures["warnings"] = [*figures.get("warnings", ()), warning]
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    (folder / "labels.json").write_text(json.dumps(names), encoding="utf-8")
    return figures | {"classes": len(names)}


def _cut(
    recipe: Recipe,
    tokenizer: Any,
    dataset: Dataset,
    long: NDArray[np.int64],
    rows: int,
    limit: int,
) -> Figures:
    """The share of rows that are cut, and what is to be said of it.

    Args:
        long: the rows that are cut, of so many `rows`.
        limit: tokens that the checkpoint reads.

    Raises:
        BuildError: rows are cut that nothing was said of, or that a model which is taken as it is
            reads whole.
    """
    if not len(long):
        return {"cut": 0.0}
    share, wanted = len(long) / rows, recipe.model.max_length
    longest = int(_tokenize(tokenizer, dataset, long, 1 << 30).lengths.max())
    told = f"{len(long):,} of {rows:,} texts ({share:.2%}) have more than"
    if wanted is None:
        raise BuildError(
            f"{told} the {limit} tokens that model {recipe.model.id!r} reads, the longest "
            f"{longest:,}. Set model.max_length to {limit} if they shall be cut there (in the "
            f"recipe, or by --set model.max_length={limit}), or take a model that reads more"
        )
    if recipe.last.tune == "none" and wanted < limit:
        raise BuildError(
            f"{told} model.max_length's {wanted} tokens, the longest {longest:,}, and model "
            f"{recipe.model.id!r} reads {limit}. With full.tune 'none' the promise is about the "
            f"model as it is, which does not cut them: leave model.max_length out, or set it to "
            f"{min(longest, limit)} or more"
        )
    warning = (
        f"{told} {wanted} tokens (model.max_length) and are cut there, the longest {longest:,}; "
        f"the model reads up to {limit}"
    )
    return {"cut": share, "warnings": [warning]}


def output_names(recipe: Recipe, found: Sequence[str], model: Path) -> tuple[str, ...]:
    """Names of a head's outputs: the data's classes, or else what the checkpoint calls them."""
    own = tuple(found) or own_labels(model)
    return ("LABEL_0",) if recipe.task.one_output and len(own) != 1 else own


def own_labels(model: Path) -> tuple[str, ...]:
    """What the checkpoint calls its classes, in the order of its logits."""
    names = read_config(model).id2label
    return tuple(str(names[index]) for index in sorted(names))


def _tokenize(tokenizer: Any, dataset: Dataset, rows: NDArray[np.int64], max_length: int) -> Tokens:
    texts = [dataset.texts[i] for i in rows]
    pairs = None if dataset.pairs is None else [dataset.pairs[i] for i in rows]
    return token_rows.tokenize(tokenizer, texts, pairs, max_length=max_length)


def _save_unlabelled(
    recipe: Recipe,
    dataset: Dataset,
    splits: Splits,
    tokenizer: Any,
    folder: Path,
    length: int,
    labels: Labels,
) -> Tokens:
    """Texts for distillation; those that also stand in a held-out split are left out."""
    held_out = {_folded(dataset, i) for name in SPLITS[1:] for i in getattr(splits, name)}
    parts = []
    for extra in load_unlabelled(recipe):
        keep = np.array(
            [i for i in range(len(extra)) if _folded(extra, i) not in held_out], dtype=np.int64
        )
        parts.append(_tokenize(tokenizer, extra, keep, length))
    if not parts:
        parts = [token_rows.tokenize(tokenizer, [], max_length=length)]
    tokens = token_rows.concatenate(parts)
    save_rows(folder / "unlabelled.safetensors", tokens, unknown_like(labels, len(tokens)))
    return tokens


def _folded(dataset: Dataset, row: int) -> str:
    return fold(dataset.texts[row], None if dataset.pairs is None else dataset.pairs[row])


STEP = Step("data", (), _reads, _work)
