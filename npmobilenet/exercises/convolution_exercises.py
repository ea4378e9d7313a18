"""Standard, depthwise and pointwise convolution as exercises: cases, mistakes, and how one value is made.

In CPython and in MicroPython alike. Cases are whole numbers, and quarters, of which sums and products are exact.
"""

from npmobilenet.exercises.exercise import Case, Draw, Exercise
from npmobilenet.exercises.nested import filled, number, shape_of
from npmobilenet.exercises.plainly import (
    convolution,
    depthwise_conv,
    paddings,
    pointwise_conv,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHANNELS_SHOWN = 3


# Windows that go wrong: (x, w, stride) -> (x, w, stride, padding)


def turned(w: list) -> list:
    """The kernel turned by 180 degrees."""
    return [row[::-1] for row in w[::-1]]


def swapped(w: list) -> list:
    """w[v][u] for w[u][v]."""
    K = len(w)
    return [[w[v][u] for v in range(K)] for u in range(K)]


def scaled(w: "Any", factor: float) -> "Any":
    """Every value times a factor."""
    return [scaled(item, factor) for item in w] if isinstance(w, list) else w * factor


def kept(w: list, keep: "Callable[[int, int], bool]") -> list:
    """The kernel with zeros where keep(u, v) is false."""
    return [[w[u][v] if keep(u, v) else scaled(w[u][v], 0) for v in range(len(w))] for u in range(len(w))]


def moved(x: list, K: int, stride: int, by: int) -> tuple:
    """SAME with the window that number of pixels later."""
    (top, bottom), (left, right) = paddings(x, K, stride)
    return (top - by, bottom + by), (left - by, right + by)


def wrapped(x: list, w: list, stride: int) -> tuple:
    """x[-1] for the pixel before the first, which is the last one in Python."""
    (top, bottom), (left, right) = paddings(x, len(w), stride)
    rows = [x[(r - top) % len(x)] for r in range(top)] + x
    return (
        [[row[(s - left) % len(row)] for s in range(left)] + row for row in rows],
        w,
        stride,
        ((0, bottom), (0, right)),
    )


def repeated(x: list, w: list, stride: int) -> tuple:
    """The pixels of the edge in place of zeros."""
    (top, bottom), (left, right) = paddings(x, len(w), stride)
    H, W = len(x), len(x[0])
    y = [
        [x[min(max(r, 0), H - 1)][min(max(s, 0), W - 1)] for s in range(-left, W + right)]
        for r in range(-top, H + bottom)
    ]
    return y, w, stride, ((0, 0), (0, 0))


def both_sides(x: list, w: list, stride: int) -> tuple:
    """K // 2 zeros on both sides."""
    half = len(w) // 2
    return x, w, stride, ((half, half), (half, half))


def late_phase(x: list, w: list, stride: int) -> tuple:
    """Every pixel of the result with stride 1 from number stride - 1 on."""
    half = len(w) // 2
    return x, w, stride, ((half - stride + 1, half), (half - stride + 1, half))


WINDOWS = [
    ("flipped", "the kernel is turned by 180 degrees, a true convolution; networks compute cross-correlation",
     lambda x, w, stride: (x, turned(w), stride, None)),
    ("transposed", "rows and columns of the kernel are swapped: w[v][u] in place of w[u][v]",
     lambda x, w, stride: (x, swapped(w), stride, None)),
    ("symmetric-padding", "zeros on both sides, as PyTorch's padding=K//2; TensorFlow puts the odd one at the end",
     both_sides),
    ("no-padding", "no zeros around x: VALID, not SAME", lambda x, w, stride: (x, w, stride, ((0, 0), (0, 0)))),
    ("stride-forgotten", "the window moves by 1, not by stride", lambda x, w, stride: (x, w, 1, None)),
    ("stride-phase", "of the result with stride 1 the pixels stride-1, 2*stride-1, ... are taken", late_phase),
    ("window-late", "the window begins one pixel late: i*stride + u - top + 1",
     lambda x, w, stride: (x, w, stride, moved(x, len(w), stride, 1))),
    ("window-early", "the window begins one pixel early: i*stride + u - top - 1",
     lambda x, w, stride: (x, w, stride, moved(x, len(w), stride, -1))),
    ("negative-index", "x[-1] is the last pixel in Python, not a zero of the padding", wrapped),
    ("edge-repeated", "the pixels of the edge are repeated; SAME pads with zeros", repeated),
    ("range-short", "the last row and column of the kernel are left out: range(K - 1)",
     lambda x, w, stride: (x, kept(w, lambda u, v: u < len(w) - 1 and v < len(w) - 1), stride, None)),
    ("mean", "the sum is divided by K*K", lambda x, w, stride: (x, scaled(w, 1 / len(w) ** 2), stride, None)),
]  # fmt: skip
"""(key, text, change) of the mistakes that standard and depthwise convolution share."""


def window_lines(x: list, w: list, stride: int, index: tuple, channels: "Any", weight: "Callable[..., Any]") -> list:
    """The pixels of a window and their weights, for each channel."""
    i, j = index
    K = len(w)
    (top, _), (left, _) = paddings(x, K, stride)
    lines = []
    for c in list(channels)[:CHANNELS_SHOWN]:
        lines.append(f"the window that makes it, channel {c} (pixel x weight):")
        for u in range(K):
            cells = []
            for v in range(K):
                r, s = i * stride + u - top, j * stride + v - left
                inside = 0 <= r < len(x) and 0 <= s < len(x[0])
                cells.append(f"{number(x[r][s][c]) if inside else 'pad':>5} x {number(weight(u, v, c)):>5}")
            lines.append("  " + "   ".join(cells))
    more = len(channels) - CHANNELS_SHOWN
    return lines + ([f"  and {more} more channels"] if more > 0 else [])


# convolution


def _channels_swapped(x: list, w: list, b: list, stride: int) -> list:
    c_in, c_out = len(w[0][0]), len(b)
    return convolution(x, filled((len(w), len(w), c_in, c_out), lambda u, v, c, d: w[u][v][d][c]), b, stride)


def _only(w: list, keep: "Callable[[int, int], bool]") -> list:
    """The kernel with zeros where keep(c, d) is false."""
    K, _, c_in, c_out = shape_of(w) or ()
    return filled((K, K, c_in, c_out), lambda u, v, c, d: w[u][v][c][d] if keep(c, d) else 0)


def _of_window(change: "Callable[..., tuple]") -> "Callable[..., list]":
    def mistake(x: list, w: list, b: list, stride: int) -> list:
        x, w, stride, padding = change(x, w, stride)
        return convolution(x, w, b, stride, padding)

    return mistake


def _size(x: list) -> str:
    return " x ".join(str(n) for n in shape_of(x) or ())


def _convolution_cases(draw: Draw) -> list:
    even, odd = 2 * draw.between(2, 3), 2 * draw.between(2, 3) + 1
    sizes = [  # H, W, c_in, c_out, K, stride, kind of numbers
        (3, 3, 2, 2, 3, 1, "numbers"),
        (even, odd, 2, 2, 3, 2, "numbers"),
        (odd, even, 3, 3, 3, 1, "numbers"),
        (odd, odd, 1, 3, 3, 2, "numbers"),
        (even, even, 3, 2, 5, 2, "numbers"),
        (odd, even, 2, 4, 1, 1, "quarters"),
        (even, even, 2, 2, 3, 2, "impulse"),
        (draw.between(1, 9), draw.between(1, 9), draw.between(1, 3), 2, 3, draw.between(1, 2), "quarters"),
        (odd, odd, 2, 3, 5, 1, "zeros"),
    ]
    cases = []
    for H, W, c_in, c_out, K, stride, kind in sizes:
        x = image(draw, H, W, c_in, kind)
        w, b = draw.numbers(K, K, c_in, c_out), draw.numbers(c_out)
        cases.append(Case(f"x {H} x {W} x {c_in}, w {_size(w)}, stride {stride}, {kind}", [x, w, b, stride]))
    return cases


def image(draw: Draw, H: int, W: int, C: int, kind: str) -> list:
    """A feature map: "numbers", "quarters", "zeros", or "impulse", a single 1 for each channel."""
    if kind in ("numbers", "quarters"):
        return draw.numbers(H, W, C, unit=1 if kind == "numbers" else 0.25)
    x = filled((H, W, C), lambda i, j, c: 0)
    if kind == "impulse":
        for c in range(C):
            x[draw.below(H)][draw.below(W)][c] = 1
    return x


def _convolution_how(args: list, index: tuple, theirs: "Any") -> list:
    x, w, b, stride = args
    _, i, j, d = index
    lines = window_lines(x, w, stride, (i, j), range(len(w[0][0])), lambda u, v, c: w[u][v][c][d])
    return lines + [f"and the bias b[{d}] = {number(b[d])}"]


CONVOLUTION = Exercise(
    "convolution", 3, ("x", "w", "b", "stride"), ("y",),
    "H_out = ceil(H / stride), W_out = ceil(W / stride); returns (H_out, W_out, c_out)",
    convolution, _convolution_cases,
    [(key, text, _of_window(change)) for key, text, change in WINDOWS] + [
        ("channels-swapped", "input and output channels of the kernel are swapped: w[u][v][d][c] for w[u][v][c][d]",
         _channels_swapped),
        ("bias-never", "the bias is left out", lambda x, w, b, stride: convolution(x, w, scaled(b, 0), stride)),
        ("bias-twice", "the bias is added twice", lambda x, w, b, stride: convolution(x, w, scaled(b, 2), stride)),
        ("bias-every-product", "the bias is added with every product, not once",
         lambda x, w, b, stride: convolution(x, w, scaled(b, len(w) ** 2 * len(w[0][0])), stride)),
        ("bias-every-channel", "the bias is added once for every input channel",
         lambda x, w, b, stride: convolution(x, w, scaled(b, len(w[0][0])), stride)),
        ("first-channel-only", "only the first input channel is read; the sum goes over all of them",
         lambda x, w, b, stride: convolution(x, _only(w, lambda c, d: c == 0), b, stride)),
        ("last-channel-only", "only the last input channel is left: y is set, not added to, for each channel",
         lambda x, w, b, stride: convolution(x, _only(w, lambda c, d: c == len(w[0][0]) - 1), b, stride)),
        ("depthwise", "channel d is read from channel d alone: depthwise; a convolution sums over all input channels",
         lambda x, w, b, stride: convolution(x, _only(w, lambda c, d: c == d), b, stride)),
        ("one-output", "every output channel has the filter of the first one",
         lambda x, w, b, stride: convolution(x, [[[[m[0] for _ in m] for m in v] for v in u] for u in w], b, stride)),
    ],
    _convolution_how,
)  # fmt: skip


# depthwise_conv


def _channels_added(x: list, w: list, stride: int) -> list:
    return [[[sum(pixel)] * len(pixel) for pixel in row] for row in depthwise_conv(x, w, stride)]


def _of_depthwise(change: "Callable[..., tuple]") -> "Callable[..., list]":
    return lambda x, w, stride: depthwise_conv(*change(x, w, stride))


def _depthwise_cases(draw: Draw) -> list:
    even, odd = 2 * draw.between(2, 4), 2 * draw.between(2, 3) + 1
    sizes = [  # H, W, C, K, stride, kind of numbers
        (3, 3, 1, 3, 1, "numbers"),
        (even, odd, 2, 3, 2, "numbers"),
        (odd, even, 3, 3, 1, "numbers"),
        (odd, odd, 2, 3, 2, "numbers"),
        (even, even, 2, 5, 2, "numbers"),
        (odd, even, 4, 1, 1, "quarters"),
        (even, even, 2, 3, 2, "impulse"),
        (draw.between(1, 9), draw.between(1, 9), draw.between(1, 5), 3, draw.between(1, 2), "quarters"),
        (odd, odd, 2, 5, 1, "zeros"),
    ]
    cases = []
    for H, W, C, K, stride, kind in sizes:
        x, w = image(draw, H, W, C, kind), draw.numbers(K, K, C)
        cases.append(Case(f"x {H} x {W} x {C}, w {_size(w)}, stride {stride}, {kind}", [x, w, stride]))
    return cases


DEPTHWISE = Exercise(
    "depthwise_conv", 3, ("x", "w", "stride"), ("y",),
    "H_out = ceil(H / stride), W_out = ceil(W / stride); returns (H_out, W_out, C)",
    depthwise_conv, _depthwise_cases,
    [(key, text, _of_depthwise(change)) for key, text, change in WINDOWS] + [
        ("one-filter", "all channels have the filter of the first one; each channel has its own",
         lambda x, w, stride: depthwise_conv(x, [[[v[0]] * len(v) for v in u] for u in w], stride)),
        ("channels-added", "the channels are added up; a depthwise convolution keeps them apart", _channels_added),
        ("channels-added", "the channels are added up to one; a depthwise convolution keeps them apart",
         lambda x, w, stride: [[[p[0]] for p in row] for row in _channels_added(x, w, stride)]),
        ("channels-reversed", "the filters are in reverse order: channel c has the filter of channel C-1-c",
         lambda x, w, stride: depthwise_conv(x, [[v[::-1] for v in u] for u in w], stride)),
        ("last-product-only", "only the last product is left: y is set, not added to",
         lambda x, w, stride: depthwise_conv(x, kept(w, lambda u, v: u == v == len(w) - 1), stride)),
    ],
    lambda args, index, theirs: window_lines(
        args[0], args[1], args[2], index[1:3], [index[3]], lambda u, v, c: args[1][u][v][c]
    ),
)  # fmt: skip


# pointwise_conv


def _pixels_mixed(x: list, w: list) -> list:
    """x.reshape(c_in, H * W) in place of pixels by channels."""
    H, W, C = len(x), len(x[0]), len(x[0][0])
    flat = [value for row in x for pixel in row for value in pixel]
    return pointwise_conv(filled((H, W, C), lambda i, j, c: flat[c * H * W + i * W + j]), w)


def _pointwise_cases(draw: Draw) -> list:
    sizes = [  # H, W, c_in, c_out, kind of numbers
        (2, 2, 2, 2, "numbers"),
        (2, 3, 3, 3, "numbers"),
        (draw.between(3, 5), draw.between(3, 5), 3, 3, "numbers"),
        (3, 2, 4, 2, "numbers"),
        (2, 4, 2, 5, "quarters"),
        (1, 1, draw.between(1, 5), draw.between(2, 5), "numbers"),
        (3, 3, 3, 3, "impulse"),
        (draw.between(1, 9), draw.between(1, 9), draw.between(2, 5), draw.between(1, 5), "quarters"),
        (2, 3, 2, 3, "zeros"),
    ]
    cases = []
    for H, W, c_in, c_out, kind in sizes:
        x, w = image(draw, H, W, c_in, kind), draw.numbers(c_in, c_out)
        cases.append(Case(f"x {H} x {W} x {c_in}, w {_size(w)}, {kind}", [x, w]))
    return cases


def _pointwise_how(args: list, index: tuple, theirs: "Any") -> list:
    x, w = args
    _, i, j, d = index
    products = " + ".join(f"{number(x[i][j][c])} x {number(w[c][d])}" for c in range(len(w)))
    return [f"channels of pixel [{i}][{j}] x weights w[c][{d}]:", f"  {products}"]


POINTWISE = Exercise(
    "pointwise_conv", 2, ("x", "w"), ("y",), "returns (H, W, c_out): every pixel stays where it is",
    pointwise_conv, _pointwise_cases,
    [
        ("transposed", "the weights are transposed: w[d][c] in place of w[c][d]",
         lambda x, w: pointwise_conv(x, filled((len(w), len(w[0])), lambda c, d: w[d][c]))),
        ("one-map", "output channel d is made of input channel d alone; every output is a sum over all input channels",
         lambda x, w: pointwise_conv(x, filled((len(w), len(w[0])), lambda c, d: w[c][d] if c == d % len(w) else 0))),
        ("first-channel-only", "only the first input channel is read; every output is a sum over all of them",
         lambda x, w: pointwise_conv(x, [w[0]] + scaled(w[1:], 0))),
        ("last-channel-only", "only the last input channel is left: y is set, not added to",
         lambda x, w: pointwise_conv(x, scaled(w[:-1], 0) + [w[-1]])),
        ("pixels-mixed", "x is reshaped to (c_in, H*W), which mixes pixels and channels; transpose it, or keep c last",
         _pixels_mixed),
        ("rows-for-columns", "rows and columns of x are swapped", lambda x, w: pointwise_conv(
            filled((len(x[0]), len(x)), lambda i, j: x[j][i]), w)),
        ("mean", "the sum is divided by the number of channels", lambda x, w: pointwise_conv(x, scaled(w, 1 / len(w)))),
        ("weights-added", "the weights of all outputs are added up before they meet x",
         lambda x, w: pointwise_conv(x, [[sum(row)] * len(row) for row in w])),
    ],
    _pointwise_how,
)  # fmt: skip
