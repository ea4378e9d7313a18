"""The depthwise convolutions of bytes, requantized as they are stored.

    y[r, j, :] = q8(bias[:] + sum_{u, v} x[r S - top + u D, j S' - left + v D', :] w[u, v, :])

S and D are the step from output to output and from tap to tap by rows, S' and D' by columns. `ByteDepthwise` reads four
neighboring pixels of 16 channels, 64 bytes, and one permutation brings the four pixels of a channel together; a `dot`
is then one row of the filter (see `runtime.byte_filters`). `depthwise_any` takes any filter, one output and one tap at
a time. A unit of work is a part of the rows of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.microkernels.byte_emitter import (
    GROUP,
    I16,
    INTS,
    LANES,
    VECTOR,
    ByteEmitter,
    vector_of,
)
from npmobilenet_kernels.microkernels.byte_requantize import Steps, rescaled, steps_with_constants, store_channels
from npmobilenet_kernels.microkernels.byte_units import block_of_source, block_of_target, block_parts, pixel_address
from npmobilenet_kernels.microkernels.emitter import ADDRESS_BYTES, I8, I32, Value, Values
from npmobilenet_kernels.runtime.byte_filters import Use, shifts_of, uses_of_windows, windows_of
from npmobilenet_kernels.runtime.byte_packing import LINE, RECORD, Part, Requantization

TAP_BYTES = 2  # of a weight of `depthwise_any`
KEPT = 12  # vectors of weights that a block's rows keep in registers


@dataclass(frozen=True)
class ByteDepthwise:
    """Emitter of a depthwise convolution by a filter without gaps between its columns.

    Attributes:
        K_h, K_w: rows and columns of the filter.
        stride: rows, and columns, from output to output.
        outputs: neighboring outputs of a tile, at most 4 and no more than the output's columns.
        terms: bytes whose sum is a weight, at most.
    """

    K_h: int
    K_w: int
    stride: int
    outputs: int = 4
    terms: int = 1

    def __call__(
        self, e: ByteEmitter, step: Value, arena: Value, _scratch: Value, _image: Value, first: Value, last: Value
    ) -> None:
        """Emit the kernel: units first ... last - 1 of the step whose row of the table is at `step`."""

        at_once, W = 2 if _has_32(e) else 1, e.read(step, ByteField.WIDTH)

        def part(block: Value, begin: Value, end: Value) -> None:
            x, y = block_of_source(e, step, arena, block), block_of_target(e, step, arena, block)
            w = e.add(e.read(step, ByteField.WEIGHTS), e.multiply(e.read(step, ByteField.PANEL_BYTES), block))
            record = e.add(e.read(step, ByteField.RECORDS), e.multiply(block, RECORD))

            def rows(begin_steps: Callable[[], Steps], terms: int) -> Values:
                constants = self._constants(e, step, w, record, begin_steps(), terms)

                def some_rows(number: Value, _: Values) -> Values:
                    row = e.add(begin, e.multiply(number, at_once))
                    inputs = [
                        input_row(e, step, x, row, e.integer(u)) for u in range(self.K_h + (at_once - 1) * self.stride)
                    ]
                    outputs = [pixel_address(e, y, e.multiply(row, W))]
                    if at_once == 2:  # of an odd number of rows, the last is computed for two, and written last
                        following = e.add(outputs[0], e.multiply(W, LANES))
                        outputs.append(e.where(e.compare("<", e.add(row, 1), end), following, outputs[0]))
                    self._rows(e, step, inputs, constants, outputs)
                    return []

                e.loop(e.divide(e.add(e.subtract(end, begin), at_once - 1), at_once), [], some_rows)
                return []

            def by_kind(kinds: Sequence[tuple[Requantization, Callable[[], Steps]]], terms: int) -> Values:
                if not kinds or not _has_32(e):
                    return rows(lambda: lambda sums: rescaled(e, sums, record), terms)
                (kind, begin_steps), *others = kinds
                is_kind = e.compare("==", e.read(record, 0), kind)
                return e.choose(is_kind, lambda: rows(begin_steps, terms), lambda: by_kind(others, terms))

            usual = steps_with_constants(e, record)
            if self.terms == 1:
                by_kind(usual, 1)
            else:
                is_usual = e.compare("==", e.read(w, 0), 1)
                w = e.add(w, LINE)
                e.choose(is_usual, lambda: by_kind(usual, 1), lambda: by_kind([], self.terms))

        block_parts(e, step, e.read(step, ByteField.HEIGHT), first, last, part)

    def _constants(self, e: ByteEmitter, step: Value, w: Value, record: Value, steps: Steps, terms: int) -> _Constants:
        """What is the same for all rows of a block, in registers where there are enough."""
        shifts = len(shifts_of(self._uses))
        numbers = [
            (u * self.terms + t) * shifts + n for u in range(self.K_h) for t in range(terms) for n in range(shifts)
        ]
        are_kept = len(numbers) <= KEPT and _has_32(e)
        kept = {n: e.load_bytes(w, n * VECTOR) for n in numbers if are_kept}
        bias = e.start(e.load_as(INTS, record, Part.BIAS))
        limits, table = e.read(step, ByteField.LIMITS), e.read(step, ByteField.TABLE)
        return _Constants(
            lambda n: kept[n] if are_kept else e.load_bytes(w, n * VECTOR),
            terms,
            bias,
            steps,
            e.limits(limits) if _has_32(e) else limits,
            table,
        )

    def _rows(self, e: ByteEmitter, step: Value, rows: Values, constants: _Constants, ys: Values) -> None:
        """One output row, or two, at ys, by tiles of `outputs` columns; the last one overlaps the one before."""
        W_in, W, left = (e.read(step, field) for field in (ByteField.SOURCE_WIDTH, ByteField.WIDTH, ByteField.LEFT))
        latest, masks = e.add(W, -self.outputs), e.read(step, ByteField.CONSTANTS)
        padding = e.read(step, ByteField.PADDING)

        def one_tile(number: Value, _: Values) -> Values:
            start = e.multiply(number, self.outputs)
            start = e.where(e.compare("<", start, latest), start, latest)
            column = e.add(e.multiply(start, self.stride), e.negate(left))
            room = e.add(e.add(W_in, -self._reach), e.negate(column))
            is_inside = e.compare(">=", e.builder.or_(column, room), 0)  # neither is negative

            def inside() -> Values:
                return self._sums(e, rows, constants, column, lambda row, n: e.load_bytes(row, n * LANES))

            def at_an_end() -> Values:
                own = e.add(masks, e.multiply(number, len(self._windows) * ADDRESS_BYTES))
                return self._sums(e, rows, constants, column, self._clipped(e, column, W_in, padding, own))

            sums = e.choose(is_inside, inside, at_an_end)
            for number, y in reversed(list(enumerate(ys))):
                own = constants.steps(sums[number * self.outputs : (number + 1) * self.outputs])
                store_channels(e, own, constants.limits, constants.table, pixel_address(e, y, start))
            return []

        e.loop(e.divide(e.add(W, self.outputs - 1), self.outputs), [], one_tile)

    @property
    def _uses(self) -> tuple[Use, ...]:
        return uses_of_windows(self.K_w, self.stride, self.outputs)

    @property
    def _windows(self) -> list[int]:
        return windows_of(self._uses)

    @property
    def _reach(self) -> int:
        """Input columns that a tile reads."""
        return self._windows[-1] + GROUP

    def _sums(
        self, e: ByteEmitter, rows: Values, constants: _Constants, column: Value,
        window: Callable[[Value, int], Value],
    ) -> Values:  # fmt: skip
        """The accumulators of a tile, of one output row after another.

        Args:
            e: the emitter.
            rows: input rows, one after another.
            constants: of the block.
            column: of the input, where the tile begins.
            window: window(address, n) are four pixels from number n after the one at an address.
        """
        count = 1 + (len(rows) - self.K_h) // self.stride
        sums = [constants.bias] * (count * self.outputs)
        for number, row in enumerate(rows):
            start = pixel_address(e, row, column)
            pixels = {n: e.by_channel(window(start, n)) for n in self._windows}
            for output_row in range(count):
                u = number - output_row * self.stride
                if 0 <= u < self.K_h:
                    self._add_row(e, sums, output_row * self.outputs, pixels, constants, u)
        return [e.total(x) for x in sums]

    def _add_row(
        self, e: ByteEmitter, sums: Values, first: int, pixels: dict[int, Value], constants: _Constants, u: int
    ) -> None:
        """Add row u of the filter to the sums of one output row, which begin at number `first`."""
        uses, shifts = self._uses, shifts_of(self._uses)
        for term in range(constants.terms):
            for use in uses:
                weights = constants.weights((u * self.terms + term) * len(shifts) + shifts.index(use.shift))
                place = first + use.output
                sums[place] = e.dot(sums[place], pixels[use.window], weights)

    def _clipped(
        self, e: ByteEmitter, column: Value, W_in: Value, padding: Value, masks: Value
    ) -> Callable[[Value, int], Value]:
        """Windows that take pixels outside the row from `padding`, and do not read them.

        Args:
            e: the emitter.
            column, W_in: first column of the tile; columns of the row.
            padding: address of a row of zero points.
            masks: address of the tile's masks, see `pack_window_masks`.
        """
        if e.target.dot == "vnni512":
            four = e.load_bytes(padding)
            own = {n: e.read(masks, number) for number, n in enumerate(self._windows)}
            return lambda start, n: e.load_masked(e.add(start, n * LANES), own[n], four)

        def window(start: Value, n: int) -> Value:
            return e.joined([
                _pixel_or(e, e.in_range(e.add(column, n + i), W_in), e.add(start, (n + i) * LANES), padding)
                for i in range(GROUP)
            ])  # fmt: skip

        return window


@dataclass(frozen=True)
class _Constants:
    """What the rows of a block share.

    Attributes:
        weights: weights(n) is vector n of the filter.
        terms: of every weight.
        bias: of the sums.
        steps: from sums to steps of the output.
        limits, table: as of `store_channels`.
    """

    weights: Callable[[int], Value]
    terms: int
    bias: Value
    steps: Steps
    limits: Any
    table: Value


def _has_32(e: ByteEmitter) -> bool:
    """Whether there are 32 registers of 64 bytes."""
    return e.target.dot == "vnni512"


def _pixel_or(e: ByteEmitter, condition: Value, address: Value, padding: Value) -> Value:
    return e.load_as(vector_of(I8, LANES), e.where(condition, address, padding))


def input_row(e: ByteEmitter, step: Value, x: Value, row: Value, u: Value) -> Value:
    """Address of the input row under row u of the filter, for an output row; outside the image one of zero points."""
    stride, top, dilation = (e.read(step, field) for field in (ByteField.STRIDE, ByteField.TOP, ByteField.DILATION))
    source = e.add(e.add(e.multiply(row, stride), e.negate(top)), e.multiply(u, dilation))
    inside = e.in_range(source, e.read(step, ByteField.SOURCE_HEIGHT))
    address = pixel_address(e, x, e.multiply(source, e.read(step, ByteField.SOURCE_WIDTH)))
    return e.where(inside, address, e.read(step, ByteField.PADDING))


def depthwise_any(
    e: ByteEmitter, step: Value, arena: Value, _scratch: Value, _image: Value, first: Value, last: Value
) -> None:
    """A depthwise convolution by any filter: any strides, gaps between taps, several outputs per input channel."""

    def part(block: Value, begin: Value, end: Value) -> None:
        record = e.add(e.read(step, ByteField.RECORDS), e.multiply(block, RECORD))
        taps = e.add(e.read(step, ByteField.WEIGHTS), e.multiply(e.read(step, ByteField.PANEL_BYTES), block))
        y, W = block_of_target(e, step, arena, block), e.read(step, ByteField.WIDTH)
        limits, table = e.read(step, ByteField.LIMITS), e.read(step, ByteField.TABLE)

        def one_output(number: Value, _: Values) -> Values:
            row, column = e.add(begin, e.divide(number, W)), e.remainder(number, W)
            acc = _any_sum(e, step, arena, block, row, column, taps, record)
            place = pixel_address(e, y, e.add(e.multiply(row, W), column))
            store_channels(e, rescaled(e, [acc], record), limits, table, place)
            return []

        e.loop(e.multiply(e.add(end, e.negate(begin)), W), [], one_output)

    block_parts(e, step, e.read(step, ByteField.HEIGHT), first, last, part)


def _any_sum(
    e: ByteEmitter, step: Value, arena: Value, block: Value, row: Value, column: Value, taps: Value, record: Value
) -> Value:
    """The accumulator of one output, 16 channels."""
    W_in, padding = e.read(step, ByteField.SOURCE_WIDTH), e.read(step, ByteField.PADDING)
    corner = e.add(e.multiply(column, e.read(step, ByteField.STRIDE_ACROSS)), e.negate(e.read(step, ByteField.LEFT)))
    multiplier, gap = e.read(step, ByteField.MULTIPLIER), e.read(step, ByteField.DILATION_ACROSS)

    def one_row(u: Value, carried: Values) -> Values:
        def one_tap(v: Value, carried: Values) -> Values:
            acc, w = carried
            here = e.add(corner, e.multiply(v, gap))
            inside = e.in_range(here, W_in)

            def single() -> Values:
                line = input_row(e, step, block_of_source(e, step, arena, block), row, u)
                return [_pixel_or(e, inside, pixel_address(e, line, here), padding)]

            def several() -> Values:
                return [_repeated(e, step, arena, block, row, u, here, inside)]

            (x,) = e.choose(e.compare("==", multiplier, 1), single, several)
            weight = e.builder.sext(e.load_as(vector_of(I16, LANES), w), INTS)
            product = e.builder.mul(e.builder.zext(x, INTS), weight)
            return [e.builder.add(acc, product), e.add(w, LANES * TAP_BYTES)]

        return e.loop(e.read(step, ByteField.FILTER_ACROSS), carried, one_tap)

    acc, _ = e.loop(e.read(step, ByteField.FILTER), [e.load_as(INTS, record, Part.BIAS), taps], one_row)
    return acc


def _repeated(
    e: ByteEmitter, step: Value, arena: Value, block: Value, row: Value, u: Value, column: Value, inside: Value
) -> Value:
    """One pixel of the 16 input channels, not all different, of a block of outputs."""
    multiplier, padding = e.read(step, ByteField.MULTIPLIER), e.read(step, ByteField.PADDING)

    def one_lane(lane: Value, carried: Values) -> Values:
        channel = e.divide(e.add(e.multiply(block, LANES), lane), multiplier)
        x = block_of_source(e, step, arena, e.divide(channel, LANES))
        line = input_row(e, step, x, row, u)
        place = e.where(inside, pixel_address(e, line, column), padding)
        byte = e.load_as(I8, e.add(place, e.remainder(channel, e.integer(LANES))))
        return [e.builder.insert_element(carried[0], byte, e.builder.trunc(lane, I32))]

    start = e.load_as(vector_of(I8, LANES), padding)
    return e.loop(LANES, [start], one_lane)[0]
