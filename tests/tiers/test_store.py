"""Tiers come back from a folder as they went in, or are refused with the file named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_transformers import CONFIGS, model_logits, own_logits, packed, tiny_backbone, tiny_rows
from transformers import AutoModelForSequenceClassification

from adaptive.errors import BundleError
from adaptive.tiers.bag import Bag
from adaptive.tiers.find import digest
from adaptive.tiers.store import load_tier, save_tier
from adaptive.tiers.surgery import Shape, shrink, sizes_of
from adaptive.tiers.tier import Tier
from adaptive.types import TokenBatch

LABELS = ("a", "b", "ä")


def _answers(tier: Tier, batch: TokenBatch) -> list[torch.Tensor]:
    found = []
    with torch.no_grad():
        state = tier.embed(batch)
        for exit in range(len(tier.depths)):
            state = tier.advance(state, exit)
            found.append(tier.answer(state, exit)[0])
    return found


def _cut(name: str) -> Tier:
    backbone = tiny_backbone(name)
    count = sizes_of(backbone).heads[0]
    some = tuple(range(1, count)) if backbone.family.pruning.heads else tuple(range(count))
    shape = Shape((0, 2, 3), (some,) * 3, ((0, 5, 7), (1, 2), (40, 47)))
    return Tier("mid", shrink(backbone, shape), (1, 3), LABELS, own_head=True).eval()


def _bag() -> Tier:
    torch.manual_seed(0)
    return Tier("tiny", Bag(60, 8, 16), (0,), LABELS, head_width=6).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cut_tier_answers_as_before(name: str, tmp_path: Path) -> None:
    tier = _cut(name)
    save_tier(tier, tmp_path)
    loaded = load_tier(tmp_path, labels=LABELS)
    batch = packed(tiny_rows())
    for found, expected in zip(_answers(loaded, batch), _answers(tier, batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert (loaded.name, loaded.depths, loaded.labels) == ("mid", (1, 3), LABELS)
    assert not loaded.training


def test_a_bag_answers_as_before(tmp_path: Path) -> None:
    tier = _bag()
    save_tier(tier, tmp_path / "new" / "folder")
    loaded = load_tier(tmp_path / "new" / "folder")
    batch = packed(tiny_rows())
    torch.testing.assert_close(_answers(loaded, batch), _answers(tier, batch), rtol=0, atol=0)


def test_pairs_of_a_bag_stay_in_half_precision(tmp_path: Path) -> None:
    tier = _bag()
    tier.backbone.pairs.data.normal_()
    tier.backbone.halve_pairs()
    save_tier(tier, tmp_path)
    loaded = load_tier(tmp_path)
    assert loaded.backbone.pairs.dtype == torch.float16
    assert loaded.backbone.embedding_table.dtype == torch.float32
    batch = packed(tiny_rows())
    torch.testing.assert_close(_answers(loaded, batch), _answers(tier, batch), rtol=0, atol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_whole_tier_is_a_plain_transformers_checkpoint(name: str, tmp_path: Path) -> None:
    tier = Tier("full", tiny_backbone(name), (0, 4), LABELS, own_head=True).eval()
    save_tier(tier, tmp_path)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, use_safetensors=True, output_loading_info=True
    )
    assert not any(report.values()), report
    batch = packed(tiny_rows())
    with torch.no_grad():
        expected = own_logits(tier.backbone, batch)
        found = model_logits(model.eval(), batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert model.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "modernbert"])
def test_another_dtype_leaves_rotary_tables_exact(name: str, tmp_path: Path) -> None:
    tier = Tier("full", tiny_backbone(name), (2, 4), LABELS).eval()
    save_tier(tier, tmp_path)
    loaded = load_tier(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    before = dict(tier.backbone.body.rotary_emb.named_buffers())
    after = dict(loaded.backbone.body.rotary_emb.named_buffers())
    for key, table in before.items():
        torch.testing.assert_close(after[key], table, rtol=0, atol=0)


def test_the_saved_dtype_is_the_default(tmp_path: Path) -> None:
    save_tier(_bag().to(torch.bfloat16), tmp_path)
    assert load_tier(tmp_path).backbone.embedding_table.dtype == torch.bfloat16


def test_nothing_of_this_machine_is_written(tmp_path: Path) -> None:
    tier = _cut("bert")
    tier.backbone.config._name_or_path = "/somewhere/here"
    save_tier(tier, tmp_path)
    for file in ("config.json", "tier.json"):
        assert "somewhere" not in (tmp_path / file).read_text(encoding="utf-8")


def _edit(folder: Path, file: str, **values: Any) -> None:
    known = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps(known | values), encoding="utf-8")


def _change(folder: Path, file: str, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes weights and makes the card and the heads follow, as a careful forger would."""
    tensors = load_file(folder / file)
    change(tensors)
    bond = {"format": "pt", "labels": json.dumps(list(LABELS))}
    if file == "model.safetensors":
        save_file(tensors, folder / file)
        heads = load_file(folder / "heads.safetensors")
        sha256 = digest(folder / file)
        save_file(heads, folder / "heads.safetensors", bond | {"backbone": sha256})
        _edit(folder, "tier.json", sha256=sha256)
    else:
        save_file(tensors, folder / file, bond | {"backbone": digest(folder / "model.safetensors")})


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (lambda f: _flip(f / "model.safetensors"), "model.safetensors has SHA-256"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no heads": (lambda f: (f / "heads.safetensors").unlink(), "heads.safetensors is missing"),
    "no card": (lambda f: (f / "tier.json").unlink(), "tier.json is missing"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "card is no JSON": (lambda f: (f / "tier.json").write_text("{"), "tier.json is not"),
    "card is a list": (lambda f: (f / "tier.json").write_text("[]"), "tier.json is not"),
    "unknown key": (lambda f: _edit(f, "tier.json", more=1), "tier.json is not"),
    "unknown kind": (lambda f: _edit(f, "tier.json", kind="rnn"), "tier.json: unknown kind"),
    "unknown dtype": (lambda f: _edit(f, "tier.json", dtype="nn"), "tier.json: unknown dtype"),
    "depths of text": (lambda f: _edit(f, "tier.json", depths=["1"]), "tier.json: depths must"),
    "labels of numbers": (lambda f: _edit(f, "tier.json", labels=[0, 1, 2]), "labels must"),
    "number for a name": (lambda f: _edit(f, "tier.json", name=1), "name must"),
    "huge sizes": (lambda f: _edit(f, "tier.json", hidden=2**40), "sizes must"),
    "other depths": (lambda f: _edit(f, "tier.json", depths=[1, 2, 3]), "heads.safetensors"),
    "impossible depths": (lambda f: _edit(f, "tier.json", depths=[9]), "tier.json or config"),
    "other head counts": (lambda f: _edit(f, "tier.json", heads=[4, 3, 3]), "model.safetensors"),
    "too many heads": (lambda f: _edit(f, "tier.json", heads=[9, 9, 9]), "tier.json or config"),
    "too few layers": (lambda f: _edit(f, "config.json", num_hidden_layers=2), "tier.json or con"),
    "config of nonsense": (lambda f: _edit(f, "config.json", hidden_size="x"), "config.json"),
    "other family": (lambda f: _edit(f, "config.json", model_type="gpt2"), "'gpt2'"),
    "other order": (lambda f: _edit(f, "tier.json", labels=["ä", "b", "a"]), "heads.safetensors"),
    "pickled weights": (
        lambda f: (f / "heads.safetensors").write_bytes(b"\x80\x04K\x01."),
        "heads.safetensors is damaged",
    ),
    "tensor missing": (
        lambda f: _change(f, "model.safetensors", lambda t: t.pop("classifier.bias")),
        "model.safetensors does not fit.*classifier.bias",
    ),
    "tensor too many": (
        lambda f: _change(f, "heads.safetensors", lambda t: t.update(x=torch.ones(1))),
        "heads.safetensors does not fit.*Unexpected",
    ),
    "other shape": (
        lambda f: _change(
            f, "model.safetensors", lambda t: t.update({"classifier.bias": torch.ones(4)})
        ),
        "model.safetensors does not fit.*size mismatch",
    ),
    "NaN": (
        lambda f: _change(f, "model.safetensors", lambda t: t["classifier.bias"].fill_(torch.nan)),
        "model.safetensors: tensor classifier.bias holds NaN",
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tier")
    save_tier(_cut("bert"), folder)
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_refused_and_the_file_named(fault: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tier"
    shutil.copytree(saved, folder)
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(BundleError, match=f"(?s){message}"):
        load_tier(folder)


def test_heads_of_another_backbone_are_refused(saved: Path, tmp_path: Path) -> None:
    other = _cut("bert")
    with torch.no_grad():
        other.backbone.model.classifier.bias.add_(1)
    save_tier(other, tmp_path)
    shutil.copy(saved / "heads.safetensors", tmp_path / "heads.safetensors")
    with pytest.raises(BundleError, match=r"heads\.safetensors belongs to another backbone"):
        load_tier(tmp_path)


@pytest.mark.parametrize("labels", [("b", "a", "ä"), ("a", "b"), ("a", "b", "c")])
def test_other_labels_are_refused(labels: tuple[str, ...], saved: Path) -> None:
    with pytest.raises(BundleError, match=r"tier\.json: the tier's labels"):
        load_tier(saved, labels=labels)
