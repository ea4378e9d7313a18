"""Image files: the right pixels from every kind of file, and a clear error from every broken one."""

import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet.errors import ImageError
from npmobilenet.models import image_file
from npmobilenet.models.image_file import FORMATS, file_suffixes
from npmobilenet.models.preprocessing import decode
from tests.helpers.images import random_pixels, saved, saved_pixels, smooth_pixels
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import LOSSY_COLOR, LOSSY_MEAN

PHOTOS = ("burger.jpg", "cat.bmp", "panda.jpg", "parrot.jpg", "sunflower.bmp")


def test_an_image_is_the_same_from_every_source(tmp_path: Path) -> None:
    pixels = random_pixels(5, 7)
    path = tmp_path / "image.png"
    path.write_bytes(saved_pixels(pixels, "PNG"))

    with path.open("rb") as file:
        from_file = decode(file)

    for decoded in (decode(path), decode(str(path)), decode(path.read_bytes()), from_file, decode(Image.open(path))):
        np.testing.assert_array_equal(decoded, pixels)


def test_a_pipe_that_cannot_seek_is_read() -> None:
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


def test_the_pillow_image_of_the_caller_is_not_changed() -> None:
    image = Image.fromarray(random_pixels(2, 3))
    image.getexif()[0x0112] = 6

    assert decode(image).shape == (3, 2, 3)
    assert image.size == (3, 2)
    assert image.getexif()[0x0112] == 6


def test_decoded_pixels_are_writable() -> None:
    pixels = decode(Image.new("RGB", (2, 2)))
    pixels[0, 0] = 7

    assert pixels[0, 0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("format_", ["BMP", "PNG", "PPM", "TGA", "TIFF"])
def test_lossless_formats_reproduce_the_pixels(format_: str) -> None:
    pixels = random_pixels(9, 6)

    np.testing.assert_array_equal(decode(saved_pixels(pixels, format_)), pixels)


@pytest.mark.parametrize("format_", ["AVIF", "GIF", "ICO", "JPEG", "JPEG2000", "WEBP"])
def test_lossy_formats_nearly_reproduce_the_pixels(format_: str) -> None:
    Image.init()
    if format_ not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {format_}")
    pixels = smooth_pixels(48, 48)

    decoded = decode(saved_pixels(pixels, format_))

    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).mean() < LOSSY_MEAN


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
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


def test_a_corrupt_exif_block_loses_only_the_orientation() -> None:
    pixels = random_pixels(3, 5)

    decoded = decode(saved_pixels(pixels, "PNG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff broken"))

    np.testing.assert_array_equal(decoded, pixels)


def test_gray_has_its_value_in_all_three_channels() -> None:
    gray = random_pixels(4, 5)[..., 0]

    np.testing.assert_array_equal(decode(saved_pixels(gray, "PNG")), np.stack([gray] * 3, axis=2))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_to_8_bits_and_not_clipped(format_: str) -> None:
    values = np.array([[0, 128, 129, 255, 256, 257, 32767, 32896, 65278, 65535]], np.uint16)

    decoded = decode(saved_pixels(values, format_))

    assert decoded[0, :, 0].tolist() == [round(int(v) * 255 / 65535) for v in values[0]]
    assert (decoded == decoded[..., :1]).all()


def test_16_bit_big_endian_gray_is_scaled_too() -> None:
    tiff = saved_pixels(np.array([[0, 257, 65535]], ">u2"), "TIFF")

    assert decode(tiff)[0, :, 0].tolist() == [0, 1, 255]


def test_16_bit_rgb_loses_its_low_bytes() -> None:
    ppm = b"P6 2 1 65535\n" + bytes([0, 0, 128, 0, 255, 255, 1, 0, 2, 0, 3, 0])

    assert decode(ppm).tolist() == [[[0, 128, 255], [1, 2, 3]]]


def test_a_rotated_16_bit_image_is_rotated_and_scaled() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # row 0 of the file is the right side

    decoded = decode(saved_pixels(np.array([[0, 257], [514, 771]], np.uint16), "PNG", exif=exif))

    assert decoded[..., 0].tolist() == [[2, 0], [3, 1]]


@pytest.mark.parametrize("top_value", [-1, 65536])
def test_32_bit_integers_beyond_16_bits_are_refused(top_value: int) -> None:
    image = Image.fromarray(np.array([[0, top_value]], np.int32))

    with pytest.raises(ImageError, match=r"unknown value range \(mode I, 32-bit or float\); save it with 8 or 16 bits"):
        decode(saved(image, "TIFF"))


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match=r"unknown value range \(mode F"):
        decode(Image.fromarray(np.ones((2, 2), np.float32)))


@pytest.mark.parametrize(
    ("color", "pixels"),
    [
        ("white", [[255, 255, 255], [147, 152, 157], [70, 80, 90]]),
        ("#000000", [[0, 0, 0], [20, 25, 30], [70, 80, 90]]),
        (None, [[10, 20, 30], [40, 50, 60], [70, 80, 90]]),
    ],
)
def test_transparent_pixels_are_composited_on_a_color_or_keep_the_one_below(color: str | None, pixels: object) -> None:
    rgba = np.array([[[10, 20, 30, 0], [40, 50, 60, 128], [70, 80, 90, 255]]], np.uint8)

    assert decode(saved_pixels(rgba, "PNG"), transparent_as=color).tolist() == [pixels]


def test_transparent_gray_is_composited_on_white() -> None:
    file = saved(Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8), "LA"), "PNG")

    assert decode(file).tolist() == [[[255] * 3, [10] * 3]]
    assert decode(file, channels=1).tolist() == [[[255], [10]]]


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128])])
def test_a_palette_is_applied_with_and_without_transparency(transparency: object) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    options = {} if transparency is None else {"transparency": transparency}

    assert decode(saved(image, "PNG", **options), transparent_as=None).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    composited = {None: [[255, 0, 0], [0, 0, 255]], 0: [[255, 255, 255], [0, 0, 255]]}
    expected = composited.get(transparency, [[255, 255, 255], [127, 127, 255]])  # type: ignore[call-overload]
    assert decode(saved(image, "PNG", **options)).tolist() == [expected]


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False]]))

    assert decode(saved(image, "PNG")).tolist() == [[[255] * 3, [0] * 3]]


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red

    decoded = decode(saved(image, "JPEG"))

    np.testing.assert_allclose(decoded, np.broadcast_to([255, 0, 0], decoded.shape), atol=LOSSY_COLOR)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_decoded(format_: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue", "lime")]

    decoded = decode(saved(frames[0], format_, save_all=True, append_images=frames[1:]))

    assert decoded.shape == (16, 16, 3)
    np.testing.assert_allclose(decoded, np.broadcast_to([255, 0, 0], decoded.shape), atol=LOSSY_COLOR)


@pytest.mark.parametrize("photo", PHOTOS)
def test_photos_decode_as_keras_loads_them(photo: str, keras: Any) -> None:
    path = real_file("images", photo)

    np.testing.assert_array_equal(decode(path), np.asarray(keras.utils.load_img(path)))


def test_files_are_recognized_by_the_usual_suffixes() -> None:
    assert {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".gif"} <= file_suffixes()
    assert not {".eps", ".pdf", ".h5", ""} & file_suffixes()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cat\.jpg: no such file"):
        decode(tmp_path / "cat.jpg")


@pytest.mark.parametrize("url", ["https://example.org/cat.jpg", "HTTP://example.org/a", "data:image/png;base64,iVBOR"])
def test_a_url_is_refused_as_one(url: str) -> None:
    with pytest.raises(ImageError, match=r"is a URL; download the image"):
        decode(url)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"\0\0\0\x18ftypmp42" + bytes(40), r"is a video \(MP4 or QuickTime\); .*ffmpeg"),
        (b"\0\0\0\x14ftypqt  " + bytes(40), r"is a video \(MP4 or QuickTime\)"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(40), r"is a video \(AVI\)"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), r"is a video \(Matroska or WebM\)"),
        (b"\0\0\0\x18ftypheic" + bytes(40), r"is a HEIC image: install pillow-heif"),
    ],
)
def test_videos_and_heic_are_refused_as_what_they_are(
    contents: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError, match=message):
        decode(contents)


def test_heic_is_decoded_if_pillow_heif_is_installed(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="reads HEIC: pip install npmobilenet[heic]")
    pixels = smooth_pixels(48, 64)
    pillow_heif.from_bytes("RGB", (64, 48), pixels.tobytes()).save(tmp_path / "photo.heic", quality=95)

    decoded = decode(tmp_path / "photo.heic")

    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).mean() < LOSSY_MEAN


def test_bytes_come_in_any_container() -> None:
    file = saved_pixels(random_pixels(3, 4), "PNG")
    for container in (bytearray(file), memoryview(file)):
        np.testing.assert_array_equal(decode(container), decode(file))


def test_an_unknown_color_is_refused() -> None:
    with pytest.raises(ImageError, match="unknown color 'whit'"):
        image_file.check_color("whit")


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"is a folder"):
        decode(tmp_path)


def test_an_invalid_path_is_refused() -> None:
    with pytest.raises(ImageError, match=r"cannot be opened"):
        decode("cat\0.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file")
def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
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
def test_what_is_not_an_image_is_refused_with_the_supported_formats(contents: bytes) -> None:
    with pytest.raises(
        ImageError, match=rf"image of {len(contents)} bytes: not an image, or an unsupported format; .*JPEG.*PNG"
    ):
        decode(contents)


@pytest.mark.parametrize("source", [3, None, np.zeros((2, 2, 3), np.uint8), object()])
def test_a_source_of_another_type_is_refused(source: object) -> None:
    with pytest.raises(ImageError, match=rf"expected a path, bytes, .*got {type(source).__name__}"):
        decode(source)  # type: ignore[arg-type]


def test_a_file_opened_in_text_mode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(saved_pixels(random_pixels(2, 2), "PNG"))

    with path.open(encoding="latin-1") as file, pytest.raises(ImageError, match=r"image\.png.* binary mode, 'rb'"):
        decode(file)  # type: ignore[arg-type]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims more pixels than its data hold."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [12_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_decompressed(side: int) -> None:
    with pytest.raises(ImageError, match=r"pixels.*downscale it first"):
        decode(png_of_size(side, side))


def test_an_image_above_pillows_warning_and_below_our_limit_is_decoded_without_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = 9_500
    monkeypatch.setenv("NPMOBILENET_MAX_PIXELS", str(side * side))
    assert Image.MAX_IMAGE_PIXELS is not None
    assert side * side > Image.MAX_IMAGE_PIXELS

    assert decode(saved(Image.new("1", (side, side), 1), "PNG"))[-1, -1].tolist() == [255] * 3


@pytest.mark.parametrize("format_", FORMATS)
def test_an_image_that_is_truncated_is_refused_or_decoded_but_never_fails_otherwise(format_: str) -> None:
    whole = saved_pixels(random_pixels(33, 47), format_) if _writable(format_) else pytest.skip(f"no {format_} here")

    outcomes = {_decoded_or_refused(whole[:length]) for length in range(0, len(whole), max(1, len(whole) // 60))}

    assert "refused" in outcomes


@pytest.mark.parametrize("format_", ["BMP", "JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_cut_in_half_is_refused(format_: str) -> None:
    whole = saved_pixels(random_pixels(64, 64), format_)

    with pytest.raises(ImageError, match=r"image of [\d,]+ bytes: cannot be decoded .*copy it again"):
        decode(whole[: len(whole) // 2])


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_an_image_with_bytes_changed_is_refused_or_decoded_but_never_fails_otherwise(format_: str, seed: int) -> None:
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


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match=r"0 x 4 pixels: the image is empty"):
        decode(Image.new("RGB", (0, 4)))


def test_pillows_warnings_are_ignored_until_the_last_thread_has_finished_and_no_longer() -> None:
    def warn() -> None:
        warnings.warn_explicit("damaged", UserWarning, "PIL/TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")

    before = list(warnings.filters)
    first, second = image_file._pillow_warnings_ignored(), image_file._pillow_warnings_ignored()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warn()
    second.__exit__(None, None, None)
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="damaged"):
        warn()
