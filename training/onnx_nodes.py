"""ONNX graphs, written node by node of the operators that ONNX Runtime is quickest at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET, IR = 18, 9
OWN = "com.microsoft"  # domain of ONNX Runtime's own operators
FLOAT, INT32 = 1, 6  # numbers of dtypes in ONNX, for casts
Shape = Sequence[int | str | None]  # names of the sizes that are left open


@dataclass(slots=True)
class Nodes:
    """A graph that nodes are added to, each behind those that it reads."""

    nodes: list[Any] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all constants."""
        return sum(each.nbytes for each in self.arrays.values())

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node of one output; returns its name."""
        (output,) = self.parts(1, kind, *inputs, domain=domain, **attributes)
        return output

    def parts(
        self, count: int, kind: str, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node of several outputs; returns their names."""
        from onnx import helper

        outputs = [f"{len(self.nodes)}.{kind}" + f".{i}" * bool(i) for i in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs

    def constant(self, value: NDArray[Any]) -> str:
        """Its name; scalars and shapes are written once."""
        name = f"constant.{len(self.arrays)}"
        if value.size <= 4:
            name = f"{value.dtype}.{value.tolist()}"
        self.arrays[name] = value
        return name

    def model(
        self,
        name: str,
        inputs: Mapping[str, tuple[Any, Shape]],
        outputs: Mapping[str, tuple[str, Any, Shape]],
        properties: Mapping[str, str] | None = None,
    ) -> Any:
        """The whole, as an ONNX model.

        Args:
            inputs: dtype and shape of each.
            outputs: by the name that they are to have: which node's, dtype and shape.
        """
        from onnx import checker, helper, numpy_helper

        renamed = {node: told for told, (node, *_) in outputs.items()}
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(each, each) for each in names]

        def told(name: str, dtype: Any, shape: Shape) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self.nodes,
            name,
            [told(name, *each) for name, each in inputs.items()],
            [told(name, dtype, shape) for name, (_, dtype, shape) in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.arrays.items()],
        )
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(OWN, 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=IR, producer_name="")
        helper.set_model_props(model, dict(properties or {}))
        checker.check_model(model)
        return model
