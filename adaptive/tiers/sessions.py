"""Sessions of ONNX Runtime, and the threads that run several at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from adaptive.errors import BundleError

Given = TypeVar("Given")
Found = TypeVar("Found")


def open_session(file: Path, told: str, threads: int, *, exact: bool = False) -> Any:
    """A session that runs a graph.

    Threads that share its products sleep while other graphs run: spinning, two were 1.4 to 5 times
    as slow.

    Args:
        told: what the graph is called in errors.
        threads: that share each product. They are the session's own: a pool of the process
            (`onnxruntime.set_global_thread_pool_sizes`) is made once, cannot be resized, and every
            session that does not use it is refused from then on, those of the caller's other
            libraries among them.
        exact: products of 8 bits are summed in 32 though the processor has no VNNI, which is
            slower; else sums that go beyond 16 bits would be cut off there.

    Raises:
        BundleError: ONNX Runtime is not installed, or the graph is missing or damaged.
    """
    try:
        import onnxruntime
    except ImportError:
        raise BundleError(
            f"{told}: ONNX Runtime runs this tier and is not installed; "
            "pip install 'adaptive-cascade[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base of their own
        raise BundleError(f"{told}: is missing or no graph: {error}") from error


def side_by_side(
    work: Callable[[Given], Found], items: Sequence[Given], threads: int
) -> list[Found]:
    """What `work` makes of each item, in order; `threads` of them at a time.

    The caller is one of the threads. Pays where `work` lets go of the interpreter, as sessions do.
    """
    shares = [items[first::threads] for first in range(min(threads, len(items)))]

    def whole(share: Sequence[Given]) -> list[Found]:
        return [work(each) for each in share]

    others = [_pool(threads - 1, os.getpid()).submit(whole, each) for each in shares[1:]]
    try:
        done = [whole(shares[0])]
    finally:
        wait(others)  # none runs on behind an error
    done += [each.result() for each in others]
    return [done[i % threads][i // threads] for i in range(len(items))]


@cache
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process, for all graphs; a process that was forked off has none of them."""
    return ThreadPoolExecutor(workers, "graphs")
