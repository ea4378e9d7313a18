"""The matrix product of bytes: a register tile of MR pixels by 16 or 32 output channels, requantized as it is stored.

    C[i, :] = q8(bias[:] + sum_k A[i, k] B[k, :])          0 <= i < MR

Four values of k at a time: a `dot` takes four bytes of a pixel, in all lanes, and four weights of each channel. The
kernel is the whole step, from units of work to bytes in memory; a unit is one panel of output channels for one part of
the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from npmobilenet_kernels.drivers.byte_table import ByteField
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
    """

    MR: int
    vectors: int
    pitch: int = LANES
    groups: int = LANES // GROUP

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

        def one_segment(_: Value, carried: Values) -> Values:
            A, B, following, *acc = carried
            for line in range(FETCHED):
                e.prefetch(following, line * LINE)
            acc = self._dots(e, A, B, self.groups, acc)
            B = e.add(B, self.groups * self.vectors * VECTOR)
            return [e.add(A, segment), B, e.add(following, FETCHED * LINE), *acc]

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


@dataclass(frozen=True)
class BytePointwise:
    """Emitter of a pointwise convolution by tiles of MR pixels and panels of `vectors`.

    The last panel may have one vector less.
    """

    MR: int
    vectors: int

    def __call__(
        self, e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
    ) -> None:
        """Emit the kernel: units first ... last - 1 of the step whose row of the table is at `step`."""

        def column(field: ByteField) -> Value:
            return e.read(step, field)

        M, parts, blocks = column(ByteField.PIXELS), column(ByteField.PARTS), column(ByteField.BLOCKS)
        panels = e.divide(e.add(blocks, self.vectors - 1), self.vectors)
        tiles = e.divide(e.add(M, self.MR - 1), self.MR)
        panel_bytes, parts_first = column(ByteField.PANEL_BYTES), column(ByteField.PARTS_FIRST)

        def one_unit(number: Value, _: Values) -> Values:
            unit = e.add(first, number)
            inner = e.where(e.compare("!=", parts_first, 0), parts, panels)
            low, high = e.remainder(unit, inner), e.divide(unit, inner)
            part = e.where(e.compare("!=", parts_first, 0), low, high)
            panel = e.where(e.compare("!=", parts_first, 0), high, low)
            begin = e.divide(e.multiply(part, tiles), parts)
            end = e.divide(e.multiply(e.add(part, 1), tiles), parts)
            block = e.multiply(panel, self.vectors)
            narrow = e.compare(">", e.add(block, self.vectors), blocks)

            def tiles_of(vectors: int) -> Values:
                self._tiles(e, step, arena, vectors, begin, end, block, e.multiply(panel, panel_bytes))
                return []

            if self.vectors == 1:
                return tiles_of(1)
            return e.choose(narrow, lambda: tiles_of(1), lambda: tiles_of(self.vectors))

        e.loop(e.add(last, e.negate(first)), [], one_unit)

    def _tiles(
        self, e: ByteEmitter, step: Value, arena: Value, vectors: int, begin: Value, end: Value, block: Value,
        offset: Value,
    ) -> None:  # fmt: skip
        """Tiles begin ... end - 1 of one panel, which begins at output block `block` and `offset` bytes of weights."""
        A, segment = e.add(arena, e.read(step, ByteField.SOURCE)), e.read(step, ByteField.SOURCE_BLOCK)
        C, C_block = e.add(arena, e.read(step, ByteField.TARGET)), e.read(step, ByteField.TARGET_BLOCK)
        B = e.add(e.read(step, ByteField.WEIGHTS), offset)
        following = e.add(B, e.read(step, ByteField.PANEL_BYTES))
        record = e.add(e.read(step, ByteField.RECORDS), e.multiply(block, RECORD))
        sums, M = e.read(step, ByteField.SUMS), e.read(step, ByteField.PIXELS)
        first_sum = e.where(e.compare(">=", sums, 0), e.add(arena, sums), e.integer(0))
        segments, tail = e.read(step, ByteField.SEGMENTS), e.read(step, ByteField.TAIL)
        limits, table = e.read(step, ByteField.LIMITS), e.read(step, ByteField.TABLE)
        C = e.add(C, e.multiply(block, C_block))
        fetched = e.multiply(segments, FETCHED * LINE)

        def one_tile(number: Value, _: Values) -> Values:
            tile = e.add(begin, number)
            m = e.multiply(tile, self.MR)
            latest = e.add(M, -self.MR)
            m = e.where(e.compare("<", m, latest), m, latest)  # the last tile overlaps the one before
            own = e.where(e.compare("!=", first_sum, 0), e.add(first_sum, e.multiply(m, 4)), e.integer(0))
            ByteTile(self.MR, vectors)(
                e, e.add(A, e.multiply(m, LANES)), segment, segments, tail, B, record, own,
                e.add(C, e.multiply(m, LANES)), C_block, limits, table, e.add(following, e.multiply(number, fetched)),
            )  # fmt: skip
            return []

        e.loop(e.add(end, e.negate(begin)), [], one_tile)
