"""Golden data of quantized networks: stored as computed, damage always detected, read by C and Verilog to the bit."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from npmobilenet import load
from npmobilenet.errors import NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.porting.golden import GoldenData
from npmobilenet.porting.golden_formats import FORMATS
from npmobilenet.porting.golden_manifest import manifest_hash
from npmobilenet.porting.integer_pack import IntegerPack
from npmobilenet.porting.integer_pack_writer import write_integer_pack
from npmobilenet.quantized.network_json import network_arrays, network_to_json
from npmobilenet.quantized.rules import RULES
from npmobilenet.types import Array
from tests.helpers.command_line import document, run
from tests.helpers.real_files import ROOT, real_file

SCHEMA = json.loads((ROOT / "npmobilenet" / "data" / "integer_pack.schema.json").read_text(encoding="utf-8"))
FILES = ("vww_96_int8", "mobilenet_v1_0.25_128_quant", "mobilenet_v3_small_1.0_224_uint8")
SUMS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def rounded_by_hand(acc: Array, q: Array, s: Array) -> Array:
    """acc q 2^-31 2^-s: halves up, then halves away from zero."""
    high = (acc * 2 ** np.maximum(-s, 0) * q + 2**30) // 2**31
    divisor = 2 ** np.maximum(s, 0)
    return np.asarray(np.sign(high) * ((np.abs(high) + divisor // 2) // divisor))


def quantized(name: str, rule: str = "tflite") -> QuantizedModel:
    model = load(real_file("tflite", f"{name}.tflite"))
    assert isinstance(model, QuantizedModel)
    return model.changed(rule=rule)


@pytest.fixture(scope="module")
def panda() -> Path:
    return real_file("images", "panda.jpg")


@pytest.fixture(scope="module")
def pack(panda: Path, tmp_path_factory: pytest.TempPathFactory) -> IntegerPack:
    """A part of a small network in every format."""
    model = quantized(FILES[0])
    folder = tmp_path_factory.mktemp("all") / "pack"
    return write_integer_pack(
        model, panda, folder, formats=list(FORMATS), layers=[*model.layer_names[20:26], "Identity*"]
    )


@pytest.fixture(scope="module", params=FILES)
def any_pack(request: pytest.FixtureRequest, panda: Path, tmp_path_factory: pytest.TempPathFactory) -> IntegerPack:
    return write_integer_pack(quantized(request.param), panda, tmp_path_factory.mktemp("one") / "pack")


def test_every_integer_is_that_of_the_model(any_pack: IntegerPack) -> None:
    model = any_pack.model()
    made = dict(model.trace(any_pack.input()))
    assert list(made) == list(any_pack.layers)
    for name, y in made.items():
        stored = any_pack.output(name)
        assert stored.dtype == y.dtype
        assert np.array_equal(stored, y)
    assert any_pack.damaged() == any_pack.differing() == []


def test_outputs_follow_from_accumulators_multipliers_and_shifts(any_pack: IntegerPack) -> None:
    """As a port computes them, rounded in two steps."""
    checked = 0
    for (kind, name), entry in any_pack.entries.items():
        if kind != "outputs" or entry["type"] not in SUMS:
            continue
        acc, q, s = (any_pack.read(part, name).astype(np.int64) for part in ("accumulators", "multipliers", "shifts"))
        y = np.clip(rounded_by_hand(acc, q, s) + entry["zero_point"], *entry["limits"])
        assert np.array_equal(y, any_pack.output(name)), name
        checked += 1
    assert checked > 20


def test_the_network_comes_back(any_pack: IntegerPack, panda: Path) -> None:
    name = any_pack.manifest["model"]["name"]
    original, back = quantized(name), any_pack.model()
    assert network_to_json(back.network) == network_to_json(original.network)
    arrays = network_arrays(back.network)
    assert all(np.array_equal(arrays[key], values) for key, values in network_arrays(original.network).items())
    assert back.scaling == original.scaling


def test_manifest_and_formats(pack: IntegerPack) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads((pack.folder / "manifest.json").read_text(encoding="utf-8")), SCHEMA)
    assert pack.damaged() == []


@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule: str, panda: Path, tmp_path: Path) -> None:
    """A pack holds what its rule computes; the factors of rules in floating point are real numbers."""
    written = write_integer_pack(quantized(FILES[0], rule), panda, tmp_path / "pack")
    assert written.rule == written.model().rule == rule
    assert written.differing() == []
    in_reals = RULES[rule].convolution in ("float32", "mantissa")
    layer = written.layers[0]
    assert (("factors", layer) in written.entries) == in_reals
    assert (("multipliers", layer) in written.entries) != in_reals
    jsonschema.validate(dict(written.manifest), SCHEMA)


def test_chosen_layers_with_what_they_read(panda: Path, tmp_path: Path) -> None:
    model = quantized(FILES[0])
    chosen = model.layer_names[3]
    written = write_integer_pack(model, panda, tmp_path / "pack", layers=[chosen.replace("[", "[[]")])
    assert written.layers == model.layer_names[2:4]
    assert [name for kind, name in written.entries if kind == "accumulators"] == [chosen]
    assert written.differing() == []


@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_detected_in_every_format(form: str, pack: IntegerPack, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(pack.folder, folder)
    name = pack.layers[3]
    file = folder / form / pack.entries["outputs", name]["stored"][form]["file"]
    data = bytearray(file.read_bytes())
    places = range(len(data) - 200, len(data) - 2) if form in ("npz", "safetensors", "raw") else [data.rindex(b"1")]
    for place in places:
        data[place] = ord("2") if form in ("c", "readmemh") else data[place] ^ 1
    file.write_bytes(data)
    assert IntegerPack.open(folder).damaged()
    result = run("verify", folder)
    assert result.exit_code == 1
    assert "corrupt" in result.stdout


def test_integers_that_do_not_follow_are_found(pack: IntegerPack, tmp_path: Path) -> None:
    """A pack whose hashes are right, but whose rule is not."""
    folder = tmp_path / "pack"
    shutil.copytree(pack.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8")) | {"rule": "single"}
    manifest["sha256"] = manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    different = IntegerPack.open(folder).differing()
    assert pack.layers[0] in different
    assert document(run("verify", folder, "--json"), 1)["self_check"]["first_differing"] == different[0]
    assert run("verify", pack.folder).exit_code == 0


def test_damaged_manifests_raise_only_our_error(pack: IntegerPack, tmp_path: Path) -> None:
    text = (pack.folder / "manifest.json").read_text(encoding="utf-8")
    values: tuple[object, ...] = (None, [], {}, 3, "x")
    for key in ("network", "quantization", "tensors", "rule", "formats", "model"):
        for value in values:
            manifest = json.loads(text) | {key: value}
            manifest["sha256"] = manifest_hash(manifest)
            (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
            with pytest.raises(NpMobileNetError):
                IntegerPack.open(tmp_path).model()


def test_errors_say_what_came(pack: IntegerPack, panda: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected 1, got 2, golden data of a quantized network"):
        GoldenData.open(pack.folder)
    with pytest.raises(WeightsError, match="did you mean"):
        pack.output(pack.layers[0][:-1])
    with pytest.raises(ShapeError, match=r"expected int8 \(1, 96, 96, 3\), got float32"):
        write_integer_pack(quantized(FILES[0]), np.zeros((1, 96, 96, 3), np.float32), tmp_path / "pack")
    assert run("trace", panda, "-m", real_file("tflite", f"{FILES[0]}.tflite"), "-o", tmp_path / "pack",
               "--layout", "NCHW").exit_code == 2  # fmt: skip
    assert not (tmp_path / "pack").exists()


def test_the_command_writes_a_pack(panda: Path, tmp_path: Path) -> None:
    file = real_file("tflite", f"{FILES[0]}.tflite")
    told = document(run("trace", panda, "-m", file, "-o", tmp_path / "pack", "--rule", "single", "--json"))
    assert told["rule"] == IntegerPack.open(tmp_path / "pack").rule == "single"
    assert told["layers"] == 31


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/read_integer_pack.c, compiled."""
    if shutil.which("cc") is None:
        pytest.skip("compiles C: requires cc")
    program = tmp_path_factory.mktemp("reader") / "read_integer_pack"
    flags = [
        "-std=c11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "-fsanitize=undefined",
        "-fno-sanitize-recover",
    ]
    source = ROOT / "examples" / "read_integer_pack.c"
    subprocess.run(["cc", *flags, str(source), "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="module", params=[(FILES[0], "tflite"), (FILES[0], "single"), (FILES[1], "tflite")])
def raw_pack(request: pytest.FixtureRequest, panda: Path, tmp_path_factory: pytest.TempPathFactory) -> IntegerPack:
    model = quantized(*request.param)
    return write_integer_pack(model, panda, tmp_path_factory.mktemp("raw") / "pack", formats=["raw"])


def test_the_reader_in_c_computes_every_depthwise_layer_to_the_bit(reader: Path, raw_pack: IntegerPack) -> None:
    depthwise = [entry for entry in raw_pack.entries.values() if entry.get("type") == "DEPTHWISE_CONV_2D"]
    assert len(depthwise) == 13
    for entry in depthwise:
        n = np.prod(entry["shape"])
        done = subprocess.run(
            [str(reader), str(raw_pack.folder), str(entry["operator"])], capture_output=True, text=True, check=True
        )
        assert f"{n} of {n} accumulators and {n} of {n} values equal to the bit" in done.stdout


def test_the_reader_in_c_sees_one_wrong_value(reader: Path, raw_pack: IntegerPack, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(raw_pack.folder, folder)
    entry = raw_pack.entries["outputs", raw_pack.layers[1]]
    file = folder / "raw" / entry["stored"]["raw"]["file"]
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    done = subprocess.run([str(reader), str(folder), "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{len(data) - 1} of {len(data)} values" in done.stdout
    for place, number in ((folder, "0"), (folder, "99"), (tmp_path, "1")):
        done = subprocess.run([str(reader), str(place), number], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("read_integer_pack: ")


def iverilog() -> str:
    """Icarus Verilog; the test is skipped without it, or fails where it must be there, as in CI."""
    found = shutil.which("iverilog")
    if found is None:
        message = "simulates Verilog: apt-get install iverilog"
        if os.environ.get("NPMOBILENET_NEED_IVERILOG") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return str(found)


@pytest.mark.parametrize(("name", "number"), [(FILES[0], 23), (FILES[0], 24), (FILES[1], 23)])
def test_the_test_bench_in_verilog(name: str, number: int, panda: Path, tmp_path: Path) -> None:
    """A depthwise and a pointwise layer of int8, a depthwise one of uint8; then one wrong value is seen."""
    compiler = iverilog()
    written = write_integer_pack(quantized(name), panda, tmp_path / "pack", formats=["readmemh"])
    folder = written.folder / "readmemh"
    source = ROOT / "examples" / "convolution_testbench.v"
    command = [compiler, "-g2005", "-Wall", "-Wno-timescale", f"-I{folder}", f'-DLAYER="windows/{number}.vh"']
    made = subprocess.run(
        [*command, "-o", str(tmp_path / "layer"), str(source)], capture_output=True, text=True, check=True
    )
    assert made.stderr == ""
    entry = written.entries["outputs", written.layers[number]]
    n = int(np.prod(entry["shape"]))
    assert simulated(tmp_path / "layer", folder) == f"{n} of {n} accumulators and {n} of {n} values equal to the bit"
    file = folder / entry["stored"]["readmemh"]["file"]
    words = file.read_text(encoding="ascii").split("\n")
    words[7] = f"{int(words[7], 16) ^ 1:02x}"
    file.write_text("\n".join(words), encoding="ascii")
    assert f"{n - 1} of {n} values" in simulated(tmp_path / "layer", folder)


def simulated(program: Path, folder: Path) -> str:
    """What a compiled test bench prints about a pack."""
    done = subprocess.run(["vvp", str(program)], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]
