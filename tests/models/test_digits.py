"""The network that ships with the package: small, and right on digits that it has never seen."""

from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from npmobilenet.hub.load import load
from tests.helpers.real_files import ROOT

EXAMPLES = sorted((ROOT / "examples" / "digits").glob("*.png"))


def test_the_file_is_at_most_a_megabyte() -> None:
    assert len((files("npmobilenet") / "data" / "digits.safetensors").read_bytes()) <= 1_000_000


def test_the_file_passes_its_own_check() -> None:
    assert load("digits").failed_checks() == []


def test_it_is_mobilenet_v1_at_a_quarter_of_the_width() -> None:
    model = load("digits")
    assert model.graph.name == "mobilenet_0.25_32"
    assert model.graph.input_shape == (32, 32, 3)
    assert [label for _, label in model.labels] == list("0123456789")


@pytest.mark.parametrize("resize", ["crop", "keras"])
def test_98_of_100_held_out_digits_are_named_rightly(resize: str) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install npmobilenet[test]")
    from scripts.train_digits import split_digits

    _, (pictures, digits) = split_digits()
    assert len(digits) == 360
    answers = load("digits").predict(pictures, resize=resize, backend="reference").argmax(axis=1)
    assert np.mean(answers == digits) >= 0.98


def test_the_example_pictures_are_held_out_digits() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install npmobilenet[test]")
    from scripts.train_digits import split_digits

    _, (pictures, digits) = split_digits()
    assert len(EXAMPLES) == 10
    for path in EXAMPLES:
        first = pictures[digits == int(path.stem)][0]
        np.testing.assert_array_equal(np.asarray(Image.open(path)), first, err_msg=path.name)


def test_the_example_pictures_are_named_rightly() -> None:
    answers = load("digits").classify(EXAMPLES, top=1)
    assert [label for ((_, label, _),) in answers] == [path.stem for path in EXAMPLES]
