"""Two builds do not share a work folder, and a build that died holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_builds import recipe_in, write_data, write_model

from adaptive.errors import BuildError
from adaptive.training.build import build
from adaptive.training.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from adaptive.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_build_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    write_data(tmp_path / "data.csv")
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        with pytest.raises(BuildError, match=rf"in use by process {os.getpid()} on .*, since 2"):
            build(recipe_in(tmp_path), tmp_path / "run", until="data", quiet=True)
        assert not (tmp_path / "run" / "data").exists()
    build(recipe_in(tmp_path), tmp_path / "run", until="data", quiet=True)
    assert (tmp_path / "run" / "data" / "step.json").is_file()


def test_folders_are_held_one_by_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with locked(tmp_path / "one"), locked(tmp_path / "two"):
        pass
    with locked(tmp_path / "one"):
        pass


def test_a_build_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with (
            pytest.raises(BuildError, match=f"in use by process {process.pid} on"),
            locked(tmp_path),
        ):
            pass
    finally:
        process.kill()
        process.communicate()
    with locked(tmp_path):
        pass
