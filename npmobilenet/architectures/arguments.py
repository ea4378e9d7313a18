"""What the architectures' arguments have in common, and the check of their ranges."""

from npmobilenet.errors import ArgumentError
from npmobilenet.types import Pair

Resolution = int | Pair
"""Side of a square image in pixels, or (H, W)."""


def sides(resolution: Resolution) -> Pair:
    """(H, W) of a resolution, in pixels."""
    return (resolution, resolution) if isinstance(resolution, int) else resolution


OUTPUT_STRIDES = (8, 16, 32)
"""Sides of the image over sides of the last feature map; 32 is the papers' networks."""


class StridesToDilations:
    """Strides turned into dilations once the map is `output_stride` times smaller than the image.

    A layer that would shrink the map further gets stride 1 and keeps its dilation; in the layers after it the taps are
    farther apart by the stride that it lost, so that they see the same pixels. Weights keep their shapes and meaning.

    Args:
        output_stride: one of `OUTPUT_STRIDES`.

    Source: TF-Slim, `mobilenet_v1_base` and `mobilenet_base` (V2, V3), argument `output_stride`; the same in the
    TensorFlow Model Garden's `MobileNet`; Chen et al. 2017 (arXiv:1706.05587), section 3.1. torchvision's DeepLab
    dilates the layer that loses its stride as well.
    """

    def __init__(self, output_stride: int) -> None:
        self.output_stride = output_stride
        self._stride = self._dilation = 1

    def next(self, stride: int) -> Pair:
        """(Stride, dilation) of the next layer, whose stride in the paper's table is given."""
        if self._stride < self.output_stride:
            self._stride *= stride
            return stride, 1
        dilation = self._dilation
        self._dilation *= stride
        return 1, dilation

    @property
    def suffix(self) -> str:
        """What is added to the name of the network: nothing for the papers' networks."""
        return "" if self.output_stride == max(OUTPUT_STRIDES) else f"_os{self.output_stride}"


def check_arguments(
    network: str,
    alpha: float,
    resolution: Resolution,
    include_top: bool,
    classes: int,
    pooling: str | None,
    output_stride: int = 32,
) -> Pair:
    """Check the arguments that all architectures have.

    Args:
        network: name of the architecture, for the message.
        alpha, resolution, include_top, classes, pooling, output_stride: as for `mobilenet_v1`.

    Returns:
        (H, W) of the image, in pixels.

    Raises:
        ArgumentError: an argument is out of range.
    """
    H, W = sides(resolution)
    if not alpha > 0:
        raise ArgumentError(f"{network}: alpha, the width multiplier, must be > 0, got {alpha}")
    if min(H, W) < 32:
        raise ArgumentError(f"{network}: expected a resolution of at least 32 x 32 pixels, got {(H, W)}")
    if output_stride not in OUTPUT_STRIDES:
        choices = ", ".join(map(str, OUTPUT_STRIDES))
        raise ArgumentError(f"{network}: expected output_stride as one of {choices}, got {output_stride}")
    if classes < 1:
        raise ArgumentError(f"{network}: expected at least 1 class, got {classes}")
    if pooling not in (None, "avg", "max"):
        raise ArgumentError(f'{network}: pooling must be "avg", "max" or None, got {pooling!r}')
    if pooling and include_top:
        raise ArgumentError(f"{network}: pooling={pooling!r} replaces the classifier; set include_top=False")
    return H, W
