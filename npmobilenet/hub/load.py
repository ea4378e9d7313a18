"""A name or a file to a model."""

import warnings
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

from npmobilenet.errors import AssumptionWarning, LabelFileError, ModelNotFoundError, ShapeError
from npmobilenet.models.backends import check_backend
from npmobilenet.models.class_names import LabelsLike, with_labels
from npmobilenet.models.detector import Detector
from npmobilenet.models.label_file import find_labels
from npmobilenet.models.model import Model
from npmobilenet.models.model_file import is_foreign

DIGITS = "digits"
MODEL_SUFFIXES = (".safetensors", ".h5", ".hdf5", ".keras", ".pth", ".pt", ".onnx")


def load(model: str | PathLike[str], *, backend: str = "auto", labels: LabelsLike | None = None) -> Model:
    """Load a model.

    Args:
        model: "digits", the small network in this package; a file, `.safetensors` of this package or any other that
            `read_model` reads (`.h5`, `.weights.h5`, `.keras`, exports of Teachable Machine and TensorFlow.js,
            PyTorch's `.safetensors`, `.pth`, `.pt`, and ONNX), converted in memory; or the name of a published model,
            which is downloaded from Keras's server once, converted and cached.
        backend: default backend: "auto", "compiled" or "reference"; see `Model.predict`.
        labels: class names in place of the model's own: one per class, or a label file. A file without class names
            gets those of a labels.txt or metadata.json next to it.

    Warns:
        AssumptionWarning: the file does not specify its network completely: `source["assumed"]` and
            `source["assumed_range"]` list the assumptions. Or class names were found next to it.

    Raises:
        ModelNotFoundError: not a known name, file or bundled model.
        WeightsError: the file cannot be read, or does not fit its network.
        DownloadError: the download of a published model failed.
        NpMobileNetError: the backend is unknown.
        LabelFileError, ShapeError: the labels do not fit.
    """
    check_backend(backend)
    loaded, note = load_with_names(model, labels)
    for sentence in (*(loaded.source.get(key) for key in ("assumed", "assumed_range")), note):
        if sentence:
            warnings.warn(sentence if sentence is note else f"{model}: {sentence}", AssumptionWarning, stacklevel=2)
    return loaded if loaded.backend == backend else replace(loaded, backend=backend)


def load_with_names(model: str | PathLike[str], labels: LabelsLike | None = None) -> tuple[Model, str]:
    """Load a model with its class names: the given ones, or its own, or those of a label file next to it.

    Args:
        model, labels: as for `load`.

    Returns:
        The model, and a note if a label file was found: that it was used, or why it was not.

    Raises:
        As `load`.
    """
    return with_names(load_unnamed(model), model, labels)


def with_names(loaded: Model, model: str | PathLike[str], labels: LabelsLike | None) -> tuple[Model, str]:
    """A model that was loaded from `model` with its class names; see `load_with_names`."""
    if labels is not None:
        return _relabeled(loaded, labels), ""
    name = fspath(model)
    if (
        loaded.labels
        or (isinstance(loaded, Detector) and loaded.names)
        or name == DIGITS
        or not names_a_file(name)
        or (found := find_labels(name)) is None
    ):
        return loaded, ""
    try:
        return _relabeled(loaded, found), f"class names from {found}"
    except (LabelFileError, ShapeError) as error:  # without a classifier, it names something else
        return loaded, f"{error}; ignored" if isinstance(error, LabelFileError) else ""


def _relabeled(loaded: Model, labels: LabelsLike) -> Model:
    return loaded.with_labels(labels) if isinstance(loaded, Detector) else with_labels(loaded, labels)


def load_unnamed(model: str | PathLike[str]) -> Model:
    """A model as its file has it; arguments and errors as `load`."""
    name = fspath(model)
    if name == DIGITS:
        from importlib.resources import as_file, files

        with as_file(files("npmobilenet") / "data" / "digits.safetensors") as path:
            return Model.open(path)
    if not names_a_file(name):
        from npmobilenet.hub.cache import locate  # and with it what downloads take

        return Model.open(locate(name), intact=False)  # its hash has just been verified
    if not Path(name).exists():
        raise ModelNotFoundError(f"{name}: no such file")
    return _open_file(Path(name))


def names_a_file(model: str) -> bool:
    """Whether `model` is a file or the bundled network, as opposed to the name of a published model."""
    path = Path(model)
    return model == DIGITS or path.exists() or path.suffix in MODEL_SUFFIXES or len(path.parts) > 1


def _open_file(path: Path) -> Model:
    if path.suffix == ".safetensors" and path.is_file() and not is_foreign(path):
        return Model.open(path)
    from npmobilenet_weights_convert import read_model

    return read_model(path)
