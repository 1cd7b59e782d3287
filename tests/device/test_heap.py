"""Memory that was freed goes back to the system."""

import sys

import pytest
import torch

from adaptive.device import heap


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told by /proc")
def test_freed_memory_goes_back() -> None:
    if heap._malloc_trim() is None:
        pytest.skip("another C library than glibc")
    held = [torch.ones(4_000) for _ in range(4_000)]  # 64 MB, each too small to be mapped
    last = torch.ones(4_000)  # above them in the heap
    del held
    before = resident()
    heap.trim()
    assert before - resident() > 30_000
    assert last.sum() == 4_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    heap.trim()


def resident() -> int:
    """Of this process, in KiB."""
    with open("/proc/self/status") as lines:
        (told,) = (line for line in lines if line.startswith("VmRSS"))
    return int(told.split()[1])
