"""Golden data: every tensor that a network computes from one image, as test vectors for a port.

A folder holds the image at each stage, the output of every layer as the reference computes it in float32 and in
float64, the weights, and the tolerance for another implementation:

    manifest.json   the content, as data/pack.schema.json describes it: the graph, and for every tensor its shape,
                    axes, dtype, SHA-256, tolerance, and its place in each format
    npz/ raw/ ...   the tensors, in one or several of the `golden_formats.FORMATS`

Tensors are called `kind/name`:

    image/decoded, image/resized      uint8 pixels, if the data was made from an image file or pixels
    image/scaled                      float32, the network's input
    outputs/LAYER                     float32
    truth/LAYER                       float64, the reference for errors
    weights/LAYER/ARRAY               float32

With layout NCHW maps, images and kernels are stored channels first, as `channels_first` has them; a Flatten keeps the
order of NHWC in both. `GoldenData` returns this package's layouts, whatever is stored; `golden_writer` writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.porting.channels_first import map_to_channels_last, weight_to_channels_last
from npmobilenet.porting.golden_folder import read_manifest, stored_tensor
from npmobilenet.porting.golden_manifest import MANIFEST, suggestion
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array, Shape


@dataclass(frozen=True, eq=False)
class GoldenData:
    """Golden data on disk. Tensors are read on access, and checked against their SHA-256.

    Args:
        folder: the directory.
        manifest: the content of its manifest.json.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @staticmethod
    def open(folder: str | PathLike[str]) -> "GoldenData":
        """Golden data from its folder; only the manifest is read.

        Raises:
            WeightsError: the folder does not exist, or its manifest is missing or corrupt.
        """
        path = Path(folder)
        manifest = read_manifest(path / MANIFEST)
        golden = GoldenData(path, manifest)
        try:
            _ = golden.graph, golden.layers, golden.scaling
            _ = manifest["layout"], manifest["formats"][0], manifest["chosen"]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise WeightsError(f"{path / MANIFEST}: corrupt ({error!r})") from error
        return golden

    def __repr__(self) -> str:
        return f"<GoldenData {self.folder}, {self.graph.name}, {len(self.layers)} of {len(self.graph.layers)} layers>"

    @cached_property
    def graph(self) -> Graph:
        """The whole network, even if the data covers only a part of it."""
        return Graph.from_json(self.manifest["graph"])

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose outputs are included, in the order of the graph."""
        held = {name for kind, name in self._tensors if kind == "outputs"}
        return tuple(layer.name for layer in self.graph.layers if layer.name in held)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the image that are included: decoded, resized, scaled, or only the last."""
        return tuple(name for kind, name in self._tensors if kind == "image")

    def input(self, stage: str = "scaled") -> Array:
        """The image at a stage.

        Args:
            stage: "decoded" (H', W', 3) uint8 as in the file, "resized" (H, W, 3) uint8, or "scaled" (N, H, W, C)
                float32, the network's input.

        Raises:
            WeightsError: the stage is not included, or corrupt.
        """
        return self._read("image", stage)

    def output(self, name: str) -> Array:
        """A layer's output, (N, ...), as the reference computes it in float32.

        Raises:
            WeightsError: the layer is not included, or corrupt.
        """
        return self._read("outputs", name)

    def reference_float64(self, name: str) -> Array:
        """A layer's output, (N, ...), computed in float64 from the same scaled image; errors as `output`."""
        return self._read("truth", name)

    @cached_property
    def weights(self) -> Mapping[str, Array]:
        """Parameters of the chosen layers by `layer/array`, in Keras's layouts.

        Raises:
            WeightsError: one of them is corrupt.
        """
        return {name: self._read("weights", name) for kind, name in self._tensors if kind == "weights"}

    @property
    def scaling(self) -> Scaling:
        """From pixels in 0..255 to the network's input."""
        return Scaling(**self.manifest["model"]["scaling"])

    def model(self) -> Model:
        """The network with its weights, ready to compute.

        Raises:
            WeightsError: only a part of the network is included.
        """
        return Model(self.graph, self.weights, self.scaling, source=self.manifest["model"]["source"])

    def tolerance(self, name: str) -> Array:
        """Allowed difference of a float32 implementation from `output(name)`, given the layer's inputs from this data.

        Both are within `Layer.error_bound` of the exact result for these inputs, so within twice that of each other.

        Returns:
            Shape of the output, float64. Its maximum is `given_inputs` of the manifest.

        Raises:
            WeightsError: the layer was not among the chosen ones, or a tensor is corrupt.
        """
        if name not in self.manifest["chosen"]:
            raise WeightsError(f"{self.folder}: no weights of {name}: it was not among the chosen layers")
        layer = self.graph[name]
        if not layer.inputs:
            return np.zeros(self.output(name).shape)
        params = {array: self._read("weights", f"{name}/{array}") for array in self.graph.param_shapes_of(layer)}
        return 2 * layer.error_bound(params, *map(self.output, layer.inputs))

    def damaged(self) -> list[str]:
        """Problems found by reading every tensor in every format, one message each."""
        problems = []
        for kind, name in self._tensors:
            for form in self.manifest["formats"]:
                try:
                    self._stored(kind, name, form)
                except WeightsError as error:
                    problems.append(str(error))
        return problems

    @cached_property
    def _tensors(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        return {(entry["kind"], entry["name"]): entry for entry in self.manifest["tensors"]}

    def _read(self, kind: str, name: str) -> Array:
        """A tensor in this package's layout."""
        if (kind, name) not in self._tensors:
            known = [other for of, other in self._tensors if of == kind]
            raise WeightsError(f"{self.folder}: {kind}/{name} is not included{suggestion(name, known)}")
        values = self._stored(kind, name, self.manifest["formats"][0])
        if self.manifest["layout"] == "NHWC":
            return values
        if kind == "weights":
            return weight_to_channels_last(values, self._shape_of_weight(name))
        is_map = values.ndim == 4 or (kind == "image" and values.ndim == 3)
        return map_to_channels_last(values) if is_map else values

    def _shape_of_weight(self, name: str) -> Shape:
        try:
            return self.graph.param_shapes[name]
        except KeyError:
            raise WeightsError(f"{self.folder}: the network has no parameter {name}") from None

    def _stored(self, kind: str, name: str, form: str) -> Array:
        return stored_tensor(self.folder, self._tensors[kind, name], form)
