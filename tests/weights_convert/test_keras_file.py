"""Corrupt and hostile files: always a WeightsError that names the file, and nothing is written."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from npmobilenet_weights_convert import convert_file, global_heap, keras_file, read_model

from npmobilenet.errors import WeightsError
from npmobilenet.models.model import Model
from tests.helpers.keras_files import Twin, application, twin
from tests.helpers.real_files import real_file

FLIPS = 50  # of one byte, in each of four formats


@pytest.fixture(scope="module")
def theirs(keras: Any) -> Twin:
    return twin(application(keras, "v1", classes=2), pixels=False)


@pytest.fixture(scope="module")
def saved(theirs: Twin, tf_keras: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of one small network in every format."""
    folder = tmp_path_factory.mktemp("saved")
    files = {suffix: theirs.save(folder, suffix).read_bytes() for suffix in (".keras", ".h5", ".weights.h5")}
    old = twin(application(tf_keras, "v1", classes=2), pixels=False)
    return files | {"_weights.h5": old.save(folder, "_weights.h5", "old").read_bytes()}


def refused(path: Path, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        convert_file(path, path.parent / "out.safetensors")
    assert str(path) in str(caught.value)
    assert not (path.parent / "out.safetensors").exists()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


def read_or_refused(path: Path) -> Model | None:
    """The model, or None if it was refused by name; any other error propagates."""
    try:
        return read_model(path)
    except WeightsError as error:
        message = str(error)
    assert str(path) in message
    return None


def with_a_heap() -> tuple[bytes, int]:
    """An HDF5 file with strings of any length, and where the free space of their heap says how large it is."""
    with h5py.File("weights.h5", "w", driver="core", backing_store=False) as file:
        file.attrs["keras_version"] = "2.4.0"
        file.flush()
        data = bytes(file.id.get_file_image())
    heap = data.index(global_heap.SIGNATURE)
    free = heap + 16 + 16 + 8  # after the header, and one object with its string
    assert int.from_bytes(data[free + 8 : free + 16], "little") == 4096 - (free - heap)
    return data, free


HANGS = """
import sys
from npmobilenet_weights_convert import read_model
from npmobilenet.errors import WeightsError
try:
    read_model(sys.argv[1])
except WeightsError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("begin", "hole"),
    [
        (8, bytes(8)),  # free space of size zero
        (-256, bytes(512)),  # a truncated download
        (0, (1).to_bytes(8, "little") + (2**64 - 16).to_bytes(8, "little")),  # a size that leads back to the object
    ],
)
def test_a_global_heap_that_does_not_end_is_refused_at_once(tmp_path: Path, begin: int, hole: bytes) -> None:
    data, free = with_a_heap()
    begin = max(free + begin, data.index(global_heap.SIGNATURE) + 16)
    path = tmp_path / "hole.h5"
    path.write_bytes(data[:begin] + hole + data[begin + len(hole) :])

    done = subprocess.run([sys.executable, "-c", HANGS, path], capture_output=True, text=True, timeout=60)

    assert "hole.h5: corrupt: the global heap at byte" in done.stdout


def test_the_file_that_made_hdf5_hang_is_refused(tmp_path: Path) -> None:
    path = real_file("cases", "hostile", "hang_global_heap.h5")
    done = subprocess.run([sys.executable, "-c", HANGS, path], capture_output=True, text=True, timeout=60)
    assert "hang_global_heap.h5: corrupt: the global heap at byte 12568 does not end" in done.stdout


def test_a_corrupt_member_packed_by_lzma_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, b"{}")
    data = bytearray(packed.getvalue())
    begin = data.index(b"config.json") + len("config.json")
    data[begin + 9 : begin + 20] = bytes([255] * 11)
    path = tmp_path / "member.keras"
    path.write_bytes(data)
    refused(path, "corrupt")


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5", "_weights.h5"])
def test_a_flipped_byte_gives_a_model_or_a_weights_error(saved: dict[str, bytes], tmp_path: Path, suffix: str) -> None:
    """A flip in the values of an array is not detectable; elsewhere it may only raise WeightsError."""
    data, rng = saved[suffix], np.random.default_rng(0)
    ends = rng.integers(0, 4096, FLIPS // 2)  # most of the structure is at the beginning
    places = np.concatenate([ends, rng.integers(0, len(data), FLIPS - FLIPS // 2)])
    refusals = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= int(rng.integers(1, 256))
        path = tmp_path / f"flipped{suffix}"
        path.write_bytes(flipped)
        model = read_or_refused(path)
        refusals += model is None
        assert model is None or all(np.isfinite(values).all() for values in model.params.values()), place
    assert refusals > 0


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5", "_weights.h5"])
def test_a_truncated_file_is_refused(saved: dict[str, bytes], tmp_path: Path, suffix: str) -> None:
    data, rng = saved[suffix], np.random.default_rng(1)
    for length in [1, 7, 8, 100, len(data) - 1, *rng.integers(1, len(data), FLIPS // 4)]:
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[:length])
        refused(path, "corrupt|not HDF5|not a \\.keras")


def test_other_formats_are_named_by_their_contents(saved: dict[str, bytes], tmp_path: Path) -> None:
    cases = {
        "empty.h5": (b"", "is empty"),
        "text.h5": (b"hello, this is text", "not HDF5 and not a zip"),
        "page.h5": (b"<!DOCTYPE html><html>404</html>", "a web page"),
        "lfs.h5": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        "noise.keras": (np.random.default_rng(0).bytes(1000), "not HDF5 and not a zip"),
    }
    for name, (data, reason) in cases.items():
        folder = tmp_path / f"folder of {name}"
        folder.mkdir()
        (folder / name).write_bytes(data)
        refused(folder / name, reason)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a folder without a model"):
        read_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(WeightsError, match="SavedModel"):
        read_model(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_model(tmp_path / "nowhere.h5")


@pytest.mark.parametrize(("suffix", "wrong"), [(".keras", ".h5"), (".h5", ".keras"), (".weights.h5", ".bin")])
def test_the_name_of_a_file_does_not_matter(
    saved: dict[str, bytes], theirs: Twin, tmp_path: Path, suffix: str, wrong: str
) -> None:
    path = tmp_path / f"network{wrong}"
    path.write_bytes(saved[suffix])
    np.testing.assert_array_equal(read_model(path).params["conv1/kernel"], theirs.arrays()[0])


def archive(path: Path, data: bytes, **members: bytes) -> Path:
    """A copy of a .keras archive with some members replaced, deflated; None leaves one out."""
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        contents = {name: source.read(name) for name in source.namelist()}
        for name, content in (contents | {key.replace("_", "."): value for key, value in members.items()}).items():
            if content is not None:
                target.writestr(name, content)
    return path


def test_a_zip_bomb_is_refused_before_it_is_inflated(
    saved: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "bomb.keras", saved[".keras"], config_json=bytes(40 << 20))
    assert path.stat().st_size < len(saved[".keras"])
    refused(path, r"config\.json in the archive declares 41,943,040 bytes")
    path = archive(path, saved[".keras"], model_weights_h5=bytes(2 << 20))
    monkeypatch.setattr(keras_file, "MAX_BYTES", 1 << 20)
    refused(path, r"model\.weights\.h5 in the archive declares 2,097,152 bytes")


def test_a_zip_that_declares_less_than_it_contains_is_refused(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = archive(tmp_path / "liar.keras", saved[".keras"], config_json=bytes(1 << 20))
    data = bytearray(path.read_bytes())
    truth, lie = (1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert data.count(truth) >= 2
    path.write_bytes(data.replace(truth, lie))
    refused(path, "corrupt")


def test_archives_without_their_parts_are_refused(saved: dict[str, bytes], tmp_path: Path) -> None:
    for members, reason in (
        ({"config_json": None}, r"no config\.json"),
        ({"model_weights_h5": None}, r"no model\.weights\.h5"),
        ({"config_json": b"[" * 100_000}, "corrupt"),
        ({"config_json": b"[]"}, "not a JSON object"),
        ({"config_json": b"{}"}, "describes no model"),
        ({"config_json": b'{"class_name": "Functional", "config": {}}'}, "functional or sequential"),
        ({"config_json": b'{"class_name": "MyModel", "config": {"layers": 3}}'}, "MyModel"),
        ({"model_weights_h5": b"not a weights file"}, "corrupt"),
    ):
        refused(archive(tmp_path / "parts.keras", saved[".keras"], **members), reason)


def edited(path: Path, data: bytes) -> Any:
    import h5py

    path.write_bytes(data)
    return h5py.File(path, "r+")


def test_links_out_of_the_file_are_not_followed(saved: dict[str, bytes], tmp_path: Path) -> None:
    import h5py

    path, name = tmp_path / "links.h5", "conv1/conv1/kernel:0"
    for link in (h5py.ExternalLink("/etc/passwd", "/x"), h5py.SoftLink("/conv_pw_1/conv_pw_1/kernel:0")):
        with edited(path, saved["_weights.h5"]) as file:
            del file[name]
            file[name] = link
        refused(path, "a soft or external link")


def test_an_array_that_the_file_lists_but_does_not_contain_is_named(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "missing.h5"
    with edited(path, saved["_weights.h5"]) as file:
        del file["conv1/conv1/kernel:0"]
    refused(path, r"kernel:0 is missing in /conv1/conv1")


def test_values_in_another_file_are_not_read(saved: dict[str, bytes], tmp_path: Path) -> None:
    import h5py

    path, name, shape = tmp_path / "elsewhere.h5", "conv1/conv1/kernel:0", (3, 3, 3, 8)
    with edited(path, saved["_weights.h5"]) as file:
        del file[name]
        file.create_dataset(name, shape, np.float32, external=[("/etc/passwd", 0, 864)])
    refused(path, "in another file")
    with edited(path, saved["_weights.h5"]) as file:
        del file[name]
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[...] = h5py.VirtualSource("other.h5", "x", shape)
        file.create_virtual_dataset(name, layout)
    refused(path, "in another file")


def test_shapes_that_are_declared_huge_are_refused_before_they_are_read(
    saved: dict[str, bytes], tmp_path: Path
) -> None:
    path, name = tmp_path / "huge.h5", "conv1/conv1/kernel:0"
    with edited(path, saved["_weights.h5"]) as file:
        del file[name]
        file.create_dataset(name, (1 << 40,), np.float32, chunks=(1 << 10,))
    refused(path, r"1,099,511,627,776|4,398,046,511,104 bytes")
    with edited(path, saved["_weights.h5"]) as file:
        del file[name]
        file.create_dataset(name, (3, 3, 3, 8), np.float32, chunks=(1, 1, 1, 8))
    refused(path, "contains no values")


def test_weights_of_other_kinds_are_refused(saved: dict[str, bytes], tmp_path: Path) -> None:
    path, name = tmp_path / "kinds.h5", "conv1/conv1/kernel:0"
    for value, reason in (
        (np.zeros((3, 3, 3, 8), np.int8), "expected floating-point weights"),
        (np.zeros((3, 3, 3, 8), np.complex64), "expected floating-point weights"),
        ("text", "wrong shape"),
    ):
        with edited(path, saved["_weights.h5"]) as file:
            del file[name]
            file[name] = value
        refused(path, reason)


def test_an_hdf5_file_without_weights_is_refused(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["measurements"] = np.zeros(3)
    refused(tmp_path / "other.h5", "no Keras weights")


def test_swapped_arrays_are_refused_if_their_shapes_differ(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "swapped.h5"
    with edited(path, saved["_weights.h5"]) as file:
        for a, b in (("conv_pw_1", "conv_pw_9"),):
            first, second = f"{a}/{a}/kernel:0", f"{b}/{b}/kernel:0"
            file.move(first, "spare")
            file.move(second, first)
            file.move("spare", second)
    refused(path, r"(?s)wrong shape: conv_pw_1/kernel.*wrong shape: conv_pw_9/kernel")


def test_a_group_that_contains_itself_is_refused(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "loop.weights.h5"
    with edited(path, saved[".weights.h5"]) as file:
        file["layers/loop/layers"] = file["layers"]
    refused(path, "nested deeper")


def test_code_in_a_model_is_never_executed(saved: dict[str, bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(saved[".keras"])) as source:
        config = json.loads(source.read("config.json"))
    layer = next(layer for layer in config["config"]["layers"] if layer["name"] == "conv1_relu")
    layer["class_name"] = "Lambda"
    layer["config"] = {"name": "conv1_relu", "function": {"class_name": "__lambda__", "config": {"code": "4wEAAA=="}}}
    path = archive(tmp_path / "code.keras", saved[".keras"], config_json=json.dumps(config).encode())
    refused(path, r"conv1_relu \(Lambda\): contains code, which is never executed")


def test_an_invalid_config_is_refused(saved: dict[str, bytes], tmp_path: Path) -> None:
    """Every kind of value in every place of one layer's entry."""
    with zipfile.ZipFile(io.BytesIO(saved[".keras"])) as source:
        text = source.read("config.json")
    index = [layer["name"] for layer in json.loads(text)["config"]["layers"]].index("conv_dw_2")
    nonsenses: tuple[Any, ...] = (None, -1, 10**30, "x", [[]])
    for nonsense in nonsenses:
        for key in ("kernel_size", "strides", "padding", "depth_multiplier", "dilation_rate"):
            config = json.loads(text)
            config["config"]["layers"][index]["config"][key] = nonsense
            path = archive(tmp_path / "nonsense.keras", saved[".keras"], config_json=json.dumps(config).encode())
            read_or_refused(path)  # some are harmless: a dilation of nothing
        for key in ("class_name", "config", "inbound_nodes"):
            config = json.loads(text)
            config["config"]["layers"][index][key] = nonsense
            path = archive(tmp_path / "nonsense.keras", saved[".keras"], config_json=json.dumps(config).encode())
            with pytest.raises(WeightsError, match=r"nonsense\.keras"):
                read_model(path)
