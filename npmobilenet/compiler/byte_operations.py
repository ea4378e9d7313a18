"""Operations of 8-bit networks: an operator, with a padding before it and functions of single values after it.

Values are stored as unsigned bytes: those of an int8 tensor are q + 128, and so are its zero points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from npmobilenet.compiler.ir import Operation
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Operator, Tensor
from npmobilenet.quantized.weighted_sums import SUMS
from npmobilenet.reference.shapes import same_padding
from npmobilenet.types import Array, Pair

Bytes = NDArray[np.uint8]
SIGN_BIT = 0x80  # between int8 and the unsigned bytes that it is stored as
NUMBERS = range(4)  # of 32 bits, in a block of 16 bytes
UNSIGNED, SIGNED = np.dtype(np.uint8), np.dtype(np.int8)


@dataclass(frozen=True, eq=False)
class Link:
    """One operator with its tensors.

    Attributes:
        operator: its code and options.
        arguments: constants with their values, and descriptions of what other operators make.
        result: description of what it makes.
    """

    operator: Operator
    arguments: tuple[Tensor, ...]
    result: Tensor

    @property
    def code(self) -> str:
        """Name of the operator."""
        return self.operator.code

    @property
    def source(self) -> Tensor:
        """The first argument that another operator makes."""
        return next(tensor for tensor in self.arguments if tensor.data is None)

    @property
    def amounts(self) -> tuple[Pair, ...]:
        """Of a PAD: what is added before and after, along each axis."""
        return tuple((int(before), int(after)) for before, after in self.arguments[1].integers)

    def of_any_shape(self, values: Sequence[Array], rule: Rule) -> Array:
        """The same as a call, of values that need not have the arguments' shapes."""
        arguments = tuple(x if x.data is not None else replace(x, shape=()) for x in self.arguments)
        return replace(self, arguments=arguments, result=replace(self.result, shape=()))(values, rule)

    def __call__(self, values: Sequence[Array], rule: Rule) -> Array:
        """The result of arguments that other operators made, in the tensors' own types."""
        made = iter(values)
        arguments = [x if x.data is not None else replace(x, data=next(made)) for x in self.arguments]
        return compute(self.operator, arguments, self.result, rule)


@dataclass(frozen=True, eq=False, kw_only=True)
class ByteOperation(Operation):
    """An operator, with a padding before it and functions of single values after it.

    Attributes:
        links: what is computed one after another; each takes the result of the one before.
        main: number of the link whose sums, or whatever it makes, the others prepare and transform.
        rule: how results are rounded.
        sums: name of a sum for every pixel that the kernel adds, see `byte_weights`, or "".
    """

    links: tuple[Link, ...]
    main: int = 0
    rule: Rule
    sums: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.inputs, self.sums) if self.sums else self.inputs

    @property
    def label(self) -> str:
        return " > ".join(link.code.lower() for link in self.links)

    @property
    def link(self) -> Link:
        """The main one."""
        return self.links[self.main]

    @property
    def result(self) -> Tensor:
        """Description of what is made."""
        return self.links[-1].result

    @property
    def weight_count(self) -> int:
        if self.link.code not in SUMS:
            return 0
        return sum(x.data.size for x in self.link.arguments[1:] if x.data is not None)

    @cached_property
    def table(self) -> Bytes | None:
        """What the operators after the main one make of each byte, (256,); None if there are none."""
        after = self.links[self.main + 1 :]
        return table_of(after, self.rule) if after else None

    @property
    def padding(self) -> tuple[Pair, Pair]:
        """Zero points around the map that a window slides over, ((top, bottom), (left, right))."""
        link, options = self.link, self.link.operator.options
        sizes = options.filter if "POOL" in link.code else link.arguments[1].shape[1:3]
        margins = self.links[0].amounts[1:3] if self.main else ((0, 0), (0, 0))
        axes = zip(link.source.shape[1:3], sizes, options.stride, options.dilation, margins, strict=True)
        (top, bottom), (left, right) = (
            _padding(pixels, (K - 1) * dilation + 1, stride, options.padding, margin)
            for pixels, K, stride, dilation, margin in axes
        )
        return (top, bottom), (left, right)

    @property
    def before(self) -> Pair:
        """Rows of padding above, columns of padding on the left."""
        (top, _), (left, _) = self.padding
        return top, left

    @property
    def multiplier(self) -> int:
        """Outputs per input channel of a depthwise convolution."""
        return self.link.result.shape[-1] // self.link.source.shape[-1]

    def of_pairs(self, x1: Bytes, x2: Bytes, *, through_table: bool = True) -> Bytes:
        """What a function of two single values makes of bytes (n,) and (n,)."""
        link = self.link
        pairs = [in_own_type(x, tensor) for x, tensor in zip((x1, x2), link.arguments, strict=True)]
        y = as_stored(link.of_any_shape([x[None, None, None] for x in pairs], self.rule)).ravel()
        return self.table[y] if through_table and self.table is not None else y

    def evaluate(self, *inputs: Array) -> Array:
        """The output (1, *shape) as it is stored; inputs as they are stored."""
        sources = [x for x in self.links[0].arguments if x.data is None]
        values = [in_own_type(x, tensor) for x, tensor in zip(inputs, sources, strict=False)]
        for link in self.links[: self.main + 1]:
            values = [link(values, self.rule)]
        y = as_stored(values[0])
        return (y if self.table is None else self.table[y]).reshape(1, *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class ByteTable(ByteOperation):
    """A function of single values by itself: the first link is part of the table."""

    main: int = -1

    @property
    def link(self) -> Link:
        return self.links[0]

    def evaluate(self, *inputs: Array) -> Array:
        assert self.table is not None
        return self.table[inputs[0]].reshape(1, *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Margins(Operation):
    """Zero points around a map.

    Attributes:
        padding: ((top, bottom), (left, right)).
        zero: the byte.
    """

    padding: tuple[Pair, Pair]
    zero: int

    def evaluate(self, *inputs: Array) -> Array:
        return np.pad(inputs[0], ((0, 0), *self.padding, (0, 0)), constant_values=self.zero)


@dataclass(frozen=True, eq=False, kw_only=True)
class PaddedConvolution(ByteOperation):
    """A convolution whose map already has its padding."""

    def evaluate(self, *inputs: Array) -> Array:
        (top, bottom), (left, right) = self.padding
        _, H, W, _ = inputs[0].shape
        return super().evaluate(inputs[0][:, top : H - bottom, left : W - right])


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelSums(Operation):
    """The sum over the channels of every pixel, times a factor: int32, four in a block of 16 bytes.

    Attributes:
        factor: see `byte_weights`.
    """

    factor: int

    def evaluate(self, *inputs: Array) -> Array:
        sums = (inputs[0].astype(np.int32).sum(-1) * self.factor).astype(np.int32).ravel()
        padded = np.zeros(self.shape[0] * len(NUMBERS), np.int32)
        padded[: sums.size] = sums
        return padded.view(np.uint8).reshape(1, *self.shape)


def _padding(pixels: int, extent: int, stride: int, padding: str, margin: Pair) -> Pair:
    """Padding along one axis: that of the window, and a margin that is there already."""
    before, after = same_padding(pixels, extent, stride) if padding == "same" else (0, 0)
    return before + margin[0], after + margin[1]


def in_own_type(x: Array, tensor: Tensor) -> Array:
    """Stored values in the type of the tensor."""
    return (x ^ SIGN_BIT).view(np.int8) if tensor.dtype == SIGNED else x


def as_stored(x: Array) -> Array:
    """Values of a tensor as they are stored: int8 as unsigned bytes, all others as they are."""
    return x.view(np.uint8) ^ SIGN_BIT if x.dtype == SIGNED else x


def is_stored_as_bytes(tensor: Tensor) -> bool:
    """Whether the values are in the arena, in blocks of channels."""
    return tensor.dtype in (UNSIGNED, SIGNED) and len(tensor.shape) > 1


def stored_zero(tensor: Tensor) -> int:
    """The byte that stands for 0."""
    return tensor.zero_point + (SIGN_BIT if tensor.dtype == SIGNED else 0)


def table_of(links: Sequence[Link], rule: Rule) -> Bytes:
    """What functions of single values make of each of the 256 bytes."""
    x = np.arange(256, dtype=np.uint8)
    values = in_own_type(x, links[0].source)[None, None, None]
    for link in links:
        values = link.of_any_shape([values], rule)
    return as_stored(values).ravel()


def all_names(links: Sequence[Link]) -> tuple[str, ...]:
    """Names of the operators covered: those of the tensors that they make."""
    return tuple(chain.from_iterable((link.result.name,) for link in links))
