"""Every operation as nested loops, straight from its formula: the oracle that shares no code with the package.

Sums run in the type of the elements: float64 (or fractions) give the expected values.
"""

import math

import numpy as np

from npmobilenet.types import Array, Padding, Pair


def same_padding(size: int, K: int, stride: int) -> Pair:
    """Minimum number of zeros that gives ceil(size / stride) positions of the window; the odd one goes to the end."""
    total = 0
    while len(range(0, size + total - K + 1, stride)) < math.ceil(size / stride):
        total += 1
    return total // 2, total - total // 2


def zeros_around(padding: Padding, H: int, W: int, K_h: int, K_w: int, stride: int) -> tuple[Pair, Pair]:
    if padding == "same":
        return same_padding(H, K_h, stride), same_padding(W, K_w, stride)
    return ((0, 0), (0, 0)) if isinstance(padding, str) else padding


def places(size: int, K: int, stride: int, zeros: Pair) -> range:
    """First pixels of the window, counted in the unpadded image."""
    return range(-zeros[0], size + zeros[1] - K + 1, stride)


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> Array:
    N, H, W, c_in = x.shape
    K_h, K_w, _, c_out = w.shape
    reach_h, reach_w = dilation * (K_h - 1) + 1, dilation * (K_w - 1) + 1
    rows, cols = zeros_around(padding, H, W, reach_h, reach_w, stride)
    tops, lefts = places(H, reach_h, stride, rows), places(W, reach_w, stride, cols)
    y = np.zeros((N, len(tops), len(lefts), c_out), x.dtype)
    for n in range(N):
        for i, top in enumerate(tops):
            for j, left in enumerate(lefts):
                for d in range(c_out):
                    for u in range(K_h):
                        for v in range(K_w):
                            row, col = top + dilation * u, left + dilation * v
                            if 0 <= row < H and 0 <= col < W:
                                for c in range(c_in):
                                    y[n, i, j, d] += x[n, row, col, c] * w[u, v, c, d]
                    if b is not None:
                        y[n, i, j, d] += b[d]
    return y


def depthwise_conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> Array:
    N, H, W, C = x.shape
    K_h, K_w, _, M = w.shape
    reach_h, reach_w = dilation * (K_h - 1) + 1, dilation * (K_w - 1) + 1
    rows, cols = zeros_around(padding, H, W, reach_h, reach_w, stride)
    tops, lefts = places(H, reach_h, stride, rows), places(W, reach_w, stride, cols)
    y = np.zeros((N, len(tops), len(lefts), C * M), x.dtype)
    for n in range(N):
        for i, top in enumerate(tops):
            for j, left in enumerate(lefts):
                for c in range(C):
                    for m in range(M):
                        for u in range(K_h):
                            for v in range(K_w):
                                row, col = top + dilation * u, left + dilation * v
                                if 0 <= row < H and 0 <= col < W:
                                    y[n, i, j, c * M + m] += x[n, row, col, c] * w[u, v, c, m]
                        if b is not None:
                            y[n, i, j, c * M + m] += b[c * M + m]
    return y


def dense(x: Array, w: Array, b: Array | None = None) -> Array:
    y = np.zeros((*x.shape[:-1], w.shape[1]), x.dtype)
    for place in np.ndindex(x.shape[:-1]):
        for d in range(w.shape[1]):
            for c in range(w.shape[0]):
                y[(*place, d)] += x[(*place, c)] * w[c, d]
            if b is not None:
                y[(*place, d)] += b[d]
    return y


def batch_norm(x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, epsilon: float) -> Array:
    y = np.zeros(x.shape, x.dtype)
    for place in np.ndindex(x.shape):
        c = place[-1]
        y[place] = (x[place] - mean[c]) / math.sqrt(var[c] + epsilon)
        if gamma is not None:
            y[place] *= gamma[c]
        if beta is not None:
            y[place] += beta[c]
    return y


def average_pool(x: Array, size: Pair, stride: int, padding: Padding) -> Array:
    N, H, W, C = x.shape
    rows, cols = zeros_around(padding, H, W, *size, stride)
    tops, lefts = places(H, size[0], stride, rows), places(W, size[1], stride, cols)
    y = np.zeros((N, len(tops), len(lefts), C), x.dtype)
    for n, i, j, c in np.ndindex(y.shape):
        seen = [
            x[n, row, col, c]
            for row in range(tops[i], tops[i] + size[0])
            for col in range(lefts[j], lefts[j] + size[1])
            if 0 <= row < H and 0 <= col < W
        ]
        y[n, i, j, c] = sum(seen[1:], seen[0]) / len(seen)
    return y


def global_average_pool(x: Array) -> Array:
    N, H, W, C = x.shape
    y = np.zeros((N, C), x.dtype)
    for n, c in np.ndindex(y.shape):
        for i in range(H):
            for j in range(W):
                y[n, c] += x[n, i, j, c]
        y[n, c] = y[n, c] / (H * W)
    return y


def global_max_pool(x: Array) -> Array:
    N, H, W, C = x.shape
    y = np.zeros((N, C), x.dtype)
    for n, c in np.ndindex(y.shape):
        y[n, c] = x[n, 0, 0, c]
        for i in range(H):
            for j in range(W):
                if x[n, i, j, c] > y[n, c]:
                    y[n, c] = x[n, i, j, c]
    return y


def softmax(x: Array) -> Array:
    y = np.zeros(x.shape, x.dtype)
    for row in np.ndindex(x.shape[:-1]):
        largest = max(x[row])
        exponentials = [math.exp(value - largest) for value in x[row]]
        for c, value in enumerate(exponentials):
            y[(*row, c)] = value / math.fsum(exponentials)
    return y


def squeeze_excite(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
    y = np.zeros(x.shape, x.dtype)
    for n, image in enumerate(x):
        mean = [image[:, :, c].sum() / image[:, :, c].size for c in range(x.shape[3])]
        squeezed = [relu(sum(s * w for s, w in zip(mean, w1[:, d], strict=True)) + b1[d]) for d in range(len(b1))]
        excited = [sum(s * w for s, w in zip(squeezed, w2[:, c], strict=True)) + b2[c] for c in range(len(b2))]
        for i, j, c in np.ndindex(image.shape):
            y[n, i, j, c] = image[i, j, c] * hard_sigmoid(excited[c])
    return y


def relu(value: float) -> float:
    return 0.0 if value < 0 else value  # NaN is not less than 0


def relu6(value: float) -> float:
    return 6.0 if value > 6 else relu(value)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > 0 else math.exp(value) / (1 + math.exp(value))


def hard_sigmoid(value: float) -> float:
    if value <= -3:
        return 0.0
    return 1.0 if value >= 3 else (value + 3) / 6


def elu(x: float) -> float:
    return x if x > 0 else math.expm1(x)


def selu(x: float) -> float:
    return 1.0507009873554804934 * (x if x > 0 else 1.6732632423543772848 * math.expm1(x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mish(x: float) -> float:
    return x * math.tanh(softplus(x))


def gelu_tanh(x: float) -> float:
    return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2


def silu(x: float) -> float:
    return x * sigmoid(x)


def gelu(x: float) -> float:
    return x * math.erfc(-x / math.sqrt(2)) / 2


def hard_swish(value: float) -> float:
    return value * hard_sigmoid(value)


def resize(x: Array, H: int, W: int, interpolation: str) -> Array:
    N, rows, cols, C = x.shape
    y = np.zeros((N, H, W, C))
    for i in range(H):
        for j in range(W):
            if interpolation == "nearest":
                y[:, i, j] = x[:, (2 * i + 1) * rows // (2 * H), (2 * j + 1) * cols // (2 * W)]
                continue
            row = min(max((i + 0.5) * rows / H - 0.5, 0), rows - 1)
            col = min(max((j + 0.5) * cols / W - 0.5, 0), cols - 1)
            for r in range(rows):
                for c in range(cols):
                    y[:, i, j] += x[:, r, c] * max(0, 1 - abs(r - row)) * max(0, 1 - abs(c - col))
    return y


def layer_norm(x: Array, gamma: Array | None, beta: Array | None, epsilon: float) -> Array:
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        values = [float(value) for value in x[place]]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        for c, value in enumerate(values):
            y[(*place, c)] = (value - mean) / math.sqrt(variance + epsilon)
            y[(*place, c)] *= 1 if gamma is None else gamma[c]
            y[(*place, c)] += 0 if beta is None else beta[c]
    return y


def transposed_conv2d(x: Array, w: Array, b: Array | None, stride: int, padding: str) -> Array:
    N, H, W, _ = x.shape
    K_h, K_w, c_out, _ = w.shape
    whole = np.zeros((N, (H - 1) * stride + max(K_h, stride), (W - 1) * stride + max(K_w, stride), c_out))
    for n, i, j, u, v, d in np.ndindex(N, H, W, K_h, K_w, c_out):
        whole[n, i * stride + u, j * stride + v, d] += sum(x[n, i, j] * w[u, v, d])
    if padding == "same":
        top, left = (max(K - stride, 0) // 2 for K in (K_h, K_w))
        whole = whole[:, top : top + H * stride, left : left + W * stride]
    return whole if b is None else whole + b
