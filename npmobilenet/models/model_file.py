"""The file of a model: a `.safetensors` with one float32 tensor per parameter, named `layer/array`, in Keras's layouts.

The header's metadata holds a JSON document under the key `npmobilenet`:

    format       1; 2 if the scaling has one value per channel; 3 if the network has several outputs; 4 if it is
                 quantized (`quantized_file`); 5 if it is a detector
    version      of this package that wrote the file
    graph        Graph.to_json()
    scaling      {"scale", "offset"} from pixels in 0..255 to the network's input: numbers, or lists of one per channel
    labels       [[wnid, label], ...], one per class, or []
    resize       how images are resized, a name in resizing.RESIZES, or null
    background   true if output 0 stands for none of the labels, so that they start at output 1
    source       {"file", "sha256", "keras_version", "matched_by"} of the converted file
    detection    {"rule", "names"} of a detector: how its outputs become boxes, and its categories from number 1; else
                 absent
    self_check   digests of every layer's output (`self_check`)

and, under the key `sha256`, the hash of that document's bytes followed by the name and bytes of every tensor in the
order of the graph, so that corruption anywhere is detected. Reading the file runs no code.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.files import write_atomically
from npmobilenet.models.file_description import check_digests, check_fields
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Params

MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors library
FORMAT = 1
FORMAT_PER_CHANNEL = 2  # the scaling has one value per channel, which earlier versions cannot read
FORMAT_OUTPUTS = 3  # several outputs, of which earlier versions would give only the last
FORMAT_QUANTIZED = 4
FORMAT_DETECTOR = 5  # boxes on photographs, which earlier versions cannot draw
FORMATS = (FORMAT, FORMAT_PER_CHANNEL, FORMAT_OUTPUTS, FORMAT_DETECTOR)


def is_foreign(path: Path) -> bool:
    """Whether a file is an intact `.safetensors` of another program; False for any other file."""
    try:
        document = json.loads(_header(path))
        return isinstance(document, dict) and "npmobilenet" not in document.get("__metadata__", {})
    except (ValueError, TypeError, RecursionError):
        return False


def is_quantized(path: Path) -> bool:
    """Whether a file is that of a quantized model; False for any other file."""
    try:
        description = json.loads(_header(path))["__metadata__"]["npmobilenet"]
        return bool(json.loads(description)["format"] == FORMAT_QUANTIZED)
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


def _header(path: Path) -> bytes:
    """The JSON document at the beginning of a `.safetensors` file; of another file, any bytes."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return file.read(size) if size <= MAX_HEADER else b""


@dataclass(frozen=True)
class ModelFile:
    """Contents of a model file.

    Attributes:
        description: the JSON document, as text.
        tensors: arrays by `layer/array`.
        sha256: the stored hash; "" if there is none.
    """

    description: str
    tensors: Params
    sha256: str

    @staticmethod
    def read(path: str) -> "ModelFile":
        """Read the file, without checking its hash.

        Raises:
            WeightsError: the file does not exist, is corrupt, or is another kind of `.safetensors`.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                if "npmobilenet" not in metadata:
                    raise WeightsError(f"{path}: a .safetensors file that npmobilenet did not write; convert it first")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: cannot be read as a .safetensors file: {error}") from error
        return ModelFile(metadata["npmobilenet"], tensors, metadata.get("sha256", ""))

    @staticmethod
    def of(graph: Graph, params: Params, fields: Mapping[str, Any]) -> "ModelFile":
        """The file of a graph with its parameters; `fields` are the keys of the document from `scaling` on."""
        per_channel = any(isinstance(value, tuple) for value in fields["scaling"].values())
        several = FORMAT_DETECTOR if "detection" in fields else FORMAT_OUTPUTS
        number = several if len(graph.outputs) > 1 else FORMAT_PER_CHANNEL if per_channel else FORMAT
        tensors = {name: params[name] for name in graph.param_shapes}
        return ModelFile.written(number, {"graph": graph.to_json()} | dict(fields), tensors)

    @staticmethod
    def written(number: int, fields: Mapping[str, Any], tensors: Params) -> "ModelFile":
        """The file of a format by its number, with the other keys of the document, and its hash."""
        from importlib.metadata import version

        description = json.dumps({"format": number, "version": version("npmobilenet")} | dict(fields))
        tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        return ModelFile(description, tensors, _sha256(description, tensors))

    def write(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            OSError: the folder is not writable.
        """
        from safetensors.numpy import save

        metadata = {"npmobilenet": self.description, "sha256": self.sha256}
        write_atomically(path, save(dict(self.tensors), metadata))

    def arguments(self) -> dict[str, Any]:
        """Arguments of `Model` for this file; read within `corruption_reported`."""
        document = json.loads(self.description)
        self.check_format(document, FORMATS)
        graph = Graph.from_json(document["graph"])
        check_fields(document)
        check_digests(document["self_check"], graph)
        return {
            "graph": graph,
            "params": self.tensors,
            "scaling": Scaling(**document["scaling"]),
            "labels": [(wnid, label) for wnid, label in document["labels"]],
            "background": document["background"],
            "resize": document.get("resize"),  # absent from files of version 0.1
            "source": document["source"],
            "stored_check": document["self_check"],
            **({"detection": document["detection"]} if "detection" in document else {}),
        }

    @staticmethod
    def check_format(document: Mapping[str, Any], formats: Collection[int]) -> None:
        """Check that a document has one of some formats.

        Raises:
            WeightsError: it has another.
        """
        if document["format"] in formats:
            return
        if document["format"] in (*FORMATS, FORMAT_QUANTIZED):
            kind = "quantized" if document["format"] == FORMAT_QUANTIZED else "float"
            raise WeightsError(f"a {kind} model; npmobilenet.load opens it")
        known = ", ".join(map(str, formats))
        raise WeightsError(f"expected one of the formats {known}, got {document['format']}: another version wrote it")

    def check_hash(self, names: Iterable[str]) -> None:
        """Check the bytes of the description and of the tensors, in the order of `names`, against the stored hash.

        Raises:
            WeightsError: they differ.
        """
        if _sha256(self.description, {name: self.tensors[name] for name in names}) != self.sha256:
            raise WeightsError("checksum mismatch: the file is corrupt")


@contextmanager
def corruption_reported(path: str) -> Iterator[None]:
    """Turn whatever a corrupt description raises into a WeightsError that names the file."""
    try:
        yield
    except NpMobileNetError as error:
        raise WeightsError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: corrupt description in the header ({error!r})") from error


def _sha256(description: str, tensors: Params) -> str:
    digest = sha256(description.encode())
    for name, array in tensors.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
