"""Backends of a quantized model: kernels and NumPy give the same integers."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from npmobilenet.analysis.engine_check import check_byte_engine
from npmobilenet.errors import KernelError, NpMobileNetError
from npmobilenet.models import quantized_execution
from npmobilenet.models.quantized_model import QuantizedModel
from tests.helpers.images import random_pixels
from tests.helpers.quantized_models import SIDES, small_model

IMAGES = np.stack([random_pixels(*SIDES, seed=seed) for seed in range(3)])


@pytest.mark.parametrize("rule", ["tflite", "xnnpack"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_the_same_integers(dtype: str, rule: str) -> None:
    """Of outputs, layers, and no image at all."""
    model = replace(small_model(dtype), rule=rule)
    x = model.scale(IMAGES)
    for threads in (1, 2):
        y = model.forward_integers(x, backend="compiled", threads=threads)
        assert np.array_equal(y, model.forward_integers(x, backend="reference"))
    for name in model.layer_names:
        compiled, expected = (model.layer_output(name, x, backend=backend) for backend in ("compiled", "reference"))
        assert np.array_equal(compiled, expected)
    assert model.forward_integers(x[:0], backend="compiled").shape == (0, 4)
    assert check_byte_engine(model).passed


def test_auto_uses_kernels_once_they_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("int8")
    model.compile()
    assert model.is_compiled()
    expected = model.predict(IMAGES, backend="reference")
    monkeypatch.setattr(quantized_execution, "run", None)  # the reference
    assert np.array_equal(model.predict(IMAGES), expected)


def test_auto_without_kernels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("int8")

    def missing(*_: object) -> None:
        raise KernelError(f"no compiled kernels: a test of {id(model)}")

    monkeypatch.setattr(quantized_execution, "engine_of", missing)
    with pytest.warns(RuntimeWarning, match="computing with the NumPy reference, which is slower"):
        y = model.predict(IMAGES)
    assert np.array_equal(y, model.predict(IMAGES, backend="reference"))
    with pytest.raises(NpMobileNetError, match="no compiled kernels"):
        model.predict(IMAGES, backend="compiled")


def test_engines_are_not_copied() -> None:
    """They hold addresses of their process."""
    model = small_model("int8")
    model.compile()
    copy: QuantizedModel = pickle.loads(pickle.dumps(model))
    assert model.engines
    assert not copy.engines
    assert np.array_equal(copy.predict(IMAGES, backend="compiled"), model.predict(IMAGES))


def test_a_check_names_the_first_tensor_that_differs() -> None:
    """Kernels of other weights: from the layer that has them on, nothing is as it should be."""
    model = small_model("int8")
    check = check_byte_engine(model)
    assert check.checked >= 5
    tensors = list(model.network.tensors)
    number = next(n for n, tensor in enumerate(tensors) if tensor.name == "pointwise/weights")
    tensors[number] = replace(tensors[number], data=-tensors[number].data)  # type: ignore[operator]
    other = replace(model, network=replace(model.network, tensors=tuple(tensors)))
    other.engines[other.computed.outputs] = quantized_execution.engine_of(model, model.computed)
    wrong = check_byte_engine(other)
    assert not wrong.passed
    assert wrong.differing[0] == "pointwise"
    assert "first pointwise" in str(wrong)
