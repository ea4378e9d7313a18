"""Golden data: stored as computed, in every format and layout; corruption is always detected."""

import json
import re
import shutil
import subprocess
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from npmobilenet import architectures
from npmobilenet.errors import ImageError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import UNIT, decode
from npmobilenet.models.resizing import resize_crop
from npmobilenet.porting.golden import GoldenData
from npmobilenet.porting.golden_formats import FORMATS
from npmobilenet.porting.golden_manifest import LAYOUTS, manifest_hash
from npmobilenet.porting.golden_writer import chosen_layers, write_golden_data
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, BatchNormalization, Conv2D, Dense, DepthwiseConv2D, Flatten, Input
from npmobilenet.reference.rounding import depthwise_conv2d_bound
from tests.helpers.command_line import run
from tests.helpers.networks import random_images, random_params
from tests.helpers.real_files import ROOT
from tests.helpers.within import assert_within

SCHEMA = json.loads((ROOT / "npmobilenet" / "data" / "pack.schema.json").read_text(encoding="utf-8"))
gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="compiles C: requires gcc")


def every_kind_of_weight() -> Graph:
    """Kernels of all shapes, biases, two filters per channel; names that are invalid in file systems and languages."""
    return Graph(
        "odd names",
        (
            Input(name="input", shape=(9, 7, 3)),
            Conv2D(name="a/b", inputs=("input",), filters=4, kernel_size=(3, 2), stride=2, padding="same"),
            DepthwiseConv2D(name="a b", inputs=("a/b",), kernel_size=(2, 3), depth_multiplier=2, padding="same"),
            BatchNormalization(name="../BN", inputs=("a b",), center=False),
            Activation(name="../bn", inputs=("../BN",), activation="relu6"),
            DepthwiseConv2D(name="file", inputs=("../bn",), kernel_size=(3, 3), stride=2, padding="same"),
            Conv2D(name="int", inputs=("file",), filters=5, kernel_size=(1, 1), activation="relu"),
            Flatten(name="*/", inputs=("int",)),
            Dense(name="größe", inputs=("*/",), units=2, activation="softmax"),
        ),
    )


GRAPHS = {
    "v1": architectures.mobilenet_v1(alpha=0.25, resolution=(33, 32), classes=3),
    "v3": architectures.mobilenet_v3_small(alpha=0.2, resolution=32, classes=3),
    "odd": every_kind_of_weight(),
}


def model_of(graph: str) -> Model:
    return Model(GRAPHS[graph], random_params(GRAPHS[graph], seed=1), scaling=UNIT)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(5).integers(0, 256, (20, 25, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module", params=list(product(GRAPHS, LAYOUTS)), ids="-".join)
def traced(
    request: pytest.FixtureRequest, photo: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, GoldenData]:
    """A model and its golden data in all formats; not to be changed."""
    graph, layout = request.param
    model = model_of(graph)
    folder = tmp_path_factory.mktemp("packs") / "pack"
    return model, write_golden_data(model, photo, folder, formats=list(FORMATS), layout=layout)


@pytest.fixture
def small_golden(photo: Path, tmp_path: Path) -> GoldenData:
    """Golden data of a few small tensors, in all formats, to be corrupted."""
    return write_golden_data(model_of("odd"), photo, tmp_path / "pack", formats=list(FORMATS), layers=["file", "int"])


def only(pack: GoldenData, form: str) -> GoldenData:
    """The same data, reading one format."""
    return GoldenData(pack.folder, {**pack.manifest, "formats": [form]})


def entry_of(pack: GoldenData, kind: str, name: str) -> dict[str, Any]:
    return next(entry for entry in pack.manifest["tensors"] if (entry["kind"], entry["name"]) == (kind, name))


def test_the_manifest_follows_its_schema(traced: tuple[Model, GoldenData]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads((traced[1].folder / "manifest.json").read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_returns_what_the_reference_computes(traced: tuple[Model, GoldenData], form: str) -> None:
    model, pack = traced[0], only(traced[1], form)
    x = pack.input()
    assert pack.layers == tuple(layer.name for layer in model.graph.layers)
    for (name, y), (_, truth) in zip(model.trace(x), model.trace(x.astype(np.float64)), strict=True):
        np.testing.assert_array_equal(pack.output(name), y, strict=True)
        np.testing.assert_array_equal(pack.reference_float64(name), truth, strict=True)
    assert list(pack.weights) == list(model.graph.param_shapes)
    for name, array in model.params.items():
        np.testing.assert_array_equal(pack.weights[name], array, strict=True)


def test_the_image_is_included_at_each_stage(traced: tuple[Model, GoldenData], photo: Path) -> None:
    model, pack = traced
    H, W, _ = model.graph.input_shape
    assert pack.stages == ("decoded", "resized", "scaled")
    np.testing.assert_array_equal(pack.input("decoded"), decode(photo))
    np.testing.assert_array_equal(pack.input("resized"), resize_crop(decode(photo), H, W))
    np.testing.assert_array_equal(pack.input("scaled"), model.scale(resize_crop(decode(photo), H, W)[None]))


def test_new_golden_data_is_intact(small_golden: GoldenData) -> None:
    assert small_golden.damaged() == []


def test_the_model_of_golden_data_computes_the_same(traced: tuple[Model, GoldenData]) -> None:
    model, pack = traced
    x = pack.input()
    np.testing.assert_array_equal(pack.model().forward(x, backend="reference"), model.forward(x, backend="reference"))
    assert pack.model().scaling == UNIT


def test_sha256_is_that_of_the_raw_file(traced: tuple[Model, GoldenData]) -> None:
    for entry in traced[1].manifest["tensors"]:
        content = (traced[1].folder / "raw" / entry["stored"]["raw"]["file"]).read_bytes()
        assert sha256(content).hexdigest() == entry["sha256"]


def test_no_two_tensors_share_a_file_or_a_symbol(traced: tuple[Model, GoldenData]) -> None:
    entries = traced[1].manifest["tensors"]
    for form in FORMATS:
        places = [json.dumps(entry["stored"][form]) for entry in entries]
        assert len(set(places)) == len(entries)
        files = {entry["stored"][form]["file"] for entry in entries}
        assert len({file.casefold() for file in files}) == len(files)
        for entry in entries:
            file = (traced[1].folder / form / entry["stored"][form]["file"]).resolve()
            assert file.is_relative_to((traced[1].folder / form).resolve())


def grouped_convolution_nchw(x: Any, w: Any, stride: int, padding: Any) -> Any:
    """The definition in the layout of other frameworks: x (N, C, H, W), w (c_out, C / groups, K_h, K_w), in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *map(tuple, padding)))
    c_out, c_in, K_h, K_w = w.shape
    groups = x.shape[1] // c_in
    H, W = (x.shape[2] - K_h) // stride + 1, (x.shape[3] - K_w) // stride + 1
    y = np.zeros((len(x), c_out, H, W))
    for n, d, i, j in np.ndindex(*y.shape):
        group = d // (c_out // groups)
        window = x[n, group * c_in : (group + 1) * c_in, i * stride : i * stride + K_h, j * stride : j * stride + K_w]
        y[n, d, i, j] = (window * w[d]).sum()
    return y


@pytest.mark.parametrize("name", ["a b", "file", "a/b"])
def test_nchw_kernels_are_those_of_a_grouped_convolution(name: str, photo: Path, tmp_path: Path) -> None:
    model = model_of("odd")
    pack = write_golden_data(model, photo, tmp_path / "pack", layout="NCHW")
    layer = model.graph[name]
    entry, kernel = entry_of(pack, "outputs", name), entry_of(pack, "weights", f"{name}/kernel")
    with (
        np.load(pack.folder / "npz" / "outputs.npz") as outputs,
        np.load(pack.folder / "npz" / "weights.npz") as weights,
    ):
        x, y, w, b = outputs[layer.inputs[0]], outputs[name], weights[f"{name}/kernel"], weights[f"{name}/bias"]
    assert (entry["axes"], kernel["axes"]) == ("NCHW", "OIHW")
    z = grouped_convolution_nchw(x, w, entry["stride"], entry["padding"]) + b[:, None, None]
    params = model.graph.arrays_of(layer, model.params)
    bound = layer.error_bound(params, pack.output(layer.inputs[0]))
    assert_within(np.moveaxis(bound, -1, 1), y, z, name)


def test_the_tolerance_is_twice_the_layers_own_bound(traced: tuple[Model, GoldenData]) -> None:
    model, pack = traced
    layer = next(layer for layer in model.graph.layers if isinstance(layer, DepthwiseConv2D))
    x, w, b = pack.output(layer.inputs[0]), pack.weights[f"{layer.name}/kernel"], pack.weights.get(f"{layer.name}/bias")
    bound = depthwise_conv2d_bound(x, w, b, stride=layer.stride, padding=layer.padding)
    np.testing.assert_array_equal(pack.tolerance(layer.name), 2 * bound)
    assert entry_of(pack, "outputs", layer.name)["tolerance"]["given_inputs"] == 2 * bound.max()


def test_another_order_of_sums_is_within_the_tolerance_and_a_swapped_kernel_is_not(
    traced: tuple[Model, GoldenData],
) -> None:
    _, pack = traced
    layer = next(layer for layer in pack.graph.layers if isinstance(layer, Conv2D) and layer.is_pointwise)
    x, w = pack.output(layer.inputs[0]), pack.weights[f"{layer.name}/kernel"][0, 0]
    b = pack.weights.get(f"{layer.name}/bias", np.zeros(w.shape[1], np.float32))
    reversed_sum = sum(x[..., c, None] * w[c] for c in reversed(range(x.shape[-1]))) + b
    if layer.activation == "relu":
        reversed_sum = np.maximum(reversed_sum, 0)
    tolerance = pack.tolerance(layer.name)
    assert (np.abs(reversed_sum - pack.output(layer.name)) <= tolerance).all()
    swapped = x @ w[:, ::-1] + b
    assert (np.abs(swapped - pack.output(layer.name)) > tolerance).mean() > 0.5


def test_measured_errors_are_within_the_tolerance_from_the_image(traced: tuple[Model, GoldenData]) -> None:
    for entry in traced[1].manifest["tensors"]:
        if entry["kind"] == "outputs":
            assert 0 <= entry["measured_error"] <= entry["tolerance"]["given_image"]
            measured = np.abs(traced[1].output(entry["name"]) - traced[1].reference_float64(entry["name"])).max()
            assert entry["measured_error"] == measured


def test_relative_tolerances_refer_to_the_largest_value(traced: tuple[Model, GoldenData]) -> None:
    name = traced[1].layers[1]
    tolerance = entry_of(traced[1], "outputs", name)["tolerance"]
    largest = np.abs(traced[1].reference_float64(name)).max()
    assert tolerance["given_inputs_relative"] == tolerance["given_inputs"] / largest
    assert tolerance["given_image_relative"] == tolerance["given_image"] / largest


def test_the_tolerance_of_the_scaled_image_is_its_own_rounding(small_golden: GoldenData) -> None:
    exact = [Fraction(int(pixel)) / 255 for pixel in small_golden.input("resized").ravel()]
    computed = [Fraction(float(value)) for value in small_golden.input("scaled").ravel()]
    allowed = entry_of(small_golden, "image", "scaled")["tolerance"]["given_inputs"]
    worst = max(abs(a - b) for a, b in zip(exact, computed, strict=True))
    assert 0 < worst <= allowed < 1e-6


def test_chosen_layers_include_their_weights_and_inputs(photo: Path, tmp_path: Path) -> None:
    model = model_of("v3")
    pack = write_golden_data(model, photo, tmp_path / "pack", layers=["expanded_conv_1_depth*", "*_squeeze_excite_mul"])
    chosen = pack.manifest["chosen"]
    assert "expanded_conv_1_depthwise" in chosen
    assert "expanded_conv_squeeze_excite_mul" in chosen
    read = {name for layer in chosen for name in model.graph[layer].inputs}
    assert set(pack.layers) == set(chosen) | read
    assert {name.partition("/")[0] for name in pack.weights} == {
        layer for layer in chosen if model.graph.param_shapes_of(model.graph[layer])
    }
    for name in chosen:
        layer = model.graph[name]
        params = {array: pack.weights[f"{name}/{array}"] for array in model.graph.param_shapes_of(layer)}
        y = layer.apply(params, *map(pack.output, layer.inputs))
        np.testing.assert_array_equal(y, pack.output(name))
    with pytest.raises(WeightsError, match="missing: conv/kernel"):
        pack.model()
    with pytest.raises(WeightsError, match="not among the chosen"):
        pack.tolerance(next(iter(read - set(chosen))))


def test_a_pattern_without_a_match_is_reported_with_the_closest_names(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(NpMobileNetError, match=r"'conv_dw_1x'; did you mean .*conv_dw_1"):
        write_golden_data(model_of("v1"), photo, tmp_path / "pack", layers=["conv1", "conv_dw_1x"])
    assert not (tmp_path / "pack").exists()


def test_chosen_layers_are_unique_and_in_the_order_of_the_graph() -> None:
    names = chosen_layers(GRAPHS["v1"], ["conv_dw_*", "conv1*", "conv_dw_1"])
    order = [layer.name for layer in GRAPHS["v1"].layers]
    assert all(order.index(a) < order.index(b) for a, b in pairwise(names))


def test_scaled_arrays_give_golden_data_without_pixels(tmp_path: Path) -> None:
    model = model_of("v1")
    x = random_images(model.graph, seed=3, N=2)
    pack = write_golden_data(model, x.astype(np.float64), tmp_path / "pack", layers=["conv1"], layout="NCHW")
    assert pack.stages == ("scaled",)
    np.testing.assert_array_equal(pack.input(), x, strict=True)
    assert pack.output("conv1").shape[0] == 2
    jsonschema.validate(dict(pack.manifest), SCHEMA)


def test_images_of_another_size_have_the_padding_of_that_size(tmp_path: Path) -> None:
    graph = architectures.mobilenet_v2(alpha=0.35, resolution=32, include_top=False)
    model = Model(graph, random_params(graph, seed=1))
    x = random_images(graph.with_input(37, 50), seed=3)
    pack = write_golden_data(model, x, tmp_path / "pack", layers=["Conv1"])
    assert pack.graph.input_shape == (37, 50, 3)
    assert entry_of(pack, "outputs", "Conv1")["padding"] == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    "x", [np.zeros((1, 33, 32, 3), np.int64), np.zeros((33, 32, 3)), np.zeros((0, 33, 32, 3)), np.zeros((1, 33, 32, 4))]
)
def test_arrays_of_the_wrong_shape_or_dtype_are_refused(x: Any, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"expected|needed"):
        write_golden_data(model_of("v1"), x, tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_and_layouts_are_refused(photo: Path, tmp_path: Path) -> None:
    refused: list[dict[str, Any]] = [
        {"formats": ["npz", "xml"]}, {"formats": []}, {"formats": ["c", "c"]}, {"layout": "CHWN"},
    ]  # fmt: skip
    for options in refused:
        with pytest.raises(NpMobileNetError, match=r"of npz|of NHWC"):
            write_golden_data(model_of("odd"), photo, tmp_path / "pack", **options)
    with pytest.raises(ImageError, match="unknown resize 'magic'"):
        write_golden_data(model_of("odd"), photo, tmp_path / "pack", resize="magic")
    with pytest.raises(ImageError, match="no such file"):
        write_golden_data(model_of("odd"), tmp_path / "none.png", tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_only_golden_data_is_overwritten_and_only_on_request(photo: Path, tmp_path: Path) -> None:
    model, folder = model_of("odd"), tmp_path / "pack"
    write_golden_data(model, photo, folder, layers=["file"])
    with pytest.raises(NpMobileNetError, match="already"):
        write_golden_data(model, photo, folder, layers=["int"])
    assert "int" not in GoldenData.open(folder).layers
    write_golden_data(model, photo, folder, layers=["int"], overwrite=True)
    assert "int" in GoldenData.open(folder).layers
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(NpMobileNetError, match="not golden data"):
        write_golden_data(model, photo, tmp_path / "thesis", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack", "thesis"]


def test_a_failed_write_leaves_the_previous_data_and_nothing_else(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = model_of("odd"), tmp_path / "pack"
    write_golden_data(model, photo, folder)

    def full(*_: object) -> Any:
        raise OSError("No space left on device")

    monkeypatch.setitem(FORMATS, "raw", FORMATS["raw"]._replace(write=full))
    with pytest.raises(OSError, match="No space"):
        write_golden_data(model, photo, folder, formats=["npz", "raw"], overwrite=True)
    assert GoldenData.open(folder).damaged() == []
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_nan_and_infinity_are_stored(tmp_path: Path) -> None:
    graph = GRAPHS["odd"]
    params = random_params(graph, seed=1)
    params["a/b/bias"][:2] = np.inf, -np.inf
    params["../BN/gamma"][5] = -np.nan
    with np.errstate(all="ignore"):
        model = Model(graph, params)
        x = random_images(graph, seed=2)
        pack = write_golden_data(model, x, tmp_path / "pack", formats=list(FORMATS))
        assert pack.damaged() == []
        jsonschema.validate(json.loads((pack.folder / "manifest.json").read_text(encoding="utf-8")), SCHEMA)
        assert entry_of(pack, "outputs", "a/b")["tolerance"]["given_inputs"] is None
        for form in FORMATS:
            for name, y in model.trace(x):
                np.testing.assert_array_equal(only(pack, form).output(name), y)


def with_one_number_changed(content: bytes, form: str, values: Any) -> bytes:
    """The file with another digit in its last number, or another bit in the last number of `values`."""
    if form in ("c", "readmemh"):
        (*_, last) = re.finditer(rb"[0-9a-f](?=\s)" if form == "readmemh" else rb"\d(?=\.|\s*})", content)
        digit = b"7" if last.group() != b"7" else b"6"
        return content[: last.start()] + digit + content[last.end() :]
    end = content.index(values.tobytes()) + values.nbytes
    return content[: end - 1] + bytes([content[end - 1] ^ 1]) + content[end:]


@pytest.mark.parametrize("form", FORMATS)
def test_a_changed_number_in_any_tensor_is_detected_and_the_tensor_named(small_golden: GoldenData, form: str) -> None:
    for entry in small_golden.manifest["tensors"]:
        path = small_golden.folder / form / entry["stored"][form]["file"]
        values = small_golden._stored(entry["kind"], entry["name"], form)
        intact = path.read_bytes()
        path.write_bytes(with_one_number_changed(intact, form, values))
        problems = [
            problem for problem in small_golden.damaged() if f"{entry['kind']}/{entry['name']} ({form})" in problem
        ]
        assert len(problems) == 1, f"{entry['kind']}/{entry['name']} in {path.name}"
        path.write_bytes(intact)
    assert small_golden.damaged() == []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kept", [0, 0.5, None], ids=["empty", "half", "gone"])
def test_a_truncated_or_missing_file_is_a_weights_error(
    small_golden: GoldenData, form: str, kept: float | None
) -> None:
    path = small_golden.folder / form / entry_of(small_golden, "outputs", "file")["stored"][form]["file"]
    content = path.read_bytes()
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeightsError, match=rf"outputs/file \({form}\)"):
        only(small_golden, form).output("file")


def rewritten(pack: GoldenData, **changes: Any) -> GoldenData:
    """The data with another manifest, with a valid hash."""
    manifest = {**pack.manifest, **changes}
    manifest["sha256"] = manifest_hash(manifest)
    (pack.folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return GoldenData.open(pack.folder)


def test_a_manifest_cannot_refer_to_files_outside_its_folder(small_golden: GoldenData, tmp_path: Path) -> None:
    entry = dict(entry_of(small_golden, "outputs", "file"))
    secret = tmp_path / "secret.f32"
    secret.write_bytes((small_golden.folder / "raw" / entry["stored"]["raw"]["file"]).read_bytes())
    entry["stored"] = {"raw": {"file": "../../secret.f32"}}
    pack = rewritten(small_golden, tensors=[entry], formats=["raw"])
    with pytest.raises(WeightsError, match="outside the folder"):
        pack.output("file")


@pytest.mark.parametrize(
    "changes",
    [
        {"tensors": [{"kind": "outputs"}]},
        {"tensors": 3},
        {"graph": {"name": "x", "layers": []}},
        {"formats": []},
        {"chosen": None, "layout": None, "model": {}},
    ],
    ids=str,
)
def test_an_invalid_manifest_is_refused(small_golden: GoldenData, changes: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        rewritten(small_golden, **changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pack_format": 2}', "[" * 100_000, "\xff"])
def test_a_manifest_that_is_not_one_is_refused(small_golden: GoldenData, text: str) -> None:
    (small_golden.folder / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        GoldenData.open(small_golden.folder)


def test_a_changed_manifest_is_detected(small_golden: GoldenData) -> None:
    path = small_golden.folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"stride": 2', '"stride": 1', 1), encoding="utf-8")
    with pytest.raises(WeightsError, match="corrupt or was edited"):
        GoldenData.open(small_golden.folder)


def test_a_folder_without_golden_data_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(WeightsError, match="not golden data"):
            GoldenData.open(folder)


def test_a_missing_layer_is_reported_with_the_closest_name(small_golden: GoldenData) -> None:
    with pytest.raises(WeightsError, match="outputs/fil is not included; did you mean file"):
        small_golden.output("fil")


def test_readmemh_lines_are_ieee_754_words(small_golden: GoldenData) -> None:
    entry = entry_of(small_golden, "outputs", "file")
    lines = (small_golden.folder / "readmemh" / entry["stored"]["readmemh"]["file"]).read_text().splitlines()
    values = small_golden.output("file").ravel()
    assert lines[0].startswith("//")
    assert lines[1:] == [f"{bits:08x}" for bits in values.view(np.uint32)]


def test_plain_numpy_reads_the_npz_by_layer_name(small_golden: GoldenData) -> None:
    with np.load(small_golden.folder / "npz" / "outputs.npz") as outputs:
        assert set(outputs) == set(small_golden.layers)
        np.testing.assert_array_equal(outputs["file"], small_golden.output("file"))


@gcc
def test_the_c_arrays_compile_without_a_warning_and_are_bit_exact(small_golden: GoldenData, tmp_path: Path) -> None:
    entries = small_golden.manifest["tensors"]
    symbols = [entry["stored"]["c"]["key"] for entry in entries]
    writes = "\n".join(f"    fwrite({symbol}, sizeof {symbol}, 1, stdout);" for symbol in symbols)
    main = tmp_path / "main.c"
    main.write_text(f'#include <stdio.h>\n#include "pack.h"\n\nint main(void) {{\n{writes}\n    return 0;\n}}\n')
    sources = [str(small_golden.folder / "c" / entry["stored"]["c"]["file"]) for entry in entries]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{small_golden.folder / 'c'}"]
    subprocess.run(["gcc", *flags, str(main), *sources, "-o", str(tmp_path / "main")], check=True)
    written = subprocess.run([str(tmp_path / "main")], check=True, capture_output=True).stdout
    files = [small_golden.folder / "raw" / entry["stored"]["raw"]["file"] for entry in entries]
    assert written == b"".join(file.read_bytes() for file in files)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/read_pack.c, compiled so that every operation is rounded on its own."""
    if shutil.which("gcc") is None:
        pytest.skip("compiles C: requires gcc")
    program = tmp_path_factory.mktemp("reader") / "read_pack"
    flags = ["-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(["gcc", *flags, str(ROOT / "examples" / "read_pack.c"), "-o", str(program), "-lm"], check=True)
    return program


@pytest.fixture(scope="module")
def raw_golden(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> GoldenData:
    return write_golden_data(model_of("v1"), photo, tmp_path_factory.mktemp("raw") / "pack", formats=["raw"])


@pytest.mark.parametrize("layer", [f"conv_dw_{block}" for block in range(1, 14)])
def test_the_reader_in_c_computes_depthwise_layers_bit_exactly(
    reader: Path, raw_golden: GoldenData, layer: str
) -> None:
    done = subprocess.run([str(reader), str(raw_golden.folder), layer], capture_output=True, text=True, check=False)
    size = raw_golden.output(layer).size
    assert done.returncode == 0, done
    assert f"{size} of {size} values equal to the bit" in done.stdout


def test_the_reader_in_c_detects_a_single_value_outside_the_tolerance(
    reader: Path, raw_golden: GoldenData, tmp_path: Path
) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(raw_golden.folder, folder)
    entry = entry_of(raw_golden, "outputs", "conv_dw_2")
    path = folder / "raw" / entry["stored"]["raw"]["file"]
    values = np.frombuffer(path.read_bytes(), "<f4").copy()
    for change, code in ((0.5, 0), (2.0, 1), (np.nan, 1)):
        changed = values.copy()
        changed[100] += change * entry["tolerance"]["given_inputs"]
        path.write_bytes(changed.tobytes())
        done = subprocess.run([str(reader), str(folder), "conv_dw_2"], capture_output=True, text=True, check=False)
        assert done.returncode == code, done
        assert f"{values.size - 1} of {values.size} values equal" in done.stdout


def test_the_reader_in_c_refuses_other_layers_and_layouts(
    reader: Path, raw_golden: GoldenData, tmp_path: Path, photo: Path
) -> None:
    nchw = write_golden_data(model_of("v1"), photo, tmp_path / "nchw", formats=["raw"], layout="NCHW")
    asked = [
        (raw_golden.folder, "conv1"),
        (raw_golden.folder, "none"),
        (tmp_path, "conv_dw_1"),
        (nchw.folder, "conv_dw_1"),
    ]
    for folder, layer in asked:
        done = subprocess.run([str(reader), str(folder), layer], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("read_pack: ")


def test_the_page_shows_what_the_reader_in_c_prints(reader: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    assert run("trace", ROOT / "examples/digits/7.png", "-m", "digits", "-o", folder, "--format", "raw")[0] == 0
    printed = subprocess.run([str(reader), str(folder), "conv_dw_1"], capture_output=True, text=True, check=True).stdout
    assert f"```text\n{printed}```" in (ROOT / "docs" / "trace.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "v1.safetensors"
    model_of("v1").save(path)
    return path


def test_the_command_writes_golden_data(model_file: Path, photo: Path, tmp_path: Path) -> None:
    options = ["--format", "raw,npz", "--layers", "conv1", "--layers", "conv_dw_?", "--layout", "NCHW", "--json"]
    code, out, _ = run("trace", photo, "-m", model_file, "-o", tmp_path / "pack", *options)
    document = json.loads(out)
    pack = GoldenData.open(document["pack"])
    assert code == 0
    assert pack.manifest["chosen"] == ["conv1", *(f"conv_dw_{block}" for block in range(1, 10))]
    assert (document["layers"], document["formats"], document["layout"]) == (20, ["raw", "npz"], "NCHW")
    assert document["bytes"] == sum(path.stat().st_size for path in pack.folder.rglob("*") if path.is_file())
    assert pack.manifest["image"] == {"source": "photo.png", "resize": "crop"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": "none.png"}, "none.png"),
        ({"--format": "xml"}, "xml"),
        ({"--layers": "nothing"}, "nothing"),
        ({"--layout": "CHWN"}, "CHWN"),
        ({"-m": "none.safetensors"}, "none.safetensors"),
    ],
    ids=str,
)
def test_an_impossible_request_is_reported_with_exit_code_2(
    changed: dict[str, str], message: str, model_file: Path, photo: Path, tmp_path: Path
) -> None:
    options = {"-m": model_file, "-o": tmp_path / "pack"} | {k: v for k, v in changed.items() if k != "image"}
    arguments = [part for option in options.items() for part in option]
    code, out, err = run("trace", changed.get("image", photo), *arguments, "--json")
    assert code == 2
    assert message in json.loads(out)["error"]
    assert err.startswith("npmobilenet: ")
    assert not (tmp_path / "pack").exists()
