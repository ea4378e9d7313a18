"""Real browsers for the tests of the page: Chromium by Playwright, Firefox by WebDriver BiDi, and npm's packages.

Where one is missing, its tests are skipped with a line that says what to install; NPMOBILENET_NEED_BROWSERS=1, which CI
sets, makes that a failure.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.real_files import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE_TESTS = ROOT / "tests" / "page"
NODE_MODULES = PAGE_TESTS / "node_modules"
READY = "document.documentElement.dataset.ready"
DESKTOP, PHONE = (1280, 720), (360, 740)  # width and height in pixels


def needed(what: str, install: str) -> None:
    """Skip the test for want of a program, or fail where browsers must be there."""
    message = f"needs {what}: {install}"
    if os.environ.get("NPMOBILENET_NEED_BROWSERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def program(*names: str) -> str:
    """Path of the first of these programs that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        needed(names[0], f"apt-get install {names[0]}")
    return str(found)


def npm_package(name: str) -> Path:
    """Folder of a package of tests/page/package.json."""
    folder = NODE_MODULES / name
    if not folder.is_dir():
        needed(f"the npm package {name}", "(cd tests/page && npm install --no-package-lock)")
    return folder


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Chromium, without a window."""
    path = program("chromium", "chromium-browser", "google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page opened in Chromium, and what it did that it should not.

    Attributes:
        page: Playwright's page.
        errors: errors that no one caught.
        requests: addresses that it asked for, other than itself; all of them are refused.
    """

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        """Value of a JavaScript expression, or of a function called with `argument`."""
        return self.page.evaluate(expression, argument)

    def go(self, hash: str) -> None:
        """Open a view: "#B?step=3"."""
        self.evaluate("hash => { location.hash = hash }", hash)
        self.page.wait_for_function("letter => page.state.view === letter", arg=hash.lstrip("#")[0])

    def live(self) -> str:
        """The line of live numbers of the view that is shown."""
        return self.page.inner_text(".view:not([hidden]) .live")

    def check(self) -> None:
        """Fail if the page had an error, showed one, or asked for anything."""
        assert (self.errors, self.requests, self.page.inner_text("#errors")) == ([], [], "")


@contextmanager
def visit(
    browser: "Browser", path: Path, hash: str = "", size: tuple[int, int] = DESKTOP, **context: Any
) -> Iterator[Visit]:
    """Open a file in Chromium with the network cut, wait until it is ready, and check at the end that it behaved.

    Args:
        browser: Chromium.
        path: the HTML file.
        hash: view and state, "#B?step=3".
        size: of the window, in pixels.
        context: options of Playwright's `new_context`, such as color_scheme.
    """
    opened = browser.new_context(viewport={"width": size[0], "height": size[1]}, **context)
    tab = opened.new_page()
    visited = Visit(tab)
    tab.on("pageerror", lambda error: visited.errors.append(str(error)))
    address = path.as_uri()

    def refuse(route: Any) -> None:
        if route.request.url.partition("#")[0] == address or route.request.url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            visited.requests.append(route.request.url)
            route.abort()

    tab.route("**/*", refuse)
    tab.goto(address + hash)
    tab.wait_for_function(READY)
    yield visited
    visited.check()
    opened.close()


def firefox(path: Path, expression: str) -> dict[str, Any]:
    """Open a file in Firefox and run the body of an asynchronous function in it.

    Returns:
        {"result": what it returned, "errors": [...], "requests": [...], "milliseconds": until the page was ready}.
    """
    return in_firefox("firefox.mjs", str(path), expression)


def in_firefox(script: str, argument: str, standard_input: str = "") -> dict[str, Any]:
    """The JSON that a script of tests/page prints, which drives Firefox."""
    npm_package("puppeteer-core")
    command = [program("node"), str(PAGE_TESTS / script), program("firefox-esr", "firefox"), argument]
    done = subprocess.run(command, input=standard_input, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document
