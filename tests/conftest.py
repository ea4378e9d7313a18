"""Fixtures that all tests share."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

settings.register_profile("npmobilenet", deadline=None, max_examples=40)  # no wall-clock limit on a shared machine
settings.register_profile("ci", parent=settings.get_profile("npmobilenet"), derandomize=True)
settings.register_profile("few", parent=settings.get_profile("ci"), max_examples=4)  # for an emulated CPU
settings.load_profile("ci" if os.environ.get("CI") else "npmobilenet")


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras 3."""
    return pytest.importorskip("keras", reason="compares with Keras 3: pip install npmobilenet[test]")


@pytest.fixture(scope="session")
def tf_keras() -> Any:
    """Keras 2."""
    return pytest.importorskip("tf_keras", reason="compares with Keras 2: pip install npmobilenet[test]")


@pytest.fixture(scope="module")
def kernels_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache folder for all processes of this test run, so that the kernels are compiled once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folders of all workers lie in one
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPMOBILENET_CACHE", str(folder / "kernel-cache"))
        yield


@pytest.fixture(scope="module")
def many_cores() -> Iterator[None]:
    """Teams of any size, also on a machine with few cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("npmobilenet_kernels.runtime.thread_pool.available_cores", lambda: 64)
        yield
