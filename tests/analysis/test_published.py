"""Every published figure is recounted from a graph; docs/errata.md lists those that differ, and why."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from npmobilenet.analysis import linear_bottlenecks
from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.paper_tables import paper_tables
from npmobilenet.analysis.published import V1, V2, V3, Figure, figures
from npmobilenet.analysis.recounts import Recount, recount, verdict
from npmobilenet.architectures import baselines, mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.transforms import with_filters
from tests.helpers.real_files import ROOT, real_file

NO_COSTS = ("top1", "top5", "top1_quant", "top5_quant", "map_coco", "mean_ap")  # and latency_*


@pytest.fixture(scope="module")
def recounts() -> dict[Figure, Recount]:
    return {figure: recount(figure) for figure in figures()}


def figure(source: str, table: str, model: str, metric: str, **more: float) -> Figure:
    """The only figure with these properties."""
    (found,) = (
        entry
        for entry in figures()
        if (entry.source, entry.table, entry.model, entry.metric) == (source, table, model, metric)
        and all(getattr(entry, name) == value for name, value in more.items())
    )
    return found


def counted(entry: Figure) -> Fraction:
    found = recount(entry).counted
    assert found is not None
    return found


def test_the_figures_are_those_of_the_collection() -> None:
    rows = json.loads(real_file("published-costs.json").read_text())["rows"]
    costs = [row for row in rows if row["metric"] not in NO_COSTS and not row["metric"].startswith("latency")]
    assert len(rows) == 674
    assert [
        (row["source"], row["table"], row["model"], row["alpha"], row["resolution"], row["metric"], row["unit"])
        for row in costs
    ] == [
        (entry.source, entry.table, entry.model, entry.alpha, entry.resolution, entry.metric, entry.unit)
        for entry in figures()
    ]
    assert [str(row["value"]) for row in costs] == [entry.printed for entry in figures()]


def test_every_figure_that_an_independent_count_reproduces_is_reproduced(recounts: dict[Figure, Recount]) -> None:
    rows = json.loads(real_file("published-costs.json").read_text())["rows"]
    costs = [row for row in rows if row["metric"] not in NO_COSTS and not row["metric"].startswith("latency")]
    missed = [
        entry
        for row, entry in zip(costs, figures(), strict=True)
        if row.get("reproduces") in ("rounded", "truncated") and recounts[entry].verdict != row["reproduces"]
    ]
    assert [(entry, recounts[entry].in_unit, recounts[entry].verdict) for entry in missed] == []


def test_the_number_of_figures_that_reproduce(recounts: dict[Figure, Recount]) -> None:
    counts = {
        "reproduced": sum(entry.reproduces for entry in recounts.values()),
        "differ": sum(entry.verdict == "differs" for entry in recounts.values()),
        "quoted": sum(entry.verdict == "quoted" for entry in recounts.values()),
    }
    assert counts == {"reproduced": 275, "differ": 26, "quoted": 59}, "docs/errata.md states these numbers"


def test_the_page_of_errata_names_every_figure_that_differs_and_no_other(recounts: dict[Figure, Recount]) -> None:
    page = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
    named = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 9 and cells[0] != "source":
            *key, counted, reason = cells
            named[tuple(key)] = counted
            assert reason
    differing = {
        (
            entry.source,
            entry.table,
            entry.model,
            "" if entry.alpha is None else f"{entry.alpha:g}",
            str(entry.resolution or ""),
            entry.metric,
            f"{entry.printed} {entry.unit}",
        ): found.in_unit
        for entry, found in recounts.items()
        if found.verdict == "differs"
    }
    assert named == differing


@pytest.mark.parametrize(
    ("printed", "counted", "expected"),
    [
        ("569", 568.74, "rounded"),
        ("290", 290.68, "truncated"),
        ("569", 569.5, "rounded"),
        ("569", 567.9, "differs"),
        ("569", 570.1, "differs"),
        ("575", 568.74, "differs"),
        ("4.2", 4.209, "rounded"),
        ("3.4", 3.4698, "truncated"),
        ("300", 304, "differs"),
    ],
)
def test_a_count_agrees_if_it_rounds_or_truncates_to_the_printed_digits(
    printed: str, counted: float, expected: str
) -> None:
    entry = Figure(V1, "6", "MobileNetV1", 1.0, 224, "mult_adds", printed, "million")
    assert verdict(entry, Fraction(counted) * 10**6) == expected


def test_trailing_zeros_are_placeholders_only_in_rounded_sources() -> None:
    baseline = Figure(V1, "8", "VGG 16", None, 224, "mult_adds", "15300", "million")
    assert verdict(baseline, Fraction(15346 * 10**6)) == "coarse"
    assert verdict(baseline, Fraction(15351 * 10**6)) == "differs"
    assert verdict(replace(baseline, table="6"), Fraction(15346 * 10**6)) == "differs"
    memory_row = Figure(V2, "3", "MobileNetV2", 1.0, 56, "max_activation_memory", "200", "kilobyte")
    assert verdict(memory_row, Fraction(150_528)) == "differs", "two digits are always significant"


def test_tables_show_printed_and_counted_values() -> None:
    tables = {table.title.split(":")[0]: table for table in paper_tables()}
    for name in (
        "V1 paper, table 1",
        "V1 paper, table 2",
        "V1 paper, table 9",
        "V2 paper, table 3",
        "V3 paper, table 3",
    ):
        assert name in tables
    assert all(len(row) == len(table.header) for table in tables.values() for row in table.rows)
    (row,) = (row for row in tables["V1 paper, table 6"].rows if row[:4] == ("MobileNetV1", "0.25", "224", "mult adds"))
    assert row[4:] == ("41", "41.03", "million", "macs", "rounded")


# The errata, one by one


def test_v1_table_1_prints_a_stride_that_contradicts_its_own_sizes() -> None:
    (table,) = (table for table in paper_tables() if "table 1:" in table.title)
    (row,) = (row for row in table.rows if row[-1] == "differs")
    layer, printed, *_, counted, _, _, _ = row
    assert (layer, printed, counted) == ("conv_dw_13", "Conv dw / s2", "Conv dw / s1")
    assert len(table.rows) == 30


def test_v1_table_2_swaps_two_digits_of_a_share() -> None:
    shares = [entry for entry in figures() if entry.table == "2" and entry.metric == "share_mult_adds"]
    assert sum(entry.value for entry in shares) == Fraction("99.29")
    (wrong,) = (entry for entry in shares if not recount(entry).reproduces)
    assert wrong.printed == "1.19"
    assert verdict(replace(wrong, printed="1.91"), counted(wrong)) == "rounded"


def test_v1_table_4_counts_one_row_with_and_one_without_classifier() -> None:
    full = mobilenet_v1(full_convolution=True)
    assert round(CONVENTIONS["macs_no_classifier"].count(full) / 1e6) == 4866
    assert round(full.macs / 1e6) == 4867
    assert round(CONVENTIONS["macs_no_classifier"].count(mobilenet_v1()) / 1e6) == 568, "and 569 is printed"


def test_vgg_is_counted_without_dense_layers_and_squeezenet_twice() -> None:
    assert round(baselines.vgg16().macs / 1e8) == 155
    assert round(CONVENTIONS["macs_convolutions"].count(baselines.vgg16()) / 1e8) == 153
    assert round(baselines.squeezenet().macs / 1e8) == 8
    assert round(CONVENTIONS["flops"].count(baselines.squeezenet()) / 1e8) == 17


def test_baselines_have_their_known_number_of_parameters() -> None:
    assert baselines.vgg16().total_params == 138_357_544, "Keras Applications, VGG16"
    assert baselines.alexnet().total_params == 60_965_224, "Caffe's bvlc_alexnet"
    assert baselines.squeezenet().total_params == 1_248_424, "torchvision, squeezenet1_0"
    assert baselines.googlenet().total_params == 6_998_552, "Caffe's bvlc_googlenet without auxiliary classifiers"


def test_googlenet_s_own_table_differs_from_its_layout() -> None:
    thousands = (2.7, 112, 159, 380, 364, 437, 463, 580, 840, 1072, 1388, 1000)  # arXiv:1409.4842, table 1, "params"
    millions = (34, 360, 128, 304, 73, 88, 100, 119, 170, 54, 71, 1)  # the same, "ops"
    assert (round(sum(thousands) / 1e3, 1), sum(millions)) == (6.8, 1502)
    graph = baselines.googlenet()
    assert graph.param_shapes["classifier/kernel"] == (1024, 1000), "and 1000K is printed"
    assert round(graph.macs_of(graph["conv1"]) / 1e6) == 118, "and 34M is printed"
    assert round(graph.macs_of(graph["classifier"]) / 1e6) == 1
    for metric in ("params", "mult_adds"):
        assert recount(figure(V1, "8", "GoogleNet", metric)).verdict == "differs"


def test_v1_table_12_at_alpha_one_quarter_has_what_ptflops_counts_but_the_rest_has_not() -> None:
    def macs(alpha: float, resolution: int) -> int:
        graph = mobilenet_v1(alpha, resolution, include_top=False)
        return round(CONVENTIONS["ptflops"].count(graph) / 1e6)

    assert (macs(0.25, 224), macs(0.25, 128)) == (45, 15), "printed: 45, 15"
    assert (macs(1.0, 224), macs(1.0, 128)) == (583, 190), "printed: 568, 185"


def test_slim_excludes_the_first_convolution_at_alpha_three_quarters_only() -> None:
    source = "tensorflow/models research/slim/nets/mobilenet_v1.md"
    rows = [entry for entry in figures() if entry.source == source and entry.metric == "mult_adds"]
    for entry in (entry for entry in rows if entry.alpha == 0.75):
        assert entry.resolution is not None
        graph = mobilenet_v1(0.75, entry.resolution)
        assert recount(entry).convention == "macs_no_stem"
        assert verdict(entry, Fraction(graph.macs)) == "differs"
        assert verdict(entry, Fraction(graph.macs - graph.macs_of(graph["conv1"]))) == "rounded"


def test_slim_rounds_149_to_150_and_has_a_typo_in_34() -> None:
    assert mobilenet_v1(0.5).macs == 149_497_088
    sides = {side: mobilenet_v1(0.25, side).macs / 1e6 for side in (224, 192, 160)}
    assert [round(macs) for macs in sides.values()] == [41, 30, 21]


def test_v2_table_3_prints_channels_of_the_next_stage_in_three_rows() -> None:
    graph = mobilenet_v2()
    printed = {
        entry.resolution: int(entry.printed)
        for entry in figures()
        if entry.metric == "max_channels" and entry.model == "MobileNetV2"
    }
    own, following = linear_bottlenecks.materialized_channels(graph), linear_bottlenecks.next_stage_channels(graph)
    assert {side: own[side] for side in (112, 7, 1)} == {side: printed[side] for side in (112, 7, 1)}
    assert {side: following[side] for side in (56, 28, 14)} == {side: printed[side] for side in (56, 28, 14)}
    assert {side: own[side] for side in (56, 28, 14)} == {56: 24, 28: 32, 14: 96}


def test_v2_table_3_contradicts_itself_at_7_pixels() -> None:
    source = f"{V2} (text A)"
    for model, channels, kilobytes in (("MobileNetV1", 1024, "199"), ("MobileNetV2", 320, "32")):
        assert recount(figure(source, "3", model, "max_channels", resolution=7)).counted == channels
        entry = figure(source, "3", model, "max_activation_memory", resolution=7)
        assert entry.printed == kilobytes
        assert recount(entry).counted == channels * 7 * 7 * 2


def test_v2_table_3_has_two_versions_that_differ_by_the_largest_map() -> None:
    for model in ("MobileNetV1", "MobileNetV2"):
        for text, kilobytes in (("A", {"1600", "400"}), ("B", {"800", "200"})):
            entry = figure(f"{V2} (text {text})", "3", model, "max_activation_memory", resolution=224)
            assert entry.printed in kilobytes
            assert recount(entry).reproduces


def test_v2_table_4_prints_575_where_v1_prints_569() -> None:
    assert figure(V2, "4", "MobileNetV1", "mult_adds").printed == "575"
    assert recount(figure(V1, "6", "MobileNetV1", "mult_adds", alpha=1.0)).verdict == "rounded"


def test_no_convention_gives_v2_1_4_its_6_9_million_parameters() -> None:
    entry = figure(V2, "4", "MobileNetV2", "params", alpha=1.4)
    graph = mobilenet_v2(1.4)
    counts = [convention.count(graph) for convention in CONVENTIONS.values() if convention.unit == "parameters"]
    assert {verdict(entry, Fraction(count)) for count in counts} == {"differs"}
    assert max(counts) < 6.2e6


def test_no_convention_gives_v2_1_4_its_585_or_the_smallest_its_7_million() -> None:
    for entry, graph in (
        (figure(V2, "4", "MobileNetV2", "mult_adds", alpha=1.4), mobilenet_v2(1.4)),
        (figure(V2, "text 4", "MobileNetV2 range", "mult_adds"), mobilenet_v2(0.35, 96)),
    ):
        counts = [entry_.count(graph) for entry_ in CONVENTIONS.values() if entry_.unit == "multiply-adds"]
        assert {verdict(entry, Fraction(count)) for count in counts} == {"differs"}


def test_v2_table_5_counts_ssdlite_twice_and_ssd_once() -> None:
    lite = figure(V2, "5", "SSDLite head + extras on MobileNetV2 (80 classes)", "mult_adds")
    plain = figure(V2, "5", "SSD head + extras on MobileNetV2 (80 classes)", "mult_adds")
    assert verdict(lite, 2 * counted(lite)) == "truncated"
    assert recount(plain).verdict == "truncated"


@pytest.mark.parametrize(("printed", "graph"), [
    ("219", mobilenet_v3_large()),
    ("66", mobilenet_v3_small()),
    ("66", with_filters(mobilenet_v3_small(), {"conv_2": 1280})),
    ("65", mobilenet_v3_small(minimalistic=True)),
])  # fmt: skip
def test_no_convention_gives_what_is_printed_for_v3(printed: str, graph: Graph) -> None:
    entry = Figure(V3, "3", "", 1.0, 224, "mult_adds", printed, "million")
    counts = [convention.count(graph) for convention in CONVENTIONS.values() if convention.unit == "multiply-adds"]
    assert {verdict(entry, Fraction(count)) for count in counts} == {"differs"}


def test_v3_small_has_its_printed_parameters_only_with_the_head_of_the_paper() -> None:
    entry = figure(V3, "3", "MobileNetV3-Small", "params", alpha=1.0)
    assert recount(entry).reproduces
    assert verdict(entry, Fraction(mobilenet_v3_small().trainable_params)) == "differs"


def test_v3_large_ssdlite_is_just_below_what_is_printed() -> None:
    entry = figure(V3, "6", "MobileNetV3-Large SSDLite", "mult_adds")
    assert entry.printed == "0.62"
    assert verdict(replace(entry, printed="0.61"), counted(entry)) == "rounded"


def test_a_configuration_doubles_a_rounded_number() -> None:
    (entry,) = (entry for entry in figures() if entry.metric == "flops")
    macs = figure(V3, "6", "MobileNetV3-Large SSDLite reduced tail", "mult_adds")
    assert entry.value == 2 * macs.value
    assert not recount(entry).reproduces
    assert recount(macs).reproduces


def test_keras_replaced_a_depth_of_88_by_55_and_105() -> None:
    depths = [(entry.printed, recount(entry).reproduces) for entry in figures() if entry.metric == "depth"]
    assert sorted(depths) == [("105", True), ("55", True), ("88", False), ("88", False)]


def test_tensorflow_s_pages_print_529_for_569() -> None:
    (entry,) = (entry for entry in figures() if entry.printed == "529")
    assert verdict(replace(entry, printed="569"), counted(entry)) == "rounded"


def test_a_thop_figure_has_one_classifier_too_many() -> None:
    (entry,) = (entry for entry in figures() if entry.source.endswith("issue 66"))
    assert entry.value - counted(entry) == 1792 * 1000 + 48


def test_table_10_keeps_a_thousand_classes_in_its_multiply_adds() -> None:
    name = "MobileNetV1 Stanford Dogs (120 classes)"
    entry = figure(V1, "10", name, "mult_adds", alpha=1.0, resolution=224)
    assert verdict(entry, Fraction(mobilenet_v1(classes=120).macs)) == "differs"
    assert recount(entry).reproduces


def test_shares_of_the_whole_add_up_to_it() -> None:
    shares = cost_table(mobilenet_v1()).shares()
    assert sum(share.macs for share in shares) == mobilenet_v1().macs
    assert sum(share.macs_share for share in shares) == pytest.approx(100)
