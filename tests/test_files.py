"""Files and folders that are written completely or not at all."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from npmobilenet.files import folder_written_atomically, write_atomically
from tests.helpers.real_files import ROOT


def test_the_mode_is_what_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_the_umask_of_other_threads_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that creates a file meanwhile must not get one that any user can write."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail(f"the umask was set to {mask:o}"))
    thread = threading.Thread(target=write_atomically, args=(tmp_path / "file", b"content"))
    thread.start()
    thread.join()
    assert (tmp_path / "file").read_bytes() == b"content"


def test_an_interrupt_between_the_renames_keeps_the_former_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "manifest").write_text("former")
    replace, calls = Path.replace, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), folder_written_atomically(pack) as new:
        (new / "manifest").write_text("new")
    assert (pack / "manifest").read_text() == "former"
    assert [entry.name for entry in tmp_path.iterdir()] == ["pack"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_terminated_trace_leaves_no_folder(tmp_path: Path) -> None:
    """SIGTERM, as `timeout` and a shutdown send it, while the pack is being written."""
    image = next((ROOT / "examples" / "digits").glob("*.png"))
    command = [sys.executable, "-m", "npmobilenet", "trace", str(image), "--model", "digits", "-o"]
    process = subprocess.Popen([*command, str(tmp_path / "pack"), "--format", "c"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".pack.*/filled/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the pack was complete before the signal came")
    assert process.returncode == 128 + signal.SIGTERM, messages
    assert not list(tmp_path.iterdir())
