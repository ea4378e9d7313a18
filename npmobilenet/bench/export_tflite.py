"""Export of the fused network to TensorFlow Lite, for LiteRT: float32, NHWC, without TensorFlow."""

from pathlib import Path

from npmobilenet_weights_convert.tflite_writer import tflite_bytes

from npmobilenet.compiler.ir import Operations
from npmobilenet.compiler.operator_network import operator_network


def write_tflite(ops: Operations, batch: int, path: Path) -> None:
    """Write a network as TensorFlow Lite: images (batch, H, W, C) in, outputs (batch, ...).

    Raises:
        NpMobileNetError: an operation is not supported.
    """
    path.write_bytes(tflite_bytes(operator_network(ops, batch)))
