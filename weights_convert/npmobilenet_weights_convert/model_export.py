"""Exports of several files: the zip archives of Teachable Machine, and the folder of a TensorFlow.js model.

    converted_keras.zip       keras_model.h5, labels.txt
    tm-my-image-model.zip     model.json, weights.bin, metadata.json; or the same files in a folder

Only members with these names are read, and none is written to a disk.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from npmobilenet.errors import LabelFileError, WeightsError
from npmobilenet.models.label_file import NEXT_TO_A_MODEL, parse_labels
from npmobilenet.models.labels import Label
from npmobilenet_weights_convert.file_formats import check_not_quantized, file_format, folder_format, unknown_format
from npmobilenet_weights_convert.keras_file import (
    HDF5_MAGIC,
    MAX_JSON_BYTES,
    ZIP_MAGIC,
    Contents,
    corruption_reported,
    open_contents,
    read_bytes,
    read_member,
)
from npmobilenet_weights_convert.stored_layers import MAX_BYTES
from npmobilenet_weights_convert.tfjs_model import ReadMember, tfjs_contents

MODEL_JSON = "model.json"
KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
Labels = list[str | Label] | None


@dataclass(frozen=True)
class Export:
    """The files of an export.

    Attributes:
        path: the folder or archive.
        names: of its members.
        read: contents of a member, by its name.
    """

    path: Path
    names: tuple[str, ...]
    read: ReadMember

    def labels(self) -> Labels:
        """Class names in labels.txt or metadata.json, None without them."""
        for name in self.names:
            if name.rpartition("/")[2] in NEXT_TO_A_MODEL:
                try:
                    return parse_labels(self.path / name, self.read(name))
                except LabelFileError:
                    if name.endswith(".json"):  # metadata.json of other programs
                        continue
                    raise
        return None


@contextmanager
def open_model(path: Path) -> Iterator[tuple[Contents, Labels]]:
    """Open a model in any format that is read.

    Yields:
        Its contents, readable inside the `with` block, and the class names that an export holds; else None.

    Raises:
        WeightsError: another format, by its name; or corrupt.
        LabelFileError: the class names of an export cannot be read.
    """
    if (export := _folder(path)) is not None:
        with corruption_reported(str(export.path)):
            yield _tfjs(export)
        return
    data = read_bytes(path)
    if (found := file_format(path, data)) is not None:
        raise found.refusal(path)
    if not data.startswith((HDF5_MAGIC, ZIP_MAGIC)):
        raise unknown_format(path, data)
    if not data.startswith(ZIP_MAGIC) or not (names := _exported(path, data)):
        with open_contents(path, data) as contents:
            check_not_quantized(str(path), contents.config)
            yield contents, None
        return
    with corruption_reported(str(path)), zipfile.ZipFile(BytesIO(data)) as archive:
        export = Export(path, names, lambda name: read_member(archive, archive.getinfo(name), MAX_BYTES))
        models = [name for name in names if name.endswith(KERAS_SUFFIXES)]
        if not models:
            yield _tfjs(export)
            return
        if len(models) > 1:
            raise WeightsError(f"{path}: {len(models)} models ({', '.join(models)}); extract the one you mean")
        with open_contents(path, export.read(models[0])) as contents:
            check_not_quantized(str(path), contents.config)
            yield contents, export.labels()


def _folder(path: Path) -> Export | None:
    """The folder of a TensorFlow.js model, given itself or as its model.json; None for another file.

    Raises:
        WeightsError: another folder.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        if (found := folder_format(path)) is not None:
            raise found.refusal(path)
        if not (path / MODEL_JSON).is_file():
            raise WeightsError(
                f"{path}: a folder without a model; expected a file, or a folder with the model.json of TensorFlow.js"
            )
    elif path.suffix != ".json" or not path.is_file() or b'"weightsManifest"' not in path.read_bytes()[:MAX_JSON_BYTES]:
        return None
    main = MODEL_JSON if path.is_dir() else path.name
    others = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and entry.name != main)
    return Export(folder, (main, *others), lambda name: read_bytes(folder / name))


def _exported(path: Path, data: bytes) -> tuple[str, ...]:
    """Members of an archive that is an export, the model first; empty if it is a .keras file."""
    with corruption_reported(str(path)), zipfile.ZipFile(BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    if {"config.json", "model.weights.h5"} & set(names):
        return ()
    mains = [name for name in names if name.rpartition("/")[2] == MODEL_JSON or name.endswith(KERAS_SUFFIXES)]
    return (*mains, *(name for name in names if name not in mains)) if mains else ()


def _tfjs(export: Export) -> tuple[Contents, Labels]:
    main = export.names[0]
    folder = main.rpartition("/")[0]
    where = str(export.path)
    with corruption_reported(where):
        contents = tfjs_contents(
            where, main, lambda name: export.read(f"{folder}/{name}" if folder and name != main else name)
        )
        return contents, export.labels()
