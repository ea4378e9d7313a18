"""Preprocessing: from an image, whatever its source, to the input of a network.

    decode   any image that Pillow reads  ->  (H, W, 3) uint8, RGB
    resize   (H, W, 3), any size          ->  (height, width, 3), the network's input size
    scale    pixels in 0..255             ->  x * scale + offset, float32: [-1, 1] for V1 and V2; V3 does it itself

A network of three channels takes a gray image with the same value in all three; one of one channel takes the
luminance of a color image, as Keras's `load_img(color_mode="grayscale")`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from npmobilenet.errors import ArgumentError, ImageError, ShapeError
from npmobilenet.models.image_file import GRAY, RGB, WHITE, Source, check_color, upright
from npmobilenet.models.interface import Interface
from npmobilenet.models.resizing import (
    RESIZES,
    check_resize,
    check_target,
    resized_image,
    scale_in_decoder,
)
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    AveragePooling2D,
    ChannelRescaling,
    Concatenate,
    Dropout,
    Flatten,
    MaxPooling2D,
    Normalization,
    Rescaling,
    Reshape,
    Resizing,
    ZeroPadding2D,
)
from npmobilenet.types import Array

Pixels = NDArray[np.uint8]
ImageLike: TypeAlias = "Array | Source"
ImagesLike: TypeAlias = "ImageLike | Iterable[ImageLike]"

SLACK = 0.01  # of the range: x / 127 - 1, of Teachable Machine's first scripts, reaches 1.008
PLAUSIBLE = 255.0  # largest magnitude of a network's rescaled pixels: 0..255 unchanged

KEEPS_PIXELS = (AveragePooling2D, Concatenate, Dropout, Flatten, MaxPooling2D, Reshape, Resizing, ZeroPadding2D)


@dataclass(frozen=True)
class Scaling:
    """Map from pixels in 0..255 to the network's input: x * scale + offset.

    Attributes:
        scale, offset: one number, or one per channel.

    Raises:
        ArgumentError: a number is infinite or NaN.
    """

    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        for name in ("scale", "offset"):
            value = getattr(self, name)
            if np.ndim(value):
                object.__setattr__(self, name, tuple(map(float, value)))  # a list of a JSON document
            if not np.isfinite(np.asarray(value, np.float64)).all():
                raise ArgumentError(f"scaling: expected finite numbers, got {name} {value}")

    @staticmethod
    def normalizing(mean: Sequence[float], std: Sequence[float]) -> "Scaling":
        """PyTorch's: pixels / 255, minus a mean and divided by a standard deviation per channel."""
        if len({*mean}) == len({*std}) == 1:
            return Scaling(1 / (255 * std[0]), -mean[0] / std[0])
        return Scaling(tuple(1 / (255 * s) for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True)))

    def check(self, network: Interface) -> None:
        """Raise ShapeError if it is by channel, and the network has another number of channels."""
        lengths = {len(value) for value in (self.scale, self.offset) if isinstance(value, tuple)}
        C = network.input_shape[-1]
        if lengths - {C}:
            raise ShapeError(f"{network.name}: expected a scaling of {C} channels, got {max(lengths)}")

    def apply(self, pixels: Array) -> Array:
        """Pixels (..., C) in 0..255 mapped to the network's input range, in their dtype."""
        scale, offset = (
            np.asarray(value, pixels.dtype) if isinstance(value, tuple) else value
            for value in (self.scale, self.offset)
        )
        return np.asarray(pixels * scale + offset)

    def limits(self) -> tuple[float, float]:
        """Smallest and largest input that a pixel in 0..255 is mapped to."""
        ends = np.concatenate([np.ravel(self.offset), np.ravel(255 * np.asarray(self.scale) + self.offset)])
        return float(ends.min()), float(ends.max())


RAW = Scaling()
"""0..255 unchanged: V3 with its preprocessing inside."""
UNIT = Scaling(1 / 255)
"""[0, 1]."""
SYMMETRIC = Scaling(1 / 127.5, -1.0)
"""[-1, 1]: V1 and V2."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TORCH = Scaling.normalizing(IMAGENET_MEAN, IMAGENET_STD)
"""ImageNet's mean and standard deviation of each channel, as torchvision normalizes."""


def choose_scaling(graph: Graph) -> Scaling:
    """Scaling of a network's input where it is not specified.

    `RAW` for a network that rescales its pixels, or normalizes them channel by channel, before it computes anything
    with them, wherever these layers are: padding, pooling, resizing, concatenation and reshaping before them pass
    pixels on. `UNIT` if Rescaling layers would map pixels in 0..255 beyond `PLAUSIBLE`, as x * 2 - 1 does, which is
    for pixels in 0..1. Any other network is taken for a MobileNet, whose input is `SYMMETRIC`.
    """
    raw = {graph.layers[0].name}
    passed_on = {graph.layers[0].name: RAW}  # how pixels arrive at the layers that have only moved or rescaled them
    for layer in graph.layers[1:]:
        sources = [passed_on[name] for name in layer.inputs if name in passed_on]
        if not sources:
            continue
        if isinstance(layer, Normalization | ChannelRescaling):
            return RAW
        if isinstance(layer, Rescaling):
            passed_on[layer.name] = _rescaled(sources[0], layer)
        elif isinstance(layer, KEEPS_PIXELS) or (isinstance(layer, Activation) and layer.activation == "linear"):
            passed_on[layer.name] = sources[0]
            raw |= {layer.name} if raw.intersection(layer.inputs) else set()
        elif raw.intersection(layer.inputs):
            return SYMMETRIC
        elif any(map(_is_implausible, sources)):
            return UNIT
    return RAW if passed_on.keys() - raw else SYMMETRIC


def _rescaled(before: Scaling, layer: Rescaling) -> Scaling:
    scale, offset = np.asarray(before.scale) * layer.scale, np.asarray(before.offset) * layer.scale + layer.offset
    return Scaling(scale.tolist(), offset.tolist())


def _is_implausible(scaling: Scaling) -> bool:
    """Whether it maps pixels in 0..255 to values that no network is trained on."""
    return max(map(abs, scaling.limits())) > PLAUSIBLE


@dataclass(frozen=True)
class Reading:
    """How images are read; the fields are arguments of `prepare`.

    Raises:
        ImageError: the resize is unknown or does not support drafts.
    """

    resize: str = "crop"
    draft: bool = False
    transparent_as: str | None = WHITE

    def __post_init__(self) -> None:
        check_resize(self.resize, self.draft)

    def check(self) -> None:
        """Check the color.

        Raises:
            ImageError: Pillow does not know it.
        """
        if self.transparent_as is not None:
            check_color(self.transparent_as)


def decode(source: Source, *, channels: int = 3, transparent_as: str | None = WHITE) -> Pixels:
    """Decode an image to 8-bit RGB or gray, upright.

    - The EXIF orientation is applied, as image viewers do. (Keras's `load_img` does not.)
    - 16-bit gray is scaled, round(v / 257). `load_img` clips it, so that nearly all of it turns white. 16-bit RGB comes
      from Pillow as the high bytes. 32-bit integers are treated as 16-bit numbers if all of them are in that range.
    - Palette, gray and CMYK become RGB, colors become their luminance for one channel; color profiles are ignored.
    - Of an animation, the first frame is decoded.

    Args:
        source: path, contents of a file as bytes, binary file object, or Pillow image (its current frame).
        channels: 3 for RGB, 1 for gray.
        transparent_as: color, as Pillow names them, on which transparent pixels are composited; None drops the
            transparency and uses the color below it, as `load_img`.

    Returns:
        (H, W, channels).

    Raises:
        ImageError: the file does not exist, is not an image in one of the `FORMATS`, is corrupt or truncated, has more
            than `MAX_PIXELS` pixels, or holds numbers of unknown range (32-bit, floating point).
    """
    with upright(source, _mode(channels), transparent_as) as image:
        pixels = np.array(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]


def prepare(
    source: Source,
    height: int,
    width: int,
    resize: str = "crop",
    *,
    draft: bool = False,
    channels: int = 3,
    transparent_as: str | None = WHITE,
) -> Array:
    """Decode an image and resize it to the network's input size, without a copy of the decoded image in between.

    Args:
        source: path, bytes, binary file object or Pillow image; see `decode`.
        height: target height, in pixels.
        width: target width, in pixels.
        resize: a name in `RESIZES`.
        draft: with "crop", let the decoder of a large JPEG file scale it down by 2, 4 or 8 as it decodes, never below
            the target: many times as fast, but not bit-exact with the exact resize. Other images are decoded as usual.
        channels: 3 for RGB, 1 for gray: the luminance that Pillow computes.
        transparent_as: as `decode`.

    Returns:
        (height, width, channels); bit-exact with `RESIZES[resize](decode(source), height, width)`, except for a draft.

    Raises:
        ImageError: see `decode` and `check_resize`.
        ShapeError: the target is empty.
    """
    check_resize(resize, draft)
    check_target(height, width)
    before_decoding = partial(scale_in_decoder, height=height, width=width) if draft else None
    with upright(source, _mode(channels), transparent_as, before_decoding) as image:
        return resized_image(image, height, width, resize)


def _mode(channels: int) -> str:
    return GRAY if channels == 1 else RGB


def network_pixels(
    image: ImageLike,
    network: Interface,
    how: "Reading | None" = None,
) -> Array:
    """One image as pixels in 0..255, in the network's input size.

    Args:
        image: array (H, W, C) of numbers in 0..255; or see `prepare`. A network of one channel also takes (H, W), and
            the luminance of uint8 RGB.
        network: the network.
        how: how it is read; None for the defaults.

    Returns:
        (H, W, C) of the network: uint8, or the dtype of the array, or float32.

    Raises:
        ImageError: as `prepare`; or numbers outside 0..255, or clearly scaled already.
        ShapeError: an array does not fit.
    """
    how = how or Reading()
    name, (H, W, C) = network.name, network.input_shape
    if not isinstance(image, np.ndarray):
        if C not in (1, 3):
            raise ShapeError(f"{name}: an image has 3 channels, the network takes {C}; pass arrays")
        return prepare(image, H, W, how.resize, draft=how.draft, channels=C, transparent_as=how.transparent_as)
    if C == 1:
        image = _gray(image)
    if image.ndim != 3 or image.shape[2] != C:
        is_first = image.ndim == 3 and image.shape[0] == C
        raise ShapeError(
            f"{name}: expected pixels (N, H, W, {C}) or (H, W, {C}), got {image.shape}"
            + ("; channels first? np.moveaxis(images, -3, -1) moves them last" if is_first else "")
        )
    if image.dtype != np.uint8:
        _check_pixel_range(image)
    if image.shape[:2] == (H, W):
        return image
    return RESIZES[how.resize](_as_uint8_if_whole(image), H, W)


def _gray(image: Array) -> Array:
    """Pixels of a gray network: (H, W) gets its axis of channels, uint8 RGB becomes its luminance."""
    from PIL import Image

    if image.ndim == 2:
        return image[..., None]
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    return image


def _as_uint8_if_whole(image: Array) -> Array:
    """Whole numbers in 0..255 as uint8, so that they are resized as the same pixels of a file; others as float32."""
    if image.dtype == np.uint8:
        return image
    pixels = image.astype(np.uint8)
    return pixels if np.array_equal(pixels, image) else image.astype(np.float32, copy=False)


def check_input_range(x: Array, scaling: Scaling) -> None:
    """Refuse a network's input that is not scaled as `scaling` does, as far as its values show it.

    Args:
        x: input of the network, (N, H, W, C).
        scaling: from pixels in 0..255 to that input.

    Raises:
        ImageError: values are outside the range by more than `SLACK`, or are far smaller than pixels in 0..255.
    """
    if x.size == 0 or x.dtype.kind != "f":
        return
    low, high = scaling.limits()
    smallest, largest = float(x.min()), float(x.max())
    slack = SLACK * (high - low)
    expected = f"expected input scaled to {low:g} to {high:g}, got {smallest:g} to {largest:g}"
    if not (smallest >= low - slack and largest <= high + slack):
        raise ImageError(f"{expected}; use model.predict for pixels in 0..255, or model.scale")
    if scaling == RAW and largest <= 1 and not np.isin(x, (0, 1)).all():
        raise ImageError(f"{expected}, which looks scaled already: this network rescales its pixels itself")


def _check_pixel_range(image: Array) -> None:
    """Refuse numbers outside 0..255, and those scaled already: scaled twice, they would be classified wrongly."""
    if image.dtype.kind not in "fiu":
        raise ImageError(f"expected pixels in 0..255, got dtype {image.dtype}")
    if image.size == 0:
        return
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 255):
        raise ImageError(
            f"expected pixels in 0..255, got {low:g} to {high:g}. If they are already scaled, call model.forward"
        )
    if high <= 1 and not np.isin(image, (0, 1)).all():
        raise ImageError(
            f"expected pixels in 0..255, got {low:g} to {high:g}, which look already scaled to [0, 1]. "
            "Multiply by 255, or scale them to the network's input range and call model.forward"
        )
