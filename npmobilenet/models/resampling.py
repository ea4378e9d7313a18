"""Resampling in fixed point: Pillow's filters to the byte, in an order of passes of our own.

A pass rounds to uint8, so the order of the two passes changes pixels by a step. Pillow's order depends on its version:
up to 12.2 horizontal first, since 13.0 as `vertical_first`. Here it is fixed, so that results stay when Pillow is
updated; `npmobilenet/page/js/images.js` computes the same bytes in a browser.

    weights   of output pixel i: f((k + 1/2 - center) / stretch) for the pixels k in reach, their sum made 1; in 2^-22
              center = from + (i + 1/2) * scale; scale = (to - from) / target; stretch = max(scale, 1)
    a pass    floor(sum of pixels * weights + 1/2), clipped to 0..255; of float32 pixels, nothing is rounded

`resample` is the definition, in NumPy. Decoded images take Pillow's compiled passes, one axis per call, as long as they
agree with the definition on a probe: NumPy takes four times as long for a photo, and a copy of it.
"""

from collections.abc import Callable
from functools import cache
from math import ceil, floor
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npmobilenet.types import Array

if TYPE_CHECKING:
    from PIL import Image

PRECISION = 22  # bits after the point of a filter's weights
PROBE = (61, 47, 3)  # pixels on which Pillow has to agree

Box: TypeAlias = tuple[float, float, float, float]
"""left, top, right, bottom, in pixels."""
Floats: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = list[tuple[int, Floats]]
"""For each output pixel of an axis, the first pixel that it is made of, and the weights of it and the following."""


def _box(x: Floats) -> Floats:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: Floats) -> Floats:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _hamming(x: Floats) -> Floats:
    window = np.float64(np.float32(0.54)) + np.float64(np.float32(0.46)) * np.cos(np.pi * x)  # Pillow's constants
    return np.where(np.abs(x) < 1, np.sinc(x) * window, 0.0)


def _bicubic(x: Floats) -> Floats:
    a, t = -0.5, np.abs(x)
    near, far = ((a + 2) * t - (a + 3)) * t * t + 1, (((t - 5) * t + 8) * t - 4) * a
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def _lanczos(x: Floats) -> Floats:
    return np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0.0)


FILTERS: dict[str, tuple[float, Callable[[Floats], Floats]]] = {
    "box": (0.5, _box),
    "bilinear": (1.0, _bilinear),
    "hamming": (1.0, _hamming),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, _lanczos),
}
"""Half of each filter's width, in pixels, and the filter; "nearest" has no weights."""


def resample(image: Array, height: int, width: int, filter_: str, box: Box | None = None) -> Array:
    """Resize a box of an image.

    Args:
        image: (H, W, C) uint8 or float32.
        height: target height, in pixels.
        width: target width, in pixels.
        filter_: a name in `FILTERS`, or "nearest".
        box: part of the image, in pixels, rounded to float32 as Pillow does; None for all of it.

    Returns:
        (height, width, C) in the image's dtype.
    """
    H, W, _ = image.shape
    left, top, right, bottom = np.array(box or (0, 0, W, H), np.float32)
    if filter_ == "nearest":
        return image[_nearest(top, bottom, height)[:, None], _nearest(left, right, width)]
    rows = filter_weights(H, top, bottom, height, filter_)
    columns = filter_weights(W, left, right, width, filter_)
    if vertical_first(H, W, height, width):
        return _across(_down(image, rows), columns)
    first, last = rows[0][0], rows[-1][0] + len(rows[-1][1])
    needed = _across(image[first:last], columns)
    return _down(needed, [(row - first, weights) for row, weights in rows])


def vertical_first(H: int, W: int, height: int, width: int) -> bool:
    """Whether the vertical pass goes first: where more than two rows are removed per column that is removed."""
    return H - height > max(2 * (W - width), 0)


def filter_weights(size: int, start: float, end: float, target: int, filter_: str) -> Weights:
    """Weights of one axis of `size` pixels, of which those from `start` to `end` become `target`, in units of 2^-22."""
    support, function = FILTERS[filter_]
    scale = float(end - start) / target
    stretch = max(scale, 1.0)  # a filter grows where the image shrinks
    center = float(start) + (np.arange(target) + 0.5) * scale  # (target,)
    first = np.maximum((center - support * stretch + 0.5).astype(np.intp), 0)
    count = np.minimum((center + support * stretch + 0.5).astype(np.intp), size) - first
    taps = np.arange(count.max())  # (K,)
    distance = (taps + first[:, None] - center[:, None] + 0.5) * (1 / stretch)  # (target, K)
    weights = np.where(taps < count[:, None], function(distance), 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # cumsum adds in order
    weights *= 2**PRECISION
    return [(int(i), of_pixel[:n]) for i, n, of_pixel in zip(first, count, weights, strict=True)]


def _nearest(start: float, end: float, target: int) -> NDArray[np.intp]:
    """Pixel of each of `target`: half a step, then step by step, each addition rounded."""
    steps = np.full(target, float(end - start) / target)
    steps[0] = float(start) + steps[0] * 0.5
    return np.cumsum(steps).astype(np.intp)


def _down(image: Array, rows: Weights) -> Array:
    """Vertical pass, (H, W, C) to (height, W, C). Sums of whole numbers are exact in float64, whatever their order."""
    lines = image.reshape(len(image), -1)
    sums = np.empty((len(rows), lines.shape[1]))
    whole = image.dtype == np.uint8
    for i, (first, weights) in enumerate(rows):
        rounded = np.trunc(weights + np.copysign(0.5, weights)) if whole else weights
        sums[i] = rounded @ lines[first : first + len(weights)].astype(np.float64)
    if whole:
        sums = np.clip(np.floor(sums / 2**PRECISION + 0.5), 0, 255)
    else:
        sums /= 2**PRECISION
    return sums.astype(image.dtype).reshape(len(rows), *image.shape[1:])


def _across(image: Array, columns: Weights) -> Array:
    """Horizontal pass, (H, W, C) to (H, width, C)."""
    return _down(np.ascontiguousarray(image.swapaxes(0, 1)), columns).swapaxes(0, 1)


def resample_image(
    image: "Image.Image", height: int, width: int, filter_: str, box: Box | None = None
) -> "Image.Image":
    """`resample` of a Pillow image in mode RGB, L or F."""
    from PIL import Image

    if pillow_agrees(filter_):
        return _by_pillow(image, height, width, filter_, box)
    pixels = np.asarray(image)
    resized = resample(pixels if pixels.ndim == 3 else pixels[..., None], height, width, filter_, box)
    return Image.fromarray(resized if pixels.ndim == 3 else resized[..., 0])


@cache
def pillow_agrees(filter_: str) -> bool:
    """Whether the installed Pillow's passes give the definition's bytes, shrinking and enlarging a box of noise."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, PROBE, dtype=np.uint8)
    height, width, box = 40, 90, (3.3, 2.7, 44.1, 60.2)
    found = np.asarray(_by_pillow(Image.fromarray(noise), height, width, filter_, box))
    return np.array_equal(found, resample(noise, height, width, filter_, box))


def _by_pillow(image: "Image.Image", height: int, width: int, filter_: str, box: Box | None) -> "Image.Image":
    """One axis per call, so that the order is ours whatever Pillow's is."""
    from PIL import Image

    method = Image.Resampling[filter_.upper()]
    left, top, right, bottom = box or (0, 0, *image.size)
    if filter_ == "nearest":
        return image.resize((width, height), method, box)
    if vertical_first(image.height, image.width, height, width):
        shorter = image.resize((image.width, height), method, (0, top, image.width, bottom))
        return shorter.resize((width, height), method, (left, 0, right, height))
    first, last = _reached(image.height, top, bottom, height, filter_)
    narrower = image.resize((width, last - first), method, (left, first, right, last))
    if last - first < image.height:  # rows keep their numbers: counted anew, centers would be rounded otherwise
        needed, narrower = narrower, Image.new(image.mode, (width, image.height))
        narrower.paste(needed, (0, first))
    return narrower.resize((width, height), method, (0, top, width, bottom))


def _reached(size: int, start: float, end: float, target: int, filter_: str) -> tuple[int, int]:
    """First pixel that the filter reaches, or one before, and one after the last."""
    reach = FILTERS[filter_][0] * max((end - start) / target, 1) + 1
    return max(floor(start - reach), 0), min(ceil(end + reach), size)
