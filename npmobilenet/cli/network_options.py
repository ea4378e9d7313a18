"""The network that `convert --arch` and its options describe."""

from enum import StrEnum

from npmobilenet.cli.options import UsageError
from npmobilenet.cli.shared import architecture
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph

PUBLISHED_CLASSES = (None, 1000, 1001)  # ImageNet's, also with a background class: a softmax follows


class ClassifierActivation(StrEnum):
    """Activation after the classifier, which a file of weights does not tell."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    linear = "linear"


class HiddenActivation(StrEnum):
    """Activation of all other layers of a V1 or V2, which a file of weights does not tell."""

    relu6 = "relu6"
    relu = "relu"


def described_network(
    arch: str | None,
    alpha: float | None,
    resolution: str | None,
    minimalistic: bool,
    no_top: bool,
    classes: int | None,
    activation: ClassifierActivation | None,
    hidden_activation: HiddenActivation | None,
) -> Graph | None:
    """The graph of an architecture with its options as they were typed, None without --arch.

    Raises:
        UsageError: options do not fit, or a head of one's own comes without its activation.
    """
    options = (alpha, resolution, classes, activation, hidden_activation, minimalistic or None, no_top or None)
    if arch is None:
        if options != (None,) * len(options):
            raise UsageError(
                "--alpha, --resolution, --classes, --activation, --hidden-activation, --minimalistic and --no-top "
                "describe an --arch"
            )
        return None
    if no_top and (classes, activation) != (None, None):
        raise UsageError("--classes and --activation describe a classifier; --no-top leaves it out")
    if not no_top and classes not in PUBLISHED_CLASSES and activation is None:
        raise UsageError(
            f"--classes {classes} is a classifier of its own, and weights do not tell what follows it: give "
            f"--activation {', '.join(ClassifierActivation)}"
        )
    graph = architecture(arch, alpha, resolution, minimalistic, no_top, classes, activation)
    if hidden_activation is None:
        return graph
    from npmobilenet_weights_convert.assumptions import with_hidden_activation

    try:
        return with_hidden_activation(graph, hidden_activation)
    except ShapeError as error:
        raise UsageError(f"--hidden-activation: {error}") from None
