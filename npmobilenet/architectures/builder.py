"""Building a graph layer by layer, with Keras's names for the layers that Keras names by itself."""

from collections import Counter
from collections.abc import Callable, Iterable

from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    ZeroPadding2D,
)
from npmobilenet.types import Padding, Shape


class Builder:
    """Appends layers, each reading the previous one by default, and names them as Keras does."""

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        self.name = name
        self.layers: list[Layer] = [Input(name="input_layer", shape=shape)]
        self._shapes: dict[str, Shape] = {"input_layer": shape}
        self._numbered: Counter[str] = Counter()

    @property
    def last(self) -> str:
        """Name of the last layer."""
        return self.layers[-1].name

    @property
    def shape(self) -> Shape:
        """Shape of its output, without the batch axis."""
        return self._shapes[self.last]

    def shape_of(self, name: str) -> Shape:
        """Shape of the output of any layer so far, without the batch axis."""
        return self._shapes[name]

    def numbered(self, stem: str) -> str:
        """The name that Keras generates: re_lu, re_lu_1, re_lu_2, ..."""
        self._numbered[stem] += 1
        return stem if self._numbered[stem] == 1 else f"{stem}_{self._numbered[stem] - 1}"

    def add(self, kind: Callable[..., Layer], name: str, *, inputs: tuple[str, ...] = (), **fields: object) -> str:
        """Append a layer of any type and return its name."""
        layer = kind(name=name, inputs=inputs or (self.last,), **fields)
        self._shapes[name] = layer.output_shape(*(self._shapes[source] for source in layer.inputs))
        self.layers.append(layer)
        return name

    def extend(self, layers: Iterable[Layer]) -> None:
        """Append layers of another graph as they are, wiring included."""
        for layer in layers:
            self._shapes[layer.name] = layer.output_shape(*(self._shapes[source] for source in layer.inputs))
            self.layers.append(layer)

    def conv(
        self,
        name: str,
        filters: int,
        K: int,
        stride: int = 1,
        padding: Padding = "same",
        use_bias: bool = False,
        dilation: int = 1,
    ) -> str:
        """Standard or pointwise convolution, by default without bias, as before a normalization."""
        return self.add(
            Conv2D,
            name,
            filters=filters,
            kernel_size=(K, K),
            stride=stride,
            padding=padding,
            use_bias=use_bias,
            dilation=dilation,
        )

    def depthwise(
        self, name: str, K: int, stride: int, padding: Padding, depth_multiplier: int = 1, dilation: int = 1
    ) -> str:
        """Depthwise convolution without bias."""
        return self.add(
            DepthwiseConv2D, name, kernel_size=(K, K), stride=stride, padding=padding,
            depth_multiplier=depth_multiplier, use_bias=False, dilation=dilation,
        )  # fmt: skip

    def zero_pad(self, name: str, padding: Padding) -> str:
        """Zeros at ((top, bottom), (left, right))."""
        return self.add(ZeroPadding2D, name, padding=padding)

    def bn(self, name: str) -> str:
        """Batch normalization with Keras's epsilon for MobileNet."""
        return self.add(BatchNormalization, name, epsilon=1e-3)

    def activation(self, activation: str, name: str = "") -> str:
        """Activation, by default under the name that Keras generates."""
        name = name or self.numbered("re_lu" if activation.startswith("relu") else "activation")
        return self.add(Activation, name, activation=activation)

    def global_pool(self, keepdims: bool = False, kind: type[Layer] = GlobalAveragePooling2D, name: str = "") -> str:
        """Global pooling, by default under the name that Keras generates."""
        stem = "global_max_pooling2d" if kind is GlobalMaxPooling2D else "global_average_pooling2d"
        return self.add(kind, name or self.numbered(stem), keepdims=keepdims)

    def pooled(self, pooling: str | None, avg_name: str = "", max_name: str = "") -> Graph:
        """The graph without a classifier: with "avg", "max" or no pooling at its end."""
        if pooling == "avg":
            self.global_pool(name=avg_name)
        elif pooling == "max":
            self.global_pool(kind=GlobalMaxPooling2D, name=max_name)
        return self.graph()

    def graph(self, outputs: tuple[tuple[str, str], ...] = ()) -> Graph:
        """The layers so far, as a graph; by default the last one is the output."""
        return Graph(self.name, tuple(self.layers), outputs)
