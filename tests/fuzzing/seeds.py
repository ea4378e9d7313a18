"""The corpus: small files of every kind that is read, made by code."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from npmobilenet_weights_convert.tflite_metadata_writer import tflite_with_metadata
from npmobilenet_weights_convert.tflite_writer import tflite_bytes
from PIL import Image

from npmobilenet.architectures.mobilenet_v1 import V1, mobilenet_v1
from npmobilenet.detection.tensorflow_rule import TensorFlowRule
from npmobilenet.detection.torchvision_rule import TorchvisionRule
from npmobilenet.models.detector import Detector
from npmobilenet.models.model import Model
from npmobilenet.porting.golden_formats import FORMATS
from npmobilenet.porting.golden_writer import write_golden_data
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Input,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.types import Array
from tests.fuzzing.mutations import Members
from tests.helpers.graphs import after, small_network
from tests.helpers.networks import random_params
from tests.helpers.onnx_files import onnx_file
from tests.helpers.quantized_models import small_model
from tests.helpers.quantized_models import small_network as quantized_network
from tests.helpers.torch_files import torch_legacy, torch_zip

SIDE = 24
IMAGES = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM", "TGA", "AVIF", "JPEG2000")
MODES = {"ICO": ("RGBA",), "PPM": ("RGB", "L"), "JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "P", "LA", "I;16", "1")}
FILE, FOLDER, ZIP = "file", "folder", "zip"


@dataclass(frozen=True)
class Seed:
    """One file, folder or archive.

    Attributes:
        kind: of the report.
        reader: a name in `readers.READERS`.
        name: of the file or folder.
        form: FILE with one member, FOLDER or ZIP.
        members: contents by name.
    """

    kind: str
    reader: str
    name: str
    form: str
    members: Members


@cache
def corpus() -> dict[str, tuple[Seed, ...]]:
    """All seeds by kind."""
    found: dict[str, list[Seed]] = {}
    for maker in (
        _images,
        _labels,
        _own_models,
        _detectors,
        _keras_models,
        _tfjs,
        _torch,
        _onnx,
        _tflite,
        _dumps,
        _golden,
    ):
        for seed in maker():
            found.setdefault(seed.kind, []).append(seed)
    return {kind: tuple(seeds) for kind, seeds in found.items()}


def _file(kind: str, reader: str, name: str, data: bytes) -> Seed:
    return Seed(kind, reader, name, FILE, {name: data})


def _written(write: Callable[[Path], Any], name: str = "file") -> bytes:
    """What a function writes to a path."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def _pixels(side: int = SIDE) -> Array:
    rows, columns = np.mgrid[:side, :side]
    return np.stack([rows * 9 % 256, columns * 7 % 256, rows * columns % 256], axis=2).astype(np.uint8)


def _images() -> Iterator[Seed]:
    for form in IMAGES:
        for mode in MODES.get(form, ("RGB",)):
            gray = np.uint16(257) * _pixels()[..., 0] if mode == "I;16" else _pixels()
            file = BytesIO()
            frames: dict[str, Any] = {}
            if form in ("GIF", "TIFF"):
                frames = {"save_all": True, "append_images": [Image.new("RGB", (SIDE, SIDE))]}
            image = Image.fromarray(gray)
            (image if mode == "I;16" else image.convert(mode)).save(file, form, **frames)
            suffix = "png" if form == "PNG" else form.lower()
            yield _file(form, "image", f"image.{suffix}", file.getvalue())


def _labels() -> Iterator[Seed]:
    for text in ("cat\ndog\nowl\n", "0 cat\n1 dog\n2 größe\n"):
        yield _file("labels", "labels", "labels.txt", text.encode())
    documents: tuple[Any, ...] = (
        ["cat", "dog"], {"labels": ["cat", "dog"], "modelName": "x"}, {"0": ["n01", "cat"], "1": ["n02", "dog"]},
        {"cat": 0, "dog": 1},
    )  # fmt: skip
    for document in documents:
        yield _file("labels", "labels", "labels.json", json.dumps(document).encode())


@cache
def _float_model() -> Model:
    graph = small_network()
    return Model(graph, random_params(graph, 1), labels=("a", "b", "c", "d", "e"), source={"file": "x"}, resize="keras")


def _own_models() -> Iterator[Seed]:
    yield _file("own model", "own", "own.safetensors", _written(_float_model().save))
    for dtype in ("int8", "uint8"):
        data = _written(small_model(dtype, source={"file": "x"}, resize="keras").save)
        yield _file("own quantized model", "own", "quantized.safetensors", data)


def _detectors() -> Iterator[Seed]:
    """One convolution for box codes and one for scores, four anchors."""
    image = Input(name="image", shape=(8, 8, 3))
    layers = (
        Conv2D(name="codes", inputs=("image",), filters=4, kernel_size=(3, 3), stride=4, padding="same"),
        Reshape(name="boxes", inputs=("codes",), target_shape=(4, 4)),
        Conv2D(name="classes", inputs=("image",), filters=3, kernel_size=(3, 3), stride=4, padding="same"),
        Reshape(name="scores", inputs=("classes",), target_shape=(4, 3)),
    )
    graph = Graph("detector", (image, *layers), (("boxes", "boxes"), ("scores", "scores")))
    anchors = np.array([[0.2, 0.2, 0.4, 0.4], [0.2, 0.7, 0.4, 0.4], [0.7, 0.2, 0.4, 0.4], [0.7, 0.7, 0.4, 0.4]])
    for rule in (TensorFlowRule(anchors), TorchvisionRule(8 * anchors, (8, 8))):
        detector = Detector(graph, random_params(graph, 1), post_processing=rule)
        yield _file("own detector", "own", "detector.safetensors", _written(detector.save))


LAYERS: tuple[tuple[str, str, dict[str, Any], dict[str, tuple[int, ...]]], ...] = (
    ("Conv2D", "conv", {"filters": 4, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same"},
     {"kernel": (3, 3, 3, 4), "bias": (4,)}),
    ("BatchNormalization", "bn", {"axis": [3], "epsilon": 0.001, "scale": True, "center": True},
     {"gamma": (4,), "beta": (4,), "moving_mean": (4,), "moving_variance": (4,)}),
    ("ReLU", "relu", {"max_value": 6.0, "negative_slope": 0.0, "threshold": 0.0}, {}),
    ("DepthwiseConv2D", "dw", {"kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "use_bias": False,
                               "depth_multiplier": 1}, {"depthwise_kernel": (3, 3, 4, 1)}),
    ("GlobalAveragePooling2D", "pool", {"keepdims": False}, {}),
    ("Dense", "dense", {"units": 3, "activation": "softmax"}, {"kernel": (4, 3), "bias": (3,)}),
)  # fmt: skip
"""(class, name, settings, arrays) of a network of Keras, on 8 x 8 pixels."""


def _sequential(*, keras_3: bool) -> dict[str, Any]:
    shape = "batch_shape" if keras_3 else "batch_input_shape"
    entry = {"class_name": "InputLayer", "config": {"name": "image", shape: [None, 8, 8, 3], "dtype": "float32"}}
    layers = [entry, *({"class_name": kind, "config": {"name": name, **own}} for kind, name, own, _ in LAYERS)]
    return {"class_name": "Sequential", "config": {"name": "small", "layers": layers}}


def _functional(*, keras_3: bool) -> dict[str, Any]:
    config = _sequential(keras_3=keras_3)["config"]
    for before, layer in zip([None, *config["layers"]], config["layers"], strict=False):
        layer["name"] = layer["config"]["name"]
        layer["inbound_nodes"] = [] if before is None else [[[before["name"], 0, 0, {}]]]
        if keras_3 and before is not None:
            tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": [before["name"], 0, 0]}}
            layer["inbound_nodes"] = [{"args": [tensor], "kwargs": {}}]
    ends = {"input_layers": [["image", 0, 0]], "output_layers": [["dense", 0, 0]]}
    return {"class_name": "Functional", "config": {**config, **ends}}


def _values(shape: tuple[int, ...]) -> Array:
    return np.linspace(0.1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def _named_h5(config: Mapping[str, Any] | None) -> bytes:
    """HDF5 as Keras 2 writes it: a whole model, or the weights alone."""
    import h5py

    file = BytesIO()
    with h5py.File(file, "w") as opened:
        opened.attrs["keras_version"], opened.attrs["backend"] = "2.15.0", "tensorflow"
        root = opened
        if config is not None:
            opened.attrs["model_config"] = json.dumps(config)
            root = opened.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for _, name, _, _ in LAYERS]
        for _, name, _, arrays in LAYERS:
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{array}:0".encode() for array in arrays]
            for array, shape in arrays.items():
                group.create_dataset(f"{name}/{array}:0", data=_values(shape))
    return file.getvalue()


def _numbered_h5() -> bytes:
    """HDF5 as Keras 3 writes it."""
    import h5py

    file = BytesIO()
    with h5py.File(file, "w") as opened:
        for _, name, _, arrays in LAYERS:
            stored = {"conv": "conv2d", "bn": "batch_normalization", "dw": "depthwise_conv2d"}.get(name, name)
            for number, shape in enumerate(arrays.values()):
                opened.create_dataset(f"layers/{stored}/vars/{number}", data=_values(shape))
    return file.getvalue()


def _keras_models() -> Iterator[Seed]:
    for config in (_sequential(keras_3=False), _functional(keras_3=False)):
        yield _file(".h5", "model", "whole.h5", _named_h5(config))
    yield _file(".h5", "model", "weights.h5", _named_h5(None))
    yield _file(".h5", "model", "small.weights.h5", _numbered_h5())
    for config in (_sequential(keras_3=True), _functional(keras_3=True)):
        metadata = json.dumps({"keras_version": "3.5.0", "date_saved": "2024-01-01"}).encode()
        members = {
            "metadata.json": metadata,
            "config.json": json.dumps(config).encode(),
            "model.weights.h5": _numbered_h5(),
        }
        yield Seed(".keras", "model", "small.keras", ZIP, members)
    exported = {"keras_model.h5": _named_h5(_sequential(keras_3=False)), "labels.txt": b"0 a\n1 b\n2 c\n"}
    yield Seed("export", "model", "converted_keras.zip", ZIP, exported)


def _tfjs() -> Iterator[Seed]:
    arrays = {f"{name}/{array}": shape for _, name, _, own in LAYERS for array, shape in own.items()}
    for stored, quantization in (("f4", {}), ("u1", {"quantization": {"dtype": "uint8", "min": 0.0, "scale": 0.01}})):
        weights = [{"name": n, "shape": list(s), "dtype": "float32", **quantization} for n, s in arrays.items()]
        data = b"".join((_values(shape) * 100).astype(stored).tobytes() for shape in arrays.values())
        document = {
            "modelTopology": {"keras_version": "tfjs-layers 1.3.1", "model_config": _functional(keras_3=False)},
            "weightsManifest": [{"paths": ["weights.bin"], "weights": weights}],
        }
        labels = json.dumps({"labels": ["a", "b", "c"]}).encode()
        members = {"model.json": json.dumps(document).encode(), "weights.bin": data, "metadata.json": labels}
        yield Seed("TensorFlow.js", "model", "tfjs", FOLDER, members)
        yield Seed("TensorFlow.js", "model", "tm-my-image-model.zip", ZIP, members)


def _state_dict() -> dict[str, Array]:
    """timm's mobilenetv1 of width 0.25, of zeros but for the variances."""
    arrays: dict[str, Array] = {}

    def unit(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        arrays[f"{conv}.weight"] = np.zeros(shape, np.float16)
        for name in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{norm}.{name}"] = np.full(shape[0], name == "running_var", np.float16)

    unit("conv_stem", "bn1", (8, 3, 3, 3))
    C, stage, number = 8, -1, 0
    for row in V1:
        stage, number = (stage + 1, 0) if row.stride == 2 or stage < 0 else (stage, number + 1)
        unit(f"blocks.{stage}.{number}.conv_dw", f"blocks.{stage}.{number}.bn1", (C, 1, 3, 3))
        unit(f"blocks.{stage}.{number}.conv_pw", f"blocks.{stage}.{number}.bn2", (row.c_out // 4, C, 1, 1))
        C = row.c_out // 4
    arrays["classifier.weight"], arrays["classifier.bias"] = np.zeros((2, C), np.float16), np.zeros(2, np.float16)
    return arrays


def _torch() -> Iterator[Seed]:
    from zipfile import ZipFile

    from safetensors.numpy import save

    whole = _state_dict()
    part = {name: array for name, array in whole.items() if name.startswith(("conv_stem", "bn1", "blocks.0."))}
    for arrays, name in ((whole, "mobilenetv1.pth"), (part, "part.pt")):
        for content in (arrays, {"state_dict": arrays, "epoch": 7, "arch": "mobilenetv1"}):
            with ZipFile(BytesIO(torch_zip(content))) as archive:
                members = {member: archive.read(member) for member in archive.namelist()}
            yield Seed(".pth", "model", name, ZIP, members)
        yield _file(".pth before 1.6", "model", name, torch_legacy(arrays))
        yield _file("torch .safetensors", "model", f"{name}.safetensors", save(arrays, {"format": "pt"}))


def _onnx() -> Iterator[Seed]:
    whole = mobilenet_v1(alpha=0.25, resolution=32, classes=2)
    graph = Graph("blocks", whole.layers[:14])
    model = Model(graph, random_params(graph, 1))
    yield _file(".onnx", "model", "small.onnx", _written(partial(onnx_file, model=model), "small.onnx"))
    graph = after(
        ZeroPadding2D(name="pad", padding=((1, 0), (1, 1))),
        Conv2D(name="conv", filters=4, kernel_size=(3, 3), stride=2),
        Activation(name="relu", activation="relu6"),
        GlobalAveragePooling2D(name="pool"),
        Dense(name="out", units=5, activation="softmax"),
    )
    model = Model(graph, random_params(graph, 1))
    yield _file(".onnx", "model", "classifier.onnx", _written(partial(onnx_file, model=model), "classifier.onnx"))


def _float_network() -> Network:
    kind = np.dtype(np.float32)
    tensors = (
        Tensor("image", (1, 8, 8, 3), kind),
        Tensor("conv/weights", (4, 3, 3, 3), kind, None, _values((4, 3, 3, 3))),
        Tensor("conv/bias", (4,), kind, None, _values((4,))),
        Tensor("conv", (1, 4, 4, 4), kind),
        Tensor("depthwise/weights", (1, 3, 3, 4), kind, None, _values((1, 3, 3, 4))),
        Tensor("depthwise/bias", (4,), kind, None, _values((4,))),
        Tensor("depthwise", (1, 4, 4, 4), kind),
        Tensor("sum", (1, 4, 4, 4), kind),
        Tensor("axes", (2,), np.dtype(np.int32), None, np.array([1, 2], np.int32)),
        Tensor("pool", (1, 4), kind),
        Tensor("dense/weights", (3, 4), kind, None, _values((3, 4))),
        Tensor("dense/bias", (3,), kind, None, _values((3,))),
        Tensor("dense", (1, 3), kind),
        Tensor("softmax", (1, 3), kind),
    )
    operators = (
        Operator("CONV_2D", (0, 1, 2), (3,), Options("same", (2, 2), activation="relu6")),
        Operator("DEPTHWISE_CONV_2D", (3, 4, 5), (6,), Options("same")),
        Operator("ADD", (3, 6), (7,)),
        Operator("MEAN", (7, 8), (9,)),
        Operator("FULLY_CONNECTED", (9, 10, 11), (12,)),
        Operator("SOFTMAX", (12,), (13,)),
    )
    return Network("float", tensors, operators, (0,), (13,))


def _tflite() -> Iterator[Seed]:
    yield _file(".tflite", "model", "float.tflite", tflite_bytes(_float_network()))
    for dtype in ("int8", "uint8"):
        yield _file(".tflite quantized", "model", "quantized.tflite", tflite_bytes(quantized_network(dtype)))
    data = tflite_with_metadata(small_model())
    yield _file(".tflite quantized", "model", "named.tflite", data)
    yield Seed(
        "export", "model", "converted_tflite.zip", ZIP, {"model.tflite": data, "labels.txt": b"0 a\n1 b\n2 c\n3 d\n"}
    )


def _dumps() -> Iterator[Seed]:
    from safetensors.numpy import save

    arrays = {f"layer_{number}": _values((1, 4, 4, number + 1)) for number in range(3)}
    members = {f"{name}.npy": _written(partial(np.save, arr=array), "x.npy") for name, array in arrays.items()}
    yield _file(".npy", "dump", "conv1.npy", members["layer_1.npy"])
    yield Seed(".npz", "dump", "dump.npz", ZIP, members)
    yield Seed(".npz", "dump", "dump", FOLDER, members)
    yield _file("dump .safetensors", "dump", "dump.safetensors", save(arrays))


def _golden() -> Iterator[Seed]:
    model = _float_model()
    x = np.linspace(-1, 1, 8 * 6 * 3, dtype=np.float32).reshape(1, 8, 6, 3)
    for layout, image in (("NHWC", x), ("NCHW", _pixels())):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "pack"
            write_golden_data(model, image, path, formats=tuple(FORMATS), layers=("conv",), layout=layout)
            files = (file for file in path.rglob("*") if file.is_file())
            members = {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
        yield Seed("golden data", "golden", "pack", FOLDER, members)
