"""Everything that is measured on a GPU, in one run that is bounded in time.

    python benchmarks/gpu/pack.py --data FOLDER      # where the bundle was built
    python benchmarks/gpu/run_all.py --out FOLDER    # on the GPU, with what was packed
    python benchmarks/gpu/run_all.py --record benchmarks/records/runtime_gpu.json --from FOLDER

Needs no network. Stages run in the order of their worth, each within its share of the time, in a
process that is begun anew with the stages that are left where it hangs, dies, or loses the
device. What torch compiles is compiled in processes beside the first stage, which is not timed.
`results.json` and `log.txt` in FOLDER hold what there is at any time. `--device cpu --small` shows
that everything runs; nothing is recorded of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT)]

# What a stage is worth, of the time of those that are left; and where its pieces are.
STAGES = {
    "parity": (40.0, "parity.pieces"),
    "full_only": (75.0, "shapes.full_only"),
    "patterns": (35.0, "shapes.patterns"),
    "certified": (50.0, "certified.pieces"),
    "breakdown": (15.0, "breakdown.pieces"),
    "command_line": (25.0, "certified.command_line"),
    "large": (20.0, "shapes.large"),
    "mfu": (10.0, "shapes.mfu"),
}
RESULTS = "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of results.json and log.txt")
    parser.add_argument("--carried", type=Path, default=ROOT / ".gpu", help="what pack.py left")
    parser.add_argument("--seconds", type=float, default=240.0, help="for everything")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--commit", default="", help="what is run, where git is not there")
    parser.add_argument("--record", type=Path, help="write the record of --from, and nothing else")
    parser.add_argument("--from", type=Path, dest="source", help="a folder with results.json")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compile", help=argparse.SUPPRESS)
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
        from gpu.watch import supervise

        supervise(given, Path(__file__), given.out / RESULTS)


def measure(given: argparse.Namespace) -> None:
    """The stages in this process, or what it is to compile."""
    ends = time.time() + given.seconds
    import torch
    from gpu.bench import Bench, about
    from gpu.results import Report
    from gpu.stages import Stage, failure, run, share
    from gpu.watch import wait_for_compilers

    device = torch.device(given.device)
    bench = Bench(device, given.dtype, given.carried, given.small)
    if given.compile:
        import_module("gpu.shapes").compile_ahead(bench, given.compile)
        return
    report = Report(given.out / RESULTS)
    report.write(about=about(device, given.dtype, given.small, given.commit))
    for name in given.only:
        if name != "parity":
            wait_for_compilers(given.out)
        try:
            module, _, function = STAGES[name][1].partition(".")
            pieces = getattr(import_module(f"gpu.{module}"), function)
        except Exception as error:  # what a stage needs may be missing here
            report.tell(name, state="failed", pieces={"import": failure(error)})
            continue
        left = [STAGES[each][0] for each in given.only[given.only.index(name) :]]
        run(Stage(name, share(ends - time.time(), left), pieces), bench, report)


if __name__ == "__main__":
    main()
