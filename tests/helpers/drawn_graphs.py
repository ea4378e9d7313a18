"""Drawn graphs with one to six outputs: ends, inner values that other layers read, the image, one value twice."""

from typing import Any

import numpy as np

from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.types import Shape

IMAGE = (13, 29, 3)  # wide enough for steps in bands of rows


class _Drawing:
    """Layers so far, with the shape of each."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.layers: list[Layer] = [Input(name="in", shape=IMAGE)]
        self.shapes: dict[str, Shape] = {"in": IMAGE}

    def choice(self, values: list[Any]) -> Any:
        return values[self.rng.integers(len(values))]

    def add(self, kind: type[Layer], *inputs: str, **fields: Any) -> str:
        layer = kind(name=f"{kind.__name__}_{len(self.layers)}", inputs=inputs, **fields)
        self.shapes[layer.name] = layer.output_shape(*(self.shapes[name] for name in inputs))
        self.layers.append(layer)
        return layer.name

    def map(self, x: str) -> str:
        """One or more layers that read a map, as in MobileNets; returns a map."""
        C = self.shapes[x][-1]
        match self.rng.integers(8):
            case 0:
                padding: Any = ((0, 1), (1, 1))
                x = self.add(ZeroPadding2D, x, padding=padding)
                return self.add(DepthwiseConv2D, x, kernel_size=(3, 3), stride=self.choice([1, 2]), use_bias=False)
            case 1:
                x = self.add(Conv2D, x, filters=self.choice([7, 16, 24]), kernel_size=(1, 1), use_bias=False)
                return self.add(BatchNormalization, x)
            case 2:
                y = self.add(DepthwiseConv2D, x, kernel_size=(3, 3), padding="same")
                return self.add(Add, self.choice([x, y]), self.add(Conv2D, y, filters=C, kernel_size=(1, 1)))
            case 3:
                gate = self.add(GlobalAveragePooling2D, x, keepdims=True)
                gate = self.add(Conv2D, gate, filters=C, kernel_size=(1, 1), activation="hard_sigmoid")
                return self.add(Conv2D, self.add(Multiply, x, gate), filters=9, kernel_size=(1, 1))
            case 4:
                return self.add(Conv2D, x, filters=self.choice([5, 16]), kernel_size=(3, 3), padding="same")
            case 5:
                return self.add(Dropout, x)
            case 6:
                return self.add(Rescaling, x, scale=1 / 3, offset=0.5)
        return self.add(Activation, x, activation=self.choice(["relu6", "hard_swish", "sigmoid", "linear"]))

    def head(self, x: str) -> None:
        """A head on a map: a vector of classes, or a map as rows of classes."""
        if self.rng.integers(2):
            x = self.add(GlobalAveragePooling2D, x)
            self.add(Dense, x, units=self.choice([1, 4, 21]), activation=self.choice(["softmax", "sigmoid", "linear"]))
        elif self.rng.integers(2):
            x = self.add(Conv2D, x, filters=12, kernel_size=(3, 3), padding="same")
            self.add(Activation, self.add(Reshape, x, target_shape=(-1, 4)), activation="sigmoid")
        else:
            self.add(Flatten, x)


def drawn_graph(seed: int) -> Graph:
    """The graph of a seed: some maps, each of which reads one of the last few, heads on some of them, and outputs."""
    drawing = _Drawing(np.random.default_rng(seed))
    rng, maps = drawing.rng, ["in"]
    for _ in range(rng.integers(2, 7)):
        x = drawing.map(drawing.choice(maps[-2:]))
        maps.append(x)
    for x in maps[-3:]:
        if rng.integers(2):
            drawing.head(x)
    read = {name for layer in drawing.layers for name in layer.inputs}
    names = [layer.name for layer in drawing.layers]
    chosen = [name for name in names if name not in read]
    chosen += [str(name) for name in rng.choice(names, rng.integers(0, 3))]
    rng.shuffle(chosen)
    return Graph("drawn", tuple(drawing.layers), tuple((f"output {n}", name) for n, name in enumerate(chosen)))
