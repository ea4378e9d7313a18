"""Detectors: images in, boxes out; the file; what is refused."""

import io
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet.analysis.engine_check import check_engine
from npmobilenet.detection.anchors import tensorflow_anchors
from npmobilenet.detection.tensorflow_rule import TensorFlowRule
from npmobilenet.detection.worlds import rule_to_json
from npmobilenet.errors import ArgumentError, ImageError, LabelFileError, ShapeError, WeightsError
from npmobilenet.hub.load import load, load_with_names
from npmobilenet.models.annotated import COLORS, annotated
from npmobilenet.models.detections import Detection
from npmobilenet.models.detector import Detector
from npmobilenet.models.model import Model
from npmobilenet.models.model_file import ModelFile
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from tests.detection.test_anchors import MAPS_300
from tests.helpers.detectors import small_detector
from tests.helpers.real_files import ROOT, real_file


@pytest.fixture(params=["tensorflow", "torchvision"])
def detector(request: pytest.FixtureRequest) -> Detector:
    return small_detector(request.param)


def photo(height: int, width: int) -> Array:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_boxes_are_on_the_photograph_the_best_first(detector: Detector) -> None:
    (found,) = detector.detect(photo(40, 150), backend="reference")
    assert len(found) > 3
    boxes = np.array([one.box for one in found])
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [150, 40, 150, 40]).all()
    assert boxes[:, 2].max() > 40, "stretched along the width"
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert {one.label for one in found} <= {"1", "2", "3", "4"}


def test_threshold_and_top_keep_the_best(detector: Detector) -> None:
    image = photo(96, 96)
    (everything,) = detector.detect(image, backend="reference")
    assert detector.detect(image, top=2, backend="reference")[0] == everything[:2]
    least = everything[3].score
    kept = detector.detect(image, threshold=least, backend="reference")[0]
    assert kept == [one for one in everything if one.score >= least]


def test_files_arrays_and_several_images_are_the_same(detector: Detector, tmp_path: Path) -> None:
    images = [photo(40, 60), photo(96, 96), photo(200, 50), photo(50, 51), photo(30, 30)]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    together = detector.detect(paths, backend="reference")
    assert together == [detector.detect(image, backend="reference")[0] for image in images]


def test_a_rotated_photograph_has_upright_boxes(detector: Detector, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(photo(40, 150)).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(photo(40, 150), 3)
    assert detector.detect(tmp_path / "turned.png", backend="reference") == detector.detect(
        upright, backend="reference"
    )


def test_a_resize_that_cuts_is_refused_and_another_stretch_is_taken(detector: Detector) -> None:
    with pytest.raises(ImageError, match="resize 'crop' cuts the image; a detector takes the whole: choose keras,"):
        detector.detect(photo(40, 60), resize="crop")
    assert detector.detect(photo(40, 60), resize="stretch-bilinear", backend="reference")[0]


def test_a_bad_image_is_an_error_in_its_place(detector: Detector) -> None:
    results = [found for _, found in detector.detect_each([photo(40, 60), b"no image", photo(40, 60)])]
    assert isinstance(results[1], ImageError)
    assert results[0] == results[2]
    with pytest.raises(ImageError):
        detector.detect([b"no image"])


def test_a_file_is_read_back_as_a_detector(detector: Detector, tmp_path: Path) -> None:
    named = detector.with_labels(["a", "b", "", "d"])
    named.save(tmp_path / "detector.safetensors")
    again = load(tmp_path / "detector.safetensors", backend="reference")
    assert isinstance(again, Detector)
    assert again.category_names == ("a", "b", "", "d")
    assert again.failed_checks() == []
    image = photo(40, 60)
    assert again.detect(image) == named.detect(image, backend="reference")
    assert '"format": 5' in ModelFile.read(str(tmp_path / "detector.safetensors")).description
    assert {one.label for one in again.detect(image)[0]} <= {"a", "b", "3", "d"}


WRONG_OPTIONS: list[tuple[str, Any]] = [
    ("max_detections", "10"), ("max_detections", 0), ("iou_threshold", True), ("scales", [1, 2, 3]), ("unknown", 1),
]  # fmt: skip


def test_a_corrupt_rule_is_a_weights_error(tmp_path: Path) -> None:
    detector = small_detector()
    fields = detector.file_fields() | {"self_check": None}
    rules: list[Any] = [{}, {"world": "elsewhere"}, {"world": "tensorflow", "anchors": "AAAA"}, {"anchors": 3}, []]
    known = rule_to_json(detector.post_processing)
    rules += [known | {"options": known["options"] | {name: value}} for name, value in WRONG_OPTIONS]
    rules += [known | {"logits": 1}]
    for rule in rules:
        document = fields | {"detection": {"rule": rule, "names": []}}
        ModelFile.of(detector.graph, detector.params, document).write(tmp_path / "broken.safetensors")
        with pytest.raises(WeightsError, match="corrupt description in the header"):
            load(tmp_path / "broken.safetensors")


def test_names_come_from_a_file_with_or_without_the_background(tmp_path: Path) -> None:
    small_detector().save(tmp_path / "detector.safetensors")
    (tmp_path / "labels.txt").write_text("???\ncat\ndog\nowl\nape\n")
    model, note = load_with_names(tmp_path / "detector.safetensors")
    assert isinstance(model, Detector)
    assert model.category_names == ("cat", "dog", "owl", "ape")
    assert "labels.txt" in note
    other = load(tmp_path / "detector.safetensors", labels=["x", "y", "z", "w"])
    assert isinstance(other, Detector)
    assert other.category_names == ("x", "y", "z", "w")
    with pytest.raises(LabelFileError, match="expected 4 names of categories, got 2"):
        load(tmp_path / "detector.safetensors", labels=["x", "y"])


def test_a_model_with_two_heads_becomes_a_detector() -> None:
    detector = small_detector(slots=91)
    model = Model(detector.graph, detector.params)
    again = Detector.of(model, detector.post_processing)
    assert again.category_names[0] == "person"
    assert repr(again).startswith("<Detector ssdlite_mobilenetv2_0.35_96, 96 x 96 x 3 -> boxes (")
    assert again.detect(photo(40, 60), backend="reference") == detector.detect(photo(40, 60), backend="reference")
    heads = again.predict(photo(40, 60), backend="reference")
    assert {name: y.shape[1:] for name, y in heads.items()} == detector.graph.output_shapes
    assert type(again.with_output("boxes")) is Model


def test_what_is_no_detector_is_refused() -> None:
    detector = small_detector()
    other = Detector.of
    plain, rule = Model(detector.graph, detector.params), TensorFlowRule(tensorflow_anchors(MAPS_300))
    with pytest.raises(ShapeError, match=r"the rule has 1917 anchors, the outputs boxes and scores have 204"):
        other(plain, rule)
    with pytest.raises(ShapeError, match="expected 4 names of categories, got 1"):
        other(plain, detector.post_processing, ["cat"])
    with pytest.raises(ArgumentError, match="it is not clear which holds classes"):
        detector.classify(photo(40, 60))
    heads = Graph("net", detector.graph.layers, (("a", "boxes"), ("b", "scores"), ("c", "out_relu")))
    with pytest.raises(ShapeError, match=r"expected two outputs, box codes \(A, 4\) and scores"):
        other(Model(heads, detector.params), detector.post_processing)


@pytest.mark.parametrize("world", ["tensorflow", "torchvision"])
def test_every_step_of_the_engine_is_within_rounding(world: str) -> None:
    detector = small_detector(world)
    assert check_engine(detector).passed
    x = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    both = detector.found(x, backend="compiled")
    for number, found in enumerate(both):
        (alone,) = detector.found(x[number : number + 1], backend="compiled")
        np.testing.assert_array_equal(found.boxes, alone.boxes)


def test_boxes_are_drawn_where_they_are() -> None:
    path = real_file("images", "cat.bmp")
    detections = [
        Detection((100.0, 120.0, 300.0, 250.0), "cat", 0.9, 17),
        Detection((-5.0, 0.0, 20.0, 9.0), "x", 0.5, 1),
    ]
    drawn = np.array(Image.open(io.BytesIO(annotated(path, detections))))
    plain = np.array(Image.open(path).convert("RGB"))
    assert drawn.shape == plain.shape
    color = tuple(int(COLORS[17 % len(COLORS)][i : i + 2], 16) for i in (1, 3, 5))
    for x, y in ((100, 200), (300, 200), (200, 250)):  # left, right and bottom; the top has the label above it
        assert tuple(drawn[y, x]) == color
    np.testing.assert_array_equal(drawn[150:230, 120:280], plain[150:230, 120:280])
    np.testing.assert_array_equal(drawn[260:], plain[260:])


def test_the_example_counts_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    small_detector().with_labels(["cat", "dog", "owl", "ape"]).save(tmp_path / "m.safetensors")
    for number in range(2):
        Image.fromarray(photo(40 + number, 60)).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    model = str(tmp_path / "m.safetensors")
    monkeypatch.setattr("sys.argv", ["count_objects.py", paths[0], "none.png", paths[1], "--model", model])
    runpy.run_path(str(ROOT / "examples" / "count_objects.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [paths[0], "none.png", paths[1]]
    detector: Any = load(model)
    (found,) = detector.detect(paths[0], threshold=0.5)
    counted = {label: int(count) for count, label in (part.split() for part in lines[0].partition(": ")[2].split(", "))}
    assert counted == Counter(one.label for one in found)
    assert "none.png" in lines[1].partition(": ")[2]
