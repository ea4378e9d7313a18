"""`npmobilenet classify FOLDER` compared with a short script of ONNX Runtime and Pillow, two threads: V2 1.0/224.

    python benchmarks/folder.py [--rounds 3] [--small 1000] [--large 20]

Both classify generated photos, 500 x 375 pixels and 12 megapixels, decoded and resized alike. Their predictions are
compared first; then runs of whole processes are interleaved, and the minimum time of each is printed with the CPU time
of that run. `--draft`, which the script lacks, is another resize and so not part of the comparison. Requires the
`bench` extra and Unix.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from npmobilenet.architectures import mobilenet_v2
from npmobilenet.bench.export_onnx import write_onnx
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.compilation import compile_kernels
from npmobilenet.compiler.passes import fuse

THREADS = "2"
BASES = 8  # different photos of each size; the others are shifted copies
TOLERANCE = 1e-4  # relative, of probabilities: the two engines round differently

SCRIPT = """
import json, os, sys
import numpy as np, onnxruntime
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
def classify(path):
    image = Image.open(path).convert("RGB")
    side = 0.875 * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    small = image.resize((224, 224), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return session.run(None, {"x": np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1})[0].ravel()
with ThreadPoolExecutor(2) as pool:
    rows = list(pool.map(classify, sorted(entry.path for entry in os.scandir(sys.argv[2]))))
print(json.dumps([[[int(k), float(row[k])] for k in np.argsort(-row)[:5]] for row in rows]))
"""


@dataclass(frozen=True)
class ProcessRun:
    """One run of a process: elapsed seconds, CPU seconds, and its output."""

    wall: float
    cpu: float
    output: str


def main() -> None:
    """Generate, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=1000, help="photos of 500 x 375")
    parser.add_argument("--large", type=int, default=20, help="photos of 4000 x 3000")
    options = parser.parse_args()

    compile_kernels()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"  # read from the second process on, as when installed
        network, onnx = Path(folder) / "v2.safetensors", Path(folder) / "v2.onnx"
        model = random_model(mobilenet_v2())
        model.save(network)
        write_onnx(fuse(model.graph, model.params), 1, onnx)
        for count, width, height in ((options.small, 500, 375), (options.large, 4000, 3000)):
            photos = Path(folder) / f"{width} x {height}"
            write_photos(photos, count, width, height)
            compare(network, onnx, photos, options.rounds)


def compare(network: Path, onnx: Path, photos: Path, rounds: int) -> None:
    """Check that the predictions agree, then print one line per program."""
    own: list[str | Path] = [
        "-m",
        "npmobilenet",
        "classify",
        "--resize",
        "crop",
        photos,
        "--model",
        network,
        "--threads",
        THREADS,
        "--json",
    ]
    programs: dict[str, list[str | Path]] = {
        "npmobilenet": own,
        "ONNX Runtime + Pillow": ["-c", SCRIPT, onnx, photos],
        "npmobilenet --draft": [*own, "--draft"],
    }
    first, second, _ = (run(command).output for command in programs.values())
    check_predictions(json.loads(first), json.loads(second))
    best: dict[str, ProcessRun] = {}
    for _ in range(rounds):
        for name, command in programs.items():
            process = run(command)
            if name not in best or process.wall < best[name].wall:
                best[name] = process
    count = len(list(photos.iterdir()))
    print(f"{count:,} photos of {photos.name}: the predictions agree")
    for name, process in best.items():
        rate = f"{count / process.wall:7.1f} images/s  {process.wall:6.2f} s  {process.cpu:6.2f} s of CPU"
        print(f"  {name:22} {rate}", flush=True)
    ratio = best["ONNX Runtime + Pillow"].wall / best["npmobilenet"].wall
    print(f"  npmobilenet has {ratio:.2f} times the throughput of the script")


def run(command: list[str | Path]) -> ProcessRun:
    """Run Python with the arguments of a command; CPU time is that of the operating system."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[:3]} ended with exit code {process.returncode}")
        output.seek(0)
        return ProcessRun(wall, usage.ru_utime + usage.ru_stime, output.read())


def check_predictions(own: list[dict[str, Any]], other: list[list[tuple[int, float]]]) -> None:
    """Fail if a most probable class, or one of the five probabilities beyond rounding, differs."""
    for answer, row in zip(own, other, strict=True):
        probabilities = [found["probability"] for found in answer["predictions"]]
        np.testing.assert_allclose(probabilities, [float(probability) for _, probability in row], rtol=TOLERANCE)
        assert answer["predictions"][0]["label"] == str(row[0][0]), f"{answer} differs from {row}"


def write_photos(folder: Path, count: int, width: int, height: int) -> None:
    """Write JPEG files of noise at every scale, coarse scales stronger than fine ones, as in nature."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    bases = [_noise(rng, width, height) for _ in range(min(count, BASES))]
    for number in range(count):
        shifted = np.roll(bases[number % BASES], rng.integers(0, (height, width)), axis=(0, 1))
        Image.fromarray(shifted).save(folder / f"{number:05}.jpg", quality=90)


def _noise(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8."""
    total = np.full((height, width, 3), 128, np.float32)
    side, strength = 4, 30.0
    while side < width:
        coarse = rng.normal(0, strength, (3, max(2, side * height // width), side)).astype(np.float32)
        fine = [Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC) for channel in coarse]
        total += np.stack([np.asarray(channel) for channel in fine], axis=-1)
        side, strength = 3 * side, strength * 3**-0.5
    return np.clip(total, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
