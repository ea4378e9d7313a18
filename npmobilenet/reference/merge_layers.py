"""The layer types with several inputs."""

from functools import reduce
from math import prod
from operator import add, mul
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.errors import ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.layer import Layer, layer_type
from npmobilenet.types import Array, Params, Shape


class Elementwise(Layer):
    """A layer that combines values at the same place of inputs of one shape; a base class without fields of its own."""

    arity: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) > 1:
            raise ShapeError(f"{self.name}: expected inputs of one shape, got {', '.join(map(str, inputs))}")
        return inputs[0]

    def flops(self, *inputs: Shape) -> int:
        return prod(inputs[0]) * (len(inputs) - 1)


@layer_type
class Add(Elementwise):
    """Sum of its inputs, all of one shape: the residual connection."""

    def apply(self, params: Params, *inputs: Array) -> Array:
        return reduce(add, inputs)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.sum_bound(xs, errors, dtype=dtype)


@layer_type
class Average(Elementwise):
    """Mean of its inputs: their sum over their number, which is exact."""

    def flops(self, *inputs: Shape) -> int:
        return prod(inputs[0]) * len(inputs)

    def apply(self, params: Params, *inputs: Array) -> Array:
        return reduce(add, inputs) / len(inputs)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        size = sum(np.abs(x) + e for x, e in zip(xs, errors, strict=True))
        rounded = rounding.gamma(len(xs) + 1, dtype) * size  # k - 1 sums, and a quotient or the inverse and a product
        return np.asarray((sum(errors) + rounded) / len(xs) + np.finfo(dtype).smallest_normal)


@layer_type
class Maximum(Elementwise):
    """Largest of the values at each place."""

    def apply(self, params: Params, *inputs: Array) -> Array:
        return reduce(np.maximum, inputs)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return reduce(np.maximum, errors)


@layer_type
class Minimum(Elementwise):
    """Smallest of the values at each place."""

    def apply(self, params: Params, *inputs: Array) -> Array:
        return reduce(np.minimum, inputs)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return reduce(np.maximum, errors)


@layer_type
class Subtract(Elementwise):
    """The first input minus the second."""

    arity: ClassVar[int | None] = 2

    def apply(self, params: Params, *inputs: Array) -> Array:
        return inputs[0] - inputs[1]

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.sum_bound(xs, errors, dtype=dtype)


@layer_type
class Multiply(Layer):
    """Product of its inputs; a map of 1 x 1 pixel scales whole channels, as squeeze-and-excitation does."""

    arity: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        shape = inputs[0]
        for other in inputs[1:]:
            sides = list(zip(shape, other, strict=False))
            if len(shape) != len(other) or any(a != b and 1 not in (a, b) for a, b in sides):
                raise ShapeError(f"{self.name}: shapes {shape} and {other} cannot be multiplied")
            shape = tuple(max(pair) for pair in sides)
        return shape

    def flops(self, *inputs: Shape) -> int:
        return prod(self.output_shape(*inputs)) * (len(inputs) - 1)

    def apply(self, params: Params, *inputs: Array) -> Array:
        return reduce(mul, inputs)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.product_bound(xs, errors, dtype=dtype)


@layer_type
class Concatenate(Layer):
    """Concatenation along one axis, counted as in Keras: 0 is the batch, -1 the channels."""

    axis: int = -1

    arity: ClassVar[int | None] = None
    moves_only: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        rank = len(inputs[0]) + 1
        axis = self.axis - 1 if self.axis > 0 else self.axis + rank - 1  # without the batch
        rest = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
        if self.axis == 0 or not 0 <= axis < rank - 1 or len(rest) > 1 or len({len(shape) for shape in inputs}) > 1:
            raise ShapeError(
                f"{self.name}: {', '.join(map(str, inputs))} cannot be concatenated along axis {self.axis}"
            )
        return *inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :]

    def apply(self, params: Params, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=self.axis)
