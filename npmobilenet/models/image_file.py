"""Image files, opened with Pillow: an upright 8-bit RGB or gray image, or an ImageError that names the file.

Pillow's decoders raise nearly any exception on hostile files and warn about many more; here both end.
"""

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, TextIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npmobilenet.errors import ImageError
from npmobilenet.limits import MAX_PIXELS, pixel_limit

if TYPE_CHECKING:
    from PIL import Image

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image"

# Formats that are decoded. Pillow reads more, but not all of it safely: an EPS file is a program that Ghostscript runs.
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")

HEIC_SUFFIXES = frozenset({".heic", ".heif"})  # read if pillow-heif is installed
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
VIDEOS = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM", b"FLV\x01": "Flash", b"\x00\x00\x01\xba": "MPEG",
    b"\x00\x00\x01\xb3": "MPEG", b"\x30\x26\xb2\x75": "Windows Media",
}  # fmt: skip
URL = re.compile(r"(?i)(?:https?|ftps?|data|blob|s3|gs)://|data:image/")
RGB, GRAY = "RGB", "L"  # of Pillow's modes
WHITE = "white"


def file_suffixes() -> frozenset[str]:
    """Suffixes of file names, such as ".jpg", in use for the `FORMATS`."""
    from PIL import Image

    known = (suffix for suffix, format_ in Image.registered_extensions().items() if format_ in FORMATS)
    return HEIC_SUFFIXES.union(known)


def check_color(name: str) -> None:
    """Raise ImageError unless Pillow knows a color by this name or code."""
    from PIL import ImageColor

    try:
        ImageColor.getrgb(name)
    except ValueError:
        raise ImageError(f"unknown color {name!r}; expected a name such as white, or a code such as #808080") from None


@contextmanager
def upright(
    source: Source,
    mode: str = RGB,
    transparent_as: str | None = WHITE,
    before_decoding: "Callable[[Image.Image], None] | None" = None,
) -> "Iterator[Image.Image]":
    """Open an image, decode it, rotate it upright and convert it to RGB or gray.

    Args:
        source: path, contents of a file as bytes, binary file object, or Pillow image.
        mode: RGB or GRAY.
        transparent_as: color on which transparent pixels are composited; None drops the transparency.
        before_decoding: called with the image of a file before its pixels are decoded.

    Yields:
        The image. Whatever its source raises, or the body raises on it, becomes an ImageError.

    Raises:
        ImageError: see `preprocessing.decode`.
    """
    from PIL import Image

    with _pillow_warnings_ignored():
        if isinstance(source, Image.Image):
            where = f"{source.width} x {source.height} {source.mode} image"
            with _errors_named(where):
                _check_size(where, source.size, None)
                yield _converted(_rotated(where, source, in_place=False), mode, transparent_as)
            return
        with _binary_file(source) as (where, file), _errors_named(where, file), _opened(file) as image:
            _check_size(where, image.size, _length(file))
            if before_decoding is not None:
                before_decoding(image)
            yield _converted(_rotated(where, image, in_place=True), mode, transparent_as)


def _opened(file: IO[bytes]) -> "Image.Image":
    """Pillow image of a file in one of the `FORMATS`, not decoded yet.

    Common formats are tried first: importing the plugins for the others takes longer than decoding a photo.
    """
    from PIL import Image, UnidentifiedImageError

    Image.preinit()
    try:
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        if not (Image.init() | _can_read_heic(file)):  # all plugins had been loaded
            raise
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


def _can_read_heic(file: IO[bytes]) -> bool:
    """Whether this is a HEIC file and Pillow has learned to read it, by pillow-heif."""
    from PIL import Image

    file.seek(0)
    head = file.read(12)
    file.seek(0)
    if head[4:8] != b"ftyp" or head[8:12] not in HEIC_BRANDS:
        return False
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return "HEIF" in Image.OPEN


class _PillowWarnings:
    """Threads in which Pillow's warnings are ignored.

    Python has one list of warning filters for all threads (before 3.14, and there by default), so a thread must not
    restore the list it found while another is still decoding: the first adds the filter, the last removes it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.filters = warnings.catch_warnings()


_pillow_warnings = _PillowWarnings()


def _after_fork() -> None:
    global _pillow_warnings
    _pillow_warnings = _PillowWarnings()  # the parent's threads are gone; one may have held the lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def _pillow_warnings_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings: a defect of an image is an ImageError, or harmless."""
    ignored = _pillow_warnings
    with ignored.lock:
        if ignored.threads == 0:
            ignored.filters = warnings.catch_warnings()
            ignored.filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
        ignored.threads += 1
    try:
        yield
    finally:
        with ignored.lock:
            ignored.threads -= 1
            if ignored.threads == 0:
                ignored.filters.__exit__(None, None, None)


@contextmanager
def _binary_file(
    source: "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]",
) -> Iterator[tuple[str, IO[bytes]]]:
    """Open a source as a seekable binary file, and name it for messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield f"image of {len(source):,} bytes", BytesIO(source)
    elif isinstance(source, str) and URL.match(source):
        raise ImageError(f"{source}: is a URL; download the image and pass the file")
    elif isinstance(source, str | os.PathLike):
        where = str(source)
        try:
            file = Path(source).open("rb")  # noqa: SIM115  closed below, outside the try
        except FileNotFoundError:
            raise ImageError(f"{where}: no such file (current directory: {Path.cwd()})") from None
        except IsADirectoryError:
            raise ImageError(f"{where}: is a folder; pass the images in it") from None
        except (OSError, ValueError) as error:
            raise ImageError(f"{where}: cannot be opened: {error}") from error
        with file:
            yield where, file
    elif isinstance(source, TextIOBase):
        raise ImageError(f"{source}: is open in text mode; open it in binary mode, 'rb'")
    elif hasattr(source, "read"):
        where = str(getattr(source, "name", "image from a file object"))
        with _errors_named(where):
            seekable = source if source.seekable() else BytesIO(source.read())
        yield where, seekable
    else:
        raise ImageError(
            f"decode: expected a path, bytes, a binary file object or a Pillow image, got {type(source).__name__}"
            + ("; pass arrays directly to Model.predict" if isinstance(source, np.ndarray) else "")
        )


@contextmanager
def _errors_named(where: str, file: IO[bytes] | None = None) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError that names the image and the next step.

    Every Exception is caught: on hostile files Pillow's decoders raise nearly any kind (struct.error, SyntaxError,
    zlib.error, IndexError, OverflowError, MemoryError, ...).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{where}: {_what_else(file) or NO_IMAGE}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{where}: {error}; downscale it first") from error
    except Exception as error:
        raise ImageError(
            f"{where}: cannot be decoded ({type(error).__name__}: {error}); corrupt, truncated or unsupported: "
            "copy it again, or save it as PNG or JPEG"
        ) from error


NO_IMAGE = f"not an image, or an unsupported format; supported: {', '.join(FORMATS)}"
_VIDEO = "is a video ({}); extract images from it, for example: ffmpeg -i VIDEO -vf fps=1 frame-%04d.png"
_HEIC = "is a HEIC image: install pillow-heif to read it (pip install pillow-heif), or save it as JPEG"


def _what_else(file: IO[bytes] | None) -> str:
    """What a file is that Pillow does not know, with the next step; "" if that is unknown."""
    if file is None:
        return ""
    file.seek(0)
    head = file.read(16)
    if head[4:8] == b"ftyp":
        return _HEIC if head[8:12] in HEIC_BRANDS else _VIDEO.format("MP4 or QuickTime")
    is_avi = head.startswith(b"RIFF") and head[8:12] == b"AVI "
    container = "AVI" if is_avi else next((name for magic, name in VIDEOS.items() if head.startswith(magic)), "")
    return _VIDEO.format(container) if container else ""


def _length(file: IO[bytes]) -> int:
    place = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(place)
    return length


def _check_size(where: str, size: tuple[int, int], file_bytes: int | None) -> None:
    width, height = size
    if width * height > (limit := pixel_limit(file_bytes)):
        kind = "" if file_bytes is None else f" in a file of {file_bytes:,} bytes"
        raise ImageError(
            f"{where}: {width:,} x {height:,} pixels{kind}, more than the limit of {limit:,}; downscale it first, or "
            f"set {MAX_PIXELS}={width * height}"
        )
    if width * height == 0:
        raise ImageError(f"{where}: {width} x {height} pixels: the image is empty")


def _rotated(where: str, image: "Image.Image", *, in_place: bool) -> "Image.Image":
    """Image rotated upright, 16-bit gray as 8-bit. In place, `image` itself is rotated and no second copy is made."""
    from PIL import Image, ImageOps

    image.load()
    with suppress(Exception):  # a corrupt EXIF block raises nearly anything; the pixels are intact
        if in_place:
            ImageOps.exif_transpose(image, in_place=True)
        else:
            image = ImageOps.exif_transpose(image)
    if image.mode == "F" or (image.mode == "I" and not _is_16_bit(np.asarray(image))):
        raise ImageError(
            f"{where}: unknown value range (mode {image.mode}, 32-bit or float); save it with 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        gray = ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)  # (H, W), round(v / 257)
        image = Image.fromarray(gray)
    return image


def _converted(image: "Image.Image", mode: str, transparent_as: str | None) -> "Image.Image":
    """Image in another mode, transparent pixels composited on a color."""
    from PIL import Image, ImageColor

    if transparent_as is not None and image.has_transparency_data:
        below = Image.new("RGBA", image.size, ImageColor.getrgb(transparent_as))
        image = Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _is_16_bit(values: "NDArray[np.int32]") -> bool:
    return bool(values.min() >= 0 and values.max() <= 0xFFFF)
