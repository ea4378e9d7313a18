"""Preprocessing: from an image, whatever its source, to the input of a network.

    decode   any image that Pillow reads  ->  (H, W, 3) uint8, RGB
    resize   (H, W, 3), any size          ->  (height, width, 3), the network's input size
    scale    pixels in 0..255             ->  x * scale + offset, float32: [-1, 1] for V1 and V2; V3 does it itself

Networks here always take three channels: a gray image has the same value in all three.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npmobilenet.errors import ImageError, ShapeError
from npmobilenet.models.image_file import Source, upright_rgb
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    AveragePooling2D,
    Concatenate,
    Dropout,
    Flatten,
    MaxPooling2D,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.reference.normalization import rescale
from npmobilenet.types import Array

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
ImageLike: TypeAlias = "Array | Source"
ImagesLike: TypeAlias = "ImageLike | Sequence[ImageLike]"

PLAUSIBLE = 255.0  # largest magnitude of a network's rescaled pixels: 0..255 unchanged
CROP = 0.875  # fraction of the short side that is kept: 224 of 256

KEEPS_PIXELS = (AveragePooling2D, Concatenate, Dropout, Flatten, MaxPooling2D, Reshape, ZeroPadding2D)


@dataclass(frozen=True)
class Scaling:
    """Map from pixels in 0..255 to the network's input: x * scale + offset, with numbers or one value per channel."""

    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0

    @staticmethod
    def normalizing(mean: Sequence[float], std: Sequence[float]) -> "Scaling":
        """PyTorch's: pixels / 255, minus a mean and divided by a standard deviation per channel."""
        if len({*mean}) == len({*std}) == 1:
            return Scaling(1 / (255 * std[0]), -mean[0] / std[0])
        return Scaling(tuple(1 / (255 * s) for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True)))

    @property
    def per_channel(self) -> bool:
        """Whether channels are scaled differently."""
        return isinstance(self.scale, tuple) or isinstance(self.offset, tuple)

    def apply(self, pixels: Array) -> Array:
        """Pixels (..., C) scaled, in their dtype."""
        return rescale(pixels, self.scale, self.offset)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Scaling":
        """The scaling of a document {"scale", "offset"}.

        Raises:
            TypeError, ValueError: it is no such document.
        """
        return Scaling(**{name: tuple(map(float, v)) if isinstance(v, list) else v for name, v in document.items()})


RAW = Scaling()
"""0..255 unchanged: V3 with its preprocessing inside."""
UNIT = Scaling(1 / 255)
"""[0, 1]."""
SYMMETRIC = Scaling(1 / 127.5, -1.0)
"""[-1, 1]: V1 and V2."""


def choose_scaling(graph: Graph) -> Scaling:
    """Scaling of a network's input where it is not specified.

    `RAW` for a network that rescales its pixels before it computes anything with them, wherever the Rescaling layers
    are: padding, pooling, concatenation and reshaping before them pass pixels on. `UNIT` if they would map pixels in
    0..255 beyond `PLAUSIBLE`, as x * 2 - 1 does, which is for pixels in 0..1. Any other network is taken for a
    MobileNet, whose input is `SYMMETRIC`.
    """
    raw = {graph.layers[0].name}
    passed_on = {graph.layers[0].name: RAW}  # how pixels arrive at the layers that have only moved or rescaled them
    for layer in graph.layers[1:]:
        sources = [passed_on[name] for name in layer.inputs if name in passed_on]
        if not sources:
            continue
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
    scale, offset = np.multiply(before.scale, layer.scale), np.multiply(before.offset, layer.scale) + layer.offset
    return Scaling(float(scale), float(offset))


def _is_implausible(scaling: Scaling) -> bool:
    """Whether it maps pixels in 0..255 to values that no network is trained on."""
    return bool(max(abs(scaling.apply(np.array([0.0, 255.0])))) > PLAUSIBLE)


def decode(source: Source) -> Pixels:
    """Decode an image to 8-bit RGB, upright.

    - The EXIF orientation is applied, as image viewers do. (Keras's `load_img` does not.)
    - Transparency is dropped and the color below it used; nothing is composited. As `load_img`.
    - 16-bit gray is scaled, round(v / 257). `load_img` clips it, so that nearly all of it turns white. 16-bit RGB comes
      from Pillow as the high bytes. 32-bit integers are treated as 16-bit numbers if all of them are in that range.
    - Palette, gray and CMYK become RGB; color profiles are ignored. Of an animation, the first frame is decoded.

    Args:
        source: path, contents of a file as bytes, binary file object, or Pillow image (its current frame).

    Returns:
        (H, W, 3) RGB.

    Raises:
        ImageError: the file does not exist, is not an image in one of the `FORMATS`, is corrupt or truncated, has more
            than `MAX_PIXELS` pixels, or holds numbers of unknown range (32-bit, floating point).
    """
    with upright_rgb(source) as image:
        return np.array(image)


def resize_crop(image: Pixels, height: int, width: int) -> Pixels:
    """Center crop: scale the short side to the target / 0.875 and cut the target out of the center.

    The aspect ratio is kept. An image that already has the target's size is returned unchanged: it has been cropped
    before.

    Bilinear; where the image shrinks, the filter grows with it (Pillow's, antialiased). The scaled image is never
    materialized: the output samples the central box of the input that it covers, which is equivalent, needs no rounding
    of the scaled size and no memory for it.

        box = 0.875 * the largest height : width rectangle that fits into (H, W), centered

    Args:
        image: (H, W, 3) RGB.
        height: target height, in pixels.
        width: target width, in pixels.

    Returns:
        (height, width, 3).

    Raises:
        ShapeError: image is not (H, W, 3) uint8, or the target is empty.

    Source: TF-Slim's evaluation preprocessing keeps the central 0.875; resizing to 256 and cropping 224 is the same.
    """
    return np.array(_crop(_checked_image("resize_crop", image, height, width), height, width))


def resize_keras(image: Pixels, height: int, width: int) -> Pixels:
    """Stretch to the target, nearest neighbor: Keras's `load_img(target_size=...)`, which ignores the aspect ratio.

    It reproduces Keras's numbers.

    Args:
        image: (H, W, 3) RGB.
        height: target height, in pixels.
        width: target width, in pixels.

    Returns:
        (height, width, 3).

    Raises:
        ShapeError: image is not (H, W, 3) uint8, or the target is empty.

    Source: keras.utils.load_img(path, target_size=(height, width)).
    """
    return np.array(_stretch(_checked_image("resize_keras", image, height, width), height, width))


RESIZES: dict[str, Callable[[Pixels, int, int], Pixels]] = {"crop": resize_crop, "keras": resize_keras}


def prepare(source: Source, height: int, width: int, resize: str = "crop", *, draft: bool = False) -> Pixels:
    """Decode an image and resize it to the network's input size, without a copy of the decoded image in between.

    Args:
        source: path, bytes, binary file object or Pillow image; see `decode`.
        height: target height, in pixels.
        width: target width, in pixels.
        resize: a name in `RESIZES`: "crop" keeps the aspect ratio, "keras" stretches as Keras's `load_img` does.
        draft: with "crop", let the decoder of a large JPEG file scale it down by 2, 4 or 8 as it decodes, never below
            the target: many times as fast, but not bit-exact with the exact resize. Other images are decoded as usual.

    Returns:
        (height, width, 3) RGB; bit-exact with `RESIZES[resize](decode(source), height, width)`, except for a draft.

    Raises:
        ImageError: see `decode` and `check_resize`.
        ShapeError: the target is empty.
    """
    check_resize(resize, draft)
    _check_target("prepare", height, width)
    before_decoding = partial(_scale_in_decoder, height=height, width=width) if draft else None
    with upright_rgb(source, before_decoding) as image:
        return np.array((_crop if resize == "crop" else _stretch)(image, height, width))


def check_resize(resize: str, draft: bool = False) -> None:
    """Check the name of a resize, and that it supports drafts if one is requested.

    Raises:
        ImageError: it is unknown, or does not.
    """
    if resize not in RESIZES:
        raise ImageError(f"unknown resize '{resize}'; choose one of {', '.join(RESIZES)}")
    if draft and resize != "crop":
        raise ImageError(f"resize '{resize}' is exact and does not support drafts; use 'crop'")


def network_pixels(image: ImageLike, graph: Graph, resize: str = "crop", *, draft: bool = False) -> Array:
    """One image as pixels in 0..255, in the network's input size.

    Args:
        image: array (H, W, C) of uint8, or of other numbers in 0..255 if it has the network's size; or see `prepare`.
        graph: the network.
        resize, draft: as `prepare`.

    Returns:
        (H, W, C) of the network: uint8, or the dtype of the array.

    Raises:
        ImageError: as `prepare`; or numbers outside 0..255, or clearly scaled already.
        ShapeError: an array does not fit.
    """
    name, (H, W, C) = graph.name, graph.input_shape
    if not isinstance(image, np.ndarray):
        if C != 3:
            raise ShapeError(f"{name}: an image has 3 channels, the network takes {C}; pass arrays")
        return prepare(image, H, W, resize, draft=draft)
    if image.ndim != 3 or image.shape[2] != C:
        raise ShapeError(f"{name}: expected pixels (N, H, W, {C}) or (H, W, {C}), got {image.shape}")
    if image.dtype != np.uint8:
        _check_pixel_range(image)
    if image.shape[:2] == (H, W):
        return image
    if image.dtype != np.uint8 or C != 3:
        raise ShapeError(
            f"{name}: only uint8 RGB images are resized; expected {image.dtype} pixels ({H}, {W}, {C}), "
            f"got {image.shape}"
        )
    return RESIZES[resize](image, H, W)


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


def _crop(image: "Image.Image", height: int, width: int) -> "Image.Image":
    """`resize_crop` from Pillow image to Pillow image."""
    from PIL import Image

    if image.size == (width, height):
        return image
    scale = CROP * min(image.height / height, image.width / width)  # input pixels per output pixel
    top, left = (image.height - scale * height) / 2, (image.width - scale * width) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _stretch(image: "Image.Image", height: int, width: int) -> "Image.Image":
    """`resize_keras` from Pillow image to Pillow image."""
    from PIL import Image

    return image.resize((width, height), Image.Resampling.NEAREST)


def _scale_in_decoder(image: "Image.Image", height: int, width: int) -> None:
    """Have a JPEG file decoded at 1/2, 1/4 or 1/8 of its size if what `_crop` keeps is still large enough.

    The image may still be rotated, so both sides of the target are taken to be the longer one.
    """
    scale = CROP * min(image.size) / max(height, width)
    if scale > 1:
        image.draft(None, (ceil(image.width / scale), ceil(image.height / scale)))


def _checked_image(where: str, image: Pixels, height: int, width: int) -> "Image.Image":
    """Convert an array to a Pillow image, for one of its resizes."""
    from PIL import Image

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ShapeError(f"{where}: expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}")
    _check_target(where, height, width)
    return Image.fromarray(image)


def _check_target(where: str, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ShapeError(f"{where}: expected a target of at least 1 x 1 pixels, got {height} x {width}")
