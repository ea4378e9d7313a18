"""Is a converted file what it claims to be? Its self-check run again, and its layers beside Keras's own.

A layer is judged on its own: it gets the inputs that Keras gave it, exact to the bit, and Keras's answer must lie
within `Layer.error_bound` of the float64 answer to them. So nothing is inherited from earlier layers, the tolerance
stays sharp at any depth, and every layer that is wrong is named, not only the first.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model, made_up_pixels
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Input
from npmobilenet.types import Array, Params


@dataclass(frozen=True)
class SelfCheck:
    """What came of running a file's self-check again.

    Attributes:
        checked: number of layers whose digests were computed.
        differing: names of the layers whose digest is not the stored one, in the order of the graph.
        intact: whether the file's bytes are those that were written.
    """

    checked: int
    differing: tuple[str, ...]
    intact: bool

    @property
    def passed(self) -> bool:
        return self.intact and not self.differing


@dataclass(frozen=True)
class LayerVerdict:
    """One layer beside another engine's.

    Attributes:
        name, type: of the layer.
        compared: false where the other side lacks its output or its inputs.
        ratio: largest |other - exact| / allowed of all values, given the other side's inputs: up to 1 is rounding,
            infinite where shapes differ.
        difference: |other - exact| at that value.
        allowed: at that value.
        note: what the other side lacks, or which shapes it has instead.
    """

    name: str
    type: str
    compared: bool
    ratio: float = 0.0
    difference: float = 0.0
    allowed: float = 0.0
    note: str = ""

    @property
    def same(self) -> bool:
        """Whether it was compared and only rounding differs."""
        return self.compared and self.ratio <= 1

    def to_json(self) -> dict[str, Any]:
        """Its attributes, and `same`, for a JSON document."""
        return asdict(self) | {"same": self.same}


def open_and_check(model: str | PathLike[str]) -> tuple[Model, SelfCheck | None]:
    """Open a model and run its self-check again, even where the file's bytes are not those that were written.

    Args:
        model: a converted file; or anything that `load` takes.

    Returns:
        The model and what came of its self-check, None where it has none, as a Keras file.

    Raises:
        NpMobileNetError: it cannot be opened.
    """
    try:
        opened, intact = load(model), True
    except WeightsError:
        if Path(model).suffix != ".safetensors":
            raise
        opened, intact = Model.open(model, intact=False), False
    if not opened.stored_check:
        return opened, None
    return opened, SelfCheck(len(opened.graph.layers), tuple(opened.failed_checks()), intact)


def compare_with_keras(model: Model, source: str | PathLike[str]) -> list[LayerVerdict]:
    """Judge every layer of a model by what Keras computes from its own file, on the picture of the self-check.

    Args:
        model: the converted network.
        source: the Keras file that it was converted from.

    Returns:
        A verdict a layer, in the order of the graph.

    Raises:
        NpMobileNetError: Keras is not installed.
        WeightsError: Keras cannot load the file.
    """
    from npmobilenet_weights_convert.run_in_keras import layer_outputs, open_in_keras

    x = model.scale(made_up_pixels(model.graph.input_shape)[None])
    theirs = layer_outputs(open_in_keras(source, model.graph), x)
    return judge_layers(model.graph, model.params, {model.graph.layers[0].name: x} | theirs)


def judge_layers(graph: Graph, params: Params, theirs: Mapping[str, Array]) -> list[LayerVerdict]:
    """Judge another float32 engine's outputs, each layer on the inputs that the engine itself had.

    Args:
        graph: the network.
        params: arrays by `layer/array`.
        theirs: the engine's outputs by layer name, (N, ...) each; that of the input layer is what it was given.

    Returns:
        A verdict a layer, in the order of the graph, the input left out.
    """
    return [_judged(graph, params, layer, theirs) for layer in graph.layers if not isinstance(layer, Input)]


def _judged(graph: Graph, params: Params, layer: Layer, theirs: Mapping[str, Array]) -> LayerVerdict:
    lacking = [name for name in (layer.name, *layer.inputs) if name not in theirs]
    if lacking:
        return LayerVerdict(layer.name, layer.type, False, note=f"the other side has no {', '.join(lacking)}")
    odd = [name for name in (layer.name, *layer.inputs) if theirs[name].shape[1:] != graph.shapes[name]]
    if odd:
        shapes = ", ".join(f"{name} is {theirs[name].shape[1:]}, not {graph.shapes[name]}" for name in odd)
        return LayerVerdict(layer.name, layer.type, True, float("inf"), note=f"the other side's {shapes}")
    arrays = {name: array.astype(np.float64) for name, array in graph.arrays_of(layer, params).items()}
    inputs = [theirs[name].astype(np.float64) for name in layer.inputs]
    exact, bound = layer.apply(arrays, *inputs), layer.error_bound(arrays, *inputs)
    return _verdict(layer, np.abs(theirs[layer.name] - exact), bound)


def _verdict(layer: Layer, difference: Array, bound: Array) -> LayerVerdict:
    """The value whose difference is farthest from what is allowed there; NaN is as far off as infinity."""
    difference = np.where(np.isnan(difference), np.inf, difference)
    allowed = np.maximum(bound, np.finfo(np.float64).tiny)
    ratio = difference / allowed
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    return LayerVerdict(
        layer.name, layer.type, True, float(ratio[worst]), float(difference[worst]), float(allowed[worst])
    )
