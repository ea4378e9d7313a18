"""Small files that declare gigabytes: refused with the limit and the way to raise it, in little memory and time."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from npmobilenet.errors import ImageError, NpMobileNetError
from npmobilenet.limits import inflated_limit, pixel_limit
from npmobilenet.models.preprocessing import decode

MEGABYTE, GIGABYTE = 10**6, 10**9
SECONDS = 10 * 6  # the bound is 10; machines that run other tests as well take longer
MEASURED = """
import sys, time
from pathlib import Path
{work}
start = time.monotonic()
try:
    work(sys.argv[1])
    outcome = "read"
except NpMobileNetError as error:
    outcome = str(error)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) * 1024  # ru_maxrss includes what the parent had
print(peak, time.monotonic() - start, outcome, sep="\\n")
"""
IMAGE = "from npmobilenet.models.preprocessing import decode as work; from npmobilenet.errors import NpMobileNetError"
MODEL = "from npmobilenet.hub.load import load as work; from npmobilenet.errors import NpMobileNetError"
DUMP = """
from pathlib import Path
import npmobilenet as nm
from npmobilenet.errors import NpMobileNetError
from npmobilenet.porting.diagnose.dumps import read_dump
model = nm.load("digits")
def work(name): read_dump(Path(name), model, None)
"""


def webp(side: int = 16383) -> bytes:
    """34 bytes: a lossless WebP that declares its largest image."""
    bits = (side - 1) | (side - 1) << 14
    body = b"\x2f" + bits.to_bytes(4, "little") + 9 * b"\0"
    chunk = b"VP8L" + len(body).to_bytes(4, "little") + body
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


def white_png(side: int = 9000) -> bytes:
    """A white square in some 12 kB."""
    file = BytesIO()
    Image.new("1", (side, side), 1).save(file, "PNG")
    return file.getvalue()


def archive(members: dict[str, bytes]) -> bytes:
    """A compressed archive."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def npz_of_zeros(values: int = 4 * 10**7) -> bytes:
    """An .npz of zeros, 320 MB unpacked."""
    file = BytesIO()
    np.savez_compressed(file, conv1=np.zeros(values))
    return file.getvalue()


def keras_with_a_long_config() -> bytes:
    """A .keras archive whose config inflates to 300 MB."""
    return archive({"config.json": 300 * MEGABYTE * b" ", "model.weights.h5": b"", "metadata.json": b"{}"})


def h5_of_nothing() -> bytes:
    """An HDF5 file of some kB whose only kernel declares 800 MB and stores none of it."""
    file = BytesIO()
    with h5py.File(file, "w") as opened:
        group = opened.create_group("conv1")
        opened.attrs["layer_names"] = [b"conv1"]
        group.attrs["weight_names"] = [b"conv1/kernel:0"]
        group.create_dataset("conv1/kernel:0", (10, 10, 2 * 10**6), "f4", chunks=(10, 10, 1000))
    return file.getvalue()


def keras_with_a_wide_layer() -> bytes:
    """A .keras archive whose network has a layer of a billion weights, and no weights."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 1000, 1000, 3]}, "module": "k"},
        {"class_name": "Flatten", "config": {"name": "f"}, "module": "k"},
        {"class_name": "Dense", "config": {"name": "d", "units": 10**6}, "module": "k"},
    ]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}, "module": "keras"}
    weights = BytesIO()
    with h5py.File(weights, "w") as opened:
        opened.create_group("layers/d/vars")
    return archive({
        "config.json": json.dumps(config).encode(), "model.weights.h5": weights.getvalue(), "metadata.json": b"{}"
    })  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(
    ("name", "content", "work", "message"),
    [
        ("a.webp", webp, IMAGE, "pixels"),
        ("a.png", white_png, IMAGE, "pixels"),
        ("a.npz", npz_of_zeros, DUMP, "more than the limit of 268,435,456"),
        ("a.keras", keras_with_a_long_config, MODEL, "more than the limit of"),
        ("a.h5", h5_of_nothing, MODEL, "more than the limit of"),
        ("b.keras", keras_with_a_wide_layer, MODEL, ""),
    ],
)
def test_a_file_below_a_megabyte_takes_less_than_a_gigabyte(
    name: str, content: Callable[[], bytes], work: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    assert path.stat().st_size < MEGABYTE
    command = [sys.executable, "-c", MEASURED.format(work=work), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    peak, seconds, *outcome = done.stdout.split("\n")
    assert message in "\n".join(outcome)
    assert outcome[0] != "read"
    assert int(peak) < GIGABYTE
    assert float(seconds) < SECONDS


def test_the_limits_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 6000
    data = white_png(side)
    with pytest.raises(ImageError, match=f"NPMOBILENET_MAX_PIXELS={side * side}"):
        decode(data)
    monkeypatch.setenv("NPMOBILENET_MAX_PIXELS", str(side * side))
    assert decode(data).shape == (side, side, 3)
    monkeypatch.setenv("NPMOBILENET_MAX_BYTES", "5")
    assert inflated_limit(10) == 5


def test_large_files_may_hold_large_images() -> None:
    assert pixel_limit(12 * MEGABYTE) > 108 * MEGABYTE
    assert inflated_limit(100 * MEGABYTE) == 6400 * MEGABYTE


def test_a_limit_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_MAX_PIXELS", "many")
    with pytest.raises(NpMobileNetError, match="NPMOBILENET_MAX_PIXELS: expected a number, got 'many'"):
        pixel_limit(1)
