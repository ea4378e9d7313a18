"""`compare`, `trace` and `verify` as someone uses them who has ported a quantized network."""

from pathlib import Path

import numpy as np
import pytest

from npmobilenet.porting.integer_pack import IntegerPack
from tests.helpers.command_line import document, run
from tests.helpers.integer_port import ported
from tests.helpers.real_files import real_file
from tests.oracles.litert import LiteRT

NAME = "vww_96_int8.tflite"


@pytest.fixture(scope="module")
def panda() -> Path:
    return real_file("images", "panda.jpg")


@pytest.fixture(scope="module")
def pack(panda: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands") / "pack"
    assert run("trace", panda, "-m", real_file("tflite", NAME), "-o", folder).exit_code == 0
    return folder


def test_a_port_with_a_mistake(pack: Path, tmp_path: Path) -> None:
    """The layer and the mistake in text and JSON; its number leads to the value."""
    opened = IntegerPack.open(pack)
    model = opened.model()
    wrong = model.network.operators[5]
    port = ported(model.network, opened.input(), wrong, "truncation")
    dump = {model.names[operator.outputs[0]]: y for operator, y in port}
    np.savez(tmp_path / "dump.npz", **dump)  # type: ignore[arg-type]
    result = run("compare", pack, tmp_path / "dump.npz")
    assert result.exit_code == 1
    assert "first wrong layer: 5, " in result.stdout
    assert "truncation: a right shift without rounding" in result.stdout
    found = document(run("compare", pack, tmp_path / "dump.npz", "--json"), 1)
    assert found["same"] is False
    assert found["first_wrong"] == model.names[wrong.outputs[0]]
    assert found["cause"] == "truncation"
    first = found["layers"][5]
    at = (*first["at"],)
    assert f"--layer 5 --at {' '.join(map(str, at))}" in result.stdout
    shown = document(run("explain", real_file("tflite", NAME), real_file("images", "panda.jpg"), "--layer", 5,
                         "--at", *at, "--json"))  # fmt: skip
    assert shown["value"] == opened.output(found["first_wrong"])[(0, *at)]
    assert dump[found["first_wrong"]][(0, *at)] == shown["value"] - 1


def test_a_port_in_order_without_names(pack: Path, tmp_path: Path) -> None:
    opened = IntegerPack.open(pack)
    arrays = [opened.output(name) for name in opened.layers]
    np.savez(tmp_path / "dump.npz", **{f"t{k}": y for k, y in enumerate(arrays)})  # type: ignore[arg-type]
    found = document(run("compare", pack, tmp_path / "dump.npz", "--json"))
    assert found["matched"] == "by order and shape"
    assert found["compared"] > 20


def test_a_run_of_litert_and_a_model_in_place_of_a_pack(panda: Path, tmp_path: Path) -> None:
    """The reference kernels follow `tflite`, and what LiteRT runs by default `xnnpack`."""
    file = real_file("tflite", NAME)
    model = IntegerPack.open(traced(panda, tmp_path / "pack")).model()
    x = model.scale(model.pixels(panda)[None])
    for reference, rule, other in ((True, "tflite", "xnnpack"), (False, "xnnpack", "tflite")):
        tensors = LiteRT(file.read_bytes(), reference=reference).tensors(x)
        dump = tmp_path / f"{rule}.npz"
        np.savez(dump, **{model.names[number]: y for number, y in tensors.items()})  # type: ignore[arg-type]
        found = document(run("compare", "-m", file, "-i", panda, dump, "--json"))
        assert rule in found["exact_under"]
        assert other in found["first_different"]
        assert run("compare", "-m", file, "-i", panda, dump, "--rule", other).exit_code == 1


def traced(image: Path, folder: Path) -> Path:
    run("trace", image, "-m", real_file("tflite", NAME), "-o", folder)
    return folder


def test_two_packs(pack: Path, panda: Path, tmp_path: Path) -> None:
    """A pack of another rule is a dump like any other."""
    other = tmp_path / "pack"
    assert run("trace", panda, "-m", real_file("tflite", NAME), "-o", other, "--rule", "single").exit_code == 0
    found = document(run("compare", pack, other, "--json"))
    assert "single" in found["exact_under"]
    assert "tflite" in found["first_different"]
    assert document(run("compare", pack, pack, "--json"))["rule"] == "tflite"


def test_errors(pack: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros((2, 3, 5, 7, 11), np.int8))
    result = run("compare", pack, tmp_path / "other.npz")
    assert result.exit_code == 2
    assert "none of its 1 arrays has the name or the shape of a tensor" in result.stderr
    file = real_file("tflite", NAME)
    assert "--image IMAGE" in run("compare", "-m", file, tmp_path / "other.npz").stderr
    opened = IntegerPack.open(pack)
    np.savez(tmp_path / "dump.npz", **dict(opened.model().trace(opened.input())))  # type: ignore[arg-type]
    assert "unknown rule 'nearest'" in run("compare", pack, tmp_path / "dump.npz", "--rule", "nearest").stderr
    assert run("compare", pack, tmp_path / "dump.npz", "--rule", "tflite").exit_code == 0
