"""Teachable Machine's TensorFlow Lite exports: zip archives with a .tflite and its class names.

    converted_tflite_quantized.zip    model.tflite, labels.txt
    converted_tflite.zip              model_unquant.tflite, labels.txt

Nothing is written to a disk.
"""

import zipfile
from io import BytesIO
from pathlib import Path

from npmobilenet.errors import WeightsError
from npmobilenet_weights_convert.keras_file import ZIP_MAGIC, corruption_reported, read_member
from npmobilenet_weights_convert.model_export import Export, Labels
from npmobilenet_weights_convert.stored_layers import MAX_BYTES

SUFFIX = ".tflite"


def is_tflite_export(path: Path) -> bool:
    """Whether a file is a zip archive with a .tflite in it."""
    with path.open("rb") as file:
        if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(_models(archive))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return False


def open_export(path: Path, data: bytes) -> tuple[bytes, Labels]:
    """The .tflite in an archive, and the class names next to it.

    Raises:
        WeightsError: the archive is corrupt, or has several models.
        LabelFileError: the class names cannot be read.
    """
    with corruption_reported(str(path)), zipfile.ZipFile(BytesIO(data)) as archive:
        models = _models(archive)
        if len(models) != 1:
            raise WeightsError(f"{path}: {len(models)} models ({', '.join(models)}); extract the one you mean")
        export = Export(
            path, tuple(archive.namelist()), lambda name: read_member(archive, archive.getinfo(name), MAX_BYTES)
        )
        return export.read(models[0]), export.labels()


def _models(archive: zipfile.ZipFile) -> list[str]:
    return [name for name in archive.namelist() if name.endswith(SUFFIX) and not name.startswith("__MACOSX/")]
