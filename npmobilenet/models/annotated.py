"""A photograph with the boxes of its detections drawn on it, by Pillow."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from npmobilenet.models.detections import Detection
from npmobilenet.models.image_file import WHITE, Source, upright

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
"""Of categories in turn: Okabe and Ito's, which people with any color vision can tell apart."""
DARK = ("#e69f00", "#56b4e9", "#f0e442")  # those on which text is black
SIDE_PER_LINE = 200  # pixels of the photograph's short side per pixel of a line's width
SIDE_PER_LETTER = 30  # the same per pixel of a letter's height
SMALLEST_LETTER = 11


def annotated(source: Source, detections: Sequence[Detection], transparent_as: str | None = WHITE) -> bytes:
    """A PNG of the upright photograph with a box and a label for every detection, the best on top.

    Raises:
        ImageError: the photograph cannot be read.
    """
    from PIL import ImageDraw, ImageFont

    with upright(source, transparent_as=transparent_as) as opened:
        image = opened.copy()
    short = min(image.size)
    font = ImageFont.load_default(max(SMALLEST_LETTER, short // SIDE_PER_LETTER))
    draw = ImageDraw.Draw(image)
    for detection in reversed(detections):
        _draw(draw, image, detection, max(2, short // SIDE_PER_LINE), font)
    content = BytesIO()
    image.save(content, "png")
    return content.getvalue()


def _draw(
    draw: "ImageDraw.ImageDraw",
    image: "Image.Image",
    detection: Detection,
    width: int,
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont",
) -> None:
    left, top, right, bottom = detection.box
    if right < left or bottom < top:
        return
    color = COLORS[detection.category % len(COLORS)]
    draw.rectangle((left, top, right, bottom), outline=color, width=width)
    text = f"{detection.label} {detection.score:.2f}"
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
    w, h = x1 - x0 + 2 * width, y1 - y0 + 2 * width
    x = max(0, min(left, image.width - w))
    y = top - h if top >= h else top  # above the box, or inside it where there is no room
    draw.rectangle((x, y, x + w, y + h), fill=color)
    draw.text((x + width - x0, y + width - y0), text, fill="black" if color in DARK else "white", font=font)
