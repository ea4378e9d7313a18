"""Preprocessing: Keras's pixels where they are promised, the definition's everywhere, and a clear error otherwise."""

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from npmobilenet.errors import ImageError, ShapeError
from npmobilenet.models import resizing
from npmobilenet.models.preprocessing import decode, prepare
from npmobilenet.models.resizing import CROP, RESIZES, resize_crop, resize_keras
from npmobilenet.types import Array
from tests.helpers.images import photo, random_pixels, saved, saved_pixels
from tests.helpers.real_files import real_file

PHOTOS = ("burger.jpg", "cat.bmp", "panda.jpg", "parrot.jpg", "sunflower.bmp")


def resize_crop_by_definition(image: Array, height: int, width: int) -> Array:
    """Bilinear with a filter that grows as the image shrinks, in float64, one output pixel at a time."""

    def taps(size: int, start: float, scale: float, index: int) -> Array:
        center, reach = start + (index + 0.5) * scale, max(scale, 1.0)
        weights: Array = np.array([max(0.0, 1 - abs(pixel + 0.5 - center) / reach) for pixel in range(size)])
        weights /= weights.sum()
        return weights

    H, W, _ = image.shape
    scale = 0.875 * min(H / height, W / width)
    rows = np.array([taps(H, (H - scale * height) / 2, scale, i) for i in range(height)])  # (height, H)
    columns = np.array([taps(W, (W - scale * width) / 2, scale, j) for j in range(width)])  # (width, W)
    resized: Array = np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns)
    return resized


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
@example(1, 1, 7, 5, 0)
@example(1, 40, 24, 24, 0)
def test_crop_equals_the_definition(H: int, W: int, height: int, width: int, seed: int) -> None:
    image = random_pixels(H, W, seed)

    cropped = resize_crop(image, height, width)

    if image.shape[:2] == (height, width):
        np.testing.assert_array_equal(cropped, image)
        assert not np.shares_memory(cropped, image)
        return
    # Pillow rounds to 8 bits after each of its two passes (0.5 each, weights sum to 1); its box is in float32 and its
    # weights have 22 bits, which moves a value of 255 by far less than the 0.01 left.
    assert cropped.dtype == np.uint8
    assert np.abs(cropped - resize_crop_by_definition(image, height, width)).max() <= 1.01


@pytest.mark.parametrize(("H", "W"), [(512, 512), (512, 768), (1024, 512), (256, 384), (128, 192)])
def test_crop_is_resize_256_then_center_crop_224_where_the_scaled_size_is_whole(H: int, W: int) -> None:
    image = random_pixels(H, W)
    scaled = Image.fromarray(image).resize((W * 256 // min(H, W), H * 256 // min(H, W)), Image.Resampling.BILINEAR)
    left, top = (scaled.width - 224) // 2, (scaled.height - 224) // 2

    expected = np.asarray(scaled.crop((left, top, left + 224, top + 224)))

    # Pillow orders its two passes by their cost and rounds after each, so both are within 1.01 of the exact value.
    assert np.abs(resize_crop(image, 224, 224).astype(int) - expected).max() <= 2


def test_crop_to_a_wide_target_keeps_the_aspect_ratio_and_the_center() -> None:
    image = random_pixels(80, 80)
    box = (5.0, 80 * (1 - 0.4375) / 2, 75.0, 80 * (1 + 0.4375) / 2)  # 0.875 of the width, half as much of the height

    expected = np.asarray(Image.fromarray(image).resize((64, 32), Image.Resampling.BILINEAR, box=box))

    np.testing.assert_array_equal(resize_crop(image, 32, 64), expected)


def test_one_pixel_fills_the_target() -> None:
    png = saved_pixels(np.array([[[9, 8, 7]]], np.uint8), "PNG")

    for resize in RESIZES:
        np.testing.assert_array_equal(prepare(png, 3, 4, resize), np.broadcast_to([9, 8, 7], (3, 4, 3)))


@pytest.mark.parametrize(("height", "width"), [(1, 20_000), (20_000, 1), (3, 20_000), (200, 20_000)])
def test_a_strip_20000_pixels_long_gives_its_center(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    middle = (slice(None), slice(9_500, 10_500)) if width > height else (slice(9_500, 10_500),)
    image[middle] = [1, 2, 3]

    np.testing.assert_array_equal(
        prepare(saved_pixels(image, "PNG"), 224, 224), np.broadcast_to([1, 2, 3], (224, 224, 3))
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is set as Linux has it")
def test_a_strip_20000_pixels_long_takes_little_memory() -> None:
    code = """
import resource, numpy as np
from npmobilenet.models.resizing import resize_crop, resize_keras
strip = np.zeros((1, 20_000, 3), np.uint8)
resize_crop(strip, 8, 8)
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**26, in_use + 2**26))
resize_crop(strip, 224, 224)  # scaled whole it would be 256 x 5,120,000
resize_keras(strip, 224, 224)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 160)])
def test_keras_resize_equals_load_img_on_photos(photo: str, height: int, width: int, keras: Any) -> None:
    path = real_file("images", photo)

    expected = np.asarray(keras.utils.load_img(path, target_size=(height, width)))

    np.testing.assert_array_equal(prepare(path, height, width, "keras"), expected)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 50), st.integers(1, 50), st.integers(0, 99))
def test_keras_resize_equals_load_img(keras: Any, H: int, W: int, height: int, width: int, seed: int) -> None:
    image = random_pixels(H, W, seed)

    loaded = keras.utils.load_img(io.BytesIO(saved_pixels(image, "PNG")), target_size=(height, width))

    np.testing.assert_array_equal(resize_keras(image, height, width), np.asarray(loaded))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_keras_resize_equals_load_img_for_every_mode(mode: str, keras: Any) -> None:
    format_ = "TIFF" if mode == "CMYK" else "PNG"
    file = saved(Image.fromarray(random_pixels(30, 20)).convert(mode), format_)

    expected = np.asarray(keras.utils.load_img(io.BytesIO(file), target_size=(16, 24)))

    np.testing.assert_array_equal(prepare(file, 16, 24, "keras"), expected)


def test_an_unknown_resize_is_refused_with_the_available_ones() -> None:
    with pytest.raises(ImageError, match=r"unknown resize 'stretch'; choose one of crop, keras, "):
        prepare(Image.new("RGB", (2, 2)), 8, 8, "stretch")


@pytest.mark.parametrize("resize", [resize_crop, resize_keras])
@pytest.mark.parametrize(
    ("image", "height", "width", "message"),
    [
        (np.zeros((4, 4), np.uint8), 8, 8, r"expected an image \(H, W, C\) uint8 or float, got \(4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.int16), 8, 8, r"got \(4, 4, 3\) int16"),
        (np.zeros((0, 4, 3), np.uint8), 8, 8, r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), 0, 8, r"at least 1 x 1 pixels, got 0 x 8"),
    ],
)
def test_a_resize_checks_its_arguments(
    resize: Callable[..., Array], image: Array, height: int, width: int, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        resize(image, height, width)


def test_pillow_is_not_loaded_before_an_image_is() -> None:
    code = "import sys, npmobilenet.models.preprocessing; sys.exit('PIL' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)


@given(
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    st.integers(1, 8), st.integers(1, 50), st.integers(1, 50), st.sampled_from(list(RESIZES)),
)  # fmt: skip
def test_prepare_is_bit_exact_with_decode_and_resize(
    mode: str, turn: int, width: int, height: int, resize: str
) -> None:
    image = photo(width, height, "L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = turn
    file = saved(image, "PNG", exif=exif)

    np.testing.assert_array_equal(prepare(file, 9, 12, resize), RESIZES[resize](decode(file), 9, 12))


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([(24, 24), (16, 40), (40, 16)]), st.integers(1, 8))
def test_a_draft_is_never_smaller_than_the_target_and_close_to_the_exact_resize(
    width: int, height: int, target: tuple[int, int], turn: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    jpeg = saved(photo(width, height), "JPEG", exif=exif, quality=95)
    sizes = []
    original = resizing._crop

    def recorded(image: Image.Image, height: int, width: int) -> Image.Image:
        sizes.append(image.size)
        return original(image, height, width)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resizing._RULES, "crop", recorded)
        draft, exact = (prepare(jpeg, *target, draft=draft).astype(float) for draft in (True, False))
    small, whole = sizes

    def scale(size: tuple[int, int]) -> float:
        return CROP * min(size[0] / target[1], size[1] / target[0])

    assert small == whole or scale(small) >= 1
    assert max(target) > min(target) or scale(whole) < 2 or small[0] <= (whole[0] + 1) // 2
    # The decoder rounds a scaled side up, which moves a pixel by less than one; both results are rounded to uint8.
    step = np.abs(np.diff(exact, axis=0)).mean() + np.abs(np.diff(exact, axis=1)).mean()
    assert np.abs(draft - exact).mean() <= step + 1


def test_a_draft_differs_only_if_a_jpeg_is_much_larger() -> None:
    large, small = photo(640, 480), photo(60, 50)
    for image, format_, same in [(large, "JPEG", False), (small, "JPEG", True), (large, "PNG", True)]:
        file = saved(image, format_)
        assert np.array_equal(prepare(file, 32, 32, draft=True), prepare(file, 32, 32)) == same
