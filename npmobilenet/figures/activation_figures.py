"""Activations, batch normalization and the number formats that hold their values."""

from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.figures.style import DARK, GRID, INK, LIGHT, LOOKS, MIDDLE, QUIET, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.reference.activations import hard_sigmoid, hard_swish, relu, relu6, sigmoid, silu
from npmobilenet.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INT8_STEP = 6 / 255
"""Step of 8 bits over 0..6, the range of ReLU6."""
BFLOAT16_BITS = 8  # of the significand, the hidden one included
DIMENSIONS = (2, 3, 5, 8, 15, 30)  # the V2 paper's figure 1 has 2, 3, 5, 15, 30


def relu6_data(low: float = -2.0, high: float = 9.0, points: int = 221) -> dict[str, Any]:
    """ReLU and ReLU6 over x, and their derivatives; at 0 and at 6 the derivatives are 0, as TensorFlow's gradient."""
    x = np.linspace(low, high, points)
    return {
        "x": x.tolist(),
        "relu": relu(x).tolist(),
        "relu6": relu6(x).tolist(),
        "relu_derivative": (x > 0).astype(float).tolist(),
        "relu6_derivative": ((x > 0) & (x < 6)).astype(float).tolist(),
        "corners": [0.0, 6.0],
        "limit": float(relu6(np.array([np.inf]))[0]),
    }


def draw_relu6(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    values, slopes = canvas.subplots(1, 2)
    x = np.array(data["x"])
    for name, look, width in (("relu", LOOKS[1], 3.2), ("relu6", LOOKS[0], 1.8)):
        label = {"relu": "ReLU", "relu6": "ReLU6"}[name]
        values.plot(x, data[name], color=look.color, linestyle=look.line, linewidth=width, label=label)
        slope = np.array(data[f"{name}_derivative"])
        jumps = np.flatnonzero(np.diff(slope))
        split = np.insert(slope, jumps + 1, np.nan), np.insert(x, jumps + 1, np.nan)
        slopes.plot(split[1], split[0], color=look.color, linestyle=look.line, linewidth=width, label=label)
    for corner in data["corners"]:
        slopes.plot(corner, 1, "o", color=DARK, markerfacecolor="white", markersize=7)
        slopes.plot(corner, 0, "o", color=DARK, markersize=7)
    values.set(title=words("relu6.value"), xlabel="x", ylabel="y")
    slopes.set(title=words("relu6.derivative"), xlabel="x", ylabel="dy/dx", ylim=(-0.1, 1.35), yticks=[0, 1])
    for axes in (values, slopes):
        axes.grid()
        axes.legend(loc="upper left")
        axes.set_xticks([-2, 0, 2, 4, 6, 8])


def float16_data() -> dict[str, Any]:
    """Distance from a number to the next larger one in float16, bfloat16 and in 8 bits over 0..6."""
    x = np.exp2(np.arange(-16, 16, 0.25)).astype(np.float16).astype(np.float64)
    marks = (5.0, 100.0, 1000.0)
    return {
        "x": x.tolist(),
        "float16": spacing_float16(x).tolist(),
        "bfloat16": spacing_bfloat16(x).tolist(),
        "int8": INT8_STEP,
        "int8_range": [0.0, 6.0],
        "largest_float16": float(np.finfo(np.float16).max),
        "marks": [{"x": mark, "spacing": float(spacing_float16(np.array([mark]))[0])} for mark in marks],
        "at_6": float(spacing_float16(np.array([5.0]))[0]),
        "at_100": float(spacing_float16(np.array([100.0]))[0]),
        "at_1000": float(spacing_float16(np.array([1000.0]))[0]),
        "finer_than_int8": INT8_STEP / float(spacing_float16(np.array([5.0]))[0]),
    }


def draw_float16(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    for name, look in (("bfloat16", LOOKS[1]), ("float16", LOOKS[0])):
        axes.step(data["x"], data[name], where="post", color=look.color, linestyle=look.line, label=name)
    low = min(data["x"])
    axes.plot([low, data["int8_range"][1]], [data["int8"]] * 2, color=LIGHT, linewidth=3, label=words("float16.int8"))
    for mark in data["marks"]:
        axes.plot(mark["x"], mark["spacing"], "o", color=INK, zorder=4)
        text = words("float16.mark", x=mark["x"], spacing=mark["spacing"])
        axes.annotate(text, (mark["x"], mark["spacing"]), (8, -14), textcoords="offset points", fontsize=SMALL)
    axes.axvline(6, color=QUIET, linewidth=1, linestyle=":")
    axes.text(6.6, 3e-7, "6", fontsize=SMALL, va="center")
    axes.set(xscale="log", yscale="log", xlabel="x", ylabel=words("float16.y"), xlim=(low, 4e5), ylim=(1e-8, 3e3))
    axes.grid()
    axes.legend(loc="upper left")


def spacing_float16(x: Array) -> Array:
    """Distance from |x| to the next larger float16."""
    return np.spacing(np.abs(x).astype(np.float16)).astype(np.float64)


def spacing_bfloat16(x: Array) -> Array:
    """Distance from |x| to the next larger bfloat16: eight significant bits, float32's exponents."""
    _, exponent = np.frexp(np.abs(x))  # |x| = m * 2**exponent, 0.5 <= m < 1
    return np.asarray(np.ldexp(1.0, exponent - BFLOAT16_BITS))


def swish_data(limit: float = 6.0, points: int = 1201) -> dict[str, Any]:
    """Swish and hard swish, sigmoid and hard sigmoid, and where they differ most."""
    x = np.linspace(-limit, limit, points)
    curves = {"swish": silu(x), "hard_swish": hard_swish(x), "sigmoid": sigmoid(x), "hard_sigmoid": hard_sigmoid(x)}
    swish_gap = np.abs(curves["hard_swish"] - curves["swish"])
    sigmoid_gap = np.abs(curves["hard_sigmoid"] - curves["sigmoid"])
    return {
        "x": x.tolist(),
        **{name: values.tolist() for name, values in curves.items()},
        "swish_distance": float(swish_gap.max()),
        "swish_distance_at": float(np.abs(x[swish_gap.argmax()])),
        "sigmoid_distance": float(sigmoid_gap.max()),
        "sigmoid_distance_at": float(np.abs(x[sigmoid_gap.argmax()])),
    }


def draw_swish(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    panels = (("swish", "hard_swish", "swish_distance"), ("sigmoid", "hard_sigmoid", "sigmoid_distance"))
    for axes, (smooth, hard, gap) in zip(canvas.subplots(1, 2), panels, strict=True):
        for name, look in ((smooth, LOOKS[1]), (hard, LOOKS[0])):
            axes.plot(data["x"], data[name], color=look.color, linestyle=look.line, label=words(f"swish.{name}"))
        distance = np.abs(np.subtract(data[hard], data[smooth]))
        axes.fill_between(data["x"], distance, color=LIGHT, alpha=0.7, label=words("swish.distance"))
        for side in (-1, 1):
            place = side * data[f"{gap}_at"]
            axes.plot(place, data[gap], "v", color=INK, markersize=6)
        axes.set(title=words(f"swish.{smooth}_title", distance=data[gap], at=data[f"{gap}_at"]), xlabel="x")
        axes.grid()
        axes.legend(loc="upper left")


def spirals_data(seed: int = 0, points: int = 400, draws: int = 200) -> dict[str, Any]:
    """A spiral in the plane through a random n x 2 matrix, ReLU, and back, for n of `DIMENSIONS`.

    Three ways back: the paper's, the pseudo-inverse of the matrix; the best affine map, by least squares on the spiral
    itself; and the exact one, which solves the rows that are not cut off: possible where two or more are left.

    Args:
        seed: of the matrix that is drawn; the `draws` matrices that are counted have the seeds from it on.
        points: of the spiral.
        draws: number of matrices.

    Returns:
        {"spiral": [[x, y], ...], "panels": [{"n", "active", "linear", "affine", "exact", ...}, ...]}: per point its
        number of active rows and where the three ways lead, for the first matrix; over all matrices the mean "share" of
        points with two or more active rows, which are recoverable, and the median relative errors. "expected_share" is
        1 - (n + 1) / 2**n.
    """
    spiral = archimedean_spiral(points)  # (points, 2)
    return {"spiral": spiral.tolist(), "draws": draws, "panels": [_panel(spiral, n, seed, draws) for n in DIMENSIONS]}


def archimedean_spiral(points: int, turns: float = 2.0) -> Array:
    """(points, 2): a spiral around the origin with radius up to 1; no point is the origin itself."""
    t = np.linspace(0, 1, points + 1)[1:]
    angle = 2 * np.pi * turns * t
    return np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1)


def _panel(spiral: Array, n: int, seed: int, draws: int) -> dict[str, Any]:
    rounds = [_there_and_back(spiral, n, np.random.default_rng([seed + draw, n])) for draw in range(draws)]
    first = rounds[0]
    ways = ("linear", "affine", "exact")
    return {
        "n": n,
        "matrix": first["matrix"].tolist(),
        "active": first["active"].tolist(),
        **{way: first[way].tolist() for way in ways},
        "share": float(np.mean([each["active"] >= 2 for each in rounds])),
        "expected_share": 1 - (n + 1) / 2**n,
        **{f"{way}_error": float(np.median([_error(each[way], spiral) for each in rounds])) for way in ways},
    }


def _there_and_back(x: Array, n: int, rng: np.random.Generator) -> dict[str, Array]:
    """x (P, 2) through a random (n, 2) matrix and ReLU, and back in three ways, each (P, 2)."""
    matrix = rng.standard_normal((n, 2))
    y = relu(x @ matrix.T)  # (P, n)
    terms = np.hstack([y, np.ones((len(x), 1))])  # (P, n + 1)
    gram, moments = np.einsum("pi,pj->ij", terms, terms), np.einsum("pi,pj->ij", terms, x)
    fit = np.linalg.lstsq(gram, moments, rcond=None)[0]  # a small system: BLAS takes no threads for it
    patterns, which = np.unique(y > 0, axis=0, return_inverse=True)  # few: each row is cut off on a half plane
    inverses = np.linalg.pinv(matrix * patterns[..., None])  # (patterns, 2, n)
    exact = (inverses[which.ravel()] @ y[..., None])[..., 0]
    return {
        "matrix": matrix,
        "active": (y > 0).sum(axis=1),
        "linear": y @ np.linalg.pinv(matrix).T,
        "affine": terms @ fit,
        "exact": exact,
    }


def _error(x: Array, exact: Array) -> float:
    return float(np.linalg.norm(x - exact) / np.linalg.norm(exact))


def draw_spirals(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    rows = canvas.add_gridspec(2, 1, height_ratios=(0.06, 1))
    grid = np.asarray(rows[1].subgridspec(3, len(data["panels"])).subplots())
    spiral = np.array(data["spiral"])
    for column, panel in zip(grid.T, data["panels"], strict=True):
        active = np.minimum(panel["active"], 2)
        for axes, way in zip(column, ("linear", "affine", "exact"), strict=True):
            axes.plot(*spiral.T, color=GRID, linewidth=1)
            _scatter(axes, np.array(panel[way]), active)
            axes.set(xticks=[], yticks=[], xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
            axes.spines[["top", "right"]].set_visible(True)
            axes.set_xlabel(words("spirals.error", error=panel[f"{way}_error"]), fontsize=SMALL)
        column[0].set_title(words("spirals.n", n=panel["n"], share=100 * panel["share"]), fontsize=SMALL)
    for axes, way in zip(grid[:, 0], ("linear", "affine", "exact"), strict=True):
        axes.set_ylabel(words(f"spirals.{way}"))
    legend = canvas.add_subplot(rows[0])
    legend.set_axis_off()
    handles = [grid[0, 0].plot([], [], **ACTIVE_LOOKS[rows], linestyle="none", label=words(f"spirals.active_{rows}"))[0]
               for rows in (2, 1, 0)]  # fmt: skip
    legend.legend(handles=handles, loc="center", ncols=3)


ACTIVE_LOOKS: dict[int, dict[str, Any]] = {
    2: {"marker": "o", "color": DARK, "markersize": 2.5},
    1: {"marker": "s", "color": MIDDLE, "markersize": 2.5},
    0: {"marker": "x", "color": INK, "markersize": 4},
}


def _scatter(axes: "Axes", points: Array, active: Array) -> None:
    for rows, look in ACTIVE_LOOKS.items():
        chosen = points[active == rows]
        axes.plot(*chosen.T, linestyle="none", **look)
