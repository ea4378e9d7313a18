"""ONNX files with several outputs: ONNX Runtime's answers under the names in the file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model

from npmobilenet.architectures import mobilenet_v2
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import WeightsError
from tests.helpers.tolerances import SMALL

onnx = pytest.importorskip("onnx", reason="requires onnx: pip install npmobilenet[test]")
runtime = pytest.importorskip("onnxruntime", reason="requires onnxruntime: pip install npmobilenet[test]")

V2 = mobilenet_v2(0.35, 64, classes=7, classifier_activation=None)
OUTPUTS = (("tap", "block_12_add"), ("logits", "predictions"), ("map", "out_relu"), ("again", "predictions"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A V2 with two maps and its logits twice, in an order that is not that of computation."""
    from npmobilenet.bench.export_onnx import write_onnx

    model = random_model(replace(V2, outputs=OUTPUTS))
    write_onnx(fuse(model.graph, model.params), 1, tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def test_every_output_is_onnx_runtime_s_under_its_name(file: Path) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = session.run(None, {"x": x.transpose(0, 3, 1, 2)})
    model = read_model(file)
    assert names == [name for name, _ in model.graph.outputs] == ["y", "y1", "y2", "y3"]
    for backend in ("reference", "compiled"):
        found = model.forward(x, backend=backend)
        for name, theirs in zip(names, wanted, strict=True):
            theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
            assert found[name].shape == theirs.shape
            np.testing.assert_allclose(found[name], theirs, rtol=0, atol=SMALL * np.abs(theirs).max(), err_msg=name)


def test_a_value_that_is_neither_read_nor_an_output_is_refused_by_name(file: Path, tmp_path: Path) -> None:
    model: Any = onnx.load(file)
    del model.graph.output[3], model.graph.output[1]  # both names of the logits
    onnx.save(model, tmp_path / "less.onnx")
    with pytest.raises(WeightsError, match=r"no layer reads .*, which is not an output"):
        read_model(tmp_path / "less.onnx")
