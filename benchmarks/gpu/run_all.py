"""Everything that is measured on a GPU, in one run that is bounded in time.

    python benchmarks/gpu/pack.py --data FOLDER      # where the bundle was built
    python benchmarks/gpu/run_all.py --out FOLDER    # on the GPU, with what was packed
    python benchmarks/gpu/run_all.py --record benchmarks/records/runtime_gpu.json --from FOLDER

Needs no network. Stages run in the order of their worth, each within a limit of its own
(`gpu.stages`), in a process of their own that is begun anew with the stages that are left where
it hangs, dies, or loses the device. `results.json` and `log.txt` in FOLDER hold what there is at
any time. `--device cpu --small` shows that everything runs; nothing is recorded of it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT)]

# Of a stage, in seconds; all of them together take no longer than --seconds.
LIMITS = {
    "parity": 60.0,
    "full_only": 90.0,
    "patterns": 50.0,
    "certified": 80.0,
    "breakdown": 25.0,
    "large": 60.0,
    "mfu": 30.0,
}
HANGS = 20.0  # seconds behind its limit after which a stage's process is ended
LEAST = 15.0  # seconds with less than which no process is begun
RESULTS, LOG = "results.json", "log.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of results.json and log.txt")
    parser.add_argument("--carried", type=Path, default=ROOT / ".gpu", help="what pack.py left")
    parser.add_argument("--seconds", type=float, default=240.0, help="for everything")
    parser.add_argument("--only", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--commit", default="", help="what is run, where git is not there")
    parser.add_argument("--record", type=Path, help="write the record of --from, and nothing else")
    parser.add_argument("--from", type=Path, dest="source", help="a folder with results.json")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.dtype = given.dtype or ("float32" if given.device == "cpu" else "bfloat16")
    if given.record is not None:
        if given.source is None:
            parser.error("--record goes with --from")
        from gpu.record import write_record

        write_record(given.source / RESULTS, given.record)
    elif given.out is None:
        parser.error("--out is wanted, or --record")
    elif given.child:
        measure(given)
    else:
        supervise(given)


def measure(given: argparse.Namespace) -> None:
    """The stages in this process."""
    begun = time.time()
    import torch
    from gpu import breakdown, certified, parity, shapes
    from gpu.bench import Bench
    from gpu.record import about
    from gpu.stages import Report, Stage, run

    pieces = {
        "parity": parity.pieces,
        "full_only": shapes.full_only,
        "patterns": shapes.patterns,
        "certified": certified.pieces,
        "breakdown": breakdown.pieces,
        "large": shapes.large,
        "mfu": shapes.mfu,
    }
    report = Report(given.out / RESULTS)
    device = torch.device(given.device)
    report.write(about=about(device, given.dtype, given.commit, small=given.small))
    bench = Bench(device, given.dtype, given.carried, given.small)
    for name in given.only:
        run(Stage(name, LIMITS[name], pieces[name]), bench, report, begun + given.seconds)


def supervise(given: argparse.Namespace) -> None:
    """Processes of stages one after the other, until all are done or the time is up."""
    begun, left = time.time(), list(given.only)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, (given.out / LOG).open("a") as log:
        carried = unpack(given.carried, Path(folder))
        while left and begun + given.seconds - time.time() > LEAST:
            seconds = begun + given.seconds - time.time()
            ended = watch(command(given, carried, left, seconds), given.out / RESULTS, log)
            told = states(given.out / RESULTS)
            unfinished = [name for name in left if told.get(name, {}).get("state") == "running"]
            if ended == 0 or not (unfinished or any(name in told for name in left)):
                break  # all done, or nothing can begin
            for name in unfinished:
                mark(given.out / RESULTS, name, f"its process ended with {ended}")
            left = [name for name in left if name not in told]
    from gpu.record import summary

    print("\n".join(summary(given.out / RESULTS)), flush=True)


def unpack(carried: Path, folder: Path) -> Path:
    """The folder with `bundle` and the texts, out of the archive where there is one."""
    archive = carried / "carried.tar.xz"
    if not archive.is_file():
        return carried
    with tarfile.open(archive) as stream:
        stream.extractall(folder, filter="data")
    return folder


def command(given: argparse.Namespace, carried: Path, stages: list[str], left: float) -> list[str]:
    """What runs the stages in a process of their own."""
    words = [sys.executable, "-u", __file__, "--child", "--only", *stages]
    options = {
        "--out": given.out,
        "--carried": carried,
        "--seconds": round(left, 1),
        "--device": given.device,
        "--dtype": given.dtype,
        "--commit": given.commit,
    }
    words += [str(word) for pair in options.items() for word in pair]
    return words + ["--small"] * given.small


def watch(words: list[str], results: Path, log: IO[str]) -> int:
    """Run a process, whose output is printed and logged, and end it where it hangs.

    Returns:
        Its exit status.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    reader = threading.Thread(target=echo, args=(process.stdout, log), daemon=True)
    reader.start()
    latest = time.time() + float(words[words.index("--seconds") + 1]) + HANGS
    while process.poll() is None:
        running = [e["until"] for e in states(results).values() if e["state"] == "running"]
        if time.time() > min([latest, *(until + HANGS for until in running)]):
            process.kill()
        time.sleep(0.2)
    reader.join(5.0)
    return process.returncode


def echo(stream: Any, log: IO[str]) -> None:
    """Lines of a process to the terminal and the log."""
    for line in stream:
        print(line, end="", flush=True)
        log.write(line)
        log.flush()


def states(results: Path) -> dict[str, Any]:
    """What is known of each stage that was begun."""
    from gpu.stages import read

    found: dict[str, Any] = read(results).get("stages", {})
    return found


def mark(results: Path, stage: str, why: str) -> None:
    """Tell of a stage whose process cannot tell any more."""
    from gpu.stages import Report

    Report(results).tell(stage, state="ended", why=why)


if __name__ == "__main__":
    main()
