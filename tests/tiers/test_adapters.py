"""Adapter folders of peft as checkpoints: merged, with the head and the labels that they have."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from tiny_builds import WORDS, recipe_in, write_data, write_model, write_tokenizer

from adaptive.errors import BuildError
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.source import load_backbone, read_config
from adaptive.tiers.store import load_tier
from adaptive.training.build import build, check
from adaptive.types import TokenBatch

LABELS = ("cold", "mild", "warm")
ADAPTED = {"bert": ["query", "value"], "roberta": ["query"], "llama": ["q_proj", "v_proj"]}
IDS = torch.arange(2, 2 + 9)


def save_adapter(
    folder: Path, base: Path, family: str = "bert", rows: int = 3, config: Any = None
) -> torch.Tensor:
    """An adapter with random matrices and head; returns the logits of base and adapter."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=rows)
    modules = ["classifier", "bert.pooler"] if family == "bert" else None
    chosen = {"r": 2, "target_modules": ADAPTED[family], "modules_to_save": modules}
    config = config or peft.LoraConfig(task_type="SEQ_CLS", **chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers in a deprecated way
        adapted = peft.get_peft_model(
            model, config or peft.LoraConfig(task_type="SEQ_CLS", **chosen)
        )
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.5 if "lora" in name else 0.2)
        adapted.save_pretrained(folder)
    with torch.no_grad():
        found: torch.Tensor = adapted.eval()(IDS[None]).logits[0]
    return found


def logits(backbone: Backbone) -> torch.Tensor:
    batch = TokenBatch(IDS, torch.tensor([len(IDS)]).numpy(), torch.zeros_like(IDS))
    with torch.no_grad():
        return backbone.classify(backbone.run(backbone.embed(batch), 0, backbone.layers))[0]


def load(folder: Path, labels: tuple[str, ...] = LABELS) -> Backbone:
    return load_backbone(str(folder), classes=len(labels), labels=labels)[0]


@pytest.mark.parametrize("family", ADAPTED)
def test_an_adapter_answers_as_it_does_on_its_base(family: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", family)
    expected = save_adapter(tmp_path / "adapter", base, family)
    backbone = load(tmp_path / "adapter")
    assert not backbone.fresh_head and backbone.guessed_order
    torch.testing.assert_close(logits(backbone), expected, atol=1e-5, rtol=1e-4)
    plain = load_backbone(str(base), classes=3, labels=LABELS)[0]
    names = set(plain.model.state_dict())
    assert set(backbone.model.state_dict()) == names  # nothing of the adapter is left
    assert backbone.config.id2label == dict(enumerate(LABELS))


def test_labels_are_those_of_the_config_beside_it_and_put_in_order(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    expected = save_adapter(tmp_path / "adapter", base)
    config = read_config(tmp_path / "adapter")
    assert config.num_labels == 3
    config.id2label = {0: "warm", 1: "cold", 2: "mild"}
    config.save_pretrained(tmp_path / "adapter")
    backbone = load(tmp_path / "adapter")
    assert not backbone.guessed_order
    torch.testing.assert_close(logits(backbone), expected[[1, 2, 0]], atol=1e-5, rtol=1e-4)


def test_an_adapter_of_adalora_is_merged_by_its_rank_pattern(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", labels=LABELS)
    names = [f"bert.encoder.layer.{i}.attention.self.query.lora_E" for i in range(3)]
    pattern = dict(zip(names, ([True, False, True], [True] * 3, [False] * 3), strict=True))
    adalora = peft.AdaLoraConfig(
        target_modules=["query"], init_r=3, target_r=1, total_step=9, rank_pattern=pattern
    )
    expected = save_adapter(tmp_path / "adapter", base, config=adalora)
    backbone = load(tmp_path / "adapter")
    assert not any("lora" in name for name in backbone.model.state_dict())
    torch.testing.assert_close(logits(backbone), expected, atol=1e-5, rtol=1e-4)


def test_an_adapter_without_a_head_takes_the_bases(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", labels=LABELS)
    ia3 = peft.IA3Config(
        target_modules=["key", "output.dense"], feedforward_modules=["output.dense"]
    )
    expected = save_adapter(tmp_path / "adapter", base, config=ia3)
    backbone = load(tmp_path / "adapter")
    assert not backbone.fresh_head and not backbone.guessed_order
    torch.testing.assert_close(logits(backbone), expected, atol=1e-5, rtol=1e-4)


def test_other_labels_get_a_head_of_their_own(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    save_adapter(tmp_path / "adapter", base)
    backbone = load(tmp_path / "adapter", ("yes", "no"))
    assert backbone.fresh_head and logits(backbone).shape == (2,)
    assert backbone.model.num_labels == 2
    adapted = load(tmp_path / "adapter").body.state_dict()  # the body is the adapter's all the same
    torch.testing.assert_close(dict(backbone.body.state_dict()), dict(adapted))


def test_its_own_tokenizer_is_read_where_there_is_one(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    save_adapter(tmp_path / "adapter", base)
    _, tokenizer = load_backbone(str(tmp_path / "adapter"), classes=3, labels=LABELS)
    assert len(tokenizer) == len(WORDS) and tokenizer.model_max_length > 1000
    write_tokenizer(tmp_path / "adapter")
    file = tmp_path / "adapter" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 7}))
    _, tokenizer = load_backbone(str(tmp_path / "adapter"), classes=3, labels=LABELS)
    assert tokenizer.model_max_length == 7


def test_a_base_is_looked_for_beside_the_adapter_too(tmp_path: Path) -> None:
    write_model(tmp_path / "base")
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    change(tmp_path / "adapter", base_model_name_or_path="../base")
    assert not load(tmp_path / "adapter").fresh_head


def change(folder: Path, **values: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"base_model_name_or_path": "someone/gone"}, "base model is not there.*someone/gone"),
        ({"base_model_name_or_path": None}, "does not name the model"),
        ({"peft_type": "PREFIX_TUNING"}, "kind 'PREFIX_TUNING' cannot be merged"),
        ({"target_modules": ["key"]}, "does not fit its base model: 18 of its tensors"),
        ({"r": 3}, "does not fit its base model"),
    ],
    ids=["unreachable", "unnamed", "kind", "other modules", "other rank"],
)
def test_what_is_wrong_with_an_adapter_is_told(values: Any, told: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    save_adapter(tmp_path / "adapter", base)
    change(tmp_path / "adapter", **values)
    with pytest.raises(BuildError, match=told):
        load(tmp_path / "adapter")


def test_weights_must_be_safetensors(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    save_adapter(tmp_path / "adapter", base)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(BuildError, match=r"adapter_model\.safetensors is missing"):
        load(tmp_path / "adapter")


def test_an_adapter_of_an_adapter_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    save_adapter(tmp_path / "adapter", base)
    save_adapter(tmp_path / "second", base)
    change(tmp_path / "second", base_model_name_or_path=str(tmp_path / "adapter"))
    with pytest.raises(BuildError, match="is an adapter itself"):
        load(tmp_path / "second")


def test_a_build_takes_an_adapter_as_it_is_or_starts_from_it(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    save_adapter(tmp_path / "model", base, rows=2)
    write_data(tmp_path / "data.csv")
    recipe = recipe_in(tmp_path, {"full": {"tune": "none"}, "mid": None})
    build(recipe, tmp_path / "run", until="full", quiet=True)
    full = load_tier(tmp_path / "run" / "full" / "tier")
    assert full.own_head and isinstance(full.backbone, Backbone)
    expected = load(tmp_path / "model", ("bad", "good"))
    torch.testing.assert_close(logits(full.backbone), logits(expected))
    for tune in ("lora", "full"):
        assert check(recipe_in(tmp_path, {"full": {"tune": tune}}), tmp_path / "run")["labels"]
