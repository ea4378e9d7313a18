"""Rung 1, the blocked loop nest: the pointwise convolution of `loops` in the order of the fast kernels, on arrays.

    C[m, n] = bias[n] + sum_k A[m, k] B[k, n]

B is packed once into panels of NR output channels, [ceil(N / NR)][K][NR], each of which is read from its beginning to
its end. C is computed in tiles of MR x NR sums: per k, MR values of A and NR of B are loaded for MR NR multiply-adds.
The loops are labeled as in BLIS, from the micro-kernel outward; its loops 3 to 5, which block M, K and N for the
caches, are left out. A is not packed: feature maps already have the layout that the tile reads, see `runtime.packing`.

The loops alone gain nothing, since a compiler keeps `tile` in memory: the micro-kernel of rung 2 is this innermost nest
with the tile in registers. The driver of rung 3 has the two loops around it.

Sources: Goto & van de Geijn 2008, Anatomy of High-Performance Matrix Multiplication (packing and panels); Van Zee &
van de Geijn 2015, BLIS: A Framework for Rapidly Instantiating BLAS Functionality (the loops and the micro-kernel).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit
def pack(B, NR):  # type: ignore[no-untyped-def]
    """Panels [ceil(N / NR)][K][NR] of B (K, N), or of a bias (1, N); the last one is padded with zeros."""
    K, N = B.shape
    panels = np.zeros((-(-N // NR), K, NR), B.dtype)
    for n in range(N):
        panels[n // NR, :, n % NR] = B[:, n]
    return panels


@njit
def pointwise(A, B, bias, C, MR, NR):  # type: ignore[no-untyped-def]
    """C (M, N) = A (M, K) @ B (K, N) + bias (N,), in tiles of MR pixels, 1 <= MR <= M, by NR output channels."""
    (M, K), N = A.shape, B.shape[1]
    panels, biases = pack(B, NR), pack(bias.reshape(1, N), NR)
    tile = np.empty((MR, NR), A.dtype)
    for n in range(0, N, NR):  # loop 2 around the micro-kernel: panels of NR output channels
        panel, width = panels[n // NR], min(NR, N - n)
        for start in range(0, M, MR):  # loop 1: tiles of MR pixels; the last one overlaps the one before
            m = min(start, M - MR)
            tile[:] = biases[n // NR]
            for k in range(K):  # the micro-kernel: tile += outer product of a column of A and a row of B
                for i in range(MR):
                    for j in range(NR):
                        tile[i, j] += A[m + i, k] * panel[k, j]
            C[m : m + MR, n : n + width] = tile[:, :width]
