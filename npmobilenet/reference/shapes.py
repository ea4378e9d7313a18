"""The integers of a convolution: padding, output size, channel counts.

Everything here works on plain integers, so that it can be tested to the last case and is written once:
the arithmetic of SAME padding is where most ports of MobileNet go wrong first.
"""

from collections.abc import Sequence

from npmobilenet.errors import ShapeError
from npmobilenet.types import Padding, Pair

"""`"same"`, `"valid"`, or rows of zeros at ((top, bottom), (left, right))."""


def same_padding(size: int, K: int, stride: int) -> Pair:
    """Zeros before and after one axis so that the window gives ceil(size / stride) outputs.

        total = max((ceil(size / stride) - 1) * stride + K - size, 0)
        before = total // 2,  after = total - before

    The odd zero goes to the end. With stride 2 the split depends on whether `size` is even, which is why
    PyTorch's symmetric `padding=1` is not the same thing: at size 224, K 3, stride 2 this gives (0, 1).

    Args:
        size: length of the axis, in pixels.
        K: length of the window, in pixels.
        stride: step of the window, in pixels.

    Source: TensorFlow's SAME, which Keras uses.
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + K - size, 0)
    return total // 2, total - total // 2


def resolve_padding(padding: Padding, size: Sequence[int], kernel: Sequence[int], stride: int) -> tuple[Pair, Pair]:
    """Turn any way of stating a padding into zeros at ((top, bottom), (left, right)).

    Args:
        padding: "same", "valid", or the pairs themselves.
        size: (H, W) of the input, in pixels.
        kernel: (K_h, K_w) of the window, in pixels.
        stride: step of the window, in pixels.

    Raises:
        ShapeError: `padding` is none of the three.
    """
    if padding == "same":
        return same_padding(size[0], kernel[0], stride), same_padding(size[1], kernel[1], stride)
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str):
        raise ShapeError(f'padding is "same", "valid" or ((top, bottom), (left, right)); got {padding!r}')
    (top, bottom), (left, right) = padding
    if min(top, bottom, left, right) < 0:
        raise ShapeError(f"padding counts zeros and cannot be negative; got {padding}")
    return (top, bottom), (left, right)


def output_size(size: int, K: int, stride: int, padding: Pair) -> int:
    """Number of places of a window of K pixels along one padded axis.

        (before + size + after - K) // stride + 1, and 0 where the window does not fit

    Source: Dumoulin & Visin 2016 (arXiv:1603.07285), relationship 6.
    """
    return max((padding[0] + size + padding[1] - K) // stride + 1, 0)


def dilated(kernel: Sequence[int], dilation: int) -> Pair:
    """Rows and columns that a dilated kernel covers: taps `dilation` pixels apart, (K - 1) * dilation + 1.

    The padding and the output size of a dilated convolution are those of a window of this size.

    Source: Dumoulin & Visin 2016 (arXiv:1603.07285), section 5.1; TensorFlow's effective filter size.
    """
    rows, cols = ((K - 1) * dilation + 1 for K in kernel)
    return rows, cols


def window_output(size: Sequence[int], kernel: Sequence[int], stride: int, padding: Padding) -> Pair:
    """(H_out, W_out) of a window of `kernel` pixels that slides over `size` pixels.

    Args:
        size: (H, W) of the input.
        kernel: (K_h, K_w) of the window.
        stride: step of the window, the same on both axes.
        padding: see `resolve_padding`.

    Raises:
        ShapeError: the window does not fit even once.
    """
    rows, cols = resolve_padding(padding, size, kernel, stride)
    out = output_size(size[0], kernel[0], stride, rows), output_size(size[1], kernel[1], stride, cols)
    if min(out) < 1:
        raise ShapeError(
            f"a window of {tuple(kernel)} does not fit into {tuple(size)} with padding {padding!r}: "
            f"the output would be {out}; use a larger input"
        )
    return out


def downsampling_padding(size: Sequence[int], K: int) -> tuple[Pair, Pair]:
    """The explicit zeros that Keras puts before the stride-2 layers of MobileNetV2 and V3.

        before = K // 2 - (1 - size % 2),  after = K // 2

    Followed by a VALID window of stride 2 this equals SAME.

    Args:
        size: (H, W) of the input, in pixels.
        K: side of the square window, in pixels.

    Source: keras.applications, `imagenet_utils.correct_pad`.
    """
    top, left = (K // 2 - (1 - side % 2) for side in size)
    return (top, K // 2), (left, K // 2)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of `divisor`, never down by more than a tenth.

    Source: TF-Slim's `mobilenet.py`, as used by Keras for V2 and V3. (V1 cuts with `int` instead.)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
