"""The page's arithmetic in Chromium, held against the package: files, shapes, layers, steps, bounds, mistakes."""

import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import npmobilenet as nm
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.bench.random_weights import random_model, sample_images
from npmobilenet.models.model import Model
from npmobilenet.page.compose import FOLDER, SCRIPTS
from npmobilenet.porting.diagnose import diagnose
from npmobilenet.reference.shapes import same_padding, window_output
from npmobilenet.types import Array
from tests.helpers.browsers import npm_package, program

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARITHMETIC = ("file", "shapes", "ops", "network", "steps", "bounds", "linear", "mistakes")
NETWORKS: dict[str, Callable[[], Model]] = {
    "digits": lambda: nm.load("digits"),
    "V1 0.25/128": lambda: random_model(mobilenet_v1(0.25, 128)),
    "V2 0.35/96": lambda: random_model(mobilenet_v2(0.35, 96)),
    "V3-Small": lambda: random_model(mobilenet_v3_small(resolution=64)),
    "V3-Large minimalistic": lambda: random_model(mobilenet_v3_large(resolution=64, minimalistic=True)),
}
MISTAKES = (
    "symmetric-padding", "epsilon", "no-batch-norm", "relu", "flipped-kernel", "transposed-kernel", "stride-phase",
    "input-range", "one-filter",
)  # fmt: skip
HELPERS = """
    const bytesIn = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const packed = ({ shape, data }) => {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      let text = "";
      for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
      return { shape, bits: 8 * data.BYTES_PER_ELEMENT, bytes: btoa(text) };
    };
    async function openModel(file, shape, input) {
      globalThis.model = await readModel(bytesIn(file).buffer);
      globalThis.image = { shape, data: new Float32Array(bytesIn(input).buffer) };
      globalThis.values = trace(model, image);
    }
    const layerNamed = (name) => model.graph.layers.find((layer) => layer.name === name);
    const inputsOf = (layer) => layer.inputs.map((input) => values.get(input));
"""


@pytest.fixture(scope="module")
def page(chromium: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator["Page"]:
    """A file that holds the arithmetic and nothing else, opened in Chromium."""
    code = "".join(FOLDER.joinpath(f"js/{script}.js").read_text(encoding="utf-8") for script in ARITHMETIC)
    path = tmp_path_factory.mktemp("arithmetic") / "arithmetic.html"
    path.write_text(f'<meta charset="utf-8"><script>"use strict";\n{code}\n{HELPERS}</script>', encoding="utf-8")
    tab = chromium.new_page()
    tab.goto(path.as_uri())
    yield tab
    tab.close()


@cache
def network(name: str) -> tuple[Model, Array]:
    """(model, scaled input of one image)."""
    model = NETWORKS[name]()
    return model, sample_images(model, 1)


def open_network(page: "Page", name: str, folder: Path) -> tuple[Model, Array]:
    """Open a network's file in the page and run it there."""
    model, x = network(name)
    model.save(folder / "model.safetensors")
    file = base64.b64encode((folder / "model.safetensors").read_bytes()).decode()
    call = "([file, shape, input]) => openModel(file, shape, input)"
    page.evaluate(call, [file, list(x.shape[1:]), base64.b64encode(x.tobytes()).decode()])
    return model, x


def unpacked(tensor: dict[str, Any]) -> Array:
    numbers = np.frombuffer(base64.b64decode(tensor["bytes"]), f"<f{tensor['bits'] // 8}")
    return numbers.reshape(tensor["shape"])


def values_of(page: "Page", expression: str) -> dict[str, Array]:
    """A Map of tensors by name."""
    found = page.evaluate(f"() => [...{expression}].map(([name, y]) => [name, packed(y)])")
    return {name: unpacked(y) for name, y in found}


def test_the_file_is_read_as_the_package_reads_it(page: "Page", tmp_path: Path) -> None:
    model, _ = open_network(page, "V2 0.35/96", tmp_path)
    arrays = page.evaluate(
        "() => [...model.params].flatMap(([layer, arrays]) => "
        "Object.entries(arrays).map(([array, x]) => [`${layer}/${array}`, packed(x)]))"
    )
    found = {name: unpacked(array) for name, array in arrays}
    assert found.keys() == model.params.keys()
    assert all(np.array_equal(found[name], array) for name, array in model.params.items())
    assert page.evaluate("() => model.graph") == json.loads(json.dumps(model.graph.to_json()))
    assert page.evaluate("() => model.checked")


def test_a_damaged_file_is_refused(page: "Page", tmp_path: Path) -> None:
    from playwright.sync_api import Error

    model, _ = network("digits")
    model.save(tmp_path / "model.safetensors")
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    with pytest.raises(Error, match="the file is damaged"):
        page.evaluate("file => readModel(bytesIn(file).buffer)", base64.b64encode(content).decode())


def test_shapes(page: "Page") -> None:
    cases = [(size, K, stride) for size in range(1, 41) for K in range(1, 8) for stride in (1, 2, 3)]
    found = page.evaluate("cases => cases.map((c) => samePadding(...c))", cases)
    assert found == [list(same_padding(*case)) for case in cases]
    fitting = [(size, K, stride) for size, K, stride in cases if size >= K]
    for padding in ("same", "valid"):
        call = "([cases, padding]) => cases.map(([n, K, s]) => windowOutput([n, n], [K, K], s, padding))"
        expected = [list(window_output((n, n), (K, K), stride, padding)) for n, K, stride in fitting]
        assert page.evaluate(call, [fitting, padding]) == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_within_its_bound(page: "Page", name: str, tmp_path: Path) -> None:
    """Each layer on its own inputs; the page's bound is the package's."""
    model, _ = open_network(page, name, tmp_path)
    values = values_of(page, "values")
    bounds = values_of(
        page,
        "model.graph.layers.slice(1).map((layer) => [layer.name, layerBound(model, layer, inputsOf(layer))])"
        ".filter(([, bound]) => bound)",
    )
    params = {key: array.astype(np.float64) for key, array in model.params.items()}
    for layer in model.graph.layers[1:]:
        inputs = [values[source][None].astype(np.float64) for source in layer.inputs]
        arrays = model.graph.arrays_of(layer, params)
        exact, bound = layer.apply(arrays, *inputs), layer.error_bound(arrays, *inputs)
        assert (np.abs(values[layer.name][None] - exact) <= bound).all(), layer.name
        theirs = bounds[layer.name][None] if layer.name in bounds else np.zeros(bound.shape)
        np.testing.assert_allclose(theirs, bound, rtol=1e-12, atol=0, err_msg=layer.name)


def test_last_sum_of_the_steps_is_the_value_to_the_bit(page: "Page", tmp_path: Path) -> None:
    model, _ = open_network(page, "digits", tmp_path)
    counted = page.evaluate(
        """() => model.graph.layers.filter((layer) => layer.kernel_size).map((layer) => {
          const [x] = inputsOf(layer), kernel = model.params.get(layer.name).kernel;
          const bias = model.params.get(layer.name).bias;
          const y = applyLayer({ ...model, params: new Map([[layer.name, { kernel }]]) }, layer, [x]);
          const [H, W, C] = y.shape;
          let wrong = 0, steps = 0;
          for (let index = 0; index < y.data.length; index++) {
            const at = [Math.floor(index / C / W), Math.floor(index / C) % W, index % C];
            const walk = layer.type === "DepthwiseConv2D" ? depthwiseSteps(x, kernel, layer.stride, layer.padding, at)
              : layer.kernel_size[0] === 1 ? pointwiseSteps(x, kernel, at)
              : convSteps(x, kernel, layer.stride, layer.padding, at);
            let last;
            for (last of walk) steps++;
            const b = bias ? bias.data[index % C] : 0;
            if (!Object.is(last.sum + 0, y.data[index] + 0)) wrong++;
            if (Math.fround(last.sum + b) !== values.get(layer.name).data[index]) wrong++;
          }
          return [layer.name, wrong, steps];
        })"""
    )
    kernels = [layer for layer in model.graph.layers if hasattr(layer, "kernel_size")]
    assert counted == [[layer.name, 0, model.graph.macs_of(layer)] for layer in kernels]


@pytest.mark.parametrize("shape", [(3, 3), (9, 16), (9, 3), (25, 64), (4, 1)])
def test_singular_values_and_least_squares(page: "Page", shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    A = rng.normal(size=shape)
    A[:, -1] = A[:, 0]  # the rank is not full
    found = {key: np.array(part) for key, part in page.evaluate("A => svd(A)", A.tolist()).items()}
    S = np.linalg.svd(A, compute_uv=False)
    np.testing.assert_allclose(found["S"][: len(S)], S, rtol=0, atol=1e-13 * S[0])
    np.testing.assert_allclose(found["U"] * found["S"] @ found["V"].T, A, rtol=0, atol=1e-13 * S[0])
    b = rng.normal(size=shape[0])
    solved = page.evaluate("([A, b]) => leastSquares(A, b)", [A.tolist(), b.tolist()])
    np.testing.assert_allclose(solved, np.linalg.lstsq(A, b)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("only_one", [False, True], ids=["everywhere", "in one layer"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found_where_compare_finds_them(
    page: "Page", mistake: str, only_one: bool, tmp_path: Path
) -> None:
    model, x = open_network(page, "digits", tmp_path)
    page.evaluate(
        """([key, onlyOne]) => {
          const mistake = MISTAKES.find((mistake) => mistake.key === key);
          const places = placesOf(model, mistake);
          const run = (where) => {
            const other = brokenModel(model, mistake, where);
            return trace(other, rescaledInput(image, model, other));
          };
          const matters = (name) => largestDifference(values.get(name), run([name]).get(name)) > 0;
          globalThis.port = run(onlyOne ? [places.find(matters)] : places);
          globalThis.findings = [...judge(model, values, port)];
        }""",
        [mistake, only_one],
    )
    port = {name: y[None] for name, y in values_of(page, "port").items()}
    compared = diagnose(model, x, port)
    findings = page.evaluate("() => findings")
    expected = {finding.layer: finding.status for finding in compared.findings}
    assert {finding["layer"]: finding["status"] for finding in findings} == expected
    first = page.evaluate("() => firstWrong(findings)")
    assert first is not None
    assert compared.first is not None
    assert first == compared.first.layer


def test_mistakes_of_the_page_are_the_nine(page: "Page") -> None:
    assert tuple(page.evaluate("() => MISTAKES.map(({ key }) => key)")) == MISTAKES


def test_the_right_network_is_called_right(page: "Page", tmp_path: Path) -> None:
    open_network(page, "digits", tmp_path)
    assert page.evaluate("() => firstWrong(judge(model, values, values))") is None


def test_types(tmp_path: Path) -> None:
    """The scripts as one program, as the page has them, checked by TypeScript."""
    compiler = npm_package("typescript") / "bin" / "tsc"
    files = [str(FOLDER.joinpath(f"js/{script}.js")) for script in SCRIPTS]
    options = [
        "--allowJs",
        "--checkJs",
        "--strict",
        "--noEmit",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom,dom.iterable",
    ]
    done = subprocess.run(
        [program("node"), str(compiler), *options, *files], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, re.sub(r"(?m)^.*/js/", "", done.stdout)
