"""Our resampling compared with the installed Pillow, as a whole and by pass, and with a Pillow that has changed."""

from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npmobilenet.models.resampling import (
    FILTERS,
    Box,
    pillow_agrees,
    resample,
    resample_image,
    vertical_first,
)
from npmobilenet.models.resizing import RESIZES
from npmobilenet.types import Array
from tests.helpers.images import photo, random_pixels

ALL = (*FILTERS, "nearest")
SIZES = st.tuples(st.integers(1, 150), st.integers(1, 150))
SHARES = st.tuples(*[st.floats(0, 1)] * 4)
CHOOSES_ORDER = int(PIL.__version__.split(".")[0]) >= 13  # older ones always take the horizontal pass first
TALL = (138, 80, 96)  # rows, columns, target side: the order of passes is seen in every tenth pixel


@pytest.fixture
def changed_pillow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Pillow that rounds its passes otherwise."""
    original = Image.Image.resize

    def rounds_up(image: Image.Image, *arguments: Any, **options: Any) -> Image.Image:
        return original(image, *arguments, **options).point(lambda pixel: min(pixel + pixel % 2, 255))

    monkeypatch.setattr(Image.Image, "resize", rounds_up)
    pillow_agrees.cache_clear()
    yield
    pillow_agrees.cache_clear()


def pillow_image(pixels: Array) -> Image.Image:
    """Pixels (H, W, 3 or 1) as Pillow's."""
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])


def box_of(shares: tuple[float, ...], H: int, W: int) -> Box:
    """Box of at least half a pixel within H x W, from four shares of it."""
    (left, right), (top, bottom) = sorted(shares[:2]), sorted(shares[2:])
    return left * (W - 0.5), top * (H - 0.5), 0.5 + right * (W - 0.5), 0.5 + bottom * (H - 0.5)


def stepwise(image: Image.Image, height: int, width: int, filter_: str, box: Box) -> Image.Image:
    """Pillow's own passes, one axis per call, in our order."""
    method = Image.Resampling[filter_.upper()]
    left, top, right, bottom = box

    def down(image: Image.Image) -> Image.Image:
        return image.resize((image.width, height), method, (0, top, image.width, bottom))

    def across(image: Image.Image) -> Image.Image:
        return image.resize((width, image.height), method, (left, 0, right, image.height))

    if vertical_first(image.height, image.width, height, width):
        return across(down(image))
    return down(across(image))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("filter_", ALL)
@given(SIZES, SIZES, SHARES, st.integers(0, 99))
def test_every_filter_is_pillows_to_the_byte(
    filter_: str, channels: int, size: Any, target: Any, shares: Any, seed: int
) -> None:
    (H, W), (height, width) = size, target
    pixels = random_pixels(H, W, seed)[..., :channels]
    image, box = pillow_image(pixels), box_of(shares, H, W)
    found = resample(pixels, height, width, filter_, box)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(pillow_image(found), resample_image(image, height, width, filter_, box))
    if CHOOSES_ORDER or filter_ == "nearest" or not vertical_first(H, W, height, width):
        expected = image.resize((width, height), Image.Resampling[filter_.upper()], box)
    else:
        expected = stepwise(image, height, width, filter_, box)
    np.testing.assert_array_equal(pillow_image(found), expected)


@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize("channels", [2, 4])
def test_any_number_of_channels_is_resampled_channel_by_channel(filter_: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 60, channels), dtype=np.uint8)
    found = resample(pixels, 32, 90, filter_)
    for c in range(channels):
        np.testing.assert_array_equal(found[..., [c]], resample(pixels[..., [c]], 32, 90, filter_))


@pytest.mark.parametrize("filter_", FILTERS)
def test_floats_are_pillows_up_to_the_rounding_of_two_passes(filter_: str) -> None:
    pixels = random_pixels(70, 60)[..., :1].astype(np.float32) + np.float32(0.3)
    expected = np.asarray(pillow_image(pixels).resize((40, 96), Image.Resampling[filter_.upper()]))
    found = resample(pixels, 96, 40, filter_)
    assert found.dtype == np.float32
    assert np.abs(found[..., 0] - expected).max() <= 2 * np.spacing(np.float32(256))  # float64 sums in another order


def test_the_order_of_passes_is_seen() -> None:
    H, W, side = TALL
    image = Image.fromarray(random_pixels(H, W))
    across_first = image.resize((side, H), Image.Resampling.BILINEAR).resize((side, side), Image.Resampling.BILINEAR)
    found = RESIZES["stretch-bilinear"](np.asarray(image), side, side)
    assert vertical_first(H, W, side, side)
    assert np.mean(found != np.asarray(across_first)) > 0.1
    np.testing.assert_array_equal(found, resample(np.asarray(image), side, side, "bilinear"))


@pytest.mark.parametrize("rule", ["crop", "keras", "teachable-machine", *(f"stretch-{name}" for name in FILTERS)])
def test_results_stay_when_pillow_changes(rule: str, request: pytest.FixtureRequest) -> None:
    pixels = np.asarray(photo(*TALL[:2]))
    before = RESIZES[rule](pixels, 96, 96)
    request.getfixturevalue("changed_pillow")
    assert not np.array_equal(np.asarray(Image.fromarray(pixels).resize((96, 96))), resample(pixels, 96, 96, "bicubic"))
    np.testing.assert_array_equal(RESIZES[rule](pixels, 96, 96), before)
