"""Images and strokes in the page, byte for byte as in Python."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.models.example_digits import image_of_ink
from npmobilenet.models.preprocessing import Reading, network_pixels
from npmobilenet.models.resampling import vertical_first
from npmobilenet.models.resizing import RESIZES
from npmobilenet.page.compose import texts
from npmobilenet.types import Array
from scripts.sketches import HELD_OUT, TRAINED, sketches
from scripts.strokes import fitted_strokes, ink_of_cells, inked_bitmap
from scripts.train_digits import SKETCHES, split_digits
from tests.helpers import browsers
from tests.helpers.models import some_model

RULES = tuple(RESIZES)
IMAGES = 200
IN_PAGE = """({ images, rule }) => images.map(({ width, height, bytes, target }) => {
  const image = { width, height, data: new Uint8Array(bytesOf(bytes)) };
  return btoa(String.fromCharCode(...new Uint8Array(resizeByRule(image, ...target, rule).data.buffer)));
})"""
STROKES_IN_PAGE = """all => all.map((strokes) => {
  const [bitmap, ink, image] = Object.values(strokesToInk(strokes));
  return [bitmap, ink, image.data].map((bytes) => btoa(String.fromCharCode(...bytes)));
})"""


@pytest.fixture(scope="module")
def opened(chromium: Any, page_file: Path) -> Iterator[browsers.Visit]:
    """The page, opened once."""
    with browsers.visit(chromium, page_file) as visit:
        yield visit


def random_images(number: int, side: int, seed: int) -> list[tuple[Array, tuple[int, int]]]:
    """Smooth and noisy images of any size up to `side`, with the size that each is to be resized to."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(number):
        H, W, height, width = (int(length) for length in rng.integers(1, side, 4))
        noise = rng.integers(0, 256, (H, W, 3))
        slope = np.add.outer(np.linspace(0, 200, H), np.linspace(0, 55, W))[..., None]
        drawn.append((np.where(rng.random() < 0.5, noise, slope).astype(np.uint8), (height, width)))
    return drawn


def pixels_of(encoded: str, like: Array) -> Array:
    """Values that the page has encoded, in the dtype and shape of others."""
    return np.frombuffer(base64.b64decode(encoded), like.dtype).reshape(like.shape)


@pytest.mark.parametrize("rule", RULES)
def test_resize_is_pythons_to_the_byte(opened: browsers.Visit, rule: str) -> None:
    drawn = random_images(IMAGES // len(RULES) + 1, 70, RULES.index(rule))
    assert any(vertical_first(len(pixels), pixels.shape[1], *target) for pixels, target in drawn)
    argument = [
        {
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "bytes": base64.b64encode(pixels.tobytes()).decode(),
            "target": target,
        }
        for pixels, target in drawn
    ]
    for (pixels, target), found in zip(
        drawn, opened.evaluate(IN_PAGE, {"images": argument, "rule": rule}), strict=True
    ):
        expected = RESIZES[rule](pixels, *target)
        np.testing.assert_array_equal(pixels_of(found, expected), expected)


def test_drawings_are_pythons_to_the_byte(opened: browsers.Visit) -> None:
    drawn = sketches(TRAINED, IMAGES // 20, 3) + sketches(HELD_OUT, IMAGES // 20, 4)
    assert len(drawn) == IMAGES
    found = opened.evaluate(STROKES_IN_PAGE, [[stroke.tolist() for stroke in sketch.strokes] for sketch in drawn])
    for sketch, steps in zip(drawn, found, strict=True):
        bitmap = inked_bitmap(fitted_strokes(sketch.strokes))
        ink = ink_of_cells(bitmap)
        for encoded, expected in zip(steps, (bitmap, ink.astype(np.uint8), image_of_ink(ink)), strict=True):
            np.testing.assert_array_equal(pixels_of(encoded, expected), expected)


@pytest.mark.parametrize(
    "strokes",
    [[[[5.0, 5.0]]], [[[0.0, 0.0], [9.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]], [[2.0, 3.0]]], [[[3e3, 1.0], [3e3, 9e3]]]],
)
def test_points_and_lines_are_drawings_too(opened: browsers.Visit, strokes: list[list[list[float]]]) -> None:
    ((bitmap, _, _),) = opened.evaluate(STROKES_IN_PAGE, [strokes])
    expected = inked_bitmap(fitted_strokes([np.array(stroke) for stroke in strokes]))
    np.testing.assert_array_equal(pixels_of(bitmap, expected), expected)
    assert expected.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["crop", "teachable-machine", "keras-dataset", None])
def test_a_networks_input_is_pythons(opened: browsers.Visit, resize: str | None, channels: int) -> None:
    graph = mobilenet_v1(alpha=0.25, resolution=(48, 32), classes=4, channels=channels)
    model = some_model(graph, resize=resize)
    ((pixels, _),) = random_images(1, 90, 1)
    expected = model.scale(network_pixels(pixels, graph, Reading(resize or "crop"))[None])[0]
    image = {"width": pixels.shape[1], "height": len(pixels), "data": pixels.ravel().tolist()}
    scaling = {"scale": model.scaling.scale, "offset": model.scaling.offset}
    network = {"graph": {"layers": [{"shape": graph.input_shape}]}, "scaling": scaling, "resize": resize}
    found = opened.evaluate("([image, network]) => Array.from(networkInput(image, network).data)", [image, network])
    np.testing.assert_array_equal(np.float32(found).reshape(expected.shape), expected)


def test_the_page_says_what_digits_was_trained_on() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install npmobilenet[test]")
    (_, digits), _ = split_digits()
    for text in texts().values():
        assert re.findall(r"[0-9,]{5}", text["a.trained"]) == [f"{len(digits):,}", f"{10 * SKETCHES:,}"]
