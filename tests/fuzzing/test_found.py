"""What the fuzzer has found: other exceptions than ours, each from the smallest file that had it."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from npmobilenet_weights_convert import network_in_file
from npmobilenet_weights_convert.global_heap import check_lengths
from npmobilenet_weights_convert.network_in_file import FileNetwork

import npmobilenet as nm
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.errors import DownloadError, LabelFileError, NpMobileNetError, WeightsError
from npmobilenet.hub.cache import locate
from npmobilenet.models.label_file import read_labels
from npmobilenet.types import Array
from tests.fuzzing.seeds import corpus
from tests.helpers.torch_files import torch_zip

DEEP = 100_000 * "["


def model_file(kind: str, name: str) -> bytes:
    """A seed as it is."""
    return next(seed.members[name] for seed in corpus()[kind] if name in seed.members)


@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        ("strides", {"type": 0}),  # a TypeError
        ("pads", {"ints": [1, 1]}),  # a ValueError
        ("strides", {"ints": []}),  # an IndexError
        ("group", {"type": 0}),
    ],
)
def test_onnx_attributes_of_another_form(attribute: str, change: dict[str, Any], tmp_path: Path) -> None:
    import onnx

    network = onnx.load_from_string(model_file(".onnx", "classifier.onnx"))
    conv = next(node for node in network.graph.node if node.op_type == "Conv")
    found = next(one for one in conv.attribute if one.name == attribute)
    for field, value in change.items():
        if isinstance(value, list):
            found.ClearField(field)
            getattr(found, field).extend(value)
        else:
            setattr(found, field, value)
    with pytest.raises(WeightsError, match=r"changed\.onnx: "):
        nm.load(write(tmp_path / "changed.onnx", network.SerializeToString()))


def test_an_onnx_node_that_reads_what_is_not_there(tmp_path: Path) -> None:
    import onnx

    network = onnx.load_from_string(model_file(".onnx", "classifier.onnx"))
    conv = next(node for node in network.graph.node if node.op_type == "Conv")
    conv.input[0] = "nothing"
    with pytest.raises(WeightsError, match=r"Conv reads nothing, .* not all are computed before"):
        nm.load(write(tmp_path / "changed.onnx", network.SerializeToString()))


@pytest.mark.parametrize(("layer", "key"), [(1, "class_name"), (6, "config")])
def test_a_folder_of_tensorflow_js_without_a_key(layer: int, key: str, tmp_path: Path) -> None:
    members = corpus()["TensorFlow.js"][0].members
    document = json.loads(members["model.json"])
    del document["modelTopology"]["model_config"]["config"]["layers"][layer][key]
    for name, content in (members | {"model.json": json.dumps(document).encode()}).items():
        write(tmp_path / name, content)
    with pytest.raises(WeightsError, match=tmp_path.name):
        nm.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [DEEP, "9" * 9999 + " cat\n", json.dumps({"9" * 9999: "cat"})],
)
def test_label_files_beyond_any_recursion_or_number(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "labels.txt", text.encode())
    if text.startswith("9"):
        assert read_labels(path) == [text.strip()]
    else:
        with pytest.raises(LabelFileError, match=r"labels\.txt: "):
            read_labels(path)


def test_json_nested_beyond_any_recursion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NpMobileNetError, match=r"model\.h5: "):
        nm.load(write(tmp_path / "model.h5", b'{"a":' + DEEP.encode()))
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    write(tmp_path / "sha256.json", DEEP.encode())
    write(tmp_path / "keras" / "x", b"")
    with pytest.raises(DownloadError, match=r"sha256\.json: corrupt"):
        locate("mobilenet_v1_0.25_128")


def hdf5_with_texts(**options: Any) -> bytes:
    """An HDF5 file with attributes of variable length: a text, then a list of two."""
    import h5py

    file = BytesIO()
    with h5py.File(file, "w", **options) as opened:
        opened.attrs["keras_version"] = "2.15.0"
        opened.attrs["layer_names"] = ["abcdefghi", "jk"]
    return file.getvalue()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("length", [6, 9, 2])
def test_a_text_in_hdf5_that_declares_gigabytes(libver: str, length: int, tmp_path: Path) -> None:
    data = hdf5_with_texts(libver=libver)
    check_lengths("", data)
    references = re.compile(re.escape(length.to_bytes(4, "little")) + rb".{8}[\x01-\x03]\x00\x00\x00", re.DOTALL)
    places = [match.start() for match in references.finditer(data)]
    assert len(places) == 1
    changed = data[: places[0]] + (3 << 30).to_bytes(4, "little") + data[places[0] + 4 :]
    with pytest.raises(WeightsError, match=r"x\.h5: the texts of an attribute: 3,221,"):
        nm.load(write(tmp_path / "x.h5", changed))


def test_a_pickle_that_numbers_its_objects_by_the_billion(tmp_path: Path) -> None:
    data = model_file(".pth before 1.6", "part.pt")
    place = data.index(b"q\x00", data.index(b"collections"))
    changed = data[:place] + b"r" + (10**9).to_bytes(4, "little") + data[place + 2 :]
    with pytest.raises(WeightsError, match=r"x\.pt: corrupt: the pickle keeps an object under the number 1000000000"):
        nm.load(write(tmp_path / "x.pt", changed))


def test_tensors_that_share_one_storage_are_bounded(tmp_path: Path) -> None:
    values = np.zeros(2**18, np.float32)
    stored = torch_zip({f"conv_{number}.weight": values[:] for number in range(300)})
    path = tmp_path / "x.pth"
    with ZipFile(BytesIO(stored)) as archive, ZipFile(path, "w", ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    assert path.stat().st_size < 10**5
    with pytest.raises(WeightsError, match=r"its tensors: 269,484,032 bytes .* more than the limit"):
        nm.load(path)


def test_a_config_for_huge_images_is_compared_on_moderate_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = []

    def outputs(network: FileNetwork, x: Array) -> list[Array]:
        sides.append(x.shape)
        return [np.ones(1)]

    monkeypatch.setattr(network_in_file, "_outputs", outputs)
    graph = mobilenet_v1(alpha=0.25, resolution=20_000, classes=4)
    assert network_in_file._same_function(*[FileNetwork(graph, {}, "", True, ())] * 2)
    assert sides == 2 * [(1, 224, 224, 3)]


def write(path: Path, content: bytes) -> Path:
    """A file with its folder."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path
