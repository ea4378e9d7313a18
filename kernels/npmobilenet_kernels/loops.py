"""The loops that explain the kernels: channels last, one image, nothing but the formula and the order of its loops.

    pointwise     out[i, j] = sum_k a[i, k] b[k, j]          a: (M, K) pixels x c_in    b: (K, N) c_in x c_out
    depthwise     out[i, j, c] = sum_{u, v} x[i s + u, j s + v, c] w[u, v, c]
    convolution   out[i, j, d] = sum_{u, v, c} x[i s + u, j s + v, c] w[u, v, c, d]

All add into `out`, which the caller fills with the bias. A pointwise convolution mixes the channels of one pixel and
sees no neighbour, so over all pixels it is one matrix product. Its loops run i, k, j: the innermost one goes along a
row of b and a row of out, both contiguous, so it becomes vector instructions. In the textbook's order i, j, k the
innermost loop strides down a column of b.

A depthwise convolution has the channels innermost for the same reason. It multiplies each value that it loads nine
times at most (for K = 3), where the matrix product multiplies it by N weights: that is why it is slow for its size.

A convolution is the pointwise one again for every tap (u, v) of its filter, on an image that is shifted by the tap.
Put the K * K shifted pixels behind each other, and it is a single pointwise convolution with K * K times the channels.

    softmax       out[c] = exp(x[c] - m) / sum_d exp(x[d] - m),   m = max x

The softmax goes over its values three times: for the maximum, for the exponentials and their sum, for the division.
Without m, exp would overflow at x = 89; with it the largest exponential is 1 and the sum lies between 1 and C.

The vector kernels of `tiles.py` and `curves.py` compute the same; what the first add is a register tile, so that out
is not loaded and stored for every k. These loops are the oracle in their tests.
"""

from __future__ import annotations

from math import exp

from numba import njit


@njit
def gemm_accumulate(a, b, out):  # type: ignore[no-untyped-def]
    """Add a @ b into out, in place: (M, K), (K, N), (M, N), C-contiguous; shapes are the caller's to check."""
    for i in range(out.shape[0]):
        for k in range(a.shape[1]):
            for j in range(out.shape[1]):
                out[i, j] += a[i, k] * b[k, j]


@njit
def depthwise_accumulate(x, w, stride, out):  # type: ignore[no-untyped-def]
    """Add the depthwise convolution of x (H, W, C), padded, by w (K, K, C) into out (H_out, W_out, C)."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for u in range(w.shape[0]):
                for v in range(w.shape[1]):
                    for c in range(out.shape[2]):
                        out[i, j, c] += x[i * stride + u, j * stride + v, c] * w[u, v, c]


@njit
def conv_accumulate(x, w, stride, out):  # type: ignore[no-untyped-def]
    """Add the convolution of x (H, W, c_in), padded, by w (K_h, K_w, c_in, c_out) into out (H_out, W_out, c_out)."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for u in range(w.shape[0]):
                for v in range(w.shape[1]):
                    for c in range(w.shape[2]):
                        for d in range(w.shape[3]):
                            out[i, j, d] += x[i * stride + u, j * stride + v, c] * w[u, v, c, d]


@njit
def softmax(x, out):  # type: ignore[no-untyped-def]
    """Softmax of x (C,) into out (C,)."""
    largest = x[0]
    for c in range(len(x)):
        largest = max(largest, x[c])
    total = 0.0
    for c in range(len(x)):
        out[c] = exp(x[c] - largest)
        total += out[c]
    for c in range(len(x)):
        out[c] /= total
