"""Views J, K and L in Chromium: accuracies and costs as published and counted, a roofline, the search for mistakes."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import npmobilenet as nm
from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.published import accuracies
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.errors import NpMobileNetError
from npmobilenet.figures.ladder_figure import RECORDED
from npmobilenet.page import compose_page
from npmobilenet.page.chart_facts import accuracy_facts, roofline_facts
from npmobilenet.porting.diagnose import diagnose
from npmobilenet.reference.graph import Graph
from tests.helpers.browsers import Visit, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GRAPHS = {"MobileNetV1": mobilenet_v1, "MobileNetV2": mobilenet_v2}
RECORDED_RUN: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
LADDER = RECORDED_RUN | {
    "cpu": "A processor",
    "peak_flops": 50e9,
    "rungs": [RECORDED_RUN["rungs"][0] | {"within_bound": False}, *RECORDED_RUN["rungs"][1:]],
}
"""A run of another machine, on which the first rung is wrong."""


@pytest.fixture(scope="module")
def opened(page_file: Path, chromium: "Browser") -> Iterator[Visit]:
    """The page, opened once for the tests of this module."""
    with visit(chromium, page_file) as visited:
        yield visited


def show(visited: Visit, hash: str) -> Visit:
    """Show a view in a state, as its link does."""
    visited.evaluate("hash => showState({ lang: 'en', ...parseHash(hash) })", hash)
    return visited


def rows_of(visited: Visit, selector: str) -> list[list[str]]:
    """Cells of a table's body."""
    rows: list[list[str]] = visited.evaluate(
        "selector => [...document.querySelectorAll(selector + ' tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))",
        selector,
    )
    return rows


def whole(text: str) -> int:
    return int(text.replace(",", "").rstrip("*"))


# J


def test_j_shows_every_point_with_its_cost_its_accuracy_and_its_source(opened: Visit) -> None:
    printed = {(row.model, row.source, row.table, float(row.value)) for row in accuracies() if row.metric == "top1"}
    visited = show(opened, "#J?sort=-macs")
    points = visited.evaluate("page.facts.accuracy.points")
    shown = rows_of(visited, "#j-table")
    assert len(shown) == len(points)
    assert sum(point["checkpoint"] and point["family"] == "v1" for point in points) == 16
    assert sum(point["checkpoint"] and point["family"] == "v2" for point in points) == 22
    assert sum(point["checkpoint"] and point["family"] == "v3" for point in points) == 6
    assert {(point["model"], point["source"], point["table"], point["top1"]) for point in points} <= printed
    costs = [whole(row[2]) for row in shown]
    assert costs == sorted(costs, reverse=True)
    assert sorted((whole(row[2]), float(row[4])) for row in shown) == sorted((p["macs"], p["top1"]) for p in points)


@pytest.mark.parametrize(("model", "alpha", "resolution"), [("MobileNetV1", 0.25, 128), ("MobileNetV2", 0.35, 96)])
def test_the_live_line_of_j_is_cost_and_accuracy(opened: Visit, model: str, alpha: float, resolution: int) -> None:
    points = accuracy_facts()["points"]
    wanted = {"model": model, "alpha": alpha, "resolution": resolution, "checkpoint": True}
    index = next(i for i, point in enumerate(points) if wanted.items() <= point.items())
    total = cost_table(GRAPHS[model](alpha, resolution)).total
    visited = show(opened, f"#J?point={index}")
    line = visited.live()
    assert f"{model} {alpha}/{resolution}: {total.macs:,} multiply-adds, {total.weights:,} weights (counted)" in line
    assert f"top-1 {points[index]['top1']} % (quoted: TF-Slim" in line


@pytest.mark.parametrize("cost", ["macs", "weights"])
def test_no_counted_network_is_above_the_front(cost: str) -> None:
    found = accuracy_facts()
    points, front = found["points"], [found["points"][index] for index in found["fronts"][cost]]
    for point in points:
        at = [other["top1"] for other in front if other[cost] <= point[cost]]
        assert not point["counted"] or max(at) >= point["top1"]


def test_arrow_keys_go_through_the_points_and_a_guess_hides_the_accuracy(opened: Visit) -> None:
    points = accuracy_facts()["points"]
    visited = show(opened, "#J")
    first = points[0]["macs"]
    visited.page.focus("#j-chart")
    visited.page.keyboard.press("ArrowRight")
    assert points[int(visited.evaluate("page.state.point"))]["macs"] >= first
    assert visited.evaluate("document.activeElement.id") == "j-chart"
    visited.page.get_by_label("guess first").check()
    assert "%" not in visited.live()
    assert "?" in {row[4] for row in rows_of(visited, "#j-table")}


# K


def depthwise_share(graph: Graph, peak: float, rate: float) -> tuple[float, float, int]:
    """Percent of the multiply-adds, percent of the least time, layers that wait for memory."""
    rows = [row for row in cost_table(graph).rows if row.macs]
    times = [max(2 * row.macs / peak, (row.bytes_read + row.bytes_written) / rate) for row in rows]
    waiting = sum((row.bytes_read + row.bytes_written) / rate > 2 * row.macs / peak for row in rows)
    chosen = [row.kind.startswith("Conv DW") for row in rows]
    macs = sum(row.macs for row, depthwise in zip(rows, chosen, strict=True) if depthwise)
    time = sum(itertools.compress(times, chosen))
    return 100 * macs / sum(row.macs for row in rows), 100 * time / sum(times), waiting


@pytest.mark.parametrize("network", range(4))
@pytest.mark.parametrize("rate", [2, 50])
def test_shares_of_k_are_the_cost_tables(opened: Visit, network: int, rate: int) -> None:
    graph = (mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small)[network]()
    table = cost_table(graph)
    visited = show(opened, f"#K?network={graph.name}&rate={rate}")
    line, shares, layers = visited.live(), rows_of(visited, "#k-shares"), rows_of(visited, "#k-layers")
    macs, time, waiting = depthwise_share(graph, RECORDED_RUN["peak_flops"], rate * 1e9)
    assert f"depthwise: {macs:.2f} % of the multiply-adds, {time:.2f} % of the least time" in line
    assert f"{waiting} of {len(layers)} layers" in line
    assert [row[1:3] for row in shares] == [[f"{s.macs_share:.2f}", f"{s.weights_share:.2f}"] for s in table.shares()]
    expected = [[row.name, row.macs, row.bytes_read + row.bytes_written] for row in table.rows if row.macs]
    assert [[row[0], whole(row[2]), whole(row[3])] for row in layers] == expected


def test_k_says_three_per_cent_for_v1(opened: Visit) -> None:
    visited = show(opened, "#K")
    assert visited.live().startswith("depthwise: 3.06 % of the multiply-adds")
    assert rows_of(visited, "#k-times")[0][1:] == ["52,283,392", "462,422,016", "8.84"]
    assert f"{RECORDED_RUN['cpu']}, a run of npmobilenet ladder" in visited.page.inner_text("#k-machine")


def test_k_shows_the_ladder_that_the_page_was_made_with(tmp_path: Path, chromium: "Browser") -> None:
    path = tmp_path / "page.html"
    path.write_text(compose_page(ladder=LADDER), encoding="utf-8")
    with visit(chromium, path, "#K?rate=10") as visited:
        rungs = rows_of(visited, "#k-times > div:last-child")
        assert LADDER["cpu"] in visited.page.inner_text("#k-machine")
        macs, time, _ = depthwise_share(mobilenet_v1(), 50e9, 10e9)
        assert f"{macs:.2f} % of the multiply-adds, {time:.2f} % of the least time" in visited.live()
    assert [row[0] for row in rungs] == [
        f"{rung['number']} {rung['name']}" + " *" * bool(rung["sampled"]) for rung in LADDER["rungs"]
    ]
    assert [float(row[1].replace(",", "")) for row in rungs] == [rung["ms"] for rung in LADDER["rungs"]]
    assert [row[5] for row in rungs] == ["no", *["yes"] * 8]


def test_ratios_of_k_are_those_of_the_recorded_run(opened: Visit) -> None:
    rows = rows_of(show(opened, "#K"), "#k-times > div:first-child")[1:]
    times = {rung["number"]: rung["ms"] for rung in RECORDED_RUN["rungs"]}
    standard = {twin["number"]: twin["ms"] for twin in RECORDED_RUN["next_to"] if twin["name"] == "standard"}
    assert [float(row[3]) for row in rows] == pytest.approx(
        [times[0] / times[1], *(standard[rung] / times[rung] for rung in (2, 4, 7))], rel=5e-3
    )


def test_a_ladder_of_another_form_is_refused() -> None:
    with pytest.raises(NpMobileNetError, match="it has no cpu, no layer, no macs"):
        compose_page(ladder={"rungs": [], "threads": 1})


def test_roofline_facts_are_the_whole_networks() -> None:
    assert [sum(layer[2] for layer in entry["layers"]) for entry in roofline_facts()] == [
        build().macs for build in (mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small)
    ]


# L


def diagnosed(visited: Visit) -> Any:
    """The package's diagnosis of the port that view L examines, for the page's own input."""
    packed = visited.evaluate(
        "() => ({ input: Array.from(page.input.data), shape: page.input.shape, "
        "port: [...examination(currentChanges()).port].map(([name, y]) => [name, y.shape, Array.from(y.data)]) })"
    )
    x = np.array(packed["input"], np.float32).reshape(1, *packed["shape"])
    port = {name: np.array(data, np.float32).reshape(1, *shape) for name, shape, data in packed["port"]}
    return diagnose(nm.load("digits"), x, port)


@pytest.mark.parametrize(
    "switches",
    ["symmetric-padding=all", "epsilon=conv_dw_4_bn", "relu=all", "one-filter=conv_dw_3", "relu=all&stride-phase=all"],
)
def test_the_live_line_of_l_is_the_diagnosis(opened: Visit, switches: str) -> None:
    visited = show(opened, f"#L?{switches}")
    line, expected = visited.live(), diagnosed(visited)
    table = rows_of(visited, "#l-table")
    statuses = [finding.status for finding in expected.findings]
    assert expected.first is not None
    assert line.startswith(
        f"first wrong layer: {expected.first.layer}; layers wrong: {statuses.count('wrong')}, "
        f"inheriting: {statuses.count('inherits')} of {len(statuses)}; the answer is "
    )
    differing = {row[0]: row[1] for row in table}
    assert differing.items() <= {finding.layer: finding.status for finding in expected.findings}.items()
    assert {finding.layer for finding in expected.findings if finding.status == "wrong"} <= differing.keys()


def test_without_a_mistake_every_layer_is_right(opened: Visit) -> None:
    visited = show(opened, "#L")
    assert visited.live().startswith("all 91 layers are right; the answer is 4, ")


def test_l_says_where_a_mistake_changes_nothing(opened: Visit) -> None:
    """ReLU6 and ReLU are the same where no value is above 6."""
    visited = show(opened, "#L?relu=conv1_relu")
    assert visited.evaluate("page.values.get('conv1_relu').data.reduce((a, b) => Math.max(a, b)) < 6")
    assert "“ReLU instead of ReLU6” changes nothing in conv1_relu" in visited.page.inner_text("#l-notes")
    assert visited.live().startswith("all 91 layers are right")


@pytest.mark.parametrize("seed", [1, 7, 12345])
def test_find_it_can_be_solved_by_keyboard(opened: Visit, seed: int) -> None:
    visited = show(opened, f"#L?find={seed}")
    keyboard, page = visited.page.keyboard, visited.page
    assert visited.live().startswith("first wrong layer: ")
    solution = visited.evaluate("changeByChance(Number(page.state.find)).mistake.key")
    keys = visited.evaluate("MISTAKES.map(({ key }) => key)")
    assert not re.search("|".join(keys), visited.live())
    page.focus("#l-new")
    keyboard.press("Tab")
    verdicts = []
    for key in keys:
        keyboard.press("ArrowDown")
        assert visited.evaluate("page.state.guess") == key
        verdicts.append(page.inner_text("#l-verdict"))
    right = [key for key, verdict in zip(keys, verdicts, strict=True) if verdict.startswith("Right:")]
    assert right == [solution]
    assert all(verdict.startswith(("Right", "No: ")) for verdict in verdicts)


def test_the_same_seed_makes_the_same_mistake(opened: Visit) -> None:
    visited = show(opened, "#L?find=31")
    line = visited.live()
    visited.page.get_by_role("button", name="Make a mistake by chance").click()
    assert int(visited.evaluate("page.state.find")) > 0
    visited.go("#L?find=31")
    visited.page.wait_for_function("page.state.find === '31'")
    assert visited.live() == line


def test_every_mistake_comes_up(opened: Visit) -> None:
    visited = show(opened, "#L")
    drawn = visited.evaluate(
        "() => Array.from({ length: 80 }, (_, seed) => changeByChance(seed + 1))"
        ".map(({ mistake, where }) => [mistake.key, where === EVERYWHERE])"
    )
    assert {key for key, _ in drawn} == set(visited.evaluate("MISTAKES.map(({ key }) => key)"))
    assert {everywhere for _, everywhere in drawn} == {True, False}


def test_another_network_is_searched_in_slices(tmp_path: Path, chromium: "Browser") -> None:
    """A network of the reader's file, larger than what is computed at once."""
    from npmobilenet.bench.random_weights import random_model

    path = tmp_path / "page.html"
    path.write_text(compose_page(random_model(mobilenet_v1(0.25, 128))), encoding="utf-8")
    with visit(chromium, path, "#A") as visited:
        name = visited.evaluate("Object.keys(page.networks)[1]")
        visited.evaluate("async name => { await useNetwork(name) }", name)
        visited.go("#L?epsilon=all")
        assert visited.live() == "computing the port, layer by layer"
        visited.page.wait_for_function(
            "document.querySelector('#view-L .live').textContent.startsWith('first wrong layer: conv1_bn')"
        )
