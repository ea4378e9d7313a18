"""Verification of a converted file: its self-check, and a comparison with Keras layer by layer.

Each layer is judged on its own: its inputs are those that Keras computed, bit-exact, and Keras's output must be within
`Layer.error_bound` of the float64 result for them. So errors are not inherited from earlier layers, the tolerance
stays sharp at any depth, and every wrong layer is named, not only the first.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded, open_stored
from npmobilenet.models.self_check import synthetic_image
from npmobilenet.porting.integer_pack import IntegerPack, is_integer_pack
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Input
from npmobilenet.types import Array, Params


@dataclass(frozen=True)
class SelfCheck:
    """Result of a file's self-check.

    Attributes:
        checked: number of layers, or of a quantized model's tensors, whose digests were computed.
        differing: names of those whose digest differs from the stored one, in the order of the graph.
        intact: whether the file's checksum matches.
    """

    checked: int
    differing: tuple[str, ...]
    intact: bool

    @property
    def passed(self) -> bool:
        return self.intact and not self.differing


@dataclass(frozen=True)
class LayerVerdict:
    """Comparison of one layer with another engine.

    Attributes:
        name, type: of the layer.
        compared: false if the engine's output or inputs of the layer are missing.
        ratio: maximum of |engine - exact| / allowed over all values, given the engine's inputs: up to 1 is rounding,
            infinite if shapes differ.
        difference: |engine - exact| at that value.
        allowed: at that value.
        note: the missing outputs, or the shapes that differ.
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
        """Whether the layer was compared and equals up to rounding."""
        return self.compared and self.ratio <= 1

    def to_json(self) -> dict[str, Any]:
        """The attributes and `same`, for a JSON document."""
        return asdict(self) | {"same": self.same}


def open_and_check(model: str | PathLike[str]) -> tuple[Loaded, SelfCheck | None]:
    """Open a model and run its self-check, even if the file's checksum does not match.

    Args:
        model: a converted file, or anything that `load` accepts; or golden data of a quantized network, whose integers
            are computed again.

    Returns:
        The model and the result of its self-check, None if it has none, such as a Keras file.

    Raises:
        NpMobileNetError: the model cannot be opened.
    """
    if is_integer_pack(model):
        pack = IntegerPack.open(model)
        damaged = pack.damaged()
        return pack.model(), SelfCheck(len(pack.layers), () if damaged else tuple(pack.differing()), not damaged)
    try:
        opened: Loaded = load(model)
        intact = True
    except WeightsError:
        if Path(model).suffix != ".safetensors":
            raise
        opened, intact = open_stored(Path(model), intact=False), False
    if not opened.stored_check:
        return opened, None
    return opened, SelfCheck(len(opened.layer_names), tuple(opened.failed_checks()), intact)


def compare_with_keras(model: Model, source: str | PathLike[str]) -> list[LayerVerdict]:
    """Compare every layer of a model with Keras running the original file, on the image of the self-check.

    Args:
        model: the converted network.
        source: the Keras file that it was converted from.

    Returns:
        One verdict per layer, in the order of the graph.

    Raises:
        NpMobileNetError: Keras is not installed.
        WeightsError: Keras cannot load the file.
    """
    from npmobilenet_weights_convert.run_in_keras import layer_outputs, open_in_keras

    x = model.scale(synthetic_image(model.graph.input_shape)[None])
    outputs = layer_outputs(open_in_keras(source, model.graph), x)
    return judge_layers(model.graph, model.params, {model.graph.layers[0].name: x} | outputs)


def judge_layers(graph: Graph, params: Params, outputs: Mapping[str, Array]) -> list[LayerVerdict]:
    """Compare another float32 engine's outputs with the network, each layer on the engine's own inputs.

    Args:
        graph: the network.
        params: arrays by `layer/array`.
        outputs: the engine's outputs by layer name, (N, ...) each; that of the input layer is the engine's input.

    Returns:
        One verdict per layer, in the order of the graph, without the input.
    """
    return [_judged(graph, params, layer, outputs) for layer in graph.layers if not isinstance(layer, Input)]


def _judged(graph: Graph, params: Params, layer: Layer, outputs: Mapping[str, Array]) -> LayerVerdict:
    missing = [name for name in (layer.name, *layer.inputs) if name not in outputs]
    if missing:
        return LayerVerdict(layer.name, layer.type, False, note=f"no output of {', '.join(missing)}")
    misshapen = [name for name in (layer.name, *layer.inputs) if outputs[name].shape[1:] != graph.shapes[name]]
    if misshapen:
        shapes = (f"expected {name} {graph.shapes[name]}, got {outputs[name].shape[1:]}" for name in misshapen)
        return LayerVerdict(layer.name, layer.type, True, float("inf"), note="; ".join(shapes))
    arrays = {name: array.astype(np.float64) for name, array in graph.arrays_of(layer, params).items()}
    inputs = [outputs[name].astype(np.float64) for name in layer.inputs]
    exact, bound = layer.apply(arrays, *inputs), layer.error_bound(arrays, *inputs)
    return _verdict(layer, np.abs(outputs[layer.name] - exact), bound)


def _verdict(layer: Layer, difference: Array, bound: Array) -> LayerVerdict:
    """The verdict at the value with the largest ratio of difference to bound; NaN counts as infinite."""
    difference = np.where(np.isnan(difference), np.inf, difference)
    allowed = np.maximum(bound, np.finfo(np.float64).tiny)
    ratio = difference / allowed
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    return LayerVerdict(
        layer.name, layer.type, True, float(ratio[worst]), float(difference[worst]), float(allowed[worst])
    )
