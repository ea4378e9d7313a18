"""`npmobilenet figures`."""

from pathlib import Path
from typing import Annotated, Any

from npmobilenet.cli.options import Argument, Option, UsageError, near
from npmobilenet.cli.shared import AsJson, Language, reported
from npmobilenet.figures.figure_catalog import FIGURES, FORMATS, Definition, moving, write_figure
from npmobilenet.output import print_json, print_line, print_table, progress_bar


def figures(
    names: Annotated[list[str] | None, Argument(metavar="[NAME...]", help="Figures; default: all.")] = None,
    output: Annotated[Path | None, Option("--output", "-o", metavar="DIR", help="Folder. Default: figures.")] = None,
    formats: Annotated[str, Option("--format", metavar="F[,F]", help=f"Some of {','.join(FORMATS)}.")] = "svg",
    language: Annotated[Language, Option("--lang", help="Language of the texts.")] = Language.en,
    model: Annotated[
        str | None, Option("--model", "-m", metavar="M", help="Network of the figures that compute one.")
    ] = None,
    image: Annotated[str | None, Option(metavar="FILE", help="Image that it computes.")] = None,
    ladder: Annotated[
        str | None, Option("--ladder", metavar="FILE", help="Times of a machine: npmobilenet ladder --json > FILE.")
    ] = None,
    listed: Annotated[bool, Option("--list", help="List the figures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the papers' figures from the networks' graphs, with numbers counted, or quoted with their source.

    With --json their numbers are printed, and drawn only if --output is given. --model and --image apply to
    squeeze-excite and growth, --ladder to ladder.
    """
    chosen = [_definition(name) for name in names or FIGURES]
    if listed:
        _print_list(chosen, language, as_json)
        return
    forms = formats.split(",")
    if unknown := [form for form in forms if form not in FORMATS]:
        raise UsageError(f"unknown format {unknown[0]!r}; choose from {', '.join(FORMATS)}")
    if "gif" in forms and (still := [figure.name for figure in chosen if figure.draw_frame is None]):
        raise UsageError(f"{still[0]} does not move; gif is a format of {', '.join(moving())}")
    options = {"model": model, "image": image, "ladder": ladder}
    given = {name: value for name, value in options.items() if value is not None}
    for option in given:
        if not any(option in figure.options() for figure in chosen):
            raise UsageError(f"--{option} does not apply to {', '.join(figure.name for figure in chosen)}")
    with reported(as_json):
        if as_json and output is None:
            print_json(
                {"figures": [_to_json(figure, figure.data(**_options(figure, given)), language) for figure in chosen]}
            )
            return
        folder = output or Path("figures")
        folder.mkdir(parents=True, exist_ok=True)
        drawn = []
        for figure in progress_bar(chosen, len(chosen), "drawing"):
            paths, data = write_figure(figure.name, folder, forms, language, **_options(figure, given))
            drawn.append(_to_json(figure, data, language) | {"files": [str(path) for path in paths]})
        if as_json:
            print_json({"figures": drawn})
        else:
            print_line(f"{len(drawn) * len(forms)} files in {folder}")


def _definition(name: str) -> Definition:
    if name not in FIGURES:
        raise UsageError(f"unknown figure {name!r}{near(name, FIGURES) or '; --list lists them'}")
    return FIGURES[name]


def _options(figure: Definition, given: dict[str, str]) -> dict[str, str]:
    """The given options that the figure takes."""
    return {name: value for name, value in given.items() if name in figure.options()}


def _to_json(figure: Definition, data: dict[str, Any], language: str) -> dict[str, Any]:
    return {
        "name": figure.name,
        "title": figure.title(language),
        "source": figure.source,
        "caption": figure.caption(data, language),
        "data": data,
    }


def _print_list(chosen: list[Definition], language: str, as_json: bool) -> None:
    rows = [(figure.name, figure.title(language), figure.source) for figure in chosen]
    if as_json:
        print_json({"figures": [dict(zip(("name", "title", "source"), row, strict=True)) for row in rows]})
    else:
        print_table(("figure", "title", "after"), rows)
