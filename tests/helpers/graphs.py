"""Small graphs."""

from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Multiply,
)

X = Input(name="x", shape=(8, 6, 3))


def after(*layers: Layer) -> Graph:
    """A chain after X: a layer without inputs reads the previous one."""
    chain: list[Layer] = [X]
    for layer in layers:
        chain.append(type(layer)(**{**vars(layer), "inputs": layer.inputs or (chain[-1].name,)}))
    return Graph("net", tuple(chain))


def small_network() -> Graph:
    """Nine layers with every kind of arithmetic, on 8 x 6 pixels."""
    return after(
        Conv2D(name="conv", filters=4, kernel_size=(3, 3), stride=2, padding="same", activation="relu6"),
        DepthwiseConv2D(name="dw", kernel_size=(3, 3), padding="same", use_bias=False),
        BatchNormalization(name="bn"),
        Add(name="add", inputs=("conv", "bn")),
        GlobalAveragePooling2D(name="gate", keepdims=True),
        Multiply(name="scaled", inputs=("add", "gate")),
        Flatten(name="flat"),
        Dense(name="out", units=5, activation="softmax"),
    )
