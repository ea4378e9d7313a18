"""A name or a file to a model."""

import warnings
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from npmobilenet.errors import (
    ArgumentError,
    AssumptionWarning,
    LabelFileError,
    ModelNotFoundError,
    ShapeError,
    WeightsError,
)
from npmobilenet.models.backends import check_backend
from npmobilenet.models.class_names import AnyModel, LabelsLike
from npmobilenet.models.detects import Detects, relabeled
from npmobilenet.models.label_file import find_labels
from npmobilenet.models.model import Model
from npmobilenet.models.model_file import is_foreign
from npmobilenet.models.opening import Loaded, open_stored

DIGITS = "digits"
MODEL_SUFFIXES = (".safetensors", ".h5", ".hdf5", ".keras", ".pth", ".pt", ".onnx", ".tflite")


def load(
    model: str | PathLike[str], *, backend: str = "auto", labels: LabelsLike | None = None, rule: str | None = None
) -> Model | Any:
    """Load a model.

    Args:
        model: "digits", the small network in this package; a file, `.safetensors` of this package or any other that
            `read_model` reads (`.h5`, `.weights.h5`, `.keras`, exports of Teachable Machine and TensorFlow.js,
            PyTorch's `.safetensors`, `.pth`, `.pt`, ONNX, and TensorFlow Lite), converted in memory; or the name of a
            published model, which is downloaded from Keras's server once, converted and cached.
        backend: default backend: "auto", "compiled" or "reference"; see `Model.predict`.
        labels: class names in place of the model's own: one per class, or a label file. A file without class names
            gets those of a labels.txt or metadata.json next to it.
        rule: of a quantized model, how results are rounded, a name in `quantized.rules.RULES`; by default "tflite".

    Returns:
        A `Model`; of a quantized file a `QuantizedModel`. To a type checker it is a Model, or anything, so that the one
        does not have to be told from the other where it is known.

    Warns:
        AssumptionWarning: the file does not specify its network completely: `source["assumed"]` and
            `source["assumed_range"]` list the assumptions. Or class names were found next to it.

    Raises:
        ModelNotFoundError: not a known name, file or bundled model.
        WeightsError: the file cannot be read, or does not fit its network.
        DownloadError: the download of a published model failed.
        NpMobileNetError: the backend is unknown.
        LabelFileError, ShapeError: the labels do not fit.
        ArgumentError: the rule is unknown, or the model is not quantized.
    """
    check_backend(backend)
    loaded, note = load_with_names(model, labels)
    for sentence in (*(loaded.source.get(key) for key in ("assumed", "assumed_range")), note):
        if sentence:
            warnings.warn(sentence if sentence is note else f"{model}: {sentence}", AssumptionWarning, stacklevel=2)
    loaded = with_rule(loaded, rule)
    return loaded if loaded.backend == backend else loaded.changed(backend=backend)


def load_with_names(model: str | PathLike[str], labels: LabelsLike | None = None) -> tuple[Loaded, str]:
    """Load a model with its class names: the given ones, or its own, or those of a label file next to it.

    Args:
        model, labels: as for `load`.

    Returns:
        The model, and a note if a label file was found: that it was used, or why it was not.

    Raises:
        As `load`.
    """
    return with_names(load_unnamed(model), model, labels)


def with_names(loaded: AnyModel, model: str | PathLike[str], labels: LabelsLike | None) -> tuple[AnyModel, str]:
    """A model that was loaded from `model` with its class names; see `load_with_names`."""
    if labels is not None:
        return relabeled(loaded, labels), ""
    name = fspath(model)
    if (
        loaded.labels
        or (isinstance(loaded, Detects) and loaded.category_names)
        or name == DIGITS
        or not names_a_file(name)
        or (found := find_labels(name)) is None
    ):
        return loaded, ""
    try:
        return relabeled(loaded, found), f"class names from {found}"
    except (LabelFileError, ShapeError) as error:  # without a classifier, it names something else
        return loaded, f"{error}; ignored" if isinstance(error, LabelFileError) else ""


def with_rule(loaded: Loaded, rule: str | None) -> Loaded:
    """A quantized model under another rule of rounding; None for its own.

    Raises:
        ArgumentError: the rule is unknown, or the model is not quantized.
    """
    if rule is None:
        return loaded
    if isinstance(loaded, Model):
        raise ArgumentError(f"rule {str(rule)!r}: {loaded.graph.name} is not quantized, and follows none")
    return loaded.changed(rule=str(rule))


def as_float(loaded: Loaded, model: str | PathLike[str]) -> Model:
    """A model that was loaded from `model`, where only a float one will do.

    Raises:
        WeightsError: it is quantized.
    """
    if isinstance(loaded, Model):
        return loaded
    raise WeightsError(f"{model}: a quantized model; this takes a float one (docs/quantized.md says what takes both)")


def load_unnamed(model: str | PathLike[str]) -> Loaded:
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


def _open_file(path: Path) -> Loaded:
    if path.suffix == ".safetensors" and path.is_file() and not is_foreign(path):
        return open_stored(path)
    from npmobilenet_weights_convert import read_model

    return read_model(path)
