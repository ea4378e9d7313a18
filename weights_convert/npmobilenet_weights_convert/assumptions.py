"""Facts about a network that its weights do not specify: assumptions, refusals, and how to confirm them.

Arrays determine layers and sizes, but not activations, padding, batch-norm epsilon, or the activation after the
classifier. If the layers have the names of keras.applications, its network is assumed. If they match by order only, the
network may be hand-written with other activations: the assumption is reported until the user confirms it.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Window
from npmobilenet.reference.layers import Activation, BatchNormalization, Dense, ZeroPadding2D
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import ORDER
from npmobilenet_weights_convert.recognize import DEFAULT_RESOLUTION, IMAGENET_CLASSES, RecognizedNetwork

HIDDEN_ACTIVATIONS = ("relu6", "relu")
REPLACEABLE = ("mobilenet_", "mobilenetv2_")  # names of graphs whose hidden activations are all the same
WITHOUT_OPTION = {"channels": 3, "depth_multiplier": 1, "shallow": False}  # arguments that convert has no option for
IMAGENET_OUTPUTS = (IMAGENET_CLASSES, IMAGENET_CLASSES + 1)
LOW_PRECISION = re.compile(r'"((?:mixed_)?b?float16)"')

LOGITS = "the output is what the file computes, logits if it is a classifier"


def assumed_of(contents: Contents, graph: Graph, found: RecognizedNetwork) -> list[str]:
    """Assumptions about the network of a weights file, one sentence each; none for a published network.

    Raises:
        WeightsError: it ends in one output, for which no activation can be assumed.
    """
    classes = found.arguments.get("classes", IMAGENET_CLASSES) if found.arguments["include_top"] else None
    own_head = classes is not None and classes not in IMAGENET_OUTPUTS
    activation = "sigmoid" if classes == 1 else "softmax"
    command = _command(contents.file, graph, found, activation if own_head else None)
    if classes == 1:
        raise WeightsError(
            f"these are weights of {found}, and do not specify the activation after its one output: most likely a "
            f"sigmoid, or none. Specify it: {command}"
        )
    assumed = []
    if found.matched_by == ORDER:
        assumed.append(
            f"the weights match {found} by layer order, which does not determine activations, padding and epsilon; "
            f"assumed: {facts(graph)}"
        )
    if own_head:
        assumed.append("the file does not specify the activation after the classifier; softmax is assumed")
    if assumed:
        assumed.append(f"to confirm it: {command}")
    return assumed


def facts(graph: Graph) -> str:
    """Facts of a graph that arrays do not determine: activations, padding and batch-norm epsilon."""
    activations = [getattr(layer, "activation", "linear") for layer in graph.layers]
    last = activations[-1]
    hidden = sorted({name for name in activations[:-1] if name != "linear"}) or ["no activations"]
    parts = [" and ".join(hidden)]
    padded = {layer.padding for layer in graph.layers if isinstance(layer, ZeroPadding2D)}
    windows = {
        layer.padding
        for layer in graph.layers
        if isinstance(layer, Window) and "kernel" in graph.param_shapes_of(layer)
    }
    parts += [f"zeros at {padding}" for padding in sorted(padded)]
    parts += ['"same" padding'] if "same" in windows else []
    epsilons = sorted({layer.epsilon for layer in graph.layers if isinstance(layer, BatchNormalization)})
    parts += [f"epsilon {epsilon:g}" for epsilon in epsilons]
    if isinstance(graph.layers[-1], Activation | Dense) and len(graph.shapes[graph.layers[-1].name]) == 1:
        parts.append(f"{last if last != 'linear' else 'nothing'} after the classifier")
    return ", ".join(parts)


def check_classifier(graph: Graph) -> None:
    """Refuse a softmax over one class.

    Raises:
        WeightsError: the graph ends in one.
    """
    if ends_in_certainty(graph):
        raise WeightsError(
            f"{graph.name}: a softmax over one class is 1 for every image; use a sigmoid or no activation: "
            "--activation sigmoid or --activation linear"
        )


def ends_in_certainty(graph: Graph) -> bool:
    """Whether an output is a softmax over one class, which is 1 for every image."""
    return any(
        getattr(graph[layer], "activation", "") == "softmax" and graph.shapes[layer][-1] == 1
        for layer in graph.output_layers
    )


def check_left_over(left_over: Sequence[str]) -> None:
    """Refuse arrays that belong to no layer, such as those of a Normalization that is an attribute of the model.

    Raises:
        WeightsError: there are such arrays; the message names them.
    """
    if left_over:
        raise WeightsError(
            f"{len(left_over)} arrays belong to no layer of the network; ignoring them would change its output. "
            "Save the whole model (model.keras)\n  " + "\n  ".join(f"left over: {name}" for name in left_over)
        )


def default_hidden_activation(graph: Graph, matched_by: str) -> tuple[str, ...]:
    """The sentence on a ReLU6 that neither the caller specified nor the names of layers imply; empty if there is none.

    Args:
        graph: the network that the caller gives.
        matched_by: how names were matched, see `name_matching`.
    """
    if matched_by != ORDER or not _has_hidden_relu6(graph):
        return ()
    return (
        f"the hidden activation was not specified: relu6, the default of {graph.name}, which weights do not confirm; "
        "specify it with --hidden-activation relu6 or --hidden-activation relu",
    )


def _has_hidden_relu6(graph: Graph) -> bool:
    return graph.name.startswith(REPLACEABLE) and any(
        isinstance(layer, Activation) and layer.activation == "relu6" for layer in graph.layers
    )


def unspecified_range(assumed: str) -> str:
    """The sentence on pixels whose scaling a file of operators does not specify."""
    return (
        f"the file does not specify how pixels are scaled; {assumed} is assumed. --range, at convert for good, or "
        "read_model(scaling=...) confirms it"
    )


def precision_notes(config: Any) -> list[str]:
    """A note on a config with a policy of lower precision, in which Keras computes; the arrays are float32."""
    found = set(LOW_PRECISION.findall(json.dumps(config)))
    found -= {policy.removeprefix("mixed_") for policy in found if policy.startswith("mixed_")}  # of its layers' inputs
    return [f"trained with policy {policy}; computed in float32" for policy in sorted(found)]


def with_hidden_activation(graph: Graph, activation: str) -> Graph:
    """A V1 or V2 with every ReLU6 replaced by another activation.

    Raises:
        ShapeError: it is another network, or the activation is not one of HIDDEN_ACTIVATIONS.
    """
    if activation not in HIDDEN_ACTIVATIONS:
        raise ShapeError(f"hidden activation: expected one of {', '.join(HIDDEN_ACTIVATIONS)}, got {activation!r}")
    if not graph.name.startswith(REPLACEABLE):
        raise ShapeError(f"{graph.name}: only the activation of V1 and V2 can be replaced")
    layers = (
        replace(layer, activation=activation)
        if isinstance(layer, Activation) and layer.activation == "relu6"
        else layer
        for layer in graph.layers
    )
    return replace(graph, layers=tuple(layers))


def _command(file: str, graph: Graph, found: RecognizedNetwork, activation: str | None) -> str:
    """The command that confirms the assumptions; the call in Python if the command line has no option for it."""
    arguments = dict(found.arguments)
    if activation:
        arguments["classifier_activation"] = activation
    if any(arguments.get(name, usual) != usual for name, usual in WITHOUT_OPTION.items()):
        size = {"resolution": graph.input_shape[:2]}
        given = ", ".join(f"{name}={value!r}" for name, value in (arguments | size).items())
        return f"read_model(file, graph={found.arch}({given}))"
    words = ["npmobilenet convert", shlex.quote(PurePath(file).name), architecture_options(graph, found)]
    if not arguments["include_top"]:
        words.append("--no-top")
    if activation:
        words.append(f"--classes {arguments['classes']} --activation {activation}")
    return " ".join(words)


def architecture_options(graph: Graph, found: RecognizedNetwork) -> str:
    """The options of `convert` that describe a recognized network without its classifier."""
    words = [f"--arch {found.arch} --alpha {found.arguments['alpha']:g}"]
    if graph.input_shape[:2] != (DEFAULT_RESOLUTION, DEFAULT_RESOLUTION):
        words.append(f"--resolution {graph.input_shape[0]}x{graph.input_shape[1]}")
    if found.arguments.get("minimalistic"):
        words.append("--minimalistic")
    if found.matched_by == ORDER and not found.arch.startswith("mobilenet_v3"):
        words.append("--hidden-activation relu6")
    return " ".join(words)
