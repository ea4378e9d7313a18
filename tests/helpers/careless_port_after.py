"""The kinds of mistakes of `careless_port` that were written when the explanations were finished."""

from typing import Any

import numpy as np

from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from tests.helpers import port
from tests.helpers.careless_port import (
    ADD,
    BN,
    CONV,
    DW,
    WEIGHTED,
    Here,
    Kind,
    biased,
    exp_,
    kind,
    logits,
    normalized,
    padded,
    padded_by,
    relu,
    relu6,
    sized,
    softmax,
    twinned,
    wide,
    windowed,
    zeroed,
)


def square(graph: Graph, layer: Any) -> bool:
    H, W, _ = graph.shapes[layer.name] if len(graph.shapes[layer.name]) == 3 else (1, 1, 1)
    return layer.type in ("Conv2D", "DepthwiseConv2D") and H == W > 1


def same_channels(graph: Graph, layer: Any) -> bool:
    return layer.type == "Conv2D" and graph.input_shapes(layer)[0] == graph.shapes[layer.name]


def with_gamma(graph: Graph, layer: Any) -> bool:
    return layer.type == "BatchNormalization" and {"gamma", "beta"} <= graph.param_shapes_of(layer).keys()


def inner_taps(here: Here) -> Array:
    w = np.zeros_like(here.p["kernel"])
    w[:-1, :-1] = here.p["kernel"][:-1, :-1]
    return here.right(kernel=w)


def fixed_point(a: Array, bits: int) -> Array:
    y: Array = np.rint(a * 2**bits) / np.float32(2**bits)
    return y


def shuffled(y: Array, groups: int) -> Array:
    C = y.shape[-1]
    order = np.arange(C).reshape(groups, -1).T.ravel()
    return y[..., order]


def grouped(graph: Graph, layer: Any) -> bool:
    return layer.type == "Conv2D" and graph.shapes[layer.name][-1] % 4 == 0 and graph.shapes[layer.name][-1] > 4


def of_earlier_block(here: Here) -> Array:
    """A buffer that still holds what an earlier layer of the same type and shape wrote."""
    return here.outputs[next(earlier(here.graph, here.layer))]


def earlier(graph: Graph, layer: Any) -> Any:
    for other in graph.layers:
        if other.name == layer.name:
            return
        if other.type == layer.type and graph.shapes[other.name] == graph.shapes[layer.name]:
            yield other.name


def per_channel_8_bits(here: Here) -> Array:
    w = here.p["kernel"]
    scale = np.abs(w).max((0, 1, 2), keepdims=True) / 127
    return here.right(kernel=np.rint(w / scale) * scale)


AFTER: dict[str, Kind] = {
    "ceiling of 4.7": kind(relu6, lambda h: np.clip(h.xs[0], 0, np.float32(4.7)), "clipping"),
    "floor of -1": kind(relu, lambda h: np.where(h.xs[0] < 0, np.maximum(h.xs[0], -1), h.right()), "clipping"),
    "elu": kind(relu, lambda h: np.where(h.xs[0] < 0, np.expm1(np.minimum(h.xs[0], 0)), h.right()), "activation"),
    "gelu": kind(
        relu, lambda h: h.xs[0] * (1 + np.tanh(0.7978845608 * (h.xs[0] + 0.044715 * h.xs[0] ** 3))) / 2, "activation"
    ),
    "prelu of 0.0173": kind(
        relu, lambda h: np.where(h.xs[0] < 0, np.float32(0.0173) * h.xs[0], h.right()), "leaky-relu"
    ),
    "small values set to 0": kind(relu, lambda h: np.where(h.xs[0] > 0.25, h.right(), 0), "threshold"),
    "absolute value": kind(relu, lambda h: np.abs(h.xs[0]), "activation"),
    "padding by the mean": kind(padded, lambda h: padded_by(h, float(h.xs[0].mean())), "padding-value"),
    "padding by 3": kind(padded, lambda h: padded_by(h, 3.0), "padding-value"),
    "padding wraps around": kind(padded, lambda h: padded_by(h, 0, "wrap"), "padding"),
    "last taps left out": kind(windowed, inner_taps, "not-computed"),
    "remainder of 16 channels left out": kind(
        lambda g, y: wide(g, y) and 0 < g.shapes[y.name][-1] % 16 < g.shapes[y.name][-1],
        lambda h: zeroed(h.right(), (..., slice(h.xs[0].shape[-1] * 0 + h.right().shape[-1] // 16 * 16, None))),
        "not-computed",
    ),
    "first input channel left out": kind(
        CONV, lambda h: h.right(kernel=zeroed(h.p["kernel"], (..., 0, slice(None)))), "not-computed"
    ),
    "output channels shifted by three": kind(CONV, lambda h: np.roll(h.right(), 3, -1), "channels-shifted"),
    "channels interleaved by four groups": kind(grouped, lambda h: shuffled(h.right(), 4), "channels-permuted"),
    "rows shifted by one": kind(square, lambda h: np.roll(h.right(), 1, 1), "layout"),
    "only gamma of another batch norm": kind(
        lambda g, y: with_gamma(g, y) and twinned("BatchNormalization")(g, y),
        lambda h: h.right(gamma=h.twin()["gamma"]),
        "other-layer-weights",
    ),
    "mean added instead of subtracted": kind(
        with_gamma,
        lambda h: (
            (h.xs[0] + h.p["moving_mean"]) * (h.p["gamma"] / np.sqrt(h.p["moving_variance"] + h.layer.epsilon))
            + h.p["beta"]
        ),
        "batch-norm-folding",
    ),
    "beta left out of a fold": kind(
        with_gamma,
        lambda h: h.xs[0] * (h.p["gamma"] / np.sqrt(h.p["moving_variance"] + h.layer.epsilon)),
        "batch-norm-folding",
        "batch-norm-arrays",
    ),
    "gamma twice": kind(
        with_gamma,
        lambda h: (
            (h.xs[0] - h.p["moving_mean"]) * (h.p["gamma"] ** 2 / np.sqrt(h.p["moving_variance"] + h.layer.epsilon))
            + h.p["beta"]
        ),
        "batch-norm-folding",
    ),
    "unbiased batch statistics": kind(
        BN,
        lambda h: normalized(h, h.xs[0].mean((0, 1, 2)), h.xs[0].var((0, 1, 2), ddof=1 if h.xs[0].shape[1] > 1 else 0)),
        "batch-norm-training",
    ),
    "layer norm": kind(
        BN,
        lambda h: normalized(h, h.xs[0].mean(-1, keepdims=True), h.xs[0].var(-1, keepdims=True)),
        "batch-norm-training",
    ),
    "residual halved": kind(ADD, lambda h: h.xs[0] * np.float32(0.5) + h.xs[1], "residual"),
    "residual subtracted": kind(ADD, lambda h: h.xs[0] - h.xs[1], "residual"),
    "mean of the center": kind(
        lambda g, y: sized(g, y) and g.input_shapes(y)[0][0] > 2, lambda h: h.on(h.xs[0][:, 1:-1, 1:-1]), "pooling"
    ),
    "minimum instead of mean": kind(sized, lambda h: h.xs[0].min((1, 2), keepdims=h.layer.keepdims), "pooling"),
    "temperature of 2": kind(softmax, lambda h: port.softmax(logits(h) / 2), "softmax"),
    "softmax without its sum": kind(softmax, lambda h: exp_(logits(h)), "softmax"),
    "bias subtracted": kind(biased, lambda h: h.right(bias=-h.p["bias"]), "bias"),
    "bias in reverse order": kind(biased, lambda h: h.right(bias=h.p["bias"][::-1]), "bias"),
    "8-bit kernel per channel": kind(CONV, per_channel_8_bits, "quantized-weights"),
    "fixed-point kernel of 8 bits": kind(
        WEIGHTED, lambda h: h.right(kernel=fixed_point(h.p["kernel"], 8)), "quantized-weights"
    ),
    "fixed-point output": kind(CONV, lambda h: fixed_point(h.right(), 6), "quantized-output"),
    "buffer of an earlier layer": kind(
        lambda g, y: y.type in ("Add", "BatchNormalization") and any(earlier(g, y)), of_earlier_block, "other-output"
    ),
    "convolution skipped": kind(same_channels, lambda h: h.xs[0], "missing-layer"),
    "sums cut at the tenth largest of a hundred": kind(
        DW,
        lambda h: np.clip(h.right(), -np.quantile(np.abs(h.right()), 0.9), np.quantile(np.abs(h.right()), 0.9)),
        "saturation",
    ),
}
