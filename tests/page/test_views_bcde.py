"""Views B to E: their numbers against the package's and NumPy's."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npmobilenet as nm
from npmobilenet.analysis.separable_cost import SeparableCost
from npmobilenet.page.facts import padded_share
from npmobilenet.reference.convolution import conv2d, depthwise_conv2d, pointwise_conv2d
from npmobilenet.reference.layers import DepthwiseConv2D
from npmobilenet.reference.shapes import same_padding
from tests.helpers.browsers import visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BLOCKS = 500
PRESETS = {  # of view C: standard, separable, and the ratio as the texts print it
    "12 × 12 × 3 → 256, K 5": (1_228_800, 4_800 + 49_152, "0.0439"),
    "112 × 112 × 64 → 128, K 3": (924_844_032, 109_985_792, "0.1189"),
    "14 × 14 × 512 → 512, K 3": (462_422_016, 52_283_392, "0.1131"),
}


def tensor(x: Any) -> dict[str, Any]:
    """An array as the page's functions take it."""
    return {"shape": list(x.shape), "data": x.ravel().tolist()}


def test_counts_equal_the_packages(page_file: Path, chromium: "Browser") -> None:
    draw = np.random.default_rng(0)
    with visit(chromium, page_file, "#C") as visited:
        for H, M, N, K, stride in draw.integers([1, 1, 1, 0, 1], [225, 1025, 1025, 4, 3], (BLOCKS, 5)).tolist():
            block = {"H": H, "M": M, "N": N, "K": 2 * K + 1, "stride": stride, "padding": "same"}
            cost = visited.evaluate("separableCost", block)
            ours = SeparableCost(H, H, M, N, 2 * K + 1, stride)
            assert {**cost["macs"], "separable": cost["separable"]} == ours.macs
            assert {**cost["weights"], "separable": cost["weights"]["depthwise"] + cost["weights"]["pointwise"]} == (
                ours.weights
            )
            assert cost["ratio"] == pytest.approx(float(ours.ratio), rel=1e-15)


def test_counting_while_running_gives_the_same(page_file: Path, chromium: "Browser") -> None:
    block = {"H": 14, "M": 24, "N": 32, "K": 3, "stride": 2, "padding": "same"}
    with visit(chromium, page_file, "#C") as visited:
        counted = visited.evaluate("countedWhileRunning", block)
        cost = visited.evaluate("separableCost", block)
    assert counted == {"depthwise": cost["macs"]["depthwise"], "pointwise": cost["macs"]["pointwise"]}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_show_the_texts_numbers(page_file: Path, chromium: "Browser", preset: str) -> None:
    standard, separable, ratio = PRESETS[preset]
    with visit(chromium, page_file, "#C") as visited:
        visited.page.get_by_label("Preset").select_option(preset)
        assert visited.live().startswith(f"{standard:,} multiply-adds; apart {separable:,}. Ratio {ratio} =")


@settings(max_examples=10)
@given(data=st.data())
def test_both_ways_of_view_b_end_in_the_value_of_the_package(page_file: Path, chromium: "Browser", data: Any) -> None:
    layer = data.draw(st.integers(0, 4))
    with visit(chromium, page_file, f"#B?preset=real&layer={layer}") as visited:
        pair = visited.evaluate("(({x, f, m, stride, padding}) => ({x, f, m, stride, padding}))(currentPair())")
        at = visited.evaluate("valueAt(currentPair())")
        both = visited.evaluate("outputsBothWays(currentPair(), valueAt(currentPair()), 3)")
    x, f, m = (array(pair[name]) for name in ("x", "f", "m"))
    padding: Any = pair["padding"] if isinstance(pair["padding"], str) else tuple(map(tuple, pair["padding"]))
    z = depthwise_conv2d(x[None].astype(np.float64), f.astype(np.float64), stride=pair["stride"], padding=padding)
    exact = pointwise_conv2d(z, m.astype(np.float64))[0, at["i"], at["j"]]
    for value in both:
        assert abs(value["standard"] - exact[value["d"]]) <= value["bound"]
        assert abs(value["separable"] - exact[value["d"]]) <= value["bound"]


def array(value: dict[str, Any]) -> Any:
    """An array of the page's functions."""
    numbers = value["data"]
    flat = [numbers[str(i)] for i in range(len(numbers))] if isinstance(numbers, dict) else numbers
    return np.array(flat, np.float32).reshape(value["shape"])


def test_the_preset_by_hand_is_walked_to_its_last_multiplication_by_keyboard(
    page_file: Path, chromium: "Browser"
) -> None:
    with visit(chromium, page_file, "#B") as visited:
        visited.page.focus("#main")
        total = visited.evaluate("valueAt(currentPair()).totals.separable")
        for _ in range(total):
            visited.page.keyboard.press("Space")
        assert visited.live().startswith(f"{total} of {total} multiplications")
        visited.page.wait_for_function(
            "total => document.getElementById('status').textContent.includes(`${total} of ${total}`)", arg=total
        )


def test_arrows_move_the_window_and_it_is_read_out(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#B?preset=real&pixel=0,8") as visited:
        visited.page.focus("#b-map")
        for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
            visited.page.keyboard.press(key)
            visited.page.focus("#b-map")
        visited.page.keyboard.press("Space")
        visited.page.wait_for_function("document.getElementById('status').textContent.startsWith('Row 1, column 10,')")


@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (3, 3, 3, 8), (1, 1, 2, 4), (5, 5, 1, 3)])
def test_the_nearest_separable_pair_is_numpys(
    page_file: Path, chromium: "Browser", shape: tuple[int, int, int, int]
) -> None:
    w = np.random.default_rng(1).normal(size=shape)
    with visit(chromium, page_file) as visited:
        best = visited.evaluate("bestSeparable", tensor(w))
    K_h, K_w, C, N = shape
    values = np.stack([np.linalg.svd(w[:, :, c].reshape(K_h * K_w, N), compute_uv=False) for c in range(C)])
    np.testing.assert_allclose(best["S"], values, rtol=1e-9)
    assert best["lost"] == pytest.approx(1 - (values[:, 0] ** 2).sum() / (values**2).sum(), rel=1e-9, abs=1e-12)


def test_a_product_of_two_kernels_has_rank_one(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#D?kernel=product") as visited:
        assert set(visited.page.locator("#d-ranks td:last-child").all_inner_texts()) == {"1"}


@pytest.mark.parametrize(("name", "rank"), [("gauss", 1), ("sobel", 1), ("laplace", 2)])
def test_rank_of_the_known_filters(page_file: Path, chromium: "Browser", name: str, rank: int) -> None:
    with visit(chromium, page_file, f"#D?filter={name}") as visited:
        assert visited.evaluate("rankOf(nearestColumnAndRow().S)") == rank


def test_padding_at_the_edge_is_the_packages(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#E?size=16&K=3&stride=2") as visited:
        assert f"in TensorFlow {same_padding(16, 3, 2)}, in PyTorch (1, 1)" in visited.live()
        maps = visited.evaluate("mapsAtTheEdge(3, 2)")
        x = visited.evaluate("Array.from(page.input.data)")
    x = np.array(x, np.float32).reshape(1, 32, 32, 3)[..., :1]
    mean = np.full((3, 3, 1, 1), 1 / 9, np.float32)
    for name, padding in (("right", "same"), ("other", ((1, 1), (1, 1)))):
        np.testing.assert_allclose(array(maps[name])[None], conv2d(x, mean, stride=2, padding=padding), atol=1e-6)


def test_share_of_multiplications_with_the_paddings_zeros() -> None:
    for graph, share in ((nm.load("digits").graph, 0.281), (nm.mobilenet_v1(), 0.046)):
        taps = zeros = 0
        for layer in graph.layers:
            if isinstance(layer, DepthwiseConv2D):
                inside, every = counted_taps(graph, layer)
                taps, zeros = taps + every, zeros + every - inside
        assert padded_share(graph) == zeros / taps
        assert padded_share(graph) == pytest.approx(share, abs=5e-4)


def counted_taps(graph: Any, layer: Any) -> tuple[int, int]:
    """Taps that meet a pixel, and all taps, of a layer: by convolving ones that stand for pixels."""
    source = graph[layer.inputs[0]]
    padded = source.name if not hasattr(source, "padding") else source.inputs[0]
    H, W, C = graph.shapes[padded]
    x = np.ones((1, H, W, 1))
    if padded != source.name:
        x = source.apply({}, x)
    y = depthwise_conv2d(x, np.ones((*layer.kernel_size, 1, 1)), stride=layer.stride, padding=layer.padding)
    return C * int(y.sum()), C * y.size * layer.kernel_size[0] * layer.kernel_size[1]
