"""Recipes of every kind build a cascade that answers; those that cannot say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_builds import context_of, recipe_in, write_data, write_model
from tiny_transformers import packed, tiny_backbone, tiny_rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adaptive.bundle.store import load_bundle
from adaptive.config.recipe import Recipe
from adaptive.config.steps import FullConfig
from adaptive.errors import BuildError, DataError, TargetError
from adaptive.measure.recording import outcomes
from adaptive.pipeline import AdaptivePipeline
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.families import FAMILIES
from adaptive.tiers.kinds import backbone_of
from adaptive.tiers.surgery import Shape
from adaptive.tiers.tier import Tier
from adaptive.training.adapting import adapt, add_lora
from adaptive.training.build import build
from adaptive.training.measure_costs import load_costs
from adaptive.training.parts import load_built
from adaptive.training.record_outcomes import load_table
from adaptive.training.rows import load_rows

TEXTS = ["the great plot", "a dull cast", "", "very warm story and film the a"]
SMALL: dict[str, Any] = {"mid": None, "tiny": None, "router": {"candidates": ["logistic"]}}
QUICK = {"full": {"epochs": 1}, "exits": {"epochs": 1}}


def built(folder: Path, changes: dict[str, Any], **how: Any) -> Recipe:
    """Builds in the folder; the model and data are made where they are missing."""
    if not (folder / "model").exists():
        write_model(folder / "model")
    if not (folder / "data.csv").exists():
        write_data(folder / "data.csv")
    recipe = recipe_in(folder, changes)
    build(recipe, folder / "run", quiet=True, **how)
    return recipe


def answers(folder: Path, texts: list[Any] = TEXTS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = AdaptivePipeline.from_config(folder / "bundle")(texts)
    return found


def fine_tuned(folder: Path, labels: tuple[str, ...] = ("bad", "good")) -> Path:
    """A checkpoint with a head of its own that knows the task."""
    folder.mkdir()
    write_data(folder / "data.csv")
    write_model(folder / "model", labels=labels)
    built(folder, SMALL | {"data": _renamed(labels)}, until="full")
    return folder / "run" / "full" / "tier"


def _renamed(labels: tuple[str, ...]) -> dict[str, Any]:
    same = labels == ("bad", "good")
    return {} if same else {"rename": dict(zip(("bad", "good"), labels, strict=True))}


def test_the_full_tier_alone_makes_a_cascade(tmp_path: Path) -> None:
    built(tmp_path, SMALL)
    bundle = load_bundle(tmp_path / "bundle")
    assert [tier.name for tier in bundle.tiers] == ["full"]
    assert bundle.router is None
    found = answers(tmp_path)
    assert [each["label"] for each in found[:2]] == ["good", "bad"]
    assert {each["routing"]["tier"] for each in found} == {"full"}


def test_without_a_tiny_tier_the_mid_tier_is_the_anchor(tmp_path: Path) -> None:
    built(tmp_path, {"tiny": None})
    bundle = load_bundle(tmp_path / "bundle")
    assert [tier.name for tier in bundle.tiers] == ["mid", "full"]
    assert bundle.stages[0].depth == 0
    assert answers(tmp_path)[0]["label"] == "good"


def test_without_a_mid_tier(tmp_path: Path) -> None:
    built(tmp_path, {"mid": None})
    assert [tier.name for tier in load_bundle(tmp_path / "bundle").tiers] == ["tiny", "full"]
    assert answers(tmp_path)[1]["label"] == "bad"


def test_a_tiny_tier_may_be_a_narrow_transformer(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"kind": "transformer", "layers": 1, "hidden": 16, "heads": 2}
    tiny |= {"intermediate": 24}
    tiny |= {"epochs": 3, "learning_rate": 3e-3, "batch_size": 8}
    recipe = built(tmp_path, {"mid": None, "tiny": tiny})
    tier = load_bundle(tmp_path / "bundle").tiers[0]
    assert isinstance(tier.backbone, Backbone)
    assert (tier.backbone.layers, tier.backbone.hidden, tier.depths) == (1, 16, (0, 1))
    table = load_table(context_of(recipe, tmp_path / "run"), "certify")
    assert (table.predictions[:, 1] == table.labels).mean() > 0.8
    assert answers(tmp_path)[0]["label"] == "good"


def test_a_narrow_transformers_warmup_is_the_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def student(tier: Any, teacher: Any, options: Any, **more: Any) -> None:
        seen.append(options)
        raise KeyboardInterrupt

    recipe = recipe_in(tmp_path, SMALL).model_dump()
    recipe["tiny"] = {"kind": "transformer", "layers": 1, "hidden": 16, "heads": 2, "warmup": 0.7}
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv")
    monkeypatch.setattr("adaptive.training.tiny.distill", student)
    with pytest.raises(KeyboardInterrupt):
        build(Recipe.model_validate(recipe), tmp_path / "run", quiet=True)
    assert seen[0].warmup == 0.7


def test_sizes_that_a_tiny_tier_cannot_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"tiny\.width: .*64"):
        built(tmp_path, SMALL | QUICK | {"tiny": {"kind": "bag", "width": 64}})
    bad = {"kind": "transformer", "layers": 9, "hidden": 16, "heads": 2}
    with pytest.raises(BuildError, match="tiny: 9 layers, expected 1 to 3"):
        built(tmp_path, SMALL | QUICK | {"tiny": bad})
    odd = {"kind": "transformer", "layers": 1, "hidden": 15, "heads": 2}
    with pytest.raises(BuildError, match="tiny: hidden size 15 is not a multiple of 2 heads"):
        built(tmp_path, SMALL | QUICK | {"tiny": odd})


def test_depths_and_layers_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"full\.exits names depth 5, but the model has 3 layers"):
        built(tmp_path, SMALL | {"full": {"exits": [0, 5]}})
    with pytest.raises(BuildError, match=r"mid\.layers is 4, but the full tier has 3 layers"):
        built(tmp_path, QUICK | {"mid": {"layers": 4}})


def test_only_the_last_exit_of_the_full_tier_is_asked_for(tmp_path: Path) -> None:
    built(tmp_path, {"mid": None, "full": {"exits": [3]}})
    tier = load_bundle(tmp_path / "bundle").tiers[1]
    assert tier.depths == (3,)
    assert answers(tmp_path)[0]["label"] == "good"


@pytest.mark.parametrize(
    ("exits", "wide"), [({}, 32), ({"head_width": 6}, 6), ({"head_width": None}, None)]
)
def test_heads_have_a_hidden_layer_but_for_the_full_tiers_last(
    exits: dict[str, Any], wide: int | None, tmp_path: Path
) -> None:
    built(tmp_path, SMALL | {"exits": exits | {"epochs": 1}, "mid": {"layers": 1, "epochs": 1}})
    mid, full = load_bundle(tmp_path / "bundle").tiers
    assert [hidden_units(head) for head in mid.heads] == [wide, wide]
    assert [hidden_units(head) for head in full.heads] == [wide, wide, wide, None]


def hidden_units(head: Any) -> int | None:
    """Of an exit's head, None where it is linear."""
    classifier = head.classifier
    return None if isinstance(classifier, torch.nn.Linear) else int(classifier[0].out_features)


def test_the_mid_tier_imitates_the_teacher_where_its_layers_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four layers the first and third are kept: behind the first, the third comes next."""
    whole = tuple(range(4)), tuple(range(48))
    shape = Shape((0, 2), (whole[0],) * 2, (whole[1],) * 2)
    seen: list[Any] = []

    def student(*given: Any, **named: Any) -> None:
        seen.append(named["imitate"])
        raise KeyboardInterrupt

    monkeypatch.setattr("adaptive.training.learn.prune.choose", lambda *given, **named: shape)
    monkeypatch.setattr("adaptive.training.mid.distill", student)
    write_model(tmp_path / "model", num_hidden_layers=4)
    with pytest.raises(KeyboardInterrupt):
        built(tmp_path, QUICK | {"tiny": None})
    assert seen == [{0: 0, 1: 2, 2: 4}]


def test_texts_longer_than_the_models_positions_are_refused_before_training(
    tmp_path: Path,
) -> None:
    with pytest.raises(BuildError, match=r"max_length is 65, .* positions for 64 tokens"):
        built(tmp_path, SMALL | {"model": {"max_length": 65}})


def test_costs_are_measured_at_lengths_that_the_positions_allow(tmp_path: Path) -> None:
    write_model(tmp_path / "model", max_position_embeddings=20)
    recipe = built(tmp_path, SMALL | QUICK | {"cost": {"lengths": [16, 32, 128]}}, until="costs")
    costs = load_costs(context_of(recipe, tmp_path / "run"))
    assert costs.lengths.tolist() == [10, 20]


def test_lora_trains_adapters_alone_and_merges_them(tmp_path: Path) -> None:
    lora = {"tune": "lora", "learning_rate": 1e-2, "lora": {"rank": 2}}
    recipe = built(tmp_path, SMALL | {"full": lora}, until="full")
    tier = load_built(context_of(recipe, tmp_path / "run"), "full")
    names = [name for name, _ in backbone_of(tier).named_modules()]
    assert not any("lora" in name for name in names)
    start = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").base_model
    changed = set()
    for name, value in start.state_dict().items():
        if name.startswith("pooler"):
            continue
        found = backbone_of(tier).body.state_dict()[name]
        if not torch.equal(found, value):
            changed.add(name.split(".", 3)[3])
            assert torch.linalg.matrix_rank(found - value, rtol=1e-3) <= 2
    assert changed == {"attention.self.query.weight", "attention.self.value.weight"}


def test_adalora_is_merged_and_its_budget_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(
        "adaptive.training.full.adapt", lambda *given: made.append(adapt(*given)) or made[0]
    )
    adalora = {"tune": "adalora", "learning_rate": 1e-2, "epochs": 2, "lora": {"rank": 2}}
    recipe = built(tmp_path, SMALL | {"full": adalora}, until="full")
    tier = load_built(context_of(recipe, tmp_path / "run"), "full")
    assert not any("lora" in name for name, _ in backbone_of(tier).named_modules())
    (config,) = made[0].peft_config.values()
    assert (config.target_r, config.init_r) == (2, 3)
    assert config.total_step == 2 * 160 / 8 == 40 and config.tfinal == 20
    ranks = {  # peft names matrices from its own model on
        name.removeprefix("model.").split(".lora_E")[0]: sum(kept)
        for name, kept in config.rank_pattern.items()
    }
    assert len(ranks) == 6 and sum(ranks.values()) == 12  # of 18 at the start
    start = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").base_model
    for name, value in start.state_dict().items():
        if name.endswith(("query.weight", "value.weight")):
            change = backbone_of(tier).body.state_dict()[name] - value
            assert torch.linalg.matrix_rank(change, rtol=1e-3) <= ranks[name[: -len(".weight")]]


@pytest.mark.slow
def test_a_prefix_is_trained_alone_and_stays_one(tmp_path: Path) -> None:
    prefix = {"tune": "prefix", "learning_rate": 3e-2, "epochs": 2, "prefix": {"tokens": 3}}
    small = {"mid": {"epochs": 1}, "tiny": None, "quantise": {"tiers": ["mid"]}}
    built(tmp_path, SMALL | small | QUICK | {"full": prefix})
    tiers = load_bundle(tmp_path / "bundle").tiers
    assert [backbone_of(tier).prefix for tier in tiers] == [3, 3]  # the pruned tier has it, too
    start = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").base_model
    found = backbone_of(tiers[-1]).body.state_dict()
    for name, value in start.state_dict().items():
        assert name.startswith("pooler") or torch.equal(found[name], value)
    assert sum(".prefix." in name for name in found) == 3 * 2
    assert all(each["label"] in ("good", "bad") for each in answers(tmp_path))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_lora_knows_queries_and_values_of_every_family(family: str) -> None:
    backbone = tiny_backbone(family)
    tier = Tier("full", backbone, (backbone.layers,), ("a", "b", "c"), own_head=True)
    batch = packed(tiny_rows())

    def logits() -> torch.Tensor:
        return tier.answer(backbone.run(backbone.embed(batch), 0, 4), 0)[0]

    with torch.no_grad():
        before = logits()
    adapters = add_lora(tier, FullConfig())
    learned = [name for name, each in backbone.body.named_parameters() if each.requires_grad]
    assert len(learned) == 4 * 2 * len(backbone.family.adapted)  # layers, two matrices each
    assert all("lora_" in name for name in learned)
    assert all(each.requires_grad for each in tier.heads.parameters())
    with torch.no_grad():
        torch.testing.assert_close(logits(), before)  # adapters start at nothing
        for name, each in backbone.body.named_parameters():
            if "lora_B" in name:
                each.fill_(0.1)
        adapted = logits()
        adapters.merge_and_unload()
        merged = logits()
    assert not torch.allclose(adapted, before)
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name, _ in backbone.named_modules())


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (["nothing"], "no module is called 'nothing'; a bert model has attention.self.query"),
        (["query", "valve"], "no module is called 'valve'"),
        (["LayerNorm"], "full.lora.targets: Target module LayerNorm"),
    ],
)
def test_lora_names_the_modules_there_are(tmp_path: Path, targets: list[str], told: str) -> None:
    with pytest.raises(BuildError) as raised:
        built(tmp_path, SMALL | {"full": {"tune": "lora", "lora": {"targets": targets}}})
    assert told in str(raised.value)


def test_a_checkpoint_taken_as_it_is_answers_as_it_did(tmp_path: Path) -> None:
    source = fine_tuned(tmp_path / "first")
    folder = tmp_path / "second"
    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "first" / "model")
    tokenizer.save_pretrained(source)
    changes = SMALL | {"model": {"id": str(source)}, "full": {"tune": "none"}}
    recipe = built(folder, changes)
    tier = load_bundle(folder / "bundle").tiers[0]
    assert tier.own_head
    model = AutoModelForSequenceClassification.from_pretrained(source).eval()
    texts = TEXTS[:2]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = model(**batch).logits.softmax(1)
    pipeline = AdaptivePipeline.from_config(folder / "bundle")
    pipeline.policy = pipeline.bundle.ladder[0].policy  # the full tier alone
    found = pipeline(texts, top_k=None)
    scores = [{each["label"]: each["score"] for each in answer} for answer in found]
    # the last exit's temperature makes scores calibrated; their order is the checkpoint's
    temperature = float(pipeline.bundle.reliability.temperature[-1])
    tempered = (expected.log() / temperature).softmax(1)
    for row, score in zip(tempered.tolist(), scores, strict=True):
        assert [score["bad"], score["good"]] == pytest.approx(row, abs=1e-4)
    assert context_of(recipe, folder / "run").figures("full")["fit_accuracy"] > 0.9


def test_a_head_whose_classes_stand_in_another_order_is_told_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = fine_tuned(tmp_path / "first")
    AutoTokenizer.from_pretrained(tmp_path / "first" / "model").save_pretrained(source)
    config = json.loads((source / "config.json").read_text())
    config |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": None}
    (source / "config.json").write_text(json.dumps(config))
    folder = tmp_path / "second"
    folder.mkdir()
    changes = SMALL | {"model": {"id": str(source)}, "full": {"tune": "none"}}
    changes["data"] = {"rename": {"good": "good", "bad": "bad"}}  # the other way round
    for _ in range(2):  # a step that is skipped warns as well
        caplog.clear()
        built(folder, changes)
        assert "with its classes in another order it would be" in caplog.text
        assert "class 0 is 'good', class 1 is 'bad'" in caplog.text
    info = load_bundle(folder / "bundle").info
    assert len(info["warnings"]) == 2
    assert "**Warning:** the full tier gives" in (folder / "bundle" / "README.md").read_text()
    lines = (tmp_path / "first" / "data.csv").read_text().splitlines()
    numbered = [line.replace(",good,", ",1,").replace(",bad,", ",0,") for line in lines]
    (folder / "data.csv").write_text("\n".join(numbered) + "\n")
    changes["data"] = {"rename": {"1": "positive", "0": "negative"}}
    recipe = built(folder, changes, until="full")
    figures = context_of(recipe, folder / "run").figures("full")
    assert figures["fit_accuracy"] > 0.9 and figures["warnings"] == []


def test_a_fresh_head_cannot_be_taken_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="taken as it is: it is a BertModel, not a classifier"):
        built(tmp_path, SMALL | {"full": {"tune": "none"}})


def test_a_head_of_other_labels_counts_as_fresh(tmp_path: Path) -> None:
    write_model(tmp_path / "model", labels=("cat", "dog"))
    with pytest.raises(BuildError, match=r"data\.rename gives the data's labels other names"):
        built(tmp_path, SMALL | {"full": {"tune": "none"}})


def test_wholly_unlabelled_text_serves_the_agreement_target(tmp_path: Path) -> None:
    source = fine_tuned(tmp_path / "first")
    AutoTokenizer.from_pretrained(tmp_path / "first" / "model").save_pretrained(source)
    folder = tmp_path / "second"
    folder.mkdir()
    changes = {
        "model": {"id": str(source)},
        "data": {"label": None},
        "full": {"tune": "none"},
        "target": {"metric": "agreement", "level": 0.1},
    }
    recipe = built(folder, changes)
    bundle = load_bundle(folder / "bundle")
    assert bundle.labels == ("bad", "good")
    assert (bundle.outcomes["search"].labels == -1).all()
    figures = context_of(recipe, folder / "run").figures("pack")["test"]
    policy = figures["rows"][0]
    assert policy["accuracy"] is None and policy["agreement"] > 0.8
    assert figures["accuracy_ratio"] is None and figures["work_ratio"] > 1
    found = answers(folder)
    assert [each["label"] for each in found[:2]] == ["good", "bad"]


def test_unlabelled_text_beside_labelled_teaches_the_students(tmp_path: Path) -> None:
    write_data(tmp_path / "more.csv", rows=60, seed=9)
    unlabelled = [{"source": str(tmp_path / "more.csv")}, {"source": str(tmp_path / "data.csv")}]
    recipe = built(tmp_path, QUICK | {"data": {"unlabelled": unlabelled}}, until="mid")
    context = context_of(recipe, tmp_path / "run")
    # of the data's own rows those held out, 380 of 560, are left out again
    assert 200 < context.figures("data")["unlabelled"] <= 60 + 560 - 380
    assert context.figures("teacher")["rows"] == 160 + context.figures("data")["unlabelled"]


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_decoder_may_be_the_full_tier(tmp_path: Path, family: str) -> None:
    sizes = {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    write_model(tmp_path / "model", family, **(sizes if family == "gemma3_text" else {}))
    built(tmp_path, {"mid": {"layers": 2}})
    bundle = load_bundle(tmp_path / "bundle")
    assert [tier.name for tier in bundle.tiers] == ["tiny", "mid", "full"]
    assert isinstance(bundle.tiers[2].backbone, Backbone)
    assert bundle.tiers[2].backbone.family.name == family
    table = bundle.outcomes["certify"]
    assert (table.predictions[:, -1] == table.labels).mean() > 0.7
    assert len(answers(tmp_path)) == len(TEXTS)


def test_a_decoder_whose_padding_token_has_no_row_is_built_and_says_so(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "llama")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    tokenizer.save_pretrained(tmp_path / "model")
    built(tmp_path, SMALL | QUICK)
    bundle = load_bundle(tmp_path / "bundle")
    assert len(bundle.tiers[0].backbone.embedding_table) == len(tokenizer)
    assert "1 added token for which" in bundle.info["warnings"][0]
    assert len(answers(tmp_path, ["a <fill> film", "a film"])) == 2


def test_a_family_whose_first_layer_differs_can_be_cut(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "modernbert")
    recipe = built(tmp_path, QUICK | {"mid": {"layers": 1, "epochs": 1}}, until="mid")
    assert context_of(recipe, tmp_path / "run").figures("mid")["layers"] == [0]


def test_pairs_of_sentences(tmp_path: Path) -> None:
    write_data(tmp_path / "data.csv", pairs=True)
    built(tmp_path, {"data": {"pair": "pair"}, "model": {"max_length": 24}})
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.labels == ("other", "same")
    pairs = [("a great film", "the warm plot"), {"text": "a dull film", "text_pair": "poor cast"}]
    found = answers(tmp_path, pairs)
    assert {each["label"] for each in found} <= {"other", "same"}
    tokens = AdaptivePipeline(bundle).tokenize(["great film"], ["dull"])
    assert tokens.types is not None and tokens.types.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_cascade_for_bfloat16_is_recorded_and_served_in_it(tmp_path: Path) -> None:
    both = {"cost": {"dtype": "bfloat16"}, "model": {"dtype": "bfloat16"}}
    built(tmp_path, both)
    bundle = load_bundle(tmp_path / "bundle")
    assert {p.dtype for tier in bundle.tiers for p in tier.parameters()} == {torch.bfloat16}
    assert bundle.reliability.temperature.dtype == torch.float32
    assert bundle.info["dtype"] == "bfloat16"
    pipeline = AdaptivePipeline(bundle)
    assert [each["label"] for each in pipeline(TEXTS[:2])] == ["good", "bad"]
    # what was recorded is what is served, to the last answer
    tokens, labels = load_rows(tmp_path / "run" / "data" / "search.safetensors")
    served = outcomes(bundle, tokens, labels, 128)
    recorded = bundle.outcomes["search"]
    np.testing.assert_array_equal(served.predictions, recorded.predictions)
    np.testing.assert_allclose(served.reliability, recorded.reliability, atol=1e-6)


def test_a_mid_tier_that_learnt_nothing_is_told_and_served_to_no_text(tmp_path: Path) -> None:
    mid = {"layers": 1, "epochs": 1, "learning_rate": 1e-9}
    router = {"candidates": ["logistic"]}
    recipe = built(tmp_path, QUICK | {"mid": mid, "router": router})
    (told,) = context_of(recipe, tmp_path / "run").figures("policy")["warnings"]
    assert told.startswith("the mid tier gives the right label to")
    bundle = load_bundle(tmp_path / "bundle")
    assert told in bundle.info["warnings"]
    policies = [bundle.policy, *(entry.policy for entry in bundle.ladder)]
    assert [tier.name for tier in bundle.tiers] == ["tiny", "mid", "full"]
    assert not any(1 in policy.path for policy in policies)


def test_an_accuracy_that_nothing_reaches_is_refused_with_what_was_found(tmp_path: Path) -> None:
    full = {"full": {"epochs": 1, "learning_rate": 1e-6}}
    target = {"metric": "accuracy", "level": 0.999}
    with pytest.raises(
        TargetError, match=r"accuracy of at least 99\.90%; .* full tier alone misses"
    ):
        built(tmp_path, SMALL | full | {"target": target})
    assert not (tmp_path / "run" / "policy").exists()
    changes = SMALL | full | {"target": {"metric": "accuracy", "level": 0.1}}
    built(tmp_path, changes)
    assert len(answers(tmp_path)) == len(TEXTS)


def test_a_target_of_no_loss_at_all_is_kept_by_the_full_tier(tmp_path: Path) -> None:
    recipe = built(tmp_path, SMALL | QUICK | {"target": {"metric": "agreement", "level": 0.0}})
    figures = context_of(recipe, tmp_path / "run").figures("policy")
    assert figures["excess"] <= 0


def test_too_few_rows_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    write_data(tmp_path / "data.csv", rows=40)
    with pytest.raises(DataError, match=r"data\.csv: too few rows, 540 wanted of 40"):
        built(tmp_path, SMALL)
    splits = {"train": 20, "fit": 5, "search": 5, "certify": 5, "test": 5}
    with pytest.raises(DataError, match="fit 5, search 5, certify 5, test 5; each needs at least"):
        built(tmp_path, SMALL | {"data": {"splits": splits}})


def test_a_build_on_as_few_rows_as_are_allowed(tmp_path: Path) -> None:
    splits = {"train": 16, "fit": 8, "search": 8, "certify": 8, "test": 8}
    router = {"candidates": ["logistic", "mlp", "knn", "trees"]}
    built(tmp_path, QUICK | {"data": {"splits": splits}, "router": router})
    assert len(answers(tmp_path)) == len(TEXTS)


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).unlink()
    with pytest.raises(BuildError, match="no tokenizer that can be loaded"):
        built(tmp_path, SMALL)


def test_the_recipe_and_its_words_reach_the_bundle(tmp_path: Path) -> None:
    given = {"license": "apache-2.0", "language": "en", "description": "Films, good or bad."}
    recipe = built(tmp_path, SMALL | QUICK | given)
    info = load_bundle(tmp_path / "bundle").info
    assert {key: info[key] for key in given} == given
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    assert json.loads((tmp_path / "run" / "pack" / "step.json").read_text())["figures"]["test"]
