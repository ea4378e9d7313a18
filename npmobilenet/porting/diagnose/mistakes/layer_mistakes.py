"""The mistakes that ports of MobileNet make, each as an alteration of a layer.

A function here takes a step of a segment and yields `Variant`s: the steps that would stand in its place if the mistake
had been made. Nothing is judged here. Where a segment has several layers of a kind the mistake is made in all of them,
since whoever takes a wrong epsilon takes it everywhere, and besides in each of them alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from npmobilenet.analysis.segments import Move, Segment, chain, identity
from npmobilenet.analysis.segments import SegmentStep as Step
from npmobilenet.reference.layer import Layer, Window
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.reference.shapes import output_size, same_padding
from npmobilenet.types import Array, Pair

EPSILONS = (1e-5, 1e-3, 1e-6, 1e-4, 1e-7, 1e-8, 1e-12, 1e-2, 0.0)
SHORT = 12  # layers of a segment in which everything is tried; in longer ones only what is common


@dataclass(frozen=True)
class Variant:
    """What a mistake makes of one layer.

    Attributes:
        cause: what kind of mistake, one of the names in `docs/compare.md`.
        what: the mistake in words.
        layers: the layers that it was made in.
        steps: the steps that take the place of others, by name.
    """

    cause: str
    what: str
    layers: tuple[str, ...]
    steps: Mapping[str, tuple[Step, ...]]


SLIM = "TensorFlow's SAME, as TF-Slim has it; Keras's V1 pads at the end alone, another thing on maps of odd side"


@dataclass(frozen=True, eq=False)
class Altered:
    """A segment with a mistake: which, in words, and in which layers."""

    cause: str
    what: str
    layers: tuple[str, ...]
    segment: Segment


def everywhere(segment: Segment) -> Iterator[Altered]:
    """Every mistake that could have been made in the segment, each at all layers where it can be made."""
    for variants in _grouped(segment):
        yield _altered(segment, variants)


def alone(segment: Segment) -> Iterator[Altered]:
    """The same mistakes at one of several layers where they can be made."""
    for variants in _grouped(segment):
        if len(variants) > 1:
            yield from (_altered(segment, [variant]) for variant in variants)


def _grouped(segment: Segment) -> Iterable[list[Variant]]:
    groups: dict[tuple[str, str], list[Variant]] = {}
    for variant in _variants(segment):
        groups.setdefault((variant.cause, variant.what), []).append(variant)
    return groups.values()


def _altered(segment: Segment, variants: list[Variant]) -> Altered:
    steps = {name: new for variant in variants for name, new in variant.steps.items()}
    layers = tuple(dict.fromkeys(layer for variant in variants for layer in variant.layers))
    return Altered(variants[0].cause, variants[0].what, layers, segment.altered(steps))


def _variants(segment: Segment) -> Iterator[Variant]:
    for kinds, variants_of in _KINDS:
        for step in segment.steps:
            if isinstance(step.layer, kinds):
                yield from variants_of(segment, step)


def paddings(segment: Segment, step: Step) -> Iterator[Variant]:
    """Zeros in other places than TensorFlow puts them, or windows that start at other pixels."""
    layer = step.layer
    if not isinstance(layer, Window) or layer.kernel_size == (1, 1) or step.before is not None:
        return
    source, ours = _zeros(segment, layer)
    layers = (layer.name,) if source in layer.inputs else (*layer.inputs, layer.name)
    size, K, stride = segment.outputs[source].shape[1:3], layer.kernel_size, layer.stride
    symmetric = (K[0] // 2, K[0] // 2), (K[1] // 2, K[1] // 2)
    same = same_padding(size[0], K[0], stride), same_padding(size[1], K[1], stride)
    phase = "stride-phase" if stride > 1 else "padding"
    named = (
        *([("same-padding", same, SLIM)] if source not in layer.inputs else []),
        ("symmetric-padding", symmetric, f"symmetric, as PyTorch's padding={K[0] // 2}"),
        ("padding", same, "TensorFlow's SAME"),
        ("padding", (ours[0][::-1], ours[1][::-1]), "the odd zero at the start"),
        ("padding", ((0, 0), (0, 0)), "none"),
        (phase, _shifted(ours, -1), "windows start one pixel later"),
        (phase, _shifted(ours, 1), "windows start one pixel earlier"),
    )
    seen = {_grid(size, K, stride, ours)}
    for cause, zeros, name in named:
        grid = _grid(size, K, stride, zeros)
        if grid in seen:
            continue
        seen.add(grid)
        what = f"padding {zeros} instead of {ours}: {name}"
        yield Variant(cause, what, layers, {layer.name: (_windowed(step, source, zeros),)})
    for mode in ("edge", "reflect") if any(map(any, ours)) else ():
        what = f"padding repeats pixels ({mode}) instead of zeros"
        yield Variant("padding", what, layers, {layer.name: (_windowed(step, source, ours, mode),)})


def _zeros(segment: Segment, layer: Window) -> tuple[str, tuple[Pair, Pair]]:
    """What the window slides over before any padding, and all zeros around that, of a layer before it included."""
    source = layer.inputs[0]
    (top, bottom), (left, right) = layer.zeros(segment.outputs[source].shape[1:])
    if source in segment and isinstance(pad := segment[source].layer, ZeroPadding2D):
        (above, below), (before, after) = pad.padding
        return pad.inputs[0], ((top + above, bottom + below), (left + before, right + after))
    return source, ((top, bottom), (left, right))


def _shifted(zeros: tuple[Pair, Pair], by: int) -> tuple[Pair, Pair]:
    (top, bottom), (left, right) = zeros
    return (top + by, bottom - by), (left + by, right - by)


def _grid(size: tuple[int, ...], K: Pair, stride: int, zeros: tuple[Pair, Pair]) -> tuple[int, ...]:
    """Where the windows start, and how many there are: paddings equal in both are the same thing."""
    sides = zip(size, K, zeros, strict=True)
    return tuple(number for n, k, pad in sides for number in (pad[0], output_size(n, k, stride, pad)))


def _windowed(step: Step, source: str, zeros: tuple[Pair, Pair], mode: str = "constant") -> Step:
    """The step reading `source` with these zeros; a negative number of zeros cuts pixels off."""
    layer = replace(step.layer, padding="valid", inputs=(source,))  # type: ignore[call-arg]
    return Step(layer, step.params, lambda x: _framed(x, zeros, mode))


def _framed(x: Array, zeros: tuple[Pair, Pair], mode: Any) -> Array:
    rows, columns = (slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(zeros, x.shape[1:3], strict=True))
    width = ((0, 0), *((max(a, 0), max(b, 0)) for a, b in zeros), (0, 0))
    y: Array = np.pad(x[:, rows, columns], width, mode=mode)
    return y


def moved_zeros(segment: Segment, step: Step) -> Iterator[Variant]:
    """A padding layer that puts its zeros elsewhere; with a window behind it, `paddings` sees to that."""
    layer = step.layer
    assert isinstance(layer, ZeroPadding2D)
    if any(isinstance(reader.layer, Window) for reader in segment.consumers(layer.name)):
        return
    (top, bottom), (left, right) = layer.padding
    side = max(top, bottom, left, right)
    named = (
        ("symmetric-padding", ((side, side), (side, side)), "symmetric"),
        ("padding", ((bottom, top), (right, left)), "the odd zero at the start"),
        ("padding", ((0, 0), (0, 0)), "none"),
    )
    for cause, zeros, name in named:
        if zeros != layer.padding:
            what = f"padding {zeros} instead of {layer.padding}: {name}"
            yield Variant(cause, what, (layer.name,), {layer.name: (Step(replace(layer, padding=zeros), {}),)})


class MovedKernel(Mapping[str, Array]):
    """Arrays of a layer with the kernel's numbers elsewhere. They are moved when they are read, and not kept."""

    def __init__(self, params: Mapping[str, Array], move: Move) -> None:
        self._params = params
        self._move = move

    def __getitem__(self, name: str) -> Array:
        return self._move(self._params[name]) if name == "kernel" else self._params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


def kernels(segment: Segment, step: Step) -> Iterator[Variant]:
    """A kernel that is flipped, transposed, or whose numbers were read in another order of axes."""
    w, name = step.params["kernel"], step.layer.name
    seen = {hash(w.tobytes())}
    for cause, move, what in _kernels(step.layer, w, thorough=len(segment.steps) <= SHORT):
        new = move(w)
        if new.shape == w.shape and hash(new.tobytes()) not in seen:
            seen.add(hash(new.tobytes()))
            moved = Step(step.layer, MovedKernel(step.params, move), step.before)
            yield Variant(cause, what, (name,), {name: (moved,)})


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


def biases(segment: Segment, step: Step) -> Iterator[Variant]:
    """A bias left out or added twice."""
    if "bias" in step.params:
        b = step.params["bias"]
        yield _with_params(step, "missing-bias", "bias missing", bias=np.zeros_like(b))
        yield _with_params(step, "bias", "bias added twice", bias=2 * b)


def normalisations(segment: Segment, step: Step) -> Iterator[Variant]:
    """Batch normalisation with another epsilon, without some of its arrays, or with arrays exchanged."""
    layer, params = step.layer, step.params
    assert isinstance(layer, BatchNormalization)
    for epsilon in EPSILONS:
        if epsilon != layer.epsilon:
            what = f"epsilon {epsilon:g} instead of {layer.epsilon:g}"
            new = Step(replace(layer, epsilon=epsilon), params)
            yield Variant("epsilon", what, (layer.name,), {layer.name: (new,)})
    var, epsilon = params["moving_variance"], layer.epsilon
    yield Variant("missing-batch-norm", "batch norm missing", (layer.name,), {layer.name: (identity(layer),)})
    swapped = "batch-norm-arrays"
    yield from (
        _with_params(step, swapped, _exchange(params, order), **dict(zip(params, map(params.get, order), strict=True)))
        for order in sorted(
            permutations(params), key=lambda order: sum(a != b for a, b in zip(order, params, strict=True))
        )
        if order != tuple(params)
    )
    variances = {
        "the variance taken for the standard deviation": var**2 - epsilon,
        "the variance plus epsilon taken for the standard deviation": (var + epsilon) ** 2 - epsilon,
        "the variance squared": var**2,
        "the root of the variance taken for the variance": np.sqrt(np.maximum(var, 0)),
        "epsilon added to the standard deviation": (np.sqrt(np.maximum(var, 0)) + epsilon) ** 2 - epsilon,
    }
    for what, values in variances.items():
        yield _with_params(step, "batch-norm-variance", what, moving_variance=values)
    for name, array in params.items():
        neutral = np.full_like(array, float(name in ("gamma", "moving_variance")))
        yield _with_params(step, "batch-norm-arrays", f"{name} missing", **{name: neutral})


def _exchange(params: Mapping[str, Array], order: tuple[str, ...]) -> str:
    moved = [f"{source} for {name}" for name, source in zip(params, order, strict=True) if name != source]
    if len(moved) == 2:
        return f"{moved[0].replace(' for ', ' and ')} exchanged"
    return f"arrays exchanged: {', '.join(moved)}"


FUNCTIONS: dict[str, tuple[Layer, ...]] = {
    "linear": (Dropout(name=""),),
    "relu": (Activation(name="", activation="relu"),),
    "relu6": (Activation(name="", activation="relu6"),),
    "hard_swish": (Activation(name="", activation="hard_swish"),),
    "hard_sigmoid": (Activation(name="", activation="hard_sigmoid"),),
    "clip(0.2 x + 0.5, 0, 1)": (
        Rescaling(name="", scale=1.2, offset=3.0),
        Activation(name="", activation="relu6"),
        Rescaling(name="", scale=1 / 6),
    ),
    "sigmoid": (Activation(name="", activation="sigmoid"),),
    "softmax": (Activation(name="", activation="softmax"),),
}
GATED = {"x * clip(0.2 x + 0.5, 0, 1)": "clip(0.2 x + 0.5, 0, 1)", "swish": "sigmoid"}


def activations(segment: Segment, step: Step) -> Iterator[Variant]:
    """Another function, or none; also inside a convolution or dense layer that has an activation of its own."""
    layer = step.layer
    ours: str = layer.activation  # type: ignore[attr-defined]
    first: tuple[Step, ...] = ()
    source = layer.inputs[0]
    if not isinstance(layer, Activation):
        if ours == "linear":
            return
        source = f"{layer.name}+sums"
        first = (Step(replace(layer, name=source, activation="linear"), step.params, step.before),)  # type: ignore[call-arg]
    yield from _other_functions(layer, source, ours, first)
    if ours == "softmax":
        twice = chain(replace(layer, inputs=(source,)), *FUNCTIONS["softmax"] * 2)
        yield Variant("doubled-softmax", "softmax applied twice", (layer.name,), {layer.name: (*first, *twice)})


def _other_functions(layer: Layer, source: str, ours: str, first: tuple[Step, ...] = ()) -> Iterator[Variant]:
    reading = replace(layer, inputs=(source,))
    for name, layers in FUNCTIONS.items():
        if name != ours:
            yield _function(layer.name, ours, name, (*first, *chain(reading, *layers)))
    for name, gate in GATED.items():
        gates = tuple(chain(replace(reading, name=f"{layer.name}+gate"), *FUNCTIONS[gate]))
        product = Step(Multiply(name=layer.name, inputs=(source, f"{layer.name}+gate")), {})
        yield _function(layer.name, ours, name, (*first, *gates, product))


def _function(layer: str, ours: str, theirs: str, steps: tuple[Step, ...]) -> Variant:
    if theirs == "linear":
        cause = "missing-softmax" if ours == "softmax" else "missing-activation"
        return Variant(cause, f"no {ours}", (layer,), {layer: steps})
    cause = "hard-sigmoid" if "0.2" in theirs else "activation"
    return Variant(cause, f"{theirs} instead of {ours}", (layer,), {layer: steps})


def rescalings(segment: Segment, step: Step) -> Iterator[Variant]:
    """A rescaling left out or done twice; and where three layers spell the hard sigmoid, another function."""
    layer = step.layer
    assert isinstance(layer, Rescaling)
    source = _spelt_hard_sigmoid(segment, layer)
    if source is not None:
        yield from _other_functions(layer, source, "hard_sigmoid")
    yield Variant("rescaling", "rescaling missing", (layer.name,), {layer.name: (identity(layer),)})
    twice = tuple(chain(layer, layer, layer))
    yield Variant("rescaling", "rescaling done twice", (layer.name,), {layer.name: twice})
    for name, scale, offset in RANGES:
        if not np.allclose((scale, offset), (layer.scale, layer.offset), rtol=1e-6):
            new = Step(replace(layer, scale=scale, offset=offset), {})
            yield Variant("input-range", f"pixels scaled to {name}", (layer.name,), {layer.name: (new,)})


RANGES = (("[0, 1]", 1 / 255, 0.0), ("[-1, 1]", 1 / 127.5, -1.0), ("0..255 / 128 - 1", 1 / 128, -1.0))
"""What pixels in 0..255 are commonly made into: name, scale, offset."""


def _spelt_hard_sigmoid(segment: Segment, layer: Rescaling) -> str | None:
    """What relu6(x + 3) / 6 in three layers reads, if `layer` is the last of these three."""
    clip = segment[layer.inputs[0]].layer if layer.inputs[0] in segment else None
    if not (isinstance(clip, Activation) and clip.activation == "relu6" and clip.inputs[0] in segment):
        return None
    shift = segment[clip.inputs[0]].layer
    spelt = isinstance(shift, Rescaling) and np.allclose(
        (shift.scale, shift.offset, layer.scale, layer.offset), (1, 3, 1 / 6, 0), rtol=1e-6
    )
    return shift.inputs[0] if spelt else None


def extra_activations(segment: Segment, step: Step) -> Iterator[Variant]:
    """An activation after a layer that has none, such as a linear bottleneck or a residual sum."""
    layer = step.layer
    inside = getattr(layer, "activation", "linear")
    if inside != "linear" or any(
        isinstance(r.layer, Activation | BatchNormalization) for r in segment.consumers(layer.name)
    ):
        return
    bare = f"{layer.name}+linear"
    for name in ("relu6", "relu", "hard_swish"):
        steps = (
            Step(replace(layer, name=bare), step.params, step.before),
            Step(Activation(name=layer.name, activation=name, inputs=(bare,)), {}),
        )
        yield Variant("extra-activation", f"{name} after a layer that has none", (layer.name,), {layer.name: steps})


def joints(segment: Segment, step: Step) -> Iterator[Variant]:
    """A sum or product of which one side was left out."""
    layer = step.layer
    cause, what = (
        ("missing-residual", "residual missing") if isinstance(layer, Add) else ("missing-gate", "gate missing")
    )
    order = layer.inputs[::-1] if isinstance(layer, Add) else layer.inputs
    for source in order:
        steps = {layer.name: (identity(layer, source),)}
        yield Variant(cause, f"{what}: {source} is handed on alone", (layer.name,), steps)
    if isinstance(layer, Add):
        product = Step(Multiply(name=layer.name, inputs=layer.inputs), {})
        yield Variant("residual", "residual multiplied instead of added", (layer.name,), {layer.name: (product,)})


def poolings(segment: Segment, step: Step) -> Iterator[Variant]:
    """A mean divided by something else than the number of pixels, or a maximum."""
    layer = step.layer
    _, H, W, _ = segment.outputs[layer.inputs[0]].shape
    if isinstance(layer, GlobalMaxPooling2D):
        mean = GlobalAveragePooling2D(name=layer.name, inputs=layer.inputs, keepdims=layer.keepdims)
        yield Variant(
            "pooling", "the mean instead of the largest value", (layer.name,), {layer.name: (Step(mean, {}),)}
        )
        return
    if isinstance(layer, AveragePooling2D):
        source, zeros = _zeros(segment, layer)
        if any(map(any, zeros)):
            counted = _windowed(step, source, zeros)
            what = "mean divided by K * K at the border too: zeros of the padding counted"
            yield Variant("pooling-divisor", what, (layer.name,), {layer.name: (counted,)})
        H, W = layer.kernel_size
    else:
        assert isinstance(layer, GlobalAveragePooling2D)
        largest = GlobalMaxPooling2D(name=layer.name, inputs=layer.inputs, keepdims=layer.keepdims)
        yield Variant(
            "pooling", "the largest value instead of the mean", (layer.name,), {layer.name: (Step(largest, {}),)}
        )
    for divisor in (1, 49, H, (H + 1) * (W + 1), (H - 1) * (W - 1)):
        if divisor not in (0, H * W):
            what = f"mean of {H} x {W} pixels divided by {divisor} instead of {H * W}"
            yield Variant("pooling-divisor", what, (layer.name,), {layer.name: tuple(scaled(step, H * W / divisor))})


def orders(segment: Segment, step: Step) -> Iterator[Variant]:
    """A map flattened channels first."""
    layer, x = step.layer, segment.outputs[step.layer.inputs[0]]
    if x.ndim == 4 and x.shape[1] * x.shape[2] > 1 < x.shape[3]:
        new = Step(layer, {}, lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape))
        yield Variant("layout", "flattened channels first", (layer.name,), {layer.name: (new,)})


def scaled(step: Step, scale: float) -> Iterator[Step]:
    """The step, and its output times a number."""
    bare = f"{step.layer.name}+unscaled"
    yield Step(replace(step.layer, name=bare), step.params, step.before)
    yield Step(Rescaling(name=step.layer.name, inputs=(bare,), scale=scale), {})


def _with_params(step: Step, cause: str, what: str, **arrays: Any) -> Variant:
    name = step.layer.name
    return Variant(cause, what, (name,), {name: (Step(step.layer, {**step.params, **arrays}, step.before),)})


Variants = Callable[[Segment, Step], Iterator[Variant]]
_WEIGHTED = (Conv2D, DepthwiseConv2D, Dense)
_KINDS: tuple[tuple[tuple[type[Layer], ...], Variants], ...] = (
    ((Conv2D, DepthwiseConv2D), paddings),
    ((ZeroPadding2D,), moved_zeros),
    ((BatchNormalization,), normalisations),
    ((Activation, *_WEIGHTED), activations),
    ((Rescaling,), rescalings),
    ((Add, Multiply), joints),
    (_WEIGHTED, biases),
    (_WEIGHTED, kernels),
    ((GlobalAveragePooling2D, AveragePooling2D), poolings),
    ((Flatten, Reshape), orders),
    ((BatchNormalization, Add, *_WEIGHTED), extra_activations),
)
