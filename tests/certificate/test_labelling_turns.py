"""Certifying in Python on texts without labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_pool import pool, searched, texts_of, tokens_of
from tiny_population import FULL, STAGES, Population, answering, certified

from adaptive import AdaptivePipeline
from adaptive.bundle.card import render_card
from adaptive.bundle.certificates import certificate_from_json, certificate_to_json
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import load_bundle, save_bundle
from adaptive.certificate.asking import error_of_tests
from adaptive.certificate.looks import VARIABLE
from adaptive.certificate.promises import Certificate
from adaptive.certifying.concluding import finish
from adaptive.certifying.labelling import Labelling, certify
from adaptive.certifying.unlabelled import outlook, plan, sampled
from adaptive.errors import BundleError, DataError, TargetError
from adaptive.policy.worth import reclassified
from adaptive.text.row_hashes import hash_rows
from adaptive.types import Groups, Target

DROP = Target("accuracy_drop", 0.3)


@pytest.fixture(scope="module")
def bundle(tiny_cascade: Bundle) -> Bundle:
    return searched(tiny_cascade)


@pytest.fixture(scope="module")
def known(bundle: Bundle) -> tuple[list[str], dict[str, str]]:
    return pool(bundle, 250)


def certificate_of(bundle: Bundle) -> Certificate:
    assert bundle.certificate is not None
    return bundle.certificate


def test_a_function_is_asked_until_the_verdict_is_that_of_all_labels(
    bundle: Bundle, known: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    texts, labels = known
    seen: list[str] = []

    def ask(few: list[str]) -> list[str]:
        assert len(few) <= 15
        seen.extend(few)
        return [labels[text] for text in few]

    given = {"target": DROP, "levels": (0.1,)}
    found = certify(AdaptivePipeline(bundle), [*texts, texts[0]], ask, batch=15, **given)
    certificate = certificate_of(found)
    assert len(set(seen)) == len(seen) < 0.6 * len(texts)
    everything = np.array([bundle.labels.index(labels[text]) for text in texts], dtype=np.int32)
    whole = finish(plan(bundle, tokens_of(bundle, texts), DROP, levels=(0.1,)), everything)
    for one, other in zip(
        (certificate, *certificate.further),
        (certificate_of(whole), *certificate_of(whole).further),
        strict=True,
    ):
        assert (one.verdict, one.policy, one.certified) == (
            other.verdict,
            other.policy,
            other.certified,
        )
        assert one.n == 250 and one.asked is not None and one.asked.ended
        assert one.asked.labels == len(seen) and one.asked.accuracy_rows == 300
        assert all(a.p_value >= b.p_value for a, b in zip(one.front, other.front, strict=True))
    assert 0 < certificate.certified < len(certificate.front)
    assert certificate.conditions.rows != certificate_of(whole).conditions.rows
    told = json.loads(json.dumps(certificate_to_json(certificate)))
    assert certificate_from_json(told, bundle.stages) == certificate
    folder = save_bundle(found, tmp_path / "bundle", card=render_card(found), recipe="name: x\n")
    assert certificate_of(load_bundle(folder)).asked == certificate.asked
    told["asked"]["accuracy"] = 1.5
    with pytest.raises(BundleError, match="`asked` needs counts"):
        certificate_from_json(told, bundle.stages)


def test_a_label_that_is_not_known_counts_as_lost(
    bundle: Bundle, known: tuple[list[str], dict[str, str]]
) -> None:
    texts, labels = known
    turns = Labelling(bundle, texts, target=DROP, batch=15)
    start = certificate_of(turns.bundle())
    assert start.asked is not None and not start.asked.ended and turns.outlook()
    while turns.texts:
        turns.give([None] * len(turns.texts))
    silent = certificate_of(turns.bundle())
    assert silent.certified == start.certified
    assert silent.front == start.front and (turns.labels < 0).all()
    turns = Labelling(bundle, texts, target=DROP, batch=15)
    for wrong, told in (
        (["good"], "15 texts were asked for, 1 labels came"),
        (["awful"] * 15, "label 1 of 15 is none of the bundle's 3"),
        ("good", "15 texts were asked for"),
    ):
        with pytest.raises(DataError, match=told):
            turns.give(wrong)
    assert (turns.labels < 0).all()
    turns.give([labels[text] for text in turns.texts])
    assert (turns.labels >= 0).sum() == 15


def test_the_outlook_falls_as_labels_come(
    bundle: Bundle, known: tuple[list[str], dict[str, str]]
) -> None:
    texts, labels = known
    turns = Labelling(bundle, texts, target=DROP, batch=15)
    first = turns.outlook()
    assert first[0].labels > 0 and all(each.saves > 0 for each in first)
    while turns.texts:
        turns.give([labels[text] for text in turns.texts])
    assert turns.outlook() == outlook(turns.plan, turns.labels) == []


def test_a_sample_bounds_the_accuracy_and_is_not_tested_on(
    bundle: Bundle, known: tuple[list[str], dict[str, str]]
) -> None:
    texts = known[0]
    tokens, own = tokens_of(bundle, texts), tokens_of(bundle, texts_of(40, 9))
    labels = np.zeros(40, dtype=np.int32)
    accuracy = sampled(bundle, own, labels, tokens)
    made = plan(bundle, tokens, DROP, accuracy=accuracy)
    reference = plan(bundle, own, DROP).table.reference
    assert (accuracy.right, accuracy.rows) == (int((reference == 0).sum()), 40)
    assert made.lines[0].margin == pytest.approx(0.3 * accuracy.bound(0.05))
    asked = certificate_of(finish(made, made.table.labels)).asked
    assert asked is not None and asked.accuracy_from == "sampled rows"
    with pytest.raises(TargetError, match="draw it apart from the pool"):
        sampled(bundle, tokens_of(bundle, texts[:40]), labels, tokens)
    with pytest.raises(TargetError, match="needs labels"):
        sampled(bundle, own, labels - 1, tokens)


def test_what_cannot_be_certified_so_is_refused(
    bundle: Bundle, known: tuple[list[str], dict[str, str]]
) -> None:
    tokens = tokens_of(bundle, known[0][:30])
    for target in (
        Target("accuracy", 0.5),
        Target("accuracy_drop", 0.1, group="label"),
        (DROP, Target("agreement", 0.5)),
    ):
        with pytest.raises(TargetError, match="serve one promise of accuracy_drop"):
            plan(bundle, tokens, target)
    search = bundle.outcomes["search"]
    blind = reclassified(search, labels=np.full(len(search), -1, np.int32))
    with pytest.raises(TargetError, match="search rows have no labels"):
        plan(replace(bundle, outcomes={"search": blind}), tokens, DROP)
    with pytest.raises(TargetError, match="served for nothing else"):
        plan(bundle, tokens_of(bundle, texts_of(300, 2)), DROP)


def test_the_look_is_counted_once_when_the_first_labels_come(
    bundle: Bundle,
    known: tuple[list[str], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = tmp_path / "looks.jsonl"
    monkeypatch.setenv(VARIABLE, str(ledger))
    texts, labels = known
    turns = Labelling(bundle, texts, target=DROP, batch=60)
    assert not ledger.exists()
    turns.give([labels[text] for text in turns.texts])
    assert len(ledger.read_text().splitlines()) == 1
    first = certificate_of(turns.bundle())
    assert (first.looks, first.confidence_proved) == (1, 0.95)
    assert len(ledger.read_text().splitlines()) == 1
    other = Labelling(bundle, texts, target=replace(DROP, level=0.2), batch=60)
    assert certificate_of(other.bundle()).confidence_proved == pytest.approx(0.9)
    planned = plan(bundle, tokens_of(bundle, texts), DROP, looks=2)
    assert planned.lines[0].error == pytest.approx(error_of_tests(0.025))
    assert planned.lines[0].margin == pytest.approx(0.3 * planned.accuracy.bound(0.025))
    assert certificate_of(finish(planned, planned.table.labels)).planned == 2


def test_rows_that_the_build_used_and_repeats_do_not_count(
    bundle: Bundle, known: tuple[list[str], dict[str, str]]
) -> None:
    tokens = tokens_of(bundle, [*known[0], *known[0][:30]])
    used = replace(bundle, seen=np.unique(hash_rows(tokens)[:20]))
    made = plan(used, tokens, DROP)
    assert (len(made), made.used) == (230, 40)  # each of these stands twice
    assert certificate_of(finish(made, made.table.labels)).conditions.known == 40
    assert len(plan(used, tokens, DROP, count_repeats=True)) == 240
    with pytest.raises(TargetError, match="rows that the build used"):
        labels = np.zeros(20, np.int32)
        sampled(used, tokens_of(bundle, known[0][:20]), labels, tokens_of(bundle, ["word1"]))


def test_too_few_labelled_rows_propose_the_texts_to_label() -> None:
    people = Population(worse=0.02, better=0.012, accuracy=0.9)
    table = people.draw(300, np.random.default_rng(1))
    front = [FULL, answering(0.5), answering(0.8)]
    found = certified(front, table, Target("accuracy_drop", 0.01))
    assert found.verdict == "NOT CERTIFIED" and found.rows_needed is not None
    assert found.labels_needed is not None and 0 < 10 * found.labels_needed < found.rows_needed
    assert f"you would label about {found.labels_needed} of them" in str(found.proposal)
    told = json.loads(json.dumps(certificate_to_json(found)))
    assert certificate_from_json(told, STAGES).proposal == found.proposal
    grouped = replace(table, groups={"all": Groups(("one",), np.zeros(300, np.int32))})
    for target in (Target("accuracy_drop", 0.01, group="all"), Target("accuracy", 0.9)):
        assert certified(front, grouped, target).proposal is None
