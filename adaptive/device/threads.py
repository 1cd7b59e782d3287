"""How many threads torch computes with."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread in here, as far as this thread of the process is concerned.

    `torch.set_num_threads` would set it for threads that begin meanwhile, too.
    """
    if torch.get_num_threads() == 1:
        yield
        return
    set_mkl = _set_mkl()
    openmp = [(each, each.get_num_threads()) for each in _openmp()]
    mkl = set_mkl(1)
    for library, _ in openmp:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, count in openmp:
            library.set_num_threads(count)
        set_mkl(mkl)


@cache
def _openmp() -> list[Any]:
    """The libraries that torch's threads may come from; looking for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().lib_controllers
    return [each for each in libraries if each.user_api == "openmp"]


@cache
def _set_mkl() -> Callable[[int], int]:
    """MKL's own setting for a thread, which goes before OpenMP's; gives what it was before.

    Torch holds MKL in itself, where threadpoolctl does not see it. Builds of torch without it are
    none the worse.
    """
    library = next((Path(torch.__file__).parent / "lib").glob("*torch_cpu.*"), None)
    try:
        found: Callable[[int], int] = ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return lambda count: count
    return found
