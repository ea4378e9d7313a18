"""The page as a whole, in real browsers: offline, quick, reachable by keyboard, accessible, narrow enough."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import npmobilenet as nm
from npmobilenet.cli.main import SUMMARIES
from npmobilenet.figures.figure_catalog import FIGURES
from npmobilenet.figures.words import LANGUAGES
from npmobilenet.page import compose_page
from npmobilenet.page.compose import SCRIPTS
from tests.helpers.browsers import PHONE, firefox, npm_package, visit
from tests.helpers.real_files import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VIEWS = "".join(script[-1].upper() for script in SCRIPTS if script.startswith("views/"))
LARGEST_PAGE = 2.5e6  # bytes
LONGEST_OPENING = 8  # times a blank page: 1.5 s, where that takes 0.19 s
BLANK = "<!doctype html><div id='errors'></div><script>document.documentElement.dataset.ready = 'true'</script>"
DIGITS = [ROOT / "examples" / "digits" / f"{digit}.png" for digit in range(10)]
ALL_ANSWERS = """
    const found = [];
    for (let digit = 0; digit < 10; digit++) {
      await usePicture(exampleDigit(digit));
      found.push(Array.from(page.values.get(page.model.graph.layers.at(-1).name).data));
    }
    return found;
"""


def expected_answers() -> Any:
    return nm.load("digits").predict(DIGITS, backend="reference")


def test_it_carries_the_example_images(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file) as visited:
        for digit, path in enumerate(DIGITS):
            ours = visited.evaluate("digit => Array.from(exampleDigit(digit).data)", digit)
            np.testing.assert_array_equal(np.array(ours).reshape(64, 64, 3), np.asarray(Image.open(path)))


def test_offline_in_chromium_it_answers_as_the_package(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file) as visited:
        answers = visited.evaluate(f"async () => {{ {ALL_ANSWERS} }}")
    np.testing.assert_allclose(answers, expected_answers(), rtol=0, atol=1e-5)


def test_offline_in_firefox_it_answers_as_the_package(page_file: Path) -> None:
    found = firefox(page_file, ALL_ANSWERS)
    assert (found["errors"], found["requests"]) == ([], [])
    np.testing.assert_allclose(found["result"], expected_answers(), rtol=0, atol=1e-5)


def test_budget_of_size(page_file: Path) -> None:
    assert page_file.stat().st_size <= LARGEST_PAGE


def test_budget_of_time(page_file: Path, tmp_path: Path, chromium: "Browser") -> None:
    blank = tmp_path / "blank.html"
    blank.write_text(BLANK, encoding="utf-8")

    def opening(path: Path) -> float:
        started = time.perf_counter()
        with visit(chromium, path):
            return time.perf_counter() - started

    times = [(opening(page_file), opening(blank)) for _ in range(5)]
    assert min(page for page, _ in times) <= LONGEST_OPENING * min(empty for _, empty in times)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("letter", VIEWS)
def test_on_a_telephone_nothing_scrolls_sideways(
    page_file: Path, chromium: "Browser", letter: str, language: str
) -> None:
    with visit(chromium, page_file, f"#{letter}?lang={language}", PHONE) as visited:
        assert visited.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_no_violation(page_file: Path, chromium: "Browser", language: str, scheme: str) -> None:
    axe = (npm_package("axe-core") / "axe.min.js").read_text(encoding="utf-8")
    with visit(chromium, page_file, f"#A?lang={language}", color_scheme=scheme) as visited:
        visited.evaluate(axe)
        found = {}
        for letter in VIEWS:
            visited.go(f"#{letter}?lang={language}")
            visited.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
            result = visited.evaluate("axe.run(document, {resultTypes: ['violations']})")
            found[letter] = [(rule["id"], rule["nodes"][0]["html"]) for rule in result["violations"]]
    assert found == {letter: [] for letter in VIEWS}


def test_keyboard_alone_reaches_every_view_and_moves_every_control(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#A") as visited:
        keyboard = visited.page.keyboard
        for letter in VIEWS:
            visited.page.wait_for_function("letter => page.state.view === letter", arg=letter)
            move_every_control(visited.page, letter)
            visited.page.focus("#main")
            keyboard.press("ArrowRight")


def move_every_control(page: Any, letter: str) -> None:
    """Go through a view with the tabulator; sliders and choices to both ends, check boxes there and back."""
    controls = page.locator(f"#view-{letter} :is(input, select)").count()
    for index in range(controls):
        control = page.locator(f"#view-{letter} :is(input, select)").nth(index)
        if not control.is_visible() or control.get_attribute("type") == "file":
            continue
        control.focus()
        for key in ("Space", "Space") if control.get_attribute("type") in ("checkbox", "radio") else ("End", "Home"):
            page.keyboard.press(key)
        assert page.inner_text(f"#view-{letter} .live") != ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_view_prints_on_the_handout(page_file: Path, chromium: "Browser", language: str) -> None:
    with visit(chromium, page_file, f"#C?lang={language}") as visited:
        visited.evaluate("buildHandout()")
        shown = visited.evaluate(
            "[...document.querySelectorAll('main > section')].map(view => view.id || view.className)"
        )
        assert shown == ["sheet", *(f"view-{letter}" for letter in VIEWS)]


def test_links_reload_and_the_browsers_back_button_keep_the_state(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#B?preset=real&step=41") as visited:
        assert "41" in visited.live()
        visited.evaluate("page.open('C')")
        visited.page.wait_for_function("page.state.view === 'C'")
        visited.page.go_back()
        visited.page.wait_for_function("page.state.view === 'B'")
        assert "41" in visited.live()
        visited.page.reload()
        visited.page.wait_for_function("document.documentElement.dataset.ready")
        assert "41" in visited.live()


def test_it_opens_in_the_language_that_was_asked_for(tmp_path: Path, chromium: "Browser") -> None:
    path = tmp_path / "page.html"
    path.write_text(compose_page(language="zh"), encoding="utf-8")
    with visit(chromium, path) as visited:
        assert visited.evaluate("document.documentElement.lang") == "zh"


def test_an_error_is_shown_with_the_name_of_the_view(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file, "#C") as visited:
        visited.evaluate("setTimeout(() => { throw new Error('by hand') })")
        visited.page.wait_for_function("document.getElementById('errors').textContent !== ''")
        assert visited.page.inner_text("#errors") == "C: by hand"
        visited.evaluate("document.getElementById('errors').textContent = ''")
        visited.errors.clear()


def test_the_line_that_is_executed_is_marked(page_file: Path, chromium: "Browser") -> None:
    marked = "[...document.querySelectorAll('#view-B .code pre')].map(pre => pre.querySelectorAll('mark').length)"
    with visit(chromium, page_file, "#B?step=1") as visited:
        depthwise = visited.evaluate(marked)
        visited.evaluate("page.set({step: 28})")  # 27 multiplications filter, the 28th mixes
        assert depthwise == [1, 0, 1, 0, 0, 1, 0, 0]
        assert visited.evaluate(marked) == [0, 1, 0, 1, 0, 0, 1, 0]
        visited.evaluate("page.set({step: 0})")
        assert sum(visited.evaluate(marked)) == 0


def test_the_command_of_each_view_exists(page_file: Path, chromium: "Browser") -> None:
    with visit(chromium, page_file) as visited:
        commands = visited.evaluate("COMMANDS")
        visited.page.get_by_role("button", name="Copy").click()
        assert visited.evaluate("getSelection().toString()") == commands["A"]
    assert "".join(commands) == VIEWS
    for words in (command.split() for command in commands.values()):
        assert words[0] == "npmobilenet"
        assert words[1] in SUMMARIES
        assert words[1] != "figures" or set(words[2:]) <= FIGURES.keys()


def test_the_code_that_is_shown_is_the_code_that_runs(page_file: Path, chromium: "Browser") -> None:
    reference = "".join(path.read_text("utf-8") for path in (ROOT / "npmobilenet" / "reference").glob("*.py"))
    with visit(chromium, page_file, "#B") as visited:
        shown = visited.evaluate(
            "[...document.querySelectorAll('#view-B .code-javascript pre')].map(pre => pre.textContent)"
        )
        assert shown == visited.evaluate("[depthwiseSteps, pointwiseSteps, convSteps].map(String)")
        sources = json.loads(visited.evaluate("document.getElementById('facts').textContent"))["sources"]["numpy"]
        assert all(text in reference for text in sources.values())
