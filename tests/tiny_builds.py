"""What a whole build in seconds needs: a random model, learnable text and a recipe."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tiny_transformers import tiny_config
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from adaptive.config.recipe import Recipe
from adaptive.events import ignore
from adaptive.tiers import store
from adaptive.tiers.tier import Tier
from adaptive.training.build import build
from adaptive.training.learn import runners
from adaptive.training.steps import Context

GOOD, BAD = ["fine", "great", "warm", "clever"], ["dull", "poor", "flat", "tired"]
NEUTRAL = ["film", "story", "cast", "plot", "very", "and", "a", "the"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *NEUTRAL]
CPU = torch.device("cpu")


def write_tokenizer(folder: Path, *, decoder: bool = False) -> None:
    """Words; [CLS] and [SEP] around them unless it is a decoder's, which has no padding."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "[UNK]", "eos_token": "[SEP]", "bos_token": "[CLS]"}
    if not decoder:
        names = {n: f"[{n[:3].upper()}]" for n in ("unk_token", "pad_token", "cls_token")}
        names["sep_token"] = "[SEP]"
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * (not decoder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, **names
    ).save_pretrained(folder)


def write_model(
    folder: Path, family: str = "bert", labels: tuple[str, ...] = (), **sizes: Any
) -> Path:
    """A random checkpoint: of a base model, or of a classifier where labels are given."""
    named = {"id2label": dict(enumerate(labels))} if labels else {}
    chosen: dict[str, Any] = {"vocab_size": len(WORDS), "num_hidden_layers": 3, **named, **sizes}
    config = tiny_config(family, len(labels) or 2, **chosen)
    torch.manual_seed(0)
    kind = AutoModelForSequenceClassification if labels else AutoModel
    kind.from_config(config).save_pretrained(folder)
    write_tokenizer(folder, decoder=family in ("llama", "qwen2", "qwen3", "gemma3_text"))
    return folder


def sentence(draw: random.Random, good: bool) -> str:
    """Four to nine words, one of which decides the label."""
    told = [draw.choice(GOOD if good else BAD), *draw.choices(NEUTRAL, k=draw.randint(3, 8))]
    draw.shuffle(told)
    return " ".join(told)


def write_data(file: Path, rows: int = 560, seed: int = 0, *, pairs: bool = False) -> Path:
    """Labelled sentences; of pairs, the label tells whether both are of one mind.

    The column `size` tells short sentences from long ones.
    """
    draw = random.Random(seed)
    lines = ["text,pair,label" if pairs else "text,label,size"]
    for number in range(rows):
        good = number % 2 == 0
        if not pairs:
            text = sentence(draw, good)
            size = "long" if len(text.split()) > 6 else "short"
            lines.append(f"{text},{'good' if good else 'bad'},{size}")
            continue
        first = draw.random() < 0.5
        second = first if good else not first
        label = "same" if good else "other"
        lines.append(f"{sentence(draw, first)},{sentence(draw, second)},{label}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def recipe_in(folder: Path, changes: dict[str, Any] | None = None) -> Recipe:
    """The recipe of a three-tier cascade; `changes` replace fields of its sections.

    A section that names its kind is taken whole.
    """
    values: dict[str, Any] = {
        "name": "tiny-build",
        "output": str(folder / "bundle"),
        "model": {"id": str(folder / "model"), "max_length": 16},
        "data": {
            "source": str(folder / "data.csv"),
            "splits": {"train": 160, "fit": 80, "search": 80, "certify": 160, "test": 60},
        },
        "full": {"epochs": 4, "learning_rate": 3e-3, "batch_size": 8},
        "mid": {"layers": 2, "heads": 0.5, "ffn": 0.5, "multiple": 8, "epochs": 3}
        | {"importance_batches": 2, "learning_rate": 3e-3, "batch_size": 8},
        "tiny": {"kind": "bag", "width": 16, "bigrams": 64, "epochs": 4}
        | {"learning_rate": 2e-2, "batch_size": 8},
        "exits": {"epochs": 3, "learning_rate": 1e-2},
        "router": {"candidates": ["logistic", "knn"]},
        "search": {"minimise": "work", "sweeps": 1},
        "target": {"metric": "accuracy_drop", "level": 0.05},
        "cost": {"batch_size": 4, "lengths": [4, 8], "repeats": 1},
    }
    for name, value in (changes or {}).items():
        both = isinstance(value, dict) and isinstance(values.get(name), dict)
        merged = both and "kind" not in value
        values[name] = values[name] | value if merged else value
    return Recipe.model_validate(values)


def build_in(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """The folder with a model, data, the work folder `run` and the `bundle` of such a recipe."""
    write_model(folder / "model")
    write_data(folder / "data.csv")
    assert build(recipe_in(folder, changes), folder / "run", quiet=True) == folder / "bundle"
    return folder


def favouring(runner: str) -> Callable[..., dict[str, float]]:
    """Measures runners as a build does, and then finds this one the quickest."""
    measure = runners.milliseconds

    def measured(*given: Any) -> dict[str, float]:
        found = measure(*given)
        assert min(found.values()) > 0
        return found | {runner: min(found.values()) / 2}

    return measured


@contextmanager
def counted_loads(run: Path) -> Iterator[Counter[str]]:
    """How often each step of a build in the work folder `run` loads a tier, as it happens."""
    found: Counter[str] = Counter()
    load = store.load_tier

    def counting(*given: Any, **named: Any) -> Tier:
        (partial,) = run.glob("*.partial")  # where the running step writes
        found[partial.stem] += 1
        return load(*given, **named)

    with (
        patch("adaptive.tiers.store.load_tier", counting),
        patch("adaptive.training.parts.load_tier", counting),
    ):
        yield found


def context_of(recipe: Recipe, workdir: Path) -> Context:
    """What a step of a build in `workdir` is given."""
    return Context(recipe, workdir, ignore, CPU)
