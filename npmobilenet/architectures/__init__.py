"""The papers' tables: MobileNet V1, V2 and V3, SSD on them, and the networks that the papers compare with."""

from npmobilenet.architectures.mobilenets import (
    ARCHITECTURES,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_small,
)

__all__ = ["ARCHITECTURES", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
