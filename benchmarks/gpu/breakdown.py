"""Where the time of a call goes on a GPU: kernels, copies, launches, waits, and the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu.bench import Bench
from gpu.certified import certified
from gpu.models import Row, ours
from gpu.results import FULL, POLICY
from gpu.speed import WARM
from gpu.stages import Work
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

BATCHES = (1, 512)
CALLS = 16  # profiled together
SHOWN = 15
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
GRAPHS = ("cudaGraphLaunch",)
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def pieces(bench: Bench) -> Iterator[tuple[str, Work]]:
    """The full tier alone and the policy, at each batch size."""
    for batch in BATCHES:
        for name in (FULL, POLICY):
            yield f"{name}, batch {batch}", partial(profiled, bench, name, batch)


def profiled(bench: Bench, name: str, batch: int) -> dict[str, Any]:
    """Milliseconds and counts of one call of one batch, the mean over `CALLS` of them."""
    subject = certified(bench)
    policy = subject.policies[POLICY] if name == POLICY else subject.alone
    serve = ours(subject.bundle, policy)
    parts = calls_of(subject.rows, batch)

    def run() -> None:
        for part in parts:
            serve(part, batch)

    for _ in range(WARM):
        run()
    times = [clock(run) for _ in range(5)]
    activities = [ProfilerActivity.CPU]
    if bench.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, acc_events=True) as found:
        run()
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
    return told(found, len(parts), 1e3 * float(np.median(times)) / len(parts))


def calls_of(rows: list[Row], batch: int) -> list[list[Row]]:
    """Batches, over again where rows are few."""
    starts = [start % max(1, len(rows) - batch + 1) for start in range(0, CALLS * batch, batch)]
    return [rows[start : start + batch] for start in starts]


def clock(run: Callable[[], None]) -> float:
    """Seconds of a run."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def told(found: Any, calls: int, milliseconds: float) -> dict[str, Any]:
    """What a profile says of one call, and its dearest kernels and operations by name.

    `milliseconds` were measured without the profiler; with it the host is slower.
    """
    events = found.key_averages()
    device = [each for each in events if each.device_type != DeviceType.CPU]
    host = [each for each in events if each.device_type == DeviceType.CPU]
    copies = [each for each in device if each.key.startswith(("Memcpy", "Memset"))]
    kernels = [each for each in device if each not in copies]
    busy = sum(each.self_device_time_total for each in device) / 1e3 / calls
    by_time = sorted(kernels, key=lambda each: -each.self_device_time_total)
    by_host = sorted(host, key=lambda each: -each.self_cpu_time_total)
    return {
        "milliseconds": round(milliseconds, 4),
        "gpu_milliseconds": round(busy, 4),
        "gpu_share": round(busy / milliseconds, 4),
        "other_milliseconds": round(milliseconds - busy, 4),  # the GPU waits for the host
        "kernels": count(kernels, calls),
        "launches": count(named(host, LAUNCHES), calls),
        "graph_launches": count(named(host, GRAPHS), calls),
        "waits": count(named(host, WAITS), calls),
        "wait_milliseconds": spent(named(host, WAITS), calls),
        "copies": {each.key: round(each.count / calls, 2) for each in copies},
        "copy_milliseconds": round(sum(e.self_device_time_total for e in copies) / 1e3 / calls, 4),
        "top_kernels": [
            [each.key[:120], round(each.count / calls, 2), device_spent(each, calls)]
            for each in by_time[:SHOWN]
        ],
        "top_host": [
            [each.key[:120], round(each.count / calls, 2), spent([each], calls)]
            for each in by_host[:SHOWN]
        ],
    }


def named(events: list[Any], names: tuple[str, ...]) -> list[Any]:
    """Those of the CUDA runtime with one of these names."""
    return [each for each in events if each.key in names]


def count(events: list[Any], calls: int) -> float:
    """How many, a call."""
    return round(sum(each.count for each in events) / calls, 2)


def spent(events: list[Any], calls: int) -> float:
    """Milliseconds of the host, a call."""
    return round(sum(each.self_cpu_time_total for each in events) / 1e3 / calls, 4)


def device_spent(event: Any, calls: int) -> float:
    """Milliseconds of the device, a call."""
    return round(event.self_device_time_total / 1e3 / calls, 4)
