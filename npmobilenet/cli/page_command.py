"""`npmobilenet page`."""

import json
import webbrowser
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.cli.options import Option
from npmobilenet.cli.shared import Language, load_with_notes, reported
from npmobilenet.errors import NpMobileNetError
from npmobilenet.files import write_atomically
from npmobilenet.hub.load import DIGITS
from npmobilenet.output import print_line


def page(
    output: Annotated[Path, Option("--output", "-o", metavar="FILE", help="File to write.")] = Path("mobilenet.html"),
    model: Annotated[
        str, Option("--model", "-m", metavar="M", help="Known name or file of a network to carry next to digits.")
    ] = DIGITS,
    ladder: Annotated[
        Path | None, Option("--ladder", metavar="FILE", help="Times of a machine: npmobilenet ladder --json > FILE.")
    ] = None,
    lang: Annotated[Language, Option("--lang", help="Language that the page opens in; it has both.")] = Language.en,
    open: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write the page: a real MobileNet, number by number, in one HTML file that needs no network."""
    from npmobilenet.page import compose_page

    with reported(as_json=False):
        network = None if model == DIGITS else load_with_notes(model)
        times = None if ladder is None else _read_ladder(ladder)
        content = compose_page(network, ladder=times, language=lang.value).encode()
        write_atomically(output, content)
    print_line(f"{output}: {len(content) / 1e6:.2f} MB")
    if open:
        webbrowser.open(output.absolute().as_uri())


def _read_ladder(path: Path) -> dict[str, Any]:
    """The document that `npmobilenet ladder --json` has written."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise NpMobileNetError(f"{path}: expected the output of npmobilenet ladder --json: {error}") from None
    if not isinstance(document, dict):
        raise NpMobileNetError(f"{path}: expected the output of npmobilenet ladder --json, an object")
    return document
