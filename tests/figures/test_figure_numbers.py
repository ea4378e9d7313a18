"""Numbers of the figures: against the formulas, the cost and memory modules, the published figures, and Keras."""

import json
import re
import subprocess
import sys
from fractions import Fraction
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.analysis.conventions import conventions_table
from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.memory_plan import POLICIES, memory_table
from npmobilenet.analysis.paper_tables import V1_TABLE_1
from npmobilenet.analysis.published import accuracies, figures
from npmobilenet.analysis.recounts import recount
from npmobilenet.analysis.rounding_growth import error_growth
from npmobilenet.analysis.separable_cost import SeparableCost, count_multiplications
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large
from npmobilenet.detection.box_coder import decode_tensorflow
from npmobilenet.errors import NpMobileNetError
from npmobilenet.figures import ladder_figure
from npmobilenet.figures.activation_figures import spirals_data
from npmobilenet.figures.block_figures import residual_graph, residuals_data
from npmobilenet.figures.detection_figures import anchors_data, encode
from npmobilenet.figures.edge_figures import padding_data, window_data
from npmobilenet.figures.figure_catalog import FIGURES
from npmobilenet.figures.filter_figures import both_ways_data, filters_data
from npmobilenet.figures.normalization_figures import example_input, squeeze_excite_data
from npmobilenet.figures.published_points import SLIM, SLIM_V1, pareto
from npmobilenet.hub.load import load
from npmobilenet.hub.published_models import KNOWN_MODELS
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D
from tests.helpers.real_files import ROOT, real_file
from tests.oracles.slow_postprocessing import overlap


@cache
def numbers(name: str) -> dict[str, Any]:
    return FIGURES[name].data()


@pytest.mark.parametrize("name", FIGURES)
def test_data_are_plain_finite_numbers(name: str) -> None:
    assert json.loads(json.dumps(numbers(name), allow_nan=False)) == numbers(name)


def test_numbers_need_no_matplotlib() -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from npmobilenet.figures.figure_catalog import FIGURES\n"
        "print(len([FIGURES[name].caption(FIGURES[name].data(), 'zh') for name in ('ratio', 'relu6', 'growth')]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("3", "")


def test_accuracies_are_those_of_the_collection() -> None:
    rows = json.loads(real_file("published-costs.json").read_text())["rows"]
    expected = [row for row in rows if row["metric"] in ("top1", "map_coco")]
    fields = ("source", "table", "model", "alpha", "resolution", "metric", "unit")
    assert [tuple(getattr(entry, field) for field in fields) for entry in accuracies()] == [
        tuple(row[field] for field in fields) for row in expected
    ]
    assert [entry.printed for entry in accuracies()] == [str(row["value"]) for row in expected]


@given(st.integers(1, 6), st.integers(1, 8), st.sampled_from((1, 3, 5)))
def test_filters_have_the_weights_of_the_layers(c_in: int, c_out: int, K: int) -> None:
    data = filters_data(c_in, c_out, K)
    assert (data["standard"], data["depthwise"], data["pointwise"]) == (
        K * K * c_in * c_out,
        K * K * c_in,
        c_in * c_out,
    )
    for bank in data["banks"].values():
        assert bank["filters"] * prod(bank["shape"]) == bank["weights"]


def test_both_ways_are_the_counts_of_the_known_example() -> None:
    data = numbers("both-ways")
    assert (data["standard"], data["depthwise"], data["pointwise"]) == (1_228_800, 4_800, 49_152)
    assert (data["output"], data["filtered"], round(data["ratio"], 4)) == ([8, 8, 256], [8, 8, 3], 0.0439)


def test_both_ways_count_the_multiplications_that_are_made() -> None:
    data, x = both_ways_data(side=6, c_in=2, c_out=4, K=3), (6, 6, 2)
    standard = Conv2D(name="a", filters=4, kernel_size=(3, 3), padding="valid", use_bias=False)
    depthwise = DepthwiseConv2D(name="b", kernel_size=(3, 3), padding="valid", use_bias=False)
    pointwise = Conv2D(name="c", filters=4, kernel_size=(1, 1), use_bias=False)
    assert data["standard"] == count_multiplications(standard, x)
    assert data["depthwise"] == count_multiplications(depthwise, x)
    assert data["pointwise"] == count_multiplications(pointwise, tuple(data["filtered"]))


def test_ratio_is_the_paper_s_formula() -> None:
    data = numbers("ratio")
    for K, curve in data["curves"].items():
        assert curve == [float(Fraction(1, c_out) + Fraction(1, int(K) ** 2)) for c_out in data["c_out"]]
    assert len(data["layers"]) == 13
    for row in data["layers"]:
        cost = SeparableCost(row["H"], row["W"], row["c_in"], row["c_out"], 3, row["stride"])
        assert (row["separable"], row["standard"]) == (cost.macs["separable"], cost.macs["standard"])
    known = {(row["H"], row["c_in"], row["c_out"]): round(row["ratio"], 4) for row in data["layers"]}
    assert (known[112, 64, 128], known[14, 512, 512], round(data["at_256"], 3)) == (0.1189, 0.1131, 0.115)
    assert 8 <= 1 / data["smallest"] <= 9
    assert 1 / data["largest"] < 8, "the caption says so"
    assert float(Fraction(1, 72) + Fraction(1, 9)) == 1 / 8


@given(st.integers(3, 7), st.sampled_from((1, 2, 3)), st.sampled_from((1, 2)), st.sampled_from(("same", "valid")))
def test_window_sums_are_those_of_loops(size: int, K: int, stride: int, padding: str) -> None:
    data = window_data(size, K, stride, padding, seed=size)
    for step in data["steps"]:
        total = 0
        for u in range(K):
            for v in range(K):
                total += data["padded"][step["row"] * stride + u][step["col"] * stride + v] * data["w"][u][v]
        assert step["sum"] == total == sum(step["products"]) == data["y"][step["row"]][step["col"]]
    assert (
        len(data["steps"])
        == data["output"] ** 2
        == (-(-size // stride) if padding == "same" else (size - K) // stride + 1) ** 2
    )


@pytest.mark.parametrize("size", range(4, 18))
def test_padding_windows_read_the_pixels_that_frameworks_read(size: int) -> None:
    torch_starts = list(range(-1, size + 1 - 2, 2))  # padding 1: starts while the window of 3 fits
    data = padding_data(size)
    assert data["worlds"]["pytorch"]["starts"] == torch_starts
    assert data["worlds"]["tensorflow"]["padding"] == ([0, 1] if size % 2 == 0 else [1, 1])
    assert data["same_windows"] == (size % 2 == 1)


def test_separability_shows_rank_and_what_a_product_keeps() -> None:
    entries = {entry["name"]: entry for entry in numbers("separability")["filters"]}
    assert {name: entry["rank"] for name, entry in entries.items()} == {
        "gauss": 1,
        "sobel": 1,
        "laplace": 2,
        "learned": 3,
    }
    for entry in entries.values():
        energy = float((np.array(entry["kernel"]) ** 2).sum())
        assert sum(value**2 for value in entry["singular_values"]) == pytest.approx(energy)
    assert np.outer((1, 2, 1), (1, 2, 1)).tolist() == entries["gauss"]["kernel"]
    assert np.outer((1, 2, 1), (1, 0, -1)).tolist() == entries["sobel"]["kernel"]


def test_v1_block_is_a_pair_in_place_of_one_convolution() -> None:
    data = numbers("v1-block")
    full, separable = (stack["layers"] for stack in data["stacks"])
    assert [row["label"] for row in full] == ["Conv 3×3", "BN", "ReLU6"]
    assert [row["label"] for row in separable] == ["DW 3×3", "BN", "ReLU6", "Conv 1×1", "BN", "ReLU6"]
    cost = SeparableCost(14, 14, 512, 512)
    assert (data["full_macs"], data["separable_macs"]) == (cost.macs["standard"], cost.macs["separable"])
    assert (data["full_macs"], data["separable_macs"], round(data["times"], 2)) == (462_422_016, 52_283_392, 8.84)


def test_v1_body_is_the_paper_s_table_1() -> None:
    data = numbers("v1-body")
    assert data["macs"] == sum(entry["macs"] for entry in data["maps"]) == mobilenet_v1().macs
    assert (data["layers"], data["without_classifier"], data["depthwise"]) == (28, 27, 13)
    pointwise_inputs = [row[2] for row in V1_TABLE_1 if row[1].startswith("1x1")]
    outputs = ["x".join(map(str, entry["shape"])) for entry in data["maps"]]
    depthwise_inputs = [row[2] for row in V1_TABLE_1 if row[0].startswith("Conv dw")]
    assert outputs[1:14] == depthwise_inputs, "what a block makes is what the next depthwise layer reads"
    assert len(pointwise_inputs) == 13


def test_v1_shares_are_table_2_but_for_the_erratum() -> None:
    rows = {row["kind"]: row for row in numbers("v1-shares")["rows"]}
    shares = {share.kind: share for share in cost_table(mobilenet_v1()).shares()}
    assert {kind: row["macs_share"] for kind, row in rows.items()} == {kind: s.macs_share for kind, s in shares.items()}
    differing = [
        (kind, what)
        for kind, row in rows.items()
        for what in ("macs", "weights")
        if row[f"verdict_{what}"] != "rounded"
    ]
    assert differing == [("Conv 3x3", "macs")]
    assert (rows["Conv 1x1"]["printed_macs"], f"{rows['Conv 1x1']['macs_share']:.4f}") == ("94.86", "94.8574")


def test_v1_accuracy_has_the_sixteen_networks_with_their_counts() -> None:
    data = numbers("v1-accuracy-macs")
    known = {(m.alpha, m.resolution): m for m in KNOWN_MODELS if m.arch == "mobilenet_v1"}
    assert {(row["alpha"], row["resolution"]) for row in data["points"]} == known.keys()
    for row in data["points"]:
        model = known[row["alpha"], row["resolution"]]
        assert row["macs"] == model.macs
        if model.accuracy_source.startswith("TF-Slim"):
            assert row["top1"] == model.top1
    assert numbers("v1-accuracy-params") == data
    assert data["front_weights"] == [12, 8, 4, 0], "at any number of weights, the highest resolution is best"


def test_v2_accuracy_has_every_published_network() -> None:
    data = numbers("v2-accuracy")
    assert (data["v1"], data["v2"], data["v3"]) == (16, 22, 6)
    known = {(m.arch, m.alpha, m.resolution, m.minimalistic): m for m in KNOWN_MODELS}
    for row in data["series"]["MobileNetV2, TF-Slim"]:
        assert row["macs"] == known["mobilenet_v2", row["alpha"], row["resolution"], False].macs
    quoted = [row for rows in data["series"].values() for row in rows if not row["counted"]]
    assert sorted(row["model"] for row in quoted) == ["NasNet-A", "ShuffleNet (1.5)", "ShuffleNet (x2)"]
    for row in quoted:
        assert row["macs"] == row["printed"]["macs"]["printed_value"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_pareto_front_is_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    rows = [{"macs": macs, "top1": top1} for macs, top1 in pairs]
    front = [(rows[index]["macs"], rows[index]["top1"]) for index in pareto(rows, "macs")]
    expected = {
        (macs, top1)
        for macs, top1 in pairs
        if not any(m <= macs and t >= top1 and (m, t) != (macs, top1) for m, t in pairs)
    }
    assert front == sorted(expected)


def test_rivals_are_counted_like_for_like() -> None:
    data = numbers("rivals")
    assert (round(data["squeezenet_printed"]), round(data["squeezenet_macs"], 1)) == (22, 10.9)
    assert data["squeezenet_percent"] < 6
    for row in data["points"]:
        for what, metric in (("macs", "mult_adds"), ("weights", "params")):
            (entry,) = (
                figure
                for figure in figures()
                if (figure.source, figure.table, figure.model, figure.alpha, figure.metric)
                == (row["source"], row["table"], row["model"], row["alpha"], metric)
            )
            assert row["printed"][what]["verdict"] == recount(entry).verdict


@pytest.mark.parametrize(
    ("name", "macs", "printed"),
    [
        ("v1-full-or-separable", [4_867_293_184, 568_740_352], ["4866", "569"]),
        ("v1-thin-or-shallow", [325_400_448, 307_323_392], ["325", "307"]),
    ],
)
def test_pairs_of_networks(name: str, macs: list[int], printed: list[str]) -> None:
    points = numbers(name)["points"]
    assert [row["macs"] for row in points] == macs
    assert [row["printed"]["macs"]["printed"] for row in points] == printed
    assert numbers(name)["verdicts"] == "rounded, rounded"


def test_relu6_and_its_derivative_are_tensorflow_s() -> None:
    tf = pytest.importorskip("tensorflow")
    data = numbers("relu6")
    x = tf.constant([*data["x"], *data["corners"]], tf.float64)
    for name, function in (("relu", tf.nn.relu), ("relu6", tf.nn.relu6)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        slope = tape.gradient(y, x).numpy()
        assert y.numpy()[:-2].tolist() == data[name]
        assert slope[:-2].tolist() == data[f"{name}_derivative"]
        if name == "relu6":
            assert slope[-2:].tolist() == [0, 0], "at the corners themselves"


def test_float16_spacings_are_the_distance_to_the_next_number() -> None:
    data = numbers("float16")
    x = np.array(data["x"])
    half = x.astype(np.float16)
    assert data["float16"] == (np.nextafter(half, np.float16(np.inf)) - half).astype(float).tolist()
    bits = x.astype(np.float32).view(np.uint32) >> 16 << 16  # bfloat16: the upper half of float32
    following = (bits + (1 << 16)).view(np.float32).astype(float) - bits.view(np.float32)
    assert data["bfloat16"] == following.tolist()
    assert (round(data["at_6"], 4), data["at_100"], data["at_1000"]) == (0.0039, 0.0625, 0.5)


def test_swish_distances() -> None:
    data = numbers("swish")
    assert (round(data["swish_distance"], 4), data["swish_distance_at"]) == (0.1423, 3)
    assert round(data["sigmoid_distance"], 4) == 0.0692
    x = 3.0
    assert data["swish_distance"] == pytest.approx(x - x / (1 + np.exp(-x)))


def test_batch_norm_is_one_scale_and_one_shift() -> None:
    data = numbers("batch-norm")
    learned, epsilon = data["learned"], data["epsilon"]
    scale = learned["gamma"] / (learned["moving_variance"] + epsilon) ** 0.5
    before, after = np.array(data["before"]), np.array(data["after"])
    expected = scale * (before - learned["moving_mean"]) + learned["beta"]
    terms = np.abs(scale * before) + abs(scale * learned["moving_mean"]) + abs(learned["beta"])
    assert np.all(np.abs(after - expected) <= 8 * np.finfo(np.float32).eps * terms), "eight roundings or fewer"
    assert data["folded_distance"] <= 8 * np.finfo(np.float64).eps * float(terms.max())
    assert data["relu6"] == np.clip(after, 0, 6).tolist()
    other = learned["gamma"] / (learned["moving_variance"] + 1e-5) ** 0.5
    assert data["moved_percent"] == pytest.approx(100 * abs(other / scale - 1))


def test_spirals_lose_what_theory_says() -> None:
    data = numbers("spirals")
    spiral = np.array(data["spiral"])
    standard_error = 0.5 / np.sqrt(data["draws"])  # a share lies in 0..1: its deviation is at most 0.5
    for panel in data["panels"]:
        assert abs(panel["share"] - panel["expected_share"]) < 2 * standard_error
        active, exact = np.array(panel["active"]), np.array(panel["exact"])
        kept = active >= 2
        assert np.allclose(exact[kept], spiral[kept], atol=1e-9), "what is recoverable is recovered"
        assert not exact[active == 0].any()
        matrix = np.array(panel["matrix"])
        linear = np.maximum(spiral @ matrix.T, 0) @ np.linalg.pinv(matrix).T
        assert np.allclose(panel["linear"], linear)
        assert panel["linear_error"] > 0.5, "a linear inverse halves the spiral at any n"
        assert panel["affine_error"] < panel["linear_error"]
    assert [round(100 * panel["expected_share"]) for panel in data["panels"]] == [25, 50, 81, 96, 100, 100]


def test_spirals_follow_the_seed() -> None:
    first, again, other = (spirals_data(seed, points=20, draws=2)["panels"] for seed in (1, 1, 2))
    assert first == again
    assert first[0]["matrix"] != other[0]["matrix"]


def test_v2_evolution_costs() -> None:
    data, pixels, C, t = numbers("v2-evolution"), 56 * 56, 24, 6
    assert data["regular_macs"] == pixels * 9 * C * C
    assert data["separable_macs"] == data["linear_macs"] == pixels * (9 * C + C * C)
    assert data["expansion_macs"] == pixels * (C * t * C + 9 * t * C + t * C * C)
    last = {block["name"]: block["steps"][-1]["linear"] for block in data["blocks"]}
    assert last == {"regular": False, "separable": False, "linear": True, "expansion": True}


def test_residuals_compare_equal_channels() -> None:
    data, pixels, n, w = numbers("residuals"), 56 * 56, 24, 144
    assert data["residual_macs"] == pixels * (w * n + 9 * n * n + n * w)
    assert data["inverted_macs"] == pixels * (n * w + 9 * w + w * n)
    assert data["inverted_split"] < data["inverted_in_place"]
    assert data["residual_split"] == data["residual_in_place"], "the caption says so"
    small = residuals_data(side=8, narrow=2, wide=6)
    graph = residual_graph(8, 2, 6, depthwise=True)
    assert small["inverted_free"] == memory_table(graph)[list(POLICIES).index("free")].peak_bytes


def test_v2_blocks_are_the_graphs_layers() -> None:
    data = numbers("v2-blocks")
    stacks = {stack["name"]: stack["layers"] for stack in data["stacks"]}
    assert [row["kind"] for row in stacks["v1"]] == ["depthwise", "pointwise"]
    assert [row["kind"] for row in stacks["v2_stride_1"]] == ["pointwise", "depthwise", "pointwise", ""]
    assert [row["kind"] for row in stacks["v2_stride_2"]] == ["pointwise", "depthwise", "pointwise"]
    assert [row["label"].count("ReLU6") for row in stacks["v2_stride_2"]] == [1, 1, 0], "the last one is linear"
    graph = mobilenet_v2()
    for name, block in (("v2_stride_1", "block_2_"), ("v2_stride_2", "block_1_")):
        assert data[f"{name}_macs"] == sum(
            graph.macs_of(layer) for layer in graph.layers if layer.name.startswith(block)
        )
    assert (data["blocks"], data["residuals"]) == (17, 10)


def test_v2_memory_is_table_3() -> None:
    rows = {row["side"]: row for row in numbers("v2-memory")["rows"]}
    assert [rows[side]["MobileNetV1"]["channels"] for side in (112, 56, 28, 14, 7, 1)] == [
        64,
        128,
        256,
        512,
        1024,
        1024,
    ]
    assert [rows[side]["MobileNetV2"]["channels"] for side in (112, 56, 28, 14, 7, 1)] == [16, 24, 32, 96, 320, 1280]
    for side in (56, 28, 14):
        assert rows[side]["MobileNetV2"]["printed_channels"] == rows[side]["MobileNetV2"]["next_stage_channels"]
    assert rows[7]["MobileNetV1"]["printed_bytes"] // rows[7]["MobileNetV1"]["bytes"] == 1
    assert rows[7]["MobileNetV1"]["verdict_bytes"] == "differs"
    assert round(rows[7]["MobileNetV1"]["printed_bytes"] / rows[7]["MobileNetV1"]["bytes"]) == 2, "twice: the caption"


def test_memory_is_the_plans() -> None:
    data = numbers("memory")
    for entry, plan in zip(data["policies"], memory_table(mobilenet_v2()), strict=True):
        assert (entry["policy"], entry["peak_bytes"], entry["arena_bytes"]) == (
            plan.policy,
            plan.peak_bytes,
            plan.arena_bytes,
        )
        assert max(entry["live_bytes"]) == entry["peak_bytes"] == entry["live_bytes"][entry["peak_step"]]
        assert len(entry["layers"]) == len(entry["live_bytes"])
    peaks = [entry["peak_bytes"] for entry in data["policies"]]
    assert peaks == sorted(peaks, reverse=True)


def test_squeeze_excite_of_random_and_of_trained_weights() -> None:
    data, photo = numbers("squeeze-excite"), str(real_file("images/panda.jpg"))
    assert (data["weights_are"], data["map"], data["reduced"]) == ("random", [14, 14, 240], 64)
    assert (data["squeeze_macs"], data["multiplications"]) == (2 * 240 * 64, 14 * 14 * 240)
    model = str(real_file("weights/mobilenet_v3_small_1.0_224_imagenet.h5"))
    trained, first = squeeze_excite_data(model, photo), squeeze_excite_data(model, photo, block=0)
    assert (trained["weights_are"], trained["blocks"]) == ("trained", 9)
    assert (first["open"], first["channels"]) == (16, 16), "docs/figures.md says so"
    assert (trained["closed"], trained["open"]) == (5, 1)
    assert all(0 <= gate <= 1 for gate in trained["gates"] + data["gates"])
    assert trained["gates"] != data["gates"]


def test_v3_tail_saves_more_than_the_paper_says() -> None:
    data = numbers("v3-tail")
    assert (data["before_macs"], data["after_macs"]) == (35_546_560, 1_228_800)
    assert data["saved_macs"] == 34_317_760 > data["printed_saving"]
    graph = mobilenet_v3_large()
    assert graph.macs_of(graph["conv_2"]) == data["after_macs"], "the network itself has the efficient tail"
    shared = [[layer for layer in data[tail] if not layer["differs"] and layer["macs"]] for tail in ("before", "after")]
    assert shared[0] == shared[1]


def test_pooling_saves_weights() -> None:
    data = numbers("gap-or-flatten")
    assert (data["flat_weights"], data["pooled_weights"], data["ratio"]) == (50_176_000, 1_024_000, 49)
    assert data["body_weights"] + data["pooled_weights"] == 4_209_088


@pytest.mark.parametrize("seed", range(3))
def test_of_the_boxes_of_one_kind_none_that_remains_overlaps_another(seed: int) -> None:
    data = anchors_data(seed=seed)
    left = [one for one in data["boxes"] if one["kept"]]
    assert [one["score"] for one in data["boxes"]] == sorted((one["score"] for one in data["boxes"]), reverse=True)
    assert data["kept"] == len(left) == len(data["objects"])
    for one in data["boxes"]:
        others = [other for other in left if other["label"] == one["label"] and other is not one]
        corners = [np.array(found["box"], np.float32) for found in (one, *others)]
        overlaps = [float(overlap(corners[0], other)) for other in corners[1:]]
        assert (max(overlaps, default=0) <= data["iou_threshold"]) == one["kept"]


def test_the_anchors_of_a_cell_are_those_around_its_center() -> None:
    data = numbers("anchors")
    assert (data["anchors"], data["first"], data["made"]) == (1917, 1083, len(data["boxes"]))
    boxes = np.array(data["cell"])
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, 0.5, atol=1e-6)
    np.testing.assert_allclose(boxes[0, 2:] - boxes[0, :2], 0.5, atol=1e-6)


def test_a_box_is_read_back_from_its_code() -> None:
    anchor, box = np.array([[0.4, 0.5, 0.3, 0.2], [0.1, 0.35, 0.62, 0.7]], np.float32)
    (again,) = decode_tensorflow(encode(box, anchor)[None].astype(np.float32), anchor[None])
    np.testing.assert_allclose(again, box, atol=1e-6)


def test_ssd_heads_are_table_5() -> None:
    data = numbers("ssd-heads")
    for entry, model in zip(data["detectors"], ("SSD head + extras", "SSDLite head + extras"), strict=True):
        for metric, key in (("mult_adds", "macs"), ("params", "params")):
            (figure,) = (f for f in figures() if f.model.startswith(model) and f.metric == metric)
            found = recount(figure)
            assert (entry["head"][key], entry[f"verdict_{key}"]) == (found.counted, found.verdict)
    assert (data["lite_printed"], data["lite_verdict"]) == ("0.35", "differs")
    assert f"{2 * data['ssdlite_head_macs'] / 1e9:.3f}" == "0.355", "twice the count: the caption"


def test_conventions_are_the_table() -> None:
    data = numbers("conventions")
    table = conventions_table(mobilenet_v1())
    assert [(row["name"], row["value"]) for row in data["rows"]] == [row[:2] for row in table]
    assert data["conventions"] == len(table) == 20


def test_intensity_is_multiply_adds_over_bytes() -> None:
    rows = {row.name: row for row in cost_table(mobilenet_v1()).rows}
    for entry in numbers("intensity")["rows"]:
        row = rows[entry["layer"]]
        assert entry["macs_per_byte"] == row.macs / (row.bytes_read + row.bytes_written)
    assert len(numbers("intensity")["rows"]) == 28


def test_growth_is_measured_and_bounded() -> None:
    network = load("digits")
    errors = list(error_growth(network.graph, network.params, example_input(network, None)))
    layers = numbers("growth")["layers"]
    assert [layer["name"] for layer in layers] == [error.name for error in errors]
    assert all(layer["measured"] <= layer["bound"] for layer in layers)


def test_the_example_is_read_as_a_4() -> None:
    network = load("digits")
    probabilities = network.forward(example_input(network, None), backend="reference")
    assert int(probabilities.argmax()) == 4


def test_every_source_is_known() -> None:
    sources = {row["source"] for row in numbers("v1-accuracy-macs")["points"]}
    assert sources == {SLIM_V1}
    assert {row["source"] for row in numbers("v2-accuracy")["series"]["MobileNetV3, TF-Slim"]} == {SLIM}


def test_the_page_lists_every_figure() -> None:
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`([^`]+)`", row)] == list(FIGURES)


def test_ladder_is_the_document_of_the_command(tmp_path: Path) -> None:
    data, document = numbers("ladder"), json.loads(ladder_figure.RECORDED.read_text(encoding="utf-8"))
    assert [entry["number"] for entry in data["rungs"]] == list(range(9))
    assert [entry["number"] for entry in data["standard"]] == [2, 4, 7]
    assert [entry["ms"] for entry in data["rungs"]] == [entry["ms"] for entry in document["rungs"]]
    assert (data["macs"], data["standard_macs"]) == (52_283_392, 462_422_016)
    assert data["gain"] == document["rungs"][0]["ms"] / document["rungs"][8]["ms"]
    file = tmp_path / "times.json"
    file.write_text(json.dumps(document | {"cpu": "another"}), encoding="utf-8")
    assert ladder_figure.ladder_data(str(file)) == data | {"cpu": "another"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rungs": [], "next_to": [], "input": [1, 2]}'])
def test_other_files_are_no_ladder(text: str, tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(NpMobileNetError, match=r"times\.json: expected the output of npmobilenet ladder --json"):
        ladder_figure.ladder_data(str(file))


def test_eight_bits_is_the_table_of_the_command(tmp_path: Path) -> None:
    """Since the input, the numbers are those of `npmobilenet quantize`; of a layer alone, those of its own operator."""
    from tests.helpers.command_line import document, run

    data = numbers("eight-bits")
    photos = ROOT / "examples" / "digits"
    answer = document(run("quantize", "digits", "--images", photos, "-o", tmp_path / "d.tflite", "--json"))
    rows = [(row["name"], row["decibels"]) for row in answer["layers"] if row["operator"] != "RESHAPE"]
    assert [(row["name"], row["since_input"]) for row in data["layers"]] == rows
    assert data["same_class"] == data["images"] == 10
    first, *others = data["layers"]
    assert first["alone"] == first["since_input"], "only the image comes before it"
    assert sum(row["alone"] > row["since_input"] for row in others) > 0.9 * len(others)
    assert int(np.argmax(data["int8"])) == int(np.argmax(data["float"])) == data["digit"]
    assert data["largest_difference"] < data["step"]
