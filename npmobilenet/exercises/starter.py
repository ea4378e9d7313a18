"""Fourteen exercises: MobileNet from one sum to a block. Write the functions, in any style, and judge them with

    npmobilenet check exercises.py
    npmobilenet check exercises.py --only depthwise_conv

Arguments are arrays of NumPy; code that needs nested lists works as well. They must not be changed. Answers are arrays
or nested lists. One file; NumPy and SciPy may be imported, npmobilenet may not. Layouts are those of TensorFlow.
"""


def convolution(x, w, b, stride):
    """y[i, j, d] = b[d] + sum over u, v, c of x[i*stride + u - top, j*stride + v - left, c] * w[u, v, c, d].

    x: (H, W, c_in)   w: (K, K, c_in, c_out)   b: (c_out,)   returns (H_out, W_out, c_out), H_out = ceil(H / stride)
    SAME padding: outside x are zeros; of an odd number the extra one is at the end (see same_padding).
    """
    raise NotImplementedError


def depthwise_conv(x, w, stride):
    """y[i, j, c] = sum over u, v of x[i*stride + u - top, j*stride + v - left, c] * w[u, v, c], zeros outside.

    x: (H, W, C)   w: (K, K, C)   SAME padding as TensorFlow: the odd zero at the end   returns (H_out, W_out, C)
    """
    raise NotImplementedError


def pointwise_conv(x, w):
    """y[i, j, d] = sum over c of x[i, j, c] * w[c, d].

    x: (H, W, c_in)   w: (c_in, c_out)   returns (H, W, c_out)
    """
    raise NotImplementedError


def count_macs(H, W, C, table):
    """Multiply-adds of each row of a network: one for every product, those with zeros of the padding included.

    H, W, C: size and channels of the image
    table: rows (kind, c_out, K, stride), one after the other; kind is "convolution", "depthwise" or "pointwise"
    All have SAME padding: the size of the output is ceil(size / stride). c_in of a row is c_out of the row before.
    returns one whole number for each row; biases and batch normalization do not count
    """
    raise NotImplementedError


def best_separable(k):
    """f and m so that the products f[u, v, c] * m[c, d] are nearest to k[u, v, c, d], in the sum of squares.

    k: (K, K, C, N)   returns f (K, K, C) and m (C, N)
    For each channel c, k[:, :, c, :] is a matrix of K*K rows and N columns; which of rank one is nearest to it?
    """
    raise NotImplementedError


def same_padding(size, K, stride):
    """Zeros before and after one axis of `size` pixels, so that a window of K with this stride has ceil(size / stride)
    places. Never fewer than 0; of an odd number the extra one is after.

    returns (before, after)
    """
    raise NotImplementedError


def batch_norm(x, gamma, beta, mean, var, epsilon):
    """y = gamma * (x - mean) / sqrt(var + epsilon) + beta, for each channel.

    x: (H, W, C)   gamma, beta, mean, var: (C,)   returns (H, W, C)
    """
    raise NotImplementedError


def fold_batch_norm(w, b, gamma, beta, mean, var, epsilon):
    """Kernel and bias of the one convolution that does what this one does with a batch normalization after it.

    w: (K, K, c_in, c_out)   b, gamma, beta, mean, var: (c_out,)   returns (w, b) of the same shapes
    """
    raise NotImplementedError


def relu6(x):
    """min(max(x, 0), 6), and its derivative; at 0 and at 6 the derivative is 0, as TensorFlow's.

    x: (n,)   returns (y, slope), both (n,)
    """
    raise NotImplementedError


def inverted_residual(x, w1, bn1, w2, bn2, w3, bn3, stride):
    """V2's block: expand, filter, project, add.

    y = relu6(bn1(pointwise(x, w1)));  y = relu6(bn2(depthwise(y, w2, stride)));  y = bn3(pointwise(y, w3))
    With stride 1 and c_out = c_in, x is added.
    x: (H, W, c_in)   w1: (c_in, e)   w2: (K, K, e)   w3: (e, c_out)
    bn1, bn2, bn3: gamma, beta, mean, var of a batch normalization, (4, C); epsilon is 1e-3
    returns (H_out, W_out, c_out)
    """
    raise NotImplementedError


def width(channels, alpha, network):
    """Channels of the layers of a network with the width multiplier alpha.

    channels: of each layer with alpha 1   network: "v1", "v2" or "v3"   returns one whole number for each layer
    V1 cuts: int(c * alpha). V2 and V3 round c * alpha to the nearest multiple of 8, halves up, 8 at least; if that is
    less than 0.9 * c * alpha, it is 8 more. The last layer of V2 keeps its channels if alpha is below 1.
    """
    raise NotImplementedError


def squeeze_excite(x, w1, b1, w2, b2):
    """V3's gate: s = mean of each channel of x;  g = hard_sigmoid(relu(s @ w1 + b1) @ w2 + b2);  y = x * g.

    hard_sigmoid(a) = relu6(a + 3) / 6
    x: (H, W, C)   w1: (C, c_squeezed)   b1: (c_squeezed,)   w2: (c_squeezed, C)   b2: (C,)   returns (H, W, C)
    """
    raise NotImplementedError


def hard_swish(x):
    """x * relu6(x + 3) / 6.

    x: (n,)   returns (n,)
    """
    raise NotImplementedError


def quantize(x):
    """Every channel of x as int8, affine, and back.

    low, high = smallest and largest value of the channel, with 0;   scale = (high - low) / 255
    zero = round(-128 - low / scale);   q = round(x / scale) + zero, in -128..127;   back = (q - zero) * scale
    x: (N, C)   returns q (N, C), scale (C,), zero (C,), back (N, C)
    """
    raise NotImplementedError


def find_the_mistake(x, layers, values):
    """The one layer that a port has computed wrongly, and why. Later layers differ too, but are right on their inputs.

    x: (H, W, C)   values: what the port has computed for each layer, with rounding   returns (name, cause)
    layers: (name, kind, params), each reads the one before; kinds, params, and what may be wrong:
        depthwise   (w, stride)                       "symmetric padding", "flipped kernel", "transposed kernel",
                                                      "one filter for all channels"
        batch_norm  (gamma, beta, mean, var, epsilon) "epsilon 1e-5", "mean forgotten"
        relu6       ()                                "ReLU for ReLU6"
        pointwise   (w,)                              "transposed weights"
    """
    raise NotImplementedError
