"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest

from npmobilenet import architectures
from npmobilenet.models.model import Model
from tests.helpers.networks import random_params


@pytest.fixture
def small_network(tmp_path: Path) -> Path:
    """A converted file: a small V1 with random weights and three labels."""
    graph = architectures.mobilenet_v1(alpha=0.25, resolution=32, classes=3)
    path = tmp_path / "small.safetensors"
    Model(graph, random_params(graph, seed=0), labels=["cat", "dog", "owl"]).save(path)
    return path
