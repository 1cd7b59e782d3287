"""A certified bundle answers as it was certified, or says that it does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_cascade import tiny_texts

from adaptive import AdaptivePipeline
from adaptive.bundle.card import render_card
from adaptive.bundle.certificates import check_files, content_hash, read_certificate
from adaptive.bundle.contents import Bundle, LadderEntry
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.manifest import seal
from adaptive.bundle.store import load_bundle, recertify_bundle, save_bundle
from adaptive.certifying.recertify import recertify, row_seed, without_rows
from adaptive.errors import BuildError, BundleError, ConfigError, TargetError
from adaptive.measure.recording import outcomes
from adaptive.measure.timing import costs_here, measure_costs
from adaptive.policy.costs import MILLISECONDS, WORK
from adaptive.policy.lookup import tier_alone
from adaptive.policy.worth import reclassified
from adaptive.text import tokens as token_rows
from adaptive.text.row_hashes import hash_rows, hashes_of
from adaptive.types import NEVER, Groups, Policy, Target, Tokens

ROWS, TEXTS = 300, tiny_texts(30, 5)
UNKNOWN = np.full(ROWS, -1, np.int32)


def rows_of(bundle: Bundle, seed: int) -> Tokens:
    """Rows of texts that are all different."""
    texts = list(dict.fromkeys(tiny_texts(ROWS + 30, seed)))[:ROWS]
    return token_rows.tokenize(bundle.tokenizer, texts, max_length=32)


@pytest.fixture(scope="module")
def certified(tiny_cascade: Bundle) -> Bundle:
    """The tiny cascade, certified for an agreement that its random tiers can keep."""
    search = outcomes(tiny_cascade, rows_of(tiny_cascade, 2), UNKNOWN, 32)
    family = []
    for share in (0.98, 0.95, 0.9, 0.8, 0.7, 0.6):
        levels = tuple(np.quantile(search.reliability, share, axis=0).tolist())
        family += [Policy((0, 1, 2), levels), Policy((2,), (*[NEVER] * 4, *levels[4:]))]
    ladder = tuple(LadderEntry(str(index), each) for index, each in enumerate(family))
    bundle = replace(tiny_cascade, outcomes={"search": search}, ladder=ladder)
    target, levels = Target("agreement", 0.4), (0.6, 0.04)
    return recertify(bundle, rows_of(bundle, 3), UNKNOWN, target, levels=levels)


@pytest.fixture(scope="module")
def pristine(certified: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certified") / "bundle"
    return save_bundle(certified, folder, card=render_card(certified), recipe="name: x\n")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


def marks(pipeline: AdaptivePipeline, **given: Any) -> set[bool]:
    return {answer["routing"]["covered"] for answer in pipeline(TEXTS, **given)}


def test_certifying_needs_no_training_and_chooses_the_cheapest_certified(
    certified: Bundle, tiny_cascade: Bundle
) -> None:
    found = certified.certificate
    assert found is not None and found.verdict == "CERTIFIED"
    assert 3 < found.certified < len(found.front)
    assert found.front[0].policy == tier_alone(certified.stages, 2)
    costs = [tested.cost for tested in found.front[: found.certified]]
    assert certified.policy == found.policy == found.front[int(np.argmin(costs))].policy
    assert certified.tiers is tiny_cascade.tiers
    assert (certified.targets, found.n) == ((Target("agreement", 0.4),), ROWS)
    ladder = [entry.policy for entry in certified.ladder]
    assert ladder[: len(found.front)] == [t.policy for t in found.front]
    assert len(set(ladder)) == len(ladder)
    conditions = found.conditions
    assert (conditions.device, conditions.dtype, conditions.max_length) == ("cpu", "float32", 32)
    assert "torch" in conditions.versions and len(conditions.rows) == 64


def test_rows_that_are_repeated_count_once(certified: Bundle) -> None:
    every = rows_of(certified, 4)
    few = token_rows.select(every, np.arange(4))
    often = token_rows.select(every, np.tile(np.arange(4), 75))
    labels = np.tile(np.array([2, 0, 1, 0], np.int32), 75)
    groups = {"side": Groups(("left", "right"), np.zeros(300, np.int32))}
    target = Target("agreement", 0.6, group="side")
    found = recertify(certified, often, labels, target, groups=groups)
    once = {"side": groups["side"].take(slice(4))}
    expected = recertify(certified, few, labels[:4], target, groups=once)
    assert found.certificate is not None and expected.certificate is not None
    assert found.certificate.n == 4
    assert found.certificate.front == expected.certificate.front
    assert found.certificate.conditions.rows == expected.certificate.conditions.rows
    assert without_rows(found) == ("side = right",)


def test_repeated_rows_count_where_they_are_separate_requests(certified: Bundle) -> None:
    often = token_rows.select(rows_of(certified, 4), np.tile(np.arange(4), 75))
    target = Target("agreement", 0.6)
    found = [
        recertify(certified, often, UNKNOWN, target, count_repeats=each).certificate
        for each in (False, True)
    ]
    assert [each.n for each in found if each] == [4, 300]
    told = [(each.conditions.repeats, " ".join(each.assumptions)) for each in found if each]
    assert told[0][0] is False and "Each different text counts once" in told[0][1]
    assert told[1][0] is True and "texts as they come" in told[1][1]


def test_rows_that_the_build_used_are_left_out_and_counted(certified: Bundle) -> None:
    rows = rows_of(certified, 4)
    knowing = replace(certified, seen=hashes_of([token_rows.select(rows, np.arange(40, 300))]))
    target, labels = Target("agreement", 0.6), np.arange(ROWS, dtype=np.int32) % 3
    found = recertify(knowing, rows, labels, target).certificate
    alone = recertify(
        certified, token_rows.select(rows, np.arange(40)), labels[:40], target
    ).certificate
    assert found is not None and alone is not None
    assert (found.n, found.conditions.known) == (40, 260)
    assert found.front == alone.front and found.conditions.rows == alone.conditions.rows
    with pytest.raises(TargetError, match="all 260 rows were used to train, fit or search"):
        recertify(knowing, token_rows.select(rows, np.arange(40, 300)), labels[40:], target)


def test_a_bundle_keeps_which_rows_it_was_built_on_and_is_bound_to_them(
    certified: Bundle, tmp_path: Path
) -> None:
    knowing = replace(certified, seen=hashes_of([rows_of(certified, 5)]))
    folder = save_bundle(knowing, tmp_path / "bundle", card="card\n", recipe="name: x\n")
    found = load_bundle(folder)
    assert found.seen is not None and knowing.seen is not None
    assert found.seen.tolist() == knowing.seen.tolist() and len(found.seen) == ROWS
    again = recertify(found, rows_of(found, 6), UNKNOWN, found.targets)
    recertify_bundle(again, folder, card="card\n")
    assert "seen.safetensors" in load_bundle(folder).certificate.hashes  # type: ignore[union-attr]
    (folder / "seen.safetensors").unlink()
    seal(folder)
    with pytest.raises(BundleError, match=r"seen\.safetensors: was there when"):
        load_bundle(folder)


def test_rows_are_known_by_their_tokens_and_segments(certified: Bundle) -> None:
    tokenizer = certified.tokenizer
    one = token_rows.tokenize(tokenizer, ["word1 word2", "word1  word2", "word2"], max_length=8)
    two = token_rows.tokenize(tokenizer, ["word1", "word1 word2"], ["word2", "word1"], max_length=8)
    first, second = hash_rows(one), hash_rows(two)
    assert first[0] == first[1] != first[2]
    assert len({*first.tolist(), *second.tolist()}) == 4
    assert hash_rows(replace(one, types=None)).tolist() == first.tolist()


def test_classes_without_rows_are_named(certified: Bundle) -> None:
    rows, labels = rows_of(certified, 4), np.arange(ROWS, dtype=np.int32) % 2
    found = recertify(certified, rows, labels, Target("agreement", 0.4))
    assert without_rows(found) == ("label = so-so",)
    assert without_rows(certified) == ()  # without labels it is not known


def test_the_order_of_a_front_does_not_know_the_certification_rows(certified: Bundle) -> None:
    other = recertify(certified, rows_of(certified, 4), UNKNOWN, certified.targets)
    assert other.certificate is not None and certified.certificate is not None
    now, before = ([t.policy for t in b.certificate.front] for b in (other, certified))
    assert now == before
    assert other.certificate.conditions.rows != certified.certificate.conditions.rows


def test_answers_of_a_certified_bundle_say_so(pristine: Path) -> None:
    assert marks(AdaptivePipeline.from_config(pristine)) == {True}
    assert marks(AdaptivePipeline.from_config(pristine, uncertified=True)) == {False}


def test_a_bundle_without_a_certificate_loads_and_marks_its_answers(tiny_bundle: Path) -> None:
    assert load_bundle(tiny_bundle).certificate is None
    assert marks(AdaptivePipeline.from_config(tiny_bundle)) == {False}


def test_a_text_read_in_windows_is_not_certified(pristine: Path) -> None:
    pipeline = AdaptivePipeline.from_config(pristine)
    long = " ".join(tiny_texts(10, 6))
    short, windows = pipeline(["word1", long], truncation="windows")
    assert windows["routing"]["windows"] > 1
    assert (short["routing"]["covered"], windows["routing"]["covered"]) == (True, False)


def test_another_certified_point_may_be_chosen_and_no_other(pristine: Path) -> None:
    found = load_bundle(pristine).certificate
    assert found is not None
    for name in ("policy-0", "policy-1", f"policy-{found.certified - 1}"):
        pipeline = AdaptivePipeline.from_config({"bundle": str(pristine), "policy": name})
        assert marks(pipeline) == {True}
    preset = {"bundle": str(pristine), "policy": f"policy-{found.certified}"}
    with pytest.raises(TargetError, match="is not certified"):
        AdaptivePipeline.from_config(preset)
    assert marks(AdaptivePipeline.from_config(preset, uncertified=True)) == {False}


@pytest.mark.parametrize(
    "target",
    [
        "agreement=0.6",
        {"metric": "agreement", "level": 0.6},
        {"metric": "agreement", "level": 0.6, "confidence": 0.95},
        Target("agreement", 0.6),
    ],
    ids=str,
)
def test_another_level_is_chosen_with_its_own_policy_and_promise(
    pristine: Path, target: Any
) -> None:
    main = AdaptivePipeline.from_config(pristine)
    other = AdaptivePipeline.from_config(pristine, target=target)
    assert other.bundle.targets == (Target("agreement", 0.6),)
    assert main.bundle.certificate is not None and other.bundle.certificate is not None
    assert other.policy == other.bundle.certificate.policy != main.policy
    assert not main.bundle.certificate.covers(other.policy)
    assert marks(other) == {True}
    preset = {
        "bundle": str(pristine),
        "target": target if isinstance(target, dict) else str_of(target),
    }
    named = AdaptivePipeline.from_config({**preset, "policy": "policy-1"})
    assert named.policy == other.bundle.certificate.front[1].policy
    assert AdaptivePipeline.from_config(preset).policy == other.policy
    assert AdaptivePipeline.from_config(preset, target="agreement=0.4").policy == main.policy


def str_of(target: Any) -> str:
    return target if isinstance(target, str) else f"{target.metric}={target.level}"


def test_a_target_that_is_not_certified_is_refused_and_the_others_are_listed(
    pristine: Path,
) -> None:
    for target, why in (
        ("agreement=0.5", "none of its promises"),
        ("accuracy_drop=0.4", "none of its promises"),
        ("agreement=0.4@label", "agreement=0.4@label"),
        (Target("agreement", 0.4, 0.99), "confidence of 0.99"),
        ("agreement=0.04", "NOT CERTIFIED: needs about"),
    ):
        with pytest.raises(TargetError, match=why) as caught:
            AdaptivePipeline.from_config(pristine, target=target)
        assert str(caught.value).endswith("Certified: agreement=0.4, agreement=0.6")
    with pytest.raises(TargetError, match="no certificate, or was opened without it"):
        AdaptivePipeline.from_config(pristine, target="agreement=0.6", uncertified=True)
    for wrong in ("speed=1", {"metric": "agreement"}, {"level": 2, "metric": "agreement"}, 0.02):
        with pytest.raises(ConfigError, match="target"):
            AdaptivePipeline.from_config(pristine, target=wrong)  # type: ignore[arg-type]


def test_a_bundle_saved_at_another_level_keeps_all_its_promises(
    pristine: Path, tmp_path: Path
) -> None:
    bundle = AdaptivePipeline.from_config(pristine, target="agreement=0.6").bundle
    again = save_bundle(bundle, tmp_path / "again", card="card\n", recipe="name: x\n")
    assert AdaptivePipeline.from_config(again).policy == bundle.policy
    assert marks(AdaptivePipeline.from_config(again, target="agreement=0.4")) == {True}


def change_reliability(folder: Path) -> None:
    file = folder / LAYOUT.reliability
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    tensors["temperature"] = tensors["temperature"] * 2
    save_file(tensors, file, metadata=metadata)


def change_costs(folder: Path) -> None:
    file = folder / LAYOUT.costs
    content = json.loads(file.read_text())
    content["embed"][0][0] += 1
    file.write_text(json.dumps(content))


def change_policy(folder: Path) -> None:
    file = folder / LAYOUT.policy
    content = json.loads(file.read_text())
    stages = len(content["chosen"]["thresholds"])
    content["chosen"] = {
        "path": [0],
        "thresholds": [0.123, *["never"] * (stages - 1)],
        "risk_weight": None,
        "entry_cost": [],
        "abstain": "always",
    }
    file.write_text(json.dumps(content))


def change_rows(folder: Path) -> None:
    file = folder / LAYOUT.outcomes("certify")
    shutil.copy(folder / LAYOUT.outcomes("search"), file)


def remove_costs(folder: Path) -> None:
    (folder / LAYOUT.costs).unlink()


def change_length(folder: Path) -> None:
    file = folder / LAYOUT.header
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"max_length": 16}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_reliability, "reliability.safetensors: is not the one that was certified"),
        (change_costs, "costs.json: is not the one that was certified"),
        (change_rows, "outcomes/certify.safetensors: is not the one that was certified"),
        (remove_costs, "costs.json: was there when the bundle was certified"),
        (change_policy, "policy.json: its chosen policy is none of those that were certified"),
        (change_length, "certified for max_length 32, not 16"),
    ],
)
def test_a_bundle_that_is_not_what_was_certified_is_refused(
    folder: Path, change: Callable[[Path], None], told: str
) -> None:
    change(folder)
    seal(folder)
    with pytest.raises(BundleError, match=told):
        load_bundle(folder)
    assert load_bundle(folder, uncertified=True).certificate is None
    assert marks(AdaptivePipeline.from_config(folder, uncertified=True)) == {False}


TELLING = {"README.md", "CERTIFICATE.md", "certificate.json", "manifest.json", "recipe.yaml"}
CHECKED = {"bundle.json", "policy.json"}  # what they say is compared with what was certified


def spoil(file: Path) -> None:
    """Change what a file says, and as little else as can be."""
    content = bytearray(file.read_bytes())
    if file.suffix == ".safetensors":
        content[-1] ^= 1  # of a tensor
    else:
        file.write_text(json.dumps(json.loads(content) | {"more": 1}))
        return
    file.write_bytes(bytes(content))


def test_every_file_that_decides_an_answer_is_bound(folder: Path, certified: Bundle) -> None:
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    certificate = read_certificate(folder, names, certified.stages)
    assert certificate is not None
    free = TELLING | CHECKED | {LAYOUT.outcomes("search")}
    assert set(certificate.hashes) == names - free
    assert {f"tiers/{t}/{f}" for t in ("tiny", "mid", "full") for f in ("tier.json",)} <= names
    for name in certificate.hashes:
        before = (folder / name).read_bytes()
        spoil(folder / name)
        with pytest.raises(BundleError, match=f"^{name}: is not the one that was certified"):
            check_files(certificate, folder, names)
        with pytest.raises(BundleError, match=f"^{name}: was there when"):
            check_files(certificate, folder, names - {name})
        (folder / name).write_bytes(before)
    check_files(certificate, folder, names)
    for more in ("tiers/full/more.json", "outcomes/certify2.safetensors"):
        refused = not more.startswith("outcomes/")
        with pytest.raises(BundleError, match="came later") if refused else nullcontext():
            check_files(certificate, folder, names | {more})


@pytest.mark.parametrize("field", ["labels", "tiers"])
def test_a_header_that_names_other_labels_or_tiers_is_refused(folder: Path, field: str) -> None:
    file = folder / LAYOUT.header
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {field: content[field][::-1]}))
    seal(folder)
    with pytest.raises(BundleError):
        load_bundle(folder, uncertified=True)


def test_the_order_of_rows_has_a_stream_of_its_own(certified: Bundle) -> None:
    found = certified.certificate
    assert found is not None and found.seeds == {"rows": row_seed(0)}
    plain = range(50)
    seeds = [row_seed(seed) for seed in plain]
    assert len(set(seeds)) == 50 and set(seeds).isdisjoint(plain)
    orders = [np.random.default_rng(seed).permutation(40).tolist() for seed in (*seeds, *plain)]
    assert len(set(map(tuple, orders))) == 100


def test_other_tiers_are_refused(folder: Path, pristine: Path) -> None:
    bundle = load_bundle(folder)
    with torch.no_grad():
        for parameter in bundle.tiers[1].heads.parameters():
            parameter += 0.01
    with pytest.raises(BundleError, match=r"tiers/mid/heads\.safetensors: is not the one"):
        save_bundle(bundle, folder, card="card\n", recipe="name: x\n")
    save_bundle(replace(bundle, certificate=None), folder, card="card\n", recipe="name: x\n")
    assert load_bundle(folder).certificate is None
    for name in (LAYOUT.certificate, LAYOUT.certificate_page):
        shutil.copy(pristine / name, folder / name)
    seal(folder)
    with pytest.raises(BundleError, match=r"tiers/mid/heads\.safetensors: is not the one"):
        load_bundle(folder)


def test_another_dtype_opens_the_certificate_again(pristine: Path) -> None:
    with pytest.raises(BundleError, match="certified for dtype float32, not bfloat16"):
        AdaptivePipeline.from_config(pristine, dtype="bfloat16")
    half = AdaptivePipeline.from_config(pristine, dtype="bfloat16", uncertified=True)
    assert marks(half) == {False}


def test_another_device_family_is_refused(folder: Path) -> None:
    file = folder / LAYOUT.certificate
    content = json.loads(file.read_text())
    content["conditions"]["device"] = "cuda"
    file.write_text(json.dumps(content))
    seal(folder)
    with pytest.raises(BundleError, match="certified for device family cuda, not cpu"):
        load_bundle(folder)


def test_a_bundle_certified_in_another_dtype_is_served_in_it(folder: Path) -> None:
    half = load_bundle(folder, dtype=torch.bfloat16, uncertified=True)
    weights = content_hash(folder / "tiers/full/model.safetensors")
    again = recertify(half, rows_of(half, 3), UNKNOWN, half.targets)
    recertify_bundle(again, folder, card="card\n")
    assert content_hash(folder / "tiers/full/model.safetensors") == weights
    assert marks(AdaptivePipeline.from_config(folder, dtype="bfloat16")) == {True}
    with pytest.raises(BundleError, match="certified for dtype bfloat16, not float32"):
        load_bundle(folder)


def test_costs_are_measured_anew_where_the_bundle_lies_now(folder: Path) -> None:
    bundle = load_bundle(folder)
    given = {"batch_size": 4, "lengths": [4, 8], "repeats": 1}
    table = measure_costs(bundle.tiers, bundle.reliability, bundle.device, **given)  # type: ignore[arg-type]
    here = replace(bundle, costs=table)
    assert costs_here(here, 4) is table
    assert costs_here(replace(bundle, costs=None), 4).unit == WORK
    assert bundle.costs is not None and costs_here(bundle, 4) is bundle.costs  # counted
    half = load_bundle(folder, dtype=torch.bfloat16, uncertified=True)
    for other in (
        replace(half, costs=table),
        replace(half, costs=replace(table, measured={**table.measured, "device": "H100"})),
    ):
        again = recertify(other, rows_of(half, 3), UNKNOWN, half.targets, batch_size=4)
        assert again.costs is not None and again.costs.unit == MILLISECONDS
        assert again.costs.measured["dtype"] == "bfloat16"
        assert again.costs.measured["device"] == "cpu"
        assert again.costs.measured["batch_size"] == 4
        assert again.costs.lengths.tolist() == [4, 8] and (again.costs.embed > 0).all()
        assert (again.costs.router > 0).all() == (half.router is not None)
    recertify_bundle(again, folder, card="card\n")
    served = load_bundle(folder, dtype=torch.bfloat16)
    assert served.costs is not None and served.certificate is not None
    assert served.costs.embed.tolist() == again.costs.embed.tolist()
    assert "dtype bfloat16" in served.certificate.conditions.measured


def test_recertifying_that_fails_leaves_the_bundle_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    bundle = load_bundle(folder)
    again = recertify(bundle, rows_of(bundle, 8), UNKNOWN, Target("agreement", 0.5))

    def fail(*given: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("adaptive.bundle.store.seal", fail)
    with pytest.raises(BuildError, match="no space"):
        recertify_bundle(again, folder, card="card\n")
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    assert [f.name for f in folder.parent.iterdir()] == ["bundle"]


def test_a_loaded_bundle_keeps_its_certificate_when_it_is_saved_again(
    pristine: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(pristine)
    AdaptivePipeline(bundle)(TEXTS)
    again = save_bundle(bundle, tmp_path / "again", card="card\n", recipe="name: x\n")
    assert load_bundle(again).certificate == bundle.certificate


def test_a_certificate_is_not_saved_with_what_it_is_not_about(
    pristine: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(pristine)
    other = Policy((0,), (0.5, *[NEVER] * (len(bundle.stages) - 1)))
    for changed, told in (
        (replace(bundle, policy=other), "none of those that were certified"),
        (replace(bundle, router=None, ladder=()), "router.json: was there"),
        (replace(bundle, max_length=8), "max_length 32, not 8"),
    ):
        if changed.router is None:
            bare = tier_alone(bundle.stages, 2)
            changed = replace(changed, policy=bare)
        with pytest.raises(BundleError, match=told):
            save_bundle(changed, tmp_path / "other", card="card\n", recipe="name: x\n")
    assert not (tmp_path / "other").exists()


def test_without_search_rows_there_is_no_order_to_certify_in(certified: Bundle) -> None:
    bare = replace(certified, outcomes={})
    with pytest.raises(BundleError, match="outcomes/search"):
        recertify(bare, rows_of(bare, 3), UNKNOWN, certified.targets)
    with pytest.raises(TargetError, match="needs labels"):
        recertify(certified, rows_of(certified, 3), UNKNOWN, Target("accuracy", 0.5))
    with pytest.raises(TargetError, match=r"a confidence of 0\.999999 is more than 0\.9999"):
        recertify(certified, rows_of(certified, 3), UNKNOWN, Target("agreement", 0.4, 0.999999))
    with pytest.raises(TargetError, match="no rows"):
        nothing = token_rows.select(rows_of(certified, 3), np.arange(0))
        recertify(certified, nothing, UNKNOWN[:0], certified.targets)


def test_a_full_tier_that_misses_an_accuracy_answers_without_a_promise(folder: Path) -> None:
    bundle = load_bundle(folder)
    search = bundle.outcomes["search"]
    known = reclassified(search, labels=search.predictions[:, -1].copy())
    labels = np.zeros(ROWS, np.int32)
    again = recertify(
        replace(bundle, outcomes={"search": known}),
        rows_of(bundle, 3),
        labels,
        Target("accuracy", 0.99),
    )
    recertify_bundle(again, folder, card="card\n")
    found = load_bundle(folder)
    assert found.certificate is not None and found.certificate.certified == 0
    assert found.policy == tier_alone(found.stages, 2)
    assert marks(AdaptivePipeline.from_config(folder)) == {False}


def test_rows_that_were_searched_on_are_refused(certified: Bundle) -> None:
    with pytest.raises(TargetError, match=f"{ROWS} of {ROWS} rows are like those"):
        recertify(certified, rows_of(certified, 2), UNKNOWN, certified.targets)


def test_the_page_and_the_card_tell_the_verdict(pristine: Path, certified: Bundle) -> None:
    found = certified.certificate
    assert found is not None
    page = (pristine / LAYOUT.certificate_page).read_text()
    assert found.headline in page and "tiers/mid/heads.safetensors" in page
    card = (pristine / LAYOUT.card).read_text()
    assert found.headline in card and f"tested on {ROWS} texts" in card
    assert "Each different text counts once" in card
    assert "No certificate" in render_card(replace(certified, certificate=None))
