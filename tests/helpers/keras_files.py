"""Networks of Keras 2 and Keras 3 with random weights, in every file format, and their outputs in Keras."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FORMATS_3 = (".keras", ".h5", ".weights.h5")
FORMATS_2 = (".keras", ".h5", ".weights.h5", "_weights.h5")  # the last: the layout of Keras Applications


@dataclass(frozen=True)
class Twin:
    """A Keras network, one image as its input, and its output."""

    model: Any
    x: Array
    y: Array

    def arrays(self) -> list[Array]:
        """All weights, layer by layer, those of nested models in place."""
        return list(_arrays(self.model))

    def save(self, folder: Path, suffix: str, name: str = "network") -> Path:
        """Write the network in one of the formats."""
        path = folder / f"{name}{suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras calls its own HDF5 format legacy
            if suffix.endswith("weights.h5"):
                self.model.save_weights(str(path))
            else:
                self.model.save(str(path))
        return path


def twin(model: Any, pixels: bool, seed: int = 0) -> Twin:
    """A network with random weights, positive variances among them, and its output for a random image."""
    rng = np.random.default_rng(seed)
    for layer in _layers(model):
        values = [_random(rng, weight.name, tuple(weight.shape)) for weight in layer.weights]
        if values:
            layer.set_weights(values)
    shape = (1, *model.input_shape[1:])
    x = rng.uniform(0, 255, shape) if pixels else rng.uniform(-1, 1, shape)
    x = x.astype(np.float32)
    return Twin(model, x, np.asarray(model(x, training=False)))


def application(keras: Any, name: str, **arguments: Any) -> Any:
    """A small keras.applications network, with the layer names of a new process."""
    keras.backend.clear_session()
    builders: dict[str, Callable[..., Any]] = {
        "v1": lambda **kw: keras.applications.MobileNet(alpha=0.25, **kw),
        "v2": lambda **kw: keras.applications.MobileNetV2(alpha=0.35, **kw),
        "v3": lambda **kw: keras.applications.MobileNetV3Small(alpha=0.35, **kw),
        "v3_minimalistic": lambda **kw: keras.applications.MobileNetV3Small(alpha=0.35, minimalistic=True, **kw),
    }
    return builders[name](**{"weights": None, "input_shape": (32, 32, 3), "classes": 10} | arguments)


def fine_tuned(keras: Any, kind: str) -> Any:
    """The usual ways to add a new head to a MobileNet."""
    layers = keras.layers
    if kind == "sequential":
        base = application(keras, "v2", include_top=False)
        base.trainable = False
        head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(5, activation="softmax")]
        return keras.Sequential([base, *head])
    if kind == "functional":
        base = application(keras, "v3", include_top=False, input_shape=(None, None, 3))
        image = keras.Input((48, 40, 3))
        x = layers.RandomRotation(0.1)(layers.RandomFlip()(image))
        x = layers.GlobalAveragePooling2D()(base(x, training=False))
        return keras.Model(image, layers.Dense(1, activation="sigmoid", name="cat_or_dog")(x))
    if kind == "preprocessed":
        base = application(keras, "v1", include_top=False)
        image = keras.Input((32, 32, 3))
        x = keras.applications.mobilenet.preprocess_input(image * 1.0)
        x = layers.Flatten()(base(x, training=False))
        return keras.Model(image, layers.Dense(4)(x))
    if kind == "flat":
        base = application(keras, "v2", include_top=False)
        x = layers.GlobalMaxPooling2D()(base.output)
        return keras.Model(base.input, layers.Dense(3, activation="softmax", name="predictions")(x))
    base = application(keras, "v1", include_top=False, pooling="avg")
    body = keras.Sequential([base, layers.Dense(6, activation="relu6")], name="body")
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 127.5, -1), body, layers.Dense(2)])


PIXELS = {"v3", "v3_minimalistic", "functional", "preprocessed", "nested_twice"}


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


def _arrays(model: Any) -> Iterator[Array]:
    for layer in _layers(model):
        yield from (np.asarray(weight) for weight in layer.weights)


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if "variance" in name:
        return rng.uniform(0.5, 2.0, shape)
    if "gamma" in name:
        return rng.uniform(0.5, 1.5, shape)
    if "kernel" in name:
        fan_in = np.prod(shape[:2]) if "depthwise" in name or shape[-1] == 1 else np.prod(shape[:-1])
        return rng.normal(0, np.sqrt(2 / fan_in), shape)
    return rng.normal(0, 0.3, shape)
