"""PyTorch files: torchvision's and timm's answers, every format, and nothing but tensors out of a pickle."""

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import convert_file, read_model
from npmobilenet_weights_convert.torch_file import read_state_dict
from npmobilenet_weights_convert.torch_model import read_torch_model
from npmobilenet_weights_convert.torch_networks import Convention, recognize_torch, torch_network

from npmobilenet.errors import AssumptionWarning, WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import SYMMETRIC, Scaling
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import rounding
from tests.helpers.torch_files import drawn_networks, drawn_state_dict, torch_legacy, torch_zip, write_safetensors

NETWORKS = [
    "torchvision/mobilenet_v2", "torchvision/mobilenet_v3_large", "torchvision/mobilenet_v3_small",
    "timm/mobilenetv1_100", "timm/mobilenetv2_100", "timm/mobilenetv2_050", "timm/mobilenetv3_small_100",
    "timm/mobilenetv3_large_100", "timm/tf_mobilenetv3_small_100", "timm/tf_mobilenetv3_small_minimal_100",
    "timm/tf_mobilenetv3_large_100",
]  # fmt: skip
FLOAT64 = 1e-11  # of the largest logit: 2**-53 times some thousand terms in each of fifty layers
SMALL = "timm/mobilenetv2_050"


def test_every_network_of_the_oracle_is_tried() -> None:
    assert list(drawn_networks()) == NETWORKS


@pytest.mark.parametrize("size", [(224, 224), (97, 130)])
@pytest.mark.parametrize("network", NETWORKS)
def test_logits_equal_those_of_the_package(network: str, size: tuple[int, int]) -> None:
    name = network.rpartition("/")[2]
    model = read_torch_model(
        Path(f"{name}.safetensors"), torch_zip(drawn_state_dict(network)), scaling=None, labels=None, resize=None
    )
    epsilon = next(layer.epsilon for layer in model.graph.layers if layer.type == "BatchNormalization")  # type: ignore[attr-defined]
    arrays = drawn_state_dict(network)
    convention = Convention("SAME" in model.source["notes"], epsilon)
    graph, params = torch_network(recognize_torch(arrays), arrays, convention, size)
    x = np.random.default_rng(5).normal(0, 1, (2, *size, 3)).astype(np.float32).astype(np.float64)
    logits = dict(graph.run({key: values.astype(np.float64) for key, values in params.items()}, x))["logits"]
    with np.load(real_file("pytorch", "mobilenets.npz")) as oracle:
        wanted = oracle[f"{network}/{size[0]}x{size[1]}"]
    np.testing.assert_allclose(logits.reshape(2, -1)[:, ::7], wanted, rtol=0, atol=FLOAT64 * np.abs(wanted).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_the_transform_is_that_of_the_package(network: str) -> None:
    described = drawn_networks()[network]
    name = network.rpartition("/")[2]
    hashes = {"torchvision/mobilenet_v2": "-7ebf99e0", "torchvision/mobilenet_v3_large": "-5c1a4163"}
    file = Path(f"{name}{hashes.get(network, '')}.pth")
    model = read_torch_model(file, torch_zip(drawn_state_dict(network)), scaling=None, labels=None, resize=None)
    transform = described["transform"]
    pixels = np.arange(0, 255, 5, dtype=np.float64).reshape(-1, 1, 1, 3)
    wanted = (pixels / 255 - transform["mean"]) / transform["std"]
    np.testing.assert_allclose(model.scale(pixels), wanted, atol=2e-6)
    assert model.graph.trainable_params == described["parameters"]
    resize = transform.get("resize") or int(transform["input_size"][1] / transform["crop_pct"])
    assert f"short side to {resize} ({transform['interpolation']}), center crop 224 x 224" in model.source["resize"]
    part = "232" if resize == 232 else f"{transform.get('crop_pct', 0.875)}"
    assert model.resize == f"torch-{transform['interpolation']}-{part}"
    assert f"mean ({transform['mean'][0]:g}, " in model.source["range"]
    assert len(model.labels) == 1000
    assert "assumed" not in model.source


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """A state dict with three classes."""
    arrays = drawn_state_dict(SMALL)
    return arrays | {f"classifier.{part}": arrays[f"classifier.{part}"][:3] for part in ("weight", "bias")}


def test_all_formats_give_the_same_model(small: dict[str, Any], tmp_path: Path) -> None:
    nested = {"epoch": 3, "state_dict": OrderedDict((f"module.{name}", values) for name, values in small.items())}
    contents = {
        "zip.pth": torch_zip(OrderedDict(small)), "legacy.pt": torch_legacy(OrderedDict(small)),
        "nested.pth": torch_zip(nested), "nested_legacy.bin": torch_legacy(nested),
    }  # fmt: skip
    wanted = load(write_safetensors(tmp_path / "mobilenetv2.safetensors", small))
    assert wanted.graph.output_shape == (3,)
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        model = load(tmp_path / name)
        assert model.graph == wanted.graph
        for key, values in wanted.params.items():
            np.testing.assert_array_equal(model.params[key], values)


def test_a_converted_file_keeps_the_scaling_per_channel(small: dict[str, Any], tmp_path: Path) -> None:
    source = write_safetensors(tmp_path / "mobilenetv2.safetensors", small)
    written = convert_file(source, tmp_path / "out.safetensors")
    opened = Model.open(tmp_path / "out.safetensors")
    assert opened.scaling == written.scaling == Scaling.normalizing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert opened.failed_checks() == []
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.uint8)
    by_engine, by_reference = (opened.predict(image, backend=backend) for backend in ("compiled", "reference"))
    np.testing.assert_allclose(by_engine, by_reference, rtol=0, atol=rounding(100))
    assert b'"format": 2' in (tmp_path / "out.safetensors").read_bytes()[:200_000].replace(b"\\", b"")


def test_equal_channels_are_scaled_by_numbers() -> None:
    scaling = Scaling.normalizing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert scaling == SYMMETRIC


def test_timm_config_names_the_network(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "model.safetensors", drawn_state_dict("timm/tf_mobilenetv3_small_100"))
    with pytest.warns(AssumptionWarning, match="tf_mobilenetv3_small, which pad and normalize otherwise"):
        assert not read_model_padding(load(file))
    config = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2], "input_size": [3, 160, 192], "crop_pct": 1.0}
    document = {"architecture": "tf_mobilenetv3_small_100", "pretrained_cfg": config}
    (tmp_path / "config.json").write_text(json.dumps(document))
    model = load(file)
    assert read_model_padding(model)
    assert model.graph.input_shape == (160, 192, 3)
    assert model.scaling == Scaling.normalizing((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
    assert model.resize == "torch-bilinear-1"
    assert "assumed" not in model.source
    document["pretrained_cfg"] = config | {"interpolation": "lanczos", "crop_pct": 0.94}
    (tmp_path / "config.json").write_text(json.dumps(document))
    unusual = load(file)
    assert unusual.resize == "torch-bicubic-0.95"
    assert "short side to 170 (lanczos), center crop 160 x 192, for which torch" in unusual.source["resize"]


def test_the_transform_is_not_mentioned_once_the_caller_specifies_it(small: dict[str, Any], tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "mobilenetv2.safetensors", small)
    assert {"range", "resize"} <= read_model(file).source.keys()
    given = read_model(file, resize="crop", scaling=SYMMETRIC)
    assert (given.resize, given.scaling) == ("crop", SYMMETRIC)
    assert not {"range", "resize"} & given.source.keys()


def read_model_padding(model: Model) -> bool:
    """Whether the stem pads as TensorFlow does."""
    return model.graph["conv"].padding == "same"  # type: ignore[attr-defined,no-any-return]


class _Harmful:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_a_pickle_of_anything_but_tensors_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": _Harmful()}, 2))
    path = tmp_path / "harmful.pth"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match=r"harmful\.pth: the pickle contains __builtin__\.print"):
        load(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("writer", [torch_zip, torch_legacy])
def test_damage_is_a_weights_error(writer: Any, small: dict[str, Any]) -> None:
    data = writer(dict(list(small.items())[:12]))
    start = max(data.find(b"data.pkl"), 0)
    rng = np.random.default_rng(1)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[start + int(rng.integers(0, 1500))] ^= int(rng.integers(1, 256))
        try:
            read_state_dict(bytes(damaged[: rng.integers(len(data) // 2, len(data) + 1)]))
            read_state_dict(bytes(damaged))
        except WeightsError:
            continue


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": np.zeros((3, 3), np.float32)}, "1 arrays have no place in timm mobilenetv2:\n  extra.weight"),
        ({"blocks.1.0.conv_pwl.weight": np.zeros((24, 48, 1, 1), np.float32)}, "another network with similar names"),
        ({"bn1.running_var": -np.ones(16, np.float32)}, "negative: bn1.running_var"),
        ({"bn1.weight": np.full(16, np.nan, np.float32)}, "not finite: bn1.weight has 16"),
        ({"bn1.weight": np.zeros(8, np.float32)}, "expected bn1.weight (16,), got (8,)"),
        ({"blocks.0.0.se.conv_reduce.weight": np.zeros((8, 16, 1, 1), np.float32)}, "squeeze-and-excitation"),
    ],
)
def test_another_network_is_refused(small: dict[str, Any], tmp_path: Path, change: Any, message: str) -> None:
    (tmp_path / "other.pth").write_bytes(torch_zip(small | change))
    with pytest.raises(WeightsError) as caught:
        read_model(tmp_path / "other.pth")
    assert message in str(caught.value)
