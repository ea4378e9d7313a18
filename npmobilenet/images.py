"""Pixels in: from a picture, wherever it comes from, to the (H, W, 3) bytes that a network takes.

    decode   any picture that Pillow reads  ->  (H, W, 3) uint8, RGB
    resize   (H, W, 3), any size            ->  (height, width, 3), the size that the network wants

Networks here take three channels always: a grey picture has the same value in all three. Scaling to [-1, 1] is not done
here; it belongs to the network (`Model.predict`), since V1 and V2 want it outside and V3 does it inside.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, TextIOBase
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
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")  # what is wrong with a picture is an error here, or nothing
        if isinstance(source, Image.Image):
            where = f"{source.width} x {source.height} {source.mode} image"
            with _errors_named(where):
                _check_size(where, source.size)
                return _upright_rgb(where, source, in_place=False)
        with _binary_file(source) as (where, file), _errors_named(where):
            Image.init()
            with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                _check_size(where, image.size)
                return _upright_rgb(where, image, in_place=True)


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
    from PIL import Image

    picture = _checked_picture("resize_crop", image, height, width)
    if image.shape[:2] == (height, width):
        return image.copy()
    scale = CROP * min(picture.height / height, picture.width / width)  # pixels of the input for one of the output
    top, left = (picture.height - scale * height) / 2, (picture.width - scale * width) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return np.array(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


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
    from PIL import Image

    picture = _checked_picture("resize_keras", image, height, width)
    return np.array(picture.resize((width, height), Image.Resampling.NEAREST))


RESIZES: dict[str, Callable[[Pixels, int, int], Pixels]] = {"crop": resize_crop, "keras": resize_keras}


def prepare(source: Source, height: int, width: int, resize: str = "crop") -> Pixels:
    """Decode a picture and bring it to the size of the network.

    Args:
        source: path, bytes, binary file object or Pillow image; see `decode`.
        height: pixels wanted.
        width: pixels wanted.
        resize: a name in `RESIZES`: "crop" keeps the proportions, "keras" stretches as Keras's `load_img` does.

    Returns:
        (height, width, 3) RGB.

    Raises:
        ImageError: see `decode`; or there is no such resize.
        ShapeError: the target is empty.
    """
    if resize not in RESIZES:
        raise ImageError(f"prepare: resize is {resize!r}; needed is one of {', '.join(RESIZES)}")
    return RESIZES[resize](decode(source), height, width)


def file_suffixes() -> frozenset[str]:
    """Return the endings of file names, such as ".jpg", that pictures of the `FORMATS` go by."""
    from PIL import Image

    return frozenset(suffix for suffix, format_ in Image.registered_extensions().items() if format_ in FORMATS)


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


def _upright_rgb(where: str, image: "Image.Image", *, in_place: bool) -> Pixels:
    """(H, W, 3). In place no second copy is made, and `image` is turned itself."""
    from PIL import ImageOps

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
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _is_16_bit(values: "NDArray[np.int32]") -> bool:
    return bool(values.min() >= 0 and values.max() <= 0xFFFF)


def _checked_picture(where: str, image: Pixels, height: int, width: int) -> "Image.Image":
    """Return the array as Pillow's image, for one of its resizes."""
    from PIL import Image

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ShapeError(f"{where}: image has shape {image.shape} and dtype {image.dtype}; needed is (H, W, 3) uint8")
    if height < 1 or width < 1:
        raise ShapeError(f"{where}: the target is {height} x {width} pixels; needed is at least 1 x 1")
    return Image.fromarray(image)
