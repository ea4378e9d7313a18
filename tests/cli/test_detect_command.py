"""The command detect: text, JSON, CSV, COCO's results, drawn images, and what is refused."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet.hub.load import load
from npmobilenet.models.detector import Detector
from tests.helpers.command_line import document, run
from tests.helpers.detectors import small_detector


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with names, and a directory of two photographs."""
    folder = tmp_path_factory.mktemp("detect")
    small_detector().with_labels(["cat", "dog", "owl", "ape"]).save(folder / "m.safetensors")
    (folder / "photos").mkdir()
    for number, size in enumerate([(40, 60), (90, 50)]):
        image = np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(image).save(folder / "photos" / f"{number}.png")
    return folder


def detect(folder: Path, *arguments: Any, **options: Any) -> Any:
    return run("detect", *arguments, "-m", folder / "m.safetensors", "--backend", "reference", **options)


def detected(folder: Path, number: int, **options: Any) -> Any:
    model = load(folder / "m.safetensors", backend="reference")
    assert isinstance(model, Detector)
    return model.detect(folder / "photos" / f"{number}.png", **options)[0]


def test_a_directory_as_json(folder: Path) -> None:
    results = document(detect(folder, folder / "photos", "--threshold", 0, "--top", 3, "--json"))
    assert [Path(result["image"]).name for result in results] == ["0.png", "1.png"]
    for number, result in enumerate(results):
        expected = detected(folder, number, top=3)
        assert len(expected) == 3
        assert [(tuple(o["box"]), o["label"], o["score"], o["category"]) for o in result["detections"]] == [
            (one.box, one.label, one.score, one.category) for one in expected
        ]


def test_the_default_threshold_is_a_half(folder: Path) -> None:
    (result,) = document(detect(folder, folder / "photos" / "0.png", "--json"))
    assert [o["score"] for o in result["detections"]] == [o.score for o in detected(folder, 0) if o.score >= 0.5]


def test_csv_has_a_line_per_object(folder: Path) -> None:
    result = detect(folder, folder / "photos" / "0.png", "--threshold", 0, "--top", 2, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [tuple(float(row[side]) for side in ("left", "top", "right", "bottom")) for row in rows] == [
        one.box for one in detected(folder, 0, top=2)
    ]
    assert [row["label"] for row in rows] == [one.label for one in detected(folder, 0, top=2)]


def test_a_pipe_gets_a_table(folder: Path) -> None:
    result = detect(folder, folder / "photos" / "0.png", "--threshold", 0, "--top", 1)
    title, header, line = result.stdout.splitlines()
    assert title == str(folder / "photos" / "0.png")
    assert header.split() == ["score", "label", "left", "top", "right", "bottom"]
    (best,) = detected(folder, 0, top=1)
    assert line.split() == [f"{best.score:.3f}", best.label, *(f"{side:.1f}" for side in best.box)]


def test_an_image_is_read_from_standard_input_and_drawn(folder: Path, tmp_path: Path) -> None:
    data = (folder / "photos" / "1.png").read_bytes()
    arguments = (
        "-",
        folder / "photos",
        folder / "photos" / "1.png",
        "--threshold",
        0,
        "--draw",
        tmp_path / "out",
        "--json",
    )
    results = document(detect(folder, *arguments, stdin=data))
    assert results[0]["detections"] == results[2]["detections"] == results[3]["detections"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1-2.png", "1.png", "stdin.png"]
    drawn = [np.array(Image.open(tmp_path / "out" / name)) for name in ("stdin.png", "1.png", "1-2.png")]
    assert drawn[0].shape == (90, 50, 3)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert (drawn[0] != np.array(Image.open(folder / "photos" / "1.png"))).any()


def test_a_bad_image_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    results = document(detect(folder, tmp_path / "bad.png", folder / "photos" / "0.png", "--json"), 1)
    assert "bad.png" in results[0]["error"]
    assert "detections" in results[1]
    result = detect(folder, tmp_path / "bad.png", folder / "photos" / "0.png")
    assert result.exit_code == 1
    assert "bad.png" in result.stderr


ANNOTATIONS = {
    "images": [
        {"id": 7, "file_name": "0.png", "width": 60, "height": 40},
        {"id": 9, "file_name": "1.png", "width": 50, "height": 90},
    ],
    "categories": [{"id": 30 + number, "name": name} for number, name in enumerate(("cat", "dog", "owl"))],
}  # fmt: skip


def test_coco_s_results_have_the_ids_of_the_annotations(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ANNOTATIONS))
    result = detect(folder, folder / "photos", "--coco", tmp_path / "a.json")
    entries = document(result)
    assert "objects left out, the annotations do not have their categories: ape" in result.stderr
    expected = [
        {
            "image_id": image, "category_id": {"cat": 30, "dog": 31, "owl": 32}[one.label],
            "bbox": [one.box[0], one.box[1], one.box[2] - one.box[0], one.box[3] - one.box[1]], "score": one.score,
        }
        for number, image in ((0, 7), (1, 9)) for one in detected(folder, number) if one.label != "ape"
    ]  # fmt: skip
    assert entries == expected
    assert len(entries) > 10


def test_pycocotools_evaluates_the_results(folder: Path, tmp_path: Path) -> None:
    """What the detector finds is annotated as the truth, so that precision and recall are 1."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is an extra: pip install npmobilenet[coco]")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    truth: list[dict[str, Any]] = []
    for image, found in ((7, detected(folder, 0, top=5)), (9, detected(folder, 1, top=5))):
        for one in found:
            left, top, right, bottom = one.box
            truth.append({
                "id": len(truth) + 1, "image_id": image, "category_id": 29 + one.category, "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
            })  # fmt: skip
    names = [{"id": 30 + number, "name": name} for number, name in enumerate(("cat", "dog", "owl", "ape"))]
    (tmp_path / "a.json").write_text(json.dumps(ANNOTATIONS | {"categories": names, "annotations": truth}))
    results = detect(folder, folder / "photos", "--coco", tmp_path / "a.json", "--top", 5)
    (tmp_path / "r.json").write_text(results.stdout)
    annotations = coco.COCO(str(tmp_path / "a.json"))
    judged = evaluation.COCOeval(annotations, annotations.loadRes(str(tmp_path / "r.json")), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    assert judged.stats[0] == pytest.approx(1)
    assert judged.stats[8] == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "expected annotations of COCO"),
        ("no JSON", "expected annotations of COCO"),
        ('{"images": [], "categories": []}', "0.png: the annotations have no image of this file name"),
        (None, "No such file"),
    ],
)
def test_other_annotations_are_refused(folder: Path, tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    result = detect(folder, folder / "photos" / "0.png", "--coco", tmp_path / "a.json")
    assert result.exit_code == 1
    assert message in result.stderr


def test_what_does_not_go_together_is_a_usage_error(folder: Path) -> None:
    result = run("detect", folder / "photos")
    assert (result.exit_code, "a detector has to be given: --model FILE" in result.stderr) == (2, True)
    result = detect(folder, folder / "photos", "--json", "--csv")
    assert (result.exit_code, "exclude each other" in result.stderr) == (2, True)


def test_classify_names_the_other_command(folder: Path) -> None:
    result = run("classify", folder / "photos", "-m", folder / "m.safetensors")
    assert (result.exit_code, "a detector; npmobilenet detect finds" in result.stderr) == (1, True)


def test_a_classifier_is_refused(folder: Path) -> None:
    result = run("detect", folder / "photos", "-m", "digits")
    assert result.exit_code == 1
    assert "digits: not a detector" in result.stderr
    assert "npmobilenet classify" in result.stderr
