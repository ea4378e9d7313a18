"""A network in 8 bits and in float32: how far its layers are apart."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.compiler.operator_network import operator_network
from npmobilenet.compiler.passes import fuse
from npmobilenet.figures.style import GRID, LOOKS, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.hub.load import DIGITS, load
from npmobilenet.models.example_digits import example_digits, image_of_ink
from npmobilenet.models.input_steps import with_input_steps
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.models.quantizing import Quantized, quantize_model
from npmobilenet.quantized.agreement import layers_alone

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

DIGIT = 4  # whose scores are shown
SCORES = "conv_preds"  # before softmax


@cache
def quantized_digits() -> Quantized:
    """The digits network, quantized by the ten example digits."""
    return quantize_model(load(DIGITS), [image_of_ink(ink) for ink in example_digits()])


def eight_bits_data() -> dict[str, Any]:
    """Signal to noise of every layer of the digits network in int8: since the input, and of the layer alone."""
    network, result = load(DIGITS), quantized_digits()
    ops, scaling, _ = with_input_steps(fuse(network.graph, network.params), network.scaling)
    pixels = np.stack([network.pixels(image_of_ink(ink)) for ink in example_digits()])
    inputs = [x[None] for x in scaling.apply(pixels.astype(np.float32))]
    alone = layers_alone(operator_network(ops), result.network, inputs)
    layers: list[dict[str, Any]] = [
        {"name": since.name, "operator": since.operator, "since_input": since.decibels, "alone": own.decibels}
        for since, own in zip(result.agreement.layers, alone, strict=True)
        if since.operator != "RESHAPE"  # which moves values and computes none
    ]
    worst = min(layers, key=lambda layer: layer["since_input"])
    scores = network.layer_output(SCORES, network.scale(pixels[DIGIT : DIGIT + 1]), backend="reference").ravel()
    model = QuantizedModel(result.network, result.scaling)
    integers = dict(model.trace(model.scale(pixels[DIGIT : DIGIT + 1])))[SCORES]
    tensor = model.tensor(SCORES)
    return {
        "layers": layers,
        "worst": worst["since_input"],
        "worst_layer": worst["name"],
        "least_alone": min(layer["alone"] for layer in layers),
        "step": float(tensor.scale[0]),
        "float": scores.tolist(),
        "int8": tensor.dequantize(integers).ravel().tolist(),
        "largest_difference": float(np.abs(scores - tensor.dequantize(integers).ravel()).max()),
        "digit": DIGIT,
        "images": len(inputs),
        "same_class": result.agreement.same_class,
    }


def draw_eight_bits(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    left, right = canvas.subplots(1, 2, width_ratios=(1.6, 1))
    for name, look in zip(("alone", "since_input"), LOOKS, strict=False):
        values = [layer[name] for layer in data["layers"]]
        left.plot(
            range(1, len(values) + 1), values, color=look.color, linestyle=look.line, marker=look.marker, markersize=4,
            label=words(f"eight-bits.{name}"),
        )  # fmt: skip
    left.set(xlabel=words("eight-bits.layer"), ylabel=words("eight-bits.decibels"))
    left.set_ylim(0, 1.25 * max(layer["alone"] for layer in data["layers"]))
    left.grid(color=GRID)
    left.legend(loc="upper right")
    places = np.arange(len(data["float"]))
    for shift, name, look in zip((-0.2, 0.2), ("float", "int8"), LOOKS, strict=False):
        right.bar(
            places + shift, data[name], 0.4, color=look.color, hatch=look.hatch, edgecolor="white",
            label=words(f"eight-bits.{name}"),
        )  # fmt: skip
    right.axhline(0, color=GRID)
    right.set_xticks(places)
    right.tick_params(labelsize=SMALL)
    right.set(xlabel=words("eight-bits.class"), title=words("eight-bits.scores", digit=data["digit"]))
    right.set_ylim(top=1.35 * max(data["float"]))
    right.legend(loc="upper right")
