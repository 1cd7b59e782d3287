"""The run on a GPU costs nothing that was found: stages are cut, caught, and begun anew."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"))
import run_all
from gpu import record, results, stages, watch

BENCH = SimpleNamespace(device=torch.device("cpu"))
Pieces = dict[str, Callable[[], Any]]


@pytest.fixture
def report(tmp_path: Path) -> results.Report:
    return results.Report(tmp_path / "results.json")


def stage(pieces: Pieces, seconds: float = 60.0) -> stages.Stage:
    def each(bench: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        yield from pieces.items()

    return stages.Stage("one", seconds, each)


def on_disk(report: results.Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.file.read_text())["stages"]["one"]
    return found


def fails() -> Any:
    raise ValueError("no such kernel")


def test_a_piece_that_fails_is_told_and_the_others_are_done(report: results.Report) -> None:
    pieces: Pieces = {"bad": fails, "good": lambda: {"value": 1}}
    stages.run(stage(pieces), BENCH, report)
    found = on_disk(report)
    assert found["state"] == "done" and found["pieces"]["good"] == {"value": 1}
    assert found["pieces"]["bad"]["error"] == "ValueError: no such kernel"
    assert any("in fails" in line for line in found["pieces"]["bad"]["traceback"])


def test_what_was_found_is_on_the_disk_before_the_next_piece(report: results.Report) -> None:
    seen: list[Any] = []
    pieces: Pieces = {
        "first": lambda: {"value": 1},
        "second": lambda: seen.append(on_disk(report)["pieces"]) or {},
    }
    stages.run(stage(pieces), BENCH, report)
    assert seen == [{"first": {"value": 1}}]


def test_no_piece_is_begun_when_the_time_is_up(report: results.Report) -> None:
    pieces: Pieces = {"late": lambda: {"value": 1}}
    stages.run(stage(pieces, 1.0), BENCH, report)
    found = on_disk(report)
    assert found["state"] == "cut" and found["left_out"] == ["late"] and not found["pieces"]


def test_a_piece_that_takes_too_long_is_cut(
    report: results.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "LEAST", 0.0)
    monkeypatch.setattr(stages, "GRACE", 0.0)

    def hangs() -> Any:
        try:
            time.sleep(30)
        except Exception:  # as a compiler that goes on whatever happens
            return {}

    begun = time.monotonic()
    stages.run(stage({"long": hangs, "next": dict}, 0.2), BENCH, report)
    assert time.monotonic() - begun < 10
    found = on_disk(report)
    assert found["state"] == "cut" and found["pieces"] == {"long": {"error": "took too long"}}
    assert found["left_out"] == ["next"]


def test_a_process_that_lost_its_device_ends_behind_the_failure(
    report: results.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "answers", lambda device: False)
    with pytest.raises(SystemExit) as ended:
        stages.run(stage({"bad": fails, "next": dict}), BENCH, report)
    assert ended.value.code == stages.LOST
    assert on_disk(report)["state"] == "device lost" and "next" not in on_disk(report)["pieces"]


CHILD = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from gpu.results import Report
left = sys.argv[sys.argv.index("--only") + 1 : sys.argv.index("--out")]
report = Report(Path({file!r}))
for name in left:
    report.tell(name, state="running", until=time.time() + 60)
    if name == "parity":
        sys.exit(11)
    if name == "full_only":
        report.tell(name, until=time.time() - 100)
        time.sleep(60)
    report.tell(name, state="done")
"""


def test_stages_that_are_left_are_begun_anew_where_a_process_dies_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, child = tmp_path / "results.json", tmp_path / "child.py"
    child.write_text(CHILD.format(paths=[str(run_all.ROOT / "benchmarks")], file=str(file)))
    monkeypatch.setattr(run_all, "__file__", str(child))
    names = ["parity", "full_only", "patterns"]
    folders = ["--out", str(tmp_path), "--carried", str(tmp_path)]
    words = ["run_all", *folders, "--device", "cpu", "--only", *names]
    monkeypatch.setattr(sys, "argv", words)
    run_all.main()
    found = watch.states(file)
    assert {name: found[name]["state"] for name in names} == {
        "parity": "ended",
        "full_only": "ended",
        "patterns": "done",
    }
    assert found["parity"]["why"] == "its process ended with 11"


def test_time_that_a_stage_leaves_goes_to_those_behind_it() -> None:
    assert stages.share(100.0, [40.0, 40.0, 20.0]) == 40.0
    assert stages.share(90.0, [40.0, 20.0]) == 60.0


def line(way: str, **told: Any) -> dict[str, Any]:
    place = {"shape": "bert_base", "batch": 32, "way": way, "p50_milliseconds": 1.0}
    return place | {"p99_milliseconds": 2.0, "texts_per_second": 100.0} | told


RESULTS = {
    "about": {"gpu": "H100", "small": False, "dtype": "bfloat16", "versions": {}},
    "stages": {
        "parity": {"state": "done", "until": 1.0, "pieces": {"decisions": {"texts": 8}}},
        "full_only": {
            "state": "cut",
            "pieces": {
                "a": {
                    "lines": [
                        line("full only", over_fastest={"value": 1.2, "way": "graphs"}),
                        {"shape": "bert_base", "batch": 32, "way": "eager", "left_out": "memory"},
                    ]
                },
                "b": {"error": "ValueError: x"},
            },
        },
        "patterns": {
            "state": "done",
            "pieces": {
                "a": {"lines": [line("half", work_saved=0.5, realised_over_ideal=0.96)]},
            },
        },
        "certified": {
            "state": "done",
            "pieces": {
                "certify": {"verdict": "CERTIFIED"},
                "batch 32": {
                    "lines": [
                        line(
                            "policy",
                            over_fastest={
                                "value": 4.0,
                                "way": "graphs",
                                "p50_ratio": 0.5,
                                "p50_way": "full only",
                            },
                        )
                    ]
                },
            },
        },
    },
}


def test_results_become_a_record(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    record.write_record(tmp_path / "results.json", tmp_path / "record.json")
    found = json.loads((tmp_path / "record.json").read_text())
    assert found["gpu"] == "H100" and found["parity"] == {"decisions": {"texts": 8}}
    assert found["full_only_over_fastest"] == {"bert_base": {"32": 1.2}}
    assert [each["value"] for each in found["realised_over_ideal"]] == [0.96]
    (certified,) = found["certified"]
    assert certified["time_ratio_over_fastest_full"] == 4.0
    assert certified["verdict"] == "CERTIFIED"
    assert certified["p50_ratio_over_fastest_full"] == 2.0
    assert found["stages"]["full_only"] == {"state": "cut"}
    told = "\n".join(record.summary(tmp_path / "results.json"))
    assert "b: ValueError: x" in told and "full_only: cut" in told


def test_results_of_a_cpu_are_no_record(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"about": {"gpu": None, "small": True}}))
    with pytest.raises(SystemExit):
        record.write_record(tmp_path / "results.json", tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()
