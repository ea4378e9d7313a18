"""Arguments of a case as they are handed to a function: lists, or arrays of both precisions, contiguous or not."""

from typing import Any

import numpy as np

from npmobilenet.types import Array


def call_arguments(args: list[Any], number: int, *, as_lists: bool, whole: bool) -> list[Any]:
    """Arguments that no one else holds.

    Args:
        args: nested lists and numbers.
        number: of the case; float32 and float64 take turns, and every third case has arrays that are not contiguous.
        as_lists: nested lists, not arrays.
        whole: arrays of whole numbers.
    """
    if as_lists:
        return [_copied(value) for value in args]
    dtype = np.dtype(np.int64 if whole else np.float32 if number % 2 == 0 else np.float64)
    return [_as_arrays(value, dtype, number % 3 == 2) for value in args]


def _copied(value: Any) -> Any:
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _as_arrays(value: Any, dtype: np.dtype[Any], strided: bool) -> Any:
    """Lists of numbers of one shape as arrays; other lists item by item."""
    if not isinstance(value, list):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "fiu" or not array.size:
        return [_as_arrays(item, dtype, strided) for item in value]
    return _spread(array.astype(dtype)) if strided else array.astype(dtype)


def _spread(array: Array) -> Array:
    """The same values in every second place of a larger array."""
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    return wide[..., 0]
