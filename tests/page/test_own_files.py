"""The reader's own network, photo and drawing, given to the page as readers give them."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import npmobilenet as nm
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.bench.random_weights import random_model
from npmobilenet.exercises.first_five import judge_source
from npmobilenet.models.model import Model
from npmobilenet.page import compose_page
from tests.helpers.browsers import DESKTOP, PHONE, firefox, in_firefox, visit
from tests.helpers.images import photo
from tests.page.test_views_ip import RIGHT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NETWORKS = {
    "V1 0.25/128": lambda: random_model(mobilenet_v1(0.25, 128)),
    "V2 0.35/96": lambda: random_model(mobilenet_v2(0.35, 96)),
    "V3-Small": lambda: random_model(mobilenet_v3_small(resolution=96)),
}
FOUR = [[(150, 40), (80, 170), (210, 170)], [(170, 110), (165, 245)]]  # strokes, in pixels of the pad


def answers(visited: Any) -> Any:
    return visited.evaluate("Array.from(page.values.get(page.model.graph.layers.at(-1).name).data)")


def give(visited: Any, selector: str, path: Path) -> None:
    """Choose a file, and wait until the page has used it."""
    visited.evaluate("() => { globalThis.before = page.values }")
    visited.page.set_input_files(selector, str(path))
    visited.page.wait_for_function("page.values !== globalThis.before")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_from_a_file_answers_as_the_package(
    page_file: Path, chromium: "Browser", tmp_path: Path, name: str
) -> None:
    model: Model = NETWORKS[name]()
    model.save(tmp_path / "network.safetensors")
    photo(170, 200).save(tmp_path / "photo.png")
    with visit(chromium, page_file) as visited:
        give(visited, "#weights-file", tmp_path / "network.safetensors")
        give(visited, "#photo", tmp_path / "photo.png")
        assert visited.live().startswith(f"{model.graph.macs:,} multiply-adds")
        ours = np.array(answers(visited))
        visited.go("#B?preset=real")
        assert visited.page.locator("#b-layer option").count() > 1
    expected = model.predict(tmp_path / "photo.png", backend="reference")[0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)
    assert ours.argmax() == expected.argmax()


def test_a_file_that_is_no_network_of_ours_leaves_the_page_as_it_was(
    page_file: Path, chromium: "Browser", tmp_path: Path
) -> None:
    file = tmp_path / "network.safetensors"
    content = bytearray(Path(nm.__file__).with_name("data").joinpath("digits.safetensors").read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with visit(chromium, page_file) as visited:
        before = answers(visited)
        visited.page.set_input_files("#weights-file", str(file))
        visited.page.wait_for_function("document.getElementById('errors').textContent.includes('damaged')")
        assert answers(visited) == before
        visited.page.get_by_label("digit 7").check()
        visited.page.wait_for_function("document.getElementById('errors').textContent === ''")
        visited.errors.clear()


def test_a_network_with_a_layer_that_the_page_does_not_know_is_refused(
    page_file: Path, chromium: "Browser", tmp_path: Path
) -> None:
    random_model(mobilenet_v1(0.25, 32, output_stride=16, classes=3)).save(tmp_path / "dilated.safetensors")
    with visit(chromium, page_file) as visited:
        visited.page.set_input_files("#weights-file", str(tmp_path / "dilated.safetensors"))
        visited.page.wait_for_function("document.getElementById('errors').textContent.includes('does not compute')")
        visited.evaluate("document.getElementById('errors').textContent = ''")
        visited.errors.clear()


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_four_drawn_on_the_pad_is_read(page_file: Path, chromium: "Browser", size: tuple[int, int]) -> None:
    with visit(chromium, page_file, size=size) as visited:
        visited.page.locator("#pad").scroll_into_view_if_needed()
        box = visited.page.locator("#pad").bounding_box()
        assert box is not None
        for stroke in FOUR:
            for step, (x, y) in enumerate(stroke):
                visited.page.mouse.move(box["x"] + x * box["width"] / 280, box["y"] + y * box["height"] / 280, steps=5)
                if step == 0:
                    visited.page.mouse.down()
            visited.page.mouse.up()
        visited.page.wait_for_function("pad.steps !== null && pad.strokes.length === 2")
        assert re.search(r": 4, \d", visited.live())


def test_a_drawing_in_firefox_is_read(page_file: Path) -> None:
    found = firefox(
        page_file, f"await usePicture(pictureOfInk(strokesToInk({[list(map(list, stroke)) for stroke in FOUR]}).ink));"
        "return answers()[0].label;"
    )  # fmt: skip
    assert (found["result"], found["errors"]) == ("4", [])


def test_the_network_that_was_asked_for_is_carried_next_to_digits(tmp_path: Path, chromium: "Browser") -> None:
    model = random_model(mobilenet_v1(0.25, 32, classes=7))
    path = tmp_path / "page.html"
    path.write_text(compose_page(model), encoding="utf-8")
    with visit(chromium, path) as visited:
        visited.page.locator("#view-A select").select_option(model.graph.name)
        visited.page.wait_for_function("page.model.graph.layers.at(-1) && answers().length === 7")


def test_a_lecture_in_firefox_with_mouse_keys_and_files(page_file: Path, tmp_path: Path) -> None:
    model: Model = NETWORKS["V1 0.25/128"]()
    model.save(tmp_path / "network.safetensors")
    photo(170, 200).save(tmp_path / "photo.png")
    reader = {
        "page": str(page_file), "strokes": FOUR, "network": str(tmp_path / "network.safetensors"),
        "photo": str(tmp_path / "photo.png"), "program": RIGHT,
    }  # fmt: skip
    seen = in_firefox("journey.mjs", json.dumps(reader))
    assert (seen["errors"], seen["requests"]) == ([], [])
    assert re.search(r": 4, \d", seen["drawn"])
    assert seen["walked"].startswith(f"{seen['total']} of {seen['total']} multiplications")
    assert seen["verdict"].startswith("Right:")
    assert seen["judged"].strip() == judge_source(RIGHT, "depthwise_conv")
    expected = model.predict(tmp_path / "photo.png", backend="reference")[0]
    np.testing.assert_allclose(seen["answer"], expected, rtol=0, atol=1e-4)
