"""Commands compute with the cores that they may use, and end by SIGTERM as by Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from threadpoolctl import threadpool_info
from tiny_builds import recipe_in, write_data, write_model
from typer.testing import CliRunner

from adaptive.cli import app, threads
from adaptive.cli.session import Session
from adaptive.cli.threads import quota, set_threads, usable_cores


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, str(before)))
    yield
    torch.set_num_threads(before)


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        # the narrowest of the groups that it lies in
        (
            "0::/a/b\n",
            {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "50000 25000"},
            2.0,
        ),
        # a path that is not there, as inside of a container
        ("0::/host/path\n", {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1.0),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n",
            {
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            },
            1.5,
        ),
        ("", {}, None),
    ],
)
def test_the_quota_of_a_container_is_found(
    tmp_path: Path, groups: str, files: dict[str, str], expected: float | None
) -> None:
    assert quota(system(tmp_path, groups, files)) == expected


@pytest.mark.parametrize(
    ("affinity", "allowed", "expected"), [(8, None, 8), (8, 2.5, 2), (1, 4.0, 1), (8, 0.5, 1)]
)
def test_affinity_and_quota_bound_the_cores(
    monkeypatch: pytest.MonkeyPatch, affinity: int, allowed: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: set(range(affinity)), raising=False)
    monkeypatch.setattr(threads, "quota", lambda: allowed)
    assert usable_cores() == expected


def blas() -> list[dict[str, Any]]:
    """The libraries of linear algebra that are loaded."""
    return [each for each in threadpool_info() if each["user_api"] == "blas"]


def test_what_is_asked_for_comes_first_and_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for given, expected, why in ((1, 1, "--threads"), (None, 2, "OMP_NUM_THREADS")):
        set_threads(given, Session())
        assert torch.get_num_threads() == expected
        assert f"threads: {expected} ({why})" in capsys.readouterr().err
        if given is not None:  # else the variables of the libraries say, which the fixture sets
            assert {each["num_threads"] for each in blas()} <= {expected}
            assert os.environ["OPENBLAS_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"] == "1"
            monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("OMP_NUM_THREADS")
    set_threads(None, Session())
    assert torch.get_num_threads() == 3
    assert "threads: 3 (what this process may use of the machine's" in capsys.readouterr().err
    set_threads(1, Session(quiet=True))
    assert capsys.readouterr().err == ""


def test_sigterm_ends_a_build_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv")
    recipe = recipe_in(tmp_path).model_dump(mode="json", exclude_none=True)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    told: list[str] = []

    def backward(*given: Any, **named: Any) -> None:
        told.append("training")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    before = signal.getsignal(signal.SIGTERM)
    arguments = ["build", str(file), "--workdir", str(tmp_path / "run"), "--threads", "1"]
    result = CliRunner().invoke(app, arguments)
    assert told == ["training"]
    assert result.exit_code == 130, result.output
    assert "step 2 of 12, full: started" in result.stderr
    shown = " ".join(result.stderr.split())
    assert f"to resume: adaptive build {file} --workdir {tmp_path / 'run'}" in shown
    assert "threads: 1 (--threads)" in shown
    assert (tmp_path / "run" / "data" / "step.json").is_file()
    assert not (tmp_path / "run" / ".holder.json").exists()
    assert signal.getsignal(signal.SIGTERM) is before
