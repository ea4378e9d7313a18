"""What a file of weights does not tell about its network: what is assumed, what is refused, and how to confirm it.

Arrays tell layers and sizes. They do not tell activations, padding, batch-norm epsilon, or what follows the classifier.
Where the layers have the names that keras.applications gives them, the network is taken for that one. Where they match
by order alone, somebody may have written the network by hand, with other activations: then that is said until somebody
who knows confirms it.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Window
from npmobilenet.reference.layers import Activation, BatchNormalization, Dense, ZeroPadding2D
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import ORDER
from npmobilenet_weights_convert.recognize import DEFAULT_RESOLUTION, IMAGENET_CLASSES, RecognizedNetwork

HIDDEN_ACTIVATIONS = ("relu6", "relu")
NO_OPTION = {
    "channels": 3,
    "depth_multiplier": 1,
    "shallow": False,
}  # no options for others
IMAGENET_OUTPUTS = (IMAGENET_CLASSES, IMAGENET_CLASSES + 1)


def assumed_of(contents: Contents, graph: Graph, found: RecognizedNetwork) -> list[str]:
    """What is assumed about the network of a file of weights, one sentence each; none for a published network.

    Raises:
        WeightsError: it ends in one output, for which nothing can be assumed.
    """
    classes = found.arguments.get("classes", IMAGENET_CLASSES) if found.arguments["include_top"] else None
    own_head = classes is not None and classes not in IMAGENET_OUTPUTS
    activation = "sigmoid" if classes == 1 else "softmax"
    command = _command(contents.file, graph, found, activation if own_head else None)
    if classes == 1:
        raise WeightsError(
            f"these are weights of {found}, and they do not tell what follows its one output: a sigmoid, most likely, "
            f"or nothing. Say which: {command}"
        )
    assumed = []
    if found.matched_by == ORDER:
        assumed.append(
            f"the weights match {found} by layer order, which does not tell activations, padding and epsilon; "
            f"assumed are {facts(graph)}"
        )
    if own_head:
        assumed.append("the file does not tell what follows the classifier; softmax is assumed")
    if assumed:
        assumed.append(f"to confirm it: {command}")
    return assumed


def facts(graph: Graph) -> str:
    """What arrays do not tell, as a graph has it: its activations, padding and batch-norm epsilon."""
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
    if isinstance(graph.layers[-1], Activation | Dense) and len(graph.output_shape) == 1:
        parts.append(f"{last if last != 'linear' else 'nothing'} after the classifier")
    return ", ".join(parts)


def check_classifier(graph: Graph) -> None:
    """Refuse a softmax over one class.

    Raises:
        WeightsError: the graph ends in one.
    """
    if ends_in_certainty(graph):
        raise WeightsError(
            f"{graph.name}: a softmax over one class answers 1 for every image; what follows one output is sigmoid or "
            "nothing: --activation sigmoid or --activation linear"
        )


def ends_in_certainty(graph: Graph) -> bool:
    """Whether the last layer is a softmax over one class, which answers 1 whatever the image."""
    return getattr(graph.layers[-1], "activation", "") == "softmax" and graph.output_shape[-1] == 1


def check_left_over(left_over: Sequence[str]) -> None:
    """Refuse arrays that belong to no layer, such as those of a Normalization that a model holds beside its layers.

    Raises:
        WeightsError: there are some; the message names them.
    """
    if left_over:
        raise WeightsError(
            f"{len(left_over)} arrays belong to no layer of the network, so that leaving them out would change its "
            "output. Save the whole model (model.keras)\n  " + "\n  ".join(f"left over: {name}" for name in left_over)
        )


def with_hidden_activation(graph: Graph, activation: str) -> Graph:
    """A V1 or V2 with another activation in place of every ReLU6.

    Raises:
        ShapeError: the network is another, or the activation is not one of HIDDEN_ACTIVATIONS.
    """
    if activation not in HIDDEN_ACTIVATIONS:
        raise ShapeError(f"hidden activation: expected one of {', '.join(HIDDEN_ACTIVATIONS)}, got {activation!r}")
    if not graph.name.startswith(("mobilenet_", "mobilenetv2_")):
        raise ShapeError(f"{graph.name}: only V1 and V2 have one activation throughout that can be replaced")
    layers = (
        replace(layer, activation=activation)
        if isinstance(layer, Activation) and layer.activation == "relu6"
        else layer
        for layer in graph.layers
    )
    return Graph(graph.name, tuple(layers))


def _command(file: str, graph: Graph, found: RecognizedNetwork, activation: str | None) -> str:
    """The command that confirms what was assumed; where the command line has no option for it, the call."""
    arguments = dict(found.arguments)
    if activation:
        arguments["classifier_activation"] = activation
    if any(arguments.get(name, usual) != usual for name, usual in NO_OPTION.items()):
        size = {"resolution": graph.input_shape[:2]}
        given = ", ".join(f"{name}={value!r}" for name, value in (arguments | size).items())
        return f"read_model(file, graph={found.arch}({given}))"
    words = ["npmobilenet convert", shlex.quote(PurePath(file).name), f"--arch {found.arch}"]
    words.append(f"--alpha {arguments['alpha']:g}")
    if graph.input_shape[:2] != (DEFAULT_RESOLUTION, DEFAULT_RESOLUTION):
        words.append(f"--resolution {graph.input_shape[0]}x{graph.input_shape[1]}")
    if arguments.get("minimalistic"):
        words.append("--minimalistic")
    if not arguments["include_top"]:
        words.append("--no-top")
    if activation:
        words.append(f"--classes {arguments['classes']} --activation {activation}")
    if found.matched_by == ORDER and not found.arch.startswith("mobilenet_v3"):
        words.append("--hidden-activation relu6")
    return " ".join(words)
