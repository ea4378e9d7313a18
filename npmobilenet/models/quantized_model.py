"""An 8-bit network with its weights: images in; predictions, or every tensor's integers, out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.models import quantized_execution
from npmobilenet.models.backends import check_backend
from npmobilenet.models.class_names import checked_labels
from npmobilenet.models.image_model import ImageModel
from npmobilenet.models.interface import Interface, PlainInterface
from npmobilenet.models.labels import Label
from npmobilenet.models.model_file import ModelFile, corruption_reported
from npmobilenet.models.output_rows import concatenated
from npmobilenet.models.preprocessing import ImagesLike, Scaling, check_input_range
from npmobilenet.models.quantized_input import PixelQuantization, implied_scaling
from npmobilenet.models.resizing import check_resize
from npmobilenet.models.self_check import changed_tensors, synthetic_image, tensor_digests
from npmobilenet.quantized.consistency import check_image_input
from npmobilenet.quantized.expected_shapes import with_shapes
from npmobilenet.quantized.parts import embedding, final_operator, network_to, unique_names, without_post_processing
from npmobilenet.quantized.rules import Rule, find_rule
from npmobilenet.quantized.running import trace
from npmobilenet.quantized.tensors import Network, Tensor
from npmobilenet.types import Array, Outputs

if TYPE_CHECKING:
    from npmobilenet.compiler.byte_engine import ByteEngine

ACTIVATIONS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
CHECKED_RULE = "tflite"  # of the self-check in a file
LARGEST_TRIED = 1 << 22  # values of an image that shows the shapes of outputs: three times that of an SSD of 640 x 640


@dataclass(frozen=True, eq=False)
class QuantizedModel(ImageModel):
    """A quantized network, and how it takes pixels.

    Args:
        network: as the file has it. A detector is computed up to its heads, boxes and scores; its post-processing is
            left in the network, and not computed.
        scaling: from pixels in 0..255 to the real numbers that the input's integers stand for. By default all integers
            of the input are pixels, 0..255 or, of int8, 0..255 less 128: most files are made that way.
        labels, background, source, backend, resize: as of `Model`.
        stored_check: the self-check stored in the file, if the model came from one.
        rule: how results are rounded, a name in `quantized.rules.RULES`.

    Raises:
        WeightsError: the network is not quantized, or does not take one image.
        ShapeError: the number of labels is not the number of classes.
        ArgumentError: the rule is unknown; labels of a network in which it is not clear which output holds classes.
        NpMobileNetError: the backend or the resize is unknown.
    """

    network: Network
    scaling: Scaling = None  # type: ignore[assignment]  # chosen in __post_init__
    labels: Sequence[str | Label] = ()
    background: bool = False
    source: Mapping[str, str] = field(default_factory=dict)
    stored_check: Mapping[str, Any] | None = None
    backend: str = "auto"
    resize: str | None = None
    rule: str = "tflite"
    engines: dict[tuple[int, ...], "ByteEngine"] = field(default_factory=dict, init=False, repr=False)  # by outputs

    def __post_init__(self) -> None:
        check_backend(self.backend)
        check_resize(self.resize_rule())
        find_rule(self.rule)
        _check_network(self.network)
        if self.scaling is None:
            object.__setattr__(self, "scaling", implied_scaling(self.network.input))
        self.scaling.check(self.interface)
        object.__setattr__(self, "labels", checked_labels(self.interface, self.labels, self.background))

    def __getstate__(self) -> dict[str, Any]:
        """State without the engines, which hold addresses of this process; a copy creates its own."""
        return self.__dict__ | {"engines": {}}

    def compile(self) -> None:
        """Compile the kernels, if they are not ready, before the next `predict`.

        Raises:
            KernelError: they cannot be built.
        """
        quantized_execution.engine_of(self, self.computed).plan()

    def is_compiled(self) -> bool:
        """Whether the kernels that `compile` compiles are ready; errors as `compile`."""
        return quantized_execution.engine_of(self, self.computed).is_ready()

    def __repr__(self) -> str:
        image = self.network.input
        sides = " x ".join(map(str, self.interface.input_shape))
        shapes = self.interface.output_shapes
        named = [str(y) if len(shapes) == 1 else f"{name} {y}" for name, y in shapes.items()]
        return (
            f"<{type(self).__name__} {self.network.name}, {sides} {image.dtype} -> {', '.join(named)}, "
            f"{len(self.computed.operators)} operators, rule {self.rule}>"
        )

    @property
    def rounding(self) -> Rule:
        """The rule that results are rounded by."""
        return find_rule(self.rule)

    @cached_property
    def computed(self) -> Network:
        """What is computed: the network with all its shapes, a detector's up to its heads."""
        return with_shapes(without_post_processing(self.network))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for every tensor, by its number: its own, made unique."""
        return unique_names(self.network)

    @cached_property
    def interface(self) -> Interface:
        """The network seen from outside."""
        network = self.computed
        names = [self.names[number] for number in network.outputs]
        operators = [final_operator(network, number) for number in network.outputs]
        activations = [ACTIVATIONS.get(operator.code, "") if operator else "" for operator in operators]
        return PlainInterface(
            network.name,
            network.input.shape[1:],
            {name: network.tensors[number].shape[1:] for name, number in zip(names, network.outputs, strict=True)},
            dict(zip(names, activations, strict=True)),
        )

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Names of all tensors that are computed, in order."""
        return tuple(self.names[operator.outputs[0]] for operator in self.computed.operators)

    @cached_property
    def total_params(self) -> int:
        """Number of weights and biases."""
        constants = (tensor for tensor in self.network.tensors if tensor.quantization is not None)
        return sum(tensor.data.size for tensor in constants if tensor.data is not None)

    def tensor(self, name: str) -> Tensor:
        """A tensor's description by its name in `names`: shape, type, scale and zero point; of a constant, its values.

        Raises:
            KeyError: there is none.
        """
        return self.network.tensors[self._numbers[name]]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def forward(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Outputs:
        """Output of the network for its own input; `predict` takes pixels in 0..255.

        Args:
            x: (N, H, W, C) integers of the input's type; or real numbers, scaled as `scaling` does, which are
                quantized first.
            backend, threads: as `predict`.

        Returns:
            (N, ...) float32: the real numbers that the output's integers stand for; {name: (N, ...)} of several.

        Raises:
            ShapeError: x does not fit.
            ImageError: real numbers are not in the range that `scaling` maps pixels to.
            NpMobileNetError, KernelError: as `predict`.
        """
        return self.dequantized(self.forward_integers(x, backend=backend, threads=threads))

    def forward_integers(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Outputs:
        """The output's integers (N, ...), of its own type; {name: (N, ...)} of several; otherwise as `forward`."""
        return quantized_execution.compute(self, self.computed, self._as_input(x), backend, threads)

    def predict_integers(
        self, images: ImagesLike, *, resize: str | None = None, backend: str | None = None, threads: int | None = None
    ) -> Outputs:
        """The integers of the network's output for images; arguments and errors as `predict`."""
        batches = self._input_batches(images, resize, threads)
        return concatenated([self.forward_integers(x, backend=backend, threads=threads) for x in batches])

    def dequantized(self, outputs: Outputs) -> Outputs:
        """The real numbers, float32, that integers of the network's output stand for."""
        tensors = [self.network.tensors[number] for number in self.computed.outputs]
        if len(tensors) == 1:
            return tensors[0].dequantize(outputs)
        return {name: tensor.dequantize(outputs[name]) for name, tensor in zip(outputs, tensors, strict=True)}

    def layer_output(self, name: str, x: Array, *, backend: str | None = None, threads: int | None = None) -> Array:
        """The real numbers, float32, of the tensor `name` (N, ...); other arguments and errors as `forward`."""
        number = self._numbers[name]
        part = network_to(self.computed, [number])
        q = quantized_execution.compute(self, part, self._as_input(x), backend, threads)
        return self.network.tensors[number].dequantize(q)

    def embed(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Array:
        """Pooled embedding (N, C), the real numbers of a tensor's integers; arguments and errors as `forward`.

        Raises:
            ShapeError: no pool gives one vector per image.
        """
        number = embedding(self.computed)
        if number is None:
            raise ShapeError(
                f"{self.network.name} has no pooled embedding; choose a layer: model.layer_output(NAME, x), or "
                "npmobilenet features --layer NAME"
            )
        y = self.layer_output(self.names[number], x, backend=backend, threads=threads)
        return y.reshape(len(y), -1)  # (N, C)

    def trace(self, x: Array) -> Iterator[tuple[str, Array]]:
        """Integers of every tensor that is computed, by its name, by the reference under the model's rule.

        Args:
            x: (N, H, W, C) as for `forward`.

        Yields:
            (name, integers (N, ...) of the tensor's own type) in the order of the operators.

        Raises:
            ShapeError: as `forward`.
        """
        x = self._as_input(x)
        images = [trace(self.computed, x[i : i + 1], self.rounding) for i in range(len(x))]
        for name, *made in zip(self.layer_names, *images, strict=True):
            yield name, np.concatenate([np.atleast_1d(y) for _, y in made])

    def scale(self, pixels: Array) -> Array:
        """Pixels (N, H, W, C) in 0..255 as the network's input: integers of its type, or scaled float32."""
        return self._pixels.apply(pixels)

    @cached_property
    def _pixels(self) -> PixelQuantization:
        return PixelQuantization(self.network.input, self.scaling)

    def cut_to(self, output: str, **changes: Any) -> "QuantizedModel":
        """The model with one output, of several, and with fields changed."""
        return replace(self, network=network_to(self.computed, [self._numbers[output]]), **changes)

    def self_check(self) -> dict[str, Any]:
        """Run a synthetic image under the rule tflite, and record a digest of every tensor's integers.

        Returns: see `self_check.tensor_digests`.
        """
        pixels = synthetic_image(self.interface.input_shape)[None].astype(np.uint8)  # (1, H, W, C)
        model = replace(self, rule=CHECKED_RULE)
        return tensor_digests(model.trace(model.scale(pixels)))

    def failed_checks(self) -> list[str]:
        """Names of the tensors whose integers differ from the self-check in the file, in order; empty if it passes.

        Raises:
            WeightsError: the model did not come from a file with a self-check.
        """
        if not self.stored_check:
            raise WeightsError(f"{self.network.name}: no stored self-check; model.save writes one")
        return changed_tensors(self.stored_check, self.self_check())

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a `.safetensors` file, atomically; the format is described in `quantized_file`.

        Raises:
            OSError: the folder is not writable.
        """
        from npmobilenet.models.quantized_file import write

        write(self, Path(path))

    def file_fields(self) -> dict[str, Any]:
        """What the file holds, besides network and self-check."""
        return {
            "scaling": asdict(self.scaling), "labels": self.labels, "background": self.background,
            "resize": self.resize, "source": dict(self.source),
        }  # fmt: skip

    @staticmethod
    def open(path: str | PathLike[str], *, intact: bool = True) -> "QuantizedModel":
        """Read a model that `save` wrote; arguments and errors as `Model.open`."""
        from npmobilenet.models.quantized_file import read

        file = ModelFile.read(fspath(path))
        with corruption_reported(fspath(path)):
            arguments = read(file, intact=intact)
            if "detection" in arguments:
                from npmobilenet.models.quantized_detector import QuantizedDetector

                return QuantizedDetector.opened(arguments)
            return QuantizedModel(**arguments)

    def _as_input(self, x: Array) -> Array:
        """Integers of the input's type; real numbers are quantized."""
        x, image = np.asarray(x), self.network.input
        if x.ndim != 4 or x.shape[1:] != image.shape[1:]:
            sides = ", ".join(map(str, image.shape[1:]))
            raise ShapeError(f"{self.network.name}: expected x of shape (N, {sides}), got {x.shape}")
        if x.dtype == image.dtype:
            return x
        if x.dtype.kind != "f":
            raise ShapeError(
                f"{self.network.name}: expected {image.dtype}, or scaled floating-point numbers, got {x.dtype}; use "
                "model.predict for pixels"
            )
        check_input_range(x, self.scaling)
        return image.quantize(x) if image.quantization is not None else x.astype(image.dtype)


def _check_network(network: Network) -> None:
    """Raise WeightsError if a network is not quantized, or does not take one image."""
    if not network.is_quantized:
        raise WeightsError(f"{network.name}: expected a quantized network, got one that computes with real numbers")
    check_image_input(network)
