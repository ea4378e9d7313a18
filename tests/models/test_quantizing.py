"""Models quantized by images: real networks on photographs, against LiteRT and TensorFlow's converter."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert.tflite_file import read_tflite
from npmobilenet_weights_convert.tflite_writer import tflite_bytes
from npmobilenet_weights_convert.torch_model import read_torch_model

from npmobilenet.architectures import mobilenet_v1, mobilenet_v3_large
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.operator_network import operator_network
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import ArgumentError, ImageError, NpMobileNetError, WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.example_digits import example_digits, image_of_ink
from npmobilenet.models.input_steps import with_input_steps
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, TORCH, UNIT, Scaling
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.models.quantizing import Quantized, quantize_model
from npmobilenet.quantized.calibration import Calibration
from npmobilenet.quantized.post_training import covering
from npmobilenet.quantized.real_numbers import real_trace
from npmobilenet.quantized.running import trace
from npmobilenet.quantized.tensors import Network
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    ELU,
    ChannelRescaling,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Input,
    Normalization,
)
from npmobilenet.types import Array
from tests.helpers.images import random_pixels
from tests.helpers.networks import random_params
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import CALIBRATIONS, LEAST_DECIBELS
from tests.helpers.torch_files import drawn_state_dict, torch_zip
from tests.oracles.litert import LiteRT

NETWORKS = ("mobilenet_v1_0.25_224_imagenet", "mobilenet_v2_1.0_224_imagenet", "mobilenet_v3_small_1.0_224_imagenet")
NIGHTLY = bool(os.environ.get("NPMOBILENET_NIGHTLY"))
PHOTOGRAPHS = ("panda.jpg", "cat.bmp", "parrot.jpg", "sunflower.bmp", "burger.jpg")


@cache
def photographs(name: str) -> tuple[Path, ...]:
    """All of them for the smallest network, two for the others but by night."""
    few = name != NETWORKS[0] and not NIGHTLY
    return tuple(real_file("images", photograph) for photograph in PHOTOGRAPHS[: 2 if few else 5])


@cache
def real_model(name: str) -> Model:
    return load(real_file("weights", f"{name}.h5"))


@cache
def real_quantized(name: str) -> Quantized:
    return quantize_model(real_model(name), photographs(name))


def digits() -> list[Array]:
    return list(map(image_of_ink, example_digits()))


def different_from_litert(result: Quantized, x: Array) -> list[str]:
    """Names of the tensors that LiteRT's reference kernels compute differently; the softmax, which may end the process
    where a network is not trained, is left out."""
    kept = tuple(operator for operator in result.network.operators if operator.code != "SOFTMAX")
    network = replace(result.network, operators=kept, outputs=kept[-1].outputs)
    theirs = LiteRT(tflite_bytes(network)).tensors(x)
    return [
        network.label(operator)
        for operator, y in trace(network, x)
        if not np.array_equal(y, theirs[operator.outputs[0]])
    ]


def model_of(result: Quantized) -> QuantizedModel:
    return QuantizedModel(result.network, result.scaling)


@pytest.mark.parametrize("name", NETWORKS)
def test_litert_computes_every_tensor_to_the_bit(name: str) -> None:
    """From the file, end to end, softmax included."""
    result = real_quantized(name)
    data = tflite_bytes(result.network)
    litert, network = LiteRT(data), read_tflite(data)
    for photograph in photographs(name):
        x = model_of(result).scale(real_model(name).pixels(photograph)[None])
        theirs = litert.tensors(x)
        for operator, y in trace(network, x):
            assert np.array_equal(y, theirs[operator.outputs[0]]), network.label(operator)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_classes_are_those_of_the_float_model(name: str) -> None:
    agreement, model = real_quantized(name).agreement, model_of(real_quantized(name))
    assert agreement.same_class == agreement.images == len(photographs(name))
    probabilities, expected = model.predict(photographs(name)), real_model(name).predict(photographs(name))
    assert np.array_equal(probabilities.argmax(1), expected.argmax(1))
    noise = np.square(probabilities - expected).sum() / np.square(expected).sum()
    assert -10 * np.log10(noise) == pytest.approx(agreement.layers[-1].decibels, abs=0.1)


def test_the_digits_network() -> None:
    result = quantize_model(load("digits"), digits())
    assert result.agreement.same_class == result.agreement.images == 10
    assert min(layer.decibels for layer in result.agreement.layers) > 30
    assert different_from_litert(result, model_of(result).scale(np.stack([load("digits").pixels(digits()[4])]))) == []


def test_v3_large_with_random_weights() -> None:
    graph = mobilenet_v3_large(resolution=64, classes=10)
    result = quantize_model(random_model(graph), [random_pixels(64, 64)])
    assert {"HARD_SWISH", "MUL", "MEAN"} <= {operator.code for operator in result.network.operators}
    assert different_from_litert(result, model_of(result).scale(random_pixels(64, 64, 1)[None])) == []


def test_a_network_of_pytorch_with_symmetric_padding() -> None:
    """PAD before the convolutions, a scaling for each channel, and so a quantized input that is not the pixels."""
    name = "timm/mobilenetv2_050"
    content = torch_zip(drawn_state_dict(name))
    model = read_torch_model(Path("mobilenetv2_050.pth"), content, scaling=None, labels=None, resize=None)
    result = quantize_model(model, photographs(name)[:2])
    assert result.scaling == model.scaling
    assert sum(operator.code == "PAD" for operator in result.network.operators) == 5
    x = model_of(result).scale(model.pixels(photographs(name)[0])[None])
    step = result.network.input.scale[0]
    real = result.network.input.dequantize(x)
    assert np.abs(real - model.scale(model.pixels(photographs(name)[0])[None])).max() <= step
    assert different_from_litert(result, x) == []


@pytest.mark.parametrize("name", NETWORKS if NIGHTLY else NETWORKS[:1])
def test_it_is_as_good_as_tensorflow_s_converter(name: str, tf_keras: Any) -> None:
    """Both with the same photographs, by the scores before softmax; and the operators' versions are the converter's.

    Measured with five photographs, signal to noise in dB, ours and TensorFlow 2.21's: V1 0.25 11.5 and 11.6, V2 19.0
    and 18.7, V3-Small 8.9 and 8.9.
    """
    model, result = real_model(name), real_quantized(name)
    x = np.stack([model.scale(model.pixels(photograph)) for photograph in photographs(name)])
    expected = centered(np.log(model.forward(x, backend="reference")))
    data = converted(tf_keras, name, x)
    network = read_tflite(data)
    theirs = scores(network, [network.input.quantize(image[None]) for image in x])
    pixels = [model_of(result).scale(model.pixels(photograph)[None]) for photograph in photographs(name)]
    ours = scores(result.network, pixels)
    assert decibels(expected, ours) > decibels(expected, theirs) - CALIBRATIONS
    assert versions(tflite_bytes(result.network)) == versions(data)


def scores(network: Network, inputs: Sequence[Array]) -> Array:
    """What goes into the softmax, (N, classes), less its mean."""
    (softmax,) = (operator for operator in network.operators if operator.code == "SOFTMAX")
    tensor = network.tensors[softmax.inputs[0]]
    found = [q for x in inputs for operator, q in trace(network, x) if operator.outputs[0] == softmax.inputs[0]]
    return centered(tensor.dequantize(np.concatenate(found)))


def centered(y: Array) -> Array:
    """Scores up to a constant for each image, as softmax sees them."""
    return np.asarray(y - y.mean(1, keepdims=True))


def converted(tf_keras: Any, name: str, x: Array) -> bytes:
    """What TensorFlow makes of the network in Keras, calibrated with images (N, H, W, C)."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    applications = tf_keras.applications
    build = {"v1": applications.MobileNet, "v2": applications.MobileNetV2, "v3": applications.MobileNetV3Small}
    alpha = {"alpha": 0.25} if "0.25" in name else {}
    network = build[name.split("_")[1]](weights=None, **alpha)
    network.load_weights(str(real_file("weights", f"{name}.h5")))
    function = tf.function(lambda image: network(image, training=False))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(tf.TensorSpec((1, *x.shape[1:]))))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that statistics of the input are missing, which representative images replace
        data: bytes = converter.convert()
    return data


def versions(data: bytes) -> set[tuple[int, int]]:
    """(number, version) of every operator code in a file."""
    from ai_edge_litert import schema_py_generated as schema

    codes = schema.ModelT.InitFromPackedBuf(data, 0).operatorCodes
    return {(max(code.builtinCode, code.deprecatedBuiltinCode), code.version) for code in codes}


def decibels(x: Array, y: Array) -> float:
    return float(10 * np.log10(np.square(x).sum() / np.square(x - y).sum()))


def stem(*, stride: int = 2, scaling: Scaling = SYMMETRIC) -> Model:
    layers = (
        Input(name="x", shape=(9, 9, 3)),
        Conv2D(name="conv", inputs=("x",), filters=4, kernel_size=(3, 3), stride=stride, padding="valid"),
        GlobalAveragePooling2D(name="pool", inputs=("conv",)),
        Dense(name="out", inputs=("pool",), units=2),
    )
    graph = Graph("stem", layers)
    return Model(graph, random_params(graph, 0), scaling)


@pytest.mark.parametrize("scaling", [SYMMETRIC, UNIT, RAW, Scaling(1 / 128, -1.0), Scaling(0.02, -3.001)])
@pytest.mark.parametrize("stride", [1, 2])
def test_pixels_are_the_integers_of_the_input(scaling: Scaling, stride: int) -> None:
    """With VALID padding the first layer's sums are exactly those of the float model."""
    model = stem(stride=stride, scaling=scaling)
    pixels = random_pixels(9, 9)
    ops, found, how = with_input_steps(fuse(model.graph, model.params), model.scaling)
    (_, first), *_ = real_trace(operator_network(ops), found.apply(pixels[None].astype(np.float32)))
    expected = dict(model.graph.run(model.params, scaling.apply(pixels[None].astype(np.float32))))["conv"]
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    result = quantize_model(model, [pixels])
    assert np.array_equal(model_of(result).scale(pixels[None]).astype(int) + 128, pixels[None])
    assert result.network.input.quantization is not None
    assert result.network.input.zero_point == how.zero_point[0]


def test_a_rescaling_inside_the_network_becomes_part_of_the_input() -> None:
    result = real_quantized(NETWORKS[2])
    assert real_model(NETWORKS[2]).scaling == RAW
    assert result.scaling.scale == pytest.approx(1 / 127.5)
    assert [operator.code for operator in result.network.operators][:2] == ["CONV_2D", "HARD_SWISH"]


MEAN, DEVIATION = np.array([120, 100, 110], np.float32), np.array([50, 60, 70], np.float32)


@pytest.mark.parametrize(
    "layer",
    [
        Normalization(name="first", inputs=("x",)),
        ChannelRescaling(
            name="first",
            inputs=("x",),
            scale=tuple((1 / DEVIATION).tolist()),
            offset=tuple((-MEAN / DEVIATION).tolist()),
        ),
    ],
)
def test_a_normalization_of_pixels_becomes_part_of_the_input(layer: Normalization | ChannelRescaling) -> None:
    conv, *others = stem().graph.layers[1:]
    graph = Graph("net", (Input(name="x", shape=(9, 9, 3)), layer, replace(conv, inputs=("first",)), *others))
    statistics = {"first/mean": MEAN, "first/variance": DEVIATION**2} if layer.type == "Normalization" else {}
    model = Model(graph, dict(stem().params) | statistics, RAW)
    result = quantize_model(model, [random_pixels(9, 9)])
    np.testing.assert_allclose(result.scaling.scale, 1 / DEVIATION, rtol=1e-6)
    np.testing.assert_allclose(result.scaling.offset, -MEAN / DEVIATION, rtol=1e-6)
    assert result.network.operators[0].code == "CONV_2D"
    assert min(layer.decibels for layer in result.agreement.layers) > LEAST_DECIBELS
    expected = model.predict(random_pixels(9, 9))
    assert np.abs(model_of(result).predict(random_pixels(9, 9)) - expected).max() < 0.1 * np.abs(expected).max()


def test_scalings_by_channel_and_negative_ones_stay() -> None:
    for scaling in (TORCH, Scaling(-1 / 127.5, 1.0), Scaling(1 / 255, 2.0)):
        result = quantize_model(stem(scaling=scaling), [random_pixels(9, 9)])
        assert result.scaling == scaling
        x = model_of(result).scale(random_pixels(9, 9)[None])
        real = scaling.apply(random_pixels(9, 9)[None].astype(np.float32))
        assert np.abs(result.network.input.dequantize(x) - real).max() <= result.network.input.scale[0]


def test_a_uint8_input_gives_the_same() -> None:
    model = load("digits")
    signed, unsigned = (quantize_model(model, digits(), input_type=kind) for kind in ("int8", "uint8"))
    assert [model.network.input.dtype.name for model in (signed, unsigned)] == ["int8", "uint8"]
    assert np.array_equal(model_of(signed).predict_integers(digits()), model_of(unsigned).predict_integers(digits()))
    pixels = np.stack([model.pixels(image) for image in digits()])
    assert np.array_equal(model_of(unsigned).scale(pixels), pixels)


def test_an_image_that_cannot_be_read_does_not_spoil_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    model = load("digits")
    result, expected = quantize_model(model, [digits()[0], broken, *digits()[1:]]), quantize_model(model, digits())
    ((source, error),) = result.failures
    assert source == broken
    assert isinstance(error, ImageError)
    assert result.agreement.images == 10
    assert tflite_bytes(result.network) == tflite_bytes(expected.network)


@pytest.mark.parametrize("images", [[], [b"no image"]])
def test_without_an_image_nothing_is_made(images: Sequence[bytes]) -> None:
    with pytest.raises(ImageError, match=r"no image to calibrate with: (none was given|.*not an image)"):
        quantize_model(load("digits"), images)


def test_percentiles_cut_ranges() -> None:
    model = load("digits")
    wide, narrow = (
        quantize_model(model, digits(), calibration=how) for how in (Calibration(), Calibration("percentile", 99))
    )
    steps = [
        (float(a.scale[0]), float(b.scale[0]))
        for a, b in zip(wide.network.tensors, narrow.network.tensors, strict=True)
        if a.data is None
    ]
    assert all(after <= before for before, after in steps)
    assert sum(after < before for before, after in steps) > 20


def test_memory_does_not_grow_with_the_images() -> None:
    """Images are asked for as they are computed: never more than a batch and what is being prepared."""
    taken: list[int] = []
    computed: list[int] = []

    class Images(Sequence[Array]):
        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: Any) -> Any:
            if index >= 200:
                raise IndexError
            taken.append(index)
            return random_pixels(9, 9, index)

    def watch(items: Any, label: str) -> Any:
        for item in items:
            computed.append(len(taken) - len(computed))
            yield item

    quantize_model(stem(), Images(), watch=watch)
    assert len(computed) == len(taken) == 400
    assert max(computed) <= 80


def test_layers_without_an_operator_are_named() -> None:
    graph = Graph("net", (Input(name="x", shape=(8, 8, 3)), ELU(name="elu", inputs=("x",))))
    with pytest.raises(NpMobileNetError, match="elu: ELU has no TensorFlow Lite export"):
        quantize_model(Model(graph, {}), [random_pixels(8, 8)])


def test_numbers_that_are_not_finite_are_named() -> None:
    model = stem()
    params = dict(model.params) | {"conv/kernel": np.full((3, 3, 3, 4), 3e38, np.float32)}
    with (
        np.errstate(all="ignore"),
        pytest.raises(WeightsError, match="conv: not all of its values are finite in float32"),
    ):
        quantize_model(replace(model, params=params), [random_pixels(9, 9)])


def test_other_input_types_are_refused() -> None:
    with pytest.raises(ArgumentError, match="unknown input type 'int16'; expected int8 or uint8"):
        quantize_model(stem(), [random_pixels(9, 9)], input_type="int16")


def test_several_outputs() -> None:
    base = mobilenet_v1(alpha=0.25, resolution=32, classes=4)
    layers = (*base.layers, Dense(name="box", inputs=("global_average_pooling2d",), units=4))
    graph = Graph("two", tuple(layers), (("box", "box"), ("species", base.layers[-1].name)))
    model = Model(graph, random_params(graph, 0))
    result = quantize_model(model, [random_pixels(32, 32, seed) for seed in range(3)])
    assert result.agreement.same_class is not None
    ours, expected = model_of(result).predict(random_pixels(32, 32)), model.predict(random_pixels(32, 32))
    assert [y.shape for y in ours.values()] == [y.shape for y in expected.values()] == [(1, 1, 1, 4), (1, 4)]


def test_a_softmax_that_ends_litert_s_reference_kernel_is_noted() -> None:
    graph = mobilenet_v1(alpha=0.25, resolution=32, classes=1000)
    params = {name: array / 100 for name, array in random_params(graph, 0).items()}
    model = Model(graph, params)
    assert model.predict(random_pixels(32, 32)).max() < 1 / 512
    notes = " ".join(quantize_model(model, [random_pixels(32, 32)]).notes)
    assert "no class of an image has a probability of 1/512 or more: LiteRT's reference kernel of SOFTMAX ends" in notes
    assert "SOFTMAX" not in " ".join(quantize_model(load("digits"), digits()).notes)


def test_ranges_are_those_of_float64() -> None:
    """In which machines differ far less than float32, the type of a scale, can tell."""
    model, result = load("digits"), quantize_model(load("digits"), digits())
    ops, scaling, _ = with_input_steps(fuse(model.graph, model.params), model.scaling)
    pixels = np.stack([model.pixels(image) for image in digits()]).astype(np.float32)
    for operator, y in real_trace(operator_network(ops), scaling.apply(pixels).astype(np.float64)):
        if operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            assert y.dtype == np.float64
            found = result.network.tensors[operator.outputs[0]].scale[0]
            assert found == covering(float(y.min()), float(y.max())).scale[0]
