"""The micro-kernel of a dense layer: one row of a matrix product, several vectors of outputs at a time.

    y[:] = act(bias[:] + sum_k x[k] B[k, :])

Each weight is used once, so the rate is that at which weights arrive: several streams of them are read at once, each
prefetched, so that many cache lines are in flight.
"""

from __future__ import annotations

from dataclasses import dataclass

from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES, Emitter, Value, Values
from npmobilenet_kernels.microkernels.fused_activation import activate
from npmobilenet_kernels.runtime.job import LINE

AHEAD = 2048  # prefetch distance in each stream of weights, in bytes
SPLIT = 4  # partial sums over k if there is a single stream, since a multiply-add has a latency of four cycles
UNROLL = 4  # values of k per round


@dataclass(frozen=True)
class GemvTile:
    """Emitter of the micro-kernel for a number of streams.

    Attributes:
        streams: vectors of outputs, each from a panel of weights of its own.
        split: partial sums over k per stream.
    """

    streams: int
    split: int

    def __call__(
        self, e: Emitter, x: Value, K: Value, B: Value, panel: Value, bias: Value, y: Value, activation: Value
    ) -> None:
        """Emit the micro-kernel.

        Args:
            x: (K,); K: number of values.
            B: weights of the first panel (K, L), `panel` bytes from panel to panel.
            bias, y: (streams * L,).
            activation: an `Activation`.
        """
        panels = [e.add(B, e.multiply(panel, j)) for j in range(self.streams)]
        start = [
            e.load(bias, j * e.bytes) if s == 0 else e.constant(0)
            for j in range(self.streams)
            for s in range(self.split)
        ]
        whole = e.divide(K, UNROLL)
        x, offset, *sums = self._rounds(e, whole, UNROLL, panels, [x, e.integer(0), *start])
        rest = e.add(K, e.multiply(whole, -UNROLL))
        _, _, *sums = self._rounds(e, rest, 1, panels, [x, offset, *sums])
        for j, v in enumerate(activate(e, activation, self._totals(e, sums))):
            e.store(v, y, j * e.bytes)

    def _rounds(self, e: Emitter, count: Value, depth: int, panels: Values, start: Values) -> Values:
        """`count` rounds of `depth` values of k; carried are x, the offset into every panel, and the sums."""

        def one_round(_: Value, carried: Values) -> Values:
            x, offset, *sums = carried
            for d in range(depth):
                v = e.splat(x, d * FLOAT_BYTES)
                for j, panel in enumerate(panels):
                    slot = j * self.split + d % self.split
                    stream = e.add(panel, offset)
                    if depth > 1 and d * e.bytes % LINE == 0:
                        e.prefetch(stream, AHEAD + d * e.bytes)
                    sums[slot] = e.fma(v, e.load(stream, d * e.bytes), sums[slot])
            return [e.add(x, depth * FLOAT_BYTES), e.add(offset, depth * e.bytes), *sums]

        return e.loop(count, start, one_round)

    def _totals(self, e: Emitter, sums: Values) -> Values:
        """The partial sums of every stream, added up."""
        totals = []
        for j in range(self.streams):
            total = sums[j * self.split]
            for s in range(1, self.split):
                total = e.plus(total, sums[j * self.split + s])
            totals.append(total)
        return totals
