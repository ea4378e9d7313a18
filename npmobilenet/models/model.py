"""A network with its weights: images in; predictions, features or the output of every layer out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from npmobilenet.errors import NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.backends import check_backend, check_is_scaled, check_threads
from npmobilenet.models.class_names import class_count, fits, named, one_output
from npmobilenet.models.execution import compute, engine_of
from npmobilenet.models.fitting_params import check_params
from npmobilenet.models.image_file import WHITE
from npmobilenet.models.labels import Label, label_pairs
from npmobilenet.models.model_file import ModelFile, corruption_reported
from npmobilenet.models.output_rows import concatenated
from npmobilenet.models.preprocessing import (
    ImageLike,
    ImagesLike,
    Reading,
    Scaling,
    check_input_range,
    choose_scaling,
    network_pixels,
)
from npmobilenet.models.resizing import check_resize
from npmobilenet.models.self_check import changed_layers, layer_digests, synthetic_image
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.pooling import global_average_pool
from npmobilenet.types import Array, Outputs

if TYPE_CHECKING:
    from npmobilenet.compiler.engine import Engine


@dataclass(frozen=True, eq=False)
class Model:
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
        object.__setattr__(self, "labels", label_pairs(self.labels))
        if self.labels and not fits(self.graph, self.labels, self.background):
            classes = class_count(self.graph) - self.background
            raise ShapeError(f"{self.graph.name}: expected {classes} labels, one per class, got {len(self.labels)}")

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.graph.input_shape))
        shapes = self.graph.output_shapes
        named = [str(y) if len(shapes) == 1 else f"{name} {y}" for name, y in shapes.items()]
        what = f"{type(self).__name__} {self.graph.name}"
        return f"<{what}, {shape} -> {', '.join(named)}, {self.graph.total_params:,} parameters>"

    def __getstate__(self) -> dict[str, Any]:
        """State without the engines, which hold addresses of this process; a copy creates its own."""
        return self.__dict__ | {"engines": {}}

    def predict(
        self, images: ImagesLike, *, resize: str | None = None, backend: str | None = None, threads: int | None = None
    ) -> Outputs:
        """Class probabilities of images.

        Args:
            images: pixels (N, H, W, 3) or (H, W, 3), RGB, uint8 or float in 0..255; or a path, the bytes of a file, a
                Pillow image; or an iterable of any of these. Images of another size than the network's are resized.
            resize: a name in `resizing.RESIZES`; None for the model's own, or else "crop" (short side to 1/0.875 of the
                network's, then a center crop). An image of the network's own size is used unchanged.
            backend: "compiled" (the engine), "reference" (NumPy), "auto" or None (the model's own). "auto" uses the
                engine as soon as its kernels are ready or cached by an earlier process. Until then it uses the
                reference; after its first result another process compiles the kernels. The two round differently, so
                the last bits may differ: for bit-exact results in every run choose one of the two, here or with
                `load(..., backend=...)`. "compiled" waits for the kernels.
            threads: maximum number of threads, never more than the cores that this process may use; None for
                NPMOBILENET_THREADS, or else for all of those. The result is bit-exact for any number. The reference
                ignores it: NumPy's matrix library decides.

        Returns:
            (N, classes) the network's output, float32: probabilities if it ends in a softmax. Of a network with
            several outputs {name: (N, ...)}, of any shape.

        Raises:
            ImageError: an image cannot be read, or float pixels have clearly been scaled already.
            ShapeError: the pixels do not fit, or the network has no classifier.
            NpMobileNetError: `backend`, `threads` or NPMOBILENET_THREADS is invalid.
            KernelError: "compiled" was requested, and the kernels cannot be built.
        """
        self.check_classifier()
        batches = self._input_batches(images, resize, threads)
        return concatenated([self._output(x, backend=backend, threads=threads) for x in batches])  # (N, classes)

    def predict_each(
        self,
        sources: Iterable[ImageLike],
        *,
        resize: str | None = None,
        draft: bool = False,
        backend: str | None = None,
        threads: int | None = None,
        transparent_as: str | None = WHITE,
    ) -> Iterator[tuple[ImageLike, Outputs | NpMobileNetError]]:
        """Class probabilities of any number of images in constant memory; a bad image does not affect the others.

        While the network computes, `threads` threads decode and resize the next images. Sources are read a few dozen
        ahead, in the caller's thread.

        Args:
            sources: iterable of paths, contents of files, Pillow images or arrays (H, W, 3), as for `predict`.
            resize: as `predict`.
            draft: let JPEG files that are much larger than the network's input be scaled down as they are decoded,
                with `Image.draft`: many times as fast, but not bit-exact with "crop".
            backend: as `predict`.
            threads: maximum number of threads that compute, and that decode; otherwise as `predict`.
            transparent_as: color of transparent pixels; None for the color below, as Keras's `load_img`.

        Yields:
            (source, result) in the order of the sources. The result is (classes,), the row that `predict` returns, or
            a row of each output by its name; for an image that cannot be read or does not fit, the error that
            `predict` raises.

        Raises:
            ImageError: the resize is unknown, or does not support drafts.
            ShapeError: the network has no classifier.
            NpMobileNetError: as `predict`.
        """
        from npmobilenet.models.streaming import predict_each

        compute = partial(self._output, backend=backend, threads=threads)
        how = Reading(self.resize_rule(resize), draft, transparent_as)
        return predict_each(self, sources, compute, how, threads)

    def features(
        self, images: ImagesLike, *, resize: str | None = None, backend: str | None = None, threads: int | None = None
    ) -> Array:
        """Pooled embedding: one vector per image, from before the classifier.

        Arguments and errors as `predict`.

        Returns:
            (N, C) float32.
        """
        return np.concatenate(
            [self.embed(x, backend=backend, threads=threads) for x in self._input_batches(images, resize, threads)]
        )

    def classify(
        self,
        images: ImagesLike,
        *,
        top: int = 5,
        output: str | None = None,
        resize: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> list[list[tuple[str, str, float]]]:
        """Most probable classes of each image, by name; other arguments and errors as `predict`.

        Args:
            output: name of the output with the classes, as for `with_output`.

        Returns:
            For each image `top` triples (wnid, label, probability), the most probable first.

        Raises:
            ArgumentError: as `with_output`.
        """
        model = self.with_output(output)
        return model.decode(model.predict(images, resize=resize, backend=backend, threads=threads), top)

    def with_output(self, name: str | None = None) -> "Model":
        """The model with a single output: only what that depends on is computed.

        Args:
            name: of the output; None for the only one, or of several the only softmax over a vector, or else the only
                vector.

        Raises:
            ArgumentError: there is no such output; the message names them all.
        """
        return one_output(self, name)

    def decode(self, probabilities: Array, top: int = 5) -> list[list[tuple[str, str, float]]]:
        """Name the `top` classes of every row (N, classes), by this model's labels, or by number if it has none.

        One sigmoid output p is the probability of class 1: with two labels, 1 - p is that of the first.
        """
        return named(self.graph, probabilities, top, cast("Sequence[Label]", self.labels), self.background)

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
        return self._output(x, backend=backend, threads=threads)

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

    def pixels(self, image: ImageLike, resize: str | None = None) -> Array:
        """One image as (H, W, C) pixels in 0..255, in the network's size; arguments and errors as `predict`."""
        return network_pixels(image, self.graph, Reading(self.resize_rule(resize)))

    def resize_rule(self, resize: str | None = None) -> str:
        """The resize: the requested one, or the model's own, or "crop"."""
        return resize or self.resize or Reading().resize

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
                file.check_hash(model.graph)
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

    def check_classifier(self) -> None:
        """Check that the network outputs classes, if it has a single output.

        Raises:
            ShapeError: it does not.
        """
        if len(self.graph.outputs) == 1 and len(self.graph.output_shape) != 1:
            raise ShapeError(
                f"{self.graph.name} has no classifier, its output is {self.graph.output_shape}; "
                "use model.features, or npmobilenet features"
            )

    def _output(self, x: Array, *, backend: str | None, threads: int | None) -> Outputs:
        return compute(self, self.graph.output_layers, x, backend, threads)

    def _input_batches(self, images: ImagesLike, resize: str | None, threads: int | None) -> Iterator[Array]:
        """Scaled batches (N, H, W, C) of the images passed to `predict`."""
        from npmobilenet.models.streaming import each_image, or_raise, prepared_batches

        check_threads(threads)
        single = each_image(images)
        if len(single) == 0:
            yield np.zeros((0, *self.graph.input_shape), np.float32)
        for batch in prepared_batches(self, single, Reading(self.resize_rule(resize)), threads):
            yield self.scale(np.stack([or_raise(pixels) for _, pixels in batch], dtype=np.float32))
