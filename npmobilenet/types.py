"""Types that every room shares."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Outputs = Any  # an Array; {name of the output: Array} of a network with several outputs
Params = Mapping[str, Array]  # a layer's or a network's parameters by name
Shape = tuple[int, ...]  # without the batch axis, unless it says so
Pair = tuple[int, int]
Padding = str | tuple[Pair, Pair]  # "same", "valid", or rows and columns of zeros: ((top, bottom), (left, right))
