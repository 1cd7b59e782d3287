"""Configuration: one YAML for building (a recipe), one for serving (a preset)."""

from __future__ import annotations

from adaptive.config.load import load_preset, load_recipe, load_source, load_task
from adaptive.config.overrides import apply_overrides
from adaptive.config.preset import Preset, TargetChoice
from adaptive.config.recipe import DataConfig, ModelConfig, Recipe, SplitSizes
from adaptive.config.steps import (
    BagConfig,
    CostConfig,
    ExitsConfig,
    FullConfig,
    LoraConfig,
    MidConfig,
    RouterConfig,
    SearchConfig,
    TargetConfig,
    TransformerConfig,
)

__all__ = [
    "BagConfig",
    "CostConfig",
    "DataConfig",
    "ExitsConfig",
    "FullConfig",
    "LoraConfig",
    "MidConfig",
    "ModelConfig",
    "Preset",
    "Recipe",
    "RouterConfig",
    "SearchConfig",
    "SplitSizes",
    "TargetChoice",
    "TargetConfig",
    "TransformerConfig",
    "apply_overrides",
    "load_preset",
    "load_recipe",
    "load_source",
    "load_task",
]
