"""Views I (the whole network) and P (Python in the page), in real browsers."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npmobilenet as nm
from npmobilenet.analysis.cost import CostTable, cost_table
from npmobilenet.architectures import mobilenet_v2
from npmobilenet.errors import NpMobileNetError
from npmobilenet.exercises import IN_MICROPYTHON
from npmobilenet.exercises.first_five import judge_source
from npmobilenet.hub.published_models import KNOWN_MODELS
from npmobilenet.page.compose import FOLDER
from npmobilenet.page.facts import facts
from npmobilenet.page.python_cell import MICROPYTHON, as_script, python_cell
from tests.exercises.test_micropython import DEPTHWISE, OTHERS, _without_messages, depthwise
from tests.helpers.browsers import Visit, firefox, visit
from tests.helpers.networks import random_params
from tests.helpers.real_files import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXERCISES = ROOT / "npmobilenet" / "exercises"
FIVE = ("convolution", "depthwise_conv", "pointwise_conv", "count_macs", "best_separable")
RIGHT = (EXERCISES / "nested.py").read_text("utf-8") + "\n".join(
    (EXERCISES / "plainly.py").read_text("utf-8").split("from npmobilenet.exercises.nested import filled\n")
)
"""A program with the right answers to all five."""
WRONG = [("depthwise_conv", source) for source in DEPTHWISE] + OTHERS
LARGEST_FACTS = 200e3  # bytes
LONGEST = 6  # seconds until an endless loop is stopped


def write(visited: Visit, source: str, name: str = "depthwise_conv") -> None:
    """Choose an exercise and put a program in the text box, as a reader does."""
    if visited.page.input_value("#view-P select") != name:
        visited.page.select_option("#view-P select", name)
    visited.page.fill("#p-text", source)


def finished(visited: Visit) -> str:
    """The output, once the program has ended."""
    visited.page.wait_for_function("!writing.busy")
    return visited.page.inner_text("#p-output").strip()


def test_right_answers_pass_in_the_page(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#P") as visited:
        for name in FIVE:
            write(visited, RIGHT, name)
            visited.page.press("#p-text", "Control+Enter")
            assert finished(visited) == judge_source(RIGHT, name)
        assert "5 of 5 exercises right" in visited.live()


def test_wrong_answers_get_the_text_of_the_packages_judge(page_file: Path, chromium: "Browser") -> None:
    assert len(WRONG) >= 20
    with visit(chromium, page_file, "#P") as visited:
        for name, source in WRONG:
            shown = visited.evaluate(
                "async ([source, name]) => (await judgePython(source, name)).result", [source, name]
            )
            assert _without_messages(shown) == _without_messages(judge_source(source, name)), source


def test_the_python_cell_in_firefox(page_file: Path) -> None:
    expression = f"""
        page.open("P");
        const found = [];
        for (const [name, source] of {json.dumps([("depthwise_conv", RIGHT), *WRONG[:2]])})
          found.push((await judgePython(source, name)).result);
        const endless = await runPython("while True: pass", {{}});
        found.push(endless.stopped, endless.milliseconds);
        found.push((await judgePython({json.dumps(RIGHT)}, "pointwise_conv")).result);
        return found;
    """
    found = firefox(page_file, expression)
    assert (found["errors"], found["requests"]) == ([], [])
    *verdicts, stopped, milliseconds, after = found["result"]
    assert verdicts == [judge_source(source, "depthwise_conv") for source in (RIGHT, *DEPTHWISE[:2])]
    assert stopped
    assert milliseconds <= 1000 * LONGEST
    assert after == judge_source(RIGHT, "pointwise_conv")


def test_an_endless_loop_is_stopped_and_python_goes_on(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#P") as visited:
        visited.page.wait_for_function("document.querySelector('#view-P .live').textContent.includes('ms')")
        write(visited, depthwise(before="\n    while True: pass"))
        visited.page.click("#p-run")
        stopped = re.fullmatch(r"stopped after ([\d.]+) s: an endless loop\?", finished(visited))
        assert stopped
        assert float(stopped[1]) <= LONGEST
        write(visited, depthwise())
        visited.page.click("#p-run")
        assert finished(visited) == judge_source(depthwise(), "depthwise_conv")


def test_a_program_is_stopped_by_its_button(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#P") as visited:
        write(visited, "while True: print('again')")
        visited.page.click("#p-run")
        visited.page.wait_for_function("python.stop !== null")
        visited.page.click("#p-stop")
        assert finished(visited).splitlines()[0] == "again"
        assert visited.evaluate("document.activeElement.id") == "p-run"


def layer_by_mine(visited: Visit, source: str) -> Any:
    """What the page shows after "use mine", and the largest difference of the layer."""
    write(visited, source)
    visited.page.click("#p-mine")
    finished(visited)
    return visited.evaluate(
        "() => writing.mine && [...writing.mine.output.data].map("
        "(value, i) => value - page.values.get('conv_dw_1').data[i]).reduce((a, b) => Math.max(a, Math.abs(b)), 0)"
    )


def test_the_network_uses_the_readers_loops(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#P") as visited:
        assert layer_by_mine(visited, depthwise()) <= 1e-5
        own = "[...page.values.get(page.model.graph.layers.at(-1).name).data]"
        mine = "[...writing.mine.values.get(page.model.graph.layers.at(-1).name).data]"
        right = visited.evaluate(own)
        assert visited.evaluate(mine) == pytest.approx(right, abs=1e-5)
        rows = visited.page.locator("#p-network tbody tr").all_inner_texts()
        assert rows[0].split("\t")[1:] == rows[1].split("\t")[1:]

        assert layer_by_mine(visited, depthwise(weight="w[u][v][0]")) > 0.1
        assert max(abs(a - b) for a, b in zip(visited.evaluate(mine), right, strict=True)) > 0.01
        assert visited.evaluate(own) == right

        assert layer_by_mine(visited, depthwise(rows="1")) is None
        assert "16 × 16 × 8" in visited.page.inner_text("#p-output")
        assert layer_by_mine(visited, "def depthwise_conv(x, w, stride):\n    return nothing") is None
        assert "NameError" in visited.page.inner_text("#p-output")


def test_the_saved_file_is_what_check_takes(page_file: Path, tmp_path: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#P", accept_downloads=True) as visited:
        write(visited, depthwise())
        write(visited, dict(OTHERS)["pointwise_conv"], "pointwise_conv")
        with visited.page.expect_download() as download:
            visited.page.click("text=Save exercises.py")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
    assert path.name == "exercises.py"
    command = [sys.executable, "-m", "npmobilenet", "check", str(path), "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    statuses = {entry["name"]: entry["status"] for entry in found["exercises"]}
    assert statuses == dict.fromkeys(statuses, "not begun") | {"depthwise_conv": "right", "pointwise_conv": "wrong"}
    assert len(statuses) == len(python_cell()["starter"]["functions"])


def test_a_link_and_a_later_visit_bring_the_text_back(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#P") as visited:
        write(visited, "# mine")
        visited.page.wait_for_function("location.hash.includes('mine')")
        link = visited.evaluate("location.hash")
        visited.page.select_option("#view-P select", "convolution")
        assert visited.page.input_value("#p-text").startswith("def convolution(x, w, b, stride):")
        visited.page.goto(page_file.as_uri() + "#A")
        visited.page.reload()
        visited.page.wait_for_function("document.documentElement.dataset.ready")
        visited.go("#P")
        assert visited.page.input_value("#p-text") == "# mine"
    with visit(chromium, page_file, link) as visited:
        assert visited.page.input_value("#p-text") == "# mine"


def test_the_tabulator_leaves_the_text_and_enter_indents(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#P") as visited:
        write(visited, "def f():")
        visited.page.press("#p-text", "End")
        visited.page.keyboard.press("Enter")
        visited.page.keyboard.type("if 1:\nreturn 2")
        visited.page.keyboard.press("Enter")
        visited.page.keyboard.press("Backspace")
        visited.page.keyboard.type("return 3")
        assert visited.page.input_value("#p-text") == "def f():\n    if 1:\n        return 2\n    return 3"
        visited.page.keyboard.press("Tab")
        assert visited.evaluate("document.activeElement.id") == "p-output"


def test_the_page_carries_the_packages_own_modules(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#B") as visited:
        assert visited.evaluate("python.ready") is None
        modules = visited.evaluate("pythonCell().modules")
        shown = visited.page.locator("#view-B .code-python pre").all_text_contents()
    assert modules == {name: (EXERCISES / f"{name}.py").read_text("utf-8") for name in IN_MICROPYTHON}
    assert len(shown) == 3
    assert all(text in modules["plainly"] for text in shown)


def test_micropython_is_what_its_origin_says() -> None:
    folder = Path(str(FOLDER.joinpath(MICROPYTHON)))
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected


def test_another_loader_is_refused() -> None:
    loader = FOLDER.joinpath(MICROPYTHON, "micropython.mjs").read_text(encoding="utf-8")
    script = as_script(loader)
    assert [script.count(text) for text in ("import.meta", "export default", "export async")] == [0, 0, 0]
    assert script.count('"about:blank"') == 4
    with pytest.raises(NpMobileNetError, match=r"expected 'import\.meta\.url' 4 times, found it 5 times"):
        as_script(loader + "import.meta.url")


SHARES = """
    unit => {
      const { layers } = shareState();
      const total = sumOf(layers, unit);
      const kinds = [...new Set(layers.map(layer => layer.kind))];
      return {
        names: layers.map(layer => layer.name), shapes: layers.map(shapeText), values: layers.map(layer => layer[unit]),
        kinds: Object.fromEntries(kinds.map(kind => [kind, 100 * sumOf(ofKind(layers, kind), unit) / total])),
      };
    }
"""
WIDTHS = """
    [...document.querySelectorAll('#i-strip svg > rect')].slice(0, -1).map(bar => Number(bar.getAttribute('width')))
"""


def counts(table: CostTable) -> dict[str, list[int]]:
    """What the page shares out, of the layers with a kernel."""
    rows = [row for row in table.rows if row.weights]
    return {
        "macs": [row.macs for row in rows],
        "weights": [row.weights for row in rows],
        "bytes": [row.bytes_read + row.bytes_written for row in rows],
    }


def test_shares_of_all_published_networks_are_the_cost_tables(page_file: Path, chromium: "Browser") -> None:
    assert len(KNOWN_MODELS) == 44
    with visit(chromium, page_file, "#I") as visited:
        for model in KNOWN_MODELS:
            table = cost_table(model.graph())
            rows = [row for row in table.rows if row.weights]
            for unit, values in counts(table).items():
                visited.evaluate("([net, unit]) => page.set({net, unit})", [model.name, unit])
                shown = visited.evaluate(SHARES, unit)
                assert shown["values"] == values
                assert shown["names"] == [row.name for row in rows]
                assert shown["shapes"] == [" × ".join(map(str, ((1, 1, *row.output_shape)[-3:]))) for row in rows]
                widths = visited.evaluate(WIDTHS)
                scale = sum(values) / sum(widths)
                assert [width * scale for width in widths] == pytest.approx(values, rel=1e-9)
                if unit != "bytes":
                    expected = {share.kind: getattr(share, f"{unit}_share") for share in table.shares()}
                    assert shown["kinds"] == pytest.approx(expected, rel=1e-12)


def test_the_live_line_gives_the_papers_figures_and_the_erratum(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#I?net=mobilenet_v1_1.0_224") as visited:
        assert "94.86% of the multiply-adds, 74.59% of the weights. Paper: 94.86, 74.59." in visited.live()
        visited.evaluate("page.set({layer: 0})")
        assert "1.91% of the multiply-adds, 0.02%" in visited.live()
        assert "1.19 (an erratum: digits swapped, it is 1.91), 0.02" in visited.live()
        whole = " ".join(visited.page.locator("#i-kinds p").all_inner_texts())
        assert "569 million multiply-adds; counted 568.74: agrees" in whole
        visited.evaluate("page.set({net: 'mobilenet_v3_large_1.0_224'})")
        whole = " ".join(visited.page.locator("#i-kinds p").all_inner_texts())
        assert "219 million multiply-adds; counted 216.59: differs" in whole


def test_keys_and_clicks_choose_a_layer_and_its_maps_are_the_networks(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#I?net=digits&layer=0") as visited:
        visited.page.focus("#i-layer input")
        for _ in range(2):
            visited.page.keyboard.press("ArrowRight")
        assert visited.live().startswith("conv_pw_1:")
        visited.page.locator("#i-strip svg > rect").nth(4).click()
        assert visited.live().startswith("conv_pw_2:")
        assert visited.page.locator("#i-one canvas").count() == 16
        shown, expected = visited.evaluate("""() => {
          const canvas = document.querySelectorAll('#i-one canvas')[3];
          const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          const value = page.values.get('conv_pw_2');
          const limit = Math.max(...value.data.map(Math.abs));
          return [[...pixels].filter((_, i) => i % 4 === 0),
                  [...value.data].filter((_, i) => i % 32 === 3).map(x => 128 + 127 * x / limit)];
        }""")
        assert shown == pytest.approx(expected, abs=0.51)
        visited.evaluate("page.set({net: 'mobilenet_v2_1.0_224', layer: 20})")
        assert visited.page.locator("#i-one canvas").count() == 0
        visited.page.click("#i-one button")
        assert visited.page.locator("#i-one canvas").count() == 16


def test_network_width_and_resolution_are_chosen_from_what_is_published(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#I") as visited:
        reached = set()
        families = visited.page.locator("#view-I .controls select").first
        for family in [option.get_attribute("value") for option in families.locator("option").all()]:
            families.select_option(family)
            for alpha in visited.page.locator("#i-alpha option").all_inner_texts():
                visited.page.select_option("#i-alpha select", alpha)
                for side in visited.page.locator("#i-resolution option").all_inner_texts():
                    visited.page.select_option("#i-resolution select", side)
                    reached.add(visited.evaluate("shownNetwork().name"))
        assert reached == {model.name for model in KNOWN_MODELS} | {"digits"}


@pytest.mark.parametrize("classes", [1000, 7])
def test_maps_of_a_network_of_the_readers(page_file: Path, tmp_path: Path, chromium: "Browser", classes: int) -> None:
    graph = mobilenet_v2(alpha=0.35, resolution=96, classes=classes)
    path = tmp_path / "model.safetensors"
    nm.Model(graph, random_params(graph, 0)).save(path)
    with visit(chromium, page_file, "#I?net=mobilenet_v1_1.0_224") as visited:
        file = base64.b64encode(path.read_bytes()).decode("ascii")
        visited.evaluate("file => useModel(bytesOf(file))", file)
        if classes == 7:
            assert "none of these" in visited.page.inner_text("#i-one")
            return
        visited.page.click("#i-one button")
        assert visited.evaluate("shownNetwork().name") == "mobilenet_v2_0.35_96"
        assert visited.page.locator("#i-one canvas").count() == 16


def test_time_is_measured_for_the_network_in_use(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#I?net=digits&unit=time") as visited:
        times = visited.evaluate("shareState().layers.map(layer => layer.time)")
        assert len(times) == 28
        assert min(times) > 0
        assert "time in this page" in visited.live()
        visited.evaluate("page.set({net: 'mobilenet_v1_1.0_224'})")
        assert "time" not in visited.live()


def test_facts_are_small() -> None:
    document = json.dumps(facts(ladder=None, language="en"), ensure_ascii=False, separators=(",", ":"))
    assert len(document.encode()) <= LARGEST_FACTS
