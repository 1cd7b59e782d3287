"""Linear layers in int8 on a CPU, about twice as fast as in float32.

Weights are rounded to 7 bits with one scale for each output, activations to 8 bits with one
scale for each token: its own greatest magnitude. So what a token comes to depends on no other
token, while torch's dynamic quantisation takes one range for the whole batch, and a text's answer
would change with its company. Products are summed in whole numbers, exactly.

The 7 bits are the weights' because kernels without VNNI add pairs of products in 16 bits:
255 x 63 x 2 fits, 255 x 127 x 2 would be cut off, unlike on other processors. Activations need the
eighth bit more: a token's outliers matter, and cutting them off at some multiple of its spread was
measured to be several times worse.
"""

from __future__ import annotations

import platform
import warnings

import torch
from torch import nn

from adaptive.errors import FamilyError

ENGINE = "fbgemm"
STEPS = 127.0  # of an activation on either side of zero
ZERO = 128  # the unsigned number that stands for zero
TOP = 63  # greatest weight
LEAST = 1e-30  # scale of a token or an output that is zero throughout


class Int8Linear(nn.Module):
    """A linear layer of float32 vectors that multiplies in int8. It has no gradient.

    Attributes:
        in_features, out_features: as those of the layer it was made from.
        bias: that layer's, float32, or None.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """The weight itself is not kept."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias: nn.Parameter | None = linear.bias
        self._weight = _pack(linear.weight.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out], each vector by itself.

        Raises:
            RuntimeError: a gradient is asked for.
        """
        if x.requires_grad:
            raise RuntimeError("int8 layers have no gradient; load the tier with int8=False")
        scale = x.abs().amax(-1, keepdim=True).clamp_min_(LEAST)
        y: torch.Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / scale, 1.0 / STEPS, ZERO, self._weight
        )
        if self.bias is None:
            y.mul_(scale)
            return y
        return torch.addcmul(self.bias, y, scale, out=y)


def available() -> bool:
    """Whether this torch build has the kernel; those for ARM processors have not."""
    return ENGINE in torch.backends.quantized.supported_engines


def quantise(blocks: nn.ModuleList) -> None:
    """Put an `Int8Linear` in the place of every linear layer inside a transformer's layers.

    Norms and attention itself stay as they are. The same weights always become the same numbers.

    Raises:
        FamilyError: the weights are not float32 or not on a CPU, or torch lacks the kernel.
    """
    check_kind(blocks)
    if not available():
        raise FamilyError(
            f"int8 layers need torch's {ENGINE} kernels, and this build has only "
            f"{', '.join(torch.backends.quantized.supported_engines)}; build without `quantise`"
        )
    for part in list(blocks.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.Linear):
                setattr(part, name, Int8Linear(child))


def check_kind(blocks: nn.ModuleList) -> None:
    """Raise FamilyError unless the weights are float32 and on a CPU."""
    some = next(blocks.parameters())
    if some.device.type != "cpu" or some.dtype != torch.float32:
        name = str(some.dtype).removeprefix("torch.")
        raise FamilyError(
            "layers in int8 or in ONNX Runtime run on a CPU, the rest of the tier in float32; "
            f"found {some.device.type} and {name}. Choose those, or build without `quantise` and "
            "`export`"
        )


def sums_exactly() -> bool:
    """Whether this processor's kernels sum products of 8 bits in 32: by VNNI, or it is no x86."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not x86 or bool(torch.cpu._is_vnni_supported())


def rounded(weight: torch.Tensor, top: int = TOP) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [out, in] as whole numbers int8 [out, in], and what one is worth, float64 [out].

    Args:
        top: the greatest number.
    """
    weight = weight.double()
    scales = (weight.abs().amax(1) / top).clamp_min(LEAST)
    return (weight / scales.unsqueeze(1)).round().to(torch.int8), scales


def _pack(weight: torch.Tensor) -> torch.ScriptObject:
    """A weight [out, in], rounded and laid out for the kernel."""
    numbers, scales = rounded(weight)
    zeros = torch.zeros(len(scales), dtype=torch.long)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = ENGINE  # which also decides the layout
    try:
        with warnings.catch_warnings():
            # torch 2.13 deprecates the tensor type, and has no other way to pack a weight
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
            whole = torch._make_per_channel_quantized_tensor(numbers, scales, zeros, 0)
            packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(whole, None)
    finally:
        torch.backends.quantized.engine = before
    return packed
