"""Rung 2, the micro-kernel of the matrix product: a register tile of MR pixels by NR output channels.

    C[i, :] = act(bias[:] + sum_k A[i, k] B[k, :]) + residual[i, :]          0 <= i < MR

The MR x NR sums are values that the loop over k carries, so they stay in registers for the whole sum: per k, NR / L
vectors of B and MR values of A are loaded for MR NR / L vector multiply-adds. `blocked.pointwise` has the same nest on
arrays.

Feature maps are [C / L][M][L]: the stride from pixel to pixel is the constant 4 L bytes, so one address register and
constant displacements reach every row of the tile. The K values of a pixel are in segments of memory: for a pointwise
convolution its blocks of channels, for the direct convolution of an interleaved image the rows under the filter.

Source: Van Zee & van de Geijn 2015, BLIS: A Framework for Rapidly Instantiating BLAS Functionality.
"""

from __future__ import annotations

from dataclasses import dataclass

from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES, Emitter, Value, Values
from npmobilenet_kernels.microkernels.fused_activation import activate
from npmobilenet_kernels.runtime.job import LINE


@dataclass(frozen=True)
class GemmTile:
    """Emitter of the micro-kernel for one tile size.

    Attributes:
        MR: pixels.
        vectors: vectors of output channels, NR / L.
        pitch: bytes from A[i, k] to A[i + 1, k]; None for 4 L.
        unroll: values of k per round; without a pitch, every round prefetches a cache line of the next panel.
        by_lane: load the values of a pixel as vectors, and use their lanes.
        half: compute only the lower half of each pixel's last vector; the upper half is as of zero weights.
    """

    MR: int
    vectors: int
    pitch: int | None = None
    unroll: int = 4
    by_lane: bool = False
    half: bool = False

    def __call__(
        self, e: Emitter, A: Value, segment: Value, segments: Value, length: Value, tail: Value,
        B: Value, bias: Value, C: Value, C_block: Value, residual: Value, activation: Value, following: Value,
        apart: Value,
    ) -> None:  # fmt: skip
        """Emit the micro-kernel.

        Args:
            A: address of A[0, 0]; segment: bytes from segment to segment.
            segments: number of whole segments; length: values in each, a multiple of `unroll`; tail: values of one
                more, shorter one. K = segments * length + tail.
            B: weights (K, NR); bias: (NR,).
            C: output [NR / L][M][L], C_block bytes from block to block. `residual` has the same layout; 0 for none.
            activation: an `Activation`.
            following: address of what the next tiles read from memory, to be prefetched.
            apart: 0. Half vectors load their pixels at this distance, which LLVM must not know to be 0: two loads take
                less time than what it does to make two widths of one.
        """
        parts = self._parts(e)
        start = [part.load(bias, j * e.bytes) for j, part in enumerate(parts)]

        def one_segment(_: Value, carried: Values) -> Values:
            _, *others = self._rounds(e, e.divide(length, self.unroll), self.unroll, apart, carried)
            return [e.add(carried[0], segment), *others]

        carried = e.loop(segments, [A, B, following, *(start[j] for _, j in self._tile())], one_segment)
        _, _, _, *sums = self._rounds(e, tail, 1, apart, carried)
        result = activate(e, activation, [e.zero_extend(v) for v in sums])
        blocks = self._blocks(e, C, C_block)

        def with_residual() -> Values:
            others = self._blocks(e, residual, C_block)
            return [e.plus(v, e.load(others[j], i * e.bytes)) for (i, j), v in zip(self._tile(), result, strict=True)]

        total = e.choose(e.compare("!=", residual, 0), with_residual, lambda: result)
        for (i, j), v in zip(self._tile(), total, strict=True):
            e.store(v, blocks[j], i * e.bytes)

    def _tile(self) -> list[tuple[int, int]]:
        """(pixel, vector) of every sum."""
        return [(i, j) for i in range(self.MR) for j in range(self.vectors)]

    def _parts(self, e: Emitter) -> list[Emitter]:
        """The emitter of each vector of a pixel: the last one may be half as wide."""
        return [e] * (self.vectors - self.half) + [e.with_width(e.width // 2)] * self.half

    def _blocks(self, e: Emitter, first: Value, block: Value) -> Values:
        """Address of each block of L output channels."""
        return [first] if self.vectors == 1 else [first, e.add(first, block)]

    def _rounds(self, e: Emitter, count: Value, depth: int, apart: Value, start: Values) -> Values:
        """`count` rounds of `depth` values of k; carried are A, B, the address to prefetch, and the sums."""
        prefetched = LINE if depth == self.unroll and self.pitch is None else 0  # of a pitch, the weights stay in cache

        def one_round(_: Value, carried: Values) -> Values:
            A, B, following, *sums = carried
            if prefetched:
                e.prefetch(following)
            sums = self._multiply_add(e, A, B, depth, apart, sums)
            A, B = e.add(A, depth * FLOAT_BYTES), e.add(B, depth * self.vectors * e.bytes)
            return [A, B, e.add(following, prefetched), *sums]

        return e.loop(count, start, one_round)

    def _multiply_add(self, e: Emitter, A: Value, B: Value, depth: int, apart: Value, carried: Values) -> Values:
        """sums (MR, NR) += A (MR, depth) @ B (depth, NR), an outer product per k."""
        step, parts = e.bytes if self.pitch is None else self.pitch, self._parts(e)
        sums = dict(zip(self._tile(), carried, strict=True))
        pixels = [e.load(A, i * step) for i in range(self.MR)] if self.by_lane and depth == e.width else []
        for k in range(depth):
            w = [part.load(B, (k * self.vectors + j) * e.bytes) for j, part in enumerate(parts)]
            for i in range(self.MR):  # a pixel is loaded where it is used: LLVM keeps this order, and few registers
                x = e.lane(pixels[i], k) if pixels else e.splat(A, i * step + k * FLOAT_BYTES)
                for j, part in enumerate(parts):
                    x_j = x if part is e else part.splat(e.add(A, apart), i * step + k * FLOAT_BYTES)
                    sums[i, j] = part.fma(x_j, w[j], sums[i, j])
        return list(sums.values())
