"""Where the project and the real networks and photographs are."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("NPMOBILENET_TEST_DATA", ROOT.parent / "shared"))


def real_file(*parts: str) -> Path:
    """A file of the test data; the test that asks for it is skipped, with the reason, where the data is not there."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the real test data: {'/'.join(parts)} is not below NPMOBILENET_TEST_DATA")
    return path
