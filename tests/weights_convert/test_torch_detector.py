"""torchvision's ssdlite320_mobilenet_v3_large: its state dict in all formats, and its own results."""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet.errors import WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.detector import Detector
from npmobilenet.types import Array
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import DRAWN_BOXES, DRAWN_SCORES, END_TO_END
from tests.helpers.torch_files import drawn_detector, torch_legacy, torch_zip, write_safetensors

PHOTOGRAPHS = ("panda.jpg", "parrot.jpg", "cat.bmp")
EVERY = {"scores": ("cls_logits", 29), "boxes": ("bbox_regression", 5)}  # rows that the vectors have
FUSED = 1e-4
"""Of the input in [-1, 1]: torch rounds the place of a pixel, up to 929, once where TensorFlow and this package round
twice, so places differ by 2**-14 of a pixel, and pixels by that part of their difference, which is at most 2."""


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    path = write_safetensors(tmp_path_factory.mktemp("torch") / "ssdlite320.safetensors", drawn_detector())
    model = load(path, backend="reference")
    assert isinstance(model, Detector)
    return model


@pytest.fixture(scope="module")
def vectors() -> Any:
    return np.load(real_file("detection", "torchvision_ssdlite320.npz"))


def test_it_is_torchvision_s_network(detector: Detector) -> None:
    assert (detector.graph.trainable_params, detector.graph.macs) == (3_440_060, 583_171_904)
    assert detector.category_names[16] == "cat"
    assert detector.resize == "keras-dataset"
    assert "stretched" in detector.source["notes"]


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_prepared_as_by_torchvision(detector: Detector, vectors: Any, name: str) -> None:
    x = detector.scale(detector.pixels(real_file("images", name)))
    expected = vectors[f"{Path(name).stem}/input"]
    every = len(x) // len(expected)
    np.testing.assert_allclose(x[::every, ::every], expected, rtol=0, atol=FUSED)


def test_the_heads_are_torchvision_s(detector: Detector, vectors: Any) -> None:
    """Both are one draw of the same rounding errors, which the exact result shows."""
    x = vectors["panda/input"][None]
    exact = detector.graph.output(detector.params_as(np.dtype(np.float64)), x.astype(np.float64))
    for backend in ("reference", "compiled"):
        found = detector.forward(x, backend=backend)
        for output, (name, every) in EVERY.items():
            truth = exact[output][0, ::every]
            theirs = np.abs(vectors[f"panda/{name}"] - truth).max()
            ours = np.abs(found[output][0, ::every] - truth).max()
            assert max(theirs, ours) < END_TO_END * min(theirs, ours), (backend, output)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_boxes_are_torchvision_s(detector: Detector, vectors: Any, name: str) -> None:
    """The same labels on the same boxes; boxes whose scores differ by less than rounding may change places."""
    stem = Path(name).stem
    boxes, labels, scores = (vectors[f"{stem}/{what}"] for what in ("boxes", "labels", "scores"))
    (found,) = detector.detect(real_file("images", name))
    assert len(found) == len(labels) == 300
    left = list(found)
    side = max(detector.post_processing.in_pixels(np.array([[0, 0, 320, 320]], np.float32), *size_of(name))[0])
    for box, label, score in zip(boxes, labels, scores, strict=True):
        near = [one for one in left if one.category == label and np.abs(one.box - box).max() < DRAWN_BOXES * side]
        left.remove(min(near, key=lambda one: abs(one.score - score)))
    assert left == []
    ours = np.array([one.score for one in found])
    np.testing.assert_allclose(ours, scores, rtol=0, atol=DRAWN_SCORES)


def size_of(name: str) -> tuple[int, int]:
    """(height, width) of a photograph."""
    with Image.open(real_file("images", name)) as image:
        return image.height, image.width


def test_all_formats_give_the_same_detector(detector: Detector, tmp_path: Path) -> None:
    arrays = drawn_detector()
    contents = {
        "zip.pth": torch_zip(OrderedDict(arrays)),
        "legacy.pt": torch_legacy({"model": OrderedDict((f"module.{name}", x) for name, x in arrays.items())}),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        model = load(tmp_path / name)
        assert model.graph == detector.graph
        for key, values in detector.params.items():
            np.testing.assert_array_equal(model.params[key], values)


class _Harmful:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_a_hostile_pickle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    name = "head.classification_head.module_list.0.1.weight"
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({name: _Harmful()}, 2))
    (tmp_path / "hostile.pth").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match=r"hostile\.pth: the pickle contains __builtin__\.print"):
        load(tmp_path / "hostile.pth")
    assert capsys.readouterr().out == ""


def test_another_number_of_classes_and_the_full_tail_are_read(tmp_path: Path) -> None:
    arrays = with_classes(drawn_detector(), 3)
    model = load(write_safetensors(tmp_path / "three.safetensors", arrays))
    assert isinstance(model, Detector)
    assert model.graph.output_shapes["scores"] == (3234, 3)
    assert model.category_names == ()
    assert {one.label for one in model.detect(np.zeros((40, 60, 3), np.uint8))[0]} <= {"1", "2"}


def with_classes(arrays: dict[str, Array], slots: int) -> dict[str, Array]:
    """The state dict with the first slots alone."""
    changed = dict(arrays)
    for number in range(6):
        for part in ("weight", "bias"):
            name = f"head.classification_head.module_list.{number}.1.{part}"
            values = arrays[name].reshape(6, 91, *arrays[name].shape[1:])[:, :slots]
            changed[name] = np.ascontiguousarray(values.reshape(-1, *arrays[name].shape[1:]))
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": np.zeros(3, np.float32)}, "1 arrays have no place in ssdlite320_mobilenet_v3_large"),
        (
            {"backbone.extra.0.0.0.weight": np.zeros((9, 9), np.float32)},
            "expected backbone.extra.0.0.0.weight (256, 480,",
        ),
        ({"backbone.extra.0.0.1.bias": None}, "missing: backbone.extra.0.0.1.bias"),
        (
            {"backbone.extra.0.0.1.running_var": np.full(256, -1, np.float32)},
            "negative: backbone.extra.0.0.1.running_var",
        ),
        ({"backbone.features.1.3.0.weight": None}, "expected torchvision's ssdlite320_mobilenet_v3_large, got another"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {name: x for name, x in (drawn_detector() | change).items() if x is not None}
    with pytest.raises(WeightsError) as caught:
        load(write_safetensors(tmp_path / "other.safetensors", arrays))
    assert message in str(caught.value)
