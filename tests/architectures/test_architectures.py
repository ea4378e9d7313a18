"""The architectures against keras.applications: names, shapes of parameters and counts of every published network."""

from typing import Any

import pytest

from npmobilenet import architectures
from npmobilenet.errors import ArgumentError, ShapeError
from npmobilenet.reference.graph import Graph

V1: list[tuple[str, dict[str, Any]]] = [
    ("mobilenet_v1", {"alpha": a, "resolution": r}) for a in (0.25, 0.5, 0.75, 1.0) for r in (128, 160, 192, 224)
]
V2: list[tuple[str, dict[str, Any]]] = [
    ("mobilenet_v2", {"alpha": a, "resolution": r}) for a in (0.35, 0.5, 0.75, 1.0) for r in (96, 128, 160, 192, 224)
] + [("mobilenet_v2", {"alpha": a, "resolution": 224}) for a in (1.3, 1.4)]
V3: list[tuple[str, dict[str, Any]]] = [
    (f"mobilenet_v3_{size}", {"alpha": alpha, "resolution": 224, "minimalistic": minimalistic})
    for size in ("large", "small")
    for alpha, minimalistic in ((1.0, False), (0.75, False), (1.0, True))
]
UNUSUAL: list[tuple[str, dict[str, Any]]] = [
    ("mobilenet_v1", {"alpha": 0.3, "resolution": (75, 101)}),
    ("mobilenet_v1", {"alpha": 0.25, "resolution": 96, "depth_multiplier": 2, "classes": 7}),
    ("mobilenet_v2", {"alpha": 0.61, "resolution": (99, 64), "classes": 3}),
    ("mobilenet_v2", {"alpha": 0.35, "resolution": 33, "channels": 1, "classifier_activation": None}),
    ("mobilenet_v3_small", {"alpha": 1.25, "resolution": (97, 130), "include_preprocessing": False}),
    ("mobilenet_v3_large", {"alpha": 0.5, "resolution": 65, "dropout": 0.0, "classes": 10}),
    ("mobilenet_v3_large", {"alpha": 1.5, "resolution": 128, "minimalistic": True}),
]
KERAS_NAMES = {
    "mobilenet_v1": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3Large",
    "mobilenet_v3_small": "MobileNetV3Small",
}


def keras_twin(keras: Any, arch: str, arguments: dict[str, Any]) -> Any:
    """The network of keras.applications for the same arguments, named as in a fresh process."""
    keras.backend.clear_session()
    kwargs = dict(arguments)
    resolution = kwargs.pop("resolution")
    H, W = (resolution, resolution) if isinstance(resolution, int) else resolution
    if "dropout" in kwargs and arch != "mobilenet_v1":
        kwargs["dropout_rate"] = kwargs.pop("dropout")
    kwargs["input_shape"] = (H, W, kwargs.pop("channels", 3))
    return getattr(keras.applications, KERAS_NAMES[arch])(weights=None, **kwargs)


def build(arch: str, arguments: dict[str, Any]) -> Graph:
    return architectures.ARCHITECTURES[arch](**arguments)


@pytest.mark.parametrize("include_top", [True, False], ids=["top", "no_top"])
@pytest.mark.parametrize(("arch", "arguments"), V1 + V2 + V3 + UNUSUAL, ids=str)
def test_layers_and_parameters_equal_keras(keras: Any, arch: str, arguments: dict[str, Any], include_top: bool) -> None:
    if not include_top:
        arguments = {k: v for k, v in arguments.items() if k not in ("classes", "classifier_activation")}
    arguments = arguments | {"include_top": include_top}
    theirs = keras_twin(keras, arch, arguments)
    graph = build(arch, arguments)

    names = [layer.name for layer in graph.layers]
    operations = [operation.name for operation in theirs.operations]
    assert names == operations
    shapes = {w.path.rpartition("/")[0].rpartition("/")[2] + "/" + w.name: tuple(w.shape) for w in theirs.weights}
    assert graph.param_shapes == shapes
    assert graph.total_params == theirs.count_params()
    assert graph.trainable_params == sum(int(w.numpy().size) for w in theirs.trainable_weights)
    assert {layer.name: graph.shapes[layer.name] for layer in graph.layers} == {
        operation.name: tuple(operation.output.shape[1:]) for operation in theirs.operations
    }


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("arch", KERAS_NAMES)
def test_pooled_networks_without_top_equal_keras(keras: Any, arch: str, pooling: str) -> None:
    arguments = {"alpha": 1.0, "resolution": 64, "include_top": False, "pooling": pooling}
    theirs = keras_twin(keras, arch, arguments)
    graph = build(arch, arguments)
    assert [layer.name for layer in graph.layers] == [operation.name for operation in theirs.operations]
    assert graph.output_shape == theirs.output_shape[1:]
    assert graph.embedding == graph.layers[-1].name


@pytest.mark.parametrize(
    ("arch", "macs", "params"),
    [
        ("mobilenet_v1", 568_740_352, 4_253_864),
        ("mobilenet_v2", 300_774_272, 3_538_984),
        ("mobilenet_v3_large", 216_589_760, 5_507_432),
        ("mobilenet_v3_small", 56_510_400, 2_554_968),
    ],
)
def test_multiply_adds_and_parameters_of_the_full_networks(arch: str, macs: int, params: int) -> None:
    graph = build(arch, {})
    assert graph.macs == macs
    assert graph.total_params == params


def test_the_shallow_network_has_the_papers_cost() -> None:
    """Table 3 of the paper: 307 million multiply-adds, 2.9 million parameters."""
    graph = architectures.mobilenet_v1(shallow=True)
    assert round(graph.macs / 1e6) == 307
    assert round(graph.trainable_params / 1e6, 1) == 2.9


def test_the_full_convolution_twin_has_the_papers_cost() -> None:
    """Table 4 of the paper: 4866 million multiply-adds (counted without the classifier) and 29.3 million parameters."""
    graph = architectures.mobilenet_v1(full_convolution=True)
    assert round((graph.macs - graph.macs_of(graph["conv_preds"])) / 1e6) == 4866
    assert round(graph.total_params / 1e6, 1) == 29.3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"alpha": 0}, "alpha"),
        ({"resolution": 31}, "resolution"),
        ({"classes": 0}, "class"),
        ({"pooling": "sum", "include_top": False}, "pooling"),
        ({"pooling": "avg"}, "include_top"),
    ],
)
@pytest.mark.parametrize("arch", KERAS_NAMES)
def test_arguments_out_of_range_are_refused_by_name(arch: str, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ArgumentError, match=word) as raised:
        build(arch, arguments)
    assert isinstance(raised.value, ShapeError), "as it was in the previous version"
