"""What is measured on a GPU: shapes of random weights, the carried bundle, and their rows."""

from __future__ import annotations

import copy
import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import runtime_cases
import torch
from gpu.models import Labeller, Row, Shop, join, split
from numpy.typing import NDArray
from peer_models import Plain
from transformers import BertConfig

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.policy.lookup import tier_alone
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.source import untrained_model
from adaptive.types import Policy

SHAPES: Mapping[str, Mapping[str, int]] = {
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "bert_base": {},
    "bert_large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
}
CLINC = "clinc150"  # the carried bundle's texts, and its full tier, a fine-tuned MiniLM


@dataclass(frozen=True, eq=False)
class Subject:
    """A cascade on the device, the rows it gets, and the policies it is measured under."""

    name: str
    bundle: Bundle
    rows: list[Row]
    policies: Mapping[str, Policy]
    shop: Shop

    @property
    def alone(self) -> Policy:
        """The last tier and nothing else."""
        return tier_alone(self.bundle.stages, len(self.bundle.tiers) - 1)


def subject_of(
    name: str, bundle: Bundle, rows: list[Row], policies: Mapping[str, Policy]
) -> Subject:
    """A subject with a copy of its full tier, for others to serve."""
    labeller = Labeller(Plain(copy.deepcopy(bundle.tiers[-1]))).eval()
    return Subject(name, bundle, rows, policies, Shop(labeller, bundle.device))


def shaped(name: str, dtype: torch.dtype, device: torch.device, count: int, small: bool) -> Subject:
    """A cascade of one tier of random weights, left by the patterns of `runtime_cases`."""
    torch.manual_seed(0)
    config = BertConfig(**(SMALL if small else SHAPES[name]))
    # made in float32, so that the weights of all dtypes are the same but for rounding
    backbone = Backbone(untrained_model(config, torch.float32)).eval().to(device, dtype)
    rows = random_rows(count, config.vocab_size, 0)
    case = runtime_cases.case_of(name, backbone, None, join(rows), 0, [])
    policies = {pattern: case.policies[pattern] for pattern in runtime_cases.PATTERNS}
    return subject_of(name, case.bundle, rows, policies)


def carried(folder: Path, texts: list[str], dtype: torch.dtype, device: torch.device) -> Subject:
    """The bundle in a folder, under its own policy; no certificate is asked for."""
    pipe = AdaptivePipeline.from_config(folder, device=device, dtype=dtype, uncertified=True)
    rows = split(pipe.tokenize(texts))
    return subject_of(CLINC, pipe.bundle, rows, {"policy": pipe.policy})


def read_texts(file: Path, labels: tuple[str, ...]) -> tuple[list[str], NDArray[np.int32]]:
    """Texts [n] of a CSV file, and the places [n] of their labels."""
    with file.open(encoding="utf-8", newline="") as stream:
        found = [(row["text"], row["label"]) for row in csv.DictReader(stream)]
    place = {label: index for index, label in enumerate(labels)}
    return [text for text, _ in found], np.array([place[name] for _, name in found], np.int32)


def random_rows(count: int, vocabulary: int, seed: int) -> list[Row]:
    """Token ids drawn at random, half the rows short and half long."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(runtime_cases.some_lengths(count, rng), runtime_cases.MAX_LENGTH)
    ids = rng.integers(4, vocabulary, lengths.sum(), dtype=np.int32)
    return np.split(ids, np.cumsum(lengths)[:-1])
