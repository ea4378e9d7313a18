"""All tensors of a TensorFlow Lite file, computed by LiteRT, if that is installed."""

from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import DumpError, NpMobileNetError
from npmobilenet.types import Array


def tflite_outputs(path: Path, x: Array) -> dict[str, Array]:
    """What every operator of a file computes, by tensor name in the order of the operators.

    LiteRT's own kernels run, without delegates, so that every tensor is kept; for a quantized file its reference
    kernels, whose rounding is the rule `tflite`. Integers are returned as they are.

    Args:
        path: the file.
        x: (N, H, W, C) the scaled input, or the integers of a quantized file's.

    Raises:
        NpMobileNetError: LiteRT is not installed.
        DumpError: LiteRT cannot run the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise NpMobileNetError(f"running {path} requires ai-edge-litert: {error}") from error
    from npmobilenet_weights_convert.tflite_file import read_tflite

    data = path.read_bytes()
    network = read_tflite(data, path.stem)  # for the order of its operators; refuses a file that is damaged
    kernels = OpResolverType.BUILTIN_REF if network.is_quantized else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(
            model_content=data,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=kernels,
        )
        (entry,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(entry["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], _input(entry, x))
        interpreter.invoke()
        details = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
        made = dict.fromkeys(number for operator in network.operators for number in operator.outputs)
        return {details[number]: np.array(interpreter.get_tensor(number)) for number in made if number in details}
    except Exception as error:  # LiteRT raises many types
        raise DumpError(f"{path}: LiteRT cannot run it: {(str(error).splitlines() or [repr(error)])[0]}") from error


def _input(entry: dict[str, Any], x: Array) -> Array:
    """The input in the dtype of the file's."""
    dtype = np.dtype(entry["dtype"])
    if dtype.kind == "f" or x.dtype == dtype:
        return x.astype(dtype)
    scale, zero_point = entry["quantization"]
    limits = np.iinfo(dtype)
    quantized: Array = np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max).astype(dtype)
    return quantized
