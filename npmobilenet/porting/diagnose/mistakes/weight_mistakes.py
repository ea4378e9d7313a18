"""Mistakes in weights: kernels in another order, biases, batch normalization."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np

from npmobilenet.analysis.segments import Move, Segment, SegmentStep, identity
from npmobilenet.porting.diagnose.mistakes.variants import SHORT, Variant, in_place, with_params
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import BatchNormalization, Conv2D, Dense, DepthwiseConv2D
from npmobilenet.types import Array

EPSILONS = (1e-5, 1e-3, 1e-6, 1e-4, 1e-7, 1e-8, 1e-12, 1e-2, 0.0)


class MovedKernel(Mapping[str, Array]):
    """A layer's arrays, with the kernel's values moved on access and not kept."""

    def __init__(self, params: Mapping[str, Array], move: Move) -> None:
        self._params = params
        self._move = move

    def __getitem__(self, name: str) -> Array:
        return self._move(self._params[name]) if name == "kernel" else self._params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


def kernels(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A kernel that is flipped, transposed, or read in another order of axes."""
    w = step.params["kernel"]
    seen = {hash(w.tobytes())}
    for cause, move, what in _kernels(step.layer, w, thorough=len(segment.steps) <= SHORT):
        new = move(w)
        if new.shape == w.shape and hash(new.tobytes()) not in seen:
            seen.add(hash(new.tobytes()))
            yield in_place(step, cause, what, SegmentStep(step.layer, MovedKernel(step.params, move), step.before))


def _kernels(layer: Layer, w: Array, *, thorough: bool) -> Iterator[tuple[str, Move, str]]:
    letters = {Conv2D: "HWIO", DepthwiseConv2D: "HWCM", Dense: "IO"}[type(layer)]
    if w.ndim == 4:
        yield "kernel-flipped", lambda w: w[::-1, ::-1], "kernel flipped: a true convolution instead of a correlation"
        yield "kernel-transposed", lambda w: w.transpose(1, 0, 2, 3), "kernel transposed: height and width exchanged"
        yield "kernel-flipped", lambda w: w[::-1], "kernel flipped top to bottom"
        yield "kernel-flipped", lambda w: w[:, ::-1], "kernel flipped left to right"
    if letters != "HWCM":
        yield "kernel-transposed", lambda w: w.swapaxes(-1, -2), "kernel transposed: c_in and c_out exchanged"
    common = ((3, 2, 0, 1), (3, 0, 1, 2), (2, 3, 0, 1), (2, 0, 1, 3))
    for axes in common if w.ndim == 4 and not thorough else permutations(range(w.ndim)):
        order = "".join(letters[axis] for axis in axes)
        yield "kernel-layout", partial(_stored_as, axes), f"kernel stored as {order}, read as {letters}"
        yield "kernel-layout", partial(_read_as, axes), f"kernel stored as {letters}, read as {order}"


def _stored_as(axes: tuple[int, ...], w: Array) -> Array:
    return w.transpose(axes).reshape(w.shape)


def _read_as(axes: tuple[int, ...], w: Array) -> Array:
    return w.reshape([w.shape[axis] for axis in axes]).transpose(np.argsort(axes))


def biases(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A bias left out or added twice."""
    if "bias" in step.params:
        b = step.params["bias"]
        yield with_params(step, "missing-bias", "bias missing", bias=np.zeros_like(b))
        yield with_params(step, "bias", "bias added twice", bias=2 * b)


def batch_norms(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Batch normalization with another epsilon, with arrays missing or exchanged, or another use of the variance."""
    layer, params = step.layer, step.params
    assert isinstance(layer, BatchNormalization)
    for epsilon in EPSILONS:
        if epsilon != layer.epsilon:
            what = f"epsilon {epsilon:g} instead of {layer.epsilon:g}"
            yield in_place(step, "epsilon", what, SegmentStep(replace(layer, epsilon=epsilon), params))
    yield in_place(step, "missing-batch-norm", "batch norm missing", identity(layer))
    yield from _exchanged_arrays(step)
    for what, values in _variances(params["moving_variance"], layer.epsilon).items():
        yield with_params(step, "batch-norm-variance", what, moving_variance=values)
    for name, array in params.items():
        neutral = np.full_like(array, float(name in ("gamma", "moving_variance")))
        yield with_params(step, "batch-norm-arrays", f"{name} missing", **{name: neutral})


def _exchanged_arrays(step: SegmentStep) -> Iterator[Variant]:
    """Every permutation of a layer's arrays, those with the fewest exchanges first."""

    def moves(order: tuple[str, ...]) -> int:
        return sum(a != b for a, b in zip(order, step.params, strict=True))

    for order in sorted(permutations(step.params), key=moves):
        if moves(order):
            arrays = dict(zip(step.params, map(step.params.get, order), strict=True))
            yield with_params(step, "batch-norm-arrays", _exchange(step.params, order), **arrays)


def _exchange(params: Mapping[str, Array], order: tuple[str, ...]) -> str:
    moved = [f"{source} for {name}" for name, source in zip(params, order, strict=True) if name != source]
    if len(moved) == 2:
        return f"{moved[0].replace(' for ', ' and ')} exchanged"
    return f"arrays exchanged: {', '.join(moved)}"


def _variances(variance: Array, epsilon: float) -> dict[str, Array]:
    """Mistake -> the variance with which the right formula gives the wrong result."""
    deviation = np.sqrt(np.maximum(variance, 0))
    return {
        "the variance used as the standard deviation": variance**2 - epsilon,
        "the variance plus epsilon used as the standard deviation": (variance + epsilon) ** 2 - epsilon,
        "the variance squared": variance**2,
        "the root of the variance used as the variance": deviation,
        "epsilon added to the standard deviation": (deviation + epsilon) ** 2 - epsilon,
    }
