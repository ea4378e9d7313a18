"""Ten handwritten digits that the digits network has not been trained on: amounts of ink, and images of them.

Data: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licence CC BY 4.0.
"""

import json
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike

from npmobilenet.models.resizing import resized
from npmobilenet.types import Array

MOST_INK = 16  # inked pixels of a cell of 4 x 4
SIDE = 64  # pixels of an image


@cache
def example_digits() -> list[list[int]]:
    """Ink of the digits 0 to 9: 8 x 8 cells, row by row, each in 0..16."""
    document = json.loads(files("npmobilenet").joinpath("data", "digits.json").read_text(encoding="utf-8"))
    digits: list[list[int]] = document["digits"]
    return digits


def image_of_ink(ink: ArrayLike) -> Array:
    """Ink (8, 8) or (64,) in 0..16 as an image (64, 64, 3) uint8, white on black."""
    cells = np.round(np.asarray(ink).reshape(8, 8) * 255 / MOST_INK).astype(np.uint8)
    gray = resized(cells[..., None], SIDE, SIDE, "stretch-bicubic")  # (64, 64, 1)
    return np.repeat(gray, 3, axis=2)
