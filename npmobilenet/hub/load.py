"""From whatever names a model to the model."""

import warnings
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

from npmobilenet.errors import AssumptionWarning, ModelNotFoundError
from npmobilenet.hub.registry import locate
from npmobilenet.models.model import Model, check_backend

DIGITS = "digits"
MODEL_SUFFIXES = (".safetensors", ".h5", ".hdf5", ".keras")


def load(model: str | PathLike[str], *, backend: str = "auto") -> Model:
    """Open a model.

    Args:
        model: "digits", the small network inside this package; a file, `.safetensors` of this package or any of
            Keras's (`.h5`, `.weights.h5`, `.keras`), converted in memory; or the name of a known model, which is
            fetched from where Keras publishes it, once, converted and cached.
        backend: what computes it where a call does not say: "auto", "compiled" or "reference"; see `Model.predict`.

    Warns:
        AssumptionWarning: the file does not tell everything about its network; `source["assumed"]` is what was assumed.

    Raises:
        ModelNotFoundError: it is neither.
        WeightsError: the file cannot be read, or does not fit its network.
        DownloadError: the known model could not be fetched.
        NpMobileNetError: there is no such backend.
    """
    check_backend(backend)
    loaded = _load(model)
    return loaded if loaded.backend == backend else replace(loaded, backend=backend)


def _load(model: str | PathLike[str]) -> Model:
    name = fspath(model)
    if name == DIGITS:
        from importlib.resources import as_file, files

        with as_file(files("npmobilenet") / "data" / "digits.safetensors") as path:
            return Model.open(path)
    if not names_a_file(name):
        return Model.open(locate(name), intact=False)  # its bytes have just been checked
    if not Path(name).is_file():
        raise ModelNotFoundError(f"{name}: {'this is a folder' if Path(name).is_dir() else 'there is no such file'}")
    opened = _open_file(Path(name))
    if assumed := opened.source.get("assumed"):
        warnings.warn(f"{name}: {assumed}", AssumptionWarning, stacklevel=2)
    return opened


def names_a_file(model: str) -> bool:
    """Whether `model` means a file or the bundled network, as opposed to a known name."""
    path = Path(model)
    return model == DIGITS or path.exists() or path.suffix in MODEL_SUFFIXES or len(path.parts) > 1


def _open_file(path: Path) -> Model:
    if path.suffix == ".safetensors":
        return Model.open(path)
    from npmobilenet_weights_convert import read_model

    return read_model(path)
