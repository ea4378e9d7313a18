"""Activations: elementwise functions, and softmax.

Each returns the shape and dtype of its input.
"""

from collections.abc import Callable
from math import erfc, pi, sqrt

import numpy as np

from npmobilenet.reference.arithmetic import constant
from npmobilenet.types import Array

SQRT_2 = sqrt(2)
SQRT_2_OVER_PI = sqrt(2 / pi)
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def relu(x: Array) -> Array:
    """max(x, 0). NaN stays NaN."""
    return np.maximum(x, constant(0, x))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6). NaN stays NaN.

    The upper limit keeps activations in a known range, so that few bits can represent them.

    Source: Howard et al. 2017 use it in their code; Sandler et al. 2018 (arXiv:1801.04381), section 3.4, in the text.
    """
    return np.minimum(relu(x), constant(6, x))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written as exp(-log(1 + exp(-x))) so that no x overflows. NaN stays NaN."""
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(constant(0, x), -x))


def hard_sigmoid(x: Array) -> Array:
    """Piecewise linear sigmoid: relu6(x + 3) / 6.

    Keras before version 3 had another function of this name, clip(0.2 * x + 0.5, 0, 1); MobileNetV3 never used it.

    Source: Howard et al. 2019 (arXiv:1905.02244), section 5.2.
    """
    return relu6(x + constant(3, x)) / constant(6, x)


def hard_swish(x: Array) -> Array:
    """x * relu6(x + 3) / 6; NaN for -inf, which is multiplied by 0.

    Source: Howard et al. 2019 (arXiv:1905.02244), section 5.2.
    """
    with np.errstate(invalid="ignore"):
        return x * hard_sigmoid(x)


def softmax(x: Array) -> Array:
    """Probabilities along the last axis: exp(x) / sum(exp(x)), shifted by the maximum so that nothing overflows.

    Args:
        x: (..., classes) logits.

    Returns:
        Shape and dtype of x; each row sums to 1. A row that holds NaN or +inf is all NaN.
    """
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def tanh(x: Array) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return np.asarray(np.tanh(x))


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where it is positive, else alpha * (exp(x) - 1).

    Source: Clevert et al. 2016 (arXiv:1511.07289), eq. 15.
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, constant(0, x))))


def selu(x: Array) -> Array:
    """SELU_SCALE * elu(x, SELU_ALPHA).

    Source: Klambauer et al. 2017 (arXiv:1706.02515), eq. 2.
    """
    return SELU_SCALE * elu(x, SELU_ALPHA)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), a smooth max(x, 0).

    Source: Dugas et al. 2001, eq. 3.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp(constant(0, x), x))


def mish(x: Array) -> Array:
    """x * tanh(softplus(x)); NaN for -inf, which is multiplied by 0.

    Source: Misra 2019 (arXiv:1908.08681), eq. 1.
    """
    with np.errstate(invalid="ignore"):
        return x * tanh(softplus(x))


def silu(x: Array) -> Array:
    """x * sigmoid(x), also called swish; NaN for -inf, which is multiplied by 0.

    Source: Ramachandran et al. 2017 (arXiv:1710.05941), with beta 1.
    """
    with np.errstate(invalid="ignore"):
        return x * sigmoid(x)


def gelu(x: Array) -> Array:
    """x * Phi(x) by the error function, not by its approximation with tanh; NaN for -inf, which is multiplied by 0.

    Source: Hendrycks & Gimpel 2016 (arXiv:1606.08415), section 2.
    """
    with np.errstate(invalid="ignore"):
        return x * normal_cdf(x)


def gelu_tanh(x: Array) -> Array:
    """x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))) / 2: gelu by its approximation; NaN for -inf.

    Source: Hendrycks & Gimpel 2016 (arXiv:1606.08415), section 2; Keras's `gelu(approximate=True)`.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return x * ((1 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x**3))) / 2)


def normal_cdf(x: Array) -> Array:
    """Phi(x) = (1 + erf(x / sqrt(2))) / 2; NumPy has no erf, so it is computed value by value in float64."""
    values = (erfc(-float(value) / SQRT_2) / 2 for value in x.ravel())
    return np.fromiter(values, np.float64, x.size).reshape(x.shape).astype(x.dtype)


def leaky_relu(x: Array, slope: float | Array) -> Array:
    """x where it is not negative, else slope * x.

    Args:
        x: any shape.
        slope: a number, or an array that broadcasts to x: PReLU's learned slopes.

    Source: Maas et al. 2013, section 2; He et al. 2015 (arXiv:1502.01852), eq. 1, for learned slopes.
    """
    return np.where(x < 0, x * (slope if isinstance(slope, np.ndarray) else constant(slope, x)), x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": relu,
    "relu6": relu6,
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "softmax": softmax,
    "tanh": tanh,
    "elu": elu,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "selu": selu,
    "softplus": softplus,
    "mish": mish,
}
"""Activation functions by the names that layers use."""

FLOPS_PER_VALUE = {
    "linear": 0,
    "relu": 1,  # max
    "relu6": 2,  # max, min
    "sigmoid": 4,  # negate, exp, add, divide
    "hard_sigmoid": 4,  # add, max, min, divide
    "hard_swish": 5,  # those, and multiply
    "softmax": 5,  # maximum, subtract, exp, sum, divide
    "tanh": 5,  # exp, its inverse, subtract, add, divide
    "elu": 3,  # compare, exp, subtract
    "silu": 5,  # sigmoid, and multiply
    "gelu": 5,  # divide, erf, add, halve, multiply
    "gelu_tanh": 13,  # two products and a factor for x**3, add, factor, tanh, add, halve, multiply
    "selu": 5,  # elu, and two factors
    "softplus": 3,  # exp, add, log
    "mish": 9,  # softplus, tanh, multiply
}
"""Floating-point operations per value; a comparison, an exponential and a division count as one each."""
