"""Steps of sums of products of bytes: convolutions, dense layers, and what they need beforehand."""

from dataclasses import dataclass

import numpy as np
from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.microkernels.byte_catalog import DEPTHWISE_SIZES, STRIDES, TERMS, depthwise_kernel
from npmobilenet_kernels.microkernels.byte_products import STREAMS, stem_scratch
from npmobilenet_kernels.runtime.byte_filters import pack_byte_depthwise, pack_byte_taps, pack_window_masks
from npmobilenet_kernels.runtime.byte_packing import GROUP, LANES, LINE, pack_byte_matrix, pack_dense_constants
from npmobilenet_kernels.runtime.cpu import tile_rows

from npmobilenet.compiler.blocking import ceil_div, round_up
from npmobilenet.compiler.byte_columns import UNITS, ByteEncoder, pixels_of, sides_of
from npmobilenet.compiler.byte_operations import PixelSums, stored_zero
from npmobilenet.compiler.byte_requantization import Requantized
from npmobilenet.compiler.byte_steps import ByteStep
from npmobilenet.compiler.byte_weights import SignedWeights
from npmobilenet.compiler.columns import Columns, Record
from npmobilenet.types import Array

STEM_PIXELS = 3  # columns of a first convolution's filter
SMALL_SUM, MANY_PIXELS, SMALL_TILE = 64, 784, 8  # sums over few values of many pixels are best in tiles of 8


@dataclass(frozen=True, eq=False)
class WeightedStep(ByteStep):
    """A step with weights."""

    weights: SignedWeights
    requantized: Requantized

    def matrix(self, e: ByteEncoder, kernel: Array, panel: int, segment: int | None = None) -> Columns:
        """Weights (K, N) in panels."""
        K = len(kernel)
        length = K if segment is None else segment
        groups = K // length * ceil_div(length, GROUP)
        return {
            ByteField.WEIGHTS: e.pack(pack_byte_matrix(kernel, panel, segment)),
            ByteField.PANEL_BYTES: groups * LINE * panel,
            ByteField.SEGMENTS: K // LANES,
            ByteField.TAIL: ceil_div(K % LANES, GROUP),
        }

    def sums(self, e: ByteEncoder) -> Columns:
        """The sums of every pixel that are added to its accumulators, if there are any."""
        return {ByteField.SUMS: e.memory[self.op.sums].offset} if self.op.sums else {}


@dataclass(frozen=True, eq=False)
class PointwiseBytesStep(WeightedStep):
    """A convolution by a filter of one pixel."""

    def record(self, e: ByteEncoder) -> Record:
        op, panel = self.op, e.target.panel
        kernel = self.weights.shifted.reshape(len(self.weights.shifted), -1).T  # (c_in, c_out)
        M, panels = pixels_of(op.shape), ceil_div(e.blocks(op.name), panel)
        MR = tile_rows(M, e.target.rows)
        if len(kernel) <= SMALL_SUM and M >= MANY_PIXELS and SMALL_TILE in e.target.rows:
            MR = SMALL_TILE
        parts = max(1, min(ceil_div(UNITS, panels), ceil_div(M, MR)))
        return Record({
            **e.frame(f"pointwise_{MR}", op.inputs[0], op.name, parts * panels),
            **self.matrix(e, kernel, panel),
            **e.requantization(op, self.requantized),
            **self.sums(e),
            ByteField.PARTS: parts,
            ByteField.PARTS_FIRST: 1,
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class DenseBytesStep(WeightedStep):
    """One row of a matrix product."""

    def record(self, e: ByteEncoder) -> Record:
        op = self.op
        kernel = self.weights.shifted.reshape(len(self.weights.shifted), -1).T
        return Record({
            **e.frame("dense", op.inputs[0], op.name, ceil_div(e.blocks(op.name), STREAMS[0])),
            **self.matrix(e, kernel, 1),
            **e.requantization(op, self.requantized),
            ByteField.CONSTANTS: e.pack(pack_dense_constants(self.weights.factor, len(kernel))),
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class ConvolutionBytesStep(WeightedStep):
    """Any convolution over a map that is already padded, by rows."""

    def record(self, e: ByteEncoder) -> Record:
        op, panel, options = self.op, e.target.panel, self.op.link.operator.options
        H, W = sides_of(op.shape)
        _, W_in = sides_of(e.shapes[op.inputs[0]])
        blocks = e.blocks(op.inputs[0])
        N, K_h, K_w, c_in = self.weights.centered.shape
        kernels = np.zeros((len(self.weights.terms), blocks * LANES, K_h, K_w, N), np.int8)
        kernels[:, :c_in] = np.array(self.weights.terms).transpose(0, 4, 2, 3, 1)
        by_segment = kernels.reshape(-1, blocks, LANES, K_h, K_w, N).transpose(0, 1, 3, 4, 2, 5).reshape(-1, N)
        u, v = np.arange(K_h)[:, None] * options.dilation[0], np.arange(K_w) * options.dilation[1]
        block_bytes = pixels_of(e.shapes[op.inputs[0]]) * LANES
        offsets = np.arange(blocks)[:, None, None] * block_bytes + (u * W_in + v) * LANES
        offsets = np.tile(offsets.ravel(), len(self.weights.terms))
        MR, panels = tile_rows(W, e.target.rows), ceil_div(e.blocks(op.name), panel)
        parts = max(1, min(ceil_div(UNITS, panels), H))
        return Record({
            **e.frame(f"convolution{options.stride[1]}_{MR}", op.inputs[0], op.name, parts * panels),
            **self.matrix(e, by_segment, panel, LANES),
            **e.requantization(op, self.requantized),
            ByteField.OFFSETS: e.pack(offsets.astype(np.int64)),
            ByteField.SEGMENTS: len(offsets),
            ByteField.STRIDE: options.stride[0],
            ByteField.PARTS: parts,
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class StemBytesStep(WeightedStep):
    """The first convolution, row by row, of the image as it comes."""

    def record(self, e: ByteEncoder) -> Record:
        op = self.op
        (_, W_in, C), (H, W) = e.shapes[op.inputs[0]], sides_of(op.shape)
        terms = np.stack(
            [term.transpose(1, 2, 3, 0).reshape(STEM_PIXELS, -1, len(term)) for term in self.weights.terms]
        )
        used = np.array(terms.any((2, 3)))  # (terms, rows): most second terms are zero
        used[0] = True
        segments, rows = terms[used], np.nonzero(used)[1]
        pitch = round_up((W_in + STEM_PIXELS) * C + LINE, LINE)
        (top, left), link = op.before, op.link
        return Record({
            **e.frame(f"stem{C}_{tile_rows(W, e.target.rows)}", op.inputs[0], op.name, H),
            **self.matrix(e, segments.reshape(-1, segments.shape[2]), e.target.panel, STEM_PIXELS * C),
            **e.requantization(op, self.requantized),
            ByteField.SOURCE_BLOCK: pitch,
            ByteField.FILTER: len(rows),
            ByteField.OFFSETS: e.pack(rows * pitch),
            ByteField.FILTER_ACROSS: STEM_PIXELS,
            ByteField.STRIDE: link.operator.options.stride[0],
            ByteField.TOP: top,
            ByteField.LEFT: left,
            ByteField.PADDING: e.row_of(stored_zero(link.source), LINE // LANES),
            ByteField.CONSTANTS: e.row_of(e.flip, LINE // LANES),
        }, stem_scratch(pitch))  # fmt: skip


@dataclass(frozen=True, eq=False)
class DepthwiseBytesStep(WeightedStep):
    """A depthwise convolution."""

    def record(self, e: ByteEncoder) -> Record:
        op, options = self.op, self.op.link.operator.options
        kernel = self.weights.centered[0]  # (K_h, K_w, C m)
        (H, W), (_, W_in), (K_h, K_w, _) = sides_of(op.shape), sides_of(e.shapes[op.inputs[0]]), kernel.shape
        (top, left), stride, outputs = op.before, options.stride[1], min(W, GROUP)
        packed: Array
        packed, terms = pack_byte_depthwise(kernel, stride, outputs)
        is_usual = K_h == K_w and K_h in DEPTHWISE_SIZES and options.dilation == (1, 1) and op.multiplier == 1
        own: Columns
        is_usual = is_usual and options.stride == (stride, stride)
        if is_usual and stride in STRIDES and terms in TERMS:
            name = depthwise_kernel((K_h, K_w), stride, outputs, terms)
            own = {ByteField.CONSTANTS: e.pack(pack_window_masks(W_in, W, left, K_w, stride, outputs))}
        else:
            name, packed, own = "depthwise_any", pack_byte_taps(kernel), {}
        parts, units = e.parts(op.name, H)
        return Record({
            **e.frame(name, op.inputs[0], op.name, units),
            **e.requantization(op, self.requantized),
            **own,
            ByteField.WEIGHTS: e.pack(packed),
            ByteField.PANEL_BYTES: packed.nbytes // e.blocks(op.name),
            ByteField.FILTER: K_h,
            ByteField.FILTER_ACROSS: K_w,
            ByteField.STRIDE: options.stride[0],
            ByteField.STRIDE_ACROSS: options.stride[1],
            ByteField.DILATION: options.dilation[0],
            ByteField.DILATION_ACROSS: options.dilation[1],
            ByteField.TOP: top,
            ByteField.LEFT: left,
            ByteField.MULTIPLIER: op.multiplier,
            ByteField.PADDING: e.row_of(stored_zero(op.link.source), W_in + 2 * GROUP),
            ByteField.PARTS: parts,
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class PixelSumsStep(ByteStep):
    """The sum over the channels of every pixel, times a factor."""

    op: PixelSums  # type: ignore[assignment]

    def record(self, e: ByteEncoder) -> Record:
        source = self.op.inputs[0]
        C, blocks, M = e.shapes[source][-1], e.blocks(source), pixels_of(e.shapes[source])
        ones = (np.arange(blocks * LANES) < C).astype(np.uint8).reshape(blocks, 1, LANES).repeat(GROUP, 1)
        factor = np.full(LANES, self.op.factor, np.int32)
        return Record({
            **e.frame("row_sums", source, self.op.name, ceil_div(M, GROUP)),
            ByteField.PIXELS: M,
            ByteField.BLOCKS: blocks,
            ByteField.CONSTANTS: e.pack(np.concatenate([factor.view(np.uint8), ones.ravel()])),
        })  # fmt: skip
