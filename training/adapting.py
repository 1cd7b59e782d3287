"""What is trained of the full tier in place of all its weights: low-rank matrices, or a prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptive.config.steps import FullConfig
from adaptive.errors import BuildError
from adaptive.tiers.kinds import backbone_of
from adaptive.tiers.surgery import add_prefix
from adaptive.tiers.tier import Tier
from adaptive.training.learn.adalora import schedule

SURPLUS = 1.5  # AdaLoRA's ranks at the start over those at the end (arXiv:2303.10512, section 4)


def adapt(tier: Tier, config: FullConfig, steps: int = 1) -> Any:
    """Put in what `full.tune` names; the heads stay trainable, the body's weights do not.

    Args:
        steps: of the optimiser, which AdaLoRA's schedule is made for.

    Returns:
        peft's model around the tier's body, to be merged; None where there is nothing to merge.

    Raises:
        BuildError: no module has one of the names in `full.lora.targets`, or it is no linear layer.
        FamilyError: the model's attention takes no prefix.
    """
    if config.tune == "lora":
        return add_lora(tier, config)
    if config.tune == "adalora":
        return add_adalora(tier, config, steps)
    if config.tune == "prefix":
        backbone = backbone_of(tier)
        backbone.body.requires_grad_(False)
        add_prefix(backbone, config.prefix.tokens)
    return None


def add_lora(tier: Tier, config: FullConfig) -> Any:
    """Low-rank adapters inside the backbone (Hu et al. 2021, arXiv:2106.09685).

    Raises:
        BuildError: no module has one of the names in `full.lora.targets`, or it is no linear layer.
    """
    from peft import LoraConfig, LoraModel

    return _added(LoraModel, LoraConfig, tier, config, {"r": config.lora.rank})


def add_adalora(tier: Tier, config: FullConfig, steps: int) -> Any:
    """Adapters that begin with more rank than they may keep (Zhang et al. 2023).

    Of all matrices together, `full.lora.rank` a matrix is left in the mean.

    Raises:
        BuildError: as `add_lora`.
    """
    from peft import AdaLoraConfig, AdaLoraModel

    rank = config.lora.rank
    ranks = {"target_r": rank, "init_r": max(rank + 1, round(SURPLUS * rank))}
    return _added(AdaLoraModel, AdaLoraConfig, tier, config, ranks | schedule(steps))


def _added(model: Any, make: Any, tier: Tier, config: FullConfig, ranks: Mapping[str, int]) -> Any:
    lora, backbone = config.lora, backbone_of(tier)
    plan = backbone.family.pruning
    linears = (*plan.queries, *plan.keys, plan.attended, *plan.rising, plan.falling)
    known = f"a {backbone.family.name} model has {', '.join(linears)}"
    names = [f".{name}" for name, _ in backbone.body.named_modules()]
    for target in lora.targets or ():
        if not any(name.endswith(f".{target}") for name in names):
            raise BuildError(f"full.lora.targets: no module is called {target!r}; {known}")
    given = make(
        **ranks,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets or backbone.family.adapted),
    )
    try:
        # not through get_peft_model, which asks transformers in a deprecated way
        return model(backbone.body, given, "default")
    except ValueError as error:
        raise BuildError(f"full.lora.targets: {error}; {known}") from error
