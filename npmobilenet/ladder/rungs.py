"""The rungs: one separable block, from its definition in loops to all cores.

Each is a function of the block that prepares arguments and returns what is timed. The arithmetic is code of the
project's other rooms, but for the two loops in the textbook's order, which no other room has a use for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import EllipsisType
from typing import Any

import numpy as np
from npmobilenet_kernels import blocked, loops
from npmobilenet_kernels.runtime.cpu import host_target, tile_rows
from numba import njit

from npmobilenet.compiler.ir import Conv, Depthwise
from npmobilenet.compiler.passes import fuse
from npmobilenet.compiler.plan import Plan, compile_graph
from npmobilenet.exercises import plainly
from npmobilenet.ladder.separable_block import SeparableBlock, Work
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.arithmetic import add_bias
from npmobilenet.reference.convolution import conv2d, depthwise_conv2d, pointwise_conv2d, zero_pad
from npmobilenet.reference.layer import KernelLayer
from npmobilenet.reference.layers import Activation, BatchNormalization
from npmobilenet.types import Array, Pair

Run = Callable[[], Array]
Place = EllipsisType | tuple[int | slice, ...]
SAMPLE = 40_000  # multiply-adds of the seven loops that are timed: some milliseconds of Python


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a block's output, computed by itself.

    Attributes:
        run: computes it.
        place: index of it in the output (1, H_out, W_out, c_out).
        macs: multiply-adds, those with padding included.
    """

    run: Run
    place: Place
    macs: int


@dataclass(frozen=True, eq=False)
class Rung:
    """One way to compute a block.

    Attributes:
        number: 0 to 8; of an entry next to a rung, that of the rung.
        name, changed: what it is, and what is new in it, in 17 and 15 letters at most: a terminal has 80 columns.
        work: the layers that it computes: the separable ones, or the standard convolution.
        pieces: what is computed: everything, or samples. Each is compared with float64; the first is timed.
        code: the functions that run, and those that call them, for people.
        folded: whether the batch normalization is part of the weights.
        threads: number of threads.
        is_side: whether it stands next to a rung, for comparison.
    """

    number: int
    name: str
    changed: str
    work: Work
    pieces: Sequence[Piece]
    code: tuple[Callable[..., Any], ...]
    folded: bool = False
    threads: int = 1
    is_side: bool = False

    @property
    def macs(self) -> int:
        """Multiply-adds of all of its layers."""
        return self.work.graph.macs

    @property
    def is_sampled(self) -> bool:
        """Whether only a part is computed."""
        return self.pieces[0].macs < self.macs


def seven_loops(block: SeparableBlock, pixel: Pair, channels: int) -> Run:
    """The standard convolution of one pixel and its first channels, as it is defined: in Python, on lists."""
    kernel = block.standard.params[f"{block.convolution}/kernel"][..., :channels]
    x, zeros = window_of(block, pixel)
    w, b, stride = kernel.tolist(), [0.0] * channels, block.stride

    def run() -> Array:
        y = plainly.convolution(x, w, b, stride, zeros)
        return finish(block.standard, block.convolution, np.array([y]))  # (1, 1, 1, channels)

    return run


def apart(block: SeparableBlock, pixel: Pair) -> Run:
    """The depthwise, then the pointwise convolution of one pixel: in Python, on lists."""
    x, zeros = window_of(block, pixel)
    w, m, stride = filters(block).tolist(), mixing(block).tolist(), block.stride

    def run() -> Array:
        y = finish(block.separable, block.depthwise, np.array([plainly.depthwise_conv(x, w, stride, zeros)]))
        return finish(block.separable, block.pointwise, np.array([plainly.pointwise_conv(y[0].tolist(), m)]))

    return run


def shifted_copies(block: SeparableBlock) -> Run:
    """K * K shifted views, each multiplied with one tap, by NumPy; one matrix product, by BLAS."""
    w, m, stride, zeros = filters(block)[..., None], mixing(block), block.stride, block.zeros

    def run() -> Array:
        y = finish(block.separable, block.depthwise, depthwise_conv2d(block.x, w, stride=stride, padding=zeros))
        return finish(block.separable, block.pointwise, pointwise_conv2d(y, m))

    return run


def standard_shifted_copies(block: SeparableBlock) -> Run:
    """The standard convolution by NumPy: a matrix product per tap."""
    w = block.standard.params[f"{block.convolution}/kernel"]

    def run() -> Array:
        y = conv2d(block.x, w, stride=block.stride, padding=block.zeros)
        return finish(block.standard, block.convolution, y)

    return run


@njit
def textbook_depthwise(x, w, stride, y):  # type: ignore[no-untyped-def]
    """y (H, W, C) += depthwise convolution of x, padded, with w (K, K, C): the taps innermost."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            for c in range(y.shape[2]):
                for u in range(w.shape[0]):
                    for v in range(w.shape[1]):
                        y[i, j, c] += x[i * stride + u, j * stride + v, c] * w[u, v, c]


@njit
def textbook_pointwise(A, B, C):  # type: ignore[no-untyped-def]
    """C (M, N) += A (M, K) @ B (K, N) in the order m, n, k: the innermost loop strides down a column of B."""
    for m in range(C.shape[0]):
        for n in range(C.shape[1]):
            for k in range(A.shape[1]):
                C[m, n] += A[m, k] * B[k, n]


def compiled_loops(block: SeparableBlock, depthwise: Callable[..., None], pointwise: Callable[..., None]) -> Run:
    """Loops compiled by Numba; batch normalization and activation follow, by NumPy."""
    w, m, stride, (H, W, N) = filters(block), mixing(block), block.stride, block.output_shape

    def run() -> Array:
        y = np.zeros((1, H, W, w.shape[2]), np.float32)
        depthwise(zero_pad(block.x, block.zeros)[0], w, stride, y[0])
        y = finish(block.separable, block.depthwise, y)
        z = np.zeros((1, H, W, N), np.float32)
        pointwise(y.reshape(H * W, -1), m, z.reshape(H * W, N))
        return finish(block.separable, block.pointwise, z)

    return run


def standard_compiled_loops(block: SeparableBlock) -> Run:
    """The standard convolution in loops compiled by Numba."""
    w = block.standard.params[f"{block.convolution}/kernel"]

    def run() -> Array:
        y = np.zeros((1, *block.output_shape), np.float32)
        loops.convolution(zero_pad(block.x, block.zeros)[0], w, block.stride, y[0])
        return finish(block.standard, block.convolution, y)

    return run


def folded_loops(block: SeparableBlock, pointwise: Callable[..., None]) -> Run:
    """Loops compiled by Numba, with the batch normalization folded into weights and biases, from which sums start."""
    _, first, second, _ = fuse(block.separable.graph, block.separable.params)
    assert isinstance(first, Depthwise)
    assert isinstance(second, Conv)
    w, m, stride, (H, W, N) = first.kernel, second.kernel[0, 0], block.stride, block.output_shape
    biases = [op.bias.astype(np.float32) for op in (first, second)]

    def run() -> Array:
        y = np.tile(biases[0], (H, W, 1))  # (H, W, C)
        loops.depthwise(zero_pad(block.x, block.zeros)[0], w, stride, y)
        A = ACTIVATIONS[first.activation](y).reshape(H * W, -1)
        z = np.empty((H * W, N), np.float32)
        pointwise(A, m, biases[1], z)
        return ACTIVATIONS[second.activation](z).reshape(1, H, W, N)

    return run


def plain_product(A: Array, B: Array, bias: Array, C: Array) -> None:
    """C (M, N) = A @ B + bias in plain loops."""
    C[:] = bias
    loops.pointwise(A, B, C)


def blocked_product(A: Array, B: Array, bias: Array, C: Array) -> None:
    """C (M, N) = A @ B + bias in tiles of the size that the engine would take on this CPU."""
    target = host_target()
    blocked.pointwise(A, B, bias, C, tile_rows(len(A), target.rows), target.panel * target.width)


def engine(block: SeparableBlock, plans: Sequence[Plan], threads: int) -> Run:
    """The engine's plans, one after the other."""
    for plan in plans:
        plan.compile_kernels()

    def run() -> Array:
        y = block.x
        for plan in plans:
            (y,) = plan.outputs(y, threads)
        return y

    return run


def layer_plans(block: SeparableBlock) -> list[Plan]:
    """A plan for the depthwise, and one for the pointwise convolution, each with what follows it."""
    layers = block.separable.graph.layers
    cut = layers.index(block.separable.graph[block.pointwise])
    return [plan_of(block.separable.part(part)) for part in (layers[1:cut], layers[cut:])]


def plan_of(work: Work) -> Plan:
    """The engine's plan."""
    return compile_graph(work.graph, work.params)


def finish(work: Work, name: str, y: Array) -> Array:
    """Bias, batch normalization and activation after the sums y (1, H, W, C) of a layer, or of its first C channels."""
    C = y.shape[-1]
    layers = work.graph.layers
    kernel_layer = work.graph[name]
    assert isinstance(kernel_layer, KernelLayer)
    after = layers.index(kernel_layer)
    bias = work.params.get(f"{name}/bias")
    y = add_bias(y, None if bias is None else bias[:C])
    y = ACTIVATIONS[kernel_layer.activation](y)
    for layer in takewhile(lambda layer: isinstance(layer, BatchNormalization | Activation), layers[after + 1 :]):
        arrays = {array: values[:C] for array, values in work.graph.arrays_of(layer, work.params).items()}
        y = layer.apply(arrays, y)
    return y


def filters(block: SeparableBlock) -> Array:
    """(K_h, K_w, C) filters of the depthwise convolution."""
    return block.separable.params[f"{block.depthwise}/kernel"][..., 0]


def mixing(block: SeparableBlock) -> Array:
    """(C, N) weights of the pointwise convolution."""
    return np.asarray(block.separable.params[f"{block.pointwise}/kernel"][0, 0])


def window_of(block: SeparableBlock, pixel: Pair) -> tuple[list[Any], tuple[Pair, Pair]]:
    """The input under the kernel at one output pixel as nested lists, and the zeros around that part of it."""
    ranges, zeros = [], []
    for place, K, size, (before, _) in zip(
        pixel, block.filter.kernel_size, block.x.shape[1:3], block.zeros, strict=True
    ):
        first = place * block.stride - before
        ranges.append(slice(max(first, 0), min(first + K, size)))
        zeros.append((max(-first, 0), max(first + K - size, 0)))
    return block.x[0][tuple(ranges)].tolist(), (zeros[0], zeros[1])
