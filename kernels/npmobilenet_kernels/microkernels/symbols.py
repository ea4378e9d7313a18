"""Symbols of the micro-kernels, and the choice of the one that fits a layer best."""

from __future__ import annotations

from npmobilenet_kernels.runtime.cpu import CpuTarget

DEPTHWISE_PIXELS = (8, 7, 4)  # output pixels per depthwise tile: multiples of 7 and of powers of two are common widths
DEPTHWISE_PADDINGS = {  # columns of padding on the left and right, by size and stride: SAME for odd and even widths
    (3, 1): [(1, 1)],
    (3, 2): [(0, 1), (1, 1)],
    (5, 1): [(2, 2)],
    (5, 2): [(1, 2), (2, 2)],
}
STEM_CHANNELS = 3  # the direct convolution that has a micro-kernel: of interleaved RGB, with stride 2
STEM_PITCH = 2 * STEM_CHANNELS * 4  # bytes from the input of one output pixel to that of the next


def gemm_name(MR: int, vectors: int, target: CpuTarget, *, stem: bool = False, half: bool = False) -> str:
    """Symbol of a tile of the matrix product; half: whether the last of its vectors is half as wide."""
    return f"npmobilenet_{'stem' if stem else 'gemm'}_{MR}x{vectors}{'half' if half else ''}x{target.width}"


def gemv_name(streams: int, target: CpuTarget) -> str:
    """Symbol of a dense layer's micro-kernel."""
    return f"npmobilenet_gemv_{streams}x{target.width}"


def depthwise_name(size: int, stride: int, target: CpuTarget, pixels: int, left: int, right: int) -> str:
    """Symbol of the depthwise row with `pixels` outputs per tile and this padding."""
    return f"npmobilenet_depthwise_{size}x{size}s{stride}_{pixels}_{left}_{right}x{target.width}"


def depthwise_choice(
    sides: tuple[int, ...], stride: int, dilation: int, left: int, right: int, W: int, target: CpuTarget
) -> str:
    """Symbol of the best depthwise row.

    Args:
        sides, stride, dilation: of the filter.
        left: columns of padding on the left; right: columns of padding on the right that the last output reads.
        W: output columns.
    """
    padded = max(-(-left // stride), -(-right // stride))  # outputs at an end that read padding
    fitting = [pixels for pixels in DEPTHWISE_PIXELS if pixels == W or pixels + padded <= W]
    size = sides[0]
    if (
        dilation > 1
        or sides != (size, size)
        or (left, right) not in DEPTHWISE_PADDINGS.get((size, stride), [])
        or not fitting
    ):
        return simple_name("depthwise_row", target)
    pixels = min(fitting, key=lambda pixels: -(-W // pixels) * (pixels + 1))
    return depthwise_name(size, stride, target, pixels, left, right)


def simple_name(operation: str, target: CpuTarget) -> str:
    """Symbol of a micro-kernel without variants: pool, largest, scale_weights, add_pixels, softmax, ..."""
    return f"npmobilenet_{operation}_x{target.width}"
