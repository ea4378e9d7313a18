"""What is done with a file: opened, and used as far as that is cheap, so that nothing wrong is found only later."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from npmobilenet.errors import AssumptionWarning, ShapeError, WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.detects import Detects
from npmobilenet.models.label_file import find_labels, read_labels
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded, open_stored
from npmobilenet.models.preprocessing import decode
from npmobilenet.porting.diagnose.dumps import read_dump
from npmobilenet.porting.golden import GoldenData

MOST_PIXELS = 100  # of a side of a window
MOST_VALUES = 2**14  # in any layer, or in all weights, of a network that is computed


@cache
def _digits() -> Model:
    return load("digits")


def _image(path: Path, backend: str) -> None:
    decode(path.read_bytes())
    _digits().pixels(path)


def _labels(path: Path, backend: str) -> None:
    read_labels(path)
    find_labels(path)


def _own(path: Path, backend: str) -> None:
    """A file whose hash is right, whatever is in it: it is not looked at."""
    opened = open_stored(path, intact=False)
    if _use(opened, backend):
        opened.failed_checks()


def _model(path: Path, backend: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        _use(load(path), backend)


def _use(opened: Loaded, backend: str) -> bool:
    """Ask a model for what is printed of it and, if it is small, for its answers; whether it is small."""
    repr(opened)
    interface = opened.interface
    if not opened.layer_names or not _is_small(opened):
        return False
    pixels = np.full(interface.input_shape, 100, np.uint8)
    opened.forward(opened.batch([pixels]), backend=backend)
    if isinstance(opened, Detects):
        opened.detect(pixels, backend=backend)
    with suppress(ShapeError):  # not a classifier
        opened.classify(pixels, backend=backend)
    return True


def _is_small(opened: Loaded) -> bool:
    """Whether a model is computed in little time and memory: a file may well describe a network that is not."""
    if not isinstance(opened, Model):
        windows = [side for operator in opened.network.operators for side in operator.options.filter]
        sizes = [prod(tensor.shape) for tensor in opened.network.tensors]
        return max(sizes) <= MOST_VALUES and max(windows, default=0) <= MOST_PIXELS
    graph = opened.graph
    sizes = [prod(shape) for shape in graph.shapes.values()] + [graph.total_params]
    windows = [side for layer in graph.layers for side in getattr(layer, "extent", ())]
    return max(sizes) <= MOST_VALUES and max(windows, default=0) <= MOST_PIXELS


def _dump(path: Path, backend: str) -> None:
    read_dump(path, _digits(), np.zeros((1, 28, 28, 1), np.float32))


def _golden(path: Path, backend: str) -> None:
    golden = GoldenData.open(path)
    repr(golden)
    if problems := golden.damaged():
        raise WeightsError(problems[0])
    for stage in golden.stages:
        golden.input(stage)
    for name in golden.layers:
        golden.output(name)
        golden.reference_float64(name)
    for name in golden.manifest["chosen"]:
        golden.tolerance(name)
    with suppress(WeightsError):  # not all of its layers
        repr(golden.model())


READERS: dict[str, Callable[[Path, str], None]] = {
    "image": _image, "labels": _labels, "own": _own, "model": _model, "dump": _dump, "golden": _golden,
}  # fmt: skip
"""By name: each takes a file or folder and the backend that computes, and returns or raises."""
