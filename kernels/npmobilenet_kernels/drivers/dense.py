"""The dense step: one row of a matrix product.

    y (N,) = act(x (K,) @ B (K, N) + bias (N,))         B: [N / L][K][L]

A unit of work is a group of panels, each a stream of weights of its own; the last group overlaps the one before.
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.step_table import Field, Product
from npmobilenet_kernels.runtime.intrinsics import call, read


@compiled
def dense(step, arena, first, last):  # type: ignore[no-untyped-def]
    """Units first ... last - 1; `step`: address of the table's row, `arena`: of the activations."""
    vector, blocks = read(step, Field.VECTOR), read(step, Field.MATRIX + Product.BLOCKS)
    K, streams = read(step, Field.MATRIX + Product.LENGTH), read(step, Field.GEMV_PANELS)
    B, bias = read(step, Field.MATRIX + Product.WEIGHTS), read(step, Field.MATRIX + Product.BIAS)
    activation, tile = read(step, Field.MATRIX + Product.ACTIVATION), read(step, Field.GEMV_TILE)
    x, y = arena + read(step, Field.SOURCE), arena + read(step, Field.TARGET)
    panel = K * vector

    for unit in range(first, last):
        n = min(unit * streams, blocks - streams)
        call(tile, (x, K, B + n * panel, panel, bias + n * vector, y + n * vector, activation))
