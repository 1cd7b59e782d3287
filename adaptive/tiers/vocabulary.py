"""A checkpoint's tokenizer: how far it lets the model read, and the rows its tokens need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from adaptive.errors import BuildError
from adaptive.tiers.adapters import tokenizer_folder
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.families import positions_of


def load_tokenizer(folder: Path, source: str) -> Any:
    """The tokenizer in a model's folder, which `source` names, or of an adapter's base model.

    Decoders often come without a padding token; the end of text serves, since padding is never
    read. Where their classifiers find a text's last token the config says, and stays as it is.

    Raises:
        BuildError: there is none, it knows no words, or it is not backed by `tokenizers`.
    """
    place = tokenizer_folder(folder)
    try:
        # without this transformers would ask on the terminal
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BuildError(f"model {source!r} has no tokenizer that can be loaded") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # made up where files are missing
        raise BuildError(f"model {source!r} has no tokenizer that can be loaded: it knows no words")
    if not tokenizer.is_fast:
        raise BuildError(
            f"model {source!r} has a {type(tokenizer).__name__}, which is not backed by the "
            "tokenizers library; save it as tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def length_of(config: Any, tokenizer: Any) -> int:
    """Most tokens of a text that a checkpoint reads: by its positions and by its tokenizer."""
    return min(positions_of(config), int(tokenizer.model_max_length))


def vocabulary_of(tokenizer: Any) -> int:
    """Rows that a table needs for every token id; ids may have gaps."""
    return int(max(tokenizer.get_vocab().values())) + 1


def fit_table(backbone: Backbone, tokenizer: Any, source: str) -> None:
    """Gives added tokens that the embedding table has no row for one: the mean of the others.

    transformers serves such a model until a text holds one of them.

    Raises:
        BuildError: the tokens were not added, so the tokenizer is another model's.
    """
    table, needed = backbone.embedding_table, vocabulary_of(tokenizer)
    rows = len(table)
    if needed <= rows:
        return
    added = set(tokenizer.get_added_vocab().values())
    if not added.issuperset(range(rows, needed)):
        raise BuildError(
            f"model {source!r} has an embedding table of {rows} rows, and its tokenizer has token "
            f"ids up to {needed - 1}: it is another model's tokenizer. Give the model its own"
        )
    mean = table.detach().float().mean(0)
    backbone.model.resize_token_embeddings(needed, mean_resizing=False)
    with torch.no_grad():
        backbone.embedding_table[rows:] = mean.to(table.dtype)
    backbone.added_rows = needed - rows
