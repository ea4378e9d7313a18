"""The file of a quantized model: a `.safetensors` with the integers as they are.

The document under the key `npmobilenet` is that of `model_file`, with format 4 and with these keys in place of `graph`
and of the self-check's layers:

    network      the description of `quantized.network_json`, whose arrays are the file's tensors
    self_check   hashes of every tensor's integers under the rule tflite (`self_check.tensor_digests`)

The hash under the key `sha256` is of that document's bytes, followed by the name and bytes of every array.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npmobilenet.models.file_description import check_fields, check_hashes
from npmobilenet.models.model_file import FORMAT_QUANTIZED, ModelFile
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.quantized.network_json import network_arrays, network_from_json, network_to_json
from npmobilenet.quantized.parts import unique_names

if TYPE_CHECKING:
    from npmobilenet.models.quantized_model import QuantizedModel


def write(model: "QuantizedModel", path: Path) -> None:
    """Write a model, atomically.

    Raises:
        OSError: the folder is not writable.
    """
    fields = {"network": network_to_json(model.network)} | model.file_fields() | {"self_check": model.self_check()}
    ModelFile.written(FORMAT_QUANTIZED, fields, network_arrays(model.network)).write(path)


def read(file: ModelFile, *, intact: bool = True) -> dict[str, Any]:
    """The arguments of `QuantizedModel` for a file; read within `corruption_reported`.

    Raises:
        WeightsError: something does not fit; or, with `intact`, the checksum does not match.
    """
    document = json.loads(file.description)
    file.check_format(document, (FORMAT_QUANTIZED,))
    network = network_from_json(document["network"], file.tensors)
    check_fields(document)
    check_hashes(document["self_check"], unique_names(network))
    if intact:
        file.check_hash(network_arrays(network))
    return {
        "network": network,
        "scaling": Scaling(**document["scaling"]),
        "labels": [(wnid, label) for wnid, label in document["labels"]],
        "background": document["background"],
        "resize": document["resize"],
        "source": document["source"],
        "stored_check": document["self_check"],
        **({"detection": document["detection"]} if "detection" in document else {}),
    }
