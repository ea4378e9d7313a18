"""MobileNet V1, V2 and V3 from scratch in NumPy, with Keras's own weights.

    import npmobilenet as nm
    model = nm.load("mobilenet_v2_1.0_224")
    model.classify("panda.jpg")

Where to start reading: `reference` (what every layer computes), `architectures` (the papers' tables), `models` (a graph
with weights). docs/architecture.md is the floor plan.
"""

from typing import TYPE_CHECKING, Any

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.errors import (
    ArgumentError,
    AssumptionWarning,
    DownloadError,
    DumpError,
    ImageError,
    KernelError,
    LabelFileError,
    ModelNotFoundError,
    NpMobileNetError,
    ShapeError,
    WeightsError,
)
from npmobilenet.former_modules import register as _register_former_modules
from npmobilenet.hub.load import load
from npmobilenet.models.detections import Detection
from npmobilenet.models.detector import Detector
from npmobilenet.models.labels import decode_predictions
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.reference.graph import Graph

if TYPE_CHECKING:
    from npmobilenet.models.quantized_model import QuantizedModel

__all__ = [
    "ArgumentError",
    "AssumptionWarning",
    "Detection",
    "Detector",
    "DownloadError",
    "DumpError",
    "Graph",
    "ImageError",
    "KernelError",
    "LabelFileError",
    "Model",
    "ModelNotFoundError",
    "NpMobileNetError",
    "QuantizedModel",
    "Scaling",
    "ShapeError",
    "WeightsError",
    "decode_predictions",
    "load",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
]

_register_former_modules()


def __getattr__(name: str) -> Any:
    """`QuantizedModel`, imported when it is first asked for."""
    if name != "QuantizedModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from npmobilenet.models.quantized_model import QuantizedModel

    return QuantizedModel
