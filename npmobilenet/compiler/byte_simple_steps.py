"""Steps on bytes that have no weights: averages, sums and products of two maps, tables, paddings, maxima."""

from dataclasses import dataclass

import numpy as np
from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.runtime.byte_packing import GROUP, LogitTable, pack_limits

from npmobilenet.compiler.byte_columns import ByteEncoder, pixels_of, sides_of
from npmobilenet.compiler.byte_operations import Margins, stored_zero
from npmobilenet.compiler.byte_requantization import Requantized
from npmobilenet.compiler.byte_steps import ByteStep
from npmobilenet.compiler.columns import Columns, Record
from npmobilenet.compiler.proofs import FloatSum
from npmobilenet.quantized.curves import fixed_exponentials, float_exponentials
from npmobilenet.quantized.numbers import rounding_shift
from npmobilenet.quantized.weighted_sums import limits

SOFTMAX_BYTES = 256  # of scratch: a result for every byte
SOFTMAX_CHANNELS = 4095  # whose sum has 31 bits


@dataclass(frozen=True, eq=False)
class AverageBytesStep(ByteStep):
    """The average over all pixels of a map."""

    requantized: Requantized

    def record(self, e: ByteEncoder) -> Record:
        op = self.op
        return Record({
            **e.frame("byte_mean", op.inputs[0], op.name, e.blocks(op.name)),
            **e.requantization(op, self.requantized),
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class AddBytesStep(ByteStep):
    """The sum or difference of two maps, in float32."""

    sum: FloatSum

    def record(self, e: ByteEncoder) -> Record:
        op = self.op
        parts, units = e.parts(op.name, pixels_of(op.shape))
        zero = stored_zero(op.link.result)
        low, high = (
            limit - op.link.result.zero_point + zero for limit in limits(op.link.result, op.link.operator.options)
        )
        return Record({
            **e.frame("byte_add", op.inputs[0], op.name, units),
            **e.other(op.inputs[1]),
            **e.table(op),
            ByteField.LIMITS: e.pack(pack_limits(zero, low, high)),
            ByteField.CONSTANTS: e.pack(np.array([self.sum.a, self.sum.b, self.sum.o], np.float32)),
            ByteField.PARTS: parts,
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class PairsBytesStep(ByteStep):
    """Any function of two maps, by a table of 65,536 bytes."""

    def record(self, e: ByteEncoder) -> Record:
        op = self.op
        x1, x2 = np.divmod(np.arange(2**16, dtype=np.uint32), 256)
        pairs = op.of_pairs(x1.astype(np.uint8), x2.astype(np.uint8))
        parts, units = e.parts(op.name, pixels_of(op.shape))
        return Record({
            **e.frame("byte_pairs", op.inputs[0], op.name, units),
            **e.other(op.inputs[1]),
            ByteField.CONSTANTS: e.pack(pairs),
            ByteField.PARTS: parts,
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class MultiplyBytesStep(ByteStep):
    """The product of two maps, or of a map and one pixel.

    Attributes:
        first, second: names of the inputs, the map first.
    """

    requantized: Requantized
    first: str
    second: str

    def record(self, e: ByteEncoder) -> Record:
        op = self.op
        parts, units = e.parts(op.name, pixels_of(op.shape))
        zeros = dict(zip(op.inputs, map(stored_zero, op.link.arguments), strict=True))
        repeated = pixels_of(e.shapes[self.second]) < pixels_of(op.shape)
        return Record({
            **e.frame("byte_multiply", self.first, op.name, units),
            **e.other(self.second, repeated),
            **e.requantization(op, self.requantized),
            ByteField.CONSTANTS: e.pack(np.array([zeros[self.first], zeros[self.second]], np.int32)),
            ByteField.PARTS: parts,
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class TableBytesStep(ByteStep):
    """A function of single bytes."""

    def record(self, e: ByteEncoder) -> Record:
        parts, units = e.parts(self.op.name, pixels_of(self.op.shape))
        frame = e.frame("byte_table", self.op.inputs[0], self.op.name, units)
        return Record({**frame, **e.table(self.op), ByteField.PARTS: parts})


@dataclass(frozen=True, eq=False)
class SoftmaxBytesStep(ByteStep):
    """The softmax of one pixel."""

    def record(self, e: ByteEncoder) -> Record:
        op, (x, y) = self.op, (self.op.link.source, self.op.link.result)
        scale = float(x.scale[0]) * op.link.operator.options.beta
        if op.rule.softmax == "table":
            kernel, constants = "softmax_table", np.zeros(LogitTable.END, np.uint8)
            constants[: LogitTable.SCALE] = float_exponentials(scale).view(np.uint8)
            constants[LogitTable.SCALE : LogitTable.NEAREST] = np.array([y.scale[0]], np.float32).view(np.uint8)
            numbers = [y.dtype != np.uint8, stored_zero(y)]
            constants[LogitTable.NEAREST :] = np.array(numbers, np.int32).view(np.uint8)
        else:
            exponentials = fixed_exponentials(-np.arange(256), scale)
            kernel = "softmax_fixed"
            constants = np.concatenate([exponentials, rounding_shift(exponentials, 12)]).astype(np.int32)
        return Record({
            **e.frame(kernel, op.inputs[0], op.name, 1),
            ByteField.CHANNELS: op.shape[-1],
            ByteField.CONSTANTS: e.pack(constants),
        }, SOFTMAX_BYTES)  # fmt: skip


@dataclass(frozen=True, eq=False)
class MarginsStep(ByteStep):
    """Zero points around a map."""

    op: Margins  # type: ignore[assignment]

    def record(self, e: ByteEncoder) -> Record:
        (top, _), (left, _) = self.op.padding
        parts, units = e.parts(self.op.name, sides_of(self.op.shape)[0])
        return Record({
            **e.frame("byte_pad", self.op.inputs[0], self.op.name, units),
            ByteField.TOP: top,
            ByteField.LEFT: left,
            ByteField.PADDING: e.row_of(self.op.zero, 1),
            ByteField.PARTS: parts,
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class MaximumBytesStep(ByteStep):
    """The largest byte under a window."""

    def record(self, e: ByteEncoder) -> Record:
        op, options = self.op, self.op.link.operator.options
        (top, _), (left, _) = op.padding
        H, _ = sides_of(op.shape)
        _, W_in = sides_of(e.shapes[op.inputs[0]])
        parts, units = e.parts(op.name, H)
        offset = stored_zero(op.link.result) - op.link.result.zero_point
        low, high = (limit + offset for limit in limits(op.link.result, options))
        columns: Columns = {
            ByteField.FILTER: options.filter[0],
            ByteField.FILTER_ACROSS: options.filter[1],
            ByteField.STRIDE: options.stride[0],
            ByteField.STRIDE_ACROSS: options.stride[1],
            ByteField.DILATION: 1,
            ByteField.DILATION_ACROSS: 1,
            ByteField.TOP: top,
            ByteField.LEFT: left,
            ByteField.PADDING: e.row_of(0, W_in + 2 * GROUP),
            ByteField.LIMITS: e.pack(pack_limits(0, low, high)),
            ByteField.PARTS: parts,
        }
        return Record({**e.frame("byte_max_pool", op.inputs[0], op.name, units), **e.table(op), **columns})
