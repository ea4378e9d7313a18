"""An ONNX file to a `Model`."""

from hashlib import sha256
from pathlib import Path

from npmobilenet.errors import ArgumentError
from npmobilenet.models.class_names import LabelsLike, class_output, with_labels
from npmobilenet.models.labels import imagenet_labels
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import SYMMETRIC, TORCH, Scaling, choose_scaling
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Shape
from npmobilenet_weights_convert.assumptions import LOGITS, unspecified_range
from npmobilenet_weights_convert.keras_file import corruption_reported
from npmobilenet_weights_convert.onnx_file import open_onnx
from npmobilenet_weights_convert.onnx_network import CHANNELS_FIRST, onnx_network
from npmobilenet_weights_convert.recognize import DEFAULT_RESOLUTION, IMAGENET_CLASSES


def read_onnx_model(
    path: Path, data: bytes, *, scaling: Scaling | None, labels: LabelsLike | None, resize: str | None
) -> Model:
    """Read an ONNX file.

    Args:
        path: the file, for its name.
        data: its contents.
        scaling: from pixels in 0..255 to the network's input; by default the network's own Rescaling, else the one
            customary where the file comes from, which is reported as an assumption.
        labels: one per class; by default the ImageNet classes of a network with 1000 outputs.
        resize: how images are resized; by default "crop" with those classes, else None: not known.

    Raises:
        WeightsError: onnx is not installed, or the file is corrupt or not supported.
    """
    with corruption_reported(str(path)):
        file = open_onnx(data)
        graph, params, axes = onnx_network(file, DEFAULT_RESOLUTION)
    own = imagenet_labels() if _classes(graph) == (IMAGENET_CLASSES,) else ()
    notes, assumed = [f"written by {file.producer or 'an unnamed program'}"], ""
    if 0 in file.input_shape[1:]:
        notes.append(f"the file does not fix the input size; {DEFAULT_RESOLUTION} is assumed")
    if len(graph.outputs) == 1 and getattr(graph.layers[-1], "activation", "") not in ("softmax", "sigmoid"):
        notes.append(LOGITS)
    if scaling is None:
        scaling = choose_scaling(graph)
        if scaling == SYMMETRIC:
            what = "[-1, 1]"
            if axes == CHANNELS_FIRST and file.producer == "pytorch":
                scaling, what = TORCH, "ImageNet's normalization, as in PyTorch,"
            assumed = unspecified_range(what)
    source = {
        "file": path.name,
        "sha256": sha256(data).hexdigest(),
        "keras_version": "",
        "matched_by": "ONNX nodes",
        "notes": "; ".join(notes),
    }
    if assumed:
        source["assumed_range"] = assumed
    model = Model(graph, params, scaling, own, source=source, resize=resize or ("crop" if own else None))
    return model if labels is None else with_labels(model, labels)


def _classes(graph: Graph) -> Shape:
    """Shape of the output that holds classes; () if it is not clear which of several does."""
    try:
        return graph.output_shapes[class_output(graph)]
    except ArgumentError:
        return ()
