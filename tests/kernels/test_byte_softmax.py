"""Softmax of bytes against its NumPy operator, on every target of this host."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from npmobilenet_kernels.microkernels.byte_softmax import softmax_fixed, softmax_table
from npmobilenet_kernels.runtime.byte_packing import LogitTable

from npmobilenet.quantized.curves import fixed_exponentials, float_exponentials, softmax
from npmobilenet.quantized.numbers import rounding_shift
from npmobilenet.quantized.rules import RULES
from npmobilenet.quantized.tensors import Options, Quantization, Tensor
from tests.helpers.byte_steps import TARGETS, Bytes, Step
from tests.helpers.strategies import SEEDS


def logits(rng: np.random.Generator, channels: int) -> Bytes:
    """Bytes as far apart as those of real networks, or all alike, or anything."""
    spread = rng.choice([0, 3, 20, 255])
    return np.clip(rng.normal(128, spread, channels), 0, 255).astype(np.uint8)


def tensors(x: Bytes, scale: float, dtype: type, out_scale: float) -> tuple[Tensor, Tensor]:
    """Input and output as a file has them; an int8 tensor's bytes are those of the unsigned one less 128."""
    offset = 128 if dtype is np.int8 else 0
    values: Bytes = (x.astype(np.int64) - offset).astype(dtype)
    how = Quantization(np.array([scale], np.float32), np.array([-offset]))
    result = Quantization(np.array([out_scale], np.float32), np.array([-offset]))
    return Tensor("x", values.shape, np.dtype(dtype), how, values), Tensor("y", values.shape, np.dtype(dtype), result)


@settings(max_examples=20)
@given(
    TARGETS, SEEDS, st.integers(1, 1100), st.sampled_from([np.int8, np.uint8]), st.sampled_from(["tflite", "xnnpack"])
)
def test_softmax_is_that_of_the_operator(target: str, seed: int, channels: int, dtype: type, rule: str) -> None:
    rng = np.random.default_rng(seed)
    x, scale = logits(rng, channels), float(np.exp(rng.uniform(-7, 1)))
    source, y = tensors(x[None], scale, dtype, 1 / 256)
    expected = softmax([source], y, Options(beta=1.0), RULES[rule]) - y.zero_point
    step = Step(CHANNELS=channels)
    step.source(x[None, None])
    if rule == "tflite":
        exponentials = fixed_exponentials(-np.arange(256), scale_of(source))
        step.set(CONSTANTS=np.concatenate([exponentials, rounding_shift(exponentials, 12)]).astype(np.int32))
    else:
        constants = np.zeros(LogitTable.END, np.uint8)
        constants[: LogitTable.SCALE] = float_exponentials(scale_of(source)).view(np.uint8)
        constants[LogitTable.SCALE : LogitTable.NEAREST] = y.scale.astype(np.float32).view(np.uint8)
        constants[LogitTable.NEAREST :] = np.array([dtype is np.int8, 0], np.int32).view(np.uint8)
        step.set(CONSTANTS=constants)
    kernel, scratch = softmax_fixed if rule == "tflite" else softmax_table, np.zeros(256, np.uint8)
    result = step.run(kernel, target, (1, 1, channels), units=1, scratch=scratch)
    np.testing.assert_array_equal(result[0], expected)


def scale_of(tensor: Tensor) -> float:
    """Its scale in float32, as a Python number."""
    return float(tensor.scale[0])
