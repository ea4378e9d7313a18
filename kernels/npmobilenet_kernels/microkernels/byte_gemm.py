"""The matrix product of bytes: a register tile of MR pixels by 16 or 32 output channels, requantized as it is stored.

    C[i, :] = q8(bias[:] + sum_k A[i, k] B[k, :])          0 <= i < MR

Four values of k at a time: a `dot` takes four bytes of a pixel, in all lanes, and four weights of each channel. The
kernel is the whole step, from units of work to bytes in memory; a unit is one panel of output channels for one part of
the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from npmobilenet_kernels.microkernels.byte_emitter import GROUP, INTS, LANES, VECTOR, ByteEmitter
from npmobilenet_kernels.microkernels.byte_requantize import rescaled, store_channels
from npmobilenet_kernels.microkernels.emitter import Value, Values
from npmobilenet_kernels.runtime.byte_packing import LINE, RECORD, Part

FETCHED = 2  # cache lines of the next panel that a tile prefetches per segment


@dataclass(frozen=True)
class ByteTile:
    """Emitter of one register tile.

    Attributes:
        MR: pixels. vectors: of 16 output channels.
        pitch: bytes from pixel to pixel.
        groups: groups of four values in a whole segment.
        indirect: whether segments are anywhere: `segment` is then the address of a table of their distances from A.
    """

    MR: int
    vectors: int
    pitch: int = LANES
    groups: int = LANES // GROUP
    indirect: bool = False

    def __call__(
        self, e: ByteEmitter, A: Value, segment: Value, segments: Value, tail: Value, B: Value, record: Value,
        sums: Value, C: Value, C_block: Value, limits: Value, table: Value, following: Value,
    ) -> None:  # fmt: skip
        """Emit the tile.

        Args:
            A: address of A[0, 0]; segment: bytes from segment to segment, of which there are `segments`; tail: groups
                of one more, shorter one.
            B: weights of the panel; record: its first record; sums: what to add for each pixel, int32, or 0.
            C: output, C_block bytes from block to block.
            limits, table: of the output. following: address of what the next tiles read, to be prefetched.
        """
        places = [(i, j) for i in range(self.MR) for j in range(self.vectors)]
        bias = [e.load_as(INTS, record, j * RECORD + Part.BIAS) for j in range(self.vectors)]

        def with_sums() -> Values:
            return [e.builder.add(bias[j], e.splat_int(sums, 4 * i)) for i, j in places]

        first = e.choose(e.compare("!=", sums, 0), with_sums, lambda: [bias[j] for _, j in places])

        def one_segment(number: Value, carried: Values) -> Values:
            A, B, following, *acc = carried
            for line in range(FETCHED):
                e.prefetch(following, line * LINE)
            here = e.add(A, e.read(e.add(segment, e.multiply(number, 8)), 0)) if self.indirect else A
            acc = self._dots(e, here, B, self.groups, acc)
            B = e.add(B, self.groups * self.vectors * VECTOR)
            return [A if self.indirect else e.add(A, segment), B, e.add(following, FETCHED * LINE), *acc]

        def one_group(_: Value, carried: Values) -> Values:
            A, B, *acc = carried
            acc = self._dots(e, A, B, 1, acc)
            return [e.add(A, GROUP), e.add(B, self.vectors * VECTOR), *acc]

        A, B, _, *acc = e.loop(segments, [A, B, following, *(e.start(x) for x in first)], one_segment)
        _, _, *acc = e.loop(tail, [A, B, *acc], one_group)
        totals = {place: e.total(x) for place, x in zip(places, acc, strict=True)}
        for j in range(self.vectors):
            steps = rescaled(e, [totals[i, j] for i in range(self.MR)], e.add(record, j * RECORD))
            store_channels(e, steps, limits, table, e.add(C, e.multiply(C_block, j)) if j else C)

    def _dots(self, e: ByteEmitter, A: Value, B: Value, groups: int, acc: Values) -> Values:
        """acc (MR, vectors) += A (MR, 4 groups) @ B (4 groups, 16 vectors)."""
        sums = {(i, j): acc[i * self.vectors + j] for i in range(self.MR) for j in range(self.vectors)}
        for group in range(groups):
            w = [e.load_bytes(B, (group * self.vectors + j) * VECTOR) for j in range(self.vectors)]
            for i in range(self.MR):
                x = e.splat_group(A, i * self.pitch + group * GROUP)
                for j in range(self.vectors):
                    sums[i, j] = e.dot(sums[i, j], x, w[j])
        return list(sums.values())
