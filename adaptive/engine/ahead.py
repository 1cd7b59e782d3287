"""Making the next thing in a thread while the present one is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Given], Made], given: Iterable[Given]) -> Generator[Made, None, None]:
    """What `make` makes of each, in order, the next one in a thread while this one is used.

    `given` is read in the caller's thread, since a generator may belong to it, and by one
    further than what was handed out. Where reading or making fails, everything before comes
    first. The thread ends when the iterator does, or is closed.
    """
    source = iter(given)
    with ThreadPoolExecutor(1, "one-ahead") as pool:

        def begin() -> Callable[[], Made] | None:
            for each in source:
                return pool.submit(make, each).result
            return None

        coming = begin()
        while coming is not None:
            made, failure = coming(), None
            try:
                coming = begin()
            except Exception as error:
                failure = error
            yield made
            if failure is not None:
                raise failure


def has_spare_core(device: torch.device) -> bool:
    """Whether a thread beside the computation would have a core to itself.

    Where torch has every core already, tokenising beside it gained nothing, measured with the
    cheapest cascade there is.
    """
    if device.type != "cpu":
        return True
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (cores or 1) > torch.get_num_threads()
