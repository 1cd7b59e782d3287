"""What watches over a run: processes that do stages, and what is begun anew where one dies."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gpu.record import summary
from gpu.results import Report, read

ROOT = Path(__file__).resolve().parent.parent.parent
HANGS = 20.0  # seconds behind its limit after which a stage's process is ended
LEAST = 15.0  # seconds with less than which no process is begun
COMPILING = 75.0  # seconds that compilers may take beside the first stage
COMPILED = ("clinc150", "bert_base")  # subjects that are compiled beside it
ARCHIVE, LOG, FLAG = "carried.tar.xz", "log.txt", "compiling"


def supervise(given: argparse.Namespace, script: Path, results: Path) -> None:
    """Processes of stages one after the other, until all are done or the time is up."""
    ends, left = time.time() + given.seconds, list(given.only)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, (given.out / LOG).open("a") as log:
        given.carried = unpack(given.carried, Path(folder))
        with compilers(given, script, log):
            while left and (seconds := ends - time.time()) > LEAST:
                words = command(given, script, left, seconds)
                ended = watch(words, results, log, seconds)
                told = states(results)
                if ended == 0 or not any(name in told for name in left):
                    break  # all done, or nothing can begin
                for name in left:
                    if told.get(name, {}).get("state") == "running":
                        why = f"its process ended with {ended}"
                        Report(results).tell(name, state="ended", why=why)
                left = [name for name in left if name not in told]
    print("\n".join(summary(results)), flush=True)


def unpack(carried: Path, folder: Path) -> Path:
    """The folder with `bundle` and the texts, out of the archive where there is one."""
    archive = carried / ARCHIVE
    if not archive.is_file():
        return carried
    with tarfile.open(archive) as stream:
        stream.extractall(folder, filter="data")
    return folder


def command(
    given: argparse.Namespace, script: Path, stages: list[str], seconds: float
) -> list[str]:
    """What runs stages in a process of their own."""
    words = [sys.executable, "-u", str(script), "--child", "--only", *stages]
    options = {
        "--out": given.out,
        "--carried": given.carried,
        "--seconds": round(seconds, 1),
        "--device": given.device,
        "--dtype": given.dtype,
        "--commit": given.commit,
    }
    words += [str(word) for pair in options.items() for word in pair]
    return words + ["--small"] * given.small


@contextmanager
def compilers(given: argparse.Namespace, script: Path, log: IO[str]) -> Iterator[None]:
    """Compile beside the first stage what the second one needs; a file tells that it goes on."""
    flag, ahead = given.out / FLAG, given.device != "cpu" and "full_only" in given.only
    if not ahead:
        yield
        return
    flag.touch()
    words = command(given, script, ["full_only"], COMPILING)
    begun = time.time()
    started = [begin([*words, "--compile", name], log) for name in COMPILED]

    def end() -> None:
        for process in started:
            try:
                process.wait(max(0.1, COMPILING - (time.time() - begun)))
            except subprocess.TimeoutExpired:
                process.kill()
        flag.unlink(missing_ok=True)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()
        thread.join(5.0)


def wait_for_compilers(folder: Path) -> None:
    """Until none is at work, so that nothing is timed beside one."""
    begun = time.time()
    while (folder / FLAG).exists() and time.time() - begun < COMPILING:
        time.sleep(0.1)


def begin(words: list[str], log: IO[str]) -> subprocess.Popen[str]:
    """A process whose output is printed and logged."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    threading.Thread(target=echo, args=(process.stdout, log), daemon=True).start()
    return process


def watch(words: list[str], results: Path, log: IO[str], seconds: float) -> int:
    """Run a process and end it where it hangs; its exit status."""
    process, latest = begin(words, log), time.time() + seconds + HANGS
    while process.poll() is None:
        running = [e["until"] for e in states(results).values() if e["state"] == "running"]
        if time.time() > min([latest, *(until + HANGS for until in running)]):
            process.kill()
        time.sleep(0.1)
    return process.returncode


def echo(stream: IO[str], log: IO[str]) -> None:
    """Lines of a process to the terminal and the log."""
    with stream:
        for line in stream:
            print(line, end="", flush=True)
            if not log.closed:
                log.write(line)
                log.flush()


def states(results: Path) -> dict[str, Any]:
    """What is known of each stage that was begun."""
    found: dict[str, Any] = read(results).get("stages", {})
    return found
