"""A bundle comes back as it was saved; parts that do not belong together are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from adaptive.bundle import store
from adaptive.bundle.contents import Bundle, LadderEntry
from adaptive.bundle.header import read_header
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.manifest import seal
from adaptive.bundle.store import load_bundle, save_bundle
from adaptive.errors import BuildError, BundleError
from adaptive.exits.reliability import Reliability
from adaptive.policy.costs import CostTable
from adaptive.policy.worth import classified
from adaptive.routers import Router
from adaptive.routers.features import SCALARS
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.bag import Bag
from adaptive.tiers.store import save_tier
from adaptive.tiers.tier import Tier
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Target, TokenBatch

LABELS = ("bad", "good", "so-so")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fine", "dull", "film"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]"
    )


def make_full(seed: int = 0, labels: tuple[str, ...] = LABELS) -> Tier:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=len(labels),
    )
    backbone = Backbone(BertForSequenceClassification(config).eval())
    return Tier("full", backbone, (1, 2), labels, own_head=True).eval()


def make_router(features: int = 32 + len(SCALARS), tiers: int = 2) -> Router:
    return Router(
        "logistic",
        None,
        mean=torch.zeros(features),
        gain=torch.ones(features),
        share=torch.linspace(0.1, 0.2, tiers),
        varying=torch.zeros(0, dtype=torch.int64),
    )


def make_bundle(seed: int = 0, labels: tuple[str, ...] = LABELS) -> Bundle:
    full = make_full(seed, labels)
    tiny = Tier("tiny", Bag.from_table(full.backbone.embedding_table.detach(), 32), (0,), labels)
    reliability = Reliability(3)
    reliability.set_temperature(1, 1.5)
    policy = Policy((0, 1), (0.9, NEVER, ALWAYS), risk_weight=2.0, entry_cost=(0.1, 2.0))
    bundle = Bundle(
        name="a bundle",
        labels=labels,
        tokenizer=make_tokenizer(),
        tiers=(tiny.eval(), full),
        reliability=reliability,
        router=make_router(),
        log_frequency=np.linspace(-9, -1, 16, dtype=np.float32),
        policy=policy,
        targets=(Target("agreement", 0.01),),
        max_length=32,
        ladder=(LadderEntry("cheap", policy.with_threshold(0, 0.5), {"work": 1.5}),),
        info={"license": "mit", "steps": ["fit"]},
    )
    return replace(bundle, costs=make_costs(), outcomes={"search": make_outcomes(bundle)})


def make_costs() -> CostTable:
    rows = np.ones((2, 2)), np.ones((3, 2)), np.ones((3, 2)), np.zeros(2)
    return CostTable("milliseconds", np.array([1.0, 32.0]), *rows, measured={"device": "cpu"})


def make_outcomes(bundle: Bundle) -> OutcomeTable:
    draw = np.random.default_rng(0)
    return classified(
        stages=bundle.stages,
        predictions=draw.integers(0, 3, (5, 3), dtype=np.int32),
        reliability=draw.random((5, 3), dtype=np.float32),
        risk=draw.random((5, 2), dtype=np.float32),
        labels=np.array([0, 1, 2, -1, 0], dtype=np.int32),
        tokens=np.arange(1, 6),
    )


def save(bundle: Bundle, folder: Path) -> Path:
    return save_bundle(bundle, folder, card="# card\n", recipe="seed: 1\n")


@pytest.fixture(scope="module")
def original() -> Bundle:
    return make_bundle()


@pytest.fixture(scope="module")
def pristine(original: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(original, tmp_path_factory.mktemp("saved") / "bundle")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(pristine, tmp_path / "bundle")
    return tmp_path / "bundle"


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    return str(caught.value)


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file and seal the folder anew, so that only the change can be at fault."""
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))
    seal(folder)


def test_everything_comes_back_as_it_was(original: Bundle, pristine: Path) -> None:
    loaded = load_bundle(pristine)
    for field in ("name", "labels", "policy", "targets", "max_length", "ladder", "stages"):
        assert getattr(loaded, field) == getattr(original, field), field
    assert [tier.name for tier in loaded.tiers] == ["tiny", "full"]
    assert loaded.tokenizer("fine film").input_ids == original.tokenizer("fine film").input_ids
    assert np.array_equal(loaded.log_frequency, original.log_frequency)
    assert loaded.costs is not None and original.costs is not None
    assert loaded.costs.to_json() == original.costs.to_json()
    assert loaded.reliability.temperature.tolist() == [1.0, 1.5, 1.0]
    assert loaded.router is not None and original.router is not None
    assert torch.equal(loaded.router.share, original.router.share)
    saved, found = original.outcomes["search"], loaded.outcomes["search"]
    for field in ("predictions", "reliability", "risk", "labels", "tokens"):
        assert np.array_equal(getattr(found, field), getattr(saved, field)), field
    assert loaded.info["license"] == "mit"
    assert loaded.info["versions"]["torch"] == version("torch")


def test_loaded_tiers_answer_exactly_as_the_saved_ones(original: Bundle, pristine: Path) -> None:
    batch = TokenBatch(torch.tensor([2, 4, 6, 3]), np.array([4]))
    loaded = load_bundle(pristine)
    for before, after in zip(original.tiers, loaded.tiers, strict=True):
        with torch.inference_mode():
            states = [tier.advance(tier.embed(batch), 0) for tier in (before, after)]
            answers = [t.answer(s, 0)[0] for t, s in zip((before, after), states, strict=True)]
        assert torch.equal(*answers)


def test_a_bundle_without_router_costs_and_tables_comes_back_without(tmp_path: Path) -> None:
    bundle = make_bundle()
    policy = replace(bundle.policy, risk_weight=None, entry_cost=())
    plain = replace(bundle, router=None, costs=None, outcomes={}, ladder=(), policy=policy)
    loaded = load_bundle(save(plain, tmp_path / "plain"))
    assert loaded.router is None and loaded.costs is None
    assert not loaded.outcomes and not loaded.ladder


def test_the_weights_can_be_loaded_in_another_dtype(pristine: Path) -> None:
    loaded = load_bundle(pristine, dtype=torch.bfloat16)
    assert {tier.backbone.embedding_table.dtype for tier in loaded.tiers} == {torch.bfloat16}
    assert loaded.reliability.temperature.dtype == torch.float32


def test_the_header_alone_describes_a_bundle(pristine: Path) -> None:
    header = read_header(pristine)
    assert header.tiers == ("tiny", "full")
    assert header.labels == LABELS
    assert header.targets == (Target("agreement", 0.01),)


def test_no_file_of_a_tokenizer_but_its_two_is_kept(tmp_path: Path) -> None:
    bundle = make_bundle()
    bundle.tokenizer.chat_template = "{{ messages }}"
    folder = save(bundle, tmp_path / "bundle")
    names = {path.name for path in (folder / LAYOUT.tokenizer).iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json"}


# Parts that do not belong together, each sealed anew: the manifest is right, the parts are not.


def test_heads_from_another_backbone_are_refused(folder: Path, tmp_path: Path) -> None:
    save_tier(make_full(seed=1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "heads.safetensors", folder / "tiers" / "full")
    seal(folder)
    message = refusal(folder)
    assert message.startswith("tiers/full/heads.safetensors")
    assert "another backbone" in message


def test_a_whole_tier_from_another_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "tiers" / "full")
    save_tier(make_full(seed=1), folder / "tiers" / "full")
    seal(folder)
    message = refusal(folder)
    assert message.startswith(LAYOUT.reliability)
    assert "other heads" in message


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    save_tier(make_full(seed=1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder / "tiers" / "full")
    seal(folder)
    assert refusal(folder).startswith("tiers/full/model.safetensors")


def test_a_tier_with_its_labels_in_another_order_is_refused(folder: Path) -> None:
    edit(folder, "tiers/full/tier.json", lambda card: card["labels"].reverse())
    message = refusal(folder)
    assert message.startswith("tiers/full/tier.json")
    assert str(list(LABELS)) in message and str(list(reversed(LABELS))) in message


def test_a_header_with_labels_in_another_order_is_refused(folder: Path) -> None:
    edit(folder, LAYOUT.header, lambda header: header["labels"].reverse())
    assert refusal(folder).startswith("tiers/tiny/tier.json")


def test_heads_trained_for_labels_in_another_order_are_refused(folder: Path) -> None:
    for name in ("tiers/tiny/tier.json", "tiers/full/tier.json", LAYOUT.header):
        edit(folder, name, lambda document: document["labels"].reverse())
    assert refusal(folder).startswith("tiers/tiny/heads.safetensors")


@pytest.mark.parametrize("tier", ["../outside", "/outside", "tiny/../../outside", "", None])
def test_a_tier_that_lies_outside_the_folder_is_refused(folder: Path, tier: object) -> None:
    shutil.copytree(folder / "tiers" / "tiny", folder.parent / "outside")
    edit(folder, LAYOUT.header, lambda header: header.update(tiers=[tier, "full"]))
    message = refusal(folder)
    assert message.startswith(LAYOUT.header)
    assert repr(tier) in message


def test_a_tier_that_is_not_there_is_refused(folder: Path) -> None:
    edit(folder, LAYOUT.header, lambda header: header["tiers"].insert(1, "mid"))
    assert refusal(folder).startswith("tiers/mid/tier.json: the file is missing")


def test_tiers_under_each_others_names_are_refused(folder: Path) -> None:
    (folder / "tiers" / "tiny").rename(folder / "tiers" / "x")
    (folder / "tiers" / "full").rename(folder / "tiers" / "tiny")
    (folder / "tiers" / "x").rename(folder / "tiers" / "full")
    seal(folder)
    assert refusal(folder).startswith("tiers/tiny/tier.json: is of a tier called 'full'")


@pytest.mark.parametrize(
    "name",
    [
        "tiers/full/model.safetensors",
        "tiers/full/heads.safetensors",
        "tiers/full/config.json",
        "tiers/tiny/tier.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        LAYOUT.router,
        LAYOUT.router_tensors,
    ],
)
def test_a_part_that_is_missing_is_named_even_where_the_manifest_forgets_it(
    folder: Path, name: str
) -> None:
    (folder / name).unlink()
    seal(folder)
    message = refusal(folder)
    assert Path(name).name in message
    assert message.startswith(name.split("/")[0])


TARGET = {"metric": "accuracy", "level": 0.1, "confidence": 0.9, "group": None}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 3}, "upgrade"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": "many"}, "max_length"),
        ({"name": "two\nlines"}, "name"),
        ({"labels": ["bad"]}, "labels"),
        ({"labels": ["bad", "bad", "good"]}, "twice"),
        ({"tiers": []}, "tiers"),
        ({"tiers": ["tiny", "tiny"]}, "names of their own"),
        ({"info": None}, "info"),
        ({"targets": [{**TARGET, "metric": "luck"}]}, "luck"),
        ({"targets": [{**TARGET, "level": 2}]}, "is no share"),
        ({"targets": [{**TARGET, "group": ""}]}, "column"),
        ({"targets": TARGET}, "list"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_a_header_with_a_wrong_field_is_refused(
    folder: Path, change: dict[str, Any], why: str
) -> None:
    edit(folder, LAYOUT.header, lambda header: header.update(change))
    message = refusal(folder)
    assert message.startswith(LAYOUT.header)
    assert why in message


def test_a_router_of_other_tiers_is_refused(original: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"router\.json: reads 41 features of 3 tiers"):
        save(replace(original, router=make_router(tiers=3)), tmp_path / "b")
    with pytest.raises(BundleError, match=r"router\.json: reads 7 features"):
        save(replace(original, router=make_router(features=7)), tmp_path / "b")


def test_a_policy_that_routes_without_a_router_is_refused(folder: Path) -> None:
    (folder / LAYOUT.router).unlink()
    (folder / LAYOUT.router_tensors).unlink()
    seal(folder)
    assert refusal(folder).startswith(LAYOUT.policy)


def test_a_tokenizer_with_more_tokens_than_the_tiers_is_refused(
    original: Bundle, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(20)])
    with pytest.raises(BundleError, match="tiers/tiny: embeds 16 tokens, but the tokenizer has 27"):
        save(replace(original, tokenizer=tokenizer), tmp_path / "b")


def test_reliability_of_other_stages_is_refused(original: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"reliability\.safetensors: fitted for 2 stages"):
        save(replace(original, reliability=Reliability(2)), tmp_path / "b")


def test_costs_of_other_stages_are_refused(folder: Path) -> None:
    edit(folder, LAYOUT.costs, lambda costs: costs["segment"].pop())
    assert refusal(folder).startswith(f"{LAYOUT.costs}: `segment`")


def test_outcomes_of_other_stages_are_refused(original: Bundle, tmp_path: Path) -> None:
    table = make_outcomes(original)
    other = replace(table, stages=(*table.stages[:2], replace(table.stages[2], depth=7)))
    folder = save(replace(original, outcomes={"search": other}), tmp_path / "b")
    assert refusal(folder).startswith("outcomes/search.safetensors")


# Saving


def crash(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["save_tier", "save_outcomes", "seal", "verify", "_swap"])
def test_an_interrupted_save_leaves_nothing_behind(
    original: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(store, step, crash)
    with pytest.raises(KeyboardInterrupt):
        save(original, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["save_tier", "seal"])
def test_an_interrupted_save_keeps_the_bundle_that_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(store, step, crash)
    with pytest.raises(KeyboardInterrupt):
        save(replace(make_bundle(), name="newer"), folder)
    assert load_bundle(folder).name == "a bundle"
    assert list(folder.parent.iterdir()) == [folder]


def test_the_old_bundle_comes_back_if_the_new_one_cannot_take_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.os.replace

    def refuse_new(source: Path, goal: Path) -> None:
        if Path(source).suffix == ".part":
            raise OSError("no")
        real(source, goal)

    monkeypatch.setattr(store.os, "replace", refuse_new)
    with pytest.raises(BuildError, match="could not be read or written: no"):
        save(replace(make_bundle(), name="newer"), folder)
    assert load_bundle(folder).name == "a bundle"
    assert list(folder.parent.iterdir()) == [folder]


def test_saving_over_a_bundle_replaces_all_of_it(folder: Path) -> None:
    save(replace(make_bundle(), name="newer", outcomes={}), folder)
    assert load_bundle(folder).name == "newer"
    assert not (folder / "outcomes").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_is_no_bundle_is_left_alone(original: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.md").write_text("years of work")
    with pytest.raises(BuildError, match="is no bundle"):
        save(original, tmp_path)
    assert (tmp_path / "thesis.md").read_text() == "years of work"


def test_a_full_disk_leaves_the_bundle_that_was_there(
    tiny_cascade: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = save_bundle(tiny_cascade, tmp_path / "tiny", card="a", recipe="name: a\n")
    before = (goal / "manifest.json").read_bytes()

    def full(*given: Any, **named: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("adaptive.tiers.store.save_file", full)
    with pytest.raises(BuildError, match=r"bundle tiny: .*No space left .* MiB are free there"):
        save_bundle(tiny_cascade, goal, card="b", recipe="name: b\n")
    assert (goal / "manifest.json").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["tiny"]
