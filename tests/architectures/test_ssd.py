"""SSD graphs: the published costs, both worlds' maps, and what is refused."""

from collections.abc import Callable

import pytest

from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.architectures.ssd import COCO_80, anchors_per_map, backbone, map_sides, ssd
from npmobilenet.errors import ArgumentError
from npmobilenet.reference.graph import Graph

# convention of the parameters, of ../shared/ssd-spec.md: parameters in millions, multiply-adds in billions
COSTS: list[tuple[Callable[[], Graph], str, str, str]] = [
    (lambda: ssd("mobilenet_v1", resolution=300, lite=False, predictor_kernel=1), "trainable", "6.820", "1.237"),
    (lambda: ssd("mobilenet_v1", slots=COCO_80), "trainable", "5.101", "1.309"),
    (lambda: ssd("mobilenet_v2", slots=COCO_80), "trainable", "4.337", "0.789"),
    (lambda: ssd("mobilenet_v3_large"), "weights_bias", "4.967", "0.613"),
    (lambda: ssd("mobilenet_v3_large", reduced_tail=True), "weights_bias", "3.215", "0.507"),
    (lambda: ssd("mobilenet_v3_small"), "weights_bias", "2.493", "0.210"),
    (lambda: ssd("mobilenet_v3_small", reduced_tail=True), "weights_bias", "1.765", "0.162"),
    (lambda: ssd("mobilenet_v2", 0.35), "weights_bias", "0.930", "0.167"),
    (lambda: ssd("mobilenet_v2", 0.5), "weights_bias", "1.537", "0.272"),
]


@pytest.mark.parametrize(("build", "convention", "params", "macs"), COSTS)
def test_detectors_cost_what_was_recounted(build: Callable[[], Graph], convention: str, params: str, macs: str) -> None:
    graph = build()
    assert f"{float(CONVENTIONS[convention].count(graph)) / 1e6:.3f}" == params
    assert f"{graph.macs / 1e9:.3f}" == macs


@pytest.mark.parametrize(("lite", "params", "macs"), [(False, "14.777", "1.259"), (True, "2.113", "0.178")])
def test_extras_and_heads_of_v2_cost_what_was_recounted(lite: bool, params: str, macs: str) -> None:
    whole, body = ssd("mobilenet_v2", lite=lite, slots=COCO_80), backbone("mobilenet_v2", 1.0, 320)
    assert f"{(whole.trainable_params - body.trainable_params) / 1e6:.3f}" == params
    assert f"{(whole.macs - body.macs) / 1e9:.3f}" == macs


def test_torchvision_s_detector_has_exactly_its_numbers() -> None:
    graph = ssd("mobilenet_v3_large", reduced_tail=True, world="torchvision")
    assert (graph.trainable_params, graph.macs) == (3_440_060, 583_171_904)


@pytest.mark.parametrize("arch", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
@pytest.mark.parametrize("world", ["tensorflow", "torchvision"])
def test_the_outputs_have_a_row_per_anchor(arch: str, world: str) -> None:
    for resolution, sides in ((300, (19, 10, 5, 3, 2, 1)), (320, (20, 10, 5, 3, 2, 1))):
        graph = ssd(arch, resolution=resolution, slots=7, world=world)  # type: ignore[arg-type]
        assert map_sides(graph) == tuple((side, side) for side in sides)
        first, *others = anchors_per_map(world)  # type: ignore[arg-type]
        count = first * sides[0] ** 2 + sum(6 * side**2 for side in sides[1:])
        assert others == [6] * 5
        assert graph.output_shapes == {"boxes": (count, 4), "scores": (count, 7)}


def test_the_reduced_tail_has_half_the_channels() -> None:
    full, half = backbone("mobilenet_v3_large", 1.0, 320), backbone("mobilenet_v3_large", 1.0, 320, reduced_tail=True)
    assert (full.output_shape, half.output_shape) == ((10, 10, 960), (10, 10, 480))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "vgg16"}, "unknown architecture 'vgg16'; choose from mobilenet_v1"),
        ({"arch": "mobilenet_v2", "reduced_tail": True}, "expected a MobileNetV3 with alpha 1"),
        ({"arch": "mobilenet_v3_small", "alpha": 0.75, "reduced_tail": True}, "expected a MobileNetV3 with alpha 1"),
    ],
)
def test_what_does_not_exist_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ssd(**arguments)  # type: ignore[arg-type]
