"""The look of all figures: colors that differ in lightness, fonts, and the parameters of matplotlib."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from npmobilenet.errors import NpMobileNetError

INK, QUIET, GRID, PAPER = "#1a1a1a", "#595959", "#d0d0d0", "#ffffff"
DARK, MIDDLE, LIGHT, PALE = "#0b3c73", "#c2570c", "#7db8e8", "#f6dfb5"
PALETTE = (DARK, MIDDLE, LIGHT, PALE)
"""Apart by more than 15 steps of lightness each, so that they remain apart in gray and to color-blind readers."""
SMALL, NORMAL, LARGE = 9, 10, 12  # font sizes in points; none is smaller

CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Heiti SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
)
"""Fonts with Chinese characters, the first that matplotlib finds is used."""


@dataclass(frozen=True)
class Look:
    """How one of several series looks; each differs from the others in more than its color."""

    color: str
    line: str
    marker: str
    hatch: str


LOOKS = (
    Look(DARK, "-", "o", ""),
    Look(MIDDLE, "--", "s", "///"),
    Look(LIGHT, "-.", "^", "..."),
    Look(QUIET, ":", "D", "xxx"),
    Look(DARK, (0, (1, 1)), "v", "\\\\\\"),  # type: ignore[arg-type]
    Look(MIDDLE, (0, (5, 1, 1, 1)), "P", "+++"),  # type: ignore[arg-type]
)


def rendering(language: str) -> AbstractContextManager[None]:
    """Context with the parameters in which a figure is drawn and saved.

    Raises:
        NpMobileNetError: matplotlib is not installed, or has no font for the language.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise NpMobileNetError("drawing requires matplotlib: pip install 'npmobilenet[plot]'") from error
    context: AbstractContextManager[None] = mpl.rc_context(dict(parameters(language)))  # type: ignore[arg-type]
    return context


def parameters(language: str) -> Mapping[str, Any]:
    """Parameters of matplotlib: text stays text in an SVG, no file holds a date or a random id."""
    from cycler import cycler

    families = ["DejaVu Sans", "sans-serif"] if language == "en" else [cjk_font(), "DejaVu Sans", "sans-serif"]
    return {
        "font.family": families,
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": NORMAL,
        "axes.titlesize": NORMAL,
        "axes.labelsize": NORMAL,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "figure.titlesize": LARGE,
        "text.color": INK,
        "axes.edgecolor": QUIET,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "hatch.linewidth": 0.6,
        "legend.framealpha": 1.0,
        "axes.unicode_minus": False,
        "axes.prop_cycle": cycler(color=PALETTE[:3]),
        "svg.fonttype": "none",
        "svg.hashsalt": "npmobilenet",
        "pdf.fonttype": 3,
        "savefig.dpi": 150,
        "savefig.facecolor": PAPER,
    }


def cjk_font() -> str:
    """Name of an installed font with Chinese characters.

    Raises:
        NpMobileNetError: matplotlib finds none.
    """
    from matplotlib import font_manager

    found = _first_font({font.name for font in font_manager.fontManager.ttflist}) or _newly_installed_font()
    if found is None:
        raise NpMobileNetError(
            "matplotlib finds no font with Chinese characters; install one, such as Noto Sans CJK (Debian and Ubuntu: "
            "apt install fonts-noto-cjk), or draw with --lang en"
        )
    return found


def _first_font(names: set[str]) -> str | None:
    return next((name for name in CJK_FONTS if name in names), None)


def _newly_installed_font() -> str | None:
    """A font that was installed after matplotlib wrote its list of fonts; it is added to the list of this process."""
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known and any(name.replace(" ", "") in path.replace(" ", "") for name in ("CJK", "Han", "Hei")):
            font_manager.fontManager.addfont(path)
    return _first_font({font.name for font in font_manager.fontManager.ttflist})
