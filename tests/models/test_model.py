"""Models: what predict accepts and refuses, and how its results are computed."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet import architectures
from npmobilenet.errors import ImageError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, UNIT
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import AveragePooling2D, Conv2D, Dense, Flatten, Input
from npmobilenet.types import Array
from tests.helpers.models import NETWORK, some_model, some_pixels
from tests.helpers.networks import random_params
from tests.helpers.within import assert_within

EPSILON = float(np.finfo(np.float32).eps)  # twice the unit roundoff


def test_predict_scales_pixels_and_forward_does_not() -> None:
    model = some_model(scaling=UNIT)
    pixels = some_pixels(3, 48, 32, 3)
    np.testing.assert_array_equal(model.predict(pixels), model.forward(pixels.astype(np.float32) * np.float32(1 / 255)))


def test_a_model_built_by_hand_scales_as_its_network_takes_pixels() -> None:
    """A V3 that rescales its pixels itself was given [-1, 1]: scaled twice, and `forward` refused 0..255."""
    v3 = architectures.mobilenet_v3_small(0.75, 32, classes=3)
    model = Model(v3, random_params(v3, seed=0))
    pixels = some_pixels(1, 32, 32, 3)
    assert model.scaling == RAW
    np.testing.assert_array_equal(model.predict(pixels), model.forward(pixels.astype(np.float32)))
    v1 = architectures.mobilenet_v1(0.25, 32, classes=3)
    assert Model(v1, random_params(v1, seed=0)).scaling == SYMMETRIC


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "image", "array", "float", "list", "batch"])
def test_predict_accepts_one_image_in_any_form(kind: str, tmp_path: Path) -> None:
    pixels = some_pixels(48, 32, 3)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    forms: dict[str, Any] = {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "image": Image.fromarray(pixels),
        "array": pixels,
        "float": pixels.astype(np.float64),
        "list": [path],
        "batch": pixels[None],
    }
    model = some_model()
    np.testing.assert_array_equal(model.predict(forms[kind], resize="keras"), model.predict([pixels]))


@pytest.mark.parametrize("resize", ["crop", "keras"])
@pytest.mark.parametrize("size", [(48, 32), (60, 90)])
def test_an_image_is_resized_by_one_rule_whatever_its_source(
    size: tuple[int, int], resize: str, tmp_path: Path
) -> None:
    """An image of the network's own size was cropped as a path and taken as it is as an array."""
    pixels = some_pixels(*size, 3)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    model = some_model()
    as_array = model.predict(pixels, resize=resize)
    for image in (path, str(path), path.read_bytes(), Image.fromarray(pixels), [pixels], pixels[None]):
        np.testing.assert_array_equal(model.predict(image, resize=resize), as_array)
    if size == (48, 32):
        np.testing.assert_array_equal(as_array, model.forward(model.scale(pixels[None])))


def test_predict_returns_one_row_per_image() -> None:
    model = some_model()
    pixels = some_pixels(19, 48, 32, 3)  # more than one batch
    together = model.predict(pixels)
    assert together.shape == (19, 4)
    np.testing.assert_array_equal(together[[0, 18]], model.predict(pixels[[0, 18]]))


def test_no_images_return_no_rows() -> None:
    assert some_model().predict([]).shape == (0, 4)
    assert some_model().features(np.zeros((0, 48, 32, 3), np.uint8)).shape == (0, 256)


def test_images_of_another_size_are_resized() -> None:
    assert some_model().predict(some_pixels(100, 70, 3)).shape == (1, 4)


@pytest.mark.parametrize(
    "pixels",
    [np.full((48, 32, 3), 0.5), np.linspace(-1, 1, 48 * 32 * 3).reshape(48, 32, 3), np.full((48, 32, 3), np.nan)],
    ids=["0..1", "-1..1", "nan"],
)
def test_already_scaled_pixels_are_refused(pixels: Array) -> None:
    with pytest.raises(ImageError, match=r"0\.\.255.*model\.forward"):
        some_model().predict(pixels)


def test_a_black_float_image_is_not_mistaken_for_a_scaled_one() -> None:
    assert some_model().predict(np.zeros((48, 32, 3))).shape == (1, 4)


@pytest.mark.parametrize("shape", [(48, 32), (48, 32, 4), (1, 1, 48, 32, 3)])
def test_arrays_that_are_not_rgb_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected pixels"):
        some_model().predict(some_pixels(*shape))


def test_forward_refuses_integers_and_points_to_predict() -> None:
    with pytest.raises(ShapeError, match=r"model\.predict"):
        some_model().forward(some_pixels(1, 48, 32, 3))


def test_forward_refuses_an_unknown_backend() -> None:
    with pytest.raises(NpMobileNetError, match="reference"):
        some_model().forward(np.zeros((1, 48, 32, 3), np.float32), backend="gpu")


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", True, 10_000])
def test_an_invalid_number_of_threads_is_refused_by_every_backend(threads: Any, backend: str) -> None:
    model, pixels = some_model(), some_pixels(48, 32, 3)
    for call in (model.predict, model.features, model.classify):
        with pytest.raises(
            NpMobileNetError, match=f"threads: expected an integer from 1 to 1024 or None, got {threads!r}"
        ):
            call(pixels, backend=backend, threads=threads)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_the_number_of_threads_does_not_change_the_result(backend: str) -> None:
    model, pixels = some_model(), some_pixels(2, 48, 32, 3)
    counts: list[Any] = [None, 1, 2, np.int64(3)]
    for call in (model.predict, model.features):
        results = [call(pixels, backend=backend, threads=threads) for threads in counts]
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_computes_the_same(copied: Callable[[Model], Model], used: bool) -> None:
    model, pixels = some_model(labels=["a", "b", "c", "d"]), some_pixels(48, 32, 3)
    if used:
        model.predict(pixels, backend="compiled")
        model.features(pixels, backend="compiled")

    twin = copied(model)

    np.testing.assert_array_equal(twin.predict(pixels), model.predict(pixels))
    assert twin.classify(pixels) == model.classify(pixels)
    assert twin.graph == model.graph
    assert twin.backend == model.backend


@pytest.mark.parametrize("used", [False, True])
def test_a_model_can_be_sent_to_a_spawned_process(used: bool) -> None:
    model, pixels = some_model(), some_pixels(2, 48, 32, 3)
    if used:
        model.predict(pixels, backend="compiled")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(model.predict, pixels)  # a bound method takes its model along
    np.testing.assert_array_equal(np.concatenate(there), model.predict(pixels))


def test_forward_computes_in_the_precision_of_its_input() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1, 48, 32, 3))
    assert some_model(backend="auto").forward(x).dtype == np.float64
    assert some_model(backend="auto").forward(x.astype(np.float16)).dtype == np.float16


def test_trace_ends_with_the_output_of_forward() -> None:
    model = some_model()
    x = model.scale(some_pixels(1, 48, 32, 3))
    outputs = dict(model.trace(x))
    assert list(outputs) == [layer.name for layer in model.graph.layers]
    np.testing.assert_array_equal(outputs["predictions"], model.forward(x, backend="reference"))


@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_features_are_the_mean_of_the_last_feature_map(arch: str, include_top: bool) -> None:
    graph = architectures.ARCHITECTURES[arch](alpha=0.25, resolution=64, include_top=include_top)
    model = some_model(graph)
    x = some_pixels(1, 64, 64, 3)
    last_map = next(y for _, y in reversed(list(model.trace(model.scale(x)))) if y.ndim == 4 and y.shape[1] == 2)
    features = model.features(x, backend="reference")
    exact = last_map.astype(np.float64).mean(axis=(1, 2))  # (1, C), of 4 pixels
    bound = 4 * EPSILON * np.abs(last_map).astype(np.float64).mean(axis=(1, 2))  # 3 additions and 1 division round
    assert_within(bound, features, exact)


def test_features_of_a_network_that_flattens_a_pooled_map() -> None:
    graph = Graph(
        "small",
        (
            Input(name="in", shape=(8, 8, 3)),
            Conv2D(name="conv", inputs=("in",), filters=5, kernel_size=(3, 3)),
            AveragePooling2D(name="pool", inputs=("conv",), kernel_size=(6, 6)),
            Flatten(name="flat", inputs=("pool",)),
            Dense(name="head", inputs=("flat",), units=2),
        ),
    )
    assert graph.embedding == "pool"
    assert some_model(graph, scaling=RAW).features(some_pixels(8, 8, 3)).shape == (1, 5)


def test_a_network_without_classifier_refuses_predict_and_points_to_features() -> None:
    graph = architectures.mobilenet_v1(alpha=0.25, resolution=32, include_top=False)
    with pytest.raises(ShapeError, match=r"model\.features"):
        some_model(graph).predict(some_pixels(32, 32, 3))


def test_classify_uses_labels_or_numbers() -> None:
    pixels = some_pixels(48, 32, 3)
    named = some_model(labels=["a", "b", "c", "d"]).classify(pixels, top=2)
    numbered = some_model().classify(pixels, top=2)
    assert [label for _, label, _ in named[0]] == ["abcd"[int(label)] for _, label, _ in numbered[0]]


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ShapeError, match="4 labels"):
        some_model(labels=["a", "b"])


def test_parameters_that_do_not_fit_are_all_listed_in_one_message() -> None:
    params = dict(random_params(NETWORK, seed=1))
    del params["conv1/kernel"]
    params["conv_pw_3/kernel"] = params["conv_pw_3/kernel"][..., :5]
    params["extra/bias"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as error:
        Model(NETWORK, params)
    assert "missing: conv1/kernel (3, 3, 3, 8)" in str(error.value)
    assert "unexpected: extra/bias (3,)" in str(error.value)
    assert "wrong shape: conv_pw_3/kernel: expected (1, 1, 32, 32), got (1, 1, 32, 5)" in str(error.value)
