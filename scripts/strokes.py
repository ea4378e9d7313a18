"""From the strokes of a pen to what the digits network is shown, step by step as the data set's digits were made.

    strokes   points (x, y) of a pen, in any unit, y downward
    box       moved and scaled, aspect ratio kept, so that the pen just stays inside 32 x 32 pixels
    bitmap    32 x 32, 1 where the pen has been
    ink       8 x 8, inked pixels of each cell of 4 x 4: 0..16
    image     64 x 64, enlarged by a bicubic filter, white on black

The page does the same in `npmobilenet/page/js/images.js`, to the bit: distances are compared as squares, because not
every language rounds a square root, or a hypotenuse, alike.
"""

import numpy as np
from numpy.typing import NDArray

PEN = 5.0  # pixels of 32: width of the page's pen
BITMAP_SIDE = 32
INK_SIDE = 8

Strokes = list[NDArray[np.float64]]
Ink = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def ink_of_strokes(strokes: Strokes, pen: float = PEN) -> Ink:
    """Ink (8, 8) in 0..16 of strokes, each (points, 2)."""
    return ink_of_cells(inked_bitmap(fitted_strokes(strokes, pen), pen))


def fitted_strokes(strokes: Strokes, pen: float = PEN) -> Strokes:
    """Strokes moved and scaled so that the pen just stays inside the bitmap, aspect ratio kept."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (BITMAP_SIDE - pen) / max(*(high - low), 1e-9)
    return [BITMAP_SIDE / 2 + (stroke - (low + high) / 2) * scale for stroke in strokes]


def inked_bitmap(strokes: Strokes, pen: float = PEN) -> Pixels:
    """Bitmap (32, 32): 1 where a pixel's center is at most half a pen from a stroke, in pixels of the bitmap."""
    starts = np.concatenate([np.concatenate([stroke[:1], stroke[:-1]]) for stroke in strokes])  # a point is a segment
    ends = np.concatenate(strokes)
    near = _squared_distances(starts, ends) <= pen / 2 * (pen / 2)  # (segments, 32, 32)
    return np.asarray(near.any(axis=0), np.uint8)


def _squared_distances(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the pixels of the bitmap to segments: (segments, 32, 32)."""
    y, x = np.indices((BITMAP_SIDE, BITMAP_SIDE)) + 0.5
    x0, y0 = starts.T[:, :, None, None]
    dx, dy = (ends - starts).T[:, :, None, None]
    length = dx * dx + dy * dy
    along = ((x - x0) * dx + (y - y0) * dy) / np.where(length > 0, length, 1.0)
    t = np.clip(along, 0, 1)
    rest_x, rest_y = x - x0 - t * dx, y - y0 - t * dy
    return np.asarray(rest_x * rest_x + rest_y * rest_y)


def ink_of_cells(bitmap: Pixels) -> Ink:
    """Ink (8, 8): inked pixels of each cell of 4 x 4."""
    cell = BITMAP_SIDE // INK_SIDE
    return np.asarray(bitmap.reshape(INK_SIDE, cell, INK_SIDE, cell).sum(axis=(1, 3)), np.float64)
