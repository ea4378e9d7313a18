"""A `.weights.h5` of Keras 3 without a config: a keras.applications network without top, and one Dense layer on it.

Names and shapes specify the network and the number of classes. They do not specify the pooling between the two, nor the
activation after the Dense layer: global average pooling and a softmax are assumed, and reported.
"""

from dataclasses import replace

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Dense
from npmobilenet_weights_convert.assumptions import facts
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import Pairs, Place
from npmobilenet_weights_convert.recognize import RecognizedNetwork, recognize

DENSE = "dense"
WAY_ON = "save the whole model (model.keras), or pass its graph: read_model(file, graph=...)"


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
        WeightsError: the Dense layer has one output, for which no activation can be assumed.
    """
    stored = [layer for layer in contents.layers if layer.arrays]
    heads = [layer for layer in stored if layer.kind == DENSE]
    if not contents.numbered or len(heads) != 1:
        return None
    shapes = [array.shape for array in heads[0].arrays]
    found = recognize(replace(contents, layers=tuple(layer for layer in stored if layer.kind != DENSE)))
    if found is None or found.mismatches or found.arguments["include_top"] or not 1 <= len(shapes) <= 2:
        return None
    try:
        base = found.graph(resolution=resolution, pooling="avg")
    except ShapeError:
        return None
    if len(shapes[0]) != 2 or shapes[0][0] != base.output_shape[-1] or shapes[1:] not in ([], [shapes[0][1:]]):
        return None
    units = shapes[0][1]
    if units == 1:
        raise WeightsError(
            f"these are weights of {found} with a Dense layer of one output, and the file has no config, which "
            f"specifies the activation after it: most likely a sigmoid, or none; {WAY_ON}"
        )
    head = Dense(
        name=DENSE, inputs=(base.layers[-1].name,), units=units, use_bias=len(shapes) == 2, activation="softmax"
    )
    graph = Graph(f"{base.name}_{units}", (*base.layers, head))
    leaves = ("kernel", "bias")[: len(shapes)]
    pairs = [*found.pairs, (heads[0], Place(DENSE, DENSE, "", tuple((leaf, f"{DENSE}/{leaf}") for leaf in leaves)))]
    assumed = (
        f"the weights are those of {found}, and of a Dense layer with {units} outputs; assumed: global average pooling "
        f"between them, {facts(graph)}",
        f"to confirm it, {WAY_ON}",
    )
    return graph, pairs, found, assumed
