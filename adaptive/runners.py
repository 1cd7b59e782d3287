"""What may run a tier's layers: one table, by the names that recipes use.

An entry holds facts alone, since recipes are checked against it without torch. How a tier is
opened follows from them in `adaptive.tiers.store`, how one is prepared in
`adaptive.training.export`, and `adaptive.tiers.runners` tells what a machine lacks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

AUTO = "auto"  # in a runner's place: the quickest one of the machine that builds


@dataclass(frozen=True, slots=True)
class Runner:
    """One way to run layers. Embeddings, pooling and exits are torch's in all of them."""

    told: str  # in words
    device: Literal["cpu", "cuda"] | None  # that it is for; None = any
    int8: bool = False  # layers multiply in 8 bits, made when a tier is loaded or exported
    graphs: bool = False  # layers are ONNX graphs, which a build writes and a bundle keeps
    dtype: Literal["bfloat16"] | None = None  # of the weights; None = as the cost step says
    kernels: Literal["int8", "bfloat16"] | None = None  # of torch, which some machines lack
    packages: tuple[str, ...] = ()  # that serving needs
    preparing: tuple[str, ...] = ()  # that a build needs besides
    extra: str = ""  # of this package, that brings them


def _onnx(told: str, *, int8: bool) -> Runner:
    return Runner(
        told,
        "cpu",
        int8=int8,
        graphs=True,
        packages=("onnxruntime",),
        preparing=("onnx",),
        extra="onnx",
    )


RUNNERS: Mapping[str, Runner] = {  # of those that are as quick, the first one is chosen
    "torch": Runner("torch", None),
    "torch-bfloat16": Runner("torch in bfloat16", "cpu", dtype="bfloat16", kernels="bfloat16"),
    "torch-int8": Runner("torch in int8", "cpu", int8=True, kernels="int8"),
    "onnxruntime": _onnx("ONNX Runtime", int8=False),
    "onnxruntime-int8": _onnx("ONNX Runtime in int8", int8=True),
    # torch does it of itself on a GPU; asked for by name, a build elsewhere is refused
    "cuda-graphs": Runner("torch, a hop in one launch", "cuda"),
}
PLAIN = "torch"


def named(*, int8: bool, graphs: bool) -> str:
    """The first runner with these facts, in the dtype of the cost step."""
    return next(
        name
        for name, each in RUNNERS.items()
        if (each.int8, each.graphs, each.dtype) == (int8, graphs, None)
    )
