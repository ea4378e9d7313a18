"""The composed page, and Chromium, once per worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from npmobilenet.page import compose_page
from tests.helpers import browsers

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with digits alone."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(compose_page(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """Chromium, without a window."""
    with browsers.chromium() as browser:
        yield browser
