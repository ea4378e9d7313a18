"""A port's arrays as the integers of a quantized network's tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npmobilenet.porting.diagnose.axes import CHANNELS_LAST, arrange
from npmobilenet.quantized.tensors import Tensor
from npmobilenet.types import Array

HALF_RANGE = 128  # between int8 and uint8
HALF_STEP = 1e-3  # of a step: how far a real number may be from one that an integer stands for


@dataclass(frozen=True, eq=False)
class PortIntegers:
    """One array of a port.

    Attributes:
        values: in the tensor's order of axes and type; as they are if they do not fit.
        fits: whether they can be brought to the tensor's shape and range.
        notes: what was done to them.
    """

    values: Array
    fits: bool
    notes: tuple[str, ...] = ()


def port_integers(array: Array, tensor: Tensor, expected: Array) -> PortIntegers:
    """A port's array as values of a tensor.

    Axes are put in the tensor's order. Integers of the other 8-bit type, which are 128 apart, are moved to the
    tensor's; real numbers are divided by its scale.

    Args:
        array: as the port wrote it.
        tensor: its description.
        expected: the network's own values, (1, ...).
    """
    arranged = arrange(array, expected)
    if not arranged.fits:
        return PortIntegers(array, False, (f"expected shape {expected.shape}, got {array.shape}",))
    notes = [] if arranged.layout == CHANNELS_LAST else [arranged.layout]
    values = arranged.values
    if tensor.quantization is None:
        return PortIntegers(values.astype(tensor.dtype), True, tuple(notes))
    if not np.isfinite(values).all():
        return PortIntegers(array, False, (arranged.note,))
    if array.dtype.kind == "f" and _are_real(values, tensor):
        values = np.rint(values / tensor.scale.astype(np.float64)) + tensor.zero_point
        notes.append("real numbers")
    low, high = tensor.range
    values, moved = _moved(values, np.dtype(array.dtype), low, high)
    notes += ["of the other 8-bit type, 128 apart"] if moved else []
    if values.size and (values.min() < low or values.max() > high or (values != np.rint(values)).any()):
        return PortIntegers(array, False, (f"expected integers from {low} to {high}, got {values.min():g} to "
                                           f"{values.max():g}",))  # fmt: skip
    return PortIntegers(values.astype(tensor.dtype), True, tuple(notes))


def _are_real(values: Array, tensor: Tensor) -> bool:
    """Whether floating-point values are real numbers that integers stand for, not the integers themselves."""
    if (values == np.rint(values)).all() and values.min() >= -HALF_RANGE and values.max() < 2 * HALF_RANGE:
        return float(tensor.scale[0]) != 1 and not values.any()
    steps = values / tensor.scale.astype(np.float64)
    return bool((np.abs(steps - np.rint(steps)) < HALF_STEP).all())


def _moved(values: Array, dtype: np.dtype[np.generic], low: int, high: int) -> tuple[Array, bool]:
    """Values of the other 8-bit type, by its dtype or by their range, moved by 128."""
    signed = low < 0
    if signed and (dtype == np.uint8 or (values.size and values.max() > high and values.min() >= 0)):
        return values - HALF_RANGE, True
    if not signed and (dtype == np.int8 or (values.size and values.min() < low and values.max() < HALF_RANGE)):
        return values + HALF_RANGE, True
    return values, False


def shared_notes(notes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """One line per remark that arrays share."""
    by_text: dict[str, list[str]] = {}
    for name, texts in notes.items():
        for text in texts:
            by_text.setdefault(text, []).append(name)
    return [f"{len(names)} arrays are {text}, first {names[0]}; converted" for text, names in by_text.items()]
