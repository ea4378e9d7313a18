"""Multiply-adds and the nearest separable kernel as exercises, and the five first exercises together.

In CPython and in MicroPython alike.
"""

from npmobilenet.exercises.convolution_exercises import CONVOLUTION, DEPTHWISE, POINTWISE
from npmobilenet.exercises.exercise import Case, Draw, Exercise
from npmobilenet.exercises.judgment import judge, raised
from npmobilenet.exercises.nested import filled, number, shape_of
from npmobilenet.exercises.plainly import best_separable, count_macs, dot, length, rank_one, unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLOAT32 = 2.0**-24  # unit roundoff


# count_macs

KINDS = ("convolution", "depthwise", "pointwise")


def _each(H: int, W: int, C: int, table: list) -> list:
    """(H_in, W_in, H_out, W_out, c_in, c_out, kind, K, stride) of every row of a table."""
    rows = []
    for kind, c_out, K, stride in table:
        H_out, W_out = -(-H // stride), -(-W // stride)
        rows.append((H, W, H_out, W_out, C, c_out, kind, K, stride))
        H, W, C = H_out, W_out, c_out
    return rows


def _products(c_in: int, c_out: int, kind: str, K: int) -> int:
    """Products for one output pixel, all channels together."""
    return {"convolution": K * K * c_in * c_out, "depthwise": K * K * c_in, "pointwise": c_in * c_out}[kind]


def _without_padding(H: int, W: int, C: int, table: list) -> list:
    """Sizes as without padding."""
    counts = []
    for kind, c_out, K, stride in table:
        H, W = (H - K) // stride + 1, (W - K) // stride + 1
        counts.append(H * W * _products(C, c_out, kind, K))
        C = c_out
    return counts


def _inside(size: int, outputs: int, K: int, stride: int) -> int:
    """Taps of all windows along one axis that meet a pixel, not padding."""
    before = max((outputs - 1) * stride + K - size, 0) // 2
    return sum(0 <= i * stride + u - before < size for i in range(outputs) for u in range(K))


def _without_zeros(H: int, W: int, C: int, table: list) -> list:
    """Products with the zeros of the padding left out."""
    return [
        _products(c_in, c_out, kind, 1) * _inside(rows, H_out, K, stride) * _inside(cols, W_out, K, stride)
        for rows, cols, H_out, W_out, c_in, c_out, kind, K, stride in _each(H, W, C, table)
    ]


def _counted(pixels: "Any", products: "Any") -> "Any":
    """A count that has pixels(row) times products(row)."""
    return lambda H, W, C, table: [pixels(*row) * products(*row) for row in _each(H, W, C, table)]


def _out(H: int, W: int, H_out: int, W_out: int, *_: "Any") -> int:
    return H_out * W_out


def _macs_cases(draw: Draw) -> list:
    def row(kind: str, C: int, stride: int) -> list:
        c_out = C if kind == "depthwise" else draw.between(2, 32)
        return [kind, c_out, 1 if kind == "pointwise" else 2 * draw.between(1, 2) + 1, stride]

    cases = []
    for kinds in ("c", "d", "p", "cdp", "cdpdp", "cdpdpdp"):
        H, W, C = draw.between(5, 9) * 4, draw.between(5, 9) * 4 + 1 + draw.below(3), 2 * draw.between(1, 8) + 1
        says, table, channels = f"x {H} x {W} x {C}, a table of {len(kinds)}", [], C
        for letter in kinds:
            kind = KINDS["cdp".index(letter)]
            table.append(row(kind, channels, 1 if kind == "pointwise" else draw.between(1, 2)))
            channels = table[-1][1]
        table[0][3] = 1 if kinds == "p" else 2
        cases.append(Case(says, [H, W, C, table]))
    return cases


def _macs_how(args: list, index: tuple, theirs: "Any") -> list:
    H, W, C, table = args
    _, _, H_out, W_out, c_in, c_out, kind, K, stride = _each(H, W, C, table)[index[1]]
    taps = {
        "convolution": f"{K} x {K} taps x {c_in} input channels x {c_out} output channels",
        "depthwise": f"{K} x {K} taps x {c_in} channels",
        "pointwise": f"{c_in} input channels x {c_out} output channels",
    }[kind]
    return [f"row {index[1]} is {kind}, K {K}, stride {stride}: {H_out} x {W_out} output pixels x {taps}"]


def _restrided(H: int, W: int, C: int, table: list) -> list:
    return count_macs(H, W, C, [[kind, c_out, K, 1] for kind, c_out, K, _ in table])


COUNT_MACS = Exercise(
    "count_macs", 2, ("H", "W", "C", "table"), ("macs",), "one count for every row of the table",
    count_macs, _macs_cases,
    [
        ("stride-forgotten", "the stride is forgotten: the maps never become smaller", _restrided),
        ("input-pixels", "the pixels of the input are counted; there is one sum for every pixel of the output",
         _counted(lambda H, W, *_: H * W, lambda *r: _products(r[4], r[5], r[6], r[7]))),
        ("no-padding", "the padding is left out of the sizes; with SAME, H_out = ceil(H / stride)", _without_padding),
        ("no-padding", "products with the zeros of the padding are left out; by convention they count", _without_zeros),
        ("flops", "FLOPs, twice the multiply-adds: a multiply-add counts once",
         lambda H, W, C, table: scaled_by_two(count_macs(H, W, C, table))),
        ("batch-norm", "batch normalization is counted as well, one multiply-add for every output value",
         _counted(_out, lambda *r: _products(r[4], r[5], r[6], r[7]) + r[5])),
        ("weights", "weights, not multiply-adds: each weight is used once for every output pixel",
         _counted(lambda *_: 1, lambda *r: _products(r[4], r[5], r[6], r[7]))),
        ("depthwise-mixed", "the depthwise rows are counted as standard ones: K*K*C*C; no channel meets another",
         _counted(_out, lambda *r: _products(r[4], r[5], "convolution" if r[6] == "depthwise" else r[6], r[7]))),
        ("one-side", "the kernel is counted as K products, not K*K",
         _counted(_out, lambda *r: _products(r[4], r[5], r[6], r[7]) // (r[7] if r[6] != "pointwise" else 1))),
        ("channels-not-followed", "c_in of every row is that of the image; it is c_out of the row before",
         lambda H, W, C, table: [r[2] * r[3] * _products(C, C if r[6] == "depthwise" else r[5], r[6], r[7])
                                 for r in _each(H, W, C, table)]),
        ("stride-floor", "the size is H // stride; SAME rounds up", lambda H, W, C, table: floored(H, W, C, table)),
    ],
    _macs_how,
)  # fmt: skip


def scaled_by_two(counts: list) -> list:
    return [2 * count for count in counts]


def floored(H: int, W: int, C: int, table: list) -> list:
    """Counts with sizes that are rounded down."""
    counts = []
    for kind, c_out, K, stride in table:
        H, W = H // stride, W // stride
        counts.append(H * W * _products(C, c_out, kind, K))
        C = c_out
    return counts


# best_separable


def _orthogonal(a: list) -> list:
    """A vector of whole numbers at right angles to another, and not longer."""
    return [-a[k + 1] if k % 2 == 0 else a[k - 1] for k in range(len(a) - len(a) % 2)] + [0] * (len(a) % 2)


def _separable_cases(draw: Draw) -> list:
    """Kernels that are three times one product and once another at right angles: the nearest product is known."""
    cases = []
    for K, C, N, second in (
        (3, 1, 2, 0),
        (3, 2, 3, 0),
        (1, 2, 3, 0),
        (3, 1, 2, 1),
        (3, 2, 2, 1),
        (3, 3, 4, 1),
        (5, 2, 3, 1),
    ):
        k, size = filled((K, K, C, N), lambda *_: 0), 0.0
        for c in range(C):
            column, row = draw.numbers(K * K), draw.numbers(N)
            column[0], row[0] = 1 + draw.below(4), 1 + draw.below(4)
            for p in range(K * K):
                for d in range(N):
                    other = second * _orthogonal(column)[p] * _orthogonal(row)[d]
                    k[p // K][p % K][c][d] = 3 * column[p] * row[d] + other
            size = max(size, 4 * length(column) * length(row))
        says = f"k {K} x {K} x {C} x {N}, {'not ' if second else ''}a product itself"
        cases.append(Case(says, [k], 2 * 6 * K * K * N * FLOAT32 * size))
    return cases


def _product(answer: "Any", args: list) -> list:
    """f[u][v][c] * m[c][d], which does not depend on how a factor is shared between f and m."""
    K, _, C, N = shape_of(args[0]) or ()
    if not isinstance(answer, list) or len(answer) != 2:
        raise ValueError(f"expected two results, f and m, got {number(answer)}")
    f, m = answer
    if shape_of(f) != (K, K, C) or shape_of(m) != (C, N):
        raise ValueError(
            f"expected f of shape {(K, K, C)} and m of shape {(C, N)}, got {shape_of(f)} and {shape_of(m)}"
        )
    return [filled((K, K, C, N), lambda u, v, c, d: f[u][v][c] * m[c][d])]


def _by_channel(change: "Any") -> "Any":
    """A mistake in the two factors of each channel: change(column, size, row, taps) -> (column, row)."""

    def mistake(k: list) -> tuple:
        K, _, C, _ = shape_of(k) or ()
        f, m = filled((K, K, C), lambda *_: 0.0), []
        for c in range(C):
            taps = [k[u][v][c] for u in range(K) for v in range(K)]
            column, row = change(*rank_one(taps), taps)
            for p in range(K * K):
                f[p // K][p % K][c] = column[p]
            m.append(row)
        return f, m

    return mistake


def _second(column: list, size: float, row: list, taps: list) -> tuple:
    """The second pair of singular vectors with its value; the first if there is one only."""
    if min(len(column), len(row)) == 1:
        return column, scaled_list(row, size)
    rest = [[taps[p][d] - size * column[p] * row[d] for d in range(len(row))] for p in range(len(taps))]
    if length([value for line in rest for value in line]) < size * FLOAT32:
        return scaled_list(column, 0), row
    column, size, row = rank_one(rest)
    return column, scaled_list(row, size)


def _last(column: list, size: float, row: list, taps: list) -> tuple:
    """The last pair: where there are more than two, its value is 0."""
    if min(len(column), len(row)) > 2:
        return scaled_list(column, 0), row
    return _second(column, size, row, taps)


def scaled_list(values: list, factor: float) -> list:
    return [value * factor for value in values]


def _spatial(column: list, size: float, row: list, taps: list) -> tuple:
    """The filter as a column times a row of the plane."""
    K = round(len(column) ** 0.5)
    down, factor, along = rank_one([column[u * K : u * K + K] for u in range(K)])
    return [factor * down[u] * along[v] for u in range(K) for v in range(K)], scaled_list(row, size)


def _means(column: list, size: float, row: list, taps: list) -> tuple:
    """The mean over the outputs as filter, the sum of the taps as weights."""
    N = len(row)
    return [sum(line) / N for line in taps], [sum(line[d] for line in taps) for d in range(N)]


def _one_filter(k: list) -> tuple:
    """The first channel's filter for all, and the best weights for it."""
    K, _, C, N = shape_of(k) or ()
    f, _ = best_separable(k)
    first = unit([f[u][v][0] for u in range(K) for v in range(K)])
    m = [[dot(first, [k[u][v][c][d] for u in range(K) for v in range(K)]) for d in range(N)] for c in range(C)]
    return filled((K, K, C), lambda u, v, c: first[u * K + v]), m


def _filter_of_all(k: list) -> tuple:
    """One filter for all channels, from the matrix of all of them."""
    K, _, C, N = shape_of(k) or ()
    column, size, row = rank_one(
        [[k[u][v][c][d] for c in range(C) for d in range(N)] for u in range(K) for v in range(K)]
    )
    return filled((K, K, C), lambda u, v, c: column[u * K + v]), filled((C, N), lambda c, d: size * row[c * N + d])


def _separable_how(args: list, index: tuple, theirs: "Any") -> list:
    k, c = args[0], index[3]
    K, _, _, N = shape_of(k) or ()
    right = _product(list(best_separable(k)), args)[0]
    distances = [
        length([k[u][v][c][d] - near[u][v][c][d] for u in range(K) for v in range(K) for d in range(N)])
        for near in (theirs[0], right)
    ]
    return [f"channel {c}: f*m is {distances[0]:.4f} away from k, the nearest product {distances[1]:.4f}"]


BEST_SEPARABLE = Exercise(
    "best_separable", 3, ("k",), ("(f*m)",), "returns f (K, K, C) and m (C, N)",
    best_separable, _separable_cases,
    [
        ("one-filter", "one filter for all channels, the first one's; each channel has its own", _one_filter),
        ("one-filter", "one filter for all channels, the best for all; each channel has its own", _filter_of_all),
        ("size-forgotten", "the singular value is left out: two unit vectors",
         _by_channel(lambda column, size, row, taps: (column, row))),
        ("size-twice", "the singular value is in both factors",
         _by_channel(lambda column, size, row, taps: (scaled_list(column, size), scaled_list(row, size)))),
        ("second", "the second singular pair, not the first: singular values are in falling order",
         _by_channel(_second)),
        ("second", "the last singular pair, not the first: singular values are in falling order", _by_channel(_last)),
        ("spatial", "the filter is a column times a row of the plane: separable in space, not in depth",
         _by_channel(_spatial)),
        ("means", "means over outputs and taps are no nearest product", _by_channel(_means)),
    ],
    _separable_how, _product,
)  # fmt: skip

FIRST_FIVE = (CONVOLUTION, DEPTHWISE, POINTWISE, COUNT_MACS, BEST_SEPARABLE)


def judge_source(source: str, name: str, seed: int = 0) -> str:
    """Judge one of the five first exercises in a program, on lists, in words.

    Args:
        source: the program.
        name: the exercise.
        seed: of the cases.
    """
    exercise = next(each for each in FIRST_FIVE if each.name == name)
    space: dict = {}
    lines = source.split("\n")
    try:
        exec(compile(source, "exercises.py", "exec"), space)
    except Exception as error:
        return "\n".join(raised(error, lines))
    if name not in space:
        return f"{name}: there is no function of this name"
    return judge(exercise, space[name], seed, lines).text()
