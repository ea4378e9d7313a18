"""A network with its weights: images in; predictions, features or the output of every layer out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.models.backends import check_backend, check_is_scaled
from npmobilenet.models.class_names import checked_labels
from npmobilenet.models.execution import compute, engine_of
from npmobilenet.models.fitting_params import check_params
from npmobilenet.models.image_model import ImageModel
from npmobilenet.models.interface import Interface
from npmobilenet.models.labels import Label
from npmobilenet.models.model_file import ModelFile, corruption_reported
from npmobilenet.models.preprocessing import Scaling, check_input_range, choose_scaling
from npmobilenet.models.resizing import check_resize
from npmobilenet.models.self_check import changed_layers, layer_digests, synthetic_image
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.pooling import global_average_pool
from npmobilenet.reference.transforms import subgraph_to
from npmobilenet.types import Array, Outputs

if TYPE_CHECKING:
    from npmobilenet.compiler.engine import Engine


@dataclass(frozen=True, eq=False)
class Model(ImageModel):
    """A graph and its parameters.

    Args:
        graph: the network.
        params: float32 arrays by `layer/array`, exactly those of `graph.param_shapes`.
        scaling: from pixels in 0..255 to the network's input; by default `choose_scaling(graph)`.
        labels: (wnid, label) of every class, or empty; two for one sigmoid output. In a network with several outputs
            they belong to the one that `class_output` finds.
        background: output 0 stands for none of the labels.
        source: what the weights were converted from.
        stored_check: the self-check stored in the file, if the model came from one.
        backend: default backend; as for `predict`.
        resize: how images are resized by default, a name in `resizing.RESIZES`; None if that is not known.

    Raises:
        WeightsError: parameters are missing, unexpected or of the wrong shape; the message lists them all.
        ShapeError: the number of labels is not the number of classes.
        ArgumentError: labels of a network in which it is not clear which output holds classes.
        NpMobileNetError: the backend or the resize is unknown.
    """

    graph: Graph
    params: Mapping[str, Array]
    scaling: Scaling = None  # type: ignore[assignment]  # chosen in __post_init__
    labels: Sequence[str | Label] = ()
    background: bool = False
    source: Mapping[str, str] = field(default_factory=dict)
    stored_check: Mapping[str, Any] | None = None
    backend: str = "auto"
    resize: str | None = None
    engines: dict[tuple[str, ...], "Engine"] = field(default_factory=dict, init=False, repr=False)  # by layers

    def __post_init__(self) -> None:
        check_backend(self.backend)
        check_resize(self.resize_rule())
        check_params(self.graph, self.params)
        if self.scaling is None:
            object.__setattr__(self, "scaling", choose_scaling(self.graph))
        self.scaling.check(self.graph)
        object.__setattr__(self, "labels", checked_labels(self.graph, self.labels, self.background))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.graph.input_shape))
        shapes = self.graph.output_shapes
        named = [str(y) if len(shapes) == 1 else f"{name} {y}" for name, y in shapes.items()]
        what = f"{type(self).__name__} {self.graph.name}"
        return f"<{what}, {shape} -> {', '.join(named)}, {self.graph.total_params:,} parameters>"

    @property
    def interface(self) -> Interface:
        """The network seen from outside."""
        return self.graph

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of all layers, in order."""
        return tuple(layer.name for layer in self.graph.layers)

    def __getstate__(self) -> dict[str, Any]:
        """State without the engines, which hold addresses of this process; a copy creates its own."""
        return self.__dict__ | {"engines": {}}

    def forward(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Outputs:
        """Output of the network for input that is already scaled; `predict` takes pixels in 0..255.

        Args:
            x: (N, H, W, C) float; float16 and float64 are computed in that precision, by the reference.
            backend: as `predict`; "compiled" requires float32.
            threads: as `predict`.

        Returns:
            (N, ...) the network's output, dtype of x; {name: (N, ...)} of several.

        Raises:
            ShapeError: x does not fit, or is not floating point.
            ImageError: x is not in the range that `scaling` maps pixels to.
            NpMobileNetError, KernelError: as `predict`.
        """
        x = np.asarray(x)
        check_input_range(x, self.scaling)
        return self.compute(x, backend=backend, threads=threads)

    def layer_output(self, name: str, x: Array, *, backend: str | None = None, threads: int | None = None) -> Array:
        """Output of the layer `name` (N, ...); other arguments and errors as `forward`."""
        return cast("Array", compute(self, (name,), np.asarray(x), backend, threads))

    def embed(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Array:
        """Pooled embedding (N, C) of input that is already scaled; arguments and errors as `forward`.

        Raises:
            ShapeError: a network with several outputs has no layer that gives one vector per image.
        """
        if self.graph.embedding is None and len(self.graph.outputs) > 1:
            raise ShapeError(
                f"{self.graph.name} has {len(self.graph.outputs)} outputs and no pooled embedding before them; choose "
                "a layer: model.layer_output(NAME, x), or npmobilenet features --layer NAME"
            )
        y = self.layer_output(self.graph.embedding or self.graph.layers[-1].name, x, backend=backend, threads=threads)
        return y.reshape(len(y), y.shape[-1]) if self.graph.embedding else global_average_pool(y)  # (N, C)

    def trace(self, x: Array) -> Iterator[tuple[str, Array]]:
        """Output of every layer by its Keras name, computed by the reference in the dtype of x.

        Args:
            x: (N, H, W, C) as for `forward`.

        Yields:
            (layer name, output (N, ...)) in the order of the graph.

        Raises:
            ShapeError: as `forward`.
        """
        x = np.asarray(x)
        check_is_scaled(x, self.graph.name)
        yield from self.graph.run(self.params_as(x.dtype), x)

    def scale(self, pixels: Array) -> Array:
        """Pixels (N, H, W, C) in 0..255 mapped to the network's input range, float32."""
        return self.scaling.apply(pixels.astype(np.float32, copy=False))

    def batch(self, pixels: Sequence[Array]) -> Array:
        """Images (H, W, C) in 0..255 as one input of the network."""
        return self.scale(np.stack(pixels, dtype=np.float32))

    def self_check(self) -> dict[str, Any]:
        """Run a synthetic image in float64 and record a digest of every layer's output.

        Returns: see `self_check.layer_digests`.
        """
        pixels = synthetic_image(self.graph.input_shape)[None].astype(np.float64)  # (1, H, W, C)
        return layer_digests(self.trace(self.scaling.apply(pixels)), self.graph.outputs)

    def failed_checks(self) -> list[str]:
        """Names of the layers whose output differs from the self-check in the file, in order; empty if it passes.

        Raises:
            WeightsError: the model did not come from a file with a self-check.
        """
        if not self.stored_check:
            raise WeightsError(f"{self.graph.name}: no stored self-check; model.save writes one")
        return changed_layers(self.stored_check, self.self_check())

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a `.safetensors` file, atomically; the format is described in `model_file`.

        Raises:
            OSError: the folder is not writable.
        """
        fields = self.file_fields() | {"self_check": self.self_check()}
        ModelFile.of(self.graph, self.params, fields).write(Path(path))

    def file_fields(self) -> dict[str, Any]:
        """What the file holds, besides graph, tensors and self-check."""
        return {
            "scaling": asdict(self.scaling), "labels": self.labels, "background": self.background,
            "resize": self.resize, "source": dict(self.source),
        }  # fmt: skip

    @staticmethod
    def open(path: str | PathLike[str], *, intact: bool = True) -> "Model":
        """Read a model that `save` wrote.

        Args:
            path: the file.
            intact: refuse a file whose checksum does not match. False is for finding out what changed, with
                `failed_checks`.

        Raises:
            WeightsError: the file does not exist, is corrupt, or is another kind of `.safetensors`.
        """
        file = ModelFile.read(fspath(path))
        with corruption_reported(fspath(path)):
            arguments = file.arguments()
            if "detection" in arguments:
                from npmobilenet.models.detector import Detector

                model: Model = Detector.opened(arguments)
            else:
                model = Model(**arguments)
            if intact:
                file.check_hash(model.graph.param_shapes)
        return model

    def params_as(self, dtype: np.dtype[Any]) -> Mapping[str, Array]:
        """The parameters in another dtype."""
        if all(array.dtype == dtype for array in self.params.values()):
            return self.params
        return {name: array.astype(dtype) for name, array in self.params.items()}

    def compile(self) -> None:
        """Compile the kernels for the network's own image size, if they are not ready, before the next `predict`.

        Raises:
            KernelError: they cannot be built.
        """
        H, W, _ = self.graph.input_shape
        engine_of(self, self.graph.output_layers).plan(H, W)

    def is_compiled(self) -> bool:
        """Whether the kernels that `compile` compiles are ready; errors as `compile`."""
        H, W, _ = self.graph.input_shape
        return engine_of(self, self.graph.output_layers).is_ready(H, W)

    def compute(self, x: Array, *, backend: str | None, threads: int | None) -> Outputs:
        """`forward` of pixels that `scale` has just scaled, without a check of their range."""
        return compute(self, self.graph.output_layers, x, backend, threads)

    def cut_to(self, output: str, **changes: Any) -> "Model":
        """The model with one output, of several, and with fields changed."""
        layer = dict(self.graph.outputs)[output]
        graph = replace(subgraph_to(self.graph, layer), outputs=((output, layer),))
        params = {array: self.params[array] for array in graph.param_shapes}
        one = replace(self, graph=graph, params=params, **changes)
        one.__dict__["engines"] = self.engines  # by layer, so that every call finds the same
        return one
