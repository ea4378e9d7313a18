"""Windows on a map: where they are read, and what stands at the edges."""

from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.figures.shapes_in_perspective import clear
from npmobilenet.figures.style import DARK, GRID, INK, LIGHT, MIDDLE, NORMAL, PALE, PAPER, QUIET, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.reference.convolution import conv2d
from npmobilenet.reference.shapes import output_size, resolve_padding, same_padding
from npmobilenet.types import Array, Padding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def window_data(
    size: int = 5,
    K: int = 3,
    stride: int = 2,
    padding: str = "same",
    seed: int = 0,
) -> dict[str, Any]:
    """A window that slides over a map of one channel, in whole numbers: what it reads at each place, and the sums."""
    rng = np.random.default_rng(seed)
    x, w = rng.integers(0, 4, (size, size)), rng.integers(-1, 3, (K, K))
    chosen: Padding = "same" if padding == "same" else "valid"
    rows, cols = resolve_padding(chosen, (size, size), (K, K), stride)
    padded = np.pad(x, (rows, cols))
    y = conv2d(
        x[None, :, :, None].astype(np.float64), w[:, :, None, None].astype(np.float64), stride=stride, padding=chosen
    )[0, :, :, 0]
    steps = [
        {
            "row": row,
            "col": col,
            "top": row * stride,
            "left": col * stride,
            "products": (padded[row * stride : row * stride + K, col * stride : col * stride + K] * w).ravel().tolist(),
            "sum": int(y[row, col]),
        }
        for row in range(y.shape[0])
        for col in range(y.shape[1])
    ]
    return {
        "size": size,
        "K": K,
        "stride": stride,
        "padding_name": padding,
        "padding": [list(rows), list(cols)],
        "x": x.tolist(),
        "padded": padded.tolist(),
        "w": w.tolist(),
        "y": y.astype(int).tolist(),
        "steps": steps,
        "before": rows[0],
        "after": rows[1],
        "output": int(y.shape[0]),
    }


def draw_window(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    side = data["output"]
    grid = canvas.subplots(side, side + 1, squeeze=False, width_ratios=[*[1] * side, 0.8])
    for step in data["steps"]:
        axes = grid[step["row"], step["col"]]
        clear(axes)
        draw_step(axes, data, step)
        axes.set_title(words("window.step", row=step["row"], col=step["col"], sum=step["sum"]), fontsize=SMALL)
    kernel, result, *spare = grid[:, side]
    for axes, name in ((kernel, "w"), (result, "y")):
        clear(axes)
        cells(axes, np.array(data[name]), color=PALE if name == "w" else LIGHT)
        axes.set_title(words(f"window.{name}"), fontsize=SMALL)
    for axes in spare:
        axes.set_axis_off()


def draw_window_frame(data: dict[str, Any], canvas: "Canvas", words: Words, number: int) -> None:
    """One step of the window as a frame of an animation: what it reads, the kernel, the sum, the result so far."""
    step = data["steps"][number]
    places, kernel, result = canvas.subplots(1, 3, width_ratios=(1.6, 0.8, 0.8))
    clear(places)
    draw_step(places, data, step)
    places.set_title(words("window.step", row=step["row"], col=step["col"], sum=step["sum"]), fontsize=NORMAL)
    done = np.full((data["output"], data["output"]), "", dtype=object)
    for earlier in data["steps"][: number + 1]:
        done[earlier["row"], earlier["col"]] = str(earlier["sum"])
    for axes, name, values, color in ((kernel, "w", np.array(data["w"]), PALE), (result, "y", done, LIGHT)):
        clear(axes)
        cells(axes, values, color=color)
        axes.set_title(words(f"window.{name}"), fontsize=NORMAL)
    pairs = zip(_read(data, step), np.ravel(data["w"]), strict=True)
    products = [f"{x}·{w}" if w >= 0 else f"{x}·({w})" for x, w in pairs]
    rows = [" + ".join(products[row * data["K"] : (row + 1) * data["K"]]) for row in range(data["K"])]
    kernel.text(0, -0.25, " +\n".join(rows) + f"\n= {step['sum']}", va="top", fontsize=SMALL, linespacing=1.5)


def _read(data: dict[str, Any], step: dict[str, Any]) -> list[int]:
    """Values that the window reads, row by row."""
    K, padded = data["K"], np.array(data["padded"])
    values: list[int] = padded[step["top"] : step["top"] + K, step["left"] : step["left"] + K].ravel().tolist()
    return values


def draw_step(axes: "Axes", data: dict[str, Any], step: dict[str, Any]) -> None:
    """The map with its padding, and the window of one step in it."""
    from matplotlib.patches import Rectangle

    padded, (before, _), size = np.array(data["padded"]), data["padding"][0], data["size"]
    inside = np.zeros(padded.shape, bool)
    inside[before : before + size, before : before + size] = True
    cells(axes, padded, inside)
    K, H = data["K"], len(padded)
    corner = (step["left"], H - step["top"] - K)
    axes.add_patch(Rectangle(corner, K, K, facecolor="none", edgecolor=MIDDLE, linewidth=2.5))


def cells(axes: "Axes", values: Array, inside: Array | None = None, color: str = PAPER) -> None:
    """A matrix as squares with numbers; those that are not inside are zeros of the padding: hatched."""
    from matplotlib.patches import Rectangle

    H, W = values.shape
    for (row, col), value in np.ndenumerate(values):
        is_padding = inside is not None and not inside[row, col]
        square = Rectangle((col, H - 1 - row), 1, 1, facecolor=color, edgecolor=QUIET, linewidth=0.6)
        if is_padding:
            square.set(facecolor=PALE, hatch="///", edgecolor=GRID)
        axes.add_patch(square)
        if not is_padding:
            axes.text(col + 0.5, H - 0.5 - row, f"{value}", ha="center", va="center", fontsize=SMALL)
    axes.set(xlim=(-0.15, W + 0.15), ylim=(-0.15, H + 0.15))


def padding_data(size: int = 8, K: int = 3, stride: int = 2) -> dict[str, Any]:
    """One row of pixels: the windows of TensorFlow's SAME, and of PyTorch's padding=K // 2."""
    rules = {"tensorflow": same_padding(size, K, stride), "pytorch": (K // 2, K // 2)}
    worlds: dict[str, dict[str, Any]] = {
        name: {
            "padding": list(padding),
            "starts": [place * stride - padding[0] for place in range(output_size(size, K, stride, padding))],
            "padded": size + sum(padding),
        }
        for name, padding in rules.items()
    }
    sizes = range(1, 41)
    return {
        "size": size,
        "K": K,
        "stride": stride,
        "worlds": worlds,
        "same_windows": worlds["tensorflow"]["starts"] == worlds["pytorch"]["starts"],
        "shift": worlds["tensorflow"]["starts"][0] - worlds["pytorch"]["starts"][0],
        "sizes": len(sizes),
        "sizes_that_differ": sum(same_padding(side, K, stride)[0] != K // 2 for side in sizes),
    }


def draw_padding(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    for axes, (name, world) in zip(canvas.subplots(2, 1), data["worlds"].items(), strict=True):
        clear(axes)
        _row_of_pixels(axes, data, world)
        before, after = world["padding"]
        axes.set_title(words(f"padding.{name}", before=before, after=after, K=data["K"], half=data["K"] // 2))


def _row_of_pixels(axes: "Axes", data: dict[str, Any], world: dict[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    K, size = data["K"], data["size"]
    for pixel in range(-world["padding"][0], size + world["padding"][1]):
        is_padding = not 0 <= pixel < size
        square = Rectangle((pixel, 0), 1, 1, facecolor=PALE if is_padding else PAPER, edgecolor=QUIET)
        if is_padding:
            square.set_hatch("///")
        axes.add_patch(square)
        box = {"facecolor": PALE, "edgecolor": "none", "pad": 1.5} if is_padding else None
        axes.text(
            pixel + 0.5, 0.5, "0" if is_padding else f"x{pixel}", ha="center", va="center", fontsize=NORMAL, bbox=box
        )
    for place, start in enumerate(world["starts"]):
        level = -0.35 - 0.42 * (place % 2)
        color = DARK if place % 2 else MIDDLE
        axes.plot([start + 0.08, start + K - 0.08], [level, level], color=color, linewidth=3, solid_capstyle="butt")
        axes.plot([start + K / 2] * 2, [level, -1.35], color=color, linewidth=1)
        axes.text(start + K / 2, -1.7, f"y{place}", ha="center", va="center", fontsize=NORMAL, color=INK)
    axes.set(xlim=(-1.6, size + 1.6), ylim=(-2.1, 1.2))
