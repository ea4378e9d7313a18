"""`TFLite_Detection_PostProcess` in LiteRT, alone in a file or after a network."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from flatbuffers import flexbuffers

from npmobilenet.detection.tensorflow_rule import PostProcessing
from npmobilenet.types import Array, Shape

VERSION = 3


def litert_postprocess(codes: Array, scores: Array, anchors: Array, options: PostProcessing) -> list[Array]:
    """Boxes (n, 4), classes (n,), scores (n,) and the number of detections, as LiteRT's kernel leaves them.

    Args:
        codes, anchors: (A, 4) float32.
        scores: (A, slots) float32, with or without the background.
        options: of the operator; the number of classes is that of `scores` without a background.
    """
    data = _file(codes, scores, anchors, options)
    interpreter: Any = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    for detail, x in zip(interpreter.get_input_details(), (codes, scores), strict=True):
        interpreter.set_tensor(detail["index"], x[None])
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"])[0] for detail in interpreter.get_output_details()]


def litert_detections(data: bytes, x: Array, *, reference: bool = False) -> list[Array]:
    """The outputs of a detector's file for one image (1, H, W, C) of its input's type.

    Args:
        reference: whether the reference kernels compute, else LiteRT's default.
    """
    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter: Any = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"])[0] for detail in interpreter.get_output_details()]


def with_post_processing(data: bytes, anchors: Array, options: PostProcessing, classes: int) -> bytes:
    """A file with the outputs box codes and scores, with the operator after them."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    constant, code = schema.BufferT(), schema.OperatorCodeT()
    constant.data = np.frombuffer(anchors.tobytes(), np.uint8)
    model.buffers.append(constant)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "TFLite_Detection_PostProcess"
    model.operatorCodes.append(code)
    first = len(graph.tensors)
    for number, shape in enumerate([anchors.shape, (), (), (), ()]):
        graph.tensors.append(_tensor(f"post_{number}", shape, len(model.buffers) - 1 if number == 0 else 0))
    operator = _operator(classes, options)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [*map(int, graph.outputs), first], list(range(first + 1, first + 5))
    graph.operators.append(operator)
    graph.outputs = operator.outputs
    return _packed(model)


def _file(codes: Array, scores: Array, anchors: Array, options: PostProcessing) -> bytes:
    """A file without any other operator."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.subgraphs, model.operatorCodes = VERSION, [schema.BufferT()], [graph], []
    graph.tensors = [_tensor("codes", (1, *codes.shape)), _tensor("scores", (1, *scores.shape))]
    graph.inputs, graph.outputs, graph.operators = [0, 1], [0, 1], []
    return with_post_processing(_packed(model), anchors, options, scores.shape[1])


def _tensor(name: str, shape: Shape, buffer: int = 0) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), schema.TensorType.FLOAT32, buffer
    return tensor


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _operator(classes: int, options: PostProcessing) -> Any:
    operator = schema.OperatorT()
    flex = flexbuffers.Builder()
    with flex.Map():
        flex.Int("max_detections", options.max_detections)
        flex.Int("max_classes_per_detection", options.max_classes_per_detection)
        flex.Int("detections_per_class", options.detections_per_class)
        flex.Bool("use_regular_nms", options.use_regular_nms)
        flex.Int("num_classes", classes)
        flex.Float("nms_score_threshold", options.score_threshold, 4)
        flex.Float("nms_iou_threshold", options.iou_threshold, 4)
        for name, value in zip(("y_scale", "x_scale", "h_scale", "w_scale"), options.scales, strict=True):
            flex.Float(name, value, 4)
    operator.customOptions = np.frombuffer(flex.Finish(), np.uint8)
    return operator
