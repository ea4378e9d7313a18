"""Model files: complete, self-describing, and refused when corrupt."""

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from npmobilenet.errors import WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.model_file import ModelFile
from npmobilenet.reference.graph import Graph
from tests.helpers.models import NETWORK, some_model


def test_a_saved_model_is_restored_completely(saved: Path) -> None:
    model, again = some_model(), Model.open(saved)
    assert again.graph == model.graph
    assert again.labels == (("", "a"), ("", "b"), ("", "c"), ("", "d"))
    assert again.source == {"file": "x.h5"}
    for name, array in model.params.items():
        np.testing.assert_array_equal(again.params[name], array)


def test_the_file_holds_tensors_and_a_description_for_any_reader(saved: Path) -> None:
    content = saved.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    document = json.loads(header["__metadata__"]["npmobilenet"])
    assert header["conv1/kernel"]["shape"] == [3, 3, 3, 8]
    assert document["format"] == 1
    assert document["scaling"] == {"scale": 1 / 127.5, "offset": -1.0}
    assert Graph.from_json(document["graph"]) == NETWORK


def test_a_changed_bit_anywhere_is_detected(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    rng = np.random.default_rng(3)
    tensors_start = 8 + struct.unpack("<Q", content[:8])[0]
    places = [*rng.integers(0, tensors_start, 100), *rng.integers(tensors_start, len(content), 20)]
    corrupt = tmp_path / "corrupt.safetensors"
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        corrupt.write_bytes(flipped)
        with pytest.raises(WeightsError, match=r"corrupt\.safetensors"):
            Model.open(corrupt)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_truncated_file_is_refused(saved: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        Model.open(cut)


def test_a_folder_and_a_missing_file_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(WeightsError, match=path.name):
            Model.open(path)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        some_model().save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaling": {"scale": NAN, "offset": 0.0}}, "scaling in the header: expected"),
        ({"scaling": {"scale": "1", "offset": 0.0}}, "scaling in the header: expected"),
        ({"scaling": {"scale": True, "offset": 0.0}}, "scaling in the header: expected"),
        ({"scaling": {"scale": 1.0}}, "scaling in the header: expected"),
        ({"scaling": {"scale": [1.0, 2.0], "offset": 0.0}}, "expected a scaling of 3 channels, got 2"),
        ({"background": 1}, "background in the header: expected true or false, got 1"),
        ({"background": "no"}, "background in the header: expected true or false"),
        ({"labels": [["", 3]]}, "labels in the header: expected a list of pairs of texts"),
        ({"labels": "abcd"}, "labels in the header: expected a list of pairs of texts"),
        ({"source": ["x.h5"]}, "source in the header: expected texts by name"),
        ({"source": {"file": 3}}, "source in the header: expected texts by name"),
        ({"resize": 3}, "resize in the header: expected a text or null"),
        ({"resize": "lanczos"}, "unknown resize 'lanczos'"),
        ({"self_check": []}, 'self_check in the header: expected {"output", "layers"} or null'),
        ({"self_check": {"output": None, "layers": {"other": [1, 2, 3]}}}, "the network has no layer 'other'"),
        ({"self_check": {"output": None, "layers": {"conv1": [1, 2]}}}, "conv1: expected three numbers"),
        ({"self_check": {"output": None, "layers": {"conv1": [1, True, 3]}}}, "conv1: expected three numbers"),
    ],
)
def test_a_wrong_description_behind_a_right_hash_is_refused_on_opening(
    saved: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    file = ModelFile.read(str(saved))
    document = json.loads(file.description) | changes
    fields = {name: value for name, value in document.items() if name not in ("format", "version")}
    wrong = tmp_path / "wrong.safetensors"
    ModelFile.written(1, fields, {name: file.tensors[name] for name in NETWORK.param_shapes}).write(wrong)
    with pytest.raises(WeightsError, match=re.escape(message)) as caught:
        Model.open(wrong)
    assert str(caught.value).startswith(str(wrong))
