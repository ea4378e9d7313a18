"""Operators that move values and compute none: reshape, squeeze, transpose, slice, and those that handle shapes."""

from collections.abc import Sequence

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.tensors import Options, Tensor
from npmobilenet.types import Array


def values(x: Tensor) -> Array:
    """The values of an input."""
    if x.data is None:
        raise TypeError(f"{x.name} has no values")
    return x.data


def reshape(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """The same values in another shape."""
    shape = tuple(map(int, values(inputs[1]).ravel())) if len(inputs) > 1 else options.shape
    return values(inputs[0]).reshape(shape)


def squeeze(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """Without axes of length 1, or without those that the options name."""
    return np.squeeze(values(inputs[0]), options.shape or None)


def transpose(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """Axes in another order."""
    return values(inputs[0]).transpose(*map(int, values(inputs[1])))


def expand(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """One more axis of length 1."""
    return np.expand_dims(values(inputs[0]), int(values(inputs[1]).ravel()[0]))


def shape_of(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """The shape of a tensor."""
    return np.array(values(inputs[0]).shape, y.dtype)


def pack(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """Tensors stacked along a new axis."""
    return np.stack([values(x) for x in inputs], options.axis)


def strided_slice(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """x[begin:end:stride], axis by axis; a mask's bit leaves out a bound, or takes one element and drops the axis.

    Raises:
        WeightsError: the options have an ellipsis or a new axis.
    """
    begin_mask, end_mask, ellipsis, new, shrunk = options.masks
    if ellipsis or new:
        raise WeightsError(f"{y.name}: a strided slice with an ellipsis or a new axis is not supported")
    begin, end, stride = (list(map(int, values(bound))) for bound in inputs[1:4])
    places: list[slice | int] = []
    for axis, (first, last, step) in enumerate(zip(begin, end, stride, strict=True)):
        bit = 1 << axis
        if shrunk & bit:
            places.append(first)
        else:
            places.append(slice(None if begin_mask & bit else first, None if end_mask & bit else last, step))
    return np.asarray(values(inputs[0])[tuple(places)])
