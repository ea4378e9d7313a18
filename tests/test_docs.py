"""What the README and the pages in docs/ show is what comes out.

Three kinds of blocks are run, page by page and from top to bottom, in an empty folder that has `examples/` in it:

    ```console    lines that begin with `$ npmobilenet` are run; the lines below are what the command prints
    ```python     is executed, and sees what earlier blocks of the page have defined
    ```output     is what the python block before has printed

A line that is only `...` stands for any number of lines, and `...` inside a line for the rest of a number or word.
"""

import contextlib
import io
import re
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command_line import run
from tests.helpers.keras_files import twin
from tests.helpers.real_files import ROOT, real_file
from tests.helpers.teachable_machine import LABELS, teachable_machine

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(console|python|output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(kind, text) of every block that is run."""
    yield from FENCE.findall(page.read_text(encoding="utf-8"))


def commands(block: str) -> Iterator[tuple[list[str], str]]:
    """(arguments, expected output) of every command of a console block."""
    for chunk in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, expected = chunk.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == "npmobilenet", f"only npmobilenet is run in a console block; got {line!r}"
        yield arguments, expected


def assert_shows(shown: str, printed: str, where: str) -> None:
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"[ ]*\n"
        for line in shown.rstrip("\n").splitlines()
    )
    matches = re.fullmatch(pattern, printed.rstrip("\n") + "\n")
    assert matches, f"{where}: the page shows\n{shown}\nbut this is printed\n{printed}"


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory in which `examples/` is there to be read."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_teachable_machine(folder: Path) -> None:
    """Write converted_keras.zip, as Teachable Machine exports it, and a photo."""
    import tf_keras
    from PIL import Image

    model = twin(teachable_machine(tf_keras), pixels=False).save(folder, ".h5", "keras_model")
    with zipfile.ZipFile(folder / "converted_keras.zip", "w") as archive:
        archive.write(model, "keras_model.h5")
        archive.writestr("labels.txt", "".join(f"{number} {name}\n" for number, name in enumerate(LABELS)))
    model.unlink()
    Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(folder / "photo.jpg")


def write_photos(folder: Path) -> None:
    """Sort the digits into one folder per class."""
    for path in sorted((ROOT / "examples" / "digits").glob("*.png")):
        target = folder / "photos" / ("odd" if int(path.stem) % 2 else "even")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def write_detector(folder: Path) -> None:
    """Put a detector and photographs in place."""
    shutil.copy(real_file("tflite", "ssd_mobilenet_v1_coco_uint8.tflite"), folder / "detect.tflite")
    for name in ("cat.bmp", "parrot.jpg"):
        shutil.copy(real_file("images", name), folder / name)


def copy_quantized(folder: Path) -> None:
    """Copy a real quantized file and a photograph."""
    shutil.copy(real_file("tflite", "mobilenet_v1_0.25_128_quant.tflite"), folder)
    shutil.copy(real_file("images", "parrot.jpg"), folder / "photo.jpg")


def copy_float(folder: Path) -> None:
    """Copy a real float file of TensorFlow Lite and a photograph."""
    shutil.copy(real_file("tflite", "vww_96_float.tflite"), folder / "network.tflite")
    shutil.copy(real_file("images", "parrot.jpg"), folder / "photo.jpg")


FILES = {
    "dump.md": copy_float,
    "detect.md": write_detector,
    "explain.md": copy_quantized,
    "features.md": write_photos,
    "quantized.md": copy_quantized,
    "teachable-machine.md": write_teachable_machine,
}
"""What a page's reader has already, by its name."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_prints_what_the_page_shows(page: Path, empty_folder: Path) -> None:
    if page.name in FILES:
        FILES[page.name](empty_folder)
    namespace: dict[str, Any] = {}
    printed: str | None = None
    for kind, text in blocks(page):
        if kind == "console":
            for arguments, expected in commands(text):
                result = run(*arguments)
                assert_shows(expected, result.stdout, f"{page.name}: {shlex.join(arguments)}")
        elif kind == "python":
            stream = io.StringIO()
            with contextlib.redirect_stdout(stream):
                exec(compile(text, page.name, "exec"), namespace)
            printed = stream.getvalue()
        else:
            assert printed is not None, f"{page.name}: an output block follows a python block"
            assert_shows(text, printed, page.name)


def anchors(page: Path) -> set[str]:
    """What #links into a page can name: its headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "kernels" / "README.md"], ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_in_it(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"https?:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}: no such file"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}: no such heading"


def test_a_page_that_shows_another_number_is_noticed() -> None:
    with pytest.raises(AssertionError, match="but this is printed"):
        assert_shows("parameters  4,253,865\n", "parameters  4,253,864\n", "page")


def test_dots_stand_for_any_lines_and_nothing_else_does() -> None:
    assert_shows("first\n...\nlast\n", "first\nsecond\nthird\nlast\n", "page")
    assert_shows("first\n...\n", "first\n", "page")
    with pytest.raises(AssertionError):
        assert_shows("first\n", "first\nsecond\n", "page")
