"""QuantizedModel: pixels to integers, predictions, every tensor, as LiteRT computes them."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest
from npmobilenet_weights_convert.tflite_graph import network_graph

from npmobilenet.errors import ArgumentError, ImageError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.preprocessing import SYMMETRIC, Scaling
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.parts import embedding, network_to
from npmobilenet.quantized.running import run
from npmobilenet.quantized.tensors import Network, Operator, Options
from npmobilenet.types import Array
from tests.helpers.images import random_pixels
from tests.helpers.quantized_models import CLASSES, SIDES, real_network, small_model, small_network, step
from tests.helpers.real_files import real_file
from tests.helpers.tflite_files import tflite_bytes
from tests.oracles.litert import LiteRT

PHOTOGRAPHS = ("panda.jpg", "cat.bmp", "parrot.jpg", "sunflower.bmp", "burger.jpg")
CLASSIFIERS = (
    "mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_int8", "mobilenet_v3_small_1.0_224_uint8", "vww_96_int8",
)  # fmt: skip
IMAGE = random_pixels(*SIDES, seed=3)


def every_pixel(model: QuantizedModel) -> Array:
    """What each pixel 0..255 becomes."""
    H, W, C = model.interface.input_shape
    pixels = np.resize(np.arange(256, dtype=np.uint8), (-(-256 // (H * W)), H, W, 1)).repeat(C, axis=-1)
    return model.scale(pixels)[..., 0].ravel()[:256]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_photographs_give_the_integers_of_litert(name: str) -> None:
    network = real_network(name)
    model = QuantizedModel(network)
    litert = LiteRT(real_file("tflite", f"{name}.tflite").read_bytes())
    is_quick = network.input.shape[1] < 200 or "NPMOBILENET_NIGHTLY" in os.environ
    files = [real_file("images", photograph) for photograph in PHOTOGRAPHS[: None if is_quick else 1]]
    integers = model.predict_integers(files)
    pixels = np.stack([model.pixels(file) for file in files])
    for x, q in zip(pixels, integers, strict=True):
        theirs = litert.tensors(x[None] if network.input.dtype == np.uint8 else (x[None] ^ 0x80).view(np.int8))
        assert np.array_equal(q, theirs[network.outputs[0]][0])
    output = network.tensors[network.outputs[0]]
    assert np.array_equal(model.forward(model.scale(pixels[:1])), output.dequantize(integers[:1]))
    best = [predicted[0][1] for predicted in model.decode(model.dequantized(integers), top=1)]
    assert best == [str(row.argmax()) for row in integers]


def test_pixels_go_in_as_they_are() -> None:
    """Where scaling and quantization cancel, which they do by default."""
    assert np.array_equal(every_pixel(small_model("uint8")), np.arange(256))
    assert np.array_equal(every_pixel(small_model("int8")), np.arange(256) - 128)
    assert small_model("uint8").scaling == Scaling(1 / 128, -1.0)
    halves = np.full((1, *SIDES, 3), 100.5, np.float32)
    assert (small_model("uint8").scale(halves) == 101).all()


def test_another_scaling_is_quantized() -> None:
    """From the definition: the real number in steps of the input, halves away from zero."""
    model = small_model("int8", scaling=SYMMETRIC)
    expected = [np.clip(np.trunc(v + np.copysign(0.5, v)), -128, 127) for v in (np.arange(256) / 127.5 - 1) * 128]
    assert np.array_equal(every_pixel(model), expected)
    by_channel = small_model("int8", scaling=Scaling((1 / 128, 1 / 64, 1 / 256), (-1.0, -1.0, 0.0)))
    x = by_channel.scale(np.full((1, *SIDES, 3), 40, np.uint8))[0, 0, 0]
    assert x.tolist() == [40 - 128, 80 - 128, 20]
    assert np.array_equal(
        by_channel.scale(np.full((1, *SIDES, 3), 40.0)), by_channel.scale(np.full((1, *SIDES, 3), 40, np.uint8))
    )


def test_real_numbers_and_integers_are_the_same_input() -> None:
    model = small_model()
    q = model.scale(IMAGE[None])
    real = model.network.input.dequantize(q)
    assert np.array_equal(model.forward(q), model.forward(real))
    with pytest.raises(ImageError, match="expected input scaled to"):
        model.forward(real * 10)
    with pytest.raises(ShapeError, match="expected int8, or scaled floating-point numbers, got int64"):
        model.forward(q.astype(np.int64))
    with pytest.raises(ShapeError, match=r"expected x of shape \(N, 12, 10, 3\), got \(12, 10, 3\)"):
        model.forward(q[0])


def test_predictions_are_the_real_numbers_of_the_integers() -> None:
    model = small_model(rule="xnnpack")
    images = np.stack([random_pixels(*SIDES, seed=seed) for seed in range(3)])
    integers = model.predict_integers(images)
    assert integers.dtype == np.int8
    assert np.array_equal(model.predict(images), (integers.astype(np.float32) + 128) / 256)
    assert model.predict(images).dtype == np.float32
    for image, row in zip(images, integers, strict=True):
        assert np.array_equal(run(model.network, model.scale(image[None]), model.rounding)[0][0], row)
    for (_, result), row in zip(model.predict_each(images), model.predict(images), strict=True):
        assert not isinstance(result, NpMobileNetError)
        assert np.array_equal(result, row)
    assert model.predict(images[:0]).shape == (0, 4)


def test_classes_have_names() -> None:
    model = small_model()
    ((wnid, label, probability),) = model.classify(IMAGE, top=1)[0]
    p = model.predict(IMAGE)[0]
    assert (wnid, label, probability) == ("", CLASSES[int(p.argmax())], p.max())
    with pytest.raises(ShapeError, match="small: expected 4 labels, one per class, got 2"):
        small_model(labels=["a", "b"])


def test_every_tensor_by_name_as_litert_has_it() -> None:
    model = small_model()
    images = np.stack([random_pixels(*SIDES, seed=seed) for seed in range(2)])
    x = model.scale(images)
    traced = dict(model.trace(x))
    assert list(traced) == ["conv", "depthwise", "pointwise", "pool", "dense", "softmax"] == list(model.layer_names)
    litert = LiteRT(tflite_bytes(model.network))
    for i in range(2):
        theirs = litert.tensors(x[i : i + 1])
        for number, y in theirs.items():
            assert np.array_equal(traced[model.names[number]][i : i + 1], y)


def test_layers_and_the_embedding_are_real_numbers() -> None:
    model = small_model()
    x = model.scale(IMAGE[None])
    traced = dict(model.trace(x))
    for name in model.layer_names:
        assert np.array_equal(model.layer_output(name, x), model.tensor(name).dequantize(traced[name]))
    assert np.array_equal(model.features(IMAGE), model.tensor("pool").dequantize(traced["pool"]))


@pytest.mark.parametrize(
    ("name", "channels"),
    [("mobilenet_v1_0.25_128_quant", 256), ("mobilenet_v2_1.0_224_int8", 1280), ("vww_96_int8", 256),
     ("mobilenet_v3_small_1.0_224_uint8", 576)],
)  # fmt: skip
def test_the_embedding_is_the_pool_before_the_classifier(name: str, channels: int) -> None:
    """Not one of squeeze-and-excitation's pools, and the same place as in a float model."""
    network = real_network(name)
    assert np.prod(network.tensors[embedding(network) or 0].shape) == channels
    twin, _ = network_graph(network)
    assert twin.shapes[twin.embedding or ""][-1] == channels


def test_a_pool_with_a_path_around_it_is_no_embedding() -> None:
    """Squeeze-and-excitation at the end of a network: its pool is a gate of the map that it pools."""
    network = small_network()
    gate = replace(network.tensors[11], name="gate", shape=(1, 1, 1, 16))
    scaled = replace(network.tensors[9], name="scaled")
    pool = Operator("MEAN", (9, 10), (16,), Options(keep_dims=True))
    operators = (*network.operators[:3], pool, Operator("MUL", (9, 16), (17,)))
    gated = Network("gated", (*network.tensors, gate, scaled), operators, (0,), (17,))
    assert embedding(gated) is None
    assert embedding(replace(gated, operators=operators[:4], outputs=(16,))) == 16


def test_a_detector_is_computed_up_to_its_heads() -> None:
    model = QuantizedModel(real_network("ssd_mobilenet_v1_coco_uint8"))
    assert dict(model.interface.output_shapes) == {"Squeeze": (1917, 4), "convert_scores": (1917, 91)}
    assert model.network.operators[-1].code == "CUSTOM:TFLite_Detection_PostProcess"
    assert len(model.computed.operators) == len(model.network.operators) - 1
    with pytest.raises(ShapeError, match="no pooled embedding"):
        model.features(real_file("images", "cat.bmp"))


def test_one_of_several_outputs() -> None:
    network = small_network()
    model = QuantizedModel(replace(network, outputs=(11, 15)), labels=CLASSES)
    both = model.predict(IMAGE)
    assert {name: y.shape for name, y in both.items()} == {"pool": (1, 16), "softmax": (1, 4)}
    pool = model.with_output("pool")
    assert [operator.code for operator in pool.computed.operators][-1] == "MEAN"
    assert np.array_equal(pool.predict(IMAGE), both["pool"])
    assert pool.labels == ()
    assert np.array_equal(model.with_output().predict(IMAGE), both["softmax"])
    assert model.classify(IMAGE) == small_model().classify(IMAGE)


def test_a_part_needs_only_what_it_reads() -> None:
    network = small_network()
    part = network_to(network, [6])
    assert [operator.code for operator in part.operators] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
    assert part.outputs == (6,)


def test_names_are_unique() -> None:
    network = small_network()
    tensors = tuple(replace(tensor, name={3: "", 6: "conv/bias"}.get(number, tensor.name))
                    for number, tensor in enumerate(network.tensors))  # fmt: skip
    model = QuantizedModel(replace(network, tensors=tensors))
    assert model.layer_names[:2] == (":3", "conv/bias:6")
    assert len(set(model.names)) == len(model.names)
    x = model.scale(IMAGE[None])
    assert np.array_equal(model.layer_output(":3", x), small_model().layer_output("conv", x))


def test_rules_are_chosen_by_name() -> None:
    model = small_model()
    assert "rule tflite" in repr(model)
    answers = {rule: dict(replace(model, rule=rule).trace(model.scale(IMAGE[None]))) for rule in ("tflite", "single")}
    assert any((answers["tflite"][name] != answers["single"][name]).any() for name in model.layer_names)
    with pytest.raises(ArgumentError, match="unknown rule 'round'; expected tflite, xnnpack"):
        replace(model, rule="round")


def test_repr_says_what_goes_in_and_out() -> None:
    assert repr(small_model()) == "<QuantizedModel small, 12 x 10 x 3 int8 -> (4,), 6 operators, rule tflite>"


def test_what_is_no_quantized_image_network_is_refused() -> None:
    network = small_network()
    float_only = Network("float", (replace(network.tensors[0], quantization=None),), (), (0,), (0,))
    with pytest.raises(WeightsError, match="float: expected a quantized network"):
        QuantizedModel(float_only)
    two = replace(
        network,
        inputs=(0, 11),
        operators=tuple(operator for operator in network.operators if operator.outputs != (11,)),
    )
    with pytest.raises(
        WeightsError, match=re.escape("expected one input of shape (1, H, W, C), got (1, 12, 10, 3), (1, 16)")
    ):
        QuantizedModel(two)


def test_an_output_after_quantize_keeps_its_activation() -> None:
    """As TensorFlow's converter writes it where input and output are uint8."""
    network = small_network()
    tensors = (
        *network.tensors,
        replace(network.tensors[15], name="out", dtype=np.dtype(np.uint8), quantization=step(1 / 256)),
    )
    longer = Network("small", tensors, (*network.operators, Operator("QUANTIZE", (15,), (16,))), (0,), (16,))
    model = QuantizedModel(longer)
    assert dict(model.interface.output_activations) == {"out": "softmax"}
    assert np.array_equal(model.predict(IMAGE), small_model().predict(IMAGE))
