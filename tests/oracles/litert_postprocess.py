"""`TFLite_Detection_PostProcess` in LiteRT, alone in a file."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers

from npmobilenet.detection.tensorflow_rule import PostProcessing
from npmobilenet.types import Array

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


def _file(codes: Array, scores: Array, anchors: Array, options: PostProcessing) -> bytes:
    model, graph = schema.ModelT(), schema.SubGraphT()
    constant = schema.BufferT()
    constant.data = np.frombuffer(anchors.tobytes(), np.uint8)
    model.version, model.buffers, model.subgraphs = VERSION, [schema.BufferT(), constant], [graph]
    shapes = [(1, *codes.shape), (1, *scores.shape), anchors.shape, (), (), (), ()]
    graph.tensors = []
    for number, shape in enumerate(shapes):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"t{number}", list(shape), schema.TensorType.FLOAT32
        tensor.buffer = 1 if number == 2 else 0
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs, graph.operators = [0, 1], [3, 4, 5, 6], [_operator(scores.shape[1], options)]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "TFLite_Detection_PostProcess"
    model.operatorCodes = [code]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _operator(classes: int, options: PostProcessing) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3, 4, 5, 6]
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
