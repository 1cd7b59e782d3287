"""Sessions of ONNX Runtime, which share one thread pool of the process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from adaptive.errors import BundleError


def open_session(file: Path, told: str) -> Any:
    """A session that runs a graph, on as many threads as torch has now.

    The first session of several threads makes the pool that all others share. ONNX Runtime makes
    one pool a process and cannot change its size: where torch has another number of threads by
    now, or someone else made the pool, a session gets threads of its own. Of one thread none needs
    any but the caller's.

    Args:
        told: what the graph is called in errors.

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
    threads = torch.get_num_threads()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if threads > 1 and _pool() == threads:
        options.use_per_session_threads = False
        # spinning threads take cores from what torch does between two graphs
        options.add_session_config_entry("session.force_spinning_stop", "1")
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base of their own
        raise BundleError(f"{told}: is missing or no graph: {error}") from error


@cache
def _pool() -> int:
    """The size of the process's pool, which the first call makes; 0 if someone else made one."""
    import onnxruntime

    threads = torch.get_num_threads()
    try:
        onnxruntime.set_global_thread_pool_sizes(threads, 1)
    except Exception:  # there is one already, of a size that is not told
        return 0
    return threads
