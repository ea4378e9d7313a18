"""Anchors over a drawn scene, and what non-maximum suppression leaves of the boxes made from them.

There is no trained network in it: the heads' outputs are made up, as a network may give them that has learned the two
kinds of objects. Every anchor that overlaps an object enough is moved most of the way to it, and its score is the
overlap. All that follows is computed by `npmobilenet.detection`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.detection.anchors import tensorflow_anchors
from npmobilenet.detection.box_coder import SCALES, decode_tensorflow
from npmobilenet.detection.suppression import areas, best_first, iou, suppress
from npmobilenet.figures.shapes_in_perspective import clear
from npmobilenet.figures.style import DARK, GRID, INK, LIGHT, MIDDLE, PALE, QUIET, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MAPS = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))  # of 300 x 300 pixels
OBJECTS = (  # label, and ymin, xmin, ymax, xmax in parts of the image
    ("ball", (0.50, 0.08, 0.88, 0.46)),
    ("ball", (0.16, 0.26, 0.40, 0.50)),
    ("tree", (0.08, 0.56, 0.92, 0.92)),
)
CELL = (2, 2, 2)  # map, row, column of the anchors that are shown
LEARNED = 0.85  # part of the way from the anchor to the object
NOISE = 0.35  # standard deviation of the codes


def anchors_data(overlap: float = 0.45, iou_threshold: float = 0.5, seed: int = 0) -> dict[str, Any]:
    """Anchors that overlap an object by at least `overlap`, the boxes made from them, and those that remain."""
    rng = np.random.default_rng(seed)
    anchors = tensorflow_anchors(MAPS)  # (A, 4)
    corners = decode_tensorflow(np.zeros_like(anchors), anchors)  # (A, 4)
    found = []
    for label, corner in OBJECTS:
        truth = np.array(corner, np.float32)
        overlaps = overlaps_with(truth, corners)
        for anchor in np.flatnonzero(overlaps >= overlap):
            code = LEARNED * encode(truth, anchors[anchor]) + rng.normal(0, NOISE, 4)
            (box,) = decode_tensorflow(code[None].astype(np.float32), anchors[anchor : anchor + 1])
            found.append({"label": label, "anchor": int(anchor), "score": float(overlaps[anchor]), "box": box})
    order = best_first(np.array([one["score"] for one in found], np.float32))
    boxes = [found[number] for number in order]
    labels = np.array([one["label"] == "tree" for one in boxes], np.intp)
    threshold = np.array([iou_threshold], np.float32)
    kept = suppress(np.array([one["box"] for one in boxes]), threshold, len(boxes), labels).tolist()
    return {
        "anchors": len(anchors),
        "first": 3 * MAPS[0][0] * MAPS[0][1],
        "cell": [box.tolist() for box in corners[cell_anchors()]],
        "centers": MAPS[CELL[0]][0],
        "overlap": overlap,
        "iou_threshold": iou_threshold,
        "objects": [{"label": label, "box": list(box)} for label, box in OBJECTS],
        "boxes": [
            one | {"box": one["box"].tolist(), "anchor_box": corners[one["anchor"]].tolist(), "kept": number in kept}
            for number, one in enumerate(boxes)
        ],
        "made": len(boxes),
        "kept": len(kept),
        "dropped": len(boxes) - len(kept),
    }


def cell_anchors() -> slice:
    """The anchors of `CELL`."""
    number, row, column = CELL
    before = sum((3 if i == 0 else 6) * H * W for i, (H, W) in enumerate(MAPS[:number]))
    first = before + 6 * (row * MAPS[number][1] + column)
    return slice(first, first + 6)


def encode(box: Array, anchor: Array) -> Array:
    """Code of a box (4,) two corners for an anchor (4,): what `decode_tensorflow` takes back."""
    center, side = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    moved = np.concatenate([(center - anchor[:2]) / anchor[2:], np.log(side / anchor[2:])])
    return np.asarray(moved * np.array(SCALES))


def overlaps_with(box: Array, boxes: Array) -> Array:
    """Intersection over union of a box (4,) with boxes (n, 4)."""
    columns = np.ascontiguousarray(boxes.T)
    return iou(box[:, None], columns, areas(box[:, None]), areas(columns))


def draw_anchors(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    cell, made, left = canvas.subplots(1, 3)
    for axes, name in ((cell, "cell"), (made, "made"), (left, "left")):
        clear(axes)
        _draw_scene(axes, data)
        axes.set_title(
            words(f"anchors.{name}", **{key: data[key] for key in ("made", "kept", "centers")}), fontsize=SMALL
        )
    centers = (np.arange(data["centers"]) + 0.5) / data["centers"]
    cell.plot(*np.meshgrid(centers, centers), ".", color=INK, markersize=4)
    for box in data["cell"]:
        _outline(cell, box, DARK, 1.4)
    for one in data["boxes"]:
        _outline(made, one["box"], DARK if one["label"] == "ball" else MIDDLE, 0.8)
        if not one["kept"]:
            _outline(left, one["box"], QUIET, 0.6, (0, (3, 3)))
    for one in (one for one in data["boxes"] if one["kept"]):
        _outline(left, one["box"], DARK if one["label"] == "ball" else MIDDLE, 2.6)
        top, x, *_ = one["box"]
        text = f"{words.of('anchors', one['label'])} {one['score']:.2f}"
        style = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        left.text(x, top - 0.015, text, va="bottom", fontsize=SMALL, bbox=style)


def _draw_scene(axes: "Axes", data: dict[str, Any]) -> None:
    """Two balls and a tree; the rows of an image count downward."""
    from matplotlib.patches import Ellipse, Polygon, Rectangle

    axes.add_patch(Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=GRID))
    for entry in data["objects"]:
        top, x, bottom, right = entry["box"]
        center = (x + right) / 2
        if entry["label"] == "ball":
            axes.add_patch(
                Ellipse((center, (top + bottom) / 2), right - x, bottom - top, facecolor=PALE, edgecolor=QUIET)
            )
        else:
            trunk = top + 0.75 * (bottom - top)
            axes.add_patch(Rectangle((center - 0.03, trunk), 0.06, bottom - trunk, facecolor=GRID, edgecolor=QUIET))
            crown = [(center, top), (x, trunk), (right, trunk)]
            axes.add_patch(Polygon(crown, closed=True, facecolor=LIGHT, edgecolor=QUIET))
    axes.set(xlim=(-0.02, 1.02), ylim=(1.02, -0.02))


def _outline(axes: "Axes", box: list[float], color: str, width: float, line: Any = "-") -> None:
    from matplotlib.patches import Rectangle

    top, left, bottom, right = box
    outline = Rectangle(
        (left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=width, linestyle=line
    )
    axes.add_patch(outline)
