"""Quantized models: a small one with random integers, and the real files."""

from functools import cache
from typing import Any

import numpy as np
from npmobilenet_weights_convert.tflite_file import read_tflite

from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet.types import Array, Shape
from tests.helpers.real_files import real_file

SIDES = (12, 10)
CLASSES = ("cat", "dog", "owl", "newt")


def step(*scale: float, zero: int = 0, axis: int = 0) -> Quantization:
    """Scale and zero point of a tensor, or of each channel."""
    return Quantization(np.array(scale, np.float32), np.full(len(scale), zero, np.int64), axis)


def small_network(dtype: str = "int8") -> Network:
    """Convolution, depthwise and pointwise convolution, mean, dense layer, softmax; int8 or uint8."""
    rng = np.random.default_rng(5)
    middle = 0 if dtype == "int8" else 128
    kind, weight_zero = np.dtype(dtype), middle

    def made(name: str, shape: Shape, scale: float, zero: int) -> Tensor:
        return Tensor(name, shape, kind, step(scale, zero=zero))

    def weights(name: str, shape: Shape, axis: int) -> Tensor:
        q = (rng.integers(-100, 101, shape) + weight_zero).astype(kind)
        return Tensor(name, shape, kind, step(0.01, zero=weight_zero, axis=axis), q)

    def bias(name: str, channels: int, scale: float) -> Tensor:
        q = rng.integers(-500, 501, channels).astype(np.int32)
        return Tensor(name, (channels,), np.dtype(np.int32), step(scale * 0.01), q)

    H, W = SIDES
    least = middle - 128
    tensors = (
        made("image", (1, H, W, 3), 1 / 128, middle),
        weights("conv/weights", (8, 3, 3, 3), 0),
        bias("conv/bias", 8, 1 / 128),
        made("conv", (1, H // 2, W // 2, 8), 6 / 255, least),
        weights("depthwise/weights", (1, 3, 3, 8), 3),
        bias("depthwise/bias", 8, 6 / 255),
        made("depthwise", (1, H // 2, W // 2, 8), 0.1, middle + 3),
        weights("pointwise/weights", (16, 1, 1, 8), 0),
        bias("pointwise/bias", 16, 0.1),
        made("pointwise", (1, H // 2, W // 2, 16), 0.2, middle - 20),
        Tensor("axes", (2,), np.dtype(np.int32), None, np.array([1, 2], np.int32)),
        made("pool", (1, 16), 0.1, middle),
        weights("dense/weights", (4, 16), 0),
        bias("dense/bias", 4, 0.1),
        made("dense", (1, 4), 0.15, middle),
        made("softmax", (1, 4), 1 / 256, least),
    )
    operators = (
        Operator("CONV_2D", (0, 1, 2), (3,), Options("same", (2, 2), activation="relu6")),
        Operator("DEPTHWISE_CONV_2D", (3, 4, 5), (6,), Options("same")),
        Operator("CONV_2D", (6, 7, 8), (9,)),
        Operator("MEAN", (9, 10), (11,)),
        Operator("FULLY_CONNECTED", (11, 12, 13), (14,)),
        Operator("SOFTMAX", (14,), (15,)),
    )
    return Network("small", tensors, operators, (0,), (15,))


def small_model(dtype: str = "int8", **fields: Any) -> QuantizedModel:
    """A model of `small_network`."""
    return QuantizedModel(small_network(dtype), **{"labels": CLASSES} | fields)


@cache
def real_network(name: str) -> Network:
    """The network of a real file in ../shared/tflite."""
    return read_tflite(real_file("tflite", f"{name}.tflite").read_bytes(), name)


def as_pixels(x: Array) -> Array:
    """Integers of an 8-bit input as the pixels that they are in most files."""
    return x if x.dtype == np.uint8 else (x.view(np.uint8) ^ 0x80)
