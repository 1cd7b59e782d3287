"""Torch on one thread for a while, in one thread of the process."""

from __future__ import annotations

import threading

import pytest
import torch

from adaptive.device import threads
from adaptive.device.threads import one_thread

pytestmark = pytest.mark.usefixtures("three_threads")


def mkl() -> int:
    """What MKL was set to in this thread, and is left at."""
    set_mkl = threads._set_mkl()
    found = set_mkl(1)
    set_mkl(found)
    return found


def test_torch_has_one_thread_inside_and_as_many_as_before_outside() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_an_error_leaves_them_as_they_were() -> None:
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert torch.get_num_threads() == 3


def test_mkl_follows() -> None:
    if not torch.backends.mkl.is_available() or mkl() != 3:
        pytest.skip("this torch holds no MKL that can be set")
    with one_thread():
        assert mkl() == 1
    assert mkl() == 3


def test_threads_that_begin_meanwhile_compute_as_before() -> None:
    found: list[int] = []

    def compute() -> None:
        torch.ones(100_000).sum()
        found.append(torch.get_num_threads())

    with one_thread():
        other = threading.Thread(target=compute)
        other.start()
        other.join()
    assert found == [3]


def test_a_torch_without_mkl_is_none_the_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, name: str) -> None:
            self.name = name

    threads._set_mkl.cache_clear()
    monkeypatch.setattr(threads.ctypes, "CDLL", Library)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
    finally:
        threads._set_mkl.cache_clear()
    assert torch.get_num_threads() == 3
