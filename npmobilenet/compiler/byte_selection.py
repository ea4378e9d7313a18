"""Which kernel computes which operation of an 8-bit network; what has none is computed by its NumPy operator."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from npmobilenet_kernels.microkernels.byte_catalog import STEM_CHANNELS, STRIDES
from npmobilenet_kernels.runtime.byte_packing import LANES
from npmobilenet_kernels.runtime.cpu import ByteTarget

from npmobilenet.compiler.blocking import ceil_div
from npmobilenet.compiler.byte_columns import pixels_of
from npmobilenet.compiler.byte_operations import (
    ByteOperation,
    ByteTable,
    Margins,
    PaddedConvolution,
    PixelSums,
    is_stored_as_bytes,
    stored_zero,
)
from npmobilenet.compiler.byte_product_steps import (
    STEM_PIXELS,
    ConvolutionBytesStep,
    DenseBytesStep,
    DepthwiseBytesStep,
    PixelSumsStep,
    PointwiseBytesStep,
    StemBytesStep,
    WeightedStep,
)
from npmobilenet.compiler.byte_requantization import Requantized, requantize
from npmobilenet.compiler.byte_simple_steps import (
    SOFTMAX_CHANNELS,
    AddBytesStep,
    AverageBytesStep,
    MarginsStep,
    MaximumBytesStep,
    MultiplyBytesStep,
    PairsBytesStep,
    SoftmaxBytesStep,
    TableBytesStep,
)
from npmobilenet.compiler.byte_steps import ByteReferenceStep
from npmobilenet.compiler.byte_weights import SignedWeights
from npmobilenet.compiler.ir import NO_PADDING, Alias, Image, Operations, stored_names
from npmobilenet.compiler.proofs import Reach, RisingFunction, prove_sum
from npmobilenet.compiler.step_types import Step
from npmobilenet.quantized.averages import rounded_average, rounded_mean
from npmobilenet.quantized.merges import product_rescaling
from npmobilenet.quantized.rescaling import Rescaling
from npmobilenet.quantized.tensors import Ints
from npmobilenet.quantized.weighted_sums import SUMS, limits, rescaling
from npmobilenet.types import Shape

BYTES = 256


def select_byte_kernels(ops: Operations, target: ByteTarget) -> tuple[Operations, tuple[Step, ...]]:
    """Operations and steps: the operations that steps need beforehand are added, as steps of their own.

    Args:
        ops: the operations; the first is the network's input.
        target: the CPU.
    """
    selection = _Selection(ops, target)
    chosen: Operations = []
    steps: list[Step] = []
    for op in ops:
        if isinstance(op, Image | Alias):
            chosen.append(op)
        else:
            assert isinstance(op, ByteOperation)
            for step in selection.steps(op):
                steps.append(step)
                chosen += step.ops
    return chosen, tuple(steps)


@dataclass
class _Selection:
    """The choice of kernels for one network and CPU."""

    ops: Operations
    target: ByteTarget

    def __post_init__(self) -> None:
        self._shapes = {op.name: op.shape for op in self.ops}
        stored = stored_names(self.ops)
        self._images = {name for name, place in stored.items() if place == self.ops[0].name}

    def steps(self, op: ByteOperation) -> Iterator[Step]:
        """The step that computes an operation, and those it needs before it."""
        yield from self._kernels(op) or [ByteReferenceStep(op)]

    def _kernels(self, op: ByteOperation) -> list[Step]:
        """The same, empty if there is no kernel."""
        link = op.link
        sources = [x for x in op.links[0].arguments if x.data is None]
        if not all(map(is_stored_as_bytes, (*sources, link.result))):
            return []
        if link.code in SUMS:
            return self._weighted(op)
        if any(name in self._images for name in op.inputs):
            return []
        if isinstance(op, ByteTable):
            return [TableBytesStep(op)]
        match link.code:
            case "ADD" | "SUB":
                return self._sum(op)
            case "MUL":
                return self._product(op)
            case "AVERAGE_POOL_2D" | "MEAN":
                return self._average(op)
            case "MAX_POOL_2D":
                return [MaximumBytesStep(op)]
            case "PAD":
                return self._pad(op)
            case "SOFTMAX":
                fits = pixels_of(op.shape) == 1 and op.shape[-1] <= SOFTMAX_CHANNELS and op.table is None
                return [SoftmaxBytesStep(op)] if fits else []
        return []

    def _weighted(self, op: ByteOperation) -> list[Step]:
        weights, source = SignedWeights(op.link), self._shapes[op.inputs[0]]
        requantized = self._requantized(op, weights)
        if requantized is None:
            return []
        if op.inputs[0] in self._images:
            return [StemBytesStep(op, weights, requantized)] if self._is_stem(op, source) else []
        if op.link.code == "DEPTHWISE_CONV_2D":
            return [DepthwiseBytesStep(op, weights, requantized)]
        if op.link.code == "FULLY_CONNECTED":
            fits = pixels_of(source) == pixels_of(op.shape) == 1 and source[-1] == weights.centered.shape[1]
            return [DenseBytesStep(op, weights, requantized)] if fits else []
        return self._convolution(op, weights, requantized, source)

    def _requantized(self, op: ByteOperation, weights: SignedWeights) -> Requantized | None:
        link = op.link
        rescale = rescaling(link.code, link.arguments, link.result, op.rule)
        return self._with_limits(op, rescale, weights.reach(), weights.correction)

    def _convolution(
        self, op: ByteOperation, weights: SignedWeights, requantized: Requantized, source: Shape
    ) -> list[Step]:
        options = op.link.operator.options
        is_plain = weights.centered.shape[1:3] == (1, 1) and options.stride == (1, 1) and op.padding == NO_PADDING
        if weights.centered.shape[3] != source[-1]:  # groups
            return []
        if is_plain:
            if pixels_of(source) == 1:
                return [DenseBytesStep(op, weights, requantized)]
            return self._with_sums(PointwiseBytesStep(op, weights, requantized))
        if options.stride[1] not in STRIDES:
            return []
        if op.padding == NO_PADDING:
            return [ConvolutionBytesStep(op, weights, requantized)]
        margins = self._margins(op, source)
        fields = {name: getattr(op, name) for name in op.__dataclass_fields__}
        padded = PaddedConvolution(**fields | {"inputs": (margins.name,)})
        return [MarginsStep(margins), ConvolutionBytesStep(padded, weights, requantized)]

    def _margins(self, op: ByteOperation, source: Shape) -> Margins:
        (top, bottom), (left, right) = op.padding
        H, W, C = source
        return Margins(
            name=f"{op.name} (padded)", layers=(), inputs=op.inputs, shape=(H + top + bottom, W + left + right, C),
            padding=op.padding, zero=stored_zero(op.link.source),
        )  # fmt: skip

    def _with_sums(self, step: WeightedStep) -> list[Step]:
        factor, source = step.weights.factor, step.op.inputs[0]
        if factor == 0:
            return [step]
        shape = (ceil_div(pixels_of(self._shapes[source]), 4), LANES)
        sums = PixelSums(name=f"{step.op.name} (pixel sums)", layers=(), inputs=(source,), shape=shape, factor=factor)
        return [PixelSumsStep(sums), replace(step, op=replace(step.op, sums=sums.name))]

    def _is_stem(self, op: ByteOperation, source: Shape) -> bool:
        options, (_, K_h, K_w, C) = op.link.operator.options, op.link.arguments[1].shape
        same = K_h == K_w == STEM_PIXELS and options.stride == (2, 2) and options.dilation == (1, 1)
        return op.link.code == "CONV_2D" and same and source[-1] == C and C in STEM_CHANNELS

    def _sum(self, op: ByteOperation) -> list[Step]:
        if len({self._shapes[name] for name in op.inputs} | {op.shape}) > 1 or len(op.inputs) != 2:
            return []
        x1, x2 = np.divmod(np.arange(BYTES**2), BYTES)
        link = op.link
        zero = stored_zero(link.result)
        low, high = (limit - link.result.zero_point for limit in limits(link.result, link.operator.options))
        y = op.of_pairs(x1.astype(np.uint8), x2.astype(np.uint8), through_table=False).astype(np.int64) - zero
        a, b = (float(x.scale[0] / link.result.scale[0]) for x in link.arguments)
        found = prove_sum(y, (low, high), (a, b if link.code == "ADD" else -b)) if self.target.fused else None
        return [PairsBytesStep(op) if found is None else AddBytesStep(op, found)]

    def _product(self, op: ByteOperation) -> list[Step]:
        link, shapes = op.link, [self._shapes[name] for name in op.inputs]
        if len(shapes) != 2 or op.shape not in shapes:
            return []
        first = shapes.index(op.shape)
        if shapes[1 - first] != op.shape and (pixels_of(shapes[1 - first]), shapes[1 - first][-1]) != (1, op.shape[-1]):
            return []
        ends = [[limit - x.zero_point for limit in x.range] for x in link.arguments]
        corners = np.outer(np.array(ends[0]), np.array(ends[1]))
        C = op.shape[-1]
        reach = Reach(np.full(C, corners.min()), np.full(C, corners.max()))
        rescale = product_rescaling(link.arguments, link.result, op.rule)
        requantized = self._with_limits(op, rescale, reach, np.zeros(C, np.int64))
        if requantized is None:
            return []
        return [MultiplyBytesStep(op, requantized, op.inputs[first], op.inputs[1 - first])]

    def _average(self, op: ByteOperation) -> list[Step]:
        link, source = op.link, self._shapes[op.inputs[0]]
        if len(source) != 3 or not _covers_map(op, source):
            return []
        x, y = link.source, link.result
        n, C = pixels_of(source), op.shape[-1]
        zero = x.zero_point if link.code == "MEAN" else 0

        def steps(acc: Ints) -> Ints:
            if link.code == "MEAN":
                return rounded_mean(acc + n * zero, n, x, y, op.rule) - y.zero_point
            return rounded_average(acc, n) - y.zero_point

        factor = float(x.scale[0] / y.scale[0]) if link.code == "MEAN" else 1.0
        reach = Reach(*(np.full(C, n * (limit - zero)) for limit in x.range))
        correction = np.full(C, -n * (stored_zero(x) - x.zero_point + zero))
        requantized = self._with_limits(op, RisingFunction(np.array([factor / n]), steps), reach, correction)
        return [] if requantized is None else [AverageBytesStep(op, requantized)]

    def _pad(self, op: ByteOperation) -> list[Step]:
        amounts = op.link.amounts
        if len(amounts) != 4 or amounts[0] != (0, 0) or amounts[3] != (0, 0) or op.table is not None:
            return []
        zero = stored_zero(op.link.result)
        margins = Margins(
            name=op.name, layers=op.layers, inputs=op.inputs, shape=op.shape, padding=amounts[1:3], zero=zero
        )
        return [MarginsStep(margins)]

    def _with_limits(
        self, op: ByteOperation, rescale: Rescaling | RisingFunction, reach: Reach, correction: Ints
    ) -> Requantized | None:
        y, options = op.link.result, op.link.operator.options
        low, high = (limit - y.zero_point for limit in limits(y, options))
        return requantize(rescale, reach, correction, (low, high), stored_zero(y), fused=self.target.fused)


def _covers_map(op: ByteOperation, source: Shape) -> bool:
    """Whether an average is over a whole map."""
    if op.link.code == "MEAN":
        return sorted(op.link.arguments[1].integers.ravel() % (len(source) + 1)) == [1, 2]
    options = op.link.operator.options
    return options.filter == source[:2] and pixels_of(op.shape) == 1 and op.padding == NO_PADDING
