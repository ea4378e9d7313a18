"""What the fuzzer has found: other exceptions than ours, each from the smallest file that had it."""

import json
from pathlib import Path
from typing import Any

import pytest

import npmobilenet as nm
from npmobilenet.errors import DownloadError, LabelFileError, NpMobileNetError, WeightsError
from npmobilenet.hub.cache import locate
from npmobilenet.models.label_file import read_labels
from tests.fuzzing.seeds import corpus

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


def write(path: Path, content: bytes) -> Path:
    """A file with its folder."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path
