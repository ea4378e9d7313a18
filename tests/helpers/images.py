"""Synthetic images, and files of them."""

import io
from typing import Any

import numpy as np
from PIL import Image

from npmobilenet.types import Array


def random_pixels(height: int, width: int, seed: int = 0) -> Array:
    """(height, width, 3) uint8, uniform noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth_pixels(height: int, width: int) -> Array:
    """(height, width, 3) uint8, a linear gradient in each channel, which lossy formats preserve well."""
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    return np.stack([255 * down + 0 * across, 255 * across + 0 * down, 127 * (down + across)], axis=2).astype(np.uint8)


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    """Contents of a file of the image; options as `Image.save`."""
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def saved_pixels(pixels: Array, format_: str, **options: Any) -> bytes:
    """Contents of a file of pixels (H, W, 3), or (H, W) gray; options as `Image.save`."""
    return saved(Image.fromarray(pixels), format_, **options)


def photo(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A smooth image, as photos are, so that JPEG preserves it."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
