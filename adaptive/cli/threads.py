"""How many threads a command computes with: what this process may really use.

A container's quota and a process's affinity are often far below the cores of the machine, and
threads beyond them slow each other down.
"""

from __future__ import annotations

import os
from pathlib import Path

from adaptive.cli.session import Session

_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def set_threads(given: int | None, session: Session) -> None:
    """Computes with so many threads from here on; None: with as many as there are cores to use.

    OMP_NUM_THREADS, where it is set, is what the user wants. Linear algebra outside torch follows,
    unless its own variables say otherwise.
    """
    import torch
    from threadpoolctl import threadpool_limits

    wished = os.environ.get("OMP_NUM_THREADS", "")
    if given is not None:
        count, why = given, "--threads"
    elif wished.isdecimal() and int(wished) > 0:
        count, why = int(wished), "OMP_NUM_THREADS"
    else:
        count = usable_cores()
        why = f"what this process may use of the machine's {os.cpu_count()} cores"
    torch.set_num_threads(count)
    os.environ.setdefault("RAYON_NUM_THREADS", str(count))  # the tokenizers'
    # numpy's, scipy's and scikit-learn's: of libraries that are loaded, and of those still to come
    if given is not None or not any(name in os.environ for name in _BLAS):
        threadpool_limits(count, user_api="blas")
    for name in ("OMP_NUM_THREADS", *_BLAS):
        if given is not None or name not in os.environ:
            os.environ[name] = str(count)
    session.note(f"threads: {count} ({why})")


def usable_cores() -> int:
    """Cores by affinity, and no more than the quota of the container pays for."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    allowed = quota()
    return cores if allowed is None else max(1, min(cores, int(allowed)))


def quota(root: Path = Path("/")) -> float | None:
    """Cores that the process's control groups allow in the mean; None where there is no limit.

    Args:
        root: where `proc` and `sys` lie.
    """
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            top, read = root / "sys/fs/cgroup", _version_2
        elif "cpu" in controllers.split(","):
            top, read = root / "sys/fs/cgroup/cpu", _version_1
        else:
            continue
        # a group is bound by all that it lies in; inside a container the path may lead nowhere
        place = top / path.strip("/")
        found += [read(folder) for folder in (place, *place.parents) if folder.is_relative_to(top)]
    limits = [each for each in found if each is not None]
    return min(limits, default=None)


def _version_2(folder: Path) -> float | None:
    share, _, period = next(iter(_lines(folder / "cpu.max")), "max").partition(" ")
    return None if share == "max" else int(share) / int(period)


def _version_1(folder: Path) -> float | None:
    share = int(next(iter(_lines(folder / "cpu.cfs_quota_us")), "-1"))
    period = int(next(iter(_lines(folder / "cpu.cfs_period_us")), "100000"))
    return None if share <= 0 else share / period


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
