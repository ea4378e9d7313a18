"""TensorFlow Lite's interpreter, in its two forms: the reference kernels, and what LiteRT runs by default."""

from collections.abc import Mapping
from typing import Any

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from npmobilenet.types import Array
from tests.helpers.tflite_files import output_numbers, with_all_outputs


class LiteRT:
    """A file whose tensors can all be seen.

    Args:
        data: the file's contents.
        reference: whether the reference kernels compute, which the rule `tflite` follows; else LiteRT's default, with
            XNNPACK for the operators that it takes.
    """

    def __init__(self, data: bytes, *, reference: bool = True) -> None:
        exposed = with_all_outputs(data)
        resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        self._numbers = output_numbers(exposed)
        self._interpreter: Any = Interpreter(
            model_content=exposed, experimental_op_resolver_type=resolver, num_threads=1
        )
        self._interpreter.allocate_tensors()

    def tensors(self, *inputs: Array) -> Mapping[int, Array]:
        """Every tensor that an operator makes, by number, for these inputs."""
        for detail, x in zip(self._interpreter.get_input_details(), inputs, strict=True):
            self._interpreter.set_tensor(detail["index"], x)
        self._interpreter.invoke()
        return {number: self._interpreter.get_tensor(number) for number in self._numbers}


def litert_output(data: bytes, x: Array) -> Array:
    """The first output that LiteRT's default computes of a file's input."""
    interpreter: Any = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result
