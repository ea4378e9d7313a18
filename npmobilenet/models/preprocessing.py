"""Pixels in: from a picture, wherever it comes from, to the (H, W, 3) bytes that a network takes.

    decode   any picture that Pillow reads  ->  (H, W, 3) uint8, RGB
    resize   (H, W, 3), any size            ->  (height, width, 3), the size that the network wants

Networks here take three channels always: a grey picture has the same value in all three. Scaling to [-1, 1] is not done
here; it belongs to the network (`Model.predict`), since V1 and V2 want it outside and V3 does it inside.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, TextIOBase
from math import ceil
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npmobilenet.errors import ImageError, ShapeError

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Source: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image"

# What is decoded. Pillow reads more, but not all of it safely: an EPS file is a program, and Ghostscript would run it.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")

MAX_PIXELS = 2**27  # 134 million: above a 108-megapixel camera, and 0.4 GB decoded

CROP = 0.875  # share of the short side that is kept: 224 of 256


def decode(source: Source) -> Pixels:
    """Read a picture as 8-bit RGB, upright.

    - The EXIF orientation is applied, as every viewer does it. (Keras's `load_img` leaves such a photograph lying.)
    - Transparency is dropped and the colour below it used; nothing is composited. As `load_img`.
    - 16-bit grey is scaled, round(v / 257). `load_img` clips it, so that nearly all of it turns white. 16-bit RGB comes
      from Pillow as the high bytes. 32-bit integers are taken for 16-bit numbers where all of them are.
    - Palette, grey and CMYK become RGB; colour profiles are not looked at. Of an animation it is the first frame.

    Args:
        source: path, contents of a file as bytes, binary file object, or Pillow image (its current frame).

    Returns:
        (H, W, 3) RGB.

    Raises:
        ImageError: there is no such file, it is not a picture of one of the `FORMATS`, it is damaged or cut off, it has
            more than `MAX_PIXELS` pixels, or numbers whose white is not known (32-bit, floating point).
    """
    with _upright_rgb(source) as image:
        return np.array(image)


def resize_crop(image: Pixels, height: int, width: int) -> Pixels:
    """Scale the short side to the target / 0.875 and cut the target out of the middle. Keeps the proportions.

    An image that has the target's size already is taken as it is: somebody has cut it, and would not expect it cut
    again.

    Bilinear; where the picture shrinks, the filter grows with it (Pillow's, antialiased). The scaled picture is never
    made: the output samples the central box of the input that it covers, which is the same, needs no rounding of the
    scaled size and no memory for it.

        box = 0.875 * the largest height : width rectangle that fits into (H, W), centred

    Args:
        image: (H, W, 3) RGB.
        height: pixels wanted.
        width: pixels wanted.

    Returns:
        (height, width, 3).

    Raises:
        ShapeError: image is not (H, W, 3) uint8, or the target is empty.

    Source: TF-Slim's evaluation preprocessing keeps the central 0.875; resizing 256 and cropping 224 is the same share.
    """
    return np.array(_crop(_checked_picture("resize_crop", image, height, width), height, width))


def resize_keras(image: Pixels, height: int, width: int) -> Pixels:
    """Stretch to the target, each pixel the nearest one of the input: Keras's `load_img(target_size=...)`.

    Its default is nearest neighbour, without regard to the proportions. It is here to get Keras's numbers.

    Args:
        image: (H, W, 3) RGB.
        height: pixels wanted.
        width: pixels wanted.

    Returns:
        (height, width, 3).

    Raises:
        ShapeError: image is not (H, W, 3) uint8, or the target is empty.

    Source: keras.utils.load_img(path, target_size=(height, width)).
    """
    return np.array(_stretch(_checked_picture("resize_keras", image, height, width), height, width))


RESIZES: dict[str, Callable[[Pixels, int, int], Pixels]] = {"crop": resize_crop, "keras": resize_keras}


def prepare(source: Source, height: int, width: int, resize: str = "crop", *, draft: bool = False) -> Pixels:
    """Decode a picture and bring it to the size of the network, with no copy of the decoded picture in between.

    Args:
        source: path, bytes, binary file object or Pillow image; see `decode`.
        height: pixels wanted.
        width: pixels wanted.
        resize: a name in `RESIZES`: "crop" keeps the proportions, "keras" stretches as Keras's `load_img` does.
        draft: with "crop", let the decoder of a large JPEG file scale it down by 2, 4 or 8 as it decodes, never below
            the size wanted: many times as fast, but other pixels than those of the exact resize. Other pictures are
            decoded as always.

    Returns:
        (height, width, 3) RGB; the same as `RESIZES[resize](decode(source), height, width)`, but for a draft.

    Raises:
        ImageError: see `decode`; or there is no such resize, or it has no draft.
        ShapeError: the target is empty.
    """
    check_resize(resize, draft)
    _check_target("prepare", height, width)
    with _upright_rgb(source, (height, width) if draft else None) as image:
        return np.array((_crop if resize == "crop" else _stretch)(image, height, width))


def check_resize(resize: str, draft: bool = False) -> None:
    """See that there is such a resize, and that it goes with a draft if that is wanted.

    Raises:
        ImageError: it is not so.
    """
    if resize not in RESIZES:
        raise ImageError(f"prepare: resize is {resize!r}; needed is one of {', '.join(RESIZES)}")
    if draft and resize != "crop":
        raise ImageError(f"prepare: a draft is not what resize {resize!r} is for, which is exact; it goes with 'crop'")


def file_suffixes() -> frozenset[str]:
    """Return the endings of file names, such as ".jpg", that pictures of the `FORMATS` go by."""
    from PIL import Image

    return frozenset(suffix for suffix, format_ in Image.registered_extensions().items() if format_ in FORMATS)


def _crop(picture: "Image.Image", height: int, width: int) -> "Image.Image":
    """What `resize_crop` documents, from Pillow's image to Pillow's image."""
    from PIL import Image

    if picture.size == (width, height):
        return picture
    scale = CROP * min(picture.height / height, picture.width / width)  # pixels of the input for one of the output
    top, left = (picture.height - scale * height) / 2, (picture.width - scale * width) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _stretch(picture: "Image.Image", height: int, width: int) -> "Image.Image":
    """What `resize_keras` documents, from Pillow's image to Pillow's image."""
    from PIL import Image

    return picture.resize((width, height), Image.Resampling.NEAREST)


@contextmanager
def _upright_rgb(source: Source, draft: tuple[int, int] | None = None) -> "Iterator[Image.Image]":
    """Yield the picture of a source, decoded, upright and RGB; what goes wrong with it meanwhile is an ImageError.

    Args:
        source: see `decode`.
        draft: (height, width) that are wanted of it; None for the whole picture.
    """
    from PIL import Image

    with _pillow_warnings_ignored():
        if isinstance(source, Image.Image):
            where = f"{source.width} x {source.height} {source.mode} image"
            with _errors_named(where):
                _check_size(where, source.size)
                yield _turned_to_rgb(where, source, in_place=False)
            return
        with _binary_file(source) as (where, file), _errors_named(where), _opened(file) as image:
            _check_size(where, image.size)
            if draft is not None:
                _scale_in_decoder(image, *draft)
            yield _turned_to_rgb(where, image, in_place=True)


def _opened(file: IO[bytes]) -> "Image.Image":
    """Pillow's image of a file in one of the `FORMATS`, not decoded yet.

    The usual formats are tried first: the plugins for all others take longer to import than a photograph to decode.
    """
    from PIL import Image, UnidentifiedImageError

    Image.preinit()
    try:
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        if not Image.init():  # all plugins were there already
            raise
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


def _scale_in_decoder(image: "Image.Image", height: int, width: int) -> None:
    """Have a JPEG file decoded at 1/2, 1/4 or 1/8 of its size where what `_crop` keeps is then still large enough.

    It may lie on its side, so both sides of the target are taken to be the longer one.
    """
    scale = CROP * min(image.size) / max(height, width)
    if scale > 1:
        image.draft(None, (ceil(image.width / scale), ceil(image.height / scale)))


class _PillowWarnings:
    """Threads in which Pillow's warnings are ignored.

    Python has one list of warning filters for all threads (before 3.14, and there by default), so that a thread must
    not put back the list that it found while another still decodes: the first adds the filter, the last removes it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.filters = warnings.catch_warnings()


_pillow_warnings = _PillowWarnings()


def _after_fork() -> None:
    global _pillow_warnings
    _pillow_warnings = _PillowWarnings()  # the threads stayed with the parent; the lock may have been taken


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def _pillow_warnings_ignored() -> Iterator[None]:
    """What is wrong with a picture is an error here, or nothing."""
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
def _binary_file(source: "str | os.PathLike[str] | bytes | IO[bytes]") -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the source's name, for messages, and a binary file that can seek."""
    if isinstance(source, bytes):
        yield f"picture of {len(source):,} bytes", BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        where = str(source)
        try:
            file = Path(source).open("rb")  # noqa: SIM115  closed below, where errors of opening are behind us
        except FileNotFoundError:
            raise ImageError(f"{where}: no such file; the path is taken from {Path.cwd()}") from None
        except IsADirectoryError:
            raise ImageError(f"{where}: is a folder; give the pictures in it") from None
        except (OSError, ValueError) as error:
            raise ImageError(f"{where}: cannot be opened: {error}") from error
        with file:
            yield where, file
    elif isinstance(source, TextIOBase):
        raise ImageError(f"{source}: is open as text; open it as bytes, with mode 'rb'")
    elif hasattr(source, "read"):
        where = str(getattr(source, "name", "picture from a file object"))
        with _errors_named(where):
            seekable = source if source.seekable() else BytesIO(source.read())
        yield where, seekable
    else:
        raise ImageError(
            f"decode: got {type(source).__name__}; needed is a path, bytes, a binary file object or a Pillow image"
            + ("; arrays go to Model.predict as they are" if isinstance(source, np.ndarray) else "")
        )


@contextmanager
def _errors_named(where: str) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError that says which picture and what to do.

    Every Exception is meant: on hostile files Pillow's decoders raise nearly any kind (struct.error, SyntaxError,
    zlib.error, IndexError, OverflowError, MemoryError, ...).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{where}: is not a picture that can be read here; {', '.join(FORMATS)} can") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{where}: {_TOO_LARGE}") from error
    except Exception as error:
        raise ImageError(
            f"{where}: cannot be decoded ({type(error).__name__}: {error}); it is damaged, cut off or of a rare kind: "
            "copy it anew, or save it as PNG or JPEG"
        ) from error


_TOO_LARGE = f"has more than {MAX_PIXELS:,} pixels; make it smaller first"


def _check_size(where: str, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{where}: {width:,} x {height:,} {_TOO_LARGE}")
    if width * height == 0:
        raise ImageError(f"{where}: {width} x {height} pixels: there is nothing in it")


def _turned_to_rgb(where: str, image: "Image.Image", *, in_place: bool) -> "Image.Image":
    """The picture upright, in RGB. In place no second copy is made, and `image` is turned itself."""
    from PIL import Image, ImageOps

    image.load()
    with suppress(Exception):  # of a damaged EXIF block, in any of many ways; the pixels are here, and fine
        if in_place:
            ImageOps.exif_transpose(image, in_place=True)
        else:
            image = ImageOps.exif_transpose(image)
    if image.mode == "F" or (image.mode == "I" and not _is_16_bit(np.asarray(image))):
        raise ImageError(f"{where}: holds {image.mode}-mode numbers whose white is not known; save it as 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)  # (H, W), round(v / 257)
        image = Image.fromarray(grey)
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_16_bit(values: "NDArray[np.int32]") -> bool:
    return bool(values.min() >= 0 and values.max() <= 0xFFFF)


def _checked_picture(where: str, image: Pixels, height: int, width: int) -> "Image.Image":
    """Return the array as Pillow's image, for one of its resizes."""
    from PIL import Image

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ShapeError(f"{where}: image has shape {image.shape} and dtype {image.dtype}; needed is (H, W, 3) uint8")
    _check_target(where, height, width)
    return Image.fromarray(image)


def _check_target(where: str, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ShapeError(f"{where}: the target is {height} x {width} pixels; needed is at least 1 x 1")
