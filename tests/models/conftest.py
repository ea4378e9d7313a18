"""Fixtures of the tests of models."""

from pathlib import Path

import pytest

from tests.helpers.models import some_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    some_model(labels=["a", "b", "c", "d"], source={"file": "x.h5"}).save(path)
    return path
