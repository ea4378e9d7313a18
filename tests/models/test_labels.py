"""Labels: the list is identical to Keras's, and the classes are in the right order."""

import hashlib
import inspect
import json
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npmobilenet.errors import ShapeError
from npmobilenet.models.labels import decode_predictions, imagenet_labels, label_pairs
from npmobilenet.types import Array

KERAS_CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"


def one_hot(*outputs: int, classes: int = 1000) -> Array:
    return np.eye(classes, dtype=np.float32)[list(outputs)]


def test_labels_in_kerass_format_have_the_md5_in_kerass_source() -> None:
    class_index = json.dumps({str(i): list(pair) for i, pair in enumerate(imagenet_labels())})

    assert hashlib.md5(class_index.encode(), usedforsecurity=False).hexdigest() == KERAS_CLASS_INDEX_MD5


def test_the_md5_is_the_one_that_keras_requests() -> None:
    imagenet_utils = pytest.importorskip("keras.src.applications.imagenet_utils", reason="needs Keras to compare with")

    found = re.search(r'file_hash="(\w+)"', inspect.getsource(imagenet_utils.decode_predictions))

    assert found is not None
    assert found[1] == KERAS_CLASS_INDEX_MD5


@pytest.mark.parametrize(
    ("output", "wnid", "label"),
    [
        (0, "n01440764", "tench"),
        (279, "n02120079", "Arctic_fox"),
        (285, "n02124075", "Egyptian_cat"),
        (388, "n02510455", "giant_panda"),
        (607, "n03590841", "jack-o'-lantern"),
        (999, "n15075141", "toilet_tissue"),
    ],
)
def test_known_outputs_have_their_labels(output: int, wnid: str, label: str) -> None:
    assert imagenet_labels()[output] == (wnid, label)


def test_wnids_are_unique_and_only_crane_and_maillot_occur_twice() -> None:
    wnids, names = zip(*imagenet_labels(), strict=True)

    assert len(set(wnids)) == 1000
    assert {name for name, count in Counter(names).items() if count > 1} == {"crane", "maillot"}


def test_predictions_are_named_and_ordered_by_hand() -> None:
    probabilities = np.zeros((1, 1000))
    probabilities[0, [388, 285, 0]] = [0.25, 0.5, 0.125]

    assert decode_predictions(probabilities, top=3) == [
        [("n02124075", "Egyptian_cat", 0.5), ("n02510455", "giant_panda", 0.25), ("n01440764", "tench", 0.125)]
    ]


def test_predictions_equal_those_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet_utils = pytest.importorskip("keras.src.applications.imagenet_utils", reason="needs Keras to compare with")
    class_index = {str(i): list(pair) for i, pair in enumerate(imagenet_labels())}
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", class_index)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(1000), size=8)

    assert decode_predictions(probabilities, top=7) == imagenet_utils.decode_predictions(probabilities, top=7)


@given(
    arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(1, 6)), elements=st.sampled_from([0, 0.25, 0.5])),
    st.integers(1, 8),
)
def test_the_order_is_that_of_a_sort_by_probability_then_output(probabilities: Array, top: int) -> None:
    classes = probabilities.shape[1]
    labels = [str(output) for output in range(classes)]

    expected = [
        sorted(((-p, output) for output, p in enumerate(row)), key=lambda pair: pair)[:top]
        for row in probabilities.tolist()
    ]

    assert decode_predictions(probabilities, top, labels) == [
        [("", str(output), -negative) for negative, output in row] for row in expected
    ]


def test_nan_is_last() -> None:
    assert [label for _, label, _ in decode_predictions([[np.nan, 0.1, 0.9]], labels=["a", "b", "c"])[0]] == [
        "c",
        "b",
        "a",
    ]


def test_quantized_scores_are_ordered_too() -> None:
    scores = np.array([[0, 255, 128]], np.uint8)

    assert decode_predictions(scores, labels=["a", "b", "c"]) == [[("", "b", 255.0), ("", "c", 128.0), ("", "a", 0.0)]]


def test_probabilities_are_python_floats_that_json_accepts() -> None:
    assert json.loads(json.dumps(decode_predictions(one_hot(1), top=1))) == [[["n01443537", "goldfish", 1.0]]]


def test_top_above_the_number_of_classes_returns_all() -> None:
    assert len(decode_predictions([[0.4, 0.6]], top=5, labels=["no person", "person"])[0]) == 2


def test_plain_names_have_no_wnid_and_pairs_keep_theirs() -> None:
    assert label_pairs(["seven", ("n02510455", "giant_panda"), ("", "eight")]) == (
        ("", "seven"),
        ("n02510455", "giant_panda"),
        ("", "eight"),
    )


def test_a_background_class_shifts_the_labels_by_one_output() -> None:
    predictions = decode_predictions(one_hot(0, 389, classes=1001), top=1, background=True)

    assert predictions == [[("", "background", 1.0)], [("n02510455", "giant_panda", 1.0)]]


def test_an_empty_batch_has_no_predictions() -> None:
    assert decode_predictions(np.empty((0, 1000))) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"probabilities": np.ones(1000)},
            r"expected probabilities \(N, classes\).*got \(1000,\).*probabilities\[None\]",
        ),
        ({"probabilities": np.ones((1, 1, 1000))}, r"got \(1, 1, 1000\)"),
        ({"probabilities": np.ones((1, 1001))}, r"1001 classes, ImageNet has 1000; .*background=True"),
        ({"probabilities": np.ones((1, 10))}, r"10 classes, ImageNet has 1000; pass labels="),
        ({"probabilities": np.ones((1, 3)), "labels": ["a", "b"]}, r"3 classes, labels has 2"),
        ({"probabilities": np.ones((1, 1000)), "background": True}, r"1000 classes, ImageNet has 1001 with the backgr"),
        ({"probabilities": np.ones((1, 1000)), "top": 0}, r"expected an integer top of at least 1, got 0"),
    ],
)
def test_mismatches_are_refused_with_their_numbers(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        decode_predictions(**arguments)


@pytest.mark.parametrize("top", ["5", 2.5, None, 0])
def test_a_top_that_is_no_count_is_refused(top: Any) -> None:
    with pytest.raises(ShapeError, match=f"expected an integer top of at least 1, got {top!r}"):
        decode_predictions(one_hot(1), top=top)
