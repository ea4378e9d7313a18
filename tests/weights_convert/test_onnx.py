"""ONNX files in: ONNX Runtime's answers, in every layout, and refusals that name the operation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import AssumptionWarning, WeightsError
from npmobilenet.hub.load import load
from npmobilenet.models.preprocessing import RAW, SYMMETRIC
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from tests.helpers.onnx_files import onnx_file
from tests.helpers.tolerances import SMALL, rounding

onnx = pytest.importorskip("onnx", reason="requires onnx: pip install npmobilenet[test]")
runtime = pytest.importorskip("onnxruntime", reason="requires onnxruntime: pip install npmobilenet[test]")

LOGITS: dict[str, Any] = {"classifier_activation": None}  # a softmax would magnify the rounding of large logits
Nodes = Callable[[Any, Callable[..., str]], str]


def by_runtime(path: Path, x: Array) -> Array:
    """ONNX Runtime's output for x, in the file's layout."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


def check(path: Path, x: Array, *, channels_first: bool = True, tolerance: float | None = None) -> Graph:
    """Compare a file's network, by the reference and by the engine, with ONNX Runtime for x (N, H, W, C)."""
    model = read_model(path)
    wanted = by_runtime(path, np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if channels_first else x)
    if wanted.ndim == 4 and channels_first:
        wanted = wanted.transpose(0, 2, 3, 1)
    for backend in ("reference", "compiled"):
        y = model.forward(x, backend=backend)
        assert y.shape == wanted.shape
        relative = tolerance or rounding(len(model.graph.layers))
        np.testing.assert_allclose(y, wanted, rtol=0, atol=relative * np.abs(wanted).max(), err_msg=backend)
    return model.graph


@pytest.mark.parametrize(
    "graph",
    [
        mobilenet_v1(0.25, 64, **LOGITS), mobilenet_v2(0.35, (64, 96), **LOGITS),
        mobilenet_v3_small(0.75, 64, output_stride=8, **LOGITS),
        mobilenet_v3_small(1.0, 64, minimalistic=True, **LOGITS),
    ],
    ids=lambda graph: graph.name,
)  # fmt: skip
def test_the_export_of_bench_comes_back(graph: Graph, tmp_path: Path) -> None:
    from npmobilenet.bench.export_onnx import write_onnx

    model = random_model(graph)
    write_onnx(fuse(model.graph, model.params), 1, tmp_path / "network.onnx")
    H, W, C = graph.input_shape
    x = model.scale(np.random.default_rng(0).integers(0, 256, (1, H, W, C)))
    check(tmp_path / "network.onnx", x, tolerance=SMALL)
    expected = RAW if "V3" in graph.name else SYMMETRIC
    assert read_model(tmp_path / "network.onnx").scaling == expected


def test_batch_norms_that_are_not_folded(tmp_path: Path) -> None:
    model = random_model(mobilenet_v2(0.35, 64))
    path = onnx_file(tmp_path / "network.onnx", model, epsilon=2e-3)
    graph = check(path, np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32), tolerance=SMALL)
    assert {layer.epsilon for layer in graph.layers if layer.type == "BatchNormalization"} == {  # type: ignore[attr-defined]
        float(np.float32(2e-3))
    }


def written(path: Path, nodes: Nodes, shape: tuple[int, ...], opset: int = 17) -> Path:
    """A file of hand-written nodes: `nodes` gets a random generator and a function that adds a node."""
    from onnx import TensorProto, helper, numpy_helper

    made: list[Any] = []
    constants: list[Any] = []
    rng = np.random.default_rng(3)

    def node(kind: str, *inputs: Any, **attributes: Any) -> str:
        names = []
        for value in inputs:
            if not isinstance(value, str):
                values = np.asarray(value)
                values = values.astype(np.float32) if values.dtype == np.float64 else values
                constants.append(numpy_helper.from_array(values, f"constant{len(constants)}"))
                value = constants[-1].name
            names.append(value)
        made.append(helper.make_node(kind, names, [f"{kind}{len(made)}"], **attributes))
        return str(made[-1].output[0])

    output = nodes(rng, node)
    graph = helper.make_graph(
        made, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def _keras_like(rng: Any, node: Callable[..., str]) -> str:
    """As tf2onnx writes a channels-last network: transposes around it, kernels reshaped, batch norms as Mul and Add."""
    x = node("Transpose", "x", perm=[0, 3, 1, 2])
    x = node("Conv", x, rng.normal(0, 0.3, (8, 3, 3, 3)), pads=[0, 0, 1, 1], strides=[2, 2])
    x = node("Transpose", x, perm=[0, 2, 3, 1])
    x = node("Add", node("Mul", x, rng.uniform(0.5, 1, 8)), rng.normal(0, 1, 8))
    x = node("Clip", x, 0.0, 6.0)
    x = node("Transpose", x, perm=[0, 3, 1, 2])
    kernel = node("Reshape", rng.normal(0, 0.3, (3, 3, 16)).transpose(2, 0, 1), np.array([16, 1, 3, 3]))
    x = node("Conv", x, kernel, rng.normal(0, 1, 16), group=8, auto_pad="SAME_UPPER", strides=[2, 2])
    x = node("Mul", x, node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    gate = node("HardSigmoid", node("GlobalAveragePool", x), alpha=1 / 6, beta=0.5)
    x = node("Transpose", node("Mul", x, gate), perm=[0, 2, 3, 1])
    x = node("Squeeze", node("ReduceMean", x, axes=[1, 2], keepdims=1), np.array([1, 2]))
    return node("Softmax", node("Add", node("MatMul", x, rng.normal(0, 1, (16, 5))), rng.normal(0, 1, 5)))


def _torch_like(rng: Any, node: Callable[..., str]) -> str:
    """As torch writes it: channels first, a dynamic flatten, Gemm with transB."""
    x = node("Conv", "x", rng.normal(0, 0.3, (8, 3, 3, 3)), pads=[1, 1, 1, 1], strides=[2, 2])
    x = node("BatchNormalization", x, *rng.uniform(0.5, 1.5, (4, 8)), epsilon=1e-3)
    x = node("HardSwish", x)
    y = node("Relu", node("Pad", x, np.array([0, 0, 1, 0, 0, 0, 0, 1])))
    y = node("MaxPool", y, kernel_shape=[2, 2], strides=[1, 1])
    x = node("Concat", node("Add", x, y), node("Sub", 1.0, node("Div", x, 2.0)), axis=1)
    x = node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = node("GlobalAveragePool", x)
    batch = node("Unsqueeze", node("Gather", node("Shape", x), np.array(0)), np.array([0]))
    x = node("Reshape", x, node("Concat", batch, np.array([-1]), axis=0))
    return node("Gemm", node("Dropout", x), rng.normal(0, 1, (4, 16)), rng.normal(0, 1, 4), transB=1)


def test_channels_last_with_transposes(tmp_path: Path) -> None:
    path = written(tmp_path / "network.onnx", _keras_like, (1, 21, 26, 3))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 21, 26, 3)).astype(np.float32)
    assert check(path, x, channels_first=False).output_shape == (5,)


def test_channels_first_with_pools(tmp_path: Path) -> None:
    path = written(tmp_path / "network.onnx", _torch_like, (1, 3, 18, 26))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 18, 26, 3)).astype(np.float32)
    assert check(path, x).output_shape == (4,)


def _dilated(rng: Any, node: Callable[..., str]) -> str:
    """Dilations, groups, and one group per channel with two filters each."""
    x = node("Conv", "x", rng.normal(size=(6, 3, 3, 2)), dilations=[2, 2], pads=[2, 1, 2, 1])
    x = node("Conv", x, rng.normal(size=(12, 1, 3, 3)), rng.normal(size=12), group=6, dilations=[3, 3], pads=[3] * 4)
    x = node("Conv", x, rng.normal(size=(8, 6, 3, 3)), group=2, dilations=[2, 2], pads=[2] * 4)
    return node("GlobalAveragePool", x)


def test_dilations_and_groups(tmp_path: Path) -> None:
    path = written(tmp_path / "network.onnx", _dilated, (1, 3, 18, 26))
    graph = check(path, np.random.default_rng(3).uniform(-1, 1, (1, 18, 26, 3)).astype(np.float32))
    assert [layer.type for layer in graph.layers[1:]] == [
        "Conv2D", "DepthwiseConv2D", "Conv2D", "GlobalAveragePooling2D"
    ]  # fmt: skip


def test_pixels_are_an_assumption_until_they_are_given(tmp_path: Path) -> None:
    path = written(tmp_path / "network.onnx", _torch_like, (1, 3, 18, 26))
    with pytest.warns(AssumptionWarning, match="does not specify how pixels are scaled"):
        load(path)
    assert "assumed_range" in read_model(path).source
    assert "assumed_range" not in read_model(path, scaling=RAW).source


def _one(kind: str, *constants: Any, **attributes: Any) -> Nodes:
    return lambda rng, node: node(kind, "x", *constants, **attributes)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (_one("LRN", size=3), "LRN0: the ONNX operation LRN is not supported"),
        (_one("Clip", -1.0, 1.0), r"Clip0: Clip to \(-1\.0, 1\.0\) is not supported"),
        (_one("HardSigmoid"), "HardSigmoid0: HardSigmoid with alpha 0.2"),
        (_one("Conv", np.ones((8, 3, 3, 3)), dilations=[1, 2]), r"Conv0: Conv with dilations \(1, 2\)"),
        (_one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), r"MaxPool0: MaxPool with dilations \[2, 2\]"),
        (_one("Conv", np.ones((9, 1, 3, 3)), auto_pad="SAME_LOWER", group=3), "auto_pad SAME_LOWER"),
        (_one("Flatten"), r"Flatten0: Flatten of a map \(8, 8, 3\) with axes NCHW"),
        (_one("Add", np.ones((8, 8))), r"Add0: Add with a constant \(8, 8\)"),
        (_one("Transpose", perm=[1, 0, 2, 3]), "Transpose of the batch axis"),
        (_one("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1), "that counts padding"),
        (_one("ReduceMean", axes=[1]), r"ReduceMean over \['C'\]"),
        (_one("Softmax", axis=2), "Softmax along axis 2 of NCHW"),
        (_one("Pad", np.array([0, 1, 0, 0, 0, 0, 0, 0])), "Pad of batch or channels"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(nodes: Nodes, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "network.onnx", nodes, (1, 3, 8, 8))
    with pytest.raises(WeightsError, match=message) as caught:
        read_model(path)
    assert str(caught.value).startswith(str(path))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "network.onnx", _torch_like, (1, 3, 18, 26))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(WeightsError, match="corrupt or truncated ONNX file"):
        read_model(path)


def test_constants_cannot_grow_beyond_the_file(tmp_path: Path) -> None:
    def bomb(rng: Any, node: Callable[..., str]) -> str:
        return node("Add", "x", node("ConstantOfShape", np.array([1 << 20, 1 << 20])))

    path = written(tmp_path / "network.onnx", bomb, (1, 3, 8, 8))
    with pytest.raises(WeightsError, match="ConstantOfShape of constants has more than"):
        read_model(path)


def test_keras_own_export(keras: Any, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx", reason="requires tf2onnx, which Keras exports with: pip install tf2onnx")
    network = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(64, 64, 3), classes=5)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    network(x)
    network.export(str(tmp_path / "network.onnx"), format="onnx", verbose=False)
    check(tmp_path / "network.onnx", x, channels_first=False, tolerance=SMALL)
