"""What every layer computes, in NumPy and integers.

    shapes           padding, output sizes, channel counts
    convolution, normalization, activations, pooling, resizing, squeeze_excite
                     every operation as one plain function on arrays
    rounding         a forward error bound for every operation
    layers           one class per layer type, with everything that is known about it
    graph            a network: layers and their wiring
    transforms       graph to graph

No function casts: with parameters of the dtype of `x` (float16, float32, float64, or objects such as
`fractions.Fraction`, which give an exact result if no exponential is involved) the sums run in that dtype and the
result has it. NaN propagates through every function, max and min included, as it does in NumPy.
"""

from npmobilenet.reference.activations import (
    ACTIVATIONS,
    hard_sigmoid,
    hard_swish,
    relu,
    relu6,
    sigmoid,
    softmax,
)
from npmobilenet.reference.convolution import conv2d, dense, depthwise_conv2d, pointwise_conv2d, taps, zero_pad
from npmobilenet.reference.normalization import batch_norm, rescale
from npmobilenet.reference.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from npmobilenet.reference.squeeze_excite import squeeze_excite

__all__ = [
    "ACTIVATIONS",
    "average_pool",
    "batch_norm",
    "conv2d",
    "dense",
    "depthwise_conv2d",
    "global_average_pool",
    "global_max_pool",
    "hard_sigmoid",
    "hard_swish",
    "max_pool",
    "pointwise_conv2d",
    "relu",
    "relu6",
    "rescale",
    "sigmoid",
    "softmax",
    "squeeze_excite",
    "taps",
    "zero_pad",
]
