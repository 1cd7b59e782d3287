"""From recorded outcomes to a verdict, and a folder that decides as it was certified."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_rows import PRICES, outcomes, records
from typer.testing import CliRunner

from adaptive import recorded
from adaptive.cli import app
from adaptive.errors import BundleError, DataError, InputError, TargetError
from adaptive.policy.lookup import Lookup
from adaptive.recorded.certifying import Certified, certify_outcomes
from adaptive.recorded.deciding import Router
from adaptive.recorded.layouts import Layout, layouts
from adaptive.recorded.lines import table_for
from adaptive.recorded.preparing import prepare
from adaptive.recorded.prices import price_list
from adaptive.recorded.scorers import exact
from adaptive.recorded.verdicts import headline, verdict
from adaptive.types import ALWAYS, NEVER, OutcomeTable, Policy, Target

DROP = Target("accuracy_drop", 0.05)
TIERS = ("small", "middle", "large")


@pytest.fixture(scope="module")
def found() -> Certified:
    """Three models, of which a policy between the first two is the one to serve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTIVE_LOOKS", "off")
        return certify_outcomes(outcomes(1000), DROP, tiers=TIERS, prices=PRICES)


@pytest.fixture(autouse=True)
def _no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTIVE_LOOKS", "off")


def _verdict(found: Certified) -> str:
    return verdict(found.certificate, found.layout, found.figures)


def test_a_policy_is_certified_that_keeps_its_promise_on_new_requests(found: Certified) -> None:
    assert _verdict(found) in ("CERTIFIED", "REPLACE")
    assert found.figures.saving > 3.0
    fresh = prepare(outcomes(3000, 5), [DROP], tiers=TIERS, prices=price_list(PRICES), scorer=exact)
    table = table_for(found.layout, fresh, found.judges)
    lookup = Lookup.of(table, fresh.costs(found.layout).of(table))
    did = lookup.evaluate(found.certificate.policy)
    assert did.score.mean() >= 0.95 * table.worth.reference.mean()
    assert found.certificate.conditions.device == "recorded"


def test_a_model_that_is_as_good_replaces_the_full_one() -> None:
    same = certify_outcomes(
        outcomes(400), Target("accuracy_drop", 0.03), tiers=("middle", "large"), prices=PRICES
    )
    assert _verdict(same) == "REPLACE"
    assert headline(same.certificate, same.layout, same.figures).startswith(
        "REPLACE: serve middle in place of large"
    )
    assert same.figures.saving == pytest.approx(20 / 3)


def test_a_model_that_loses_where_nothing_tells_is_not_routed_to() -> None:
    blind = outcomes(400, 2, drop=0.6)
    blind = replace(blind, requests={}, words={}, numbers={
        name: each for name, each in blind.numbers.items() if name.startswith("tokens")
    })  # fmt: skip
    lost = certify_outcomes(
        blind, Target("accuracy_drop", 0.01), tiers=("small", "large"), prices=PRICES
    )
    assert _verdict(lost) in ("DO NOT ROUTE", "NOT CERTIFIED")
    assert lost.figures.saving < 1.05
    assert "serve large" in headline(lost.certificate, lost.layout, lost.figures)


@pytest.mark.parametrize("which", [0, 1], ids=["chain", "alone"])
def test_a_router_decides_as_the_look_up_did(found: Certified, which: int) -> None:
    rows, layout = records(60, 8), layouts(TIERS)[which]
    fresh = prepare(outcomes(60, 8), [DROP], tiers=TIERS, prices=price_list(PRICES), scorer=exact)
    table = table_for(layout, fresh, found.judges)
    router = _mixed(found, layout, table)
    lookup = Lookup.of(table, fresh.costs(layout).of(table))
    answered = []
    for row in rows:
        tier: str | None = router.route(row["prompt"], row["group"])
        earlier: dict[str, object] = {}
        while tier is not None:
            own = row["models"][tier]
            told = {**own, "prompt": row["prompt"], "group": row["group"], "earlier": earlier}
            told.pop("score")
            if router.accept(tier, told):
                break
            earlier[tier], tier = own, router.following(tier)
        answered.append(tier)
    expected = lookup.evaluate(router.policy).stage
    assert answered == [layout.models[stage - 1] for stage in expected]
    assert len(set(answered)) == 3


def _mixed(found: Certified, layout: Layout, table: OutcomeTable) -> Router:
    """A router by whose policy each model answers something, and the prompt decides where."""
    levels = [float(np.quantile(each, 0.6)) for each in table.reliability.T]
    path = tuple(range(1, len(layout.chains) + 1))
    gap = float(np.median(table.risk[:, 1] - table.risk[:, path[-1]]))
    policy = Policy(
        path=path,
        thresholds=(NEVER, *levels[1:-1], ALWAYS),
        risk_weight=1.0,
        entry_cost=(0.0, 0.0, *(gap for _ in path[1:])),
    )
    return Router(layout, policy, found.judges, found.certificate, {}, "", "")


def test_a_folder_is_opened_as_it_was_written(found: Certified, tmp_path: Path) -> None:
    router = recorded.open(recorded.write(found, tmp_path / "router"))
    fresh = prepare(outcomes(80, 8), [DROP], tiers=TIERS, prices=price_list(PRICES), scorer=exact)
    mine, theirs = (
        table_for(found.layout, fresh, judges) for judges in (found.judges, router.judges)
    )
    assert np.array_equal(mine.reliability, theirs.reliability)
    assert np.array_equal(mine.risk, theirs.risk)
    assert router.policy == found.certificate.policy
    assert router.certificate.front == found.certificate.front
    assert router.verdict == _verdict(found)


def test_a_folder_that_was_changed_is_refused(found: Certified, tmp_path: Path) -> None:
    folder = recorded.write(found, tmp_path / "router")
    recorded.write(found, folder)  # its own is written anew
    page = (folder / "VERDICT.md").read_text(encoding="utf-8")
    assert "What is assumed" in page and "small-0607" in page
    content = json.loads((folder / "router.json").read_text())
    content["policy"]["thresholds"][1] = 0.0
    (folder / "router.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"router\.json"):
        recorded.open(folder)
    (tmp_path / "mine").mkdir()
    with pytest.raises(BundleError, match="name another"):
        recorded.write(found, tmp_path / "mine")


def test_answers_of_a_chain_need_those_before_them(found: Certified) -> None:
    layout = layouts(TIERS)[0]
    fresh = prepare(outcomes(60, 8), [DROP], tiers=TIERS, prices=price_list(PRICES), scorer=exact)
    router = _mixed(found, layout, table_for(layout, fresh, found.judges))
    with pytest.raises(InputError, match="small"):
        router.accept("middle", {"answer": "1"})
    with pytest.raises(InputError, match="none of the models"):
        router.accept("huge", {})
    with pytest.raises(InputError, match="no number"):
        router.accept("small", {"logprob_mean": "low"})


def test_what_answers_now_is_compared_with_what_was_recorded(
    found: Certified, tmp_path: Path
) -> None:
    router = recorded.open(recorded.write(found, tmp_path / "router"))
    now = {"asked": "small", "returned": ["small-0607"], "settings": {"max_tokens": 100}}
    assert router.covers(now).verdict == "COVERED"
    assert router.covers({**now, "returned": ["small-0801"]}).verdict == "STALE"
    assert router.covers({"asked": "other"}).verdict == "STALE"
    assert router.fingerprints["small"].dates == ("2026-01-01", "2026-09-01")


def test_a_mean_of_dollars_needs_a_cap_and_is_proved_with_one() -> None:
    target = Target("dollars", 3e-4)
    uncapped = {model: {"input": p["input"], "output": p["output"]} for model, p in PRICES.items()}
    pair = ("small", "large")
    with pytest.raises(TargetError, match="max_tokens"):
        certify_outcomes(outcomes(200), target, tiers=pair, prices=uncapped)
    kept = certify_outcomes(outcomes(400), target, tiers=pair, prices=PRICES)
    assert kept.certificate.certified > 1 and kept.figures.cost < 3e-4
    assert kept.certificate.quality is not None


def test_graded_scores_are_tested_by_betting() -> None:
    graded = outcomes(600)
    score = 0.2 + 0.6 * graded.score
    score[:, 1] = score[:, 2] - 0.005
    found = certify_outcomes(
        replace(graded, score=score), Target("score_drop", 0.1), tiers=("middle", "large"),
        prices=PRICES,
    )  # fmt: skip
    assert found.certificate.claims[0].test == "betting"
    assert _verdict(found) == "REPLACE"


def test_agreement_is_by_a_named_scorer_and_two_runs_tell_its_floor() -> None:
    rows = outcomes(400)
    again = replace(rows, models=("small", "large run 2", "large"))
    found = certify_outcomes(
        again, Target("agreement", 0.5), tiers=("small", "large"), again="large run 2",
        prices=PRICES, scorer="number",
    )  # fmt: skip
    assert found.floor == 0.0  # the middle model answers as the large one does
    assert _verdict(found) == "REPLACE"
    silent = replace(rows, words={})
    with pytest.raises(DataError, match="answers"):
        certify_outcomes(silent, Target("agreement", 0.1), prices=PRICES)


def test_a_promise_out_of_reach_is_refused_before_rows_are_spent() -> None:
    hard = outcomes(200)
    hard.score[::8] = 0.0  # no model answers these
    with pytest.raises(TargetError, match=r"out of reach.*must be left to a person"):
        certify_outcomes(hard, Target("score", 0.97), tiers=TIERS, prices=PRICES)


def test_the_same_file_and_seed_give_the_same_certificate() -> None:
    made = [
        certify_outcomes(outcomes(200), DROP, tiers=("middle", "large"), prices=PRICES)
        for _ in range(2)
    ]
    assert made[0].certificate == made[1].certificate


def test_the_command_certifies_a_file_and_refuses_what_belongs_to_bundles(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    file.write_text("\n".join(map(json.dumps, records(300))), encoding="utf-8")
    prices = tmp_path / "prices.yaml"
    prices.write_text(json.dumps(PRICES))
    words = ["certify", str(file), "--target", "accuracy_drop=0.1", "--tiers", "middle,large"]
    words += ["--prices", str(prices)]
    run = CliRunner().invoke(app, ["--json", *words])
    assert run.exit_code == 0, run.output
    facts = json.loads(run.stdout.splitlines()[-1])
    assert facts["verdict"] == "REPLACE" and facts["n"] == 150
    assert recorded.open(tmp_path / "outcomes.router").route("any") == "middle"
    for wrong, told in (
        ([*words, "--text", "prompt"], "--text"),
        (["certify", "bundle", "data.csv", "--tiers", "a,b"], "--tiers"),
        (["certify", "bundle"], "needs DATA"),
        (words[:2], "--target"),
    ):
        refused = CliRunner().invoke(app, wrong)
        assert refused.exit_code == 2 and told in refused.output, refused.output


def test_the_command_at_the_head_of_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    head = (root / "configs/outcomes/prices.yaml").read_text(encoding="utf-8").splitlines()[0]
    words = shlex.split(head.removeprefix("# "))
    assert words[0] == "adaptive"
    run = CliRunner().invoke(app, ["--json", *words[1:], "--out", str(tmp_path / "router")])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout.splitlines()[-1])["verdict"] == "REPLACE"
