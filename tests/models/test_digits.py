"""The bundled network: small, and accurate on digits outside its training set."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from npmobilenet.errors import ImageError
from npmobilenet.hub.load import load
from tests.helpers.real_files import ROOT
from tests.helpers.tolerances import DIGITS_ACCURACY, SKETCHES_ACCURACY, SKETCHES_ACCURACY_PER_DIGIT

EXAMPLES = sorted((ROOT / "examples" / "digits").glob("*.png"))


def test_the_file_is_at_most_a_megabyte() -> None:
    assert len((files("npmobilenet") / "data" / "digits.safetensors").read_bytes()) <= 1_000_000


def test_the_file_passes_its_self_check() -> None:
    assert load("digits").failed_checks() == []


def test_it_is_mobilenet_v1_with_alpha_0_25() -> None:
    model = load("digits")
    assert model.graph.name == "mobilenet_0.25_32"
    assert model.graph.input_shape == (32, 32, 3)
    assert model.labels == tuple(("", digit) for digit in "0123456789")


@pytest.mark.parametrize("resize", ["crop", "keras"])
def test_98_of_100_held_out_digits_are_classified_correctly(resize: str) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install npmobilenet[test]")
    from scripts.train_digits import split_digits

    _, (images, digits) = split_digits()
    assert len(digits) == 360
    results = load("digits").predict(images, resize=resize, backend="reference").argmax(axis=1)
    assert np.mean(results == digits) >= DIGITS_ACCURACY


def test_sketches_in_ways_that_training_held_out_are_classified_correctly() -> None:
    from scripts.sketch_accuracy import accuracy, held_out_sketches

    found = accuracy(load("digits"), *held_out_sketches())
    assert len(found.digits) == 1000
    assert found.right.mean() >= SKETCHES_ACCURACY
    assert min(found.of_digit(digit) for digit in range(10)) >= SKETCHES_ACCURACY_PER_DIGIT


def test_half_of_at_least_four_ways_of_writing_each_digit_are_held_out() -> None:
    from scripts.sketches import HELD_OUT, TRAINED, WAYS, sketches

    trained, held_out = (
        {(sketch.digit, sketch.way) for sketch in sketches(ways, 10, 0)} for ways in (TRAINED, HELD_OUT)
    )
    assert trained.isdisjoint(held_out)
    assert trained | held_out == {(digit, way) for digit, ways in enumerate(WAYS) for way in range(len(ways))}
    for digit in range(10):
        assert len(WAYS[digit]) >= 4
        assert sum(d == digit for d, _ in trained) == sum(d == digit for d, _ in held_out)


def test_the_example_images_are_held_out_digits() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install npmobilenet[test]")
    from scripts.train_digits import split_digits

    _, (images, digits) = split_digits()
    assert len(EXAMPLES) == 10
    for path in EXAMPLES:
        first = images[digits == int(path.stem)][0]
        np.testing.assert_array_equal(np.asarray(Image.open(path)), first, err_msg=path.name)


def test_the_example_images_are_classified_correctly() -> None:
    results = load("digits").classify(EXAMPLES, top=1)
    assert [label for ((_, label, _),) in results] == [path.stem for path in EXAMPLES]


def test_an_unknown_resize_is_named_by_every_way_to_give_one() -> None:
    model, image = load("digits"), EXAMPLES[0]
    for ask in (
        lambda: model.predict(image, resize="lanczos"),
        lambda: model.classify(image, resize="lanczos"),
        lambda: model.features(image, resize="lanczos"),
        lambda: model.pixels(image, resize="lanczos"),
        lambda: list(model.predict_each([image], resize="lanczos")),
        lambda: replace(model, resize="lanczos"),
    ):
        with pytest.raises(ImageError, match="unknown resize 'lanczos'; choose one of"):
            ask()
