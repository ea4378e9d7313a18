"""The papers' tables: MobileNet V1, V2 and V3, SSD on them, and the networks that the papers compare with."""

from collections.abc import Callable

from npmobilenet.architectures.mobilenet_v1 import mobilenet_v1
from npmobilenet.architectures.mobilenet_v2 import mobilenet_v2
from npmobilenet.architectures.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.reference.graph import Graph

ARCHITECTURES: dict[str, Callable[..., Graph]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
}

__all__ = ["ARCHITECTURES", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
