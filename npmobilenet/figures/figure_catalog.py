"""All figures by name: their numbers, their drawing, their size and source; files in any format and language."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npmobilenet.errors import ArgumentError
from npmobilenet.figures import (
    accuracy_figures,
    activation_figures,
    block_figures,
    detection_figures,
    edge_figures,
    filter_figures,
    ladder_figure,
    memory_figures,
    network_figures,
    normalization_figures,
    quantization_figures,
    tail_figures,
)
from npmobilenet.figures.style import LARGE, SMALL, rendering
from npmobilenet.figures.words import LANGUAGES, Words, wrap
from npmobilenet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

V1, V2, V3 = (
    "Howard et al. 2017, arXiv:1704.04861",
    "Sandler et al. 2018, arXiv:1801.04381",
    "Howard et al. 2019, arXiv:1905.02244",
)
FORMATS = ("svg", "png", "pdf", "gif")
FRAME_SECONDS = 1.2
COLUMNS_PER_INCH = 14.0  # of the caption; DejaVu Sans at 9 points has 14 to 16 letters per inch


@dataclass(frozen=True)
class Definition:
    """One figure.

    Attributes:
        name: on the command line.
        data: the numbers, plain values alone; its keyword arguments are the figure's options.
        draw: draws them on an empty figure, with texts in one language.
        source: what it shows in which publication, empty if none.
        size: width and height in inches.
        draw_frame: draws one step of an animation, whose number it takes last; None for a figure that does not move.
        frame_size: width and height of a frame in inches.
    """

    name: str
    data: Callable[..., dict[str, Any]]
    draw: Callable[[dict[str, Any], "Canvas", Words], None]
    source: str
    size: tuple[float, float] = (9.0, 5.6)
    draw_frame: Callable[[dict[str, Any], "Canvas", Words, int], None] | None = None
    frame_size: tuple[float, float] = (9.0, 5.0)

    def title(self, language: str) -> str:
        """Its title."""
        return Words(language)(f"{self.name}.title")

    def caption(self, data: Mapping[str, Any], language: str) -> str:
        """What it shows, with numbers of the data, the verdict on what was printed, and its source."""
        words = Words(language)
        scalars: dict[str, Any] = {key: value for key, value in data.items() if isinstance(value, int | float)}
        scalars |= {key: words.of("value", value) for key, value in data.items() if isinstance(value, str)}
        text = words(f"{self.name}.caption", **scalars)
        return f"{text} {words('figures.source', source=self.source)}" if self.source else text

    def options(self) -> tuple[str, ...]:
        """Names of its options."""
        return tuple(signature(self.data).parameters)


def definition(name: str) -> Definition:
    """A figure by name.

    Raises:
        ArgumentError: there is none of this name.
    """
    if name not in FIGURES:
        raise ArgumentError(f"unknown figure {name!r}; choose from {', '.join(FIGURES)}")
    return FIGURES[name]


def drawn(figure: Definition, data: dict[str, Any], language: str = "en", frame: int | None = None) -> "Canvas":
    """A figure as matplotlib's, or a frame of it, title and caption included.

    Raises:
        NpMobileNetError: matplotlib is not installed, or has no font for the language.
    """
    with rendering(language):
        from matplotlib.figure import Figure as Canvas

        size = figure.size if frame is None else figure.frame_size
        canvas = Canvas(figsize=size, layout="constrained")
        canvas.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr,call-arg]
        if frame is None or figure.draw_frame is None:
            figure.draw(data, canvas, Words(language))
        else:
            figure.draw_frame(data, canvas, Words(language), frame)
        canvas.suptitle(figure.title(language), fontsize=LARGE, fontweight="bold")
        caption = wrap(figure.caption(data, language), int(size[0] * COLUMNS_PER_INCH))
        canvas.supxlabel(caption, x=0.012, ha="left", fontsize=SMALL)
    return canvas


def rendered(canvas: "Canvas", form: str, language: str = "en") -> bytes:
    """The bytes of a file of one of `FORMATS` but gif."""
    content = BytesIO()
    no_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    with rendering(language):
        canvas.savefig(content, format=form, metadata=no_date)
    return content.getvalue()


def animated(figure: Definition, data: dict[str, Any], language: str = "en") -> bytes:
    """The steps of a figure that has them, as the bytes of a GIF that repeats."""
    from PIL import Image

    canvases = (drawn(figure, data, language, frame) for frame in range(len(data["steps"])))
    frames = [Image.open(BytesIO(rendered(canvas, "png", language))).convert("P") for canvas in canvases]
    content = BytesIO()
    first, *others = frames
    first.save(content, "gif", save_all=True, append_images=others, duration=round(1000 * FRAME_SECONDS), loop=0)
    return content.getvalue()


def write_figure(
    name: str, folder: Path, forms: Iterable[str] = ("svg",), language: str = "en", **options: Any
) -> tuple[list[Path], dict[str, Any]]:
    """Draw one figure into files `folder/name.form`.

    Args:
        name: one of `FIGURES`.
        folder: an existing folder.
        forms: some of `FORMATS`.
        language: one of `LANGUAGES`.
        options: keyword arguments of the figure's `data`.

    Returns:
        The paths, and the data that was drawn.

    Raises:
        ArgumentError: unknown name, format or language, or gif for a figure that does not move.
        NpMobileNetError: matplotlib is not installed, or has no font for the language.
        OSError: a file cannot be written.
    """
    figure, forms = definition(name), list(forms)
    for value, known, what in ((language, LANGUAGES, "language"), *((form, FORMATS, "format") for form in forms)):
        if value not in known:
            raise ArgumentError(f"unknown {what} {value!r}; choose from {', '.join(known)}")
    if "gif" in forms and figure.draw_frame is None:
        raise ArgumentError(f"{name} does not move; gif is a format of {', '.join(moving())}")
    data = figure.data(**options)
    canvas = drawn(figure, data, language)
    paths = [folder / f"{name}.{form}" for form in forms]
    for path, form in zip(paths, forms, strict=True):
        content = animated(figure, data, language) if form == "gif" else rendered(canvas, form, language)
        write_atomically(path, content)
    return paths, data


def moving() -> list[str]:
    """Names of the figures that can be a GIF."""
    return [figure.name for figure in FIGURES.values() if figure.draw_frame is not None]


def _definitions() -> tuple[Definition, ...]:
    acc, act, blocks, edges = accuracy_figures, activation_figures, block_figures, edge_figures
    filters, mem, nets = filter_figures, memory_figures, network_figures
    norm, bits, tails = normalization_figures, quantization_figures, tail_figures
    wang = "Wang 2018, A Basic Introduction to Separable Convolutions"
    conv_arithmetic = "Dumoulin & Visin 2016, arXiv:1603.07285"
    ssd = "Liu et al. 2016, arXiv:1512.02325, fig. 1"
    bn, nin = "Ioffe & Szegedy 2015, arXiv:1502.03167", "Lin et al. 2013, arXiv:1312.4400"
    return (
        Definition("filters", filters.filters_data, filters.draw_filters, f"{V1}, fig. 2", (9, 3.9)),
        Definition("both-ways", filters.both_ways_data, filters.draw_both_ways, wang, (9, 5.6)),
        Definition("ratio", filters.ratio_data, filters.draw_ratio, f"{V1}, section 3.1"),
        Definition("window", edges.window_data, edges.draw_window, conv_arithmetic, (9, 7.4), edges.draw_window_frame),
        Definition("padding", edges.padding_data, edges.draw_padding, "", (9, 4.6)),
        Definition("separability", filters.separability_data, filters.draw_separability, "", (9.6, 5.6)),
        Definition("v1-block", blocks.v1_block_data, blocks.draw_v1_block, f"{V1}, fig. 3", (9, 6)),
        Definition("v1-body", nets.v1_body_data, nets.draw_v1_body, f"{V1}, table 1", (11, 6)),
        Definition("v1-shares", nets.v1_shares_data, nets.draw_v1_shares, f"{V1}, table 2", (9.6, 4.4)),
        Definition("v1-full-or-separable", acc.v1_full_or_separable_data, acc.draw_pair, f"{V1}, table 4", (9, 4.8)),
        Definition("v1-thin-or-shallow", acc.v1_thin_or_shallow_data, acc.draw_pair, f"{V1}, table 5", (9, 4.8)),
        Definition("v1-accuracy-macs", acc.v1_accuracy_data, acc.draw_v1_accuracy_macs, f"{V1}, fig. 4"),
        Definition("v1-accuracy-params", acc.v1_accuracy_data, acc.draw_v1_accuracy_params, f"{V1}, fig. 5"),
        Definition("rivals", acc.rivals_data, acc.draw_rivals, f"{V1}, tables 8, 9", (11, 5.4)),
        Definition("relu6", act.relu6_data, act.draw_relu6, "", (9, 4.6)),
        Definition("float16", act.float16_data, act.draw_float16, ""),
        Definition("batch-norm", norm.batch_norm_data, norm.draw_batch_norm, bn, (10, 4.6)),
        Definition("spirals", act.spirals_data, act.draw_spirals, f"{V2}, fig. 1", (11, 7.2)),
        Definition("v2-evolution", blocks.v2_evolution_data, blocks.draw_v2_evolution, f"{V2}, fig. 2", (10, 5.6)),
        Definition("residuals", blocks.residuals_data, blocks.draw_residuals, f"{V2}, fig. 3", (10, 5.8)),
        Definition("v2-blocks", blocks.v2_blocks_data, blocks.draw_v2_blocks, f"{V2}, fig. 4", (11, 5.6)),
        Definition("v2-memory", mem.v2_memory_data, mem.draw_v2_memory, f"{V2}, table 3", (11, 6)),
        Definition("v2-accuracy", acc.v2_accuracy_data, acc.draw_v2_accuracy, f"{V2}, fig. 5", (10, 6.6)),
        Definition("memory", mem.memory_data, mem.draw_memory, "", (10, 6.2)),
        Definition("swish", act.swish_data, act.draw_swish, f"{V3}, fig. 6", (9, 4.8)),
        Definition("squeeze-excite", norm.squeeze_excite_data, norm.draw_squeeze_excite, f"{V3}, fig. 4", (9.6, 5.6)),
        Definition("v3-tail", tails.v3_tail_data, tails.draw_v3_tail, f"{V3}, fig. 5", (11, 5)),
        Definition("gap-or-flatten", tails.gap_or_flatten_data, tails.draw_gap_or_flatten, nin, (9.6, 4.8)),
        Definition("ssd-heads", nets.ssd_heads_data, nets.draw_ssd_heads, f"{V2}, table 5"),
        Definition("anchors", detection_figures.anchors_data, detection_figures.draw_anchors, ssd, (11, 4.8)),
        Definition("conventions", nets.conventions_data, nets.draw_conventions, "", (9.6, 7)),
        Definition("intensity", nets.intensity_data, nets.draw_intensity, "", (10, 5.2)),
        Definition("ladder", ladder_figure.ladder_data, ladder_figure.draw_ladder, "", (9.6, 6)),
        Definition("growth", norm.growth_data, norm.draw_growth_figure, "", (9, 5.6)),
        Definition("eight-bits", bits.eight_bits_data, bits.draw_eight_bits, "", (10, 5.6)),
    )  # fmt: skip


FIGURES: Mapping[str, Definition] = {figure.name: figure for figure in _definitions()}
"""All figures, in the order of the command's list."""
