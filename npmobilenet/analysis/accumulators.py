"""Accumulators: the 32-bit sums that an 8-bit layer makes before it rounds them to its output."""

from npmobilenet.reference.graph import Graph

ACCUMULATOR_BYTES = 4  # int32


def accumulator_bytes(graph: Graph) -> int:
    """Bytes for the accumulators of all output channels of one pixel, in the layer that has most.

    A layer that computes pixel by pixel needs no more at a time, and one that computes channel by channel, less.
    """
    sums = [layer.name for layer in graph.layers if layer.sums]
    return ACCUMULATOR_BYTES * max((graph.shapes[name][-1] for name in sums), default=0)
