"""What a tier's last exit answers, and how good that is."""

from __future__ import annotations

import torch

from adaptive.cells import Labels
from adaptive.tasks import SINGLE_LABEL, Task
from adaptive.tasks.base import share_of
from adaptive.text import tokens as token_rows
from adaptive.tiers.tier import Tier
from adaptive.types import Tokens

BATCH = 128


def device_of(tier: Tier) -> torch.device:
    """Where a tier lies."""
    return tier.backbone.embedding_table.device


@torch.inference_mode()
def answers_of(tier: Tier, tokens: Tokens, task: Task = SINGLE_LABEL) -> Labels:
    """What the last exit of a tier in evaluation mode answers, [n, ...]; its logits untempered."""
    logits, last = torch.zeros(len(tokens), len(tier.labels)), len(tier.depths) - 1
    for rows in token_rows.batches(tokens.lengths, BATCH):
        state = tier.embed(token_rows.pack(tokens, rows, device_of(tier)))
        state = tier.backbone.run(state, 0, tier.depths[last])
        logits[torch.from_numpy(rows)] = tier.answer(state, last)[0].float().cpu()
    return task.answers(task.scores(logits))


def share_right(answers: Labels, labels: Labels, task: Task = SINGLE_LABEL) -> float:
    """Share of right answers; of other tasks, the mean score."""
    return share_of(task, answers, labels)
