"""ONNX files: nodes in order, with every constant computed, in terms of the `onnx` package (extra `onnx`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.types import Array, Shape

INSTALL = "reading ONNX requires the onnx package: pip install npmobilenet[onnx]"
FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"  # tags of the fields of a ModelProto that may follow its version
ELEMENTWISE = frozenset(
    "Abs Add Ceil Clip Div Equal Floor Max Min Mod Mul Neg Reciprocal Sqrt Sub Where".split()  # noqa: SIM905
)
MOVES = frozenset(
    {
        "Cast",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Gather",
        "Identity",
        "Reshape",
        "Shape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operations that exporters leave between constants."""
MOST_VALUES = 1 << 26  # of a computed constant: some ten times the largest MobileNet's parameters
FIRST_IR_VERSION = 3  # a SavedModel begins with the same field, of value 1
LAST_IR_VERSION = 31  # of the file format; 13 in 2026


@dataclass(frozen=True)
class OnnxNode:
    """A node. `inputs` are names of values; an input that is left out is ""."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OnnxFile:
    """A network with one input.

    Attributes:
        input_shape: of four axes, 0 where it is not fixed.
        nodes: in the order of computation; whatever depends on constants alone may be computed with `evaluated`.
        constants: initializers by name.
        producer: the program that wrote the file.
    """

    input: str
    input_shape: Shape
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    constants: dict[str, Array]
    producer: str
    protos: Mapping[str, Any]


def is_onnx(path: Path) -> bool:
    """Whether the first bytes of a file are those of a ModelProto: a small version, then another of its fields."""
    with path.open("rb") as file:
        head = file.read(4)
    return len(head) > 3 and head[0] == 8 and FIRST_IR_VERSION <= head[1] <= LAST_IR_VERSION and head[2] in FIELDS


def open_onnx(data: bytes) -> OnnxFile:
    """Parse a file.

    Raises:
        WeightsError: onnx is not installed; or the file is corrupt, keeps its weights in other files, or has several
            inputs.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise WeightsError(INSTALL) from error
    try:
        model = onnx.load_from_string(data)
        graph = model.graph
        outside = [tensor.name for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
        if outside:
            raise WeightsError(
                f"{len(outside)} arrays are in other files ({outside[0]}, ...); save one file: "
                "onnx.save(onnx.load('model.onnx'), 'whole.onnx')"
            )
        if not graph.node:
            raise WeightsError("an ONNX file without a network; export it again")
        constants = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in constants]
        if len(inputs) != 1 or not graph.output:
            names = [value.name for value in (*inputs, *graph.output)]
            raise WeightsError(f"expected one input and an output, got {len(inputs)} and {len(graph.output)}: {names}")
        shape = tuple(int(side.dim_value) for side in inputs[0].type.tensor_type.shape.dim)
        nodes = tuple(
            OnnxNode(
                node.op_type, node.name or node.output[0], tuple(node.input), tuple(node.output),
                {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute},
            )
            for node in graph.node
        )  # fmt: skip
        protos = {node.output[0]: (node, model.opset_import) for node in graph.node}
        outputs = tuple(value.name for value in graph.output)
        return OnnxFile(inputs[0].name, shape, outputs, nodes, constants, model.producer_name, protos)
    except WeightsError:
        raise
    except Exception as error:  # protobuf and onnx raise many kinds
        raise WeightsError(f"a corrupt or truncated ONNX file ({type(error).__name__}: {error})") from error


def evaluated(file: OnnxFile, node: OnnxNode, constants: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Outputs of a node whose inputs are all constant.

    Raises:
        WeightsError: onnx cannot compute it.
    """
    from onnx import ValueInfoProto
    from onnx.helper import make_graph, make_model
    from onnx.reference import ReferenceEvaluator

    if node.op not in ELEMENTWISE | MOVES:
        raise WeightsError(f"{node.name}: {node.op} of constants is not supported")
    if _most_values(node.op, [constants[name] for name in node.inputs if name]) > MOST_VALUES:
        raise WeightsError(f"{node.name}: {node.op} of constants has more than {MOST_VALUES:,} values")
    proto, opsets = file.protos[node.outputs[0]]
    feeds = {name: constants[name] for name in node.inputs if name}
    try:
        model = make_model(
            make_graph(
                [proto], "constant", [_value_info(name, values) for name, values in feeds.items()],
                [ValueInfoProto(name=name) for name in node.outputs],
            ),
            opset_imports=opsets,
        )  # fmt: skip
        values = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:
        raise WeightsError(f"{node.name}: {node.op} of constants cannot be computed: {error}") from error
    yield from zip(node.outputs, map(np.asarray, values), strict=True)


def _value_info(name: str, values: Array) -> Any:
    from onnx.helper import make_tensor_value_info, np_dtype_to_tensor_dtype

    return make_tensor_value_info(name, np_dtype_to_tensor_dtype(values.dtype), values.shape)


def _most_values(op: str, inputs: Sequence[Array]) -> int:
    """Upper limit of the number of values of an operation on constants, without computing it."""
    if op in ELEMENTWISE:
        return prod(np.broadcast_shapes(*(values.shape for values in inputs)))
    if op == "ConstantOfShape":
        return prod(map(int, inputs[0].ravel()))
    if op == "Gather":
        return inputs[0].size * inputs[1].size
    return sum(values.size for values in inputs)
