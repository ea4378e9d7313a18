"""Several hundred mistakes injected into an independent port: how often are the layer and the cause named?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, decode
from npmobilenet.models.resizing import RESIZES
from npmobilenet.porting.diagnose import Diagnosis, Finding, InputImage, diagnose
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import BatchNormalization, ZeroPadding2D
from npmobilenet.types import Array, Params
from tests.helpers import port
from tests.helpers.networks import random_params
from tests.helpers.port import Mistake
from tests.helpers.real_files import real_file

NETWORKS = {
    "V1": (mobilenet_v1(alpha=0.25, resolution=64, classes=12), SYMMETRIC),
    "V2": (mobilenet_v2(alpha=0.35, resolution=64, classes=12), SYMMETRIC),
    "V3": (mobilenet_v3_small(alpha=0.75, resolution=64, classes=12), RAW),
}

# kind of mistake -> the causes that name it
LAYER_MISTAKES = {
    "symmetric padding": {"symmetric-padding"},
    "one pixel later": {"stride-phase"},
    "padding repeats the border": {"padding"},
    "epsilon": {"epsilon"},
    "missing batch norm": {"missing-batch-norm"},
    "gamma and beta exchanged": {"batch-norm-arrays"},
    "mean and variance exchanged": {"batch-norm-arrays"},
    "variance taken for deviation": {"batch-norm-variance"},
    "relu for relu6": {"activation"},
    "relu6 for relu": {"activation"},
    "no activation": {"missing-activation"},
    "relu6 after a linear layer": {"extra-activation"},
    "old hard sigmoid": {"hard-sigmoid"},
    "old hard swish": {"hard-sigmoid"},
    "kernel flipped": {"kernel-flipped"},
    "kernel height and width exchanged": {"kernel-transposed"},
    "kernel c_in and c_out exchanged": {"kernel-transposed"},
    "kernel stored as OIHW": {"kernel-layout"},
    "depthwise permuted": {"depthwise-permuted"},
    "depthwise reversed": {"depthwise-permuted"},
    "missing bias": {"missing-bias"},
    "float16 weights": {"float16-weights"},
    "bfloat16 weights": {"bfloat16-weights"},
    "float16 activations": {"float16-activations"},
    "bfloat16 activations": {"bfloat16-activations"},
    "missing residual": {"missing-residual"},
    "missing gate": {"missing-gate"},
    "missing softmax": {"missing-softmax"},
    "doubled softmax": {"doubled-softmax"},
    "mean divided wrongly": {"pooling-divisor"},
    "channels first in the shape of channels last": {"layout"},
    "classes off by one": {"class-offset"},
}
INPUT_MISTAKES = {
    "0..1": "input-range",
    "-1..1": "input-range",
    "0..255": "input-range",
    "x / 127 - 1": "input-range",
    "ImageNet's mean and deviation": "input-range",
    "BGR": "channel-order",
    "BGR in 0..1": "input-range",
    "stretched, nearest": "resize",
    "stretched, bilinear": "resize",
    "height and width exchanged": "input-layout",
}
REPEATS = 2  # layers drawn for each kind of mistake, network and kind of dump
WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Dense")


@cache
def network(family: str) -> tuple[Model, Array, Array, dict[str, Array]]:
    """(model, decoded image, its scaled input, the correct port's outputs)."""
    graph, scaling = NETWORKS[family]
    model = Model(graph, random_params(graph, 7), scaling)
    rng = np.random.default_rng(3)
    smooth = rng.uniform(-1, 1, (90, 120, 3)).cumsum(0).cumsum(1)
    smooth = (smooth - smooth.min((0, 1))) / np.ptp(smooth, axis=(0, 1)) * 200
    decoded = (smooth + rng.uniform(0, 55, smooth.shape)).astype(np.uint8)
    x = model.scale(RESIZES["crop"](decoded, 64, 64)[None])
    return model, decoded, x, port.run(graph, model.params, x)


def eligible(graph: Graph, kind: str, layer: Any) -> bool:
    """Whether the mistake can be made in the layer."""
    return bool(_eligible(graph, kind, layer))


def _eligible(graph: Graph, kind: str, layer: Any) -> Any:
    reads = [graph[name].type for name in layer.inputs]
    activation = getattr(layer, "activation", "linear")
    K = getattr(layer, "kernel_size", (1, 1))[0]
    shapes = graph.param_shapes_of(layer)
    kernel = shapes.get("kernel", ())
    readers = [other.type for other in graph.layers if layer.name in other.inputs]
    match kind:
        case "symmetric padding":
            same = getattr(layer, "padding", "") == "same" and getattr(layer, "stride", 1) == 2
            return (same and graph.input_shapes(layer)[0][0] % 2 == 0) or layer.type == "ZeroPadding2D"
        case "one pixel later":
            return K > 1 and layer.type in WEIGHTED and layer.stride == 2
        case "padding repeats the border":
            return K > 1 and layer.type in WEIGHTED and layer.padding == "same"
        case "epsilon" | "missing batch norm" | "mean and variance exchanged" | "variance taken for deviation":
            return layer.type == "BatchNormalization"
        case "gamma and beta exchanged":
            return layer.type == "BatchNormalization" and {"gamma", "beta"} <= shapes.keys()
        case "relu for relu6":
            return layer.type == "Activation" and activation == "relu6" and "Rescaling" not in reads
        case "relu6 for relu":
            return layer.type == "Activation" and activation == "relu"
        case "no activation":
            return layer.type == "Activation" and activation != "softmax" and "Rescaling" not in reads
        case "relu6 after a linear layer":
            return layer.type == "BatchNormalization" and readers and "Activation" not in readers
        case "old hard sigmoid":
            return layer.type == "Rescaling" and layer.offset == 0
        case "old hard swish":
            return activation == "hard_swish"
        case "kernel flipped" | "kernel height and width exchanged":
            return K > 1 and layer.type in WEIGHTED
        case "kernel c_in and c_out exchanged":
            return layer.type in ("Conv2D", "Dense") and kernel[-1] == kernel[-2]
        case "kernel stored as OIHW":
            return layer.type == "Conv2D" and min(kernel[-2:]) > 1
        case "depthwise permuted" | "depthwise reversed":
            return layer.type == "DepthwiseConv2D"
        case "missing bias":
            return "bias" in shapes
        case "float16 weights" | "bfloat16 weights":
            return layer.type in WEIGHTED
        case "float16 activations" | "bfloat16 activations":
            return layer.type in (*WEIGHTED, "BatchNormalization", "Activation", "Add")
        case "missing residual":
            return layer.type == "Add"
        case "missing gate":
            return layer.type == "Multiply"
        case "missing softmax" | "doubled softmax" | "classes off by one":
            return layer is graph.layers[-1]
        case "mean divided wrongly":
            return layer.type == "GlobalAveragePooling2D" and np.prod(graph.input_shapes(layer)[0][:2]) > 1
        case "channels first in the shape of channels last":
            return len(graph.shapes[layer.name]) == 3 and layer.type in (*WEIGHTED, "Add")
    raise AssertionError(kind)


def is_dumped_when_fused(graph: Graph, layer: Any) -> bool:
    """Whether a deployment tool dumps the layer: it is not fused with the normalization or activation after it."""
    if layer.type in ("Input", "ZeroPadding2D", "Dropout", "Rescaling", "Reshape", "Flatten"):
        return False
    readers = [other.type for other in graph.layers if layer.name in other.inputs]
    fused = {"BatchNormalization", "Activation", "Rescaling"}
    return not (layer.type in (*WEIGHTED, "BatchNormalization") and fused & set(readers))


def number_for(kind: str, graph: Graph, layer: Any, rng: np.random.Generator) -> float:
    H, W = graph.input_shapes(layer)[0][:2] if layer.type == "GlobalAveragePooling2D" else (1, 1)
    return {
        "epsilon": float(rng.choice([1e-5, 1e-5, 1e-2, 2.5e-4])),
        "depthwise permuted": float(rng.integers(1000)),
        "missing residual": float(rng.integers(2)),
        "mean divided wrongly": float(rng.choice([1, H * W + 3, (H + 1) * (W + 1)])),
    }.get(kind, 0.0)


def dumped_layer(graph: Graph, name: str, dumped: Sequence[str]) -> str | None:
    """The first dumped layer that a mistake affects."""
    layers = list(graph.layers)
    at = next(place for place, layer in enumerate(layers) if layer.name == name)
    tainted = {name}
    for layer in layers[at:]:
        if tainted.intersection((layer.name, *layer.inputs)):
            tainted.add(layer.name)
            if layer.name in dumped:
                return layer.name
    return None


def is_observable(
    graph: Graph, params: Params, correct: Mapping[str, Array], wrong: Mapping[str, Array], mistake: Mistake, at: str
) -> bool:
    """Whether the mistake moves the dumped layer by more than four times what rounding may, by the derived bounds.

    Outputs between the mistake and the dumped layer are unknown, so the bounds of the layers there are propagated.
    """
    reached, errors = {mistake.layer}, dict[str, Array]()
    for layer in graph.layers:
        if layer.name == mistake.layer or reached.intersection(layer.inputs):
            reached.add(layer.name)
            arrays = graph.arrays_of(layer, params)
            xs = [correct[name] for name in layer.inputs]
            inherited = [errors.get(name, np.zeros(x.shape)) for name, x in zip(layer.inputs, xs, strict=True)]
            errors[layer.name] = layer.error_bound(arrays, *xs, input_bounds=inherited)
        if layer.name == at:
            break
    y, bad = correct[at].astype(np.float64), wrong[at].astype(np.float64)
    return y.shape != bad.shape or not (np.abs(bad - y) <= 4 * errors[at] + 1e-30).all()


def drawn_mistakes(
    family: str, kind: str, fused: bool, rng: np.random.Generator
) -> tuple[list[tuple[Mistake, dict[str, Array]]], int]:
    """Up to REPEATS observable mistakes of a kind with the port's dump, and how many drawn were not observable."""
    model, _, x, correct = network(family)
    graph = model.graph
    layers = [layer for layer in graph.layers if layer.type != "Input" and eligible(graph, kind, layer)]
    found: list[tuple[Mistake, dict[str, Array]]] = []
    hidden = 0
    for place in rng.permutation(len(layers)):
        if len(found) == REPEATS:
            break
        layer = layers[place]
        mistake = Mistake(kind, layer.name, number_for(kind, graph, layer, rng))
        if fused and kind.endswith(("activations", "channels last")) and not is_dumped_when_fused(graph, layer):
            continue
        wrong = port.run(graph, model.params, x, mistake)
        unwritten = set()
        if kind == "old hard sigmoid":  # computed in one step, so there are no outputs of the other two layers
            unwritten = {layer.inputs[0], *graph[layer.inputs[0]].inputs}
        dumped = [
            other.name
            for other in graph.layers
            if other.name not in unwritten and (not fused or is_dumped_when_fused(graph, other))
        ]
        at = dumped_layer(graph, layer.name, dumped)
        if at is None or not is_observable(graph, model.params, correct, wrong, mistake, at):
            hidden += 1
            continue
        found.append((mistake, {name: wrong[name] for name in dumped}))
    return found, hidden


def judged(family: str, dump: Mapping[str, Array], layer: str, causes: set[str]) -> tuple[bool, bool, str]:
    """(layer named, cause named, message)."""
    model, decoded, x, _ = network(family)
    diagnosis = diagnose(model, x, dump, image=InputImage(model.scaling, decoded))
    first = diagnosis.first
    if first is None:
        return False, False, "no difference found"
    best = first.explanations[0] if first.explanations else None
    message = f"{first.layer}: " + (f"{best.cause}, {best.what} in {best.layers}" if best else "no explanation")
    named = first.layer == layer if layer in dump else layer in first.covers
    return named, bool(named and best and best.fits and best.cause in causes and layer in best.layers), message


def first_wrong(diagnosis: Diagnosis) -> Finding:
    assert diagnosis.first is not None
    return diagnosis.first


def report(rows: Mapping[str, Sequence[int]]) -> str:
    lines = [f"{'mistake':46} cases  layer  cause  not observable"]
    for kind, (cases, layers, causes, hidden) in rows.items():
        lines.append(f"{kind:46} {cases:5}  {layers:5}  {causes:5}  {hidden:5}")
    return "\n".join(lines)


@pytest.mark.parametrize("fused", [False, True], ids=["every layer dumped", "fused layers dumped"])
def test_layer_and_cause_of_a_mistake_inside_the_network_are_named(
    fused: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, misses = {}, []
    for kind, causes in LAYER_MISTAKES.items():
        row = [0, 0, 0, 0]
        for family in NETWORKS:
            rng = np.random.default_rng([len(kind), fused, ord(family[1])])
            found, hidden = drawn_mistakes(family, kind, fused, rng)
            row[3] += hidden
            for mistake, dump in found:
                if kind == "kernel stored as OIHW" and network(family)[0].params[f"{mistake.layer}/kernel"].shape[
                    :2
                ] == (1, 1):
                    causes = {*causes, "kernel-transposed"}  # equivalent if c_in equals c_out
                layer, cause, message = judged(family, dump, mistake.layer, causes)
                row[0] += 1
                row[1] += layer
                row[2] += cause
                if not cause:
                    misses.append(f"{family} {mistake}: {message}")
        rows[kind] = row
    total = np.sum(list(rows.values()), axis=0)
    with capsys.disabled():
        print("\n" + report({**rows, "all": total}) + "\n" + "\n".join(misses))
    assert all(row[0] > 0 for row in rows.values()), "a kind of mistake was never made"
    assert total[1] >= 0.95 * total[0], "\n".join(misses)
    assert total[2] >= 0.90 * total[0], "\n".join(misses)


@pytest.mark.parametrize("fused", [False, True], ids=["every layer dumped", "fused layers dumped"])
@pytest.mark.parametrize("family", NETWORKS)
def test_the_port_without_a_mistake_is_the_same(family: str, fused: bool) -> None:
    model, _, x, correct = network(family)
    dump = {n: y for n, y in correct.items() if not fused or is_dumped_when_fused(model.graph, model.graph[n])}
    diagnosis = diagnose(model, x, dump)
    assert diagnosis.exit_code == 0, diagnosis.first
    assert len(diagnosis.compared) == len(dump)


def wrong_input(kind: str, decoded: Array, correct: Array) -> Array:
    """(1, 64, 64, 3) float32: the image scaled or resized wrongly."""
    image = Image.fromarray(decoded)
    pixels = RESIZES["crop"](decoded, 64, 64).astype(np.float64)
    match kind:
        case "0..1":
            y = pixels / 255
        case "-1..1":
            y = pixels / 127.5 - 1
        case "0..255":
            y = pixels
        case "x / 127 - 1":
            y = pixels / 127 - 1
        case "ImageNet's mean and deviation":
            y = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        case "BGR":
            y = correct[0, :, :, ::-1]
        case "BGR in 0..1":
            y = pixels[:, :, ::-1] / 255
        case "height and width exchanged":
            y = np.swapaxes(correct[0], 0, 1)
        case "stretched, nearest" | "stretched, bilinear":
            method = Image.Resampling.NEAREST if "nearest" in kind else Image.Resampling.BILINEAR
            stretched = np.array(image.resize((64, 64), method)).astype(np.float64)
            y = stretched if correct.max() > 2 else stretched / 127.5 - 1
    return y[None].astype(np.float32)


@pytest.mark.parametrize("fused", [False, True], ids=["every layer dumped", "fused layers dumped"])
def test_a_mistake_made_before_the_first_layer_is_named(fused: bool) -> None:
    cases, misses = 0, []
    for family in NETWORKS:
        model, decoded, x, _ = network(family)
        entry = model.graph.layers[0].name
        for kind, cause in INPUT_MISTAKES.items():
            mistaken = wrong_input(kind, decoded, x)
            if np.allclose(mistaken, x, atol=1e-5):
                continue  # the network's own range
            outputs = port.run(model.graph, model.params, mistaken)
            dump = {n: y for n, y in outputs.items() if not fused or is_dumped_when_fused(model.graph, model.graph[n])}
            first = diagnose(model, x, dump, image=InputImage(model.scaling, decoded)).first
            cases += 1
            best = first.explanations[0] if first is not None and first.explanations else None
            if first is None or best is None or not best.fits or best.cause != cause or best.layers != (entry,):
                misses.append(f"{family} {kind}: {first and first.layer}: {best}")
            else:
                assert first.layer == next(iter(dump))
    assert cases == 27
    assert not misses, "\n".join(misses)


def test_the_last_layer_is_enough_to_find_a_mistake_in_all_layers() -> None:
    model, _, x, _ = network("V1")
    layers = tuple(
        replace(layer, epsilon=1e-5) if isinstance(layer, BatchNormalization) else layer for layer in model.graph.layers
    )
    outputs = port.run(Graph("port", layers), model.params, x)
    diagnosis = diagnose(model, x, {"predictions": outputs["predictions"]})
    best = first_wrong(diagnosis).explanations[0]
    assert (best.cause, best.fits, len(best.layers)) == ("epsilon", True, 27)


def test_two_mistakes_in_one_segment_are_both_named() -> None:
    """PyTorch's habits at once: symmetric padding and epsilon 1e-5, between two dumped activations."""
    model, _, x, _ = network("V2")
    graph = model.graph
    layers = []
    for layer in graph.layers:
        if layer.name == "block_3_pad" and isinstance(layer, ZeroPadding2D):
            layer = replace(layer, padding=((1, 1), (1, 1)))
        if layer.name == "block_3_depthwise_BN" and isinstance(layer, BatchNormalization):
            layer = replace(layer, epsilon=1e-5)
        layers.append(layer)
    outputs = port.run(Graph("port", tuple(layers)), model.params, x)
    dump = {name: y for name, y in outputs.items() if is_dumped_when_fused(graph, graph[name])}
    first = first_wrong(diagnose(model, x, dump))
    best = first.explanations[0]
    assert first.layer == "block_3_depthwise_relu"
    assert best.fits
    assert set(best.cause.split(" + ")) == {"symmetric-padding", "epsilon"}


def test_real_weights_and_a_real_photo() -> None:
    """Mistakes in the trained networks themselves, V1 and V3, of which every fused layer is dumped."""
    from npmobilenet import load

    photo = decode(real_file("images", "cat.bmp"))
    named = {}
    for file, kind, layer in (
        ("mobilenet_v1_0.25_224_imagenet.h5", "symmetric padding", "conv_pad_4"),
        ("mobilenet_v1_0.25_224_imagenet.h5", "float16 weights", "conv1"),
        ("mobilenet_v3_small_1.0_224_imagenet.h5", "old hard swish", "activation_5"),
        ("mobilenet_v3_small_1.0_224_imagenet.h5", "kernel flipped", "expanded_conv_4_depthwise"),
    ):
        model = load(real_file("weights", file))
        x = model.scale(RESIZES["crop"](photo, 224, 224)[None])
        outputs = port.run(model.graph, model.params, x, Mistake(kind, layer))
        dump = {n: y for n, y in outputs.items() if is_dumped_when_fused(model.graph, model.graph[n])}
        diagnosis = diagnose(model, x, dump, image=InputImage(model.scaling, photo))
        best = first_wrong(diagnosis).explanations[0]
        named[kind] = best.cause if best.fits and layer in best.layers and len(diagnosis.wrong) == 1 else best
    assert named == {
        "symmetric padding": "symmetric-padding",
        "float16 weights": "float16-weights",
        "old hard swish": "hard-sigmoid",
        "kernel flipped": "kernel-flipped",
    }
