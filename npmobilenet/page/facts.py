"""What the page carries ready-made: everything that is counted, and the code that it shows.

Costs, memory plans and published figures are counted here, by the code that the tests hold against Keras and the
papers; what depends on the reader is computed in the page.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.page.chart_facts import ROOF, accuracy_facts, checked_ladder, measured_times, roofline_facts
from npmobilenet.reference import activations, convolution, normalization, pooling, shapes
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D

SHOWN: dict[str, Callable[..., Any]] = {
    "conv2d": convolution.conv2d,
    "depthwise_conv2d": convolution.depthwise_conv2d,
    "pointwise_conv2d": convolution.pointwise_conv2d,
    "taps": convolution.taps,
    "same_padding": shapes.same_padding,
    "batch_norm": normalization.batch_norm,
    "relu6": activations.relu6,
    "global_average_pool": pooling.global_average_pool,
    "softmax": activations.softmax,
}
"""Functions whose text the page shows under "in NumPy"."""


def facts(*, ladder: Mapping[str, Any] | None, language: str) -> dict[str, Any]:
    """Everything counted that the page shows, as JSON.

    Args:
        ladder: times of one machine (`npmobilenet ladder --json`), or None.
        language: "en" or "zh", the language that the page is opened in.

    Returns:
        version, language, digits (ten drawings of 8 x 8 amounts of ink in 0..16), sources,
        separable (the blocks of V1), accuracy, roofline and times (see `chart_facts`), ladder.
    """
    return {
        "version": version("npmobilenet"),
        "language": language,
        "digits": json.loads(files("npmobilenet.page").joinpath("digits.json").read_text(encoding="utf-8"))["digits"],
        "sources": {"numpy": {name: inspect.getsource(function) for name, function in SHOWN.items()}, "python": {}},
        "separable": _separable_blocks(),
        "accuracy": accuracy_facts(),
        "roofline": {"machine": ROOF, "networks": roofline_facts()},
        "times": measured_times(),
        "ladder": checked_ladder(ladder),
    }


def _separable_blocks() -> list[dict[str, int]]:
    """N and K of MobileNetV1's thirteen depthwise separable blocks."""
    graph = mobilenet_v1()
    blocks = []
    for depthwise in (layer for layer in graph.layers if isinstance(layer, DepthwiseConv2D)):
        pointwise = graph[depthwise.name.replace("_dw_", "_pw_")]
        assert isinstance(pointwise, Conv2D)
        blocks.append({"N": pointwise.filters, "K": depthwise.kernel_size[0]})
    return blocks
