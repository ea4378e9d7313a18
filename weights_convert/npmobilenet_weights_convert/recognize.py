"""Recognition of the published network that a weights file belongs to, from its arrays alone.

`architectures` builds the candidates; the one that fits is the network. The arrays determine everything but the input
size, which the published files have in their names.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import ge, gt
from pathlib import PurePath
from typing import Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Shape
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import Pairs, assignment, attempts, places_of, problems

DEFAULT_RESOLUTION = 224
RESOLUTIONS = (96, 128, 160, 192, 224)  # of the published files
PUBLISHED_ALPHAS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
ALPHAS = (*PUBLISHED_ALPHAS, *(percent / 100 for percent in range(5, 201) if percent / 100 not in PUBLISHED_ALPHAS))
NARROWEST_FIRST = sorted(ALPHAS)
IMAGENET_CLASSES = 1000

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = tuple(
    (arch, options | {"include_top": include_top})
    for arch, options in (
        ("mobilenet_v1", {}),
        ("mobilenet_v1", {"shallow": True}),
        ("mobilenet_v2", {}),
        ("mobilenet_v3_large", {}),
        ("mobilenet_v3_small", {}),
        ("mobilenet_v3_large", {"minimalistic": True}),
        ("mobilenet_v3_small", {"minimalistic": True}),
    )
    for include_top in (True, False)
)


@dataclass(frozen=True)
class Recognized:
    """The network that fits a file best.

    Args:
        arch: name of the architecture.
        arguments: its arguments, without the resolution.
        matched_by: one of the three ways of `name_matching`.
        pairs: the layers of the file with those of the graph.
        mismatches: arrays that do not fit; empty if the network is certain.
    """

    arch: str
    arguments: Mapping[str, Any]
    matched_by: str
    pairs: Pairs
    mismatches: tuple[str, ...]

    def graph(self, **arguments: Any) -> Graph:
        """The graph, with further arguments."""
        return ARCHITECTURES[self.arch](**self.arguments, **arguments)

    def __str__(self) -> str:
        top = "without top"
        if self.arguments["include_top"]:
            classes = self.arguments["classes"]
            background = " (ImageNet and a background class)" if classes == IMAGENET_CLASSES + 1 else ""
            top = f"{classes} output{'' if classes == 1 else 's'}{background}"
        extra = [name for name in ("minimalistic", "shallow") if self.arguments.get(name)]
        return ", ".join([self.arch, *extra, f"alpha {self.arguments['alpha']:g}", top])


def recognize(contents: Contents) -> Recognized | None:
    """The published network that the arrays of a file belong to.

    Returns:
        The network without mismatches, otherwise that with the fewest; None if half of the arrays or fewer fit.
    """
    stored = sum(len(layer.arrays) for layer in contents.layers)
    best: tuple[int, str, dict[str, Any], str, Pairs] | None = None
    for arch, options in VARIANTS:
        graph = ARCHITECTURES[arch](**options)
        for matched_by, pairs in attempts(contents, places_of(graph)):
            wrong = len(problems(pairs, None))
            if best is None or wrong < best[0]:
                best = wrong, arch, options, matched_by, pairs
        if best and best[0] == 0:
            break
    if best is None or best[0] > stored / 2:
        return None
    _, arch, options, matched_by, pairs = best
    arguments = options | dict(_sizes(arch, options, pairs))
    alpha = _alpha(arch, arguments, pairs)
    arguments |= {"alpha": alpha}
    return Recognized(arch, arguments, matched_by, pairs, tuple(problems(pairs, _shapes(arch, arguments))))


def resolution_in(file: str) -> int | None:
    """The input size that a published file has in its name, such as 160 in `mobilenet_2_5_160_tf_no_top.h5`."""
    numbers = [int(digits) for digits in re.findall(r"(?<![\d.])\d{2,3}(?![\d.]*\d)", PurePath(file).stem)]
    found = [size for size in numbers if size in RESOLUTIONS]
    return found[-1] if found else None


def _sizes(arch: str, options: Mapping[str, Any], pairs: Pairs) -> Iterator[tuple[str, int]]:
    """Arguments determined by the arrays, alpha excepted: image channels, depth multiplier, classes."""
    kernels = {name: array.shape for name, array in assignment(pairs) if name.endswith("/kernel")}
    graph = ARCHITECTURES[arch](**options)
    names = [name for name in graph.param_shapes if name.endswith("/kernel")]
    first, last = kernels.get(names[0], ()), kernels.get(names[-1], ())
    if len(first) == 4:
        yield "channels", first[2]
    if options["include_top"]:
        yield "classes", last[-1] if last else IMAGENET_CLASSES
    if arch == "mobilenet_v1":
        depthwise = kernels.get(names[1], ())
        yield "depth_multiplier", depthwise[3] if len(depthwise) == 4 else 1


def _alpha(arch: str, arguments: Mapping[str, Any], pairs: Pairs) -> float:
    """The width multiplier for which the most arrays have the right shapes; published ones are preferred.

    Shapes are monotonic in the width multiplier, so each array fits one range of multipliers, found by bisection.
    """
    stored = {name: array.shape for name, array in assignment(pairs)}
    for alpha in PUBLISHED_ALPHAS:
        shapes = _shapes(arch, {**arguments, "alpha": alpha})
        if all(shapes.get(name) == shape for name, shape in stored.items()):
            return alpha
    fitting = dict.fromkeys(ALPHAS, 0)
    for name, shape in stored.items():
        for alpha in _fitting(arch, arguments, name, shape):
            fitting[alpha] += 1
    return max(ALPHAS, key=lambda alpha: fitting[alpha])


def _fitting(arch: str, arguments: Mapping[str, Any], name: str, wanted: Shape) -> Sequence[float]:
    """The width multipliers for which an array has this shape."""

    def shape(alpha: float) -> Shape:
        return _shapes(arch, {**arguments, "alpha": alpha}).get(name, ())  # () if the network is too narrow

    widest = shape(NARROWEST_FIRST[-1])
    if len(widest) != len(wanted):
        return ()

    def reaches(alpha: float) -> bool:
        found = shape(alpha)
        return bool(found) and all(map(ge, found, wanted))

    def exceeds(alpha: float) -> bool:
        return any(map(gt, shape(alpha), wanted))

    begin = bisect_left(NARROWEST_FIRST, True, key=reaches)
    return NARROWEST_FIRST[begin : bisect_left(NARROWEST_FIRST, True, lo=begin, key=exceeds)]


def _shapes(arch: str, arguments: Mapping[str, Any]) -> Mapping[str, Shape]:
    return _built_shapes(arch, tuple(arguments.items()))


@lru_cache(maxsize=2 * len(ALPHAS))
def _built_shapes(arch: str, arguments: tuple[tuple[str, Any], ...]) -> Mapping[str, Shape]:
    try:
        return ARCHITECTURES[arch](**dict(arguments)).param_shapes
    except ShapeError:
        return {}
