"""Batch normalization, squeeze-and-excitation and rounding, on the values of a network that classifies an image."""

from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.analysis.rounding_growth import error_growth, plot_growth
from npmobilenet.architectures import mobilenet_v3_small
from npmobilenet.bench.random_weights import random_model
from npmobilenet.errors import ArgumentError
from npmobilenet.figures.shapes_in_perspective import arrow, box, clear, label
from npmobilenet.figures.style import DARK, GRID, INK, LIGHT, LOOKS, MIDDLE, NORMAL, PALE, PAPER, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.hub.load import DIGITS, as_float, load
from npmobilenet.models.example_digits import example_digits, image_of_ink
from npmobilenet.models.model import Model
from npmobilenet.models.self_check import synthetic_image
from npmobilenet.reference.activations import relu6
from npmobilenet.reference.layers import BatchNormalization, Multiply
from npmobilenet.reference.normalization import batch_norm
from npmobilenet.reference.transforms import subgraph_to
from npmobilenet.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

DIGIT = 4  # the example that is shown
EPSILONS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def example_input(network: Model, image: str | None) -> Array:
    """(1, H, W, C) scaled image: a file, or without one a digit, or for other networks than digits a test image."""
    if image is not None:
        return network.scale(network.pixels(image)[None])
    if network.graph.input_shape[:2] == load(DIGITS).graph.input_shape[:2]:
        return network.scale(network.pixels(image_of_ink(example_digits()[DIGIT]))[None])
    return network.scale(synthetic_image(network.graph.input_shape)[None].astype(np.float32))


def batch_norm_data(layer: str = "conv_dw_1_bn", channel: int | None = None) -> dict[str, Any]:
    """One channel of the digits network before batch normalization, after it, and after ReLU6; folded; epsilon.

    Args:
        layer: a batch normalization of the digits network.
        channel: of it; None for the one that epsilon moves most among those that take negative and positive values.
    """
    network = load(DIGITS)
    norm = network.graph[layer]
    assert isinstance(norm, BatchNormalization)
    (source,) = norm.inputs
    outputs = dict(subgraph_to(network.graph, layer).run(network.params, example_input(network, None)))
    before, after = outputs[source][0], outputs[layer][0]  # (H, W, C)
    arrays = {
        name: np.asarray(values, np.float64) for name, values in network.graph.arrays_of(norm, network.params).items()
    }
    moved = np.abs(_scale(arrays, 1e-5) / _scale(arrays, norm.epsilon) - 1)  # (C,)
    if channel is None:
        both_signs = (after.min(axis=(0, 1)) < 0) & (after.max(axis=(0, 1)) > 0)
        channel = int(np.where(both_signs, moved, -1).argmax())
    scale = _scale(arrays, norm.epsilon)
    shift = arrays["beta"] - arrays["moving_mean"] * scale
    folded = before.astype(np.float64) * scale + shift
    exact = batch_norm(
        before.astype(np.float64), arrays["gamma"], arrays["beta"], arrays["moving_mean"], arrays["moving_variance"],
        epsilon=norm.epsilon,
    )  # fmt: skip
    epsilons = [{"epsilon": epsilon, "scale": float(_scale(arrays, epsilon)[channel])} for epsilon in EPSILONS]
    return {
        "layer": layer,
        "channel": channel,
        "before": before[..., channel].ravel().tolist(),
        "after": after[..., channel].ravel().tolist(),
        "relu6": relu6(after)[..., channel].ravel().tolist(),
        "learned": {name: float(values[channel]) for name, values in arrays.items()},
        "scale": float(scale[channel]),
        "shift": float(shift[channel]),
        "folded_distance": float(np.abs(folded - exact).max()),
        "epsilon": norm.epsilon,
        "epsilons": epsilons,
        "moved_percent": 100 * float(moved[channel]),
        "moved_most_percent": 100 * float(moved.max()),
        "zeroed_percent": 100 * float((after[..., channel] <= 0).mean()),
    }


def _scale(arrays: dict[str, Array], epsilon: float) -> Array:
    return np.asarray(arrays["gamma"] / np.sqrt(arrays["moving_variance"] + epsilon))


def draw_batch_norm(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    histograms = canvas.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    for axes, stage, look in zip(histograms[:3], ("before", "after", "relu6"), LOOKS, strict=False):
        axes.hist(data[stage], bins=24, color=look.color, hatch=look.hatch, edgecolor="white")
        axes.set(title=words(f"batch-norm.{stage}"), xlabel=words("batch-norm.value"))
    histograms[0].set_ylabel(words("batch-norm.pixels"))
    axes = histograms[3]
    scales = [row["scale"] / data["scale"] for row in data["epsilons"]]
    epsilons = [row["epsilon"] for row in data["epsilons"]]
    axes.plot(epsilons, scales, "o-", color=DARK)
    axes.axvline(data["epsilon"], color=GRID)
    axes.set(xscale="log", title=words("batch-norm.epsilon"), xlabel="epsilon", ylim=(0, 1.25 * max(1, *scales)))
    axes.set_xticks(epsilons[::2], ["1e-5", "1e-3", "0.1"])
    axes.minorticks_off()


def squeeze_excite_data(model: str | None = None, image: str | None = None, block: int = 2) -> dict[str, Any]:
    """A squeeze-and-excitation of V3, and the values of its gate on an image.

    Args:
        model: a V3 network with weights; None for V3-Small with random ones, which `random` says.
        image: a file; None for a test image.
        block: number of the squeeze-and-excitation, from 0; the first ones of the trained V3-Small are open throughout.

    Raises:
        ArgumentError: the network has no squeeze-and-excitation of this number.
    """
    network = random_model(mobilenet_v3_small()) if model is None else as_float(load(model), model)
    gates = [layer for layer in network.graph.layers if isinstance(layer, Multiply)]
    if not 0 <= block < len(gates):
        raise ArgumentError(
            f"squeeze-excite: {network.graph.name} has {len(gates)} squeeze-and-excitations, no number {block}"
        )
    multiply = gates[block]
    graph = subgraph_to(network.graph, multiply.name)
    outputs = dict(graph.run(network.params, example_input(network, image)))
    (H, W, C), gate = graph.shapes[multiply.name], outputs[multiply.inputs[1]].ravel()
    squeeze = next(layer for layer in graph.layers if layer.name == _squeeze_of(multiply.name))
    reduced = graph.shapes[squeeze.name][-1]
    inner = [layer for layer in graph.layers if layer.name.startswith(squeeze.name)]
    return {
        "model": network.graph.name,
        "random": int(model is None),
        "weights_are": "random" if model is None else "trained",
        "block": multiply.name,
        "map": [H, W, C],
        "channels": C,
        "reduced": reduced,
        "gates": gate.astype(float).tolist(),
        "squeeze_macs": sum(graph.macs_of(layer) for layer in inner),
        "multiplications": H * W * C,
        "closed": int((gate == 0).sum()),
        "open": int((gate == 1).sum()),
        "blocks": len(gates),
    }


def _squeeze_of(multiply: str) -> str:
    return multiply.removesuffix("mul") + "conv"


def draw_squeeze_excite(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    scheme, chart = canvas.subplots(1, 2, width_ratios=(1.15, 1))
    clear(scheme, equal=False)
    _draw_gate(scheme, data, words)
    gates = sorted(data["gates"])
    chart.bar(range(len(gates)), gates, color=LIGHT, edgecolor=INK, linewidth=0.6 if len(gates) <= 32 else 0, width=0.9)
    chart.set(ylim=(0, 1.15), xlabel=words("squeeze-excite.x"), ylabel=words("squeeze-excite.y"))
    chart.set_title(words(f"squeeze-excite.{data['weights_are']}", model=data["model"]), fontsize=NORMAL)
    chart.grid(axis="y")


def _draw_gate(axes: "Axes", data: dict[str, Any], words: Words) -> None:
    (H, W, C), reduced = data["map"], data["reduced"]
    steps = (
        (words("squeeze-excite.pool"), f"1×1×{C}", PAPER),
        (words("squeeze-excite.conv", c_out=reduced), f"1×1×{reduced}", PALE),
        ("ReLU", f"1×1×{reduced}", PAPER),
        (words("squeeze-excite.conv", c_out=C), f"1×1×{C}", PALE),
        (words("squeeze-excite.sigmoid"), f"1×1×{C}", PAPER),
    )
    label(axes, 0, 7.4, f"{H}×{W}×{C}", size=NORMAL)
    for place, (text, shape, color) in enumerate(steps):
        y = 5.9 - place
        arrow(axes, (0.9, y + 0.72), (0.9, y + 0.3))
        box(axes, 0.9, y, 2.1, 0.56, text, color=color)
        label(axes, 2.1, y, shape, ha="left")
    axes.plot([0, 0.9], [7.0, 6.62], color=MIDDLE, linewidth=1.4)
    axes.plot([0, -0.9, -0.9], [7.0, 6.62, 0.9], color=DARK, linewidth=1.4)
    arrow(axes, (-0.9, 1.0), (-0.9, 0.62))
    axes.plot([0.9, 0.9, -0.5], [1.6, 0.35, 0.35], color=MIDDLE, linewidth=1.4)
    arrow(axes, (-0.4, 0.35), (-0.62, 0.35))
    axes.text(-0.9, 0.35, "×", ha="center", va="center", fontsize=16, bbox={"boxstyle": "circle", "facecolor": PAPER})
    label(axes, -0.9, -0.5, f"{H}×{W}×{C}", size=NORMAL)
    axes.set(xlim=(-1.9, 3.6), ylim=(-0.8, 7.7))


def growth_data(model: str = DIGITS, image: str | None = None) -> dict[str, Any]:
    """Rounding errors of every layer: measured, bounded for the layer alone, and bounded since the input."""
    network = as_float(load(model), model)
    errors = [error.to_json() for error in error_growth(network.graph, network.params, example_input(network, image))]
    last = next(error for error in reversed(errors) if error["type"] != "Reshape")
    ratios = [error["measured"] / error["own_bound"] for error in errors if error["own_bound"] > 0]
    return {
        "model": network.graph.name,
        "layers": [error | {"shape": list(error["shape"])} for error in errors],
        "measured": last["measured"] / last["largest"],
        "bound": last["bound"] / last["largest"],
        "number": len(errors),
        "layers_with_rounding": len(ratios),
    }


def draw_growth_figure(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    names = ("bound", "own_bound", "measured", "x", "y")
    plot_growth(axes, data["layers"], {name: words(f"growth.{name}") for name in names})
    axes.tick_params(labelsize=SMALL)
