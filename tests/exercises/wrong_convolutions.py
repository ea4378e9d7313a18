"""Wrong answers to the convolution exercises, each with the key of the mistake in it, as students write them."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Answer = tuple[str, str, Any]  # exercise, key of the mistake, function


def same(n: int, K: int, stride: int) -> tuple[int, int]:
    total = max((-(-n // stride) - 1) * stride + K - n, 0)
    return total // 2, total - total // 2


def windows(x: Any, K: int, stride: int, move: int = 0, mode: Any = "constant", pads: Any = None) -> Any:
    """(H_out, W_out, K, K, C), with SAME padding that may be moved or replaced."""
    if pads is None:
        pads = [(before - move, after + move) for before, after in (same(n, K, stride) for n in x.shape[:2])]
        if min(map(min, pads)) < 0:  # pad first, cut then
            wide = np.pad(x, [(K, K), (K, K), (0, 0)], mode)
            cuts = [slice(K - before, K + n + after) for (before, after), n in zip(pads, x.shape, strict=False)]
            return tiles(wide[cuts[0], cuts[1]], K, stride)
    return tiles(np.pad(x, [*pads, (0, 0)], mode), K, stride)


def tiles(x: Any, K: int, stride: int) -> Any:
    return np.moveaxis(sliding_window_view(x, (K, K), (0, 1))[::stride, ::stride], 2, 4)


def half(K: int) -> list[tuple[int, int]]:
    return [(K // 2, K // 2)] * 2


def conv(x: Any, w: Any, b: Any, stride: Any, **how: Any) -> Any:
    return np.einsum("ijuvc,uvcd->ijd", windows(x, w.shape[0], stride, **how), w) + b


def depthwise(x: Any, w: Any, stride: Any, **how: Any) -> Any:
    return np.einsum("ijuvc,uvc->ijc", windows(x, w.shape[0], stride, **how), w)


def conv_with_wrapping(x: Any, w: Any, b: Any, stride: Any) -> Any:
    H, W, _ = x.shape
    K = len(w)
    (top, _), (left, _) = same(H, K, stride), same(W, K, stride)
    y = np.zeros((-(-H // stride), -(-W // stride), len(b))) + b
    for i, j, d in np.ndindex(*y.shape):
        for u in range(K):
            for v in range(K):
                if i * stride + u - top < H and j * stride + v - left < W:
                    y[i, j, d] += x[i * stride + u - top, j * stride + v - left] @ w[u, v, :, d]
    return y


def conv_last_channel(x: Any, w: Any, b: Any, stride: Any) -> Any:
    tile = windows(x, len(w), stride)
    for c in range(x.shape[2]):
        y = np.einsum("ijuv,uvd->ijd", tile[..., c], w[:, :, c]) + b  # = for +=
    return y


def conv_bias_in_loop(x: Any, w: Any, b: Any, stride: Any) -> Any:
    tile, y = windows(x, len(w), stride), 0
    for u in range(len(w)):
        for v in range(len(w)):
            for c in range(x.shape[2]):
                y = y + tile[:, :, u, v, c, None] * w[u, v, c] + b
    return y


def conv_range_short(x: Any, w: Any, b: Any, stride: Any) -> Any:
    tile, y = windows(x, len(w), stride), 0 * b
    for u in range(len(w) - 1):
        for v in range(len(w) - 1):
            y = y + tile[:, :, u, v] @ w[u, v]
    return y + b if len(w) > 1 else np.zeros((*tile.shape[:2], len(b))) + b


CONVOLUTIONS: list[Answer] = [
    ("convolution", "flipped", lambda x, w, b, stride: conv(x, w[::-1, ::-1], b, stride)),
    ("convolution", "transposed", lambda x, w, b, stride: conv(x, w.transpose(1, 0, 2, 3), b, stride)),
    ("convolution", "channels-swapped", lambda x, w, b, stride: np.einsum(
        "ijuvc,uvdc->ijd", windows(x, len(w), stride), w) + b),
    ("convolution", "symmetric-padding", lambda x, w, b, stride: conv(x, w, b, stride, pads=half(len(w)))),
    ("convolution", "no-padding", lambda x, w, b, stride: conv(x, w, b, stride, pads=[(0, 0), (0, 0)])),
    ("convolution", "stride-phase",
     lambda x, w, b, stride: conv(x, w, b, 1)[stride - 1 :: stride, stride - 1 :: stride]),
    ("convolution", "symmetric-padding", lambda x, w, b, stride: conv(x, w, b, 1)[::stride, ::stride]),
    ("convolution", "stride-forgotten", lambda x, w, b, stride: conv(x, w, b, 1)),
    ("convolution", "bias-twice", lambda x, w, b, stride: conv(x, w, b, stride) + b),
    ("convolution", "bias-never", lambda x, w, b, stride: conv(x, w, 0 * b, stride)),
    ("convolution", "bias-every-product", conv_bias_in_loop),
    ("convolution", "negative-index", conv_with_wrapping),
    ("convolution", "edge-repeated", lambda x, w, b, stride: conv(x, w, b, stride, mode="edge")),
    ("convolution", "range-short", conv_range_short),
    ("convolution", "last-channel-only", conv_last_channel),
    ("convolution", "first-channel-only", lambda x, w, b, stride: conv(x[..., :1], w[:, :, :1], b, stride)),
    ("convolution", "one-output", lambda x, w, b, stride: conv(x, w[..., [0] * len(b)], b, stride)),
    ("convolution", "window-late", lambda x, w, b, stride: conv(x, w, b, stride, move=1)),
]  # fmt: skip


def depthwise_set_not_added(x: Any, w: Any, stride: Any) -> Any:
    tile = windows(x, len(w), stride)
    for u in range(len(w)):
        for v in range(len(w)):
            y = tile[:, :, u, v] * w[u, v]  # = for +=
    return y


def depthwise_wrapping_lists(x: Any, w: Any, stride: Any) -> Any:
    H, W, K = len(x), len(x[0]), len(w)
    top, left = same(H, K, stride)[0], same(W, K, stride)[0]
    return [[[sum(x[i * stride + u - top][j * stride + v - left][c] * w[u][v][c]
                  for u in range(K) for v in range(K)
                  if i * stride + u - top < H and j * stride + v - left < W)
              for c in range(len(w[0][0]))]
             for j in range(-(-W // stride))] for i in range(-(-H // stride))]  # fmt: skip


def depthwise_filter_of_first(x: Any, w: Any, stride: Any) -> Any:
    tile = windows(x, len(w), stride)
    return np.einsum("ijuvc,uv->ijc", tile, w[:, :, 0])


def depthwise_range_short(x: Any, w: Any, stride: Any) -> Any:
    tile = windows(x, len(w), stride)
    return (tile[:, :, :-1, :-1] * w[:-1, :-1]).sum((2, 3))


DEPTHWISE: list[Answer] = [
    ("depthwise_conv", "flipped", lambda x, w, stride: depthwise(x, np.rot90(w, 2), stride)),
    ("depthwise_conv", "transposed", lambda x, w, stride: np.einsum("ijvuc,uvc->ijc", windows(x, len(w), stride), w)),
    ("depthwise_conv", "symmetric-padding", lambda x, w, stride: depthwise(x, w, stride, pads=half(len(w)))),
    ("depthwise_conv", "no-padding", lambda x, w, stride: depthwise(x, w, stride, pads=[(0, 0), (0, 0)])),
    ("depthwise_conv", "window-late", lambda x, w, stride: depthwise(x, w, stride, move=1)),
    ("depthwise_conv", "window-early", lambda x, w, stride: depthwise(x, w, stride, move=-1)),
    ("depthwise_conv", "one-filter", depthwise_filter_of_first),
    ("depthwise_conv", "channels-added", lambda x, w, stride: depthwise(x, w, stride).sum(-1, keepdims=True)),
    ("depthwise_conv", "channels-added", lambda x, w, stride: np.einsum("ijuvc,uvc->ij", windows(x, len(w), stride), w)[
        ..., None] * np.ones(w.shape[2])),
    ("depthwise_conv", "mean", lambda x, w, stride: (windows(x, len(w), stride) * w).mean((2, 3))),
    ("depthwise_conv", "last-product-only", depthwise_set_not_added),
    ("depthwise_conv", "range-short", depthwise_range_short),
    ("depthwise_conv", "negative-index", depthwise_wrapping_lists),
    ("depthwise_conv", "edge-repeated", lambda x, w, stride: depthwise(x, w, stride, mode="edge")),
    ("depthwise_conv", "stride-forgotten", lambda x, w, stride: depthwise(x, w, 1)),
    ("depthwise_conv", "stride-phase",
     lambda x, w, stride: depthwise(x, w, 1)[stride - 1 :: stride, stride - 1 :: stride]),
    ("depthwise_conv", "channels-reversed", lambda x, w, stride: depthwise(x, w[..., ::-1], stride)),
]  # fmt: skip


def pointwise_reshaped(x: Any, w: Any) -> Any:
    H, W, C = x.shape
    return (np.ascontiguousarray(x).reshape(C, H * W).T @ w).reshape(H, W, -1)


def pointwise_selected(x: Any, w: Any) -> Any:
    """One map selected from each channel, as an often copied explanation has it."""
    C = len(w)
    return np.stack([x[..., d % C] * w[d % C, d] for d in range(w.shape[1])], -1)


def pointwise_set(x: Any, w: Any) -> Any:
    y = np.zeros((*x.shape[:2], w.shape[1]))
    for c in range(len(w)):
        y[...] = x[..., c, None] * w[c]
    return y


POINTWISE: list[Answer] = [
    ("pointwise_conv", "transposed", lambda x, w: x @ w.T),
    ("pointwise_conv", "one-map", pointwise_selected),
    ("pointwise_conv", "pixels-mixed", pointwise_reshaped),
    ("pointwise_conv", "rows-for-columns", lambda x, w: x.swapaxes(0, 1) @ w),
    ("pointwise_conv", "first-channel-only", lambda x, w: x[..., :1] * w[0]),
    ("pointwise_conv", "last-channel-only", pointwise_set),
    ("pointwise_conv", "mean", lambda x, w: (x[..., None] * w).mean(2)),
    ("pointwise_conv", "weights-added", lambda x, w: x @ w.sum(1, keepdims=True) * np.ones(w.shape[1])),
]  # fmt: skip


def macs(H: int, W: int, C: int, table: Any, *, out: Any = None, factor: Any = None, dw: Any = None) -> list[int]:
    counts = []
    for kind, c_out, K, stride in table:
        before = (H, W)
        H, W = (
            (out or (lambda n, K, stride: -(-n // stride)))(H, K, stride),
            (out or (lambda n, K, stride: -(-n // stride)))(W, K, stride),
        )
        products = {
            "convolution": K * K * C * c_out,
            "depthwise": (dw or (lambda K, C: K * K * C))(K, C),
            "pointwise": C * c_out,
        }[kind]
        counts.append(
            (factor or (lambda pixels, products, c_out, before: pixels * products))(H * W, products, c_out, before)
        )
        C = c_out
    return counts  # fmt: skip


def macs_of_image_channels(H: int, W: int, C: int, table: Any) -> list[int]:
    counts = []
    for kind, c_out, K, stride in table:
        H, W = -(-H // stride), -(-W // stride)
        counts.append(H * W * {"convolution": K * K * C * c_out, "depthwise": K * K * C, "pointwise": C * c_out}[kind])
    return counts


def macs_inside(H: int, W: int, C: int, table: Any) -> list[int]:
    """By counting products, those with padding not."""
    counts = []
    for kind, c_out, K, stride in table:
        ones = windows(np.ones((H, W, 1)), K, stride).sum()
        counts.append(int(ones) * {"convolution": C * c_out, "depthwise": C, "pointwise": C * c_out}[kind])
        H, W, C = -(-H // stride), -(-W // stride), c_out
    return counts


MACS: list[Answer] = [
    ("count_macs", "no-padding", lambda *a: macs(*a, out=lambda n, K, stride: (n - K) // stride + 1)),
    ("count_macs", "no-padding", macs_inside),
    ("count_macs", "stride-forgotten", lambda *a: macs(*a, out=lambda n, K, stride: n)),
    ("count_macs", "input-pixels", lambda *a: macs(*a, factor=lambda p, n, c, before: before[0] * before[1] * n)),
    ("count_macs", "flops", lambda *a: macs(*a, factor=lambda p, n, c, before: 2 * p * n)),
    ("count_macs", "batch-norm", lambda *a: macs(*a, factor=lambda p, n, c, before: p * n + p * c)),
    ("count_macs", "weights", lambda *a: macs(*a, factor=lambda p, n, c, before: n)),
    ("count_macs", "depthwise-mixed", lambda *a: macs(*a, dw=lambda K, C: K * K * C * C)),
    ("count_macs", "stride-floor", lambda *a: macs(*a, out=lambda n, K, stride: n // stride)),
    ("count_macs", "channels-not-followed", macs_of_image_channels),
]


def by_svd(k: Any, pick: int = 0, left: Any = None, right: Any = None) -> Any:
    K, _, C, N = k.shape
    f, m = np.zeros((K, K, C)), np.zeros((C, N))
    for c in range(C):
        u, s, vt = np.linalg.svd(k[:, :, c].reshape(K * K, N), full_matrices=False)
        p = min(pick, len(s) - 1)
        f[:, :, c] = (u[:, p] * (s[p] if left else 1)).reshape(K, K)
        m[c] = vt[p] * (1 if right is False else s[p])
    return f, m


def one_filter(k: Any) -> Any:
    K, _, C, N = k.shape
    u, s, vt = np.linalg.svd(k.reshape(K * K, C * N), full_matrices=False)
    return np.repeat(u[:, 0].reshape(K, K, 1), C, 2), (s[0] * vt[0]).reshape(C, N)


def first_filter(k: Any) -> Any:
    f, _ = by_svd(k)
    f = np.repeat(f[:, :, :1], f.shape[2], 2)
    return f, np.einsum("uvc,uvcd->cd", f, k)


def spatial(k: Any) -> Any:
    f, m = by_svd(k)
    for c in range(f.shape[2]):
        u, s, vt = np.linalg.svd(f[:, :, c])
        f[:, :, c] = s[0] * np.outer(u[:, 0], vt[0])
    return f, m


SEPARABLE: list[Answer] = [
    ("best_separable", "one-filter", one_filter),
    ("best_separable", "one-filter", first_filter),
    ("best_separable", "size-forgotten", lambda k: by_svd(k, right=False)),
    ("best_separable", "size-twice", lambda k: by_svd(k, left=True)),
    ("best_separable", "second", lambda k: by_svd(k, pick=1)),
    ("best_separable", "spatial", spatial),
    ("best_separable", "means", lambda k: (k.mean(3), k.sum((0, 1)))),
]

ANSWERS = CONVOLUTIONS + DEPTHWISE + POINTWISE + MACS + SEPARABLE
