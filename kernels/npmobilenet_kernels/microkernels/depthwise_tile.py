"""The micro-kernels of a depthwise convolution: one output row of one block of L channels.

    y[j, :] = act(bias[:] + sum_{u, v} x_u[j stride + v D - left, :] w[u, v, :])

D, the dilation, is the number of columns from tap to tap; rows that are D apart come by their addresses.
The rows under the filter are given by a table of addresses, so that a row outside the image may be one of zeros, and
the rows of a ring buffer need not be in order: the indirection of Dukhan 2019, The Indirect Convolution Algorithm,
arXiv:1907.02129, by rows instead of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from npmobilenet_kernels.microkernels.emitter import ADDRESS_BYTES, Emitter, Value, Values
from npmobilenet_kernels.microkernels.fused_activation import activate

PIXELS = 8  # outputs that `depthwise_row` computes at a time: sums that hide an FMA's 4 cycles on two units


def depthwise_row(
    e: Emitter, rows: Value, W_in: Value, W: Value, left: Value, zero: Value, w: Value, y: Value,
    activation: Value, K_h: Value, K_w: Value, stride: Value, dilation: Value,
) -> None:  # fmt: skip
    """One output row of any depthwise convolution.

    Several outputs at a time where every tap is on the image, then the others, at both ends, one at a time.

    Args of the micro-kernel:
        rows: (K_h,) addresses of the input rows, (W_in, L) each; a row outside the image is one of zeros.
        W_in, W: columns of input and output; left: columns of zero padding on the left.
        zero: address of a zero vector.
        w: bias (L,), then weights (K_h, K_w, L).
        y: output row (W, L).
        activation: an `Activation`.
        K_h, K_w, stride, dilation: rows and columns of the filter, its stride and its dilation.
    """

    def outputs(first: Value, count: int, pixel: Callable[[Value, Value, int], Value]) -> Values:
        """Outputs first ... first + count - 1; pixel(row, column, p) is what output p sees in its column."""
        corner = e.add(e.multiply(stride, first), e.negate(left))

        def one_row(u: Value, carried: Values) -> Values:
            row = e.read(e.add(rows, e.multiply(u, ADDRESS_BYTES)), 0)

            def one_tap(v: Value, carried: Values) -> Values:
                *totals, weight = carried
                column, factor = e.add(corner, e.multiply(v, dilation)), e.load(weight)
                totals = [e.fma(pixel(row, column, p), factor, total) for p, total in enumerate(totals)]
                return [*totals, e.add(weight, e.bytes)]

            return e.loop(K_w, carried, one_tap)

        *totals, _ = e.loop(K_h, [*[e.load(w)] * count, e.add(w, e.bytes)], one_row)
        _store_pixels(e, activate(e, activation, totals), y, first)
        return []

    def at_an_end(row: Value, column: Value, _: int) -> Value:
        return e.load(e.where(e.in_range(column, W_in), e.add(row, e.multiply(column, e.bytes)), zero))

    def inside(row: Value, column: Value, p: int) -> Value:
        return e.load(e.add(e.add(row, e.multiply(column, e.bytes)), e.multiply(stride, p * e.bytes)))

    begin = _smaller(e, e.divide(e.add(e.add(left, stride), -1), stride), W)  # outputs that read padding on the left
    extent = e.add(e.multiply(e.add(K_w, -1), dilation), 1)
    room = e.add(e.add(W_in, left), e.negate(extent))
    whole = e.where(e.compare("<", room, 0), e.integer(0), e.add(e.divide(room, stride), 1))
    tiles = e.divide(e.add(_smaller(e, whole, W), e.negate(begin)), PIXELS)
    tiles = e.where(e.compare("<", tiles, 0), e.integer(0), tiles)
    e.loop(tiles, [], lambda t, _: outputs(e.add(begin, e.multiply(t, PIXELS)), PIXELS, inside))

    done = e.multiply(tiles, PIXELS)

    def one_at_an_end(i: Value, _: Values) -> Values:
        return outputs(e.add(i, e.where(e.compare("<", i, begin), e.integer(0), done)), 1, at_an_end)

    e.loop(e.add(W, e.negate(done)), [], one_at_an_end)


def _smaller(e: Emitter, a: Value, b: Value) -> Value:
    return e.where(e.compare("<", a, b), a, b)


@dataclass(frozen=True)
class DepthwiseTile:
    """Emitter of `depthwise_row` for one undilated filter and padding, several outputs at a time; padding is free.

    The tiles at the ends of the row leave out the taps that would read padding.

    Attributes:
        size, stride: of the filter, size x size.
        pixels: outputs per tile. A row has exactly this number, or enough more that no tile touches both ends.
        left: columns of padding on the left; right: columns of padding on the right that the last output reads.
    """

    size: int
    stride: int
    pixels: int
    left: int
    right: int

    def __call__(
        self, e: Emitter, rows: Value, W_in: Value, W: Value, _left: Value, _zero: Value, w: Value, y: Value,
        activation: Value, _K_h: Value, _K_w: Value, _stride: Value, _dilation: Value,
    ) -> None:  # fmt: skip
        """Emit the micro-kernel, with the arguments of `depthwise_row`, of which this one ignores those with `_`."""

        def tile(first: Value, no_left: int, no_right: int) -> Values:
            """Outputs first ... first + pixels - 1, without the taps of this number of columns at either end."""
            start = e.multiply(e.add(e.multiply(first, self.stride), -self.left), e.bytes)
            inside = range(no_left, self._reach - no_right)

            def column(row: Value, c: int) -> Value | None:
                return e.load(e.add(row, start), c * e.bytes) if c in inside else None

            below = e.add(e.read(rows, self.size - 1), e.multiply(W_in, e.bytes))
            for c in inside:
                if self.stride == 1:  # the new row of the next output row; with stride 2 there are too many to pay
                    e.prefetch(e.add(below, start), c * e.bytes)
            _store_pixels(e, activate(e, activation, self._sums(e, rows, w, column)), y, first)
            return []

        def several() -> Values:
            tile(e.integer(0), self.left, 0)
            last = e.add(W, -self.pixels)
            padded = -(-self.right // self.stride)  # outputs at the right end that read padding
            end = e.add(last, -padded)

            def one_tile(index: Value, _: Values) -> Values:
                first = e.multiply(e.add(index, 1), self.pixels)
                return tile(e.where(e.compare("<", first, end), first, end), 0, 0)

            e.loop(e.divide(e.add(last, -1), self.pixels), [], one_tile)
            return tile(last, 0, self.right)

        is_single = e.compare("==", W, self.pixels)
        e.choose(is_single, lambda: tile(e.integer(0), self.left, self.right), several)

    @property
    def _reach(self) -> int:
        """Input columns under a tile."""
        return (self.pixels - 1) * self.stride + self.size

    def _sums(self, e: Emitter, rows: Value, w: Value, column: Callable[[Value, int], Value | None]) -> Values:
        """The sums of a tile; column(row, c) is the vector in input column c, or None for padding."""
        sums = [e.load(w)] * self.pixels  # the bias
        for u in range(self.size):
            row = e.read(rows, u)
            x = [column(row, c) for c in range(self._reach)]
            for v in range(self.size):
                weight = e.load(w, (1 + u * self.size + v) * e.bytes)
                taps = x[v :: self.stride]
                sums = [s if x_j is None else e.fma(x_j, weight, s) for x_j, s in zip(taps, sums, strict=False)]
        return sums


def _store_pixels(e: Emitter, x: Values, y: Value, first: Value) -> None:
    target = e.add(y, e.multiply(first, e.bytes))
    for j, v in enumerate(x):
        e.store(v, target, j * e.bytes)
