"""Golden data of a quantized network: every integer that it computes from one image, and what makes it.

The folder is that of `golden`, with manifest.json as data/integer_pack.schema.json describes it. Tensors:

    image/decoded, image/resized    uint8 pixels
    image/input                     integers of the network's input
    outputs/TENSOR                  integers that an operator makes, in the type of the file
    accumulators/TENSOR             int32 sums of a convolution or dense layer, the bias included
    multipliers/TENSOR              int32, one per channel, or one per factor of the operator: M = q 2^-31 2^-s
    shifts/TENSOR                   int32, s: to the right if positive
    factors/TENSOR                  M itself, where the rule multiplies in floating point
    tables/TENSOR                   256 results of a curve, from the least integer of its input to the largest
    weights/TENSOR                  constants as in the file: kernels OHWI, depthwise 1HWC

Integers have no tolerance: a port that follows the rule is equal to the bit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.porting.golden_folder import read_manifest, stored_tensor
from npmobilenet.porting.golden_manifest import INTEGER_PACK_FORMAT, MANIFEST, suggestion
from npmobilenet.quantized.network_json import SCALE, VALUES, ZERO_POINT, network_from_json
from npmobilenet.types import Array


@dataclass(frozen=True, eq=False)
class IntegerPack:
    """Golden data of a quantized network on disk. Tensors are read on access, and checked against their SHA-256.

    Args:
        folder: the directory.
        manifest: the content of its manifest.json.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @staticmethod
    def open(folder: str | PathLike[str]) -> "IntegerPack":
        """Golden data from its folder; only the manifest is read.

        Raises:
            WeightsError: the folder does not exist, or its manifest is missing, corrupt, or that of a float network.
        """
        path = Path(folder)
        pack = IntegerPack(path, read_manifest(path / MANIFEST, INTEGER_PACK_FORMAT))
        try:
            _ = pack.layers, pack.rule, pack.manifest["formats"][0], pack.manifest["network"]["tensors"]
        except (LookupError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path / MANIFEST}: corrupt ({error!r})") from error
        return pack

    def __repr__(self) -> str:
        return (
            f"<IntegerPack {self.folder}, {self.manifest['network']['name']}, {len(self.layers)} layers, {self.rule}>"
        )

    @property
    def rule(self) -> str:
        """The rule under which the integers were computed."""
        return str(self.manifest["rule"])

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the tensors that operators make and that are included, in order."""
        return tuple(name for kind, name in self.entries if kind == "outputs")

    @cached_property
    def entries(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """The manifest's entry of every tensor, by (kind, name)."""
        return {(entry["kind"], entry["name"]): entry for entry in self.manifest["tensors"]}

    def read(self, kind: str, name: str) -> Array:
        """A tensor.

        Raises:
            WeightsError: it is not included, or corrupt.
        """
        if (kind, name) not in self.entries:
            known = [other for of, other in self.entries if of == kind]
            raise WeightsError(f"{self.folder}: {kind}/{name} is not included{suggestion(name, known)}")
        return stored_tensor(self.folder, self.entries[kind, name], self.manifest["formats"][0])

    def input(self) -> Array:
        """(1, H, W, C) integers of the network's input."""
        return self.read("image", "input")

    def output(self, name: str) -> Array:
        """Integers that an operator makes, (1, ...)."""
        return self.read("outputs", name)

    def model(self) -> QuantizedModel:
        """The whole network, ready to compute under the pack's rule.

        Raises:
            WeightsError: something in it is corrupt.
        """
        arrays: dict[str, Array] = {}
        try:
            for entry in self.manifest["tensors"]:
                if entry["kind"] == "weights":
                    arrays[f"{entry['tensor']}/{VALUES}"] = self.read("weights", entry["name"])
            for number, how in self.manifest["quantization"].items():
                arrays[f"{number}/{SCALE}"] = np.array(how["scale"], np.float32)
                arrays[f"{number}/{ZERO_POINT}"] = np.array(how["zero_point"], np.int64)
            network = network_from_json(self.manifest["network"], arrays)
            described = self.manifest["model"]
            scaling = Scaling(**described["scaling"])
            return QuantizedModel(network, scaling, source=described["source"], rule=self.rule)
        except NpMobileNetError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"{self.folder / MANIFEST}: corrupt ({error!r})") from error

    def damaged(self) -> list[str]:
        """Problems found by reading every tensor in every format, one message each."""
        problems = []
        for entry in self.entries.values():
            for form in self.manifest["formats"]:
                try:
                    stored_tensor(self.folder, entry, form)
                except WeightsError as error:
                    problems.append(str(error))
        return problems

    def differing(self) -> list[str]:
        """Names of the tensors whose integers are not those that the network computes from the image in the pack."""
        model = self.model()
        made = dict(model.trace(self.input()))
        return [name for name in self.layers if not np.array_equal(made[name], self.output(name))]


def is_integer_pack(folder: str | PathLike[str]) -> bool:
    """Whether a folder holds golden data of a quantized network; damaged or not."""
    try:
        manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("pack_format") == INTEGER_PACK_FORMAT
