"""Right answers in styles that students have: loops, lists, arrays, einsum, stride tricks, SciPy, both precisions."""

import math
from typing import Any

import numpy as np
import scipy.linalg
import scipy.ndimage
import scipy.signal
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from npmobilenet.exercises import plainly
from tests.exercises.wrong_convolutions import half, same, windows

Answer = tuple[str, str, Any]  # exercise, style, function


def padded(x: Any, K: int, stride: int) -> Any:
    return np.pad(x, [*(same(n, K, stride) for n in x.shape[:2]), (0, 0)])


# standard convolution


def conv_loops(x: Any, w: Any, b: Any, stride: Any) -> Any:
    H, W, c_in = x.shape
    K, c_out = w.shape[0], w.shape[3]
    (top, _), (left, _) = same(H, K, stride), same(W, K, stride)
    y = np.zeros((math.ceil(H / stride), math.ceil(W / stride), c_out))
    for i, j, d in np.ndindex(*y.shape):
        y[i, j, d] = b[d]
        for u, v, c in np.ndindex(K, K, c_in):
            r, s = i * stride + u - top, j * stride + v - left
            if 0 <= r < H and 0 <= s < W:
                y[i, j, d] += x[r, s, c] * w[u, v, c, d]
    return y


def conv_im2col(x: Any, w: Any, b: Any, stride: Any) -> Any:
    K, _, c_in, c_out = w.shape
    tile = windows(x, K, stride)
    return (tile.reshape(-1, K * K * c_in) @ w.reshape(-1, c_out) + b).reshape(*tile.shape[:2], c_out)


def conv_taps(x: Any, w: Any, b: Any, stride: Any) -> Any:
    K = len(w)
    xp = padded(x, K, stride)
    H_out, W_out = (-(-n // stride) for n in x.shape[:2])
    y = np.zeros((H_out, W_out, len(b)), x.dtype) + b
    for u in range(K):
        for v in range(K):
            y += xp[u : u + stride * H_out : stride, v : v + stride * W_out : stride] @ w[u, v]
    return y


def conv_as_strided(x: Any, w: Any, b: Any, stride: Any) -> Any:
    K = len(w)
    xp = np.ascontiguousarray(padded(x, K, stride))
    H_out, W_out = (-(-n // stride) for n in x.shape[:2])
    r, s, c = xp.strides
    tile = as_strided(xp, (H_out, W_out, K, K, x.shape[2]), (r * stride, s * stride, r, s, c))
    return np.tensordot(tile, w, 3) + b


def conv_scipy(x: Any, w: Any, b: Any, stride: Any) -> Any:
    """Full correlation, of which SAME takes a part."""
    K = len(w)
    (top, _), (left, _) = (same(n, K, stride) for n in x.shape[:2])
    maps = [
        sum(scipy.signal.correlate2d(x[..., c], w[:, :, c, d], "full") for c in range(x.shape[2])) + b[d]
        for d in range(len(b))
    ]
    return np.stack(maps, -1)[K - 1 - top :: stride, K - 1 - left :: stride][
        : -(-x.shape[0] // stride), : -(-x.shape[1] // stride)
    ]


def conv_fourier(x: Any, w: Any, b: Any, stride: Any) -> Any:
    """By Fourier transforms in float64."""
    K = len(w)
    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    xp = padded(x64, K, stride)
    y = [
        sum(scipy.signal.fftconvolve(xp[..., c], w64[::-1, ::-1, c, d], "valid") for c in range(x.shape[2])) + b[d]
        for d in range(len(b))
    ]
    return np.stack(y, -1)[::stride, ::stride]


CONVOLUTIONS: list[Answer] = [
    ("convolution", "seven loops", conv_loops),
    ("convolution", "lists only", lambda x, w, b, stride: plainly.convolution(
        [[list(pixel) for pixel in row] for row in x], w, b, stride)),
    ("convolution", "im2col and a matrix product", conv_im2col),
    ("convolution", "shifted copies, dtype of x", conv_taps),
    ("convolution", "as_strided and tensordot", conv_as_strided),
    ("convolution", "correlate2d of SciPy", conv_scipy),
    ("convolution", "Fourier transform", conv_fourier),
    ("convolution", "einsum in float32", lambda x, w, b, stride: np.einsum(
        "ijuvc,uvcd->ijd", windows(x.astype("f4"), len(w), stride), w.astype("f4")) + b.astype("f4")),
]  # fmt: skip


# depthwise convolution


def depthwise_rows_of_zeros(x: Any, w: Any, stride: Any) -> Any:
    """Lists that are put together with +, which arrays do not do."""
    K, C = len(w), len(w[0][0])
    (top, bottom), (left, right) = same(len(x), K, stride), same(len(x[0]), K, stride)
    zero = [[0] * C]
    rows = [zero * left + row + zero * right for row in x]
    blank = [zero * len(rows[0])]
    rows = blank * top + rows + blank * bottom
    return [[[sum(rows[i + u][j + v][c] * w[u][v][c] for u in range(K) for v in range(K)) for c in range(C)]
             for j in range(0, len(rows[0]) - K + 1, stride)] for i in range(0, len(rows) - K + 1, stride)]  # fmt: skip


def depthwise_ndimage(x: Any, w: Any, stride: Any) -> Any:
    K = len(w)
    (top, _), (left, _) = (same(n, K, stride) for n in x.shape[:2])
    y = [scipy.ndimage.correlate(x[..., c].astype(np.float64), w[..., c].astype(np.float64), mode="constant")
         for c in range(x.shape[2])]  # fmt: skip
    return np.stack(y, -1)[K // 2 - top :: stride, K // 2 - left :: stride]


def depthwise_diagonal(x: Any, w: Any, stride: Any) -> Any:
    """A standard convolution with diagonal matrices."""
    return conv_im2col(x, w[..., None] * np.eye(w.shape[2]), np.zeros(w.shape[2]), stride)


def depthwise_taps(x: Any, w: Any, stride: Any) -> Any:
    xp = padded(x, len(w), stride)
    H_out, W_out = (-(-n // stride) for n in x.shape[:2])
    return sum(
        xp[u : u + stride * H_out : stride, v : v + stride * W_out : stride] * w[u, v]
        for u in range(len(w)) for v in range(len(w))
    )  # fmt: skip


def depthwise_float16_free(x: Any, w: Any, stride: Any) -> Any:
    return depthwise_taps(x.astype(np.longdouble), w.astype(np.longdouble), stride).astype(np.float64)


def depthwise_by_channel(x: Any, w: Any, stride: Any) -> Any:
    K = len(w)
    out = []
    for c in range(x.shape[-1]):
        view = sliding_window_view(padded(x, K, stride)[..., c], (K, K))[::stride, ::stride]
        out.append(np.tensordot(view, w[..., c], 2))
    return np.dstack(out)


DEPTHWISE: list[Answer] = [
    ("depthwise_conv", "loops on lists", plainly.depthwise_conv),
    ("depthwise_conv", "lists put together with +", depthwise_rows_of_zeros),
    ("depthwise_conv", "einsum", lambda x, w, stride: np.einsum("ijuvc,uvc->ijc", windows(x, len(w), stride), w)),
    ("depthwise_conv", "ndimage of SciPy", depthwise_ndimage),
    ("depthwise_conv", "diagonal standard convolution", depthwise_diagonal),
    ("depthwise_conv", "shifted copies", depthwise_taps),
    ("depthwise_conv", "long double", depthwise_float16_free),
    ("depthwise_conv", "channel by channel", depthwise_by_channel),
    ("depthwise_conv", "nested tuples", lambda x, w, stride: tuple(
        tuple(map(tuple, row)) for row in depthwise_taps(x, w, stride).tolist())),
]  # fmt: skip


def pointwise_reshape(x: Any, w: Any) -> Any:
    return (x.reshape(-1, x.shape[2]) @ w).reshape(*x.shape[:2], w.shape[1])


POINTWISE: list[Answer] = [
    ("pointwise_conv", "loops on lists", plainly.pointwise_conv),
    ("pointwise_conv", "matrix product", lambda x, w: x @ w),
    ("pointwise_conv", "einsum", lambda x, w: np.einsum("ijc,cd->ijd", x, w)),
    ("pointwise_conv", "reshape to a matrix", pointwise_reshape),
    ("pointwise_conv", "tensordot in float32", lambda x, w: np.tensordot(x.astype("f4"), w.astype("f4"), 1)),
    ("pointwise_conv", "comprehension", lambda x, w: [
        [[sum(a * r[d] for a, r in zip(p, w, strict=True)) for d in range(len(w[0]))] for p in row] for row in x]),
]  # fmt: skip


def macs_with_floats(H: int, W: int, C: int, table: Any) -> Any:
    out = []
    for kind, c_out, K, stride in table:
        H, W = math.ceil(H / stride), math.ceil(W / stride)
        per_pixel = {"convolution": K**2 * C * c_out, "depthwise": K**2 * C}.get(kind, C * c_out)
        out.append(float(H * W * per_pixel))
        C = c_out
    return np.array(out)


# best separable


def separable(rank_one: Any) -> Any:
    def answer(k: Any) -> Any:
        K, _, C, N = k.shape
        f, m = np.empty((K, K, C)), np.empty((C, N))
        for c in range(C):
            column, row = rank_one(np.asarray(k[:, :, c]).reshape(K * K, N))
            f[:, :, c], m[c] = column.reshape(K, K), row
        return f, m

    return answer


def by_svd(A: Any) -> Any:
    u, s, vt = np.linalg.svd(A, full_matrices=False)
    return u[:, 0] * np.sqrt(s[0]), vt[0] * np.sqrt(s[0])


def by_eigenvectors(A: Any) -> Any:
    row = np.linalg.eigh(A.astype(np.float64).T @ A)[1][:, -1]
    return A @ row, row


def by_turns(A: Any) -> Any:
    """Alternating least squares."""
    row = A[np.abs(A).sum(1).argmax()].astype(np.float64)
    for _ in range(100):
        column = A @ row / (row @ row)
        row = A.T @ column / (column @ column)
    return column, row


def batched(k: Any) -> Any:
    K, _, C, N = k.shape
    u, s, vt = scipy_batched(k.transpose(2, 0, 1, 3).reshape(C, K * K, N))
    return u[:, :, 0].T.reshape(K, K, C), s[:, :1] * vt[:, 0]


def scipy_batched(A: Any) -> Any:
    parts = [scipy.linalg.svd(a, full_matrices=False) for a in A]
    return tuple(np.stack([part[n] for part in parts]) for n in range(3))


SEPARABLE: list[Answer] = [
    ("best_separable", "power iteration on lists", plainly.best_separable),
    ("best_separable", "svd, its value shared", separable(by_svd)),
    ("best_separable", "svd in float32", separable(lambda A: by_svd(A.astype("f4")))),
    ("best_separable", "eigenvectors", separable(by_eigenvectors)),
    ("best_separable", "alternating least squares", separable(by_turns)),
    ("best_separable", "svd of SciPy, other sign", lambda k: tuple(-part for part in batched(k))),
]


# the other exercises


def bn_lists(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: Any) -> Any:
    return [[[gamma[c] * (p[c] - mean[c]) / math.sqrt(var[c] + epsilon) + beta[c] for c in range(len(p))]
             for p in row] for row in x]  # fmt: skip


def bn_scale_and_offset(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: Any) -> Any:
    scale = gamma / np.sqrt(var + np.float32(epsilon))
    return (x * scale + (beta - mean * scale)).astype(np.float32)


def fold_loops(w: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: Any) -> Any:
    w, b = np.array(w, dtype=float), np.array(b, dtype=float)
    for d in range(w.shape[3]):
        scale = gamma[d] * (var[d] + epsilon) ** -0.5
        w[..., d] *= scale
        b[d] = b[d] * scale + (beta[d] - mean[d] * scale)
    return w, b


def fold_arrays(w: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: Any) -> Any:
    scale = gamma / np.sqrt(var + epsilon)
    return [w * scale, (b - mean) * scale + beta]


def block(x: Any, w1: Any, n1: Any, w2: Any, n2: Any, w3: Any, n3: Any, stride: Any, *, norms: Any = (1, 1, 1),
          act: Any = lambda y: np.clip(y, 0, 6), second: Any = None, third: Any = lambda y: y, pads: Any = None,
          shortcut: Any = None, keep: bool = False) -> Any:  # fmt: skip
    """V2's block; the options are for wrong answers."""

    def norm(y: Any, n: Any, on: Any) -> Any:
        return n[0] * (y - n[2]) / np.sqrt(n[3] + 1e-3) + n[1] if on else y

    y = wide = act(norm(x @ w1, n1, norms[0]))
    K = len(w2)
    y = np.einsum("ijuvc,uvc->ijc", windows(y, K, stride, pads=pads and pads(K)), w2)
    y = (second or act)(norm(y, n2, norms[1]))
    y = third(norm((y + wide if keep and y.shape == wide.shape else y) @ w3, n3, norms[2]))
    if shortcut:
        return y + shortcut(x, y, stride)
    return x + y if stride == 1 and x.shape == y.shape else y


def channels_of(channels: Any, alpha: Any, network: Any, *, grow: bool = True, head: Any = lambda alpha: alpha < 1,
                nearest: Any = lambda c: int(c + 4) // 8 * 8) -> Any:  # fmt: skip
    """Channels; the options are for wrong answers."""
    out = []
    for k, c in enumerate(channels):
        if network == "v1":
            out.append(int(c * alpha))
        elif network == "v2" and head(alpha) and k == len(channels) - 1:
            out.append(int(c))
        else:
            new = max(8, int(nearest(c * alpha)))
            out.append(new + 8 if grow and new < 0.9 * c * alpha else new)
    return out


def quantize_loops(x: Any) -> Any:
    N, C = len(x), len(x[0])
    q, back = [[0] * C for _ in range(N)], [[0.0] * C for _ in range(N)]
    scale, zero = [], []
    for c in range(C):
        column = [float(row[c]) for row in x]
        low, high = min(0.0, *column), max(0.0, *column)
        scale.append((high - low) / 255)
        zero.append(round(-128 - low / scale[c]))
        for n in range(N):
            q[n][c] = max(-128, min(127, round(column[n] / scale[c]) + zero[c]))
            back[n][c] = (q[n][c] - zero[c]) * scale[c]
    return q, scale, zero, back


def quantize_arrays(x: Any) -> Any:
    low, high = np.minimum(x.min(0), 0), np.maximum(x.max(0), 0)
    scale = (high - low) / 255
    zero = np.rint(-128 - low / scale).astype(np.int32)
    q = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
    return q, scale, zero, (q.astype(np.int32) - zero) * scale


# find the mistake

CAUSES = {
    "depthwise": ("symmetric padding", "flipped kernel", "transposed kernel", "one filter for all channels"),
    "batch_norm": ("epsilon 1e-5", "mean forgotten"),
    "relu6": ("ReLU for ReLU6",),
    "pointwise": ("transposed weights",),
}


def run_layer(layer: Any, x: Any, cause: str) -> Any:
    _, kind, params = layer
    if kind == "relu6":
        return np.maximum(x, 0) if cause else np.clip(x, 0, 6)
    if kind == "pointwise":
        return x @ (params[0].T if cause else params[0])
    if kind == "batch_norm":
        gamma, beta, mean, var, epsilon = params
        mean = 0 if cause == "mean forgotten" else mean
        return gamma * (x - mean) / np.sqrt(var + (1e-5 if cause == "epsilon 1e-5" else epsilon)) + beta
    w, stride = params
    w = {"flipped kernel": w[::-1, ::-1], "transposed kernel": w.transpose(1, 0, 2)}.get(cause, w)
    w = w[..., :1] * np.ones(w.shape[2]) if cause == "one filter for all channels" else w
    pads = half(len(w)) if cause == "symmetric padding" else None
    return np.einsum("ijuvc,uvc->ijc", windows(x, len(w), stride, pads=pads), w)


def differs(a: Any, b: Any, tolerance: float) -> bool:
    return bool(np.abs(a - b).max() > tolerance * np.abs(b).max())


def diagnose(x: Any, layers: Any, values: Any) -> Any:
    before = x
    for layer, value in zip(layers, values, strict=True):
        if differs(run_layer(layer, before, ""), value, 1e-3):
            return layer[0], next(c for c in CAUSES[layer[1]] if not differs(run_layer(layer, before, c), value, 1e-3))
        before = value
    return None


def in_float64(*args: Any) -> Any:
    x, w1, n1, w2, n2, w3, n3 = (np.asarray(value, np.float64) for value in args[:7])
    return block(x, w1, n1, w2, n2, w3, n3, args[7])


OTHERS: list[Answer] = [
    ("count_macs", "loops", plainly.count_macs),
    ("count_macs", "an array of floats", macs_with_floats),
    ("same_padding", "whole numbers", same),
    ("same_padding", "an array", lambda size, K, stride: np.array(same(size, K, stride))),
    ("batch_norm", "loops on lists", bn_lists),
    ("batch_norm", "scale and offset in float32", bn_scale_and_offset),
    ("batch_norm", "arrays", lambda x, g, b, m, v, e: g * (x - m) / np.sqrt(v + e) + b),
    ("fold_batch_norm", "loops", fold_loops),
    ("fold_batch_norm", "arrays", fold_arrays),
    ("relu6", "arrays", lambda x: (np.clip(x, 0, 6), np.logical_and(x > 0, x < 6))),
    ("relu6", "lists", lambda x: ([min(max(v, 0), 6) for v in x], [int(0 < v < 6) for v in x])),
    ("inverted_residual", "arrays and einsum", block),
    ("inverted_residual", "float64", in_float64),
    ("width", "rules", channels_of),
    ("width", "an array", lambda *a: np.array(channels_of(*a))),
    ("squeeze_excite", "arrays", lambda x, w1, b1, w2, b2: x * np.clip(
        np.maximum(x.mean((0, 1)) @ w1 + b1, 0) @ w2 + b2 + 3, 0, 6) / 6),
    ("squeeze_excite", "gate first", lambda x, w1, b1, w2, b2: x * (np.clip(
        np.maximum(x.reshape(-1, len(w1)).sum(0) / x[..., 0].size @ w1 + b1, 0) @ w2 + b2 + 3, 0, 6) / 6)),
    ("hard_swish", "arrays", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ("hard_swish", "lists", lambda x: [v * min(max(v / 6 + 0.5, 0), 1) for v in x]),
    ("quantize", "loops", quantize_loops),
    ("quantize", "arrays and int8", quantize_arrays),
    ("find_the_mistake", "each layer on its own inputs", diagnose),
]  # fmt: skip

ANSWERS = CONVOLUTIONS + DEPTHWISE + POINTWISE + SEPARABLE + OTHERS
