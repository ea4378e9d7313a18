"""Sentences of the papers, counted: the table in docs/errata.md states what comes out."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.analysis.separable_cost import SeparableCost
from npmobilenet.architectures import baselines, mobilenet_v1, mobilenet_v2
from npmobilenet.architectures.mobilenet_v1 import V1
from npmobilenet.figures.tail_figures import v3_tail_data
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D
from tests.helpers.real_files import ROOT

HEADER = "| source | section | the paper says | counted | why |"


def separable_pairs() -> Iterator[SeparableCost]:
    """V1's depthwise layers, each with the pointwise one after it, from the graph."""
    graph = mobilenet_v1()
    kernels = [layer for layer in graph.layers if isinstance(layer, Conv2D | DepthwiseConv2D)]
    for depthwise, pointwise in pairwise(kernels):
        if isinstance(depthwise, DepthwiseConv2D):
            assert isinstance(pointwise, Conv2D)
            H, W, c_in = graph.shapes[depthwise.name]
            yield SeparableCost(H, W, c_in, pointwise.filters, depthwise.kernel_size[0])


def counted() -> dict[tuple[str, str], str]:
    """What the last column but one of the table states, by source and section."""
    factors = [float(1 / pair.ratio) for pair in separable_pairs()]
    planet = mobilenet_v1(classes=10_000)
    projections = [layer for layer in mobilenet_v2().layers if layer.name.endswith("_project")]
    return {
        ("arXiv:1704.04861v1", "3.1"): f"{min(factors):.2f} to {max(factors):.2f}",
        ("arXiv:1704.04861v1", "4.2"): f"{baselines.squeezenet().macs / mobilenet_v1(0.5, 160).macs:.1f}",
        ("arXiv:1704.04861v1", "4.4"): f"{planet.macs / 1e6:.2f} million",
        ("arXiv:1801.04381", "4"): str(len(projections)),
        ("arXiv:1905.02244", "5.1"): f"{v3_tail_data()['saved_macs'] / 1e6:.1f} million",
    }


def test_the_table_states_what_is_counted_for_every_sentence() -> None:
    lines = iter((ROOT / "docs" / "errata.md").read_text(encoding="utf-8").splitlines())
    assert HEADER in lines, "the iterator stops after the header"
    next(lines)
    stated = {}
    for line in iter(lambda: next(lines), ""):
        source, section, sentence, number, reason = (cell.strip() for cell in line.strip("|").split("|"))
        assert sentence
        assert reason
        stated[source, section] = number
    assert stated == counted()


def test_a_separable_3_x_3_saves_eight_times_from_72_output_channels_on() -> None:
    assert len(list(separable_pairs())) == len(V1) == 13
    assert SeparableCost(H=14, W=14, c_in=64, c_out=72).formula == Fraction(1, 8)
    assert SeparableCost(H=14, W=14, c_in=64, c_out=71).formula * 8 > 1


def test_22_is_what_counting_squeezenet_s_additions_apart_gives() -> None:
    small, squeezenet = mobilenet_v1(0.5, 160), baselines.squeezenet()
    assert round(2 * squeezenet.macs / small.macs) == 22
    weights = CONVENTIONS["weights_bias"].count(squeezenet) / CONVENTIONS["weights"].count(small)  # as table 9 prints
    assert 0.94 < weights < 1, "about the same size, as the paper says"


def test_planet_s_last_layer_has_the_10_million_weights_that_the_paper_states() -> None:
    planet = mobilenet_v1(classes=10_000)
    assert round(planet.macs_of(planet["conv_preds"]) / 1e6) == 10
    assert round(planet.total_params / 1e6) == 13, "and 13 million in all"
