"""Views F, G and H: what they compute in the page, against the package and NumPy."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import npmobilenet as nm
from npmobilenet.analysis.memory_plan import plan
from npmobilenet.architectures import mobilenet_v2
from npmobilenet.architectures.builder import Builder
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.ir import Weighted
from npmobilenet.compiler.lowering import lower
from npmobilenet.compiler.passes import fold_batch_norm, scale_and_shift
from npmobilenet.figures.words import LANGUAGES
from npmobilenet.page.block_facts import NETWORKS, block_facts, block_graphs, kernel_weights
from npmobilenet.reference.activations import hard_swish, silu
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Add, BatchNormalization, Multiply, Rescaling
from npmobilenet.reference.shapes import downsampling_padding, make_divisible
from npmobilenet.reference.transforms import with_epsilon
from tests.helpers.browsers import PHONE, Visit, visit
from tests.helpers.real_files import ROOT
from tests.helpers.tolerances import PROBABILITIES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COUNTS = ("macs", "weights", "free", "split")
FLOAT64 = 8 * float(np.finfo(np.float64).eps)  # a square root, a division, two products, a difference: each rounds once
FLOAT32 = float(
    np.finfo(np.float32).eps
)  # rounded once; two float64 values that differ in the last bit round differently
DRAWS = 200
SPIRALS = {2: (0.26, 1), 3: (0.50, 1), 5: (0.82, 1), 8: (0.96, 1), 15: (0.997, 0.1), 30: (0.998, 0.1)}
"""By n: the share of recoverable points that the design states, and its last place in percent."""
ORIGIN = 1 / 400  # the design's spiral begins at the origin, which no row keeps; ours begins one point later
DIGIT = ROOT / "examples" / "digits" / "4.png"


@pytest.fixture(scope="module")
def visited(page_file: Path, chromium: "Browser") -> Iterator[Visit]:
    with visit(chromium, page_file, "#F") as opened:
        yield opened


def test_every_channel_of_digits_has_the_packages_scale_and_shift(visited: Visit) -> None:
    network = nm.load("digits")
    for layer in network.graph.layers:
        if isinstance(layer, BatchNormalization):
            ours = visited.evaluate(
                """([name, epsilon]) => { const p = page.model.params.get(name);
                return Array.from(p.moving_mean.data, (_, c) => scaleAndShift(p, epsilon, c)); }""",
                [layer.name, layer.epsilon],
            )
            scale, shift = scale_and_shift(network.graph.arrays_of(layer, network.params), layer.epsilon)
            np.testing.assert_allclose([row["scale"] for row in ours], scale, rtol=FLOAT64)
            np.testing.assert_allclose(
                [row["shift"] for row in ours], shift, rtol=0, atol=FLOAT64 * np.abs(shift).max()
            )


def test_the_fold_is_the_packages(visited: Visit) -> None:
    network = nm.load("digits")
    folded = fold_batch_norm(lower(network.graph, network.params))
    pairs = [op for op in folded if isinstance(op, Weighted) and len(op.layers) > 1]
    assert len(pairs) == 27
    for op in pairs:
        ours = visited.evaluate(
            """([conv, norm]) => {
            const layer = page.model.graph.layers.find(({ name }) => name === norm);
            const { kernel, bias } = page.model.params.get(conv);
            const folded = foldBatchNorm(kernel, bias, page.model.params.get(norm), layer.epsilon);
            return [Array.from(folded.kernel.data), Array.from(folded.bias.data)]; }""",
            list(op.layers[:2]),
        )
        np.testing.assert_allclose(ours[0], op.kernel.ravel(), rtol=FLOAT32)
        np.testing.assert_allclose(ours[1], op.bias.ravel(), rtol=FLOAT32, atol=FLOAT32 * np.abs(op.bias).max())


def test_the_folded_filter_is_shown(visited: Visit) -> None:
    visited.go("#F?layer=conv_dw_1_bn&channel=5&fold=1")
    network = nm.load("digits")
    scale, _ = scale_and_shift(network.graph.arrays_of(network.graph["conv_dw_1_bn"], network.params), 1e-3)
    w = network.params["conv_dw_1/kernel"][..., 5, 0].ravel() * scale[5]
    shown = visited.evaluate(
        "[...document.querySelectorAll('#f-tables tbody tr')].slice(0, 9).map(row => row.lastChild.textContent)"
    )
    np.testing.assert_allclose([float(text) for text in shown], w, rtol=5e-4)  # four digits are shown
    difference = re.search(r": ([\d.e-]+) \(rounding\)", visited.page.inner_text("#f-tables"))
    assert difference is not None
    assert 0 <= float(difference[1]) < 1e-5


@pytest.mark.parametrize("exponent", [-6, -5, -2, -1])
def test_epsilon_moves_the_channel_and_the_answer_as_in_the_package(visited: Visit, exponent: int) -> None:
    visited.evaluate("usePicture(exampleDigit(4))")
    visited.go(f"#F?layer=conv_dw_1_bn&channel=3&eps={exponent}")
    network = nm.load("digits")
    arrays = network.graph.arrays_of(network.graph["conv_dw_1_bn"], network.params)
    moved = abs(scale_and_shift(arrays, 10.0**exponent)[0][3] / scale_and_shift(arrays, 1e-3)[0][3] - 1)
    changed = with_epsilon(network.graph, 10.0**exponent)
    expected = changed.output(network.params, network.scale(network.pixels(DIGIT)[None]).astype(np.float32))[0]
    ours = visited.evaluate("answerOfChanged(normState())")
    assert ours["index"] == expected.argmax()
    assert abs(ours["probability"] - expected.max()) < PROBABILITIES
    shown = re.search(r"moves this channel by ([\d.]+)%", visited.live())
    assert shown is not None
    assert float(shown[1]) == float(f"{100 * moved:.2g}")
    assert ("stays 4" if expected.argmax() == 4 else f"from 4 to {expected.argmax()}") in visited.live()


def test_f_follows_the_network_that_is_loaded(page_file: Path, chromium: "Browser", tmp_path: Path) -> None:
    random_model(mobilenet_v2(0.35, 96), 0).save(tmp_path / "v2.safetensors")
    file = base64.b64encode((tmp_path / "v2.safetensors").read_bytes()).decode()
    with visit(chromium, page_file, "#F?layer=conv_dw_1_bn&channel=3") as opened:
        opened.evaluate("file => useModel(bytesOf(file))", file)
        options = opened.page.locator("#f-layer option").all_inner_texts()
        assert len(options) == 52
        assert opened.live().startswith("bn_Conv1, channel 3")
        opened.page.select_option("#f-layer select", "block_1_project_BN")  # linear: no activation after it
        assert opened.page.locator("#f-channel figcaption").all_inner_texts()[2] == "After no activation (linear)"


def test_float16_and_its_spacing_are_numpys(visited: Visit) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=2000) * 2.0 ** rng.integers(-28, 17, 2000)
    x = np.concatenate([drawn, np.arange(4096) / 8, [65504, 65519.9, 65520, 1e9]])
    ours = np.array(visited.evaluate("x => Array.from(x, value => String(float16(value)))", x.tolist())).astype(float)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(ours, x.astype(np.float16).astype(float))
    representable = np.abs(x[np.abs(x) < 65504].astype(np.float16))
    spacing = visited.evaluate("x => x.map(float16Spacing)", representable.astype(float).tolist())
    np.testing.assert_array_equal(spacing, np.spacing(representable).astype(float))


def test_derivatives_are_zero_at_the_corners(visited: Visit) -> None:
    x = [-1, 0, 1e-9, 3, 6 - 1e-9, 6, 7]
    assert visited.evaluate("x => x.map(relu6Derivative)", x) == [0, 0, 1, 1, 1, 0, 0]
    assert visited.evaluate("x => x.map(reluDerivative)", x) == [0, 0, 1, 1, 1, 1, 1]


def test_one_layer_in_float16_is_numpys(visited: Visit) -> None:
    network = nm.load("digits")
    x = np.random.default_rng(1).normal(size=(3, 3, 8)).astype(np.float32)
    ours = visited.evaluate(
        """x => { const layer = page.model.graph.layers.find(({ name }) => name === "conv_dw_1_bn");
        return Array.from(inFloat16(layer, { shape: [3, 3, 8], data: Float32Array.from(x) }).data); }""",
        x.ravel().tolist(),
    )
    layer = network.graph["conv_dw_1_bn"]
    arrays = network.graph.arrays_of(layer, network.params)
    halves = {name: values.astype(np.float16).astype(float) for name, values in arrays.items()}
    scale, _ = scale_and_shift(halves, 1e-3)
    y = (x.astype(np.float16).astype(float) - halves["moving_mean"]) * scale + halves["beta"]
    np.testing.assert_array_equal(ours, y.astype(np.float32).astype(np.float16).astype(float).ravel())


@pytest.fixture(scope="module")
def spirals(visited: Visit) -> dict[int, Any]:
    """By n: shares and errors of 200 matrices."""
    rounds = visited.evaluate(
        """([ns, draws]) => ns.map(n => Array.from({ length: draws }, (_, seed) => {
        const { share, error } = thereAndBack(n, seed); return { share, ...error }; }))""",
        [list(SPIRALS), DRAWS],
    )
    return {
        n: {key: np.array([each[key] for each in found]) for key in found[0]}
        for n, found in zip(SPIRALS, rounds, strict=True)
    }


@pytest.mark.parametrize("n", SPIRALS)
def test_recoverable_shares_are_those_of_the_formula_and_the_design(spirals: dict[int, Any], n: int) -> None:
    share = spirals[n]["share"]
    chance = 4 * share.std() / DRAWS**0.5  # four standard errors of the mean
    stated, place = SPIRALS[n]
    assert abs(share.mean() - (1 - (n + 1) / 2**n)) <= chance + 1e-3
    assert abs(share.mean() - stated) <= 2 * chance + ORIGIN + 0.005 * place  # both are means of 200


def test_the_papers_inverse_halves_the_spiral_and_the_best_one_does_not(spirals: dict[int, Any]) -> None:
    assert round(float(np.median(spirals[30]["paper"])), 2) == 0.53
    assert min(spirals[30]["paper"].min(), spirals[15]["paper"].min()) > 0.4
    assert np.median(spirals[30]["linear"]) < 0.01
    assert np.median(spirals[8]["linear"]) == pytest.approx(0.05, abs=0.005)
    assert all((spirals[n]["best"][spirals[n]["share"] == 1] < 1e-9).all() for n in SPIRALS)


@pytest.mark.parametrize("n", [2, 3, 8, 30])
def test_ways_back_are_numpys(visited: Visit, n: int) -> None:
    A, x, y, paper, linear, best = map(np.array, visited.evaluate(
        """n => { const [A, x] = [normalMatrix(n, 7), spiralPoints()]; const y = throughRelu(A, x);
        return [A, x, y, backByPaper(A, y), backByLinear(y, x), backByRows(A, y)]; }""", n))  # fmt: skip
    np.testing.assert_allclose(y, np.maximum(x @ A.T, 0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(paper, y @ np.linalg.pinv(A).T, rtol=0, atol=1e-11)
    features = np.hstack([y, np.ones((len(y), 1))])
    expected = features @ np.linalg.lstsq(features, x, rcond=None)[0]
    np.testing.assert_allclose(linear, expected, rtol=0, atol=1e-9)
    exact = [np.linalg.pinv(A[row > 0]) @ row[row > 0] if (row > 0).any() else np.zeros(2) for row in y]
    np.testing.assert_allclose(best, exact, rtol=0, atol=1e-9)


def test_least_squares_by_reflections_keep_their_digits_where_a_column_points_backwards(visited: Visit) -> None:
    A, B = [[-1.0, 2.0], [0.0, -3.0], [0.0, 0.0], [0.0, 1e-9]], [[1.0], [2.0], [3.0], [4.0]]
    found = visited.evaluate("([A, B]) => leastSquaresByReflections(A, B)", [A, B])
    np.testing.assert_allclose(found, np.linalg.lstsq(A, B, rcond=None)[0], rtol=1e-14)


def test_the_line_of_g_says_what_is_computed(visited: Visit) -> None:
    visited.go("#G?n=15&seed=3&way=linear")
    found = visited.evaluate("thereAndBack(15, 3)")
    assert f"{100 * found['share']:.4g}% of the points" in visited.live()
    assert f"relative error {found['error']['linear']:.2g}" in visited.live()


def block_graph(block: dict[str, Any]) -> Graph:
    """A block of the page as a graph of the package."""
    H, c_in, c_out, K, stride, act = (block[key] for key in ("H", "c_in", "c_out", "K", "stride", "activation"))
    net = Builder("block", (H, H, c_in))

    def unit(
        name: str, filters: int, side: int = 1, step: int = 1, *, depthwise: bool = False, active: bool = True
    ) -> None:
        if step == 2:
            net.zero_pad(f"{name}_pad", downsampling_padding(net.shape[:2], side))
        if depthwise:
            net.depthwise(name, side, step, "valid" if step == 2 else "same")
        else:
            net.conv(name, filters, side, step, "valid" if step == 2 else "same")
        net.bn(f"{name}_bn")
        if active:
            net.activation(act, f"{name}_activation")

    if block["kind"] == "standard":
        unit("conv", c_out, K, stride)
    elif block["kind"] == "v1":
        unit("depthwise", c_in, K, stride, depthwise=True)
        unit("pointwise", c_out)
    else:
        resnet = block["kind"] == "resnet"
        if resnet or block["inner"] != c_in:
            unit("reduce" if resnet else "expand", block["inner"])
        unit("conv" if resnet else "depthwise", block["inner"], K, stride, depthwise=not resnet)
        if block["se"]:
            squeeze_excite(net, block["inner"])
        unit("project", c_out, active=False)
        if stride == 1 and c_in == c_out:
            net.add(Add, "add", inputs=("input_layer", net.last))
        if resnet:
            net.activation(act, "activation")
    return net.graph()


def squeeze_excite(net: Builder, channels: int) -> None:
    entry = net.last
    net.global_pool(keepdims=True)
    net.conv("squeeze", make_divisible(channels / 4), K=1, use_bias=True)
    net.activation("relu", "squeeze_activation")
    net.conv("excite", channels, K=1, use_bias=True)
    net.add(Rescaling, "add_3", scale=1.0, offset=3.0)
    net.activation("relu6", "relu6")
    net.add(Rescaling, "divide_6", scale=1 / 6, offset=0.0)
    net.add(Multiply, "multiply", inputs=(entry, net.last))


def counted(visited: Visit, blocks: list[dict[str, Any]]) -> Any:
    return visited.evaluate(
        """blocks => blocks.map(block => { const { macs, weights, free, split, plans } = blockCost(block);
        return { macs, weights, free, split, lines: [plans.free.live, plans.split.live] }; })""",
        blocks,
    )


def drawn_blocks(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    blocks = []
    for number in range(count):
        kind = ("standard", "v1", "resnet", "v2", "v3")[number % 5]
        choices = ([7, 14, 28, 56], [8, 16, 24, 64], [8, 16, 24, 64], [1, 2, 3, 6])
        H, c_in, c_out, t = (int(rng.choice(values)) for values in choices)
        inner = max(1, round(c_out / t)) if kind == "resnet" else c_in * t
        blocks.append({
            "kind": kind, "H": H, "c_in": c_in, "c_out": c_in if number % 3 == 0 else c_out, "inner": inner,
            "K": int(rng.choice([3, 5, 7])), "stride": int(rng.choice([1, 2])),
            "se": kind == "v3" and bool(rng.integers(2)), "activation": "relu6",
        })  # fmt: skip
    return blocks


def test_any_block_is_counted_and_planned_as_by_the_package(visited: Visit) -> None:
    blocks = drawn_blocks(100)
    for block, ours in zip(blocks, counted(visited, blocks), strict=True):
        graph = block_graph(block)
        plans = [plan(graph, policy) for policy in ("free", "split")]
        expected = [graph.macs, kernel_weights(graph), *(each.peak_bytes for each in plans)]
        assert [ours[key] for key in COUNTS] == expected, block
        assert ours["lines"] == [list(each.live_bytes) for each in plans], block


def test_real_blocks_are_those_of_the_networks_and_the_page_plans_them_alike(visited: Visit) -> None:
    real = block_facts()["real"]
    assert [sum(block["network"] == name for block in real) for name in NETWORKS] == [13, 17, 15, 11]
    graphs = [graph for _, network in NETWORKS.values() for _, graph in block_graphs(network())]
    for block, graph, ours in zip(real, graphs, counted(visited, real), strict=True):
        assert (block["macs"], block["free"]) == (graph.macs, plan(graph, "free").peak_bytes)
        assert [ours[key] for key in COUNTS] == [block[key] for key in COUNTS], block
        assert ours["lines"] == [list(plan(graph, policy).live_bytes) for policy in ("free", "split")], block


def test_the_line_of_h_is_that_of_the_real_block(visited: Visit) -> None:
    visited.go("#H?real=MobileNetV2+2")
    block = next(block for block in block_facts()["real"] if (block["network"], block["number"]) == ("MobileNetV2", 2))
    for key in COUNTS:
        assert f"{block[key]:,}" in visited.live()
    visited.page.locator("#h-controls input[type=range]").first.press("ArrowRight")  # leaves the real block
    assert visited.evaluate("[page.state.real, page.state.H, page.state.t]") == [None, "112", "6"]


def test_tail_pooling_and_h_swish_say_the_seeds_numbers(visited: Visit) -> None:
    visited.go("#H?part=tail")
    assert "35,546,560 | 1,228,800: 34,317,760" in visited.live()
    visited.go("#H?part=pooling")
    assert all(number in visited.live() for number in ("50,176,000", "1,024,000", "49 times"))
    visited.go("#H?part=swish")
    x = np.linspace(-6, 6, 1201)
    assert f"{np.abs(hard_swish(x) - silu(x)).max():.4f}" == "0.1423"
    assert "0.1423 at most (at ±3)" in visited.live()
    assert "0.06918" in visited.live()


@pytest.mark.parametrize("letter", "FGH")
@pytest.mark.parametrize("language", LANGUAGES)
def test_on_a_telephone_every_control_moves_without_error_or_sideways_scrolling(
    page_file: Path, chromium: "Browser", letter: str, language: str
) -> None:
    with visit(chromium, page_file, f"#{letter}?lang={language}", PHONE) as opened:
        for part in ("block", "tail", "pooling", "swish") if letter == "H" else ("",):
            opened.evaluate("part => part && page.set({ part })", part)
            for control in opened.page.locator(f"#view-{letter} .stage :is(input, select)").all():
                if control.is_visible():
                    control.focus()
                    for key in ("Space", "Space") if control.get_attribute("type") == "checkbox" else ("End", "Home"):
                        opened.page.keyboard.press(key)
                        assert opened.live() != ""
            opened.evaluate("part => part && page.set({ part })", part)
            assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
