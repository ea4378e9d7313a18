"""Assembly of an ONNX file from nodes and constants."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # contemporary with that opset, so that older runtimes read it too


class OnnxBuilder:
    """Nodes and constants of a network; values are known by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """Add a constant and return its name."""
        self._constants.append(numpy_helper.from_array(np.array(values, dtype, order="C"), name))
        return name

    def save(
        self, path: Path, *, x: str, shape: Sequence[int], ys: Sequence[str], dtype: DTypeLike = np.float32
    ) -> None:
        """Write the file: input x of `shape` and outputs ys, of one type."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs = [helper.make_tensor_value_info(x, kind, shape)]
        outputs = [helper.make_tensor_value_info(y, kind, None) for y in ys]
        graph = helper.make_graph(self._nodes, "network", inputs, outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        path.write_bytes(model.SerializeToString())
