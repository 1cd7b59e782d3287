"""The commands, against fakes of the parts they call: exit codes, streams, JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adaptive.cli import app
from adaptive.cli.session import dumps
from adaptive.errors import BuildError, BundleError

RECIPE = "name: demo\noutput: out\nmodel: {id: x}\ndata: {source: x.csv}\n"


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(args), input=stdin)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Puts modules of the given functions in place of real ones."""

    class Fakes(dict[str, Any]):
        def __call__(self, name: str, **content: Any) -> None:
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)

    yield Fakes()


@pytest.fixture
def pipeline(fake: Any) -> list[Any]:
    """A pipeline that answers with the text's length and refuses `bad`; returns its calls."""
    calls: list[Any] = []

    def answer(items: list[Any], *, errors: str) -> list[dict[str, Any]]:
        assert errors == "return"
        calls.append(items)
        return [
            {"error": "refused"}
            if item == "bad"
            else {"label": str(len(item)), "score": 1.0, "routing": {"reliability": float("nan")}}
            for item in items
        ]

    def from_config(source: str, **given: Any) -> Any:
        if source == "damaged":
            raise BundleError("bundle.json: damaged")
        return answer

    fake("adaptive.pipeline", AdaptivePipeline=SimpleNamespace(from_config=from_config))
    return calls


def test_predict_answers_in_order_with_faults_in_their_place(pipeline: list[Any]) -> None:
    stdin = '{"text": "abc"}\n{"text": 5}\n{"text": "bad"}\n{"text": "a"}\n'
    result = run("predict", "b", stdin=stdin)
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("label") for line in lines] == ["3", None, None, "1"]
    assert [line.get("row") for line in lines] == [None, 2, 3, None]
    assert lines[2] == {"error": "refused", "row": 3}
    assert lines[0]["routing"]["reliability"] is None
    assert "4 rows, 2 refused" in result.stderr


def test_predict_reads_and_writes_files(pipeline: list[Any], tmp_path: Path) -> None:
    source, sink = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text("body,other\nab,c\nd,e\n")
    args = ["predict", "b", str(source), "--text", "body", "--pair", "other"]
    result = run(*args, "--output", str(sink), "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert len(sink.read_text().splitlines()) == 2
    assert pipeline == [[("ab", "c"), ("d", "e")]]


def test_predict_asks_the_pipeline_chunk_by_chunk(pipeline: list[Any]) -> None:
    result = run("predict", "b", stdin="text\n" + "x\n" * 3000)
    assert result.exit_code == 0
    assert [len(call) for call in pipeline] == [1024, 1024, 952]


def test_predict_of_nothing_is_nothing(pipeline: list[Any]) -> None:
    result = run("predict", "b", stdin="")
    assert (result.exit_code, result.stdout, pipeline) == (0, "", [])


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["predict", "damaged"], 3, "bundle.json: damaged"),
        (["predict", "b", "absent.csv"], 2, "absent.csv"),
        (["predict", "b", "--text", "body"], 2, "no column 'body'"),
        (["predict"], 2, "Missing argument"),
        (["predict", "b", "--nope"], 2, "No such option"),
        (["nope"], 2, "No such command"),
        (["curve", "b", "x.csv", "--output", "x.pdf"], 2, "ends in .png or .svg"),
        (["curve", "b", "x.csv", "--output", "no/such/x.png"], 2, "there is no folder"),
        (["evaluate", "b", "x.csv", "--where", "a"], 2, "--where 'a'"),
        (["build", "absent.yaml"], 2, "absent.yaml: cannot be read"),
        (["info", "no/such/folder"], 3, "no/such/folder"),
    ],
)
def test_errors_are_messages_with_exit_codes(
    pipeline: list[Any], args: list[str], code: int, message: str
) -> None:
    result = run(*args, stdin="text\nx\n")
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_errors_are_json_where_asked(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE + "fulll: {epochs: 1}\nseeed: 1\n")
    for args in (["--json", "build", str(recipe)], ["build", str(recipe), "--json"]):
        result = run(*args)
        assert result.exit_code == 2
        report = json.loads(result.stderr)
        assert len(report["faults"]) == 2
        assert "did you mean 'full'?" in report["faults"][0]


FIGURES = {
    "texts": 1234,
    "rows": [{"name": "policy", "accuracy": 0.5, "agreement": None, "work": 2.0}],
    "stage_shares": {"tiny@0": 1.0},
    "single": None,
    "max_length": 16,
    "cut": 0.25,
}


def test_build_hands_recipe_and_options_over_and_shows_the_figures(
    fake: Any, tmp_path: Path
) -> None:
    calls: list[Any] = []

    def build(recipe: Any, workdir: Path, **options: Any) -> Path:
        calls.append((recipe, workdir, options))
        logging.getLogger("adaptive.training.build").info("step data: done")
        return Path("out")

    fake("adaptive.training.build", build=build)
    fake("adaptive.bundle.header", read_header=lambda _: SimpleNamespace(info={"figures": FIGURES}))
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    result = run("build", str(path), "--set", "full.epochs=7", "--force-step", "full", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"result": "out", "figures": FIGURES, "warnings": []},
    )
    threads, told = result.stderr.splitlines()
    assert threads.startswith("threads: ") and told == "step data: done"
    recipe, workdir, options = calls.pop()
    assert recipe.full.epochs == 7
    assert workdir == Path("runs/demo")
    assert options == {"force": "full", "until": None, "quiet": True}  # no bars in a log
    result = run("build", str(path), "--quiet")
    assert result.stderr == ""
    assert all(word in result.stdout for word in ("1,234 texts", "50.00 %", "tiny@0", "100.00 %"))
    *_, single, length, last = result.stdout.splitlines()
    assert single.startswith("no tier alone") and "25.00% of these were longer" in length
    assert last == "out"


def test_step_runs_a_build_up_to_it(fake: Any, tmp_path: Path) -> None:
    calls: list[Any] = []

    def build(recipe: Any, workdir: Path, **options: Any) -> Path:
        calls.append((workdir, options))
        return Path("out")

    fake("adaptive.training.build", build=build)
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    result = run("step", str(path), "tiny", "--workdir", "w", "--force", "--quiet")
    assert (result.exit_code, result.stdout) == (0, "w/tiny\n")
    assert calls == [(Path("w"), {"force": "tiny", "until": "tiny", "quiet": True})]


def test_an_interrupted_build_tells_how_to_resume(fake: Any, tmp_path: Path) -> None:
    def build(*args: Any, **options: Any) -> Path:
        raise KeyboardInterrupt

    fake("adaptive.training.build", build=build)
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    result = run("build", str(path), "--set", "data.text=a b")
    assert result.exit_code == 130
    assert f"adaptive build {path} --set 'data.text=a b'" in result.stderr
    result = run("step", str(path), "tiny", "--workdir", "w")
    assert result.exit_code == 130
    assert f"adaptive step {path} tiny --workdir w" in result.stderr


def test_a_step_that_fails_is_a_message(fake: Any, tmp_path: Path) -> None:
    def build(*args: Any, **options: Any) -> Path:
        raise BuildError("step 'mid': no layers")

    fake("adaptive.training.build", build=build)
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    result = run("build", str(path))
    assert result.exit_code == 2
    assert result.stderr.splitlines()[1:] == ["adaptive: step 'mid': no layers"]


def test_help_lists_every_command_and_the_exit_codes() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in ("build", "step", "predict", "evaluate", "curve", "info", "Exit codes"):
        assert word in result.stdout


def test_json_is_strict() -> None:
    assert dumps({"a": float("nan"), 1: (float("inf"), 2)}) == '{"a": null, "1": [null, 2]}'
