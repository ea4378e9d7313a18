"""Golden cases of CMSIS-NN's own kernel tests."""

import json
from typing import Any

import numpy as np
import pytest

from npmobilenet.quantized import fixed_point
from npmobilenet.quantized.averages import average_pool, max_pool
from npmobilenet.quantized.numbers import Multiplier, high_product, rounded_twice, rounding_shift
from npmobilenet.quantized.rules import TFLITE
from npmobilenet.quantized.tensors import Options, Quantization, Tensor
from npmobilenet.quantized.weighted_sums import accumulators
from npmobilenet.types import Array, Pair
from tests.helpers.real_files import real_file

CASES = (
    "basic", "stride2pad1", "kernel1x1_stride_x_y", "conv_2x2_dilation", "depthwise_2", "depthwise_kernel_3x3",
    "depthwise_eq_in_out_ch", "depthwise_dilation", "fully_connected_out_activation", "avgpooling_2", "avgpooling_3",
    "maxpooling_2", "add", "softmax",
)  # fmt: skip
WEIGHTED = {"conv_2d", "depthwise_conv_2d", "fully_connected"}


def case_named(name: str) -> dict[str, Any]:
    """A case of the file."""
    document = json.loads(real_file("quantized", "kernel-goldens.json").read_text())
    return next(case for case in document["cases"] if case["name"] == name)


def array(entry: dict[str, Any], key: str = "values") -> Array:
    """Values in their shape."""
    return np.array(entry[key], entry.get("dtype", "int32")).reshape(entry.get("shape", -1))


def tensor(data: Array, zero_point: int = 0) -> Tensor:
    """A tensor of steps of 1."""
    how = Quantization(np.ones(1, np.float32), np.array([zero_point]))
    return Tensor("tensor", data.shape, data.dtype, how, data)


def options_of(case: dict[str, Any], size: Pair) -> Options:
    """Options of a window; the cases state zeros before the image, which tell SAME from VALID or agree with both."""
    how = case["parameters"]
    stride, dilation = tuple(how["stride"]), tuple(how.get("dilation", (1, 1)))
    H_out = case["output"]["shape"][1]
    same = H_out == -(-case["input"]["shape"][1] // how["stride"][0])
    return Options("same" if same else "valid", stride, dilation, size)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = case_named(name)
    computed = {
        **dict.fromkeys(WEIGHTED, weighted),
        "average_pool_2d": pooled,
        "max_pool_2d": pooled,
        "add": added,
        "softmax": softmax,
    }[case["op"]](case)
    assert np.array_equal(computed, array(case["output"]).reshape(computed.shape))


def weighted(case: dict[str, Any]) -> Any:
    """Accumulators, rescaled by the case's own multipliers."""
    how, kernel = case["parameters"], array(case["kernel"])
    size = (kernel.shape[1], kernel.shape[2]) if kernel.ndim == 4 else (1, 1)
    options = Options() if kernel.ndim == 2 else options_of(case, size)
    inputs = [tensor(array(case["input"]), how["input_zero_point"]), tensor(kernel), tensor(array(case["bias"]))]
    acc = accumulators(case["op"].upper(), inputs, options)
    steps = rounded_twice(acc, Multiplier(np.array(how["multiplier"]), np.array(how["shift"])))
    return np.clip(steps + how["output_zero_point"], *how["clamp"])


def pooled(case: dict[str, Any]) -> Any:
    """Average or maximum."""
    how, x = case["parameters"], tensor(array(case["input"]))
    function = average_pool if case["op"] == "average_pool_2d" else max_pool
    return np.clip(function([x], x, options_of(case, tuple(how["size"])), TFLITE), *how["clamp"])


def added(case: dict[str, Any]) -> Any:
    """The sum, by the case's multipliers, as the operator computes it."""
    how = case["parameters"]
    a, b = (
        rounded_twice(
            (array(case["input"], values).astype(np.int64) + how[f"input{i}_offset"]) << how["left_shift"],
            Multiplier(np.array(how[f"input{i}_mult"]), np.array(how[f"input{i}_shift"])),
        )
        for i, values in ((1, "values"), (2, "values_2"))
    )
    steps = rounded_twice(a + b, Multiplier(np.array(how["output_mult"]), np.array(how["output_shift"])))
    return np.clip(steps + how["output_offset"], how["out_activation_min"], how["out_activation_max"])


def softmax(case: dict[str, Any]) -> Any:
    """Exponentials and the reciprocal of their sum in fixed point."""
    how, x = case["parameters"], array(case["input"]).astype(np.int64)
    below = x - x.max(-1, keepdims=True)
    kept = below >= how["diff_min"]
    exponentials = fixed_point.exp_of_negative(high_product(below << how["input_left_shift"], how["input_mult"]), 5)
    sums = np.where(kept, rounding_shift(exponentials, 12), 0).sum(-1, keepdims=True)
    zeros = 32 - np.array([[int(value).bit_length()] for value in sums.ravel()])
    reciprocal = fixed_point.one_over_one_plus((sums << zeros) - 2**31)
    return rounding_shift(high_product(exponentials, reciprocal), 12 - zeros + 23) - 128
