"""Recognition of the published network that a weights file belongs to, from its arrays alone.

There is no table of file layouts: `architectures` builds the candidates, and the one that fits is the network. The
arrays determine everything but the input size, which the published files have in their names.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.shapes import make_divisible
from npmobilenet.types import Shape
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import (
    ORDER,
    Pairs,
    assignment,
    attempts,
    places_of,
    problems,
    without_prefix,
)

DEFAULT_RESOLUTION = 224
RESOLUTIONS = (96, 128, 160, 192, 224)  # of the published files
PUBLISHED_ALPHAS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
ALPHAS = (*PUBLISHED_ALPHAS, *(percent / 100 for percent in range(5, 201) if percent / 100 not in PUBLISHED_ALPHAS))
CANDIDATES = 8  # alphas that are built: so few share the channel counts of their widest layers
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

TABLE_WIDTHS = re.compile(r"(conv1|Conv1|conv_pw_\d+|.+_project)(_bn|_BN)?/\w+")
"""Arrays whose channels are a number of the papers' tables times alpha, rounded; other widths derive from these."""


@dataclass(frozen=True)
class RecognizedNetwork:
    """The network that a file fits best.

    Args:
        arch: name of the architecture.
        arguments: its arguments, without the resolution.
        matched_by: how names were matched, see `name_matching`.
        pairs: the file's layers and the graph's.
        mismatches: what does not fit; empty if the network is certain.
    """

    arch: str
    arguments: Mapping[str, Any]
    matched_by: str
    pairs: Pairs
    mismatches: tuple[str, ...]

    def graph(self, **arguments: Any) -> Graph:
        """The network, with further arguments."""
        return ARCHITECTURES[self.arch](**self.arguments, **arguments)

    def __str__(self) -> str:
        top = "without top"
        if self.arguments["include_top"]:
            classes = self.arguments["classes"]
            background = " (ImageNet and a background class)" if classes == IMAGENET_CLASSES + 1 else ""
            top = f"{classes} output{'' if classes == 1 else 's'}{background}"
        extra = [name for name in ("minimalistic", "shallow") if self.arguments.get(name)]
        return ", ".join([self.arch, *extra, f"alpha {self.arguments['alpha']:g}", top])


def recognize(contents: Contents) -> RecognizedNetwork | None:
    """The published network that the arrays of a file belong to.

    Returns:
        The network without mismatches, otherwise that with the fewest; None if less than half of the arrays fit any.
    """
    stored = sum(len(layer.arrays) for layer in contents.layers)
    best: tuple[int, str, dict[str, Any], str, Pairs] | None = None
    for arch, options in VARIANTS:
        for matched_by, pairs in attempts(contents, places_of(_full_width(arch, tuple(options.items())))):
            wrong = len(problems(pairs, None))
            if best is None or wrong < best[0]:
                best = wrong, arch, options, matched_by, pairs
        if best and best[0] == 0:
            break
    if best is None or best[0] > stored / 2:
        return None
    return _network(*best[1:])


def nearest_by_names(contents: Contents) -> tuple[RecognizedNetwork, int] | None:
    """The published network whose layer names most layers of a file have, however few of its arrays fit.

    Returns:
        The network, and how many layers of the file have its names; None if that is not even half of them.
    """
    own = replace(contents, layers=tuple(without_prefix([layer for layer in contents.layers if layer.arrays])))
    best: tuple[tuple[int, int], str, dict[str, Any], str, Pairs] | None = None
    for arch, options in VARIANTS:
        for matched_by, pairs in attempts(own, places_of(_full_width(arch, tuple(options.items())))):
            named = sum(layer is not None and place is not None for layer, place in pairs)
            likeness = named, -len(problems(pairs, None))
            if matched_by != ORDER and (best is None or likeness > best[0]):
                best = likeness, arch, options, matched_by, pairs
    if best is None or best[0][0] < len(own.layers) / 2:
        return None
    return _network(*best[1:]), best[0][0]


def _network(arch: str, options: dict[str, Any], matched_by: str, pairs: Pairs) -> RecognizedNetwork:
    """The network of the likeliest variant: its sizes, and what does not fit."""
    full = _full_width(arch, tuple(options.items()))
    arguments = options | dict(_sizes(arch, full, options["include_top"], pairs))
    alpha, shapes = _alpha(arch, arguments, full, pairs)
    arguments |= {"alpha": alpha}
    return RecognizedNetwork(arch, arguments, matched_by, pairs, tuple(problems(pairs, shapes)))


def resolution_in(file: str) -> int | None:
    """The input size that a published file has in its name, such as 160 in `mobilenet_2_5_160_tf_no_top.h5`."""
    numbers = [int(digits) for digits in re.findall(r"(?<![\d.])\d{2,3}(?![\d.]*\d)", PurePath(file).stem)]
    found = [size for size in numbers if size in RESOLUTIONS]
    return found[-1] if found else None


@lru_cache(maxsize=len(VARIANTS))
def _full_width(arch: str, options: tuple[tuple[str, Any], ...]) -> Graph:
    """A variant at alpha 1."""
    return ARCHITECTURES[arch](**dict(options))


def _sizes(arch: str, full: Graph, include_top: bool, pairs: Pairs) -> Iterator[tuple[str, int]]:
    """The arguments that the arrays specify in addition to alpha: channels, classes, filters per channel."""
    kernels = {name: array.shape for name, array in assignment(pairs) if name.endswith("/kernel")}
    names = [name for name in full.param_shapes if name.endswith("/kernel")]
    first, last = kernels.get(names[0], ()), kernels.get(names[-1], ())
    if len(first) == 4:
        yield "channels", first[2]
    if include_top:
        yield "classes", last[-1] if last else IMAGENET_CLASSES
    if arch == "mobilenet_v1":
        depthwise = kernels.get(names[1], ())
        yield "depth_multiplier", depthwise[3] if len(depthwise) == 4 else 1


def _alpha(arch: str, arguments: Mapping[str, Any], full: Graph, pairs: Pairs) -> tuple[float, Mapping[str, Shape]]:
    """The width multiplier under which most arrays have their shapes, of several the published one; and the shapes.

    The channel counts of the arrays leave a handful of candidates, and only these are built.
    """
    stored = {name: array.shape for name, array in assignment(pairs)}
    tried: dict[float, tuple[int, Mapping[str, Shape]]] = {}
    for alpha in _likely_alphas(full, stored):
        shapes = _shapes(arch, {**arguments, "alpha": alpha})
        mismatches = sum(shape != shapes.get(name) for name, shape in stored.items())
        if mismatches == 0:
            return alpha, shapes
        tried[alpha] = mismatches, shapes
    best = min(tried, key=lambda alpha: (tried[alpha][0], ALPHAS.index(alpha)))
    return best, tried[best][1]


def _likely_alphas(full: Graph, stored: Mapping[str, Shape]) -> list[float]:
    """The `CANDIDATES` alphas under which most arrays have their channel counts, the likeliest first; nothing is built.

    Args:
        full: the network at alpha 1.
        stored: shape of every array in the file.
    """
    widths = Counter(
        (shape[-1], stored[name][-1])
        for name, shape in full.param_shapes.items()
        if TABLE_WIDTHS.fullmatch(name) and stored.get(name)
    )
    agreeing = {
        alpha: sum(n for (c, actual), n in widths.items() if actual in _scaled_widths(c, alpha)) for alpha in ALPHAS
    }
    return sorted(ALPHAS, key=lambda alpha: -agreeing[alpha])[:CANDIDATES]


def _scaled_widths(channels: int, alpha: float) -> tuple[int, ...]:
    """A channel count times alpha: V1 cuts it off, V2 and V3 round it to a multiple of 8, V2's blocks do both."""
    cut = int(channels * alpha)
    return cut, make_divisible(channels * alpha), make_divisible(cut)


def _shapes(arch: str, arguments: Mapping[str, Any]) -> Mapping[str, Shape]:
    try:
        return ARCHITECTURES[arch](**arguments).param_shapes
    except ShapeError:
        return {}
