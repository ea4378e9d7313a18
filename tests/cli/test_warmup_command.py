"""The command warmup: kernels that a later process finds, or one error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.real_files import ROOT

DIGITS = ROOT / "examples" / "digits"


def test_a_cache_that_is_not_writable_is_reported_once_and_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    command = [sys.executable, "-m", "npmobilenet", "warmup"]
    environment = os.environ | {"NPMOBILENET_CACHE": str(tmp_path / "file")}
    warmup = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert warmup.returncode == 1
    assert warmup.stdout == ""
    assert warmup.stderr.count("compiled kernels cannot be cached in") == 1
    assert (
        f"the cache directory {tmp_path / 'file' / 'kernels'} is not writable; set NPMOBILENET_CACHE" in warmup.stderr
    )


def test_classify_finds_the_kernels_that_warmup_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    command = [sys.executable, "-m", "npmobilenet"]
    warmup = subprocess.run([*command, "warmup"], capture_output=True, text=True, check=True)
    assert warmup.stdout == f"kernels: {tmp_path / 'kernels'}\n"
    assert "compiling" in warmup.stderr
    classify = subprocess.run(
        [*command, "classify", DIGITS / "5.png", "-m", "digits"], capture_output=True, text=True, check=True
    )
    assert classify.stderr == ""
