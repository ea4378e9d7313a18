"""The key of the cache: machine code is never read for other sources than those it was compiled from."""

from pathlib import Path

import npmobilenet_kernels
import pytest
from npmobilenet_kernels.runtime import object_cache

PACKAGE = Path(npmobilenet_kernels.__file__).parent
ROOMS = (PACKAGE, *(PACKAGE / room for room in ("microkernels", "drivers", "runtime")))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_the_key_changes_with_every_source_of_every_room(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = object_cache.key()
    read_bytes = Path.read_bytes
    for edited in room.glob("*.py"):
        object_cache.key.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda path, edited=edited: read_bytes(path) + b"#" * (path == edited))
            assert object_cache.key() != known, edited
    object_cache.key.cache_clear()
    assert object_cache.key() == known
