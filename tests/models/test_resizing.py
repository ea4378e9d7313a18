"""Resizes of other frameworks and scripts, compared with the originals; arrays and gray networks."""

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.cli.shared import Resize
from npmobilenet.errors import ImageError, ShapeError
from npmobilenet.models.preprocessing import RAW, TORCH, UNIT, Reading, network_pixels, prepare
from npmobilenet.models.resizing import FILTERS, RESIZES
from npmobilenet.types import Array
from tests.helpers.images import photo, random_pixels, saved
from tests.helpers.models import some_model
from tests.helpers.real_files import real_file

ORACLE = json.loads(Path(__file__).parents[1].joinpath("helpers/torch_transforms.json").read_text())
"""Made by scripts/make_torch_transforms.py with the packages themselves."""
PHOTOS = ("burger.jpg", "cat.bmp", "panda.jpg", "parrot.jpg", "sunflower.bmp")
COLOR = mobilenet_v1(alpha=0.25, resolution=(48, 32), classes=4)
GRAY = mobilenet_v1(alpha=0.25, resolution=(48, 32), classes=4, channels=1)


def dataset(keras: Any, folder: Any, size: tuple[int, int], **options: Any) -> Array:
    """Images of a folder of classes as Keras's image_dataset_from_directory yields them."""
    batches = keras.utils.image_dataset_from_directory(
        folder, image_size=size, shuffle=False, batch_size=1, verbose=False, **options
    )
    return np.concatenate([batch.numpy() for batch, _ in batches])


def test_the_command_line_offers_every_resize() -> None:
    assert [str(resize) for resize in Resize] == list(RESIZES)


@pytest.mark.parametrize("name", PHOTOS)
def test_teachable_machine_is_image_ops_fit(name: str) -> None:
    path = real_file("images", name)
    expected = ImageOps.fit(Image.open(path).convert("RGB"), (224, 224), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(prepare(path, 224, 224, "teachable-machine"), np.asarray(expected))


@pytest.mark.parametrize("filter_", FILTERS)
def test_stretching_is_pillows_resize(filter_: str) -> None:
    path = real_file("images", "panda.jpg")
    expected = Image.open(path).convert("RGB").resize((160, 96), Image.Resampling[filter_.upper()])
    np.testing.assert_array_equal(prepare(path, 96, 160, f"stretch-{filter_}"), np.asarray(expected))


@pytest.mark.parametrize("name", ORACLE["digests"])
def test_torch_rules_are_bit_exact_with_torchvision_and_timm(name: str) -> None:
    rule, _, target = name.partition("/")
    width, height = map(int, target.split("x"))
    found = sha256()
    for W, H in ORACLE["sizes"]:
        noise = np.random.default_rng(1000 * W + H).integers(0, 256, (H, W, 3), dtype=np.uint8)
        found.update(RESIZES[rule](noise, height, width).tobytes())
    assert found.hexdigest().startswith(ORACLE["digests"][name])


def test_every_torch_rule_is_compared() -> None:
    assert {name.partition("/")[0] for name in ORACLE["digests"]} == {name for name in RESIZES if "torch" in name}


def test_a_long_strip_is_not_resized_as_a_whole() -> None:
    image = np.zeros((3, 20_000, 3), np.uint8)
    image[:, 9_500:10_500] = [1, 2, 3]
    found = RESIZES["torch-bilinear-0.875"](image, 224, 224)  # as a whole, it would take 1.3 GB
    np.testing.assert_array_equal(found, np.broadcast_to([1, 2, 3], (224, 224, 3)))


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 99), st.integers(1, 99), st.integers(0, 99))
def test_keras_dataset_is_bit_exact_with_tensorflow(H: int, W: int, height: int, width: int, seed: int) -> None:
    tf = pytest.importorskip("tensorflow", reason="compares with TensorFlow: pip install npmobilenet[test]")
    image = random_pixels(H, W, seed)
    expected = tf.image.resize(image, (height, width)).numpy()
    found = RESIZES["keras-dataset"](image, height, width)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_keras_dataset_is_bit_exact_with_image_dataset_from_directory(keras: Any, tmp_path: Any) -> None:
    (tmp_path / "class").mkdir()
    paths = []
    for name in PHOTOS:  # as PNG: TensorFlow decodes JPEG files with another inverse cosine transform than Pillow
        paths.append(tmp_path / "class" / f"{name}.png")
        Image.open(real_file("images", name)).convert("RGB").save(paths[-1])
    expected = dataset(keras, tmp_path, (224, 224))
    for path, pixels in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(prepare(path, 224, 224, "keras-dataset"), pixels)


# ---------------------------------------------------------------- arrays of another size


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_whole_numbers_of_any_dtype_are_resized_as_uint8(resize: str, dtype: Any) -> None:
    image = random_pixels(70, 60)
    expected = network_pixels(image, COLOR, Reading(resize))
    np.testing.assert_array_equal(network_pixels(image.astype(dtype), COLOR, Reading(resize)), expected)


@pytest.mark.parametrize("resize", RESIZES)
def test_other_numbers_are_resized_within_rounding_of_the_whole_ones(resize: str) -> None:
    image = np.asarray(photo(60, 70)).astype(np.float64)
    found = network_pixels(np.clip(image + 0.25, 0, 255), COLOR, Reading(resize))
    rounded = network_pixels(image, COLOR, Reading(resize))
    assert found.dtype == np.float32
    # 0.25 was added, and each of two passes of uint8 rounds by up to 0.5, clipped overshoot apart
    inside = (found > 1) & (found < 254)
    assert np.abs(found - rounded.astype(np.float64))[inside].max() <= 1.5


def test_arrays_of_any_number_of_channels_are_resized_channel_by_channel() -> None:
    graph = mobilenet_v1(alpha=0.25, resolution=32, channels=5)
    image = np.random.default_rng(0).integers(0, 256, (70, 60, 5), dtype=np.uint8)
    found = network_pixels(image, graph)
    three = RESIZES["crop"](np.ascontiguousarray(image[..., 1:4]), 32, 32)
    np.testing.assert_array_equal(found[..., 1:4], three)


@pytest.mark.parametrize("shape", [(3, 48, 32), (3, 99, 99)])
def test_channels_first_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"channels first\? np\.moveaxis\(images, -3, -1\)"):
        network_pixels(np.zeros(shape, np.uint8), COLOR)
    with pytest.raises(ShapeError, match="channels first"):
        some_model().predict(np.zeros((2, *shape), np.uint8))


# ---------------------------------------------------------------- gray networks


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("gray_file", [False, True])
def test_a_gray_network_takes_gray_and_color_images_as_load_img(name: str, gray_file: bool, keras: Any) -> None:
    image = Image.open(real_file("images", name)).convert("L" if gray_file else "RGB")
    file = saved(image, "PNG")
    expected = keras.utils.load_img(io.BytesIO(file), color_mode="grayscale", target_size=(48, 32))
    found = network_pixels(file, GRAY, Reading("keras"))
    np.testing.assert_array_equal(found, np.asarray(expected)[..., None])


@pytest.mark.parametrize("resize", RESIZES)
def test_a_gray_network_reads_an_array_as_the_same_file(resize: str) -> None:
    for image in (photo(90, 70), photo(90, 70, "L")):
        from_file = network_pixels(saved(image, "PNG"), GRAY, Reading(resize))
        assert from_file.shape == (48, 32, 1)
        np.testing.assert_array_equal(network_pixels(np.asarray(image), GRAY, Reading(resize)), from_file)


def test_a_gray_network_classifies_files_and_arrays() -> None:
    model = some_model(GRAY)
    image = photo(32, 48, "L")
    from_file = model.predict(saved(image, "PNG"))
    np.testing.assert_array_equal(model.predict(np.asarray(image)[..., None]), from_file)


# ---------------------------------------------------------------- ranges


def test_torch_is_the_mean_and_deviation_of_each_channel() -> None:
    pixels = random_pixels(48, 32)[None]
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(some_model(scaling=TORCH).scale(pixels), expected, rtol=0, atol=2e-6)  # of 2.6


def test_a_scaling_by_channel_is_kept_in_the_file(tmp_path: Any) -> None:
    some_model(scaling=TORCH, resize="stretch-bicubic").save(tmp_path / "torch.safetensors")
    model = type(some_model()).open(tmp_path / "torch.safetensors")
    assert model.scaling == TORCH
    assert model.resize == "stretch-bicubic"
    assert not model.failed_checks()
    with pytest.raises(ShapeError, match="expected a scaling of 1 channels, got 3"):
        some_model(GRAY, scaling=TORCH)


@pytest.mark.parametrize(
    ("scaling", "low", "high"),
    [(UNIT, -1, 1), (UNIT, 0, 255), (TORCH, 0, 255), (RAW, -1, 1), (RAW, 0, 1), (RAW, 0, 300)],
)
def test_forward_refuses_input_of_another_range(scaling: Any, low: float, high: float) -> None:
    x = np.linspace(low, high, 48 * 32 * 3, dtype=np.float32).reshape(1, 48, 32, 3)
    with pytest.raises(ImageError, match="expected input scaled to"):
        some_model(scaling=scaling).forward(x)


def test_forward_takes_its_own_range_and_that_of_teachable_machines_first_scripts() -> None:
    model = some_model()
    pixels = random_pixels(48, 32)[None].astype(np.float32)
    for x in (model.scale(pixels), pixels / 127 - 1, np.zeros((0, 48, 32, 3), np.float32)):
        assert len(model.forward(x)) == len(x)
    with pytest.raises(ImageError, match=r"got 0 to 255; use model\.predict"):
        model.forward(pixels)
    with pytest.raises(ImageError, match="got nan"):
        model.forward(np.full((1, 48, 32, 3), np.nan, np.float32))


# ---------------------------------------------------------------- sources of predict


def test_iterables_of_every_kind_are_sequences_of_images(tmp_path: Any) -> None:
    for number in range(3):
        photo(40, 50, seed=number).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.glob("*.png"))
    model = some_model()
    expected = model.predict(paths)
    several: list[Any] = [
        (path for path in paths), iter(paths), np.array([str(path) for path in paths]), np.array(paths, object),
        dict.fromkeys(paths), tuple(paths),
    ]  # fmt: skip
    for sources in several:
        np.testing.assert_array_equal(model.predict(sources), expected)
    assert len(model.predict(tmp_path.glob("*.png"))) == 3
    np.testing.assert_array_equal(model.predict(bytearray(paths[0].read_bytes())), expected[:1])


def test_a_model_has_its_own_resize() -> None:
    image = saved(photo(90, 70), "PNG")
    own = some_model(resize="teachable-machine")
    np.testing.assert_array_equal(own.predict(image), some_model().predict(image, resize="teachable-machine"))
    np.testing.assert_array_equal(own.predict(image, resize="crop"), some_model().predict(image))
    with pytest.raises(ImageError, match="unknown resize 'fit'"):
        some_model(resize="fit")
