"""What the page carries ready-made: everything that is counted, and the code that it shows.

Costs, memory plans and published figures are counted here, by the code that the tests hold against Keras and the
papers; what depends on the reader is computed in the page.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.exercises import plainly
from npmobilenet.hub.load import DIGITS, load
from npmobilenet.models.example_digits import example_digits
from npmobilenet.page.block_facts import block_facts
from npmobilenet.page.chart_facts import accuracy_facts, ladder_facts, roofline_facts
from npmobilenet.page.network_facts import network_facts
from npmobilenet.reference import activations, convolution, normalization, pooling, shapes
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D, ZeroPadding2D
from npmobilenet.reference.squeeze_excite import squeeze_excite

SHOWN: dict[str, Callable[..., Any]] = {
    "conv2d": convolution.conv2d,
    "depthwise_conv2d": convolution.depthwise_conv2d,
    "pointwise_conv2d": convolution.pointwise_conv2d,
    "taps": convolution.taps,
    "same_padding": shapes.same_padding,
    "batch_norm": normalization.batch_norm,
    "relu": activations.relu,
    "relu6": activations.relu6,
    "hard_sigmoid": activations.hard_sigmoid,
    "hard_swish": activations.hard_swish,
    "squeeze_excite": squeeze_excite,
    "global_average_pool": pooling.global_average_pool,
    "softmax": activations.softmax,
}
"""Functions whose text the page shows under "in NumPy"."""

LOOPS: dict[str, Callable[..., Any]] = {
    "depthwise": plainly.depthwise_conv,
    "pointwise": plainly.pointwise_conv,
    "standard": plainly.convolution,
}
"""Functions whose text the page shows under "in Python loops"."""


def facts(*, ladder: Mapping[str, Any] | None, language: str) -> dict[str, Any]:
    """Everything counted that the page shows, as JSON.

    Args:
        ladder: times of one machine (`npmobilenet ladder --json`); None for the run that is recorded in the package.
        language: "en" or "zh", the language that the page is opened in.

    Returns:
        version, language, digits (ten drawings of 8 x 8 amounts of ink in 0..16), sources,
        separable (the blocks of V1), blocks (see `block_facts`), padding (`padded_share`), networks (see
        `network_facts`), accuracy, roofline and ladder (see `chart_facts`).
    """
    return {
        "version": version("npmobilenet"),
        "language": language,
        "digits": example_digits(),
        "sources": {
            written: {name: inspect.getsource(function) for name, function in functions.items()}
            for written, functions in (("numpy", SHOWN), ("python", LOOPS))
        },
        "separable": _separable_blocks(),
        "blocks": block_facts(),
        "padding": {
            "digits": padded_share(load(DIGITS).graph),
            "v1": padded_share(mobilenet_v1()),
        },
        "networks": network_facts(),
        "accuracy": accuracy_facts(),
        "roofline": roofline_facts(),
        "ladder": ladder_facts(ladder),
    }


def padded_share(graph: Graph) -> float:
    """Share of the multiplications of a network's depthwise layers that meet only zeros of the padding."""
    padded = total = 0
    for layer in (layer for layer in graph.layers if isinstance(layer, DepthwiseConv2D)):
        before = graph[layer.inputs[0]]
        source, padding = (
            (before.inputs[0], before.padding) if isinstance(before, ZeroPadding2D) else (before.name, None)
        )
        H, W, C = graph.shapes[source]
        rows, columns = padding or shapes.resolve_padding(layer.padding, (H, W), layer.kernel_size, layer.stride)
        taps = [
            _taps_inside(side, K, layer.stride, zeros)
            for side, K, zeros in zip((H, W), layer.kernel_size, (rows, columns), strict=True)
        ]
        macs = C * taps[0][1] * taps[1][1]
        padded, total = padded + macs - C * taps[0][0] * taps[1][0], total + macs
    return padded / total


def _taps_inside(side: int, K: int, stride: int, zeros: tuple[int, int]) -> tuple[int, int]:
    """Along one axis: taps of all windows that meet a pixel, and all taps."""
    outputs = shapes.output_size(side, K, stride, zeros)
    places = [i * stride + u - zeros[0] for i in range(outputs) for u in range(K)]
    return sum(0 <= place < side for place in places), len(places)


def _separable_blocks() -> list[dict[str, int]]:
    """N and K of MobileNetV1's thirteen depthwise separable blocks."""
    graph = mobilenet_v1()
    blocks = []
    for depthwise in (layer for layer in graph.layers if isinstance(layer, DepthwiseConv2D)):
        pointwise = graph[depthwise.name.replace("_dw_", "_pw_")]
        assert isinstance(pointwise, Conv2D)
        blocks.append({"N": pointwise.filters, "K": depthwise.kernel_size[0]})
    return blocks
