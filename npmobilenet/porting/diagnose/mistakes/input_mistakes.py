"""Mistakes before the first layer: range, order of channels, orientation, resize."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from npmobilenet.analysis.segments import Move, Segment
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.porting.diagnose.mistakes.variants import Altered
from npmobilenet.reference.rounding import gamma
from npmobilenet.types import Array

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])
CAFFE_MEAN = np.array([123.68, 116.779, 103.939])
CAFFE_SCALE = 0.017  # of MobileNet's Caffe port
RANGES_PER_RESIZE = 5  # ranges that are tried together with another resize: the first ones of `_ranges`
SCALING_ROUNDINGS = 6  # of any of these formulas, in any order of computation


@dataclass(frozen=True, eq=False)
class InputImage:
    """The image from which an input was made.

    Attributes:
        scaling: from pixels in 0..255 to the network's input.
        decoded: (H, W, 3) uint8 before resizing to the network's size, None if unknown.
    """

    scaling: Scaling
    decoded: Array | None = None


def other_inputs(segment: Segment, name: str, image: InputImage) -> Iterator[Altered]:
    """The segment with every other input that could have been made from the image.

    Args:
        segment: one that starts from the network's input (N, H, W, C).
        name: of the graph's input.
        image: source of the input.
    """
    x = segment.inputs[name]
    pixels = (x - np.asarray(image.scaling.offset)) / np.asarray(image.scaling.scale)  # (N, H, W, C) in 0..255
    seen = {hash(np.round(x, 6).tobytes())}
    for cause, what, new, offset in _inputs(x, pixels, image):
        digest = hash(np.round(new, 6).tobytes())
        if new.shape == x.shape and digest not in seen:
            seen.add(digest)
            error = gamma(SCALING_ROUNDINGS) * (np.abs(new - offset) + np.abs(offset))
            inputs, errors = {**segment.inputs, name: new}, {**segment.errors, name: error}
            yield Altered(cause, what, (name,), replace(segment, inputs=inputs, errors=errors, parent=segment))


def _inputs(x: Array, pixels: Array, image: InputImage) -> Iterator[tuple[str, str, Array, Array]]:
    """(cause, description, input, its value for black)."""
    is_rgb = x.shape[-1] == 3
    channels: list[tuple[str, str, Move]] = [("", "", lambda x: x)]
    if is_rgb:
        channels.append(("channel-order", "channels in the order BGR", lambda x: x[..., ::-1]))
    black = np.zeros(x.shape[-1])
    for resize_cause, resize, p in (("", "", pixels), *_resized(pixels, image)):
        ranges = _ranges(image.scaling, is_rgb)
        for range_cause, scaled, scale in islice(ranges, RANGES_PER_RESIZE) if resize else ranges:
            for order_cause, order, move in channels:
                causes = [cause for cause in (range_cause, order_cause, resize_cause) if cause]
                if causes:
                    what = " and ".join(filter(None, (scaled, order, resize)))
                    yield causes[0], what, move(scale(p)), move(scale(black))
    for what, new in _turned(x):
        yield "input-layout", what, new, black + np.asarray(image.scaling.offset)


def _ranges(scaling: Scaling, is_rgb: bool) -> Iterator[tuple[str, str, Move]]:
    """(cause, description, scaling of pixels): the network's own range first, then the others."""
    cause = "input-range"
    yield "", "", scaling.apply
    yield cause, "pixels scaled to [0, 1]", lambda p: p / 255
    yield cause, "pixels scaled to [-1, 1]", lambda p: p / 127.5 - 1
    yield cause, "pixels left in 0..255", lambda p: p
    if is_rgb:
        what = "pixels scaled by ImageNet's mean and standard deviation"
        yield cause, what, lambda p: (p / 255 - IMAGENET_MEAN) / IMAGENET_STD
        yield cause, "Caffe's mean subtracted", lambda p: p - CAFFE_MEAN
        yield cause, "Caffe's mean subtracted, times 0.017", lambda p: (p - CAFFE_MEAN) * CAFFE_SCALE
    yield cause, "pixels scaled by (p - 128) / 128", lambda p: (p - 128) / 128
    yield cause, "pixels scaled by (p - 127) / 128", lambda p: (p - 127) / 128
    yield cause, "pixels scaled to [-0.5, 0.5]", lambda p: p / 255 - 0.5
    yield cause, "pixels scaled by p / 127 - 1", lambda p: p / 127 - 1
    yield cause, "pixels scaled by 1 / 256", lambda p: p / 256
    yield cause, "scaled twice", lambda p: scaling.apply(scaling.apply(p))


def _turned(x: Array) -> Iterator[tuple[str, Array]]:
    N, H, W, C = x.shape
    yield "height and width of the input exchanged", x.transpose(0, 2, 1, 3)
    yield "input upside down", x[:, ::-1]
    yield "input mirrored", x[:, :, ::-1]
    yield "input stored channels first, read channels last", x.transpose(0, 3, 1, 2).reshape(x.shape)
    yield "input stored channels last, read channels first", x.reshape(N, C, H, W).transpose(0, 2, 3, 1)


def _resized(pixels: Array, image: InputImage) -> Iterator[tuple[str, str, Array]]:
    """(cause, description, pixels (1, H, W, 3)): the image resized in other ways."""
    if image.decoded is None or len(pixels) != 1 or pixels.shape[-1] != 3:
        return
    from PIL import Image

    from npmobilenet.models.resizing import RESIZES

    H, W = pixels.shape[1:3]
    decoded = Image.fromarray(image.decoded)
    for name, resize in RESIZES.items():
        yield "resize", f"image resized by {name!r}", resize(image.decoded, H, W)[None].astype(np.float64)
    for filter_ in (
        Image.Resampling.BILINEAR,
        Image.Resampling.BICUBIC,
        Image.Resampling.LANCZOS,
        Image.Resampling.BOX,
    ):
        name = filter_.name.lower()
        yield "resize", f"image center-cropped and resized, {name}", _center_crop(decoded, H, W, filter_)


def _center_crop(image: "Image.Image", H: int, W: int, filter_: "Image.Resampling") -> Array:
    """The largest centered rectangle with the target's aspect ratio, resized: (1, H, W, 3)."""
    scale = min(image.height / H, image.width / W)
    top, left = (image.height - scale * H) / 2, (image.width - scale * W) / 2
    box = (left, top, left + scale * W, top + scale * H)
    return np.array(image.resize((W, H), filter_, box=box))[None].astype(np.float64)
