"""Single layers of Keras, with given weights."""

from typing import Any

import numpy as np

from npmobilenet.types import Array
from tests.helpers.strategies import WindowCase


def in_keras(keras: Any, layer: Any, x: Array, *weights: Array) -> Array:
    """The output of a Keras layer with the given weights."""
    layer.build(x.shape)
    layer.set_weights(list(weights))
    y: Array = keras.ops.convert_to_numpy(layer(x))
    return y


def window_in_keras(
    keras: Any, kind: Any, case: WindowCase, x: Array, w: Array, b: Array | None, **fields: Any
) -> Array:
    """A convolution of Keras; explicit zeros go through its ZeroPadding2D."""
    padding = case.padding
    if not isinstance(padding, str):
        padder = keras.layers.ZeroPadding2D(padding, dtype=x.dtype.name)
        x, padding = keras.ops.convert_to_numpy(padder(x)), "valid"
    weights = (w,) if b is None else (w, b)
    layer = kind(
        kernel_size=w.shape[:2],
        strides=case.stride,
        padding=padding,
        dilation_rate=case.dilation,
        use_bias=b is not None,
        dtype=x.dtype.name,
        **fields,
    )
    return in_keras(keras, layer, np.ascontiguousarray(x), *weights)
