"""Quantized networks of several operators, drawn at random, with scales that use the range of the type."""

from dataclasses import replace

import numpy as np

from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet.quantized.weighted_sums import accumulators
from npmobilenet.types import Array

SIDE, CHANNELS = 18, 3
STEPS = 40  # of the output in one standard deviation of the sums


class _Drawing:
    """A network that grows: every method adds an operator to the last tensor."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = np.dtype(np.uint8 if seed % 2 else np.int8)
        self.tensors: list[Tensor] = []
        self.values: dict[int, Tensor] = {}
        self.operators: list[Operator] = []
        low = np.iinfo(self.dtype).min
        x = self.rng.integers(low, low + 256, (1, SIDE, SIDE, CHANNELS)).astype(self.dtype)
        self.last = self.add(Tensor("image", x.shape, self.dtype, self.how(1 / 128, low + 128)), x)

    def add(self, tensor: Tensor, values: Array) -> int:
        """A tensor and its values; its number."""
        self.tensors.append(tensor)
        self.values[len(self.tensors) - 1] = replace(tensor, data=values)
        return len(self.tensors) - 1

    def how(self, scale: float | Array, zero: int, axis: int = 0) -> Quantization:
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        return Quantization(scales, np.full(scales.shape, zero, np.int64), axis)

    def constant(self, name: str, data: Array, how: Quantization) -> int:
        """A constant; its number."""
        return self.add(Tensor(name, data.shape, data.dtype, how, data), data)

    def sum(self, code: str, filters: int, K: int, options: Options) -> None:
        """A convolution, depthwise convolution or dense layer."""
        x = self.values[self.last]
        C = x.integers.shape[-1]
        shape = {
            "CONV_2D": (filters, K, K, C),
            "DEPTHWISE_CONV_2D": (1, K, K, C * options.multiplier),
            "FULLY_CONNECTED": (filters, C),
        }[code]
        axis = 3 if code == "DEPTHWISE_CONV_2D" else 0
        one = self.dtype == np.uint8
        scales = np.exp(self.rng.uniform(-6, -4, 1 if one else shape[axis]))
        zero = int(self.rng.integers(90, 160)) if one else 0
        w = np.clip(np.rint(self.rng.normal(zero, 35, shape)), 1 if one else -127, 255 if one else 127).astype(
            self.dtype
        )
        name = f"layer {len(self.operators)}"
        weights = self.constant(f"{name}/weights", w, self.how(scales, zero, axis))
        b_scale = x.scale * self.values[weights].scale
        b = np.rint(self.rng.normal(0, 2000, shape[axis])).astype(np.int32)
        bias = self.constant(f"{name}/bias", b, self.how(b_scale, 0))
        inputs = [x, self.values[weights], self.values[bias]]
        spread = (accumulators(code, inputs, options) * b_scale).std()
        self.operator(code, (self.last, weights, bias), options, float(spread) / STEPS)

    def operator(self, code: str, inputs: tuple[int, ...], options: Options, scale: float) -> None:
        """An operator whose output has a scale, and a zero point that suits its activation."""
        low = int(np.iinfo(self.dtype).min)
        zero = low + int(self.rng.integers(3, 20) if options.activation != "linear" else self.rng.integers(90, 166))
        if code == "AVERAGE_POOL_2D":
            zero = self.values[inputs[0]].zero_point
        y = Tensor(f"layer {len(self.operators)}", (), self.dtype, self.how(scale, zero))
        operator = Operator(code, inputs, (len(self.tensors),), options)
        values = compute(operator, [self.values[i] for i in inputs], y)
        self.last = self.add(replace(y, shape=values.shape), values)
        self.operators.append(operator)


def drawn_network(seed: int) -> Network:
    """Convolution, depthwise convolutions, a sum with a skip, a product, hard swish, pool and dense layer."""
    d = _Drawing(seed)
    d.sum("CONV_2D", 8, 3, Options(padding="same", stride=(2, 2), activation="relu6"))
    d.sum("DEPTHWISE_CONV_2D", 8, 3, Options(padding="same", activation="relu"))
    d.sum("CONV_2D", 12, 1, Options())
    skip = d.last
    d.operator("HARD_SWISH", (skip,), Options(), float(d.values[skip].scale[0]) * 0.9)
    d.sum("DEPTHWISE_CONV_2D", 12, 5, Options(padding="same", dilation=(2, 2)))
    d.operator("ADD", (skip, d.last), Options(), float(d.values[skip].scale[0]) * 1.7)
    d.sum("DEPTHWISE_CONV_2D", 24, 3, Options(padding="same", stride=(2, 2), multiplier=2, activation="relu6"))
    d.operator("AVERAGE_POOL_2D", (d.last,), Options(filter=(2, 2), stride=(2, 2)), float(d.values[d.last].scale[0]))
    d.sum("CONV_2D", 16, 1, Options())
    return Network(f"drawn {seed}", tuple(d.tensors), tuple(d.operators), (0,), (d.last,))
