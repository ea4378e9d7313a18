"""Rung 0, plain loops: channels last, one image, nothing but the formula and the order of its loops.

    pointwise     C[m, n] = sum_k A[m, k] B[k, n]                   A: (M, K) pixels x c_in    B: (K, N) c_in x c_out
    depthwise     y[i, j, c] = sum_{u, v} x[i s + u, j s + v, c] w[u, v, c]
    convolution   y[i, j, d] = sum_{u, v, c} x[i s + u, j s + v, c] w[u, v, c, d]

All add to their output, which the caller fills with the bias. A pointwise convolution mixes the channels of one pixel
and sees no neighbor, so over all M = H W pixels it is one matrix product. Its loops run m, k, n: the innermost one goes
along a row of B and a row of C, both contiguous, so it becomes vector instructions. In the textbook's order m, n, k the
innermost loop strides down a column of B.

A depthwise convolution has the channels innermost for the same reason. It multiplies each value that it loads nine
times at most (for a 3 x 3 filter), where the matrix product multiplies it by N weights: that is why it is slow for its
size.

A convolution is the pointwise one repeated for every tap (u, v) of its filter, on an image that is shifted by the tap.
Concatenate the K_h K_w shifted images along the channels (im2col), and it is a single pointwise convolution of
K_h K_w c_in channels.

    softmax       y[c] = exp(x[c] - m) / sum_d exp(x[d] - m),   m = max x

The softmax goes over its values three times: for the maximum, for the exponentials and their sum, for the division.
Without m, exp would overflow at x = 89; with it the largest exponential is 1 and the sum is between 1 and C.

All the other rungs compute the same, and these loops are the oracle of their tests. What they do not have: a tile of
sums that stays in registers, so that the output is not loaded and stored for every k.
"""

from __future__ import annotations

from math import exp

from numba import njit


@njit
def pointwise(A, B, C):  # type: ignore[no-untyped-def]
    """C (M, N) += A (M, K) @ B (K, N), in place; C-contiguous arrays, whose shapes the caller checks."""
    for m in range(C.shape[0]):
        for k in range(A.shape[1]):
            for n in range(C.shape[1]):
                C[m, n] += A[m, k] * B[k, n]


@njit
def depthwise(x, w, stride, y):  # type: ignore[no-untyped-def]
    """y (H, W, C) += depthwise convolution of x (H_in, W_in, C), padded, with w (K_h, K_w, C), in place."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            for u in range(w.shape[0]):
                for v in range(w.shape[1]):
                    for c in range(y.shape[2]):
                        y[i, j, c] += x[i * stride + u, j * stride + v, c] * w[u, v, c]


@njit
def convolution(x, w, stride, y):  # type: ignore[no-untyped-def]
    """y (H, W, c_out) += convolution of x (H_in, W_in, c_in), padded, with w (K_h, K_w, c_in, c_out), in place."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            for u in range(w.shape[0]):
                for v in range(w.shape[1]):
                    for c in range(w.shape[2]):
                        for d in range(w.shape[3]):
                            y[i, j, d] += x[i * stride + u, j * stride + v, c] * w[u, v, c, d]


@njit
def softmax(x, y):  # type: ignore[no-untyped-def]
    """y (C,) = softmax of x (C,)."""
    largest = x[0]
    for c in range(len(x)):
        largest = max(largest, x[c])
    total = 0.0
    for c in range(len(x)):
        y[c] = exp(x[c] - largest)
        total += y[c]
    for c in range(len(x)):
        y[c] /= total
