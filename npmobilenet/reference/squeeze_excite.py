"""Squeeze-and-excitation."""

from npmobilenet.reference.activations import hard_sigmoid, relu
from npmobilenet.reference.convolution import pointwise_conv2d
from npmobilenet.reference.pooling import global_average_pool
from npmobilenet.types import Array


def squeeze_excite(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
    """Squeeze-and-excitation: a gate per channel, computed from the mean of each channel.

        s = global_average_pool(x);  y = x * hard_sigmoid(relu(s @ w1 + b1) @ w2 + b2)

    Args:
        x: (N, H, W, C) input.
        w1, b1: (C, c_squeezed) and (c_squeezed,), the squeeze.
        w2, b2: (c_squeezed, C) and (C,), the excitation.

    Returns:
        (N, H, W, C), dtype of x.

    Source: Hu et al. 2018 (arXiv:1709.01507); hard sigmoid and position as in Howard et al. 2019, section 5.3.
    """
    s = global_average_pool(x, keepdims=True)  # (N, 1, 1, C)
    s = relu(pointwise_conv2d(s, w1, b1))  # (N, 1, 1, c_squeezed)
    return x * hard_sigmoid(pointwise_conv2d(s, w2, b2))
