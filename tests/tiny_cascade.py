"""A three-tier cascade of random weights whose stages disagree, and texts for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from adaptive.bundle.contents import Bundle, LadderEntry
from adaptive.exits.measures import FEATURES
from adaptive.exits.reliability import Reliability
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.policy.lookup import tier_alone
from adaptive.routers import Router
from adaptive.routers.features import SCALARS
from adaptive.routers.linear import Logistic
from adaptive.text import tokens as token_rows
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.tier import Tier
from adaptive.types import NEVER, Policy, Target

LABELS = ("bad", "good", "so-so")
WORDS = [f"word{i}" for i in range(40)]
HIDDEN = 32


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Words, with [CLS] and [SEP] around them as BERT has them."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = {word: index for index, word in enumerate(special + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_bert(layers: int, vocabulary: int = len(WORDS) + 4) -> BertForSequenceClassification:
    """A random BERT whose layers change their input enough to matter."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        num_labels=len(LABELS),
        initializer_range=0.2,
    )
    return BertForSequenceClassification(config).eval()


def tiny_texts(count: int = 60, seed: int = 0) -> list[str]:
    """Texts of 1 to 20 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 21))) for _ in range(count)]


def make_cascade(seed: int = 0) -> Bundle:
    """Bag, mid and full tier; a policy under which every tier answers some texts."""
    torch.manual_seed(seed)
    full = Backbone(tiny_bert(3))
    tiers = (
        Tier("tiny", Bag.from_table(full.embedding_table.detach(), HIDDEN, 64), (0,), LABELS),
        Tier("mid", Backbone(tiny_bert(2)), (0, 1, 2), LABELS),
        Tier("full", full, (0, 2, 3), LABELS, own_head=True),
    )
    for tier in tiers:
        tier.eval()
    stages = sum(len(tier.depths) for tier in tiers)
    reliability = Reliability(stages)
    for stage in range(stages):
        width = len(FEATURES)
        fit = (np.zeros(width), np.ones(width), np.random.default_rng(stage).normal(0, 1, width), 0)
        reliability.set_fit(stage, fit)
    features = HIDDEN + len(SCALARS)
    router = Router(
        "logistic",
        Logistic(torch.randn(features, 2), torch.tensor([0.0, -2.6])),
        mean=torch.zeros(features),
        gain=torch.full((features,), 0.3),
        share=torch.full((3,), 0.01),
        varying=torch.tensor([0, 1]),
    )
    plain = Bundle(
        name="tiny-cascade",
        labels=LABELS,
        tokenizer=tiny_tokenizer(),
        tiers=tiers,
        reliability=reliability,
        router=router,
        log_frequency=np.log(np.full(len(WORDS) + 4, 1.0 / (len(WORDS) + 4))).astype(np.float32),
        policy=Policy((0, 1, 2), (0.5,) * stages),
        targets=(Target("agreement", 0.1),),
        max_length=32,
    )
    return _with_policy(plain)


def _with_policy(bundle: Bundle) -> Bundle:
    """Thresholds at the upper quartile of each stage, so that many texts go all the way."""
    tokens = token_rows.tokenize(bundle.tokenizer, tiny_texts(200, 1), max_length=32)
    table = outcomes(bundle, tokens, np.full(200, -1, np.int32), 32)
    thresholds = np.quantile(table.reliability, 0.75, axis=0).tolist()
    thresholds[0] = float(np.quantile(table.reliability[:, 0], 0.3))
    thresholds[2] = NEVER  # one exit is switched off
    policy = Policy((0, 1, 2), tuple(thresholds))
    alone = tier_alone(bundle.stages, 2)
    return replace(
        bundle,
        policy=policy,
        ladder=(LadderEntry("full", alone, {"cost": 1.0}), LadderEntry("chosen", policy, {})),
        outcomes={"certify": table},
        costs=work_of(bundle.tiers, bundle.router),
    )
