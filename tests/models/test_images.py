"""Images: the right pixels from every kind of file, and a clear error from every broken one."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from npmobilenet.errors import ImageError, ShapeError
from npmobilenet.models.image_file import FORMATS, MAX_PIXELS, file_suffixes
from npmobilenet.models.preprocessing import decode, prepare, resize_crop, resize_keras
from tests.helpers.real_files import real_file

PHOTOS = ("burger.jpg", "cat.bmp", "panda.jpg", "parrot.jpg", "sunflower.bmp")


def random_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth_pixels(height: int, width: int) -> np.ndarray:
    """A slope in each channel: what lossy formats keep well."""
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    return np.stack([255 * down + 0 * across, 255 * across + 0 * down, 127 * (down + across)], axis=2).astype(np.uint8)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def saved_pixels(pixels: np.ndarray, format_: str, **options: object) -> bytes:
    return saved(Image.fromarray(pixels), format_, **options)


# ---------------------------------------------------------------- where a picture comes from


def test_a_picture_is_the_same_from_every_source(tmp_path: Path):
    pixels = random_pixels(5, 7)
    path = tmp_path / "picture.png"
    path.write_bytes(saved_pixels(pixels, "PNG"))

    with path.open("rb") as file:
        from_file = decode(file)

    for decoded in (decode(path), decode(str(path)), decode(path.read_bytes()), from_file, decode(Image.open(path))):
        np.testing.assert_array_equal(decoded, pixels)


def test_a_pipe_that_cannot_seek_is_read():
    pixels = random_pixels(40, 30)
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as sink:
            sink.write(saved_pixels(pixels, "PNG"))

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        decoded = decode(pipe)
    thread.join()

    np.testing.assert_array_equal(decoded, pixels)


def test_the_pillow_image_of_the_caller_is_not_changed():
    image = Image.fromarray(random_pixels(2, 3))
    image.getexif()[0x0112] = 6

    assert decode(image).shape == (3, 2, 3)
    assert image.size == (3, 2)
    assert image.getexif()[0x0112] == 6


def test_decoded_pixels_are_writable():
    pixels = decode(Image.new("RGB", (2, 2)))
    pixels[0, 0] = 7

    assert pixels[0, 0].tolist() == [7, 7, 7]


# ---------------------------------------------------------------- kinds of picture


@pytest.mark.parametrize("format_", ["BMP", "PNG", "PPM", "TGA", "TIFF"])
def test_lossless_formats_give_the_pixels_back(format_: str):
    pixels = random_pixels(9, 6)

    np.testing.assert_array_equal(decode(saved_pixels(pixels, format_)), pixels)


@pytest.mark.parametrize("format_", ["AVIF", "GIF", "ICO", "JPEG", "JPEG2000", "WEBP"])
def test_other_formats_give_nearly_the_pixels_back(format_: str):
    Image.init()
    if format_ not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {format_}")
    pixels = smooth_pixels(48, 48)

    decoded = decode(saved_pixels(pixels, format_))

    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).mean() < 8  # a GIF has 256 colours; swapped channels differ by over 40


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int):
    upright = random_pixels(4, 6)
    # How the camera stored it, by the EXIF standard: which side of the scene row 0 and column 0 of the file show.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[:, ::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[::-1].transpose(1, 0, 2),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation

    decoded = decode(saved_pixels(np.ascontiguousarray(stored), "PNG", exif=exif))

    np.testing.assert_array_equal(decoded, upright)


def test_a_damaged_exif_block_costs_the_orientation_only():
    pixels = random_pixels(3, 5)

    decoded = decode(saved_pixels(pixels, "PNG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff broken"))

    np.testing.assert_array_equal(decoded, pixels)


def test_grey_has_its_value_in_all_three_channels():
    grey = random_pixels(4, 5)[..., 0]

    np.testing.assert_array_equal(decode(saved_pixels(grey, "PNG")), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_to_8_bits_and_not_clipped(format_: str):
    values = np.array([[0, 128, 129, 255, 256, 257, 32767, 32896, 65278, 65535]], np.uint16)

    decoded = decode(saved_pixels(values, format_))

    assert decoded[0, :, 0].tolist() == [round(int(v) * 255 / 65535) for v in values[0]]
    assert (decoded == decoded[..., :1]).all()


def test_16_bit_big_endian_grey_is_scaled_too():
    tiff = saved_pixels(np.array([[0, 257, 65535]], ">u2"), "TIFF")

    assert decode(tiff)[0, :, 0].tolist() == [0, 1, 255]


def test_16_bit_rgb_loses_its_low_bytes():
    ppm = b"P6 2 1 65535\n" + bytes([0, 0, 128, 0, 255, 255, 1, 0, 2, 0, 3, 0])

    assert decode(ppm).tolist() == [[[0, 128, 255], [1, 2, 3]]]


def test_a_turned_16_bit_picture_is_turned_and_scaled():
    exif = Image.Exif()
    exif[0x0112] = 6  # row 0 of the file is the right side

    decoded = decode(saved_pixels(np.array([[0, 257], [514, 771]], np.uint16), "PNG", exif=exif))

    assert decoded[..., 0].tolist() == [[2, 0], [3, 1]]


@pytest.mark.parametrize("top_value", [-1, 65536])
def test_32_bit_integers_beyond_16_bits_are_refused(top_value: int):
    image = Image.fromarray(np.array([[0, top_value]], np.int32))

    with pytest.raises(ImageError, match=r"I-mode numbers whose white is not known; save it as 8 or 16 bits"):
        decode(saved(image, "TIFF"))


def test_floating_point_pixels_are_refused():
    with pytest.raises(ImageError, match=r"F-mode numbers whose white is not known"):
        decode(Image.fromarray(np.ones((2, 2), np.float32)))


def test_transparency_is_dropped_and_the_colour_below_it_is_used():
    rgba = np.array([[[10, 20, 30, 0], [40, 50, 60, 128]]], np.uint8)

    assert decode(saved_pixels(rgba, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128])])
def test_a_palette_is_looked_up_also_with_transparency(transparency: object):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    options = {} if transparency is None else {"transparency": transparency}

    assert decode(saved(image, "PNG", **options)).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_one_bit_becomes_black_and_white():
    image = Image.fromarray(np.array([[True, False]]))

    assert decode(saved(image, "PNG")).tolist() == [[[255] * 3, [0] * 3]]


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red

    decoded = decode(saved(image, "JPEG"))

    np.testing.assert_allclose(decoded, np.broadcast_to([255, 0, 0], decoded.shape), atol=3)  # JPEG's own rounding


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_decoded(format_: str):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]

    decoded = decode(saved(frames[0], format_, save_all=True, append_images=frames[1:]))

    assert decoded.shape == (16, 16, 3)
    np.testing.assert_allclose(decoded, np.broadcast_to([255, 0, 0], decoded.shape), atol=3)  # WebP's own rounding


@pytest.mark.parametrize("photo", PHOTOS)
def test_photographs_decode_as_keras_loads_them(photo: str, keras):
    path = real_file("images", photo)

    np.testing.assert_array_equal(decode(path), np.asarray(keras.utils.load_img(path)))


# ---------------------------------------------------------------- sizes


def naive_resize_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with a filter that grows as the picture shrinks, in float64, one output pixel at a time."""

    def taps(size: int, start: float, scale: float, index: int) -> np.ndarray:
        centre, reach = start + (index + 0.5) * scale, max(scale, 1.0)
        weights = np.array([max(0.0, 1 - abs(pixel + 0.5 - centre) / reach) for pixel in range(size)])
        return weights / weights.sum()

    H, W, _ = image.shape
    scale = 0.875 * min(H / height, W / width)
    rows = np.array([taps(H, (H - scale * height) / 2, scale, i) for i in range(height)])  # (height, H)
    columns = np.array([taps(W, (W - scale * width) / 2, scale, j) for j in range(width)])  # (width, W)
    return np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
@example(1, 1, 7, 5, 0)
@example(1, 40, 24, 24, 0)
def test_crop_equals_the_definition(H: int, W: int, height: int, width: int, seed: int):
    image = random_pixels(H, W, seed)

    cropped = resize_crop(image, height, width)

    if image.shape[:2] == (height, width):
        np.testing.assert_array_equal(cropped, image)
        assert not np.shares_memory(cropped, image)
        return
    # Pillow rounds to 8 bits after each of its two passes (0.5 each, weights sum to 1); its box is in float32 and its
    # weights have 22 bits, which moves a value of 255 by far less than the 0.01 left.
    assert cropped.dtype == np.uint8
    assert np.abs(cropped - naive_resize_crop(image, height, width)).max() <= 1.01


@pytest.mark.parametrize(("H", "W"), [(512, 512), (512, 768), (1024, 512), (256, 384), (128, 192)])
def test_crop_is_resize_256_then_centre_crop_224_where_the_scaled_size_is_whole(H: int, W: int):
    image = random_pixels(H, W)
    scaled = Image.fromarray(image).resize((W * 256 // min(H, W), H * 256 // min(H, W)), Image.Resampling.BILINEAR)
    left, top = (scaled.width - 224) // 2, (scaled.height - 224) // 2

    expected = np.asarray(scaled.crop((left, top, left + 224, top + 224)))

    # Pillow orders its two passes by their cost and rounds after each, so both are within 1.01 of the exact value.
    assert np.abs(resize_crop(image, 224, 224).astype(int) - expected).max() <= 2


def test_crop_for_a_wide_target_keeps_the_proportions_and_the_middle():
    image = random_pixels(80, 80)
    box = (5.0, 80 * (1 - 0.4375) / 2, 75.0, 80 * (1 + 0.4375) / 2)  # 0.875 of the width, half as much of the height

    expected = np.asarray(Image.fromarray(image).resize((64, 32), Image.Resampling.BILINEAR, box=box))

    np.testing.assert_array_equal(resize_crop(image, 32, 64), expected)


def test_one_pixel_fills_the_target():
    png = saved_pixels(np.array([[[9, 8, 7]]], np.uint8), "PNG")

    for resize in ("crop", "keras"):
        np.testing.assert_array_equal(prepare(png, 3, 4, resize), np.broadcast_to([9, 8, 7], (3, 4, 3)))


@pytest.mark.parametrize(("height", "width"), [(1, 20_000), (20_000, 1), (3, 20_000), (200, 20_000)])
def test_a_strip_20000_pixels_long_gives_its_middle(height: int, width: int):
    picture = np.zeros((height, width, 3), np.uint8)
    middle = (slice(None), slice(9_500, 10_500)) if width > height else (slice(9_500, 10_500),)
    picture[middle] = [1, 2, 3]

    np.testing.assert_array_equal(
        prepare(saved_pixels(picture, "PNG"), 224, 224), np.broadcast_to([1, 2, 3], (224, 224, 3))
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is set as Linux has it")
def test_a_strip_20000_pixels_long_takes_little_memory():
    code = """
import resource, numpy as np
from npmobilenet.models.preprocessing import resize_crop, resize_keras
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
def test_keras_resize_equals_load_img_on_photographs(photo: str, height: int, width: int, keras):
    path = real_file("images", photo)

    expected = np.asarray(keras.utils.load_img(path, target_size=(height, width)))

    np.testing.assert_array_equal(prepare(path, height, width, "keras"), expected)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 50), st.integers(1, 50), st.integers(0, 99))
def test_keras_resize_equals_load_img(keras, H: int, W: int, height: int, width: int, seed: int):
    image = random_pixels(H, W, seed)

    loaded = keras.utils.load_img(io.BytesIO(saved_pixels(image, "PNG")), target_size=(height, width))

    np.testing.assert_array_equal(resize_keras(image, height, width), np.asarray(loaded))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_keras_resize_equals_load_img_for_every_mode(mode: str, keras):
    format_ = "TIFF" if mode == "CMYK" else "PNG"
    file = saved(Image.fromarray(random_pixels(30, 20)).convert(mode), format_)

    expected = np.asarray(keras.utils.load_img(io.BytesIO(file), target_size=(16, 24)))

    np.testing.assert_array_equal(prepare(file, 16, 24, "keras"), expected)


def test_files_are_known_by_the_usual_endings():
    assert {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".gif"} <= file_suffixes()
    assert not {".eps", ".pdf", ".h5", ""} & file_suffixes()


# ---------------------------------------------------------------- what is no picture


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ImageError, match=r"cat\.jpg: no such file"):
        decode(tmp_path / "cat.jpg")


def test_a_folder_is_no_picture(tmp_path: Path):
    with pytest.raises(ImageError, match=r"is a folder"):
        decode(tmp_path)


def test_a_path_that_no_system_takes_is_refused():
    with pytest.raises(ImageError, match=r"cannot be opened"):
        decode("cat\0.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path):
    path = tmp_path / "secret.png"
    path.touch(mode=0)

    with pytest.raises(ImageError, match=r"secret\.png: cannot be opened: .*[Pp]ermission"):
        decode(path)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"\x00",
        b"hello, world",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\x89HDF\r\n\x1a\n" + bytes(64),
    ],
    ids=["empty", "one byte", "text", "EPS", "HDF5"],
)
def test_what_is_no_picture_is_refused_with_the_formats(contents: bytes):
    with pytest.raises(ImageError, match=rf"picture of {len(contents)} bytes: is not a picture .*JPEG.*PNG"):
        decode(contents)


@pytest.mark.parametrize("source", [3, None, np.zeros((2, 2, 3), np.uint8), object()])
def test_a_source_of_another_type_is_refused(source: object):
    with pytest.raises(ImageError, match=rf"got {type(source).__name__}; needed is a path, bytes"):
        decode(source)


def test_a_file_opened_as_text_is_refused(tmp_path: Path):
    path = tmp_path / "picture.png"
    path.write_bytes(saved_pixels(random_pixels(2, 2), "PNG"))

    with path.open(encoding="latin-1") as file, pytest.raises(ImageError, match=r"picture\.png.* mode 'rb'"):
        decode(file)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes of pixels do not bear out."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [12_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side: int):
    with pytest.raises(ImageError, match=r"134,217,728 pixels; make it smaller first"):
        decode(png_of_size(side, side))


def test_a_picture_above_pillows_warning_and_below_our_limit_is_decoded_without_a_warning():
    side = 9_500
    assert Image.MAX_IMAGE_PIXELS < side * side < MAX_PIXELS

    assert decode(saved(Image.new("1", (side, side), 1), "PNG"))[-1, -1].tolist() == [255] * 3


@pytest.mark.parametrize("format_", FORMATS)
def test_a_picture_that_is_cut_off_is_refused_or_decoded_but_never_fails_otherwise(format_: str):
    whole = saved_pixels(random_pixels(33, 47), format_) if _writable(format_) else pytest.skip(f"no {format_} here")

    outcomes = {_decoded_or_refused(whole[:length]) for length in range(0, len(whole), max(1, len(whole) // 60))}

    assert "refused" in outcomes


@pytest.mark.parametrize("format_", ["BMP", "JPEG", "PNG", "TIFF", "WEBP"])
def test_a_picture_cut_in_half_is_refused(format_: str):
    whole = saved_pixels(random_pixels(64, 64), format_)

    with pytest.raises(ImageError, match=r"picture of [\d,]+ bytes: cannot be decoded .*copy it anew"):
        decode(whole[: len(whole) // 2])


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_a_picture_with_bytes_changed_is_refused_or_decoded_but_never_fails_otherwise(format_: str, seed: int):
    whole = saved_pixels(random_pixels(33, 47), format_) if _writable(format_) else pytest.skip(f"no {format_} here")
    rng = np.random.default_rng(seed)

    for _ in range(60):
        broken = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, min(len(broken), rng.choice([40, 400, len(broken)])), size=rng.integers(1, 9))
        broken[where] = rng.integers(0, 256, where.shape)
        assert _decoded_or_refused(broken.tobytes()) in {"decoded", "refused"}


def _writable(format_: str) -> bool:
    Image.init()
    return format_ in Image.SAVE


def _decoded_or_refused(contents: bytes) -> str:
    try:
        pixels = decode(contents)
    except ImageError:
        return "refused"
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    return "decoded"


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ImageError, match=r"0 x 4 pixels: there is nothing in it"):
        decode(Image.new("RGB", (0, 4)))


def test_an_unknown_resize_is_refused_with_the_known_ones():
    with pytest.raises(ImageError, match=r"resize is 'stretch'; needed is one of crop, keras"):
        prepare(Image.new("RGB", (2, 2)), 8, 8, "stretch")


@pytest.mark.parametrize("resize", [resize_crop, resize_keras])
@pytest.mark.parametrize(
    ("image", "height", "width", "message"),
    [
        (np.zeros((4, 4), np.uint8), 8, 8, r"shape \(4, 4\) and dtype uint8; needed is \(H, W, 3\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), 8, 8, r"shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3)), 8, 8, r"dtype float64"),
        (np.zeros((0, 4, 3), np.uint8), 8, 8, r"shape \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), 0, 8, r"the target is 0 x 8 pixels"),
    ],
)
def test_a_resize_checks_what_it_gets(
    resize: Callable[..., np.ndarray], image: np.ndarray, height: int, width: int, message: str
):
    with pytest.raises(ShapeError, match=message):
        resize(image, height, width)


def test_pillow_is_not_loaded_before_a_picture_is():
    code = "import sys, npmobilenet.models.preprocessing; sys.exit('PIL' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)
