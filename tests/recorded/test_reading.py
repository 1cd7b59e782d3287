"""Files of recorded outcomes: every shape says the same, and every fault is told at once."""

from __future__ import annotations

import csv
import gzip
import json
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from recorded_rows import records

from adaptive.errors import ConfigError, DataError
from adaptive.recorded.faults import Faults
from adaptive.recorded.imports import inspect_logs
from adaptive.recorded.imports.merging import merged
from adaptive.recorded.outcomes import FIELDS
from adaptive.recorded.reading import Source, read_outcomes
from adaptive.recorded.scorers import SCORERS, scorer_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads(files("adaptive.recorded").joinpath("outcomes.schema.json").read_text())


def _lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def test_every_shape_says_the_same(tmp_path: Path) -> None:
    rows = records(30)
    names = ("small", "middle", "large")
    whole = _lines(tmp_path / "a.jsonl", rows)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    by_field = _lines(
        tmp_path / "c.json",
        [
            {
                **{key: row[key] for key in ("id", "prompt", "group", "right", "date")},
                **{f: {m: row["models"][m][f] for m in names} for f in row["models"]["small"]},
            }
            for row in rows
        ],
    )
    flat = tmp_path / "d.csv"
    with flat.open("w", newline="", encoding="utf-8") as file:
        columns = ["id", "prompt", "group", "right", "date"]
        told = [f"{m}.{f}" for m in names for f in rows[0]["models"]["small"]]
        writer = csv.writer(file)
        writer.writerow(columns + told)
        for row in rows:
            own = [row["models"][m][f] for m in names for f in row["models"][m]]
            writer.writerow([row[c] for c in columns] + own)
    read = [read_outcomes(path) for path in (whole, packed, by_field, flat)]
    for each in read:
        assert each.models == names and each.ids == read[0].ids
        assert np.array_equal(each.score, read[0].score)
        assert each.numbers.keys() == read[0].numbers.keys()
        assert np.array_equal(each.words["answer"], read[0].words["answer"])
        assert each.prompts == read[0].prompts


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = pyarrow.table({"id": ["a", "b"], "small": [1, 0], "large.score": [1.0, 0.5]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = read_outcomes(tmp_path / "a.parquet")
    assert found.models == ("small", "large")
    assert found.score.tolist() == [[1.0, 1.0], [0.0, 0.5]]


def test_letters_are_scored_against_right_ones_under_other_names(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "id,category,answer,small,small|chars,large,large|chars\n"
        "1,law,B,B,10,A,20\n2,law,C,-,5,C,9\n3,art,D,,0,D,1\n"
    )
    (tmp_path / "p.csv").write_text("id,question\n1,x\n2,y\n3,z\n")
    columns = {"group": "category", "right": "answer", "characters": "chars", "prompt": "question"}
    found = read_outcomes(
        Source(file, columns=columns, scorer="choice", prompts=tmp_path / "p.csv")
    )
    assert np.array_equal(found.score, [[1, 0], [0, 1], [np.nan, 1]], equal_nan=True)
    assert found.numbers["characters"][:, 1].tolist() == [20, 9, 1]
    assert found.prompts == ["x", "y", "z"]


def test_every_fault_is_told_at_once_by_row_and_quotes_nothing(tmp_path: Path) -> None:
    rows = records(40)
    rows[2]["models"]["small"]["score"] = 1.5
    rows[3]["models"]["large"]["tokens_out"] = -1
    rows[4]["models"] = None
    rows[5]["models"]["small"]["score"] = "secret"
    rows[6]["id"] = rows[7]["id"]
    rows[8]["models"]["small"]["secret"] = 1
    rows[9]["prompt"] = ["secret"]
    file = _lines(tmp_path / "a.jsonl", rows)
    file.write_text(file.read_text() + "{secret\n")
    with pytest.raises(DataError) as caught:
        read_outcomes(file)
    told = str(caught.value)
    for place in (
        "8 faults",
        "row 3, small",
        "row 4, large",
        "row 5",
        "row 6, small",
        "row 8",
        "row 9, small",
        "row 10",
        "row 41",
    ):
        assert place in told, place
    assert "secret" not in told


def test_no_more_faults_are_shown_than_a_person_reads(tmp_path: Path) -> None:
    file = _lines(tmp_path / "a.jsonl", [{"models": {"a": {"score": 2}}}] * 500)
    with pytest.raises(DataError) as caught:
        read_outcomes(file)
    assert "500 faults" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 21


def test_tiers_that_are_not_there_are_named(tmp_path: Path) -> None:
    file = _lines(tmp_path / "a.jsonl", records(3))
    with pytest.raises(DataError, match="huge"):
        read_outcomes(Source(file, tiers=("small", "huge")))


def test_the_schema_knows_what_is_read_and_accepts_the_example() -> None:
    known = set(SCHEMA["$defs"]["answer"]["properties"])
    assert known == {*FIELDS, "logprob_quantiles"}
    checker = jsonschema.Draft202012Validator(SCHEMA)
    for row in records(5):
        checker.validate(row)
    example = (ROOT / "configs/outcomes/gsm8k.jsonl").read_text(encoding="utf-8")
    for line in example.splitlines()[:20]:
        checker.validate(json.loads(line))
    assert not checker.is_valid({"models": {"a": {"score": 2}}})


def test_harness_logs_of_several_models_are_joined_by_document(tmp_path: Path) -> None:
    for model, good in (("org__small", 0.0), ("org__large", 1.0)):
        samples = [
            {
                "doc_id": n,
                "doc_hash": f"h{n}",
                "target": "7",
                "arguments": {"gen_args_0": {"arg_0": f"question {n}"}},
                "resps": [["the answer is 7"]],
                "filtered_resps": ["7"],
                "filter": name,
                "metrics": ["exact_match"],
                "exact_match": good if name == "flexible" else 0.25,
            }
            for name in ("strict", "flexible")
            for n in range(3)
        ]
        _lines(tmp_path / model / "samples_gsm8k_2026-01-01T00-00-00.000000.jsonl", samples)
    found = read_outcomes(Source(tmp_path, form="lm-eval", tiers=("small", "large")))
    assert found.score.tolist() == [[0.0, 1.0]] * 3
    assert found.prompts == ["question 0", "question 1", "question 2"]
    assert found.requests["group"].tolist() == ["gsm8k"] * 3
    assert found.words["answer"][0].tolist() == ["7", "7"]
    assert found.numbers["characters"][0, 0] == len("the answer is 7")


def test_arena_results_leave_out_calls_that_failed(tmp_path: Path) -> None:
    def line(name: str, model: str, success: bool) -> dict[str, Any]:
        result = {"extracted_answer": "A", "score": 1.0, "inference_cost": 0.001}
        return {
            "global_index": name,
            "question": "q " + name,
            "llm_selected": model,
            "generated_answer": "A!",
            "token_usage": {"input_tokens": 9, "output_tokens": 2},
            "success": success,
            "evaluation_result": result if success else None,
        }

    for model in ("small", "large"):
        rows = [line("Law_1", model, True), line("Law_2", model, model == "large")]
        _lines(tmp_path / f"{model}.jsonl", rows)
    found = read_outcomes(Source(tmp_path, form="routerarena", tiers=("small", "large")))
    assert found.ids == ("Law_1", "Law_2")
    assert np.isnan(found.score).tolist() == [[False, False], [True, False]]
    assert found.numbers["cost"][0].tolist() == [0.001, 0.001]
    assert found.requests["group"].tolist() == ["Law", "Law"]


def test_router_data_of_one_row_a_model_is_joined_by_query(tmp_path: Path) -> None:
    rows = [
        {
            "task_name": "gsm8k",
            "query": f"q{n}",
            "ground_truth": "4",
            "metric": "GSM8K",
            "model_name": model,
            "response": "4",
            "performance": score,
            "input_tokens": 5,
            "output_tokens": 1,
            "response_time": 0.5,
        }
        for n in range(2)
        for model, score in (("small", 0.0), ("large", 1.0))
    ]
    found = read_outcomes(Source(_lines(tmp_path / "a.jsonl", rows), form="llmrouter"))
    assert found.models == ("small", "large") and len(found) == 2
    assert found.numbers["milliseconds"][0, 0] == 500.0
    doubled = Source(_lines(tmp_path / "b.jsonl", [*rows, rows[0]]), form="llmrouter")
    with pytest.raises(DataError, match="second answer"):
        read_outcomes(doubled)


def test_inspect_logs_are_read_by_their_own_fields() -> None:
    def sample(value: Any) -> SimpleNamespace:
        token = SimpleNamespace(logprob=-0.5)
        choice = SimpleNamespace(
            stop_reason="stop", logprobs=SimpleNamespace(content=[token, token])
        )
        output = SimpleNamespace(
            completion="four",
            model="m-0607",
            choices=[choice],
            time=0.2,
            usage=SimpleNamespace(input_tokens=3, output_tokens=1),
        )
        score = SimpleNamespace(value=value, answer="4")
        return SimpleNamespace(
            id=1, epoch=1, input="2+2?", target="4", scores={"match": score}, output=output
        )

    logs = [
        SimpleNamespace(eval=SimpleNamespace(model=f"x/{name}", task="sums"), samples=[sample(v)])
        for name, v in (("small", "I"), ("large", "C"))
    ]
    faults = Faults("logs")
    ((_, row),) = merged(inspect_logs.parts(logs, faults), faults)
    assert row["models"]["small"]["score"] == 0.0 and row["models"]["large"]["score"] == 1.0
    assert row["models"]["small"]["logprob_mean"] == -0.5
    assert row["models"]["small"]["milliseconds"] == 200.0
    assert row["models"]["small"]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("name", "answer", "right", "worth"),
    [
        ("exact", " Paris ", "paris", 1.0),
        ("exact", "Paris!", "paris", 0.0),
        ("number", "so it is 1,234.0 dollars", "1234", 1.0),
        ("number", "no idea", "7", 0.0),
        ("choice", "The answer is (B).", "B", 1.0),
        ("choice", "BAD", "B", 0.0),
        ("f1", "the cat sat", "a cat sat down", 0.8),
        ("json", '{"a": 1, "b": [2]}', '{"b":[2],"a":1}', 1.0),
        ("json", "{", "{}", 0.0),
    ],
)
def test_scorers(name: str, answer: str, right: str, worth: float) -> None:
    assert SCORERS[name](answer, right) == pytest.approx(worth)
    with pytest.raises(ConfigError):
        scorer_of("best")
