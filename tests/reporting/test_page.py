"""A report: its figures are those of `evaluate`, and its page loads nothing and quotes no text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_pool import searched, texts_of, tokens_of, truth
from typer.testing import CliRunner

import adaptive
from adaptive.bundle.contents import Bundle
from adaptive.cli import app
from adaptive.measure.evaluation import report as report_of
from adaptive.measure.recording import outcomes
from adaptive.measure.work import work_of
from adaptive.pipeline import AdaptivePipeline
from adaptive.policy.lookup import evaluate
from adaptive.policy.worth import reclassified
from adaptive.reporting.collect import figures_of
from adaptive.reporting.page import render
from adaptive.reporting.subject import of_bundle, outcomes_and_top
from adaptive.types import OutcomeTable, Target

ROOT = Path(__file__).resolve().parents[2]
OUTCOMES = ROOT / "configs" / "outcomes"


@pytest.fixture(scope="module")
def bundle(tiny_cascade: Bundle) -> Bundle:
    return searched(tiny_cascade)


@pytest.fixture(scope="module")
def table(bundle: Bundle) -> OutcomeTable:
    tokens = tokens_of(bundle, texts_of(90, 7))
    found = outcomes(bundle, tokens, np.full(90, -1, np.int32), 32)
    return reclassified(found, labels=truth(found, 1))


@pytest.fixture(scope="module")
def figures(bundle: Bundle, table: OutcomeTable) -> dict[str, Any]:
    return figures_of(of_bundle(bundle, bundle.policy, table, rows="texts", work=True))


@pytest.fixture(scope="module")
def rows(bundle: Bundle, table: OutcomeTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    labels = [bundle.labels[label] for label in table.labels]
    lines = [f"{text},{label}" for text, label in zip(texts_of(90, 7), labels, strict=True)]
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return file


def shown(page: str) -> dict[str, Any]:
    """The figures in a page."""
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_figures_in_the_page_are_those_of_evaluate(
    bundle: Bundle, table: OutcomeTable, figures: dict[str, Any]
) -> None:
    told = shown(render(figures))
    expected = report_of(bundle, bundle.policy, table)
    assert told["report"] == expected
    points = {point["name"]: point for point in told["points"]["tier"]}
    points["policy"] = told["line"][told["chosen"]]
    for row in expected["rows"]:
        point = points[row["name"].removesuffix(" alone")]
        found = (point["quality"], point["agreement"], point["cost"])
        assert found == pytest.approx((row["accuracy"], row["agreement"], row["work"]))
    assert told["line"][told["chosen"]]["chosen"]


def test_texts_that_flow_in_come_out_at_the_stages_that_evaluate_tells(
    bundle: Bundle, table: OutcomeTable, figures: dict[str, Any]
) -> None:
    for policy in figures["line"]:
        counts = np.array(policy["answered"])
        assert counts.sum() == len(table)
        assert counts.sum(1).tolist() == policy["entry"]
    served = np.array(figures["line"][figures["chosen"]]["answered"]).sum(0) / len(table)
    names = [stage["name"] for stage in figures["stages"]]
    shares = {name: share for name, share in zip(names, served.tolist(), strict=True) if share}
    assert shares == pytest.approx(figures["report"]["stage_shares"])


def test_the_slider_goes_from_safe_to_cheap_and_picks_by_the_search_rows_alone(
    bundle: Bundle, table: OutcomeTable, figures: dict[str, Any]
) -> None:
    picked = [each for each in figures["line"] if each["level"] is not None]
    assert len(picked) > 3
    assert [p["level"] for p in picked] == sorted(p["level"] for p in picked)
    other = reclassified(table, labels=(table.labels + 1) % 3)
    again = figures_of(of_bundle(bundle, bundle.policy, other, rows="texts", work=True))
    levels = {p["words"]: p["level"] for p in figures["line"]}
    assert {p["words"]: p["level"] for p in again["line"]} == levels


def test_changed_answers_are_counted_and_texts_shown_only_where_asked(
    bundle: Bundle, table: OutcomeTable, figures: dict[str, Any]
) -> None:
    costs = work_of(bundle.tiers, bundle.router).at(table.tokens)
    did = evaluate(bundle.policy, table, costs)
    changed = figures["changed"]
    assert changed["total"] == int((did.alike < 1).sum()) > 0
    assert sum(row[k] for row in changed["rows"] for k in changed["kinds"]) == changed["total"]
    assert changed["texts"] is None
    texts = [f"secret {i} </script><b>" for i in range(90)]
    subject = of_bundle(bundle, bundle.policy, table, rows="texts", work=True, texts=texts)
    page = render(figures_of(subject))
    assert page.count("</script>") == 2  # a text cannot end the block of figures
    told = shown(page)["changed"]["texts"]
    assert {each["text"] for each in told} == {texts[r] for r in np.flatnonzero(did.alike < 1)}


def test_each_part_of_a_breakdown_is_counted_by_hand(
    bundle: Bundle, table: OutcomeTable, figures: dict[str, Any]
) -> None:
    did = evaluate(bundle.policy, table, work_of(bundle.tiers, bundle.router).at(table.tokens))
    assert {each["name"] for each in figures["classes"]} == set(bundle.labels)
    for each in figures["classes"]:
        own = table.labels == bundle.labels.index(each["name"])
        assert each["texts"] == own.sum()
        assert each["quality"] == pytest.approx(did.score[own].mean())
        assert each["full"] == pytest.approx(table.worth.reference[own].mean())
        assert sum(each["shares"]) == pytest.approx(1)
    assert sum(each["texts"] for each in figures["lengths"]) == len(table)


def test_a_page_loads_nothing_and_holds_no_address(figures: dict[str, Any]) -> None:
    page = render(figures)
    assert not re.search(r"""(?:src|href)\s*=\s*(?!["']#)|url\(|@import|fetch\(|https?:""", page)
    assert "default-src 'none'" in page
    name = "</title><script>alert(1)</script> @STYLE@"
    hostile = render({**figures, "name": name})
    assert "<script>alert" not in hostile and hostile.count("--paper:") == page.count("--paper:")
    with pytest.raises(ValueError, match="JSON compliant"):
        render({**figures, "texts": float("nan")})


def test_the_command_writes_a_page_without_texts(
    tiny_bundle: Path, rows: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(tiny_bundle), str(rows), "-o", str(page)])
    assert result.exit_code == 0, result.output
    content = page.read_text()
    texts = [line.rpartition(",")[0] for line in rows.read_text().splitlines()[1:]]
    long = [text for text in texts if len(text.split()) > 2]
    assert len(long) > 40 and not any(text in content for text in long)
    assert shown(content)["points"]["probability"]  # the rule was computed
    wanted = ["report", str(tiny_bundle), str(rows), "-o", str(page), "--texts"]
    assert CliRunner().invoke(app, wanted).exit_code == 0
    assert any(text in page.read_text() for text in long)


def test_the_command_refuses_what_says_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    def told(*words: str) -> str:
        result = CliRunner().invoke(app, ["report", *words])
        assert result.exit_code == 2
        return result.output

    assert "ends in .html" in told(str(tiny_bundle), "-o", str(tmp_path / "report.pdf"))
    page = ("-o", str(tmp_path / "r.html"))
    assert "a bundle has its own" in told(str(tiny_bundle), "--target", "agreement=0.1", *page)
    assert "need DATA" in told(str(tiny_bundle), "--limit", "5", *page)
    assert "keeps no texts" in told(str(tiny_bundle), "--texts", *page)
    assert "expected --target" in told(str(OUTCOMES / "gsm8k.jsonl"), *page)


@pytest.mark.slow
def test_recorded_outcomes_are_reported_as_they_are_certified(tmp_path: Path) -> None:
    page, file = tmp_path / "gsm8k.html", tmp_path / "few.jsonl"
    lines = (OUTCOMES / "gsm8k.jsonl").read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:200]))
    words = ["report", str(file), "--target", "accuracy_drop=0.1", "--prices"]
    words += [str(OUTCOMES / "prices.yaml"), "--scorer", "number", "--output", str(page)]
    words += ["--tiers", "gpt-4o-mini-2024-07-18,gpt-4o-2024-08-06"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = shown(page.read_text())
    assert told["words"]["headline"] == "REPLACE" and told["item"] == "request"
    cheap, full = told["points"]["tier"]
    assert (cheap["name"], full["name"]) == ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")
    assert full["kept"] == 1 and told["line"][told["chosen"]]["cost"] == pytest.approx(
        cheap["cost"]
    )


def test_outcomes_and_largest_probabilities_are_those_that_are_served(bundle: Bundle) -> None:
    texts = texts_of(20, 9)
    labels = np.full(20, -1, np.int32)
    table, top = outcomes_and_top(bundle, tokens_of(bundle, texts), labels, 8)
    pipeline = AdaptivePipeline(bundle)
    for row, answer in enumerate(pipeline(texts)):
        names = [f"{bundle.tiers[s.tier].name}@{s.depth}" for s in bundle.stages]
        stage = names.index(f"{answer['routing']['tier']}@{answer['routing']['depth']}")
        assert top[row, stage] == pytest.approx(answer["score"], abs=1e-5)
        assert bundle.labels[table.predictions[row, stage]] == answer["label"]


def test_without_labels_or_search_rows_agreement_stands_in(
    bundle: Bundle, table: OutcomeTable
) -> None:
    blind = reclassified(table, labels=np.full_like(table.labels, -1))
    plain = replace(bundle, outcomes={}, ladder=(), targets=(Target("agreement", 0.1),))
    found = figures_of(of_bundle(plain, plain.policy, blind, rows="texts"))
    assert found["quality"] == "agreement" and found["searched"] is None
    assert found["classes"] == [] and found["changed"]["kinds"] == ["differ"]
    render(found)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_draws_the_page_without_an_error(
    bundle: Bundle, table: OutcomeTable, figures: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(render(figures))
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    words += ["--enable-logging=stderr", (tmp_path / "page.html").as_uri()]
    run = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in run.stderr, run.stderr
    assert run.stdout.count("<table") > 8 and run.stdout.count("<circle") > 40
    assert "The policy that serves" in run.stdout
    assert adaptive.__version__ in run.stdout
