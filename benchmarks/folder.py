"""`npmobilenet classify FOLDER` against a dozen lines of ONNX Runtime and Pillow with two worker threads: V2 1.0/224.

    python benchmarks/folder.py [--rounds 3] [--small 1000] [--large 20]

Both classify generated photographs, 500 x 375 pixels and 12 megapixels, decoded and resized alike. Their answers are
compared first; then whole processes take turns, and each one's least time is printed, with the CPU time of that turn.
`--draft`, which the script has not, is another resize and so is no part of the comparison. Needs the `bench` extra and
Unix.
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

import numpy as np
from PIL import Image

from npmobilenet.architectures import mobilenet_v2
from npmobilenet.bench.export_onnx import write_onnx
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.compilation import compile_kernels
from npmobilenet.compiler.passes import fuse

THREADS = "2"
BASES = 8  # different photographs of each size; the others are these, shifted
TOLERANCE = 1e-4  # of probabilities, relative: two engines round differently

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
class Turn:
    """One process: seconds from its start to its end, CPU seconds, what it printed."""

    wall: float
    cpu: float
    output: str


def main() -> None:
    """Generate, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=1000, help="photographs of 500 x 375")
    parser.add_argument("--large", type=int, default=20, help="photographs of 4000 x 3000")
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
            photographs = Path(folder) / f"{width} x {height}"
            write_photographs(photographs, count, width, height)
            compare(network, onnx, photographs, options.rounds)


def compare(network: Path, onnx: Path, photographs: Path, rounds: int) -> None:
    """Print a line for each program, after their answers were found to agree."""
    ours = ["-m", "npmobilenet", "classify", photographs, "--model", network, "--threads", THREADS, "--json"]
    programs = {
        "npmobilenet": ours,
        "ONNX Runtime + Pillow": ["-c", SCRIPT, onnx, photographs],
        "npmobilenet --draft": [*ours, "--draft"],
    }
    first, second, _ = (run(command).output for command in programs.values())
    check_answers(json.loads(first), json.loads(second))
    best: dict[str, Turn] = {}
    for _ in range(rounds):
        for name, command in programs.items():
            turn = run(command)
            if name not in best or turn.wall < best[name].wall:
                best[name] = turn
    count = len(list(photographs.iterdir()))
    print(f"{count:,} photographs of {photographs.name}: the answers agree")
    for name, turn in best.items():
        rate = f"{count / turn.wall:7.1f} images/s  {turn.wall:6.2f} s  {turn.cpu:6.2f} s of CPU"
        print(f"  {name:22} {rate}", flush=True)
    ratio = best["ONNX Runtime + Pillow"].wall / best["npmobilenet"].wall
    print(f"  npmobilenet classifies {ratio:.2f} times as many images in a second as the script")


def run(command: list[str | Path]) -> Turn:
    """Run Python with a command's arguments; the process's own figures are those that the system counts."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[:3]} ended with exit code {process.returncode}")
        output.seek(0)
        return Turn(wall, usage.ru_utime + usage.ru_stime, output.read())


def check_answers(ours: list[dict[str, list[dict[str, str | float]]]], theirs: list[list[tuple[int, float]]]) -> None:
    """End where a most probable class or one of the five probabilities is not the same but for rounding."""
    for answer, other in zip(ours, theirs, strict=True):
        probabilities = [found["probability"] for found in answer["predictions"]]
        np.testing.assert_allclose(probabilities, [probability for _, probability in other], rtol=TOLERANCE)
        assert answer["predictions"][0]["label"] == str(other[0][0]), f"{answer} is not {other}"


def write_photographs(folder: Path, count: int, width: int, height: int) -> None:
    """Write JPEG files: noise of every scale, the coarse stronger than the fine, as in nature."""
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
