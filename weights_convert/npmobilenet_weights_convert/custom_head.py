"""Weights without a config of a keras.applications network without top, and one or several Dense layers on it.

Names and shapes specify the network and the sizes of the Dense layers. They do not specify the pooling before them, nor
their activations: global average pooling, ReLU and a final softmax are assumed, and reported with the command that
confirms them. Layers without arrays, such as Dropout, are no-ops at inference.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePath

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Dense, Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D
from npmobilenet_weights_convert.assumptions import architecture_options, facts
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import Pairs, Place, without_prefix
from npmobilenet_weights_convert.recognize import RecognizedNetwork, recognize
from npmobilenet_weights_convert.stored_layers import StoredLayer

DENSE = "dense"
SAVE = "save the whole model (model.keras), or pass its graph: read_model(file, graph=...)"
POOLINGS: dict[str, type[Layer]] = {"avg": GlobalAveragePooling2D, "max": GlobalMaxPooling2D, "flatten": Flatten}
ACTIVATIONS = ("linear", "relu", "relu6", "sigmoid", "softmax", "tanh", "elu", "silu", "gelu", "hard_swish")


@dataclass(frozen=True)
class Head:
    """What follows a network without top: a pooling, then Dense layers.

    Attributes:
        pooling: a key of `POOLINGS`.
        dense: (units, activation) of every Dense layer.
        use_bias: whether they have biases.
    """

    pooling: str
    dense: tuple[tuple[int, str], ...]
    use_bias: bool = True

    @staticmethod
    def parse(text: str) -> "Head":
        """The head that a text describes: "avg,64:relu,3:softmax"; "nobias" at the end for Dense layers without biases.

        Raises:
            ShapeError: it describes none.
        """
        pooling, *words = text.split(",")
        use_bias = words[-1:] != ["nobias"]
        layers = [word.partition(":") for word in (words if use_bias else words[:-1])]
        if pooling not in POOLINGS or not layers or not all(
            units.isdecimal() and int(units) > 0 and activation in ACTIVATIONS for units, _, activation in layers
        ):  # fmt: skip
            raise ShapeError(
                f"head: expected a pooling ({', '.join(POOLINGS)}) and UNITS:ACTIVATION of every Dense layer, such as "
                f"avg,64:relu,3:softmax; activations: {', '.join(ACTIVATIONS)}; got {text!r}"
            )
        return Head(pooling, tuple((int(units), activation) for units, _, activation in layers), use_bias)

    def __str__(self) -> str:
        words = [self.pooling, *(f"{units}:{activation}" for units, activation in self.dense)]
        return ",".join(words + ([] if self.use_bias else ["nobias"]))

    def on(self, base: Graph) -> Graph:
        """The graph of a network without top and pooling, and this head."""
        layers: list[Layer] = [*base.layers, POOLINGS[self.pooling](name="pooling", inputs=(base.layers[-1].name,))]
        for number, (units, activation) in enumerate(self.dense):
            name = f"{DENSE}_{number}" if number else DENSE
            inputs = (layers[-1].name,)
            layers.append(Dense(name=name, inputs=inputs, units=units, use_bias=self.use_bias, activation=activation))
        return Graph(f"{base.name}_{self.dense[-1][0]}", tuple(layers))


def with_custom_head(
    contents: Contents, resolution: int
) -> tuple[Graph, Pairs, RecognizedNetwork, tuple[str, ...]] | None:
    """The network of such a file.

    Args:
        contents: the open file.
        resolution: input size in pixels, which weights do not specify.

    Returns:
        Its graph, the pairs of layers, the network without top, and the assumptions; None if it is not of this kind.

    Raises:
        WeightsError: the last Dense layer has one output, for which no activation can be assumed.
    """
    stored = [layer for layer in contents.layers if layer.arrays]
    heads = [layer for layer in stored if _is_dense(layer)]
    others = without_prefix([layer for layer in stored if layer not in heads])
    found = recognize(replace(contents, layers=tuple(others)))
    if not heads or found is None or found.mismatches or found.arguments["include_top"]:
        return None
    try:
        base = found.graph(resolution=resolution)
    except ShapeError:
        return None
    head = _head(heads, base)
    if head is None:
        return None
    graph = head.on(base)
    outputs = ", ".join(str(units) for units, _ in head.dense)
    dense = f"{'a Dense layer' if len(heads) == 1 else f'{len(heads)} Dense layers'} (outputs: {outputs})"
    confirm = (
        f"npmobilenet convert {shlex.quote(PurePath(contents.file).name)} {architecture_options(base, found)} "
        f"--head {head}"
    )
    if head.dense[-1] == (1, "sigmoid"):
        raise WeightsError(
            f"these are weights of {found} with {dense}, and the file has no config, which specifies the activation "
            f"after its one output: most likely a sigmoid, or none (1:linear). Specify it: {confirm}; or {SAVE}"
        )
    leaves = ("kernel", "bias")[: 1 + head.use_bias]
    names = [layer.name for layer in graph.layers if isinstance(layer, Dense)][-len(heads) :]
    places = [Place(name, DENSE, "", tuple((leaf, f"{name}/{leaf}") for leaf in leaves)) for name in names]
    assumed = (
        f"the weights are those of {found}, and of {dense}; assumed: "
        f"{'flattening' if head.pooling == 'flatten' else 'global average pooling'} between them, {facts(graph)}",
        f"to confirm it: {confirm}; or {SAVE}",
    )
    return graph, [*found.pairs, *zip(heads, places, strict=True)], found, assumed


def _is_dense(layer: StoredLayer) -> bool:
    """Whether a layer is a Dense layer by its arrays: a matrix, and a bias or none."""
    shapes = [array.shape for array in layer.arrays]
    return layer.kind in (DENSE, "") and len(shapes[0]) == 2 and shapes[1:] in ([], [shapes[0][1:]])


def _head(layers: Sequence[StoredLayer], base: Graph) -> Head | None:
    """The likeliest head with these Dense layers, None if they do not follow one another on the network."""
    H, W, C = base.output_shape
    kernels = [layer.arrays[0].shape for layer in layers]
    biases = {len(layer.arrays) > 1 for layer in layers}
    pooling = {C: "avg", H * W * C: "flatten"}.get(kernels[0][0])
    if pooling is None or len(biases) > 1 or any(a[1] != b[0] for a, b in pairwise(kernels)):
        return None
    units = [kernel[1] for kernel in kernels]
    last = "sigmoid" if units[-1] == 1 else "softmax"
    return Head(pooling, (*((n, "relu") for n in units[:-1]), (units[-1], last)), biases == {True})
