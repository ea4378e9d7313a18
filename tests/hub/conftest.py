"""Fixtures of the tests of the hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from npmobilenet.hub import download
from tests.helpers.download_server import Server, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror on this machine that the test's cache folder downloads from, without waiting between attempts."""
    with serving() as state:
        monkeypatch.setenv("NPMOBILENET_MIRROR", state.address)
        monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(download, "RETRY_WAITS", (0.0, 0.0))
        yield state
