"""Take screenshots of the page in Chromium: every view, for people to look at, or the README's image.

    python scripts/screenshots.py FOLDER      every view: screen and telephone, both languages, light and dark
    python scripts/screenshots.py --readme    docs/page.png

Needs the `test` extra and Debian's chromium.
"""

import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from npmobilenet.figures.words import LANGUAGES  # noqa: E402
from npmobilenet.page import compose_page  # noqa: E402
from npmobilenet.page.compose import SCRIPTS  # noqa: E402
from tests.helpers.browsers import DESKTOP, PHONE, chromium, visit  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

README_VIEW = "#B?preset=real&step=104&lang=en"
SCHEMES = ("light", "dark")


def take_all(browser: "Browser", page: Path, folder: Path) -> None:
    """Every view in every size, language and scheme, down to its end."""
    letters = [script[-1].upper() for script in SCRIPTS if script.startswith("views/")]
    for (name, size), language, scheme in product({"screen": DESKTOP, "phone": PHONE}.items(), LANGUAGES, SCHEMES):
        with visit(browser, page, size=size, color_scheme=scheme) as visited:
            for letter in letters:
                visited.go(f"#{letter}?lang={language}")
                visited.page.wait_for_timeout(200)
                visited.page.screenshot(path=folder / f"{letter}-{name}-{language}-{scheme}.png", full_page=True)


def take_readme(browser: "Browser", page: Path) -> None:
    """View B in the middle of a pointwise convolution."""
    with visit(browser, page, README_VIEW) as visited:
        visited.page.screenshot(path=ROOT / "docs" / "page.png")


def main(arguments: list[str]) -> None:
    """Compose the page and take what was asked for."""
    if len(arguments) != 1:
        sys.exit("usage: screenshots.py FOLDER | --readme")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page = Path(folder) / "page.html"
        page.write_text(compose_page(), encoding="utf-8")
        if arguments == ["--readme"]:
            take_readme(browser, page)
        else:
            Path(arguments[0]).mkdir(parents=True, exist_ok=True)
            take_all(browser, page, Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
