"""Every figure in both languages: nothing overlaps, nothing is cut, text is text, and gray is enough."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from npmobilenet.errors import ArgumentError, NpMobileNetError
from npmobilenet.figures import style
from npmobilenet.figures.figure_catalog import FIGURES, drawn, rendered, write_figure
from npmobilenet.figures.style import PALETTE, SMALL, cjk_font
from npmobilenet.figures.words import LANGUAGES, texts, wrap

SVG = "{http://www.w3.org/2000/svg}"
TOUCHING = 0.25  # points by which the boxes of two texts, which include the space around letters, may meet
LIGHTNESS_STEP = 15  # CIELAB: neighboring grays of a printed bar chart are told apart from about 10 on
COLOR_STEP = 15  # CIELAB distance under each kind of color blindness; 2 is just noticeable side by side
MACHADO = {  # color blindness of full severity in linear RGB (Machado et al. 2009, table 1)
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


@cache
def numbers(name: str) -> dict[str, Any]:
    return FIGURES[name].data()


@contextmanager
def texts_drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Text]]:
    """Texts that are rendered meanwhile: those of hidden ticks are not."""
    found: dict[int, Text] = {}
    draw = Text.draw

    def recording(self: Text, *arguments: Any, **keywords: Any) -> None:
        if self.get_visible() and self.get_text():
            found[id(self)] = self
        draw(self, *arguments, **keywords)

    listed: list[Text] = []
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", recording)
        yield listed
    listed += found.values()


def need_font(language: str) -> None:
    if language == "zh":
        try:
            cjk_font()
        except NpMobileNetError as error:
            pytest.skip(str(error))


def extent(text: Text) -> Bbox:
    """What a text covers, with the box that it is written on; the line to what an annotation names is no part of it."""
    patch = text.get_bbox_patch()
    return Text.get_window_extent(text) if patch is None else patch.get_window_extent()


def overlaps(texts: list[Text], boxes: list[Bbox]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a margin."""
    corners = np.array([[box.x0 + TOUCHING, box.y0 + TOUCHING, box.x1 - TOUCHING, box.y1 - TOUCHING] for box in boxes])
    return [
        (texts[a].get_text(), texts[b].get_text())
        for a, b in combinations(range(len(texts)), 2)
        if np.all(np.maximum(corners[a][:2], corners[b][:2]) < np.minimum(corners[a][2:], corners[b][2:]))
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FIGURES)
def test_texts_stand_clear_of_each_other_and_of_the_edges(
    name: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_font(language)
    figure = FIGURES[name]
    canvas = drawn(figure, numbers(name), language)
    with texts_drawn(monkeypatch) as shown:
        content = rendered(canvas, "svg", language)
    canvas.set_dpi(72)  # as an SVG has: one unit a point
    with style.rendering(language):
        boxes = [extent(text) for text in shown]
    assert overlaps(shown, boxes) == []
    width, height = (72 * side for side in figure.size)
    cut = [
        text.get_text()
        for text, box in zip(shown, boxes, strict=True)
        if not (box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height)
    ]
    assert cut == []
    assert min(float(text.get_fontsize()) for text in shown) >= SMALL
    written = "".join("".join(element.itertext()) for element in ElementTree.fromstring(content).iter(f"{SVG}text"))
    caption = wrap(figure.caption(numbers(name), language), 10**6)
    for text in (figure.title(language), caption):
        assert text.replace(" ", "") in written.replace(" ", ""), "text is text in the file"


def test_the_overlap_test_finds_an_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = drawn(FIGURES["relu6"], numbers("relu6"))
    canvas.text(0.5, 0.5, "one text")
    canvas.text(0.51, 0.5, "another text")
    with texts_drawn(monkeypatch) as shown:
        rendered(canvas, "svg")
    assert ("one text", "another text") in overlaps(shown, [extent(text) for text in shown])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_gif_has_a_frame_per_step_and_no_overlaps(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_font(language)
    (path,), data = write_figure("window", tmp_path, ("gif",), language, size=3)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == len(data["steps"]) == 4
    for frame in (0, 3):
        canvas = drawn(FIGURES["window"], data, language, frame)
        with texts_drawn(monkeypatch) as shown:
            rendered(canvas, "png", language)
        with style.rendering(language):
            assert overlaps(shown, [extent(text) for text in shown]) == []


def test_a_figure_that_does_not_move_is_no_gif(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="ratio does not move; gif is a format of window"):
        write_figure("ratio", tmp_path, ("gif",))


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_files_are_equal_whenever_they_are_written(form: str, tmp_path: Path) -> None:
    contents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (path,), data = write_figure("ratio", tmp_path / folder, (form,))
        assert (path, data) == (tmp_path / folder / f"ratio.{form}", numbers("ratio"))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[form])


def test_unknown_names_formats_and_languages_are_refused(tmp_path: Path) -> None:
    for arguments in (("ratios",), ("ratio", ("jpg",)), ("ratio", ("svg",), "de")):
        name, *rest = arguments
        with pytest.raises(ArgumentError, match=r"unknown (figure 'ratios'|format 'jpg'|language 'de'); choose from"):
            write_figure(str(name), tmp_path, *rest)
    assert list(tmp_path.iterdir()) == []


def test_without_a_font_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "CJK_FONTS", ())
    with pytest.raises(NpMobileNetError, match="apt install fonts-noto-cjk"):
        style.rendering("zh")


def lab(color: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """CIELAB of a color in linear RGB."""
    xyz = np.array(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))) @ color
    scaled = np.clip(xyz / (0.9505, 1.0, 1.089), 0, None)
    f = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array((116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])))


def linear(color: str) -> np.ndarray[Any, Any]:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def test_colors_are_apart_in_gray() -> None:
    lightness = [float(lab(linear(color))[0]) for color in PALETTE]
    assert lightness == sorted(lightness)
    assert min(b - a for a, b in pairwise(lightness)) > LIGHTNESS_STEP


@pytest.mark.parametrize("kind", MACHADO)
def test_colors_are_apart_for_the_color_blind(kind: str) -> None:
    seen = [lab(np.clip(np.array(MACHADO[kind]) @ linear(color), 0, 1)) for color in PALETTE]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > COLOR_STEP


def test_series_differ_in_more_than_color() -> None:
    looks = [(look.line, look.marker, look.hatch) for look in style.LOOKS]
    for part in zip(*looks, strict=True):
        assert len(set(part)) == len(looks)


def test_both_languages_have_every_text_with_the_same_placeholders() -> None:
    import string

    for key, entry in texts().items():
        assert list(entry) == list(LANGUAGES), key
        english, chinese = (
            {field for _, field, _, _ in string.Formatter().parse(entry[language]) if field} for language in LANGUAGES
        )
        assert chinese <= english, key
        if key.endswith((".title", ".caption")):
            assert any("\u4e00" <= letter <= "\u9fff" for letter in entry["zh"]) or key == "swish.title", key
        assert entry["en"].isascii() or not any("\u4e00" <= letter <= "\u9fff" for letter in entry["en"]), key


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("K = 3 and 5 % of it", 9, ["K\u00a0=\u00a03 and", "5\u00a0% of it"]),
        ("深度卷积，逐点卷积。", 8, ["深度卷", "积，逐点", "卷积。"]),
        ("V1 的 3×3 卷积", 6, ["V1 的", "3×3 卷", "积"]),
    ],
)
def test_lines_end_between_words_and_after_chinese_characters(text: str, width: int, lines: list[str]) -> None:
    assert wrap(text, width).split("\n") == lines


@given(st.text("ab 中文，。", max_size=80), st.integers(4, 30))
def test_wrapped_lines_lose_nothing(text: str, width: int) -> None:
    assert "".join(wrap(text, width).split()) == "".join(text.split())
