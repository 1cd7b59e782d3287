"""Sessions of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from adaptive.errors import BundleError


def open_session(file: Path, told: str, *, exact: bool = False) -> Any:
    """A session that runs a graph, on as many threads as torch has now.

    Each has threads of its own, which sleep while other graphs run: spinning, two threads were 1.4
    to 5 times as slow. They could share the pool of the process
    (`onnxruntime.set_global_thread_pool_sizes`), but ONNX Runtime makes it once, never resizes it,
    and from then on refuses every session that does not use it, those of the caller's other
    libraries among them. A library must not do that to a process that is not its own.

    Args:
        told: what the graph is called in errors.
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
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base of their own
        raise BundleError(f"{told}: is missing or no graph: {error}") from error
