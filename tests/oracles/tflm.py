"""TensorFlow Lite Micro's interpreter, where its wheel is installed (`pip install --pre tflite-micro`)."""

from collections.abc import Mapping
from typing import Any

import pytest

from npmobilenet.types import Array
from tests.helpers.tflite_files import output_numbers, with_all_outputs

ARENA = 32 << 20  # bytes


def micro_runtime() -> Any:
    """The interpreter's module; the test is skipped where the wheel is not installed."""
    return pytest.importorskip(
        "tflite_micro.python.tflite_micro.runtime",
        reason="compares with TensorFlow Lite Micro: pip install --pre tflite-micro pyyaml bitarray",
    )


def micro_tensors(data: bytes, *inputs: Array) -> Mapping[int, Array]:
    """Every tensor that an operator makes, by number; skipped as `micro_runtime`."""
    exposed = with_all_outputs(data)
    interpreter = micro_runtime().Interpreter.from_bytes(exposed, arena_size=ARENA)
    for number, x in enumerate(inputs):
        interpreter.set_input(x, number)
    interpreter.invoke()
    numbers = output_numbers(exposed)
    return {number: interpreter.get_output(place) for place, number in enumerate(numbers)}
