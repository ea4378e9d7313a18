"""Published models: names, addresses, hashes and accuracies equal Keras's."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from npmobilenet.errors import DownloadError, ModelNotFoundError
from npmobilenet.hub.published_models import KNOWN_MODELS, KnownModel, find_model, without_top
from tests.helpers.real_files import real_file

ALL_MODELS = [*KNOWN_MODELS, *map(without_top, KNOWN_MODELS)]


def test_all_published_configurations_are_known() -> None:
    count = {arch: sum(model.arch == arch for model in KNOWN_MODELS) for arch in {model.arch for model in KNOWN_MODELS}}

    assert count == {"mobilenet_v1": 16, "mobilenet_v2": 22, "mobilenet_v3_large": 3, "mobilenet_v3_small": 3}
    assert len({model.name for model in ALL_MODELS}) == 88


class _AnyTensor:
    """Stand-in for a tensor in Keras's code for a network."""

    shape = (None, 56, 56, 16)

    def __add__(self, _: object) -> "_AnyTensor":
        return self

    __mul__ = __add__


class _AnyLayers:
    """Stand-in for keras.layers: building 88 real networks would take a minute, and the URL depends on none."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: lambda *_: _AnyTensor()


class _RequestError(Exception):
    """Carries the arguments of Keras's call of `get_file`."""


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.name)
def test_url_and_md5_equal_those_that_keras_requests(
    model: KnownModel, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = model.arch.removesuffix("_large").removesuffix("_small").removesuffix("_v1")
    module = importlib.import_module(f"keras.src.applications.{family}")
    builder = {
        "mobilenet_v1": "MobileNet",
        "mobilenet_v2": "MobileNetV2",
        "mobilenet_v3_large": "MobileNetV3Large",
        "mobilenet_v3_small": "MobileNetV3Small",
    }[model.arch]

    def get_file(name: str, origin: str, cache_subdir: str, file_hash: str | None = None) -> str:
        raise _RequestError(name, origin, file_hash)

    monkeypatch.setattr(module, "layers", _AnyLayers())
    monkeypatch.setattr(module, "Functional", lambda *_, **__: None)
    monkeypatch.setattr(module.file_utils, "get_file", get_file)
    monkeypatch.delenv("NPMOBILENET_MIRROR", raising=False)

    with pytest.raises(_RequestError) as requested:
        getattr(keras.applications, builder)(
            input_shape=(model.resolution, model.resolution, 3),
            alpha=model.alpha,
            include_top=model.include_top,
            weights="imagenet",
            **({"minimalistic": True} if model.minimalistic else {}),
        )

    assert requested.value.args == (model.file_name, model.url, model.md5)


@pytest.mark.parametrize("model", KNOWN_MODELS, ids=lambda model: model.name)
def test_accuracy_equals_the_published_one(model: KnownModel) -> None:
    table = json.loads(real_file("published-costs.json").read_text())
    network = {
        "mobilenet_v1": "MobileNetV1",
        "mobilenet_v2": "MobileNetV2",
        "mobilenet_v3_large": "MobileNetV3-Large",
        "mobilenet_v3_small": "MobileNetV3-Small",
    }[model.arch] + (" minimalistic" if model.minimalistic else "")
    if "keras.io" in model.accuracy_source:
        network = network.replace("V1", "")
    source = re.sub(r"^.*, ", "", model.accuracy_source)

    published = {
        row["metric"]: row["value"]
        for row in table["rows"]
        if row["source"].startswith(source)
        and (row["model"], row["alpha"], row["resolution"]) == (network, model.alpha, model.resolution)
        and row["metric"] in {"top1", "top5"}
    }

    assert published == {k: v for k, v in {"top1": model.top1, "top5": model.top5}.items() if v is not None}


def test_weights_without_classifier_have_no_accuracy() -> None:
    assert all(without_top(model).top1 is without_top(model).top5 is None for model in KNOWN_MODELS)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("mobilenet_v1_1.0_224", 4_253_864, 568_740_352),
        ("mobilenet_v1_1.0_224_no_top", 3_228_864, 567_716_352),
        ("mobilenet_v2_1.0_224", 3_538_984, 300_774_272),
    ],
)
def test_costs_are_counted_on_the_graph(name: str, params: int, macs: int) -> None:
    assert (find_model(name).params, find_model(name).macs) == (params, macs)


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.name)
def test_every_model_is_found_by_its_name_and_by_its_file(model: KnownModel) -> None:
    assert find_model(model.name) == find_model(model.file_name) == model


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("mobilenet_v2", "mobilenet_v2_1.0_224"),
        ("MobileNet", "mobilenet_v1_1.0_224"),
        ("MobileNetV1", "mobilenet_v1_1.0_224"),
        ("MobileNetV2", "mobilenet_v2_1.0_224"),
        ("MobileNetV3Small", "mobilenet_v3_small_1.0_224"),
        ("mobilenet-v3-large-minimalistic", "mobilenet_v3_large_minimalistic_1.0_224"),
        ("mobilenet_0.25_128", "mobilenet_v1_0.25_128"),
        ("mobilenetv2_0.35_96", "mobilenet_v2_0.35_96"),
        ("mobilenet_7_5_192_tf", "mobilenet_v1_0.75_192"),
        ("mobilenet_v2_no_top", "mobilenet_v2_1.0_224_no_top"),
    ],
)
def test_usual_spellings_are_found(spelling: str, name: str) -> None:
    assert find_model(spelling).name == name


def test_kerass_own_model_names_are_found(keras: Any) -> None:
    for builder, alpha, side in (("MobileNet", 0.25, 128), ("MobileNetV2", 0.35, 96)):
        network = getattr(keras.applications, builder)(input_shape=(side, side, 3), alpha=alpha, weights=None)
        assert (find_model(network.name).alpha, find_model(network.name).resolution) == (alpha, side)


def test_a_near_miss_suggests_the_nearest_names() -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"mobilenet_v2_1\.0_225: unknown model; did you mean mobilenet_v2_1\.0_224"
    ):
        find_model("mobilenet_v2_1.0_225")


def test_an_unknown_name_points_to_the_list() -> None:
    with pytest.raises(ModelNotFoundError, match=r"resnet50: unknown model; `npmobilenet models` lists"):
        find_model("resnet50")


def test_published_models_import_nothing_heavy() -> None:
    code = (
        "import sys, npmobilenet.hub.published_models as r; r.find_model('MobileNetV2').macs; "
        "sys.exit(bool({'pooch', 'requests', 'rich', 'h5py', 'numba', 'PIL', 'safetensors'} & set(sys.modules)))"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("mirror", ["ftp://example.org", "/some/folder", "https://"])
def test_a_mirror_that_is_not_a_url_is_refused(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_MIRROR", mirror)

    with pytest.raises(DownloadError, match=r"NPMOBILENET_MIRROR: expected a URL such as https://storage.*, got "):
        _ = KNOWN_MODELS[0].url
