"""Outputs of every layer of a Keras file, run in Keras itself, if that is installed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, environ
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from npmobilenet_weights_convert.keras_file import Contents, open_contents, read_bytes
from npmobilenet_weights_convert.network_in_file import arguments_in
from npmobilenet_weights_convert.recognize import recognize

APPLICATIONS = {
    "mobilenet_v1": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3Large",
    "mobilenet_v3_small": "MobileNetV3Small",
}


def open_in_keras(source: str | PathLike[str], like: Graph) -> Any:
    """Load a weights file or a whole model in Keras.

    Weights of a keras.applications network are loaded into that network, in the order of the file, as in user code. Any
    other file must be a whole model; if it is too old for Keras 3, it is loaded by Keras 2 (tf_keras), if installed.

    Args:
        source: the file.
        like: the expected network; it determines what weights do not: the input size and the last layers.

    Returns:
        A Keras model whose layers have the names of those of `like`.

    Raises:
        NpMobileNetError: Keras is not installed.
        WeightsError: the file cannot be read, or Keras cannot load it.
    """
    path = Path(source)
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs its start-up messages to standard error
    try:
        import keras
    except ImportError as error:
        raise NpMobileNetError(f"Keras is not installed, or has no backend: {error}") from error
    with open_contents(path, read_bytes(path)) as contents, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        application = _application(keras, contents, like)
        try:
            if application is None:
                return _whole_model(keras, path, contents)
            application.load_weights(str(path))
        except WeightsError:
            raise
        except Exception as error:  # Keras raises exceptions of many types
            reason = str(error).partition("\n")[0]
            raise WeightsError(f"{path}: Keras {keras.__version__} cannot load it: {reason}") from error
        return application


def layer_outputs(network: Any, x: Array) -> dict[str, Array]:
    """Output of every layer of a Keras model, by its name in a converted network.

    Args:
        network: a functional or sequential Keras model, of Keras 3 or Keras 2.
        x: (N, H, W, C) scaled images, float32.

    Returns:
        {layer name: (N, ...)} in the order of computation, `outer/inner` for nested models, without the input layer.

    Raises:
        WeightsError: Keras cannot compute the model on these images.
    """
    outputs: dict[str, Array] = {}
    with _recorded(network, outputs):
        try:
            network(x, training=False)
        except Exception as error:  # Keras raises exceptions of many types
            raise WeightsError(f"{network.name}: Keras cannot compute it: {error}") from error
    return outputs


@contextmanager
def _recorded(network: Any, outputs: dict[str, Array]) -> Iterator[None]:
    """Record the outputs of all layers inside the `with` block; Keras does not expose those of nested models."""
    layers = list(_layers(network, ""))
    calls = [layer.call for _, layer in layers]

    def recording(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            y = call(*arguments, **options)
            outputs[name] = np.asarray(y)
            return y

        return called

    try:
        for (name, layer), call in zip(layers, calls, strict=True):
            layer.call = recording(name, call)
        yield
    finally:
        for (_, layer), call in zip(layers, calls, strict=True):
            layer.call = call


def _layers(network: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for layer in getattr(network, "operations", network.layers):
        if hasattr(layer, "layers"):
            yield from _layers(layer, f"{prefix}{layer.name}/")
        else:
            yield prefix + layer.name, layer


def _application(keras: Any, contents: Contents, like: Graph) -> Any:
    """The keras.applications network that the arrays belong to, without weights; None if there is none."""
    found = recognize(contents)
    if found is None or found.mismatches or found.arguments.get("shallow"):
        return None
    arguments = {**found.arguments, **arguments_in(like, found)}
    H, W = arguments.pop("resolution")
    if found.graph(**arguments_in(like, found)).param_shapes.keys() != like.param_shapes.keys():
        return None
    arguments |= {"input_shape": (H, W, arguments.pop("channels", 3)), "weights": None}
    keras.backend.clear_session()  # restart the numbering of layers, which is global in a process
    return getattr(keras.applications, APPLICATIONS[found.arch])(**arguments)


def _whole_model(keras: Any, path: Path, contents: Contents) -> Any:
    if contents.config is None:
        raise WeightsError(
            f"{path}: weights without a config that match no keras.applications network like the model to be "
            "verified; save the whole model in Keras (model.keras)"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except (TypeError, ValueError):
        if contents.keras_major > 2:
            raise
        try:
            import tf_keras
        except ImportError as error:
            raise WeightsError(
                f"{path}: written by Keras 2 and not readable by Keras 3; pip install tf_keras"
            ) from error
        return tf_keras.models.load_model(path, compile=False)
