"""The parts of a certificate of recorded outcomes: deals, estimates, prices, signals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_rows import outcomes

from adaptive.errors import ConfigError, DataError
from adaptive.recorded.dealing import deal
from adaptive.recorded.estimators import Estimator, _boosted, _weighted, fit_estimator
from adaptive.recorded.feasibility import least_abstention
from adaptive.recorded.fingerprints import Fingerprint, compare
from adaptive.recorded.judging import fit_prompts, fit_spending, weighed
from adaptive.recorded.layouts import judged, layouts
from adaptive.recorded.prices import price_list, read_prices
from adaptive.recorded.scorers import exact
from adaptive.recorded.signals import agreements, fit_signals
from adaptive.recorded.texts import fit_texts


def test_what_hangs_together_is_dealt_together_and_counts_once_in_a_certificate() -> None:
    found = outcomes(400)
    sessions = np.array([f"s{row // 4}" if row < 200 else None for row in range(400)], object)
    prompts = np.array([f"Same, {row % 2}!" if row >= 380 else f"p{row}" for row in range(400)])
    found = replace(found, requests={"session": sessions, "prompt": prompts.astype(object)})
    dealt = deal(found, seed=3)
    assert dealt.units == 50 + 180 + 2
    assert dealt.sessions == 50 + 200 and dealt.prompts == 382
    part = {int(row): name for name, rows in dealt.rows.items() for row in rows}
    for start in range(0, 200, 4):
        assert len({part[row] for row in range(start, start + 4) if row in part}) == 1
    for name in ("certify", "test"):
        known = [sessions[row] for row in dealt.rows[name] if sessions[row]]
        assert len(set(known)) == len(known)
    again = deal(found, seed=3)
    assert all(np.array_equal(dealt.rows[name], again.rows[name]) for name in dealt.rows)
    assert not np.array_equal(deal(found, seed=4).rows["fit"], dealt.rows["fit"])
    assert deal(found, 3, count_repeats=True).units == 50 + 200


def test_too_few_requests_for_a_part_are_refused() -> None:
    with pytest.raises(DataError, match="leave 18 to fit"):
        deal(outcomes(60))
    with pytest.raises(DataError, match="sum to 1"):
        deal(outcomes(60), shares={"fit": 0.5, "certify": 0.6})


def test_boosted_trees_are_kept_as_scikit_learn_grew_them() -> None:
    from sklearn.ensemble import GradientBoostingClassifier

    random = np.random.default_rng(0)
    features = random.normal(size=(300, 4))
    good = (features[:, 0] * features[:, 1] > 0).astype(float)
    ours = _boosted(features, good, 7)
    theirs = GradientBoostingClassifier(
        n_estimators=60, max_depth=3, learning_rate=0.1, subsample=0.5, max_features=4,
        min_samples_leaf=10, random_state=7,
    ).fit(*_weighted(features, good))  # fmt: skip
    fresh = random.normal(size=(200, 4))
    assert np.allclose(ours(fresh), theirs.predict_proba(fresh)[:, 1].clip(1e-4, 1 - 1e-4))
    kept = Estimator.of(ours.arrays())
    assert np.array_equal(kept(fresh), ours(fresh))


def test_an_estimate_is_calibrated_and_better_than_the_mean() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(1500, 3))
    truth = 1.0 / (1.0 + np.exp(1.5 - 2.0 * features[:, 0]))
    found = fit_estimator(features, (random.random(1500) < truth).astype(float))
    fresh = random.normal(size=(3000, 3))
    told = found.estimator(fresh)
    sought = 1.0 / (1.0 + np.exp(1.5 - 2.0 * fresh[:, 0]))
    assert abs(told - sought).mean() < 0.05
    graded = fit_estimator(features, truth).estimator(fresh)  # shares, not kinds
    assert abs(graded - sought).mean() < 0.05
    few = fit_estimator(features[:30], np.zeros(30))
    assert few.kind == "constant" and few.estimator(fresh)[0] < 0.05


def test_prompts_become_numbers_without_a_word_being_kept() -> None:
    found = outcomes(300)
    texts = fit_texts(found.prompts)
    hard = found.requests["group"] == "analysis"
    features = texts(found.prompts)
    gap = abs(features[hard].mean(0) - features[~hard].mean(0)) / features.std(0).clip(1e-9)
    assert gap.max() > 1.0  # the word that tells them apart
    assert np.array_equal(texts(found.prompts[:5]), features[:5])
    assert not {each.dtype.kind for each in (texts.idf, texts.directions)} & {"U", "O"}
    read = fit_prompts(found, 0)
    assert read.groups == ("algebra", "analysis")
    assert read(found).shape[1] == features.shape[1] + 2


def test_signals_that_are_missing_count_as_their_mean() -> None:
    found = outcomes(200)
    own = fit_signals(found, "small")
    assert own.numbers == ("logprob_mean",)  # what is the same for all is no signal
    numbers = {"logprob_mean": np.full((200, 3), np.nan)}
    bare = own(replace(found, numbers=numbers))
    assert np.allclose(bare[:, 0], own.means[0])
    agreed = agreements(found, "middle", ("small",), exact)[:, 0]
    same = found.words["answer"][:, 0] == found.words["answer"][:, 1]
    assert np.array_equal(agreed == 1.0, same)


def test_a_chain_knows_the_answers_before_it_and_another_layout_does_not() -> None:
    chain, alone = layouts(("small", "middle", "large"))
    assert chain.chains == (("small", "middle"), ("large",))
    assert alone.chains == (("small",), ("middle",), ("large",))
    assert [(s.tier, s.exit) for s in chain.stages] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert judged([chain, alone]) == [("small",), ("small", "middle"), ("middle",)]
    assert len(layouts(("small", "large"))) == 1


def test_a_price_list_tells_every_fault(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("a: {input: -1, output: x}\nb: {inpt: 2}\nc: 3\nd: {settings: 1}\n")
    with pytest.raises(ConfigError) as caught:
        read_prices(file)
    assert len(caught.value.faults) == 5
    listed = price_list({"a": {"input": 1, "max_tokens": 9, "settings": {"temperature": 0}}})
    assert listed.prices["a"].max_tokens == 9 and listed.settings["a"] == {"temperature": 0}


def test_a_fingerprint_that_shows_something_else_is_stale() -> None:
    known = Fingerprint("m", ("m-1",), {"temperature": 0}, {"input": 1.0})
    assert compare(known, known, priced=True).verdict == "COVERED"
    assert compare(known, replace(known, returned=("m-2",)), priced=False).verdict == "STALE"
    assert compare(known, replace(known, settings={"temperature": 1}), priced=False).verdict == (
        "STALE"
    )
    cheaper = replace(known, price={"input": 0.5})
    assert compare(known, cheaper, priced=False) and not compare(known, cheaper, priced=True)


def test_abstention_that_a_floor_demands_is_told_in_closed_form() -> None:
    assert least_abstention(0.3, 0.1) == pytest.approx(2 / 9)
    assert least_abstention(0.1, 0.3) == 0.0


def test_of_two_requests_that_lose_alike_the_dearer_is_accepted_first() -> None:
    random = np.random.default_rng(2)
    prompts = ["x" * int(letters) for letters in random.integers(50, 2000, 300)]
    costs = np.array([1.0 + 0.01 * len(text) for text in prompts]) * random.uniform(0.9, 1.1, 300)
    spending = fit_spending(prompts, costs)
    assert np.allclose(spending(prompts), costs / costs.mean(), rtol=0.15)
    told = weighed(np.array([0.4, 0.4, 0.6, 0.6]), np.array([0.5, 2.0, 0.5, 2.0]))
    assert told.tolist() == pytest.approx([0.3, 0.45, 0.6, 0.6])  # a gain counts as it is
    assert fit_spending(prompts, np.ones(300))(prompts).tolist() == [1.0] * 300
