"""`npmobilenet bounds`: exit code 0 done, 2 not."""

from pathlib import Path
from typing import Annotated

from npmobilenet.analysis.rounding_growth import LayerError, draw_growth, error_growth
from npmobilenet.cli.options import Option
from npmobilenet.cli.shared import (
    DEFAULT_MODEL,
    AsJson,
    ImageName,
    LayerPatterns,
    ModelName,
    RangeOption,
    ResizeOption,
    load_with_notes,
    reported,
    with_range,
)
from npmobilenet.output import print_json, print_table, progress_bar
from npmobilenet.porting.golden_writer import chosen_layers

NOTHING_DONE = 2


def bounds(
    image: ImageName,
    model: ModelName = DEFAULT_MODEL,
    layers: LayerPatterns = None,
    figure: Annotated[
        Path | None, Option("--figure", "--picture", metavar="FILE", help="Plot to .png, .svg or .pdf.")
    ] = None,
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    as_json: AsJson = False,
) -> None:
    """Show how rounding errors grow through a network: measured, and bounded."""
    with reported(as_json, NOTHING_DONE):
        network = with_range(load_with_notes(model, {"range": pixels, "resize": resize}), pixels)
        chosen = set(chosen_layers(network.graph, layers))
        x = network.scale(network.pixels(image, resize)[None])
        growth = error_growth(network.graph, network.params, x)
        watched = progress_bar(growth, len(network.graph.layers), "tracing")
        errors = [error for error in watched if error.name in chosen]
        if figure is not None:
            draw_growth(errors, figure, f"{network.graph.name}, {Path(image).name}")
        if as_json:
            rows = [error.to_json() for error in errors]
            print_json({"model": network.graph.name, "image": image, "layers": rows})
        else:
            header = ("layer", "type", "largest", "error", "layer's bound", "bound")
            print_table(header, map(_row, errors))


def _row(error: LayerError) -> tuple[str, ...]:
    sizes = (error.largest, error.measured, error.own_bound, error.bound)
    return error.name, error.type, *(f"{size:.1e}" for size in sizes)
