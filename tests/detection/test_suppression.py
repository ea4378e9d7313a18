"""Both worlds' post-processing, against slow loops, LiteRT's operator and torchvision's vectors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npmobilenet.detection.anchors import tensorflow_anchors, torchvision_anchors
from npmobilenet.detection.box_coder import decode_tensorflow
from npmobilenet.detection.suppression import FIRST, best_first, suppress, suppress_per_class
from npmobilenet.detection.tensorflow_rule import PostProcessing, TensorFlowRule, detection_postprocess
from npmobilenet.detection.torchvision_rule import TorchvisionRule
from npmobilenet.detection.worlds import Rule, rule_from_json, rule_to_json
from npmobilenet.types import Array
from tests.detection.test_anchors import MAPS_300, MAPS_320
from tests.helpers.real_files import real_file
from tests.helpers.strategies import SEEDS
from tests.oracles.litert_postprocess import litert_postprocess
from tests.oracles.slow_postprocessing import tflite_kept, torchvision_kept

ULPS = 4  # of float32: exponentials of two libraries, through four roundings


@st.composite
def cases(draw: Any) -> tuple[Array, Array, Array, PostProcessing]:
    """Codes (A, 4), scores (A, classes), anchors (A, 4), options; equal scores in every other case."""
    rng = np.random.default_rng(draw(SEEDS))
    A, classes = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    anchors = np.concatenate([rng.uniform(0, 1, (A, 2)), rng.uniform(0.05, 0.6, (A, 2))], axis=1).astype(np.float32)
    codes = rng.normal(0, draw(st.sampled_from([0.5, 3, 40])), (A, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (A, classes)).astype(np.float32)
    if draw(st.booleans()):
        scores = np.round(scores * 8) / np.float32(8)
    options = PostProcessing(
        score_threshold=draw(st.sampled_from([1e-8, 0.25, 0.5])),
        iou_threshold=draw(st.sampled_from([0.1, 0.5, 0.6])),
        max_detections=draw(st.integers(1, 30)),
        detections_per_class=draw(st.integers(1, 20)),
        use_regular_nms=draw(st.booleans()),
    )
    return codes, scores, anchors, options


@settings(max_examples=60, deadline=None)
@given(cases())
def test_tensorflow_lite_s_operator_is_equal_to_the_bit(case: tuple[Array, Array, Array, PostProcessing]) -> None:
    codes, scores, anchors, options = case
    found = detection_postprocess(codes, scores, anchors, options)
    boxes, classes, values, count = litert_postprocess(codes, scores, anchors, options)
    n = int(count)
    assert n == len(found.scores)
    np.testing.assert_array_equal(found.boxes, boxes[:n])
    np.testing.assert_array_equal(found.categories, classes[:n] + 1)
    np.testing.assert_array_equal(found.scores, values[:n])


@settings(max_examples=60, deadline=None)
@given(cases())
def test_tensorflow_lite_s_operator_by_its_definition(case: tuple[Array, Array, Array, PostProcessing]) -> None:
    codes, scores, anchors, options = case
    found = detection_postprocess(codes, scores, anchors, options)
    boxes = decode_tensorflow(codes, anchors)
    with np.errstate(over="ignore", invalid="ignore"):
        kept = tflite_kept(boxes, scores, options)
    assert [(anchor, number + 1) for anchor, number in kept] == list(
        zip(_anchors_of(found.boxes, boxes, [anchor for anchor, _ in kept]), found.categories.tolist(), strict=True)
    )
    np.testing.assert_array_equal(found.scores, [scores[pair] for pair in kept])


def _anchors_of(found: Array, boxes: Array, expected: list[int]) -> list[int]:
    """The expected anchors, where their boxes are those that were found; -1 elsewhere."""
    assert len(found) == len(expected)
    equal = [np.array_equal(box, boxes[anchor], equal_nan=True) for box, anchor in zip(found, expected, strict=True)]
    return [anchor if same else -1 for anchor, same in zip(expected, equal, strict=True)]


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(2, 3))
def test_each_box_can_have_several_classes(case: tuple[Array, Array, Array, PostProcessing], depth: int) -> None:
    """Not with equal scores in one anchor, whose order in LiteRT depends on the C++ library's partial sort."""
    codes, scores, anchors, _ = case
    scores = scores + np.arange(scores.shape[1], dtype=np.float32) / 64  # all different within an anchor
    depth = min(depth, scores.shape[1])
    options = PostProcessing(max_classes_per_detection=depth, max_detections=7)
    found = detection_postprocess(codes, scores, anchors, options)
    boxes, classes, values, count = litert_postprocess(codes, scores, anchors, options)
    n = int(count) * depth  # LiteRT counts anchors
    np.testing.assert_array_equal(found.boxes, boxes[:n])
    np.testing.assert_array_equal(found.scores, values[:n])
    np.testing.assert_array_equal(found.categories, classes[:n] + 1)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 4), st.integers(1, 12), st.integers(1, 20))
def test_torchvision_s_suppression_by_its_definition(
    seed: int, anchors: int, classes: int, candidates: int, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 33, (anchors, 2, 2)), axis=1).reshape(anchors, 4).astype(np.float32)
    logits = np.round(rng.normal(0, 2, (anchors, classes + 1)) * 4).astype(np.float32) / 4  # some are equal
    rule = TorchvisionRule(corners, (32, 32), 0.05, 0.5, limit, candidates)
    found = rule.found(np.zeros((anchors, 4), np.float32), logits)
    exact = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (exact / exact.sum(axis=1, keepdims=True))[:, 1:]
    kept = torchvision_kept(corners, scores, 0.05, 0.5, candidates, limit)
    assert [number + 1 for _, number in kept] == found.categories.tolist()
    np.testing.assert_array_equal(found.boxes, corners[[anchor for anchor, _ in kept]])
    np.testing.assert_array_equal(found.scores, [scores[pair] for pair in kept])


def test_torchvision_s_answer_for_drawn_heads() -> None:
    vectors = np.load(real_file("detection", "torchvision_ssdlite320.npz"))
    rng = np.random.default_rng(7)
    A = len(vectors["anchors"])
    logits = (rng.normal(0, 1, (A, 91)) * 1.5).astype(np.float32)
    logits[:, 0] += 3
    codes = (rng.normal(0, 1, (A, 4)) * 0.5).astype(np.float32)
    hot = rng.choice(A, 60, replace=False)
    logits[hot, rng.integers(1, 91, 60)] += 7
    found = TorchvisionRule(torchvision_anchors(MAPS_320, 320, 320)).found(codes, logits)
    np.testing.assert_array_equal(found.categories, vectors["post/labels"])
    np.testing.assert_allclose(
        found.boxes, vectors["post/boxes"], rtol=0, atol=ULPS * float(np.spacing(np.float32(320)))
    )
    np.testing.assert_allclose(found.scores, vectors["post/scores"], rtol=ULPS * float(np.finfo(np.float32).eps))


def test_what_comes_after_the_first_sorted_boxes_is_walked_too() -> None:
    """More boxes on one place than are sorted at first, and two elsewhere with the lowest scores."""
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (FIRST + 2, 1))
    boxes[-2:] += np.array([[5, 5, 5, 5], [9, 9, 9, 9]], np.float32)
    scores = np.linspace(1, 0.5, FIRST + 2, dtype=np.float32)[None]
    anchors, classes = suppress_per_class(
        boxes, scores, np.ones_like(scores, np.bool_), np.array([0.5], np.float32), 100, 100
    )
    assert (anchors.tolist(), classes.tolist()) == ([0, FIRST, FIRST + 1], [0, 0, 0])


def test_equal_scores_keep_their_order() -> None:
    scores = np.array([0.5, 0.75, 0.5, 0.75, 0.25, 0.5], np.float32)
    assert best_first(scores).tolist() == [1, 3, 0, 2, 5, 4]
    assert best_first(scores, 3).tolist() == [1, 3, 0]


def test_torchvision_compares_in_float64() -> None:
    """0.6 is not a float32: a box that overlaps by the next larger number is dropped there, and kept in float32."""
    upper = np.float32(0.6)
    assert float(upper) > 0.6
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, upper]], np.float32)  # their IoU is `upper` to the bit
    assert suppress(boxes, np.array([0.6], np.float32), 10).tolist() == [0, 1]
    assert suppress(boxes, np.array([0.6]), 10).tolist() == [0]


def test_nothing_is_found_where_nothing_is_above_the_threshold() -> None:
    codes, scores = np.zeros((1917, 4), np.float32), np.full((1917, 3), -20, np.float32)
    for is_regular in (True, False):
        options = PostProcessing(use_regular_nms=is_regular, score_threshold=0.3)
        found = TensorFlowRule(tensorflow_anchors(MAPS_300), options).found(codes, scores)
        assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "rule",
    [
        TensorFlowRule(
            tensorflow_anchors(MAPS_300), PostProcessing(0.3, 0.5, 10, 1, 5, True, (1, 2, 3, 4)), False, False
        ),
        TorchvisionRule(torchvision_anchors(MAPS_320, 320, 320), (320, 320), 0.01, 0.4, 7, 8),
    ],
)
def test_a_rule_is_read_back_from_json(rule: Rule) -> None:
    again = rule_from_json(rule_to_json(rule))
    assert type(again) is type(rule)
    np.testing.assert_array_equal(again.anchors, rule.anchors)
    assert rule_to_json(again) == rule_to_json(rule)
    changed = {name: value for name, value in vars(again).items() if name != "anchors"}
    assert changed == {name: value for name, value in vars(rule).items() if name != "anchors"}
