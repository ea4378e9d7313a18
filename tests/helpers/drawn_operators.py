"""Networks of one operator, quantized at random as files of real networks are, and far beyond."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet.types import Array, Shape

SIGNED, UNSIGNED = np.dtype(np.int8), np.dtype(np.uint8)
ACTIVATIONS = ("linear", "relu", "relu6")


@dataclass(frozen=True)
class DrawnOperator:
    """An operator, and integers for its inputs."""

    network: Network
    inputs: tuple[Array, ...]


class Drawing:
    """Draws one operator: every method adds a tensor, and returns its number."""

    def __init__(self, seed: int, dtype: np.dtype[np.generic]) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.tensors: list[Tensor] = []
        self.inputs: list[int] = []
        self.values: list[Array] = []

    def scale(self, low: float = 1e-3, high: float = 0.2) -> float:
        """A scale between the limits, evenly on a logarithmic axis."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def quantization(self, scale: float | None = None) -> Quantization:
        """A scale and any zero point of the type."""
        info = np.iinfo(self.dtype)  # type: ignore[type-var]
        zero = self.rng.integers(info.min, info.max + 1, 1)
        return Quantization(np.array([self.scale() if scale is None else scale], np.float32), zero)

    def integers(self, shape: Shape, dtype: np.dtype[np.generic]) -> Array:
        """Integers of a type, the extremes among them."""
        info = np.iinfo(dtype)  # type: ignore[type-var]
        q = self.rng.integers(info.min, info.max + 1, shape).astype(dtype)
        return np.where(self.rng.random(shape) < 0.05, self.rng.choice([info.min, info.max], shape), q).astype(dtype)

    def input(self, shape: Shape, how: Quantization | None = None, dtype: np.dtype[np.generic] | None = None) -> int:
        """An input with its values."""
        dtype = self.dtype if dtype is None else dtype
        self.inputs.append(len(self.tensors))
        self.values.append(self.integers(shape, dtype))
        return self._add(shape, dtype, self.quantization() if how is None else how)

    def constant(self, data: Array, how: Quantization | None = None) -> int:
        """A constant."""
        return self._add(data.shape, data.dtype, how, data)

    def output(self, shape: Shape, how: Quantization, dtype: np.dtype[np.generic] | None = None) -> int:
        """The output."""
        return self._add(shape, self.dtype if dtype is None else dtype, how)

    def operator(self, code: str, inputs: tuple[int, ...], output: int, options: Options) -> DrawnOperator:
        """The network."""
        operator = Operator(code, inputs, (output,), options)
        network = Network(code, tuple(self.tensors), (operator,), tuple(self.inputs), (output,))
        return DrawnOperator(network, tuple(self.values))

    def activation(self) -> str:
        """None, ReLU or ReLU6."""
        return str(self.rng.choice(ACTIVATIONS))

    def weights(self, shape: Shape, channels: int, axis: int) -> tuple[int, Array]:
        """Number and scales of weights: per channel and symmetric for int8, of one scale and any zero for uint8."""
        if self.dtype == SIGNED:
            count = channels if self.rng.random() < 0.8 else 1
            scales = np.array([self.scale(1e-4, 0.05) for _ in range(count)], np.float32)
            q = np.maximum(self.integers(shape, SIGNED), -127)
            return self.constant(q, Quantization(scales, np.zeros(count, np.int64), axis)), scales
        how = Quantization(np.array([self.scale(1e-4, 0.05)], np.float32), self.rng.integers(1, 255, 1))
        return self.constant(self.integers(shape, UNSIGNED), how), how.scale

    def bias(self, scales: Array, x: int, channels: int) -> int:
        """A bias in steps of the products."""
        steps = (self.tensors[x].scale * scales).astype(np.float32)
        b = self.rng.integers(-20000, 20000, channels).astype(np.int32)
        return self.constant(b, Quantization(steps, np.zeros(len(steps), np.int64)))

    def result_scale(self, scales: Array, x: int, terms: int) -> float:
        """A scale with which sums of `terms` terms mostly fit the output's range, and sometimes do not."""
        spread = float(self.tensors[x].scale[0]) * float(np.median(scales)) * 74 * 74 * np.sqrt(terms)
        return float(spread / 64 * np.exp(self.rng.normal(0, 0.7)))

    def _add(
        self, shape: Shape, dtype: np.dtype[np.generic], how: Quantization | None, data: Array | None = None
    ) -> int:
        self.tensors.append(Tensor(f"tensor_{len(self.tensors)}", shape, dtype, how, data))
        return len(self.tensors) - 1


def window_options(d: Drawing, height: int, width: int) -> tuple[tuple[int, int], Options]:
    """A window that fits a map, and its options."""
    size = int(d.rng.integers(1, 6)), int(d.rng.integers(1, 6))
    stride = int(d.rng.integers(1, 4)), int(d.rng.integers(1, 4))
    fits = size[0] <= height and size[1] <= width
    padding = str(d.rng.choice(["same", "valid"])) if fits else "same"
    return size, Options(padding=padding, stride=stride, activation=d.activation())


def outputs(side: int, K: int, stride: int, padding: str, dilation: int = 1) -> int:
    """Length of one axis of the output."""
    return -(-side // stride) if padding == "same" else (side - (K - 1) * dilation - 1) // stride + 1


def _map(d: Drawing) -> tuple[int, int, int]:
    return int(d.rng.integers(1, 9)), int(d.rng.integers(1, 9)), int(d.rng.integers(1, 20))


def convolution(d: Drawing) -> DrawnOperator:
    """CONV_2D."""
    H, W, C = _map(d)
    (K_h, K_w), options = window_options(d, H, W)
    channels = int(d.rng.integers(1, 20))
    x = d.input((1, H, W, C))
    w, scales = d.weights((channels, K_h, K_w, C), channels, 0)
    b = d.bias(scales, x, channels)
    shape = (1, *(outputs(*axis, options.padding) for axis in zip((H, W), (K_h, K_w), options.stride, strict=True)))
    y = d.output((*shape, channels), d.quantization(d.result_scale(scales, x, K_h * K_w * C)))
    return d.operator("CONV_2D", (x, w, b), y, options)


def depthwise(d: Drawing) -> DrawnOperator:
    """DEPTHWISE_CONV_2D."""
    H, W, C = _map(d)
    (K_h, K_w), options = window_options(d, H, W)
    stride, m = options.stride[0], int(d.rng.integers(1, 4))
    x = d.input((1, H, W, C))
    w, scales = d.weights((1, K_h, K_w, C * m), C * m, 3)
    b = d.bias(scales, x, C * m)
    options = Options(options.padding, (stride, stride), activation=options.activation, multiplier=m)
    shape = (1, outputs(H, K_h, stride, options.padding), outputs(W, K_w, stride, options.padding), C * m)
    y = d.output(shape, d.quantization(d.result_scale(scales, x, K_h * K_w)))
    return d.operator("DEPTHWISE_CONV_2D", (x, w, b), y, options)


def dense(d: Drawing) -> DrawnOperator:
    """FULLY_CONNECTED."""
    N, K, channels = (int(d.rng.integers(1, limit)) for limit in (4, 200, 20))
    x = d.input((N, K))
    w, scales = d.weights((channels, K), channels, 0)
    if d.dtype == SIGNED and len(scales) > 1 and d.rng.random() < 0.5:
        scales = scales[:1]
        d.tensors[w] = replace(d.tensors[w], quantization=Quantization(scales, np.zeros(1, np.int64)))
    b = d.bias(scales, x, channels)
    y = d.output((N, channels), d.quantization(d.result_scale(scales, x, K)))
    return d.operator("FULLY_CONNECTED", (x, w, b), y, Options(activation=d.activation()))


def average_pool(d: Drawing) -> DrawnOperator:
    """AVERAGE_POOL_2D."""
    return _pooled(d, "AVERAGE_POOL_2D")


def max_pool(d: Drawing) -> DrawnOperator:
    """MAX_POOL_2D."""
    return _pooled(d, "MAX_POOL_2D")


def _pooled(d: Drawing, code: str) -> DrawnOperator:
    H, W, C = _map(d)
    size, options = window_options(d, H, W)
    x = d.input((1, H, W, C))
    options = Options(options.padding, options.stride, filter=size, activation=options.activation)
    shape = (1, *(outputs(*axis, options.padding) for axis in zip((H, W), size, options.stride, strict=True)), C)
    y = d.output(shape, d.tensors[x].quantization or d.quantization())
    return d.operator(code, (x,), y, options)


def mean(d: Drawing) -> DrawnOperator:
    """MEAN over rows and columns."""
    H, W, C = _map(d)
    x = d.input((1, H, W, C))
    axes = d.constant(np.array([1, 2], np.int32))
    keep = bool(d.rng.random() < 0.5)
    y = d.output((1, 1, 1, C) if keep else (1, C), d.quantization(float(d.tensors[x].scale[0]) * d.scale(0.05, 2)))
    return d.operator("MEAN", (x, axes), y, Options(keep_dims=keep))


def _two(d: Drawing, code: str) -> DrawnOperator:
    H, W, C = _map(d)
    x1, x2 = d.input((1, H, W, C)), d.input((1, 1, 1, C) if d.rng.random() < 0.3 else (1, H, W, C))
    s1, s2 = (float(d.tensors[x].scale[0]) for x in (x1, x2))
    scale = max(s1, s2) * d.scale(0.5, 3) if code != "MUL" else s1 * s2 * 128 * d.scale(0.3, 3)
    y = d.output((1, H, W, C), d.quantization(scale))
    return d.operator(code, (x1, x2), y, Options(activation=d.activation()))


def add(d: Drawing) -> DrawnOperator:
    """ADD."""
    return _two(d, "ADD")


def subtract(d: Drawing) -> DrawnOperator:
    """SUB."""
    return _two(d, "SUB")


def multiply(d: Drawing) -> DrawnOperator:
    """MUL."""
    return _two(d, "MUL")


def concatenate(d: Drawing) -> DrawnOperator:
    """CONCATENATION; of one quantization for int8, as the format requires."""
    H, W, C = _map(d)
    shared = d.quantization()
    how = [shared if d.dtype == SIGNED else d.quantization() for _ in range(3)]
    inputs = tuple(d.input((1, H, W, C + number), how[number]) for number in range(3))
    y = d.output((1, H, W, 3 * C + 3), shared)
    return d.operator("CONCATENATION", inputs, y, Options(axis=3))


def _curve(d: Drawing, code: str, scale: float | None, zero: int | None = None, low: float = 0.005) -> DrawnOperator:
    shape = (1, *_map(d))
    x = d.input(shape, d.quantization(d.scale(low, 0.2)))
    how = d.quantization(scale)
    if zero is not None:
        how = Quantization(how.scale, np.array([zero]))
    return d.operator(code, (x,), d.output(shape, how), Options())


def hard_swish(d: Drawing) -> DrawnOperator:
    """HARD_SWISH."""
    shape = (1, *_map(d))
    x = d.input(shape, d.quantization(d.scale(0.005, 0.2)))
    y = d.output(shape, d.quantization(float(d.tensors[x].scale[0]) * d.scale(0.3, 1.0)))
    return d.operator("HARD_SWISH", (x,), y, Options())


def logistic(d: Drawing) -> DrawnOperator:
    """LOGISTIC."""
    return _curve(d, "LOGISTIC", 1 / 256, int(np.iinfo(d.dtype).min))  # type: ignore[type-var]


def softmax(d: Drawing) -> DrawnOperator:
    """SOFTMAX over up to 300 classes: the reference kernel ends the process at sums of 512."""
    shape = (int(d.rng.integers(1, 4)), int(d.rng.integers(1, 300)))
    x = d.input(shape, d.quantization(d.scale(0.005, 0.4)))
    how = Quantization(np.array([1 / 256], np.float32), np.array([np.iinfo(d.dtype).min]))  # type: ignore[type-var]
    return d.operator("SOFTMAX", (x,), d.output(shape, how), Options(beta=1.0))


def quantize(d: Drawing) -> DrawnOperator:
    """QUANTIZE from 8 bits to 8 bits, of the same type or the other one."""
    shape, other = (1, *_map(d)), UNSIGNED if d.dtype == SIGNED else SIGNED
    x = d.input(shape)
    to_other = bool(d.rng.random() < 0.5)
    dtype = other if to_other else d.dtype
    flips = to_other and d.rng.random() < 0.5
    zero = d.tensors[x].zero_point + (128 if other == UNSIGNED else -128)
    info = np.iinfo(dtype)  # type: ignore[type-var]
    if flips:
        how = Quantization(d.tensors[x].scale, np.array([zero]))
    else:
        scale = np.array([float(d.tensors[x].scale[0]) * d.scale(0.3, 3)], np.float32)
        how = Quantization(scale, d.rng.integers(info.min, info.max + 1, 1))
    return d.operator("QUANTIZE", (x,), d.output(shape, how, dtype), Options())


def dequantize(d: Drawing) -> DrawnOperator:
    """DEQUANTIZE."""
    shape = (1, *_map(d))
    x = d.input(shape)
    d.tensors.append(Tensor("real", shape, np.dtype(np.float32)))
    return d.operator("DEQUANTIZE", (x,), len(d.tensors) - 1, Options())


def relu(d: Drawing) -> DrawnOperator:
    """RELU of its own."""
    return _rectified(d, "RELU")


def relu6(d: Drawing) -> DrawnOperator:
    """RELU6 of its own."""
    return _rectified(d, "RELU6")


def _rectified(d: Drawing, code: str) -> DrawnOperator:
    shape = (1, *_map(d))
    x = d.input(shape)
    y = d.output(shape, d.quantization(float(d.tensors[x].scale[0]) * d.scale(0.3, 3)))
    return d.operator(code, (x,), y, Options())


def pad(d: Drawing) -> DrawnOperator:
    """PAD, with one quantization, as the format requires."""
    H, W, C = _map(d)
    x = d.input((1, H, W, C))
    rows, columns = (tuple(map(int, d.rng.integers(0, 3, 2))) for _ in range(2))
    amounts = d.constant(np.array([(0, 0), rows, columns, (0, 0)], np.int32))
    y = d.output((1, H + sum(rows), W + sum(columns), C), d.tensors[x].quantization or d.quantization())
    return d.operator("PAD", (x, amounts), y, Options())


OPERATORS: Mapping[str, Callable[[Drawing], DrawnOperator]] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": dense,
    "AVERAGE_POOL_2D": average_pool,
    "MAX_POOL_2D": max_pool,
    "MEAN": mean,
    "ADD": add,
    "SUB": subtract,
    "MUL": multiply,
    "CONCATENATION": concatenate,
    "HARD_SWISH": hard_swish,
    "LOGISTIC": logistic,
    "SOFTMAX": softmax,
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
    "RELU": relu,
    "RELU6": relu6,
    "PAD": pad,
}


def drawn_operator(code: str, seed: int, dtype: np.dtype[np.generic]) -> DrawnOperator:
    """An operator drawn from a seed, on int8 or uint8."""
    return OPERATORS[code](Drawing(seed, dtype))
