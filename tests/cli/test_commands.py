"""The commands, against fakes of the parts they call: exit codes, streams, JSON."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from safetensors import SafetensorError
from typer.testing import CliRunner, Result

from adaptive.cli import app, labelled
from adaptive.cli.session import dumps, table
from adaptive.config import DataConfig
from adaptive.errors import BuildError, BundleError

ROOT = Path(__file__).resolve().parents[2]
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
def pipeline(fake: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A pipeline that answers with the text's length and refuses `bad`; returns its calls."""
    calls: list[Any] = []

    def answer(items: list[Any], *, errors: str, **options: Any) -> list[Any]:
        assert errors == "return"
        calls.append(items if not options else (items, options))
        if "top_k" in options:
            every = [{"label": name, "score": 0.5, "routing": {}} for name in "xyz"]
            return [every[: options["top_k"]] for _ in items]
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
    real = labelled.local_folder
    monkeypatch.setattr(
        labelled, "local_folder", lambda name: Path() if name in ("b", "damaged") else real(name)
    )
    monkeypatch.setattr(labelled, "own_data", lambda _: DataConfig(source="x.csv"))
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


def test_predict_passes_columns_through_and_gives_several_labels(
    pipeline: list[Any], tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id\ttext\tlabel\n7\tab\tx\n8\n")
    options = ["--keep", "id", "--keep", "label=gold", "--top-k", "2", "--batch-size", "5"]
    result = run("predict", "b", str(source), *options)
    assert result.exit_code == 1
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert good == {
        "id": "7",
        "gold": "x",
        "label": "x",
        "score": 0.5,
        "routing": {},
        "top_k": [{"label": "x", "score": 0.5}, {"label": "y", "score": 0.5}],
    }
    assert (bad["row"], bad["id"]) == (2, None) and "1 fields" in bad["error"]
    assert pipeline == [(["ab"], {"top_k": 2, "batch_size": 5})]
    assert "read as separated by tabs" in result.stderr
    assert "tabs" not in run("predict", "b", str(source), "--quiet").stderr


def test_predict_never_writes_over_its_input(pipeline: list[Any], tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\na\n")
    result = run("predict", "b", str(source), "--output", str(source))
    assert (result.exit_code, source.read_text()) == (2, "text\na\n")
    assert "is the input itself" in result.stderr and pipeline == []


@pytest.mark.parametrize("content", ["nothing here\na\n", "text\na\n"])
def test_a_predict_that_fails_leaves_its_output_as_it_was(
    pipeline: list[Any], fake: Any, tmp_path: Path, content: str
) -> None:
    source, sink = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text(content)
    sink.write_text("kept")

    def from_config(*given: Any, **options: Any) -> None:
        raise BundleError("bundle.json: damaged")

    fake("adaptive.pipeline", AdaptivePipeline=SimpleNamespace(from_config=from_config))
    result = run("predict", "b", str(source), "--output", str(sink))
    assert result.exit_code in (2, 3) and sink.read_text() == "kept"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", "out.jsonl"]


def test_predict_of_nothing_is_nothing(pipeline: list[Any]) -> None:
    result = run("predict", "b", stdin="")
    assert (result.exit_code, result.stdout, pipeline) == (0, "", [])


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["predict", "damaged"], 3, "bundle.json: damaged"),
        (["predict", "b", "absent.csv"], 2, "absent.csv"),
        (["predict", "b", "--text", "body"], 2, "no column 'body'"),
        (["predict", "b", "--keep", "score"], 2, "--keep score=own_score"),
        (["predict", "b", "--keep", "a=c", "--keep", "b=c"], 2, "given twice"),
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
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def build(recipe: Any, workdir: Path, **options: Any) -> Path:
        calls.append((recipe, workdir, options))
        logging.getLogger("adaptive.training.build").info("step data: done")
        return Path("out")

    fake("adaptive.training.build", build=build)
    fake("adaptive.bundle.header", read_header=lambda _: SimpleNamespace(info={"figures": FIGURES}))
    none = {"verdict": None, "headline": "none: nothing is promised"}
    monkeypatch.setattr("adaptive.cli.build.promised", lambda _: none)
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    result = run("build", str(path), "--set", "full.epochs=7", "--force-step", "full", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"result": "out", "figures": FIGURES, "warnings": [], "certificate": none},
    )
    threads, told = result.stderr.splitlines()
    assert threads.startswith("threads: ") and told == "step data: done"
    recipe, workdir, options = calls.pop()
    assert recipe.full.epochs == 7
    assert workdir == Path("runs/demo")
    # no bars in a log, and no labels are asked for
    assert options == {"force": "full", "until": None, "quiet": True, "ask": None}
    result = run("build", str(path), "--quiet")
    assert result.stderr == ""
    assert all(word in result.stdout for word in ("1,234 texts", "50.00 %", "tiny@0", "100.00 %"))
    *_, single, length, promise, last = result.stdout.splitlines()
    assert single.startswith("no tier alone") and "25.00% of these were longer" in length
    assert promise == "certificate: none: nothing is promised"
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
    options = {"force": "tiny", "until": "tiny", "quiet": True, "ask": None}
    assert calls == [(Path("w"), options)]


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


COMMANDS = ("build", "step", "predict", "evaluate", "curve", "certify", "refit", "info", "top")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_global_switches_stand_in_every_commands_help(name: str) -> None:
    shown = run(name, "--help").stdout
    assert "--json" in shown and "--quiet" in shown


def test_a_disk_that_is_full_of_tensors_is_a_message(fake: Any, tmp_path: Path) -> None:
    def build(*args: Any, **options: Any) -> Path:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    fake("adaptive.training.build", build=build)
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    result = run("build", str(path))
    assert result.exit_code == 2 and "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(table("Groups", [{"group": "kind = [/b]", "texts": 3}]))
    assert "kind = [/b]" in console.export_text()


def test_a_full_disk_is_a_message(pipeline: list[Any], tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    result = run("predict", "b", "--output", "/dev/full", stdin="text\na\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No space left on device" in result.stderr and "Errno" not in result.stderr


def test_the_package_runs_as_a_module_and_completes_in_a_shell() -> None:
    asked = {"_ADAPTIVE_COMPLETE": "complete_bash", "COMP_WORDS": "adaptive cu", "COMP_CWORD": "1"}
    main = "from adaptive.cli import app; app(prog_name='adaptive')"
    for arguments, told in ((["-m", "adaptive", "--help"], "Usage: "), (["-c", main], "curve")):
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | (asked if told == "curve" else {}),
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert told in done.stdout, done.stderr


def test_json_is_strict() -> None:
    assert dumps({"a": date(2024, 1, 2)}) == '{"a": "2024-01-02"}'
    assert dumps({"a": float("nan"), 1: (float("inf"), 2)}) == '{"a": null, "1": [null, 2]}'
