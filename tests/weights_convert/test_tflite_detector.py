"""Detectors in TensorFlow Lite files, against LiteRT."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.bench.export_tflite import write_tflite
from npmobilenet.compiler.passes import fuse
from npmobilenet.detection.anchors import tensorflow_anchors
from npmobilenet.detection.tensorflow_rule import PostProcessing, TensorFlowRule
from npmobilenet.errors import AssumptionWarning, WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.detector import Detector
from npmobilenet.models.quantized_detector import QuantizedDetector
from npmobilenet.models.quantized_model import QuantizedModel
from tests.detection.test_anchors import MAPS_300
from tests.helpers.command_line import document, run
from tests.helpers.detectors import small_detector
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import SMALL
from tests.oracles.litert_postprocess import litert_detections, with_post_processing

COCO = ("tflite", "ssd_mobilenet_v1_coco_uint8.tflite")
PHOTOGRAPHS = ("burger.jpg", "cat.bmp", "panda.jpg", "parrot.jpg", "sunflower.bmp")
pytestmark = pytest.mark.usefixtures("kernels_kept")

OPTIONS = PostProcessing(0.25, 0.5, 20, 1, 7, True, (10.0, 10.0, 5.0, 5.0))


@pytest.fixture(scope="module")
def coco() -> QuantizedDetector:
    detector = load(real_file(*COCO), backend="compiled")
    assert isinstance(detector, QuantizedDetector)
    return detector


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_photograph_has_litert_s_boxes_to_the_bit(coco: QuantizedDetector, name: str) -> None:
    x = coco.scale(coco.pixels(real_file("images", name))[None])
    (found,) = coco.found(x, backend="reference" if name == "cat.bmp" else "compiled")
    boxes, classes, scores, count = litert_detections(real_file(*COCO).read_bytes(), x, reference=True)
    assert int(count) == len(found.scores) == 10
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.categories, classes + 1)
    np.testing.assert_array_equal(found.scores, scores)


def test_the_command_prints_them(coco: QuantizedDetector) -> None:
    photograph = real_file("images", "cat.bmp")
    (result,) = document(run("detect", photograph, "-m", real_file(*COCO), "--backend", "compiled", "--json"))
    (expected,) = coco.detect(photograph, threshold=0.5)
    assert [one.label for one in expected] == ["cat"], "of 90 classes"
    assert [(tuple(o["box"]), o["label"], o["score"]) for o in result["detections"]] == [
        (one.box, one.label, one.score) for one in expected
    ]


def test_its_options_and_anchors_are_those_of_the_file(coco: QuantizedDetector) -> None:
    rule = coco.post_processing
    assert isinstance(rule, TensorFlowRule)
    expected = PostProcessing(
        float(np.float32(1e-8)), float(np.float32(0.6)), 10, 1, 100, False, (10.0, 10.0, 5.0, 5.0)
    )
    assert rule.options == expected
    assert (rule.background, rule.logits) == (True, False)
    step = 0.0065  # anchors are integers in this file
    np.testing.assert_allclose(rule.anchors, tensorflow_anchors(MAPS_300), rtol=0, atol=step)
    assert coco.category_names[16] == "cat"


def test_it_is_saved_and_opened(coco: QuantizedDetector, tmp_path: Path) -> None:
    coco.with_labels([f"name {number}" for number in range(91)]).save(tmp_path / "coco.safetensors")
    again = load(tmp_path / "coco.safetensors", backend="compiled")
    assert isinstance(again, QuantizedDetector)
    assert again.category_names[0] == "name 1"
    assert again.failed_checks() == []
    x = coco.scale(coco.pixels(real_file("images", "cat.bmp"))[None])
    heads = coco.forward(x)
    for name, y in again.forward(x).items():
        np.testing.assert_array_equal(y, heads[name])
    np.testing.assert_array_equal(again.post_processing.anchors, coco.post_processing.anchors)
    assert type(again.with_output("Squeeze")) is QuantizedModel


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector without post-processing, in a folder of its own."""
    path = tmp_path_factory.mktemp("float") / "heads.tflite"
    detector = small_detector()
    write_tflite(fuse(detector.graph, detector.params), 1, path)
    return path


def x_drawn() -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)


def test_a_float_detector_with_post_processing(float_file: Path, tmp_path: Path) -> None:
    anchors = small_detector().post_processing.anchors
    path = tmp_path / "detect.tflite"
    path.write_bytes(with_post_processing(float_file.read_bytes(), anchors, OPTIONS, classes=4))
    with pytest.warns(AssumptionWarning, match=r"how pixels are scaled; \[-1, 1\] is assumed"):
        detector = load(path, backend="reference")
    assert isinstance(detector, Detector)
    rule = detector.post_processing
    assert isinstance(rule, TensorFlowRule)
    assert (rule.options, rule.background, rule.logits) == (OPTIONS, True, False)
    np.testing.assert_array_equal(rule.anchors, anchors)
    (found,) = detector.found(x_drawn())
    boxes, classes, scores, count = litert_detections(path.read_bytes(), x_drawn())
    n = int(count)
    assert n == len(found.scores) == OPTIONS.max_detections
    np.testing.assert_array_equal(found.categories, classes[:n] + 1)
    np.testing.assert_allclose(found.scores, scores[:n], rtol=SMALL)
    np.testing.assert_allclose(found.boxes, boxes[:n], rtol=0, atol=SMALL)


def test_without_post_processing_tensorflow_s_is_assumed(float_file: Path) -> None:
    with pytest.warns(AssumptionWarning) as caught:
        detector = load(float_file, backend="reference")
    assert any("the file has no post-processing: TensorFlow's anchors are assumed" in str(w.message) for w in caught)
    assert isinstance(detector, Detector)
    rule, expected = detector.post_processing, small_detector().post_processing
    assert isinstance(rule, TensorFlowRule)
    assert rule.logits
    np.testing.assert_array_equal(rule.anchors, expected.anchors)
    heads = dict(zip(("boxes", "scores"), litert_detections(float_file.read_bytes(), x_drawn()), strict=True))
    for ours, theirs in zip(detector.forward(x_drawn()).values(), heads.values(), strict=True):
        np.testing.assert_allclose(ours[0], theirs, rtol=0, atol=SMALL * np.abs(theirs).max())


def test_options_that_make_no_sense_are_refused(float_file: Path, tmp_path: Path) -> None:
    anchors, path = small_detector().post_processing.anchors, tmp_path / "detect.tflite"
    for options in (replace(OPTIONS, max_detections=0), replace(OPTIONS, scales=(10.0, 10.0, 0.0, 5.0))):
        path.write_bytes(with_post_processing(float_file.read_bytes(), anchors, options, classes=4))
        with pytest.raises(WeightsError, match="expected positive scales and numbers of detections"):
            load(path)


@pytest.mark.parametrize(
    ("classes", "anchors", "message"),
    [
        (2, (204, 4), "expected scores of 2 classes, with or without the background, got 5"),
        (4, (204, 3), "expected anchors"),
    ],
)
def test_an_operator_that_does_not_fit_is_refused(
    float_file: Path, tmp_path: Path, classes: int, anchors: tuple[int, int], message: str
) -> None:
    path = tmp_path / "detect.tflite"
    path.write_bytes(with_post_processing(float_file.read_bytes(), np.ones(anchors, np.float32), OPTIONS, classes))
    with pytest.raises(WeightsError, match=message):
        load(path)
