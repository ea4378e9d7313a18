"""Resizing to a network's input size, one rule per name in `RESIZES`.

    crop               short side to the target / 0.875, center crop, bilinear: ImageNet's evaluation
    keras              stretch, nearest neighbor: Keras's load_img
    keras-dataset      stretch, bilinear without antialiasing, float32: Keras's image_dataset_from_directory
    teachable-machine  cover by the short side, center crop, Lanczos: the sample script of Teachable Machine
    torch-FILTER-PART  short side to the target / PART, center crop: torchvision and timm; 232 stands for 224 / 232
    stretch-FILTER     stretch by one of Pillow's filters

The filters are those of `resampling.py`, to Pillow's bytes.

Pixels are uint8, or float32 for values that are not whole numbers; "keras-dataset" always returns float32, unrounded.
"""

from collections.abc import Callable
from functools import partial
from math import ceil, floor
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from npmobilenet.errors import ImageError, ShapeError
from npmobilenet.models.resampling import resample_image
from npmobilenet.types import Array

if TYPE_CHECKING:
    from PIL import Image

    Resize: TypeAlias = Callable[["Image.Image", int, int], "Image.Image | Array"]

CROP = 0.875  # fraction of the short side that is kept: 224 of 256
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")  # of Pillow
STRETCH = "stretch-"
TORCH_FILTERS = ("bilinear", "bicubic")
TORCH_PARTS = {"0.875": 0.875, "0.9": 0.9, "0.95": 0.95, "232": 224 / 232, "1": 1.0}  # timm's crop_pct
LONGEST = 64  # aspect ratio beyond which an image is never resized as a whole


def resize_crop(image: Array, height: int, width: int) -> Array:
    """Center crop: scale the short side to the target / 0.875 and cut the target out of the center.

    The aspect ratio is kept. An image that already has the target's size is returned unchanged: it has been cropped
    before.

    Bilinear; where the image shrinks, the filter grows with it (Pillow's, antialiased). The scaled image is never
    materialized: the output samples the central box of the input that it covers, which is equivalent, needs no rounding
    of the scaled size and no memory for it.

        box = 0.875 * the largest height : width rectangle that fits into (H, W), centered

    Args:
        image: (H, W, C) uint8 or float.
        height: target height, in pixels.
        width: target width, in pixels.

    Returns:
        (height, width, C) uint8, or float32.

    Raises:
        ShapeError: image is not (H, W, C) uint8 or float, or the target is empty.

    Source: TF-Slim's evaluation preprocessing keeps the central 0.875; resizing to 256 and cropping 224 is the same.
    """
    return resized(image, height, width, "crop")


def resize_keras(image: Array, height: int, width: int) -> Array:
    """Stretch to the target, nearest neighbor: Keras's `load_img(target_size=...)`, which ignores the aspect ratio.

    It reproduces Keras's numbers. Arguments, result and errors as `resize_crop`.

    Source: keras.utils.load_img(path, target_size=(height, width)).
    """
    return resized(image, height, width, "keras")


def resized(image: Array, height: int, width: int, resize: str) -> Array:
    """An array resized by the rule `resize`; arguments, result and errors as `resize_crop`."""
    from PIL import Image

    if image.ndim != 3 or image.size == 0 or (image.dtype != np.uint8 and image.dtype.kind != "f"):
        raise ShapeError(
            f"resize {resize}: expected an image (H, W, C) uint8 or float, got {image.shape} {image.dtype}"
        )
    check_target(height, width)
    if resize == "keras-dataset":
        return bilinear(image, height, width)
    rule = _RULES[resize]
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.array(rule(Image.fromarray(image), height, width))
    channels = image if image.dtype == np.uint8 else image.astype(np.float32, copy=False)
    planes = [Image.fromarray(np.ascontiguousarray(channels[..., c])) for c in range(image.shape[2])]
    return np.stack([np.asarray(rule(plane, height, width)) for plane in planes], axis=2)


def resized_image(image: "Image.Image", height: int, width: int, resize: str) -> Array:
    """A Pillow image, RGB or gray, resized by the rule `resize`: (height, width, 3 or 1)."""
    pixels = np.array(_RULES[resize](image, height, width))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def check_resize(resize: str, draft: bool = False) -> None:
    """Check the name of a resize, and that it supports drafts if one is requested.

    Raises:
        ImageError: it is unknown, or does not.
    """
    if resize not in RESIZES:
        raise ImageError(f"unknown resize '{resize}'; choose one of {', '.join(RESIZES)}")
    if draft and resize != "crop":
        raise ImageError(f"resize '{resize}' is exact and does not support drafts; use 'crop'")


def check_target(height: int, width: int) -> None:
    """Raise ShapeError for an empty target."""
    if height < 1 or width < 1:
        raise ShapeError(f"resize: expected a target of at least 1 x 1 pixels, got {height} x {width}")


def torch_resize(filter_: str, part: float) -> tuple[str, bool]:
    """The rule of torchvision and timm for a filter and the part of the short side that is kept.

    Returns:
        The nearest name, and whether it is exactly this rule.
    """
    name = min(TORCH_PARTS, key=lambda name: abs(TORCH_PARTS[name] - part))
    known = filter_ if filter_ in TORCH_FILTERS else TORCH_FILTERS[-1]
    return f"torch-{known}-{name}", known == filter_ and TORCH_PARTS[name] == part


def scale_in_decoder(image: "Image.Image", height: int, width: int) -> None:
    """Have a JPEG file decoded at 1/2, 1/4 or 1/8 of its size if what `_crop` keeps is still large enough.

    The image may still be rotated, so both sides of the target are taken to be the longer one.
    """
    scale = CROP * min(image.size) / max(height, width)
    if scale > 1:
        image.draft(None, (ceil(image.width / scale), ceil(image.height / scale)))


def bilinear(image: Array, height: int, width: int) -> Array:
    """Stretch to the target by the four nearest pixels, without antialiasing, in float32.

        y = top + (bottom - top) * v;  top, bottom = left + (right - left) * u;  u, v from half-pixel centers

    Args:
        image: (H, W, C).
        height: target height, in pixels.
        width: target width, in pixels.

    Returns:
        (height, width, C) float32, bit-exact with tf.image.resize(image, (height, width)), which
        keras.utils.image_dataset_from_directory uses.
    """
    x = image.astype(np.float32)
    top, bottom, v = _neighbors(x.shape[0], height)
    left, right, u = _neighbors(x.shape[1], width)

    def across(rows: Array) -> Array:  # (height, W, C) -> (height, width, C)
        near, far = rows[:, left], rows[:, right]
        return np.asarray(near + (far - near) * u[:, None])

    upper, lower = across(x[top]), across(x[bottom])
    return np.asarray(upper + (lower - upper) * v[:, None, None])


def _neighbors(size: int, target: int) -> tuple[Array, Array, Array]:
    """For each target pixel the pixels before and after it, and the share of the latter, in float32."""
    half = np.float32(0.5)
    at = (np.arange(target, dtype=np.float32) + half) * (np.float32(size) / np.float32(target)) - half
    low = np.floor(at)
    before, after = (np.clip(pixel, 0, size - 1).astype(np.intp) for pixel in (low, np.ceil(at)))
    return before, after, at - low


def _crop(
    image: "Image.Image", height: int, width: int, *, part: float = CROP, filter_: str = "bilinear"
) -> "Image.Image":
    if image.size == (width, height):
        return image
    scale = part * min(image.height / height, image.width / width)  # input pixels per output pixel
    top, left = (image.height - scale * height) / 2, (image.width - scale * width) / 2
    return resample_image(image, height, width, filter_, (left, top, left + scale * width, top + scale * height))


def _torch(part: float, filter_: str, image: "Image.Image", height: int, width: int) -> "Image.Image":
    """The evaluation transform of torchvision and timm; an image of the target's size is returned unchanged.

    Bit-exact up to an aspect ratio of `LONGEST`; what is longer is sampled as by `_crop`.

    Source: torchvision.transforms.Resize and CenterCrop; for other targets than squares, timm's ResizeKeepRatio.
    """
    if image.size == (width, height):
        return image
    if max(image.size) > LONGEST * min(image.size):
        return _crop(image, height, width, part=part, filter_=filter_)
    short, H, W = min(image.size), floor(height / part), floor(width / part)
    if H == W:
        H, W = int(H * image.height / short), int(W * image.width / short)
    else:
        scale = min(image.height / H, image.width / W)
        H, W = round(image.height / scale), round(image.width / scale)
    if image.size != (W, H):
        image = resample_image(image, H, W, filter_)
    top, left = round((H - height) / 2), round((W - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _cover(image: "Image.Image", height: int, width: int) -> "Image.Image":
    """The largest box of the target's aspect ratio, centered: Pillow's ImageOps.fit."""
    ratio, own = width / height, image.width / image.height
    w = ratio * image.height if own > ratio else image.width
    h = image.width / ratio if own < ratio else image.height
    left, top = (image.width - w) * 0.5, (image.height - h) * 0.5
    return resample_image(image, height, width, "lanczos", (left, top, left + w, top + h))


def _stretch(filter_: str, image: "Image.Image", height: int, width: int) -> "Image.Image":
    return resample_image(image, height, width, filter_)


def _bilinear_image(image: "Image.Image", height: int, width: int) -> Array:
    pixels = np.asarray(image)
    return bilinear(pixels if pixels.ndim == 3 else pixels[..., None], height, width)


_RULES: "dict[str, Resize]" = {
    "crop": _crop,
    "keras": partial(_stretch, "nearest"),
    "keras-dataset": _bilinear_image,
    "teachable-machine": _cover,
    **{f"torch-{f}-{name}": partial(_torch, part, f) for f in TORCH_FILTERS for name, part in TORCH_PARTS.items()},
    **{f"{STRETCH}{filter_}": partial(_stretch, filter_) for filter_ in FILTERS},
}

RESIZES: dict[str, Callable[[Array, int, int], Array]] = {name: partial(resized, resize=name) for name in _RULES}
