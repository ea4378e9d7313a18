"""Streams: every result in its place, bit-exact with one image at a time, in constant memory."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.errors import ImageError, NpMobileNetError, ShapeError
from npmobilenet.hub.load import load
from npmobilenet.models import streaming
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import decode
from npmobilenet.models.streaming import AHEAD, in_order
from npmobilenet.types import Array
from tests.helpers.networks import random_params
from tests.helpers.real_files import ROOT
from tests.helpers.tolerances import CONSTANT_MEMORY

pytestmark = pytest.mark.usefixtures("kernels_kept")

DIGITS = [str(ROOT / "examples" / "digits" / f"{digit}.png") for digit in range(10)]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, even if this process may use one core only."""
    monkeypatch.setattr("npmobilenet_kernels.runtime.thread_pool.available_cores", lambda: 2)


def probabilities(result: Array | NpMobileNetError) -> Array:
    """A result that must not be an error."""
    assert not isinstance(result, NpMobileNetError), result
    return result


# ---------------------------------------------------------------- predict_each


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_the_rows_of_predict_in_order(backend: str, threads: int, two_cores: None) -> None:
    model, sources = load("digits"), DIGITS * 4
    results = list(model.predict_each(iter(sources), backend=backend, threads=threads))

    assert [source for source, _ in results] == sources
    np.testing.assert_array_equal([row for _, row in results], model.predict(sources, backend=backend))
    assert [int(np.argmax(probabilities(row))) for _, row in results] == list(range(10)) * 4


def test_a_bad_image_is_an_error_in_its_place_and_affects_no_other(tmp_path: Path, two_cores: None) -> None:
    bad: dict[int, Any] = {3: tmp_path / "missing.png", 17: b"not an image", 18: 3, 31: np.zeros((4, 4, 2), np.uint8)}
    sources = [bad.get(number, DIGITS[number % 10]) for number in range(40)]
    results = [result for _, result in load("digits").predict_each(sources)]

    assert {n: type(result) for n, result in enumerate(results) if isinstance(result, NpMobileNetError)} == {
        3: ImageError, 17: ImageError, 18: ImageError, 31: ShapeError,
    }  # fmt: skip
    assert "missing.png: no such file" in str(results[3])
    for number, result in enumerate(results):
        assert number in bad or np.argmax(probabilities(result)) == number % 10


def test_a_batch_without_a_good_image_has_errors_only(two_cores: None) -> None:
    results = list(load("digits").predict_each([b"bad"] * 40))
    assert len(results) == 40
    assert all(isinstance(result, ImageError) for _, result in results)


def test_no_images_yield_no_results() -> None:
    assert list(load("digits").predict_each([])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": "squash"}, "choose one of crop, keras"),
        ({"resize": "keras", "draft": True}, "use 'crop'"),
        ({"threads": 0}, "threads"),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused_before_a_source_is_read(arguments: dict[str, Any], message: str) -> None:
    def sources() -> Iterator[str]:
        raise AssertionError("read")
        yield

    with pytest.raises(NpMobileNetError, match=message):
        load("digits").predict_each(sources(), **arguments)


def test_a_network_without_a_classifier_is_refused_at_once() -> None:
    graph = mobilenet_v1(alpha=0.25, resolution=32, include_top=False)
    with pytest.raises(ShapeError, match=r"use model\.features"):
        Model(graph, random_params(graph, seed=0)).predict_each([])


def test_predict_raises_the_error_of_the_first_bad_image(two_cores: None) -> None:
    with pytest.raises(ImageError, match=r"one\.png"):
        load("digits").predict([*DIGITS, "one.png", "two.png"])


# ---------------------------------------------------------------- threads and memory


def test_items_are_read_a_bounded_number_ahead() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(1, 101):
            read = number
            yield number

    for yielded, (item, result) in enumerate(in_order(lambda item: -item, items(), 3)):
        assert (item, result) == (yielded + 1, -yielded - 1)
        assert read - yielded <= 3 * AHEAD
    assert yielded == 99


def test_results_keep_the_order_of_slower_items() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item % 7 == 0 else 0)
        return item

    assert list(in_order(work, range(50), 4)) == [(item, item) for item in range(50)]


def test_the_requested_number_of_threads_work() -> None:
    together = threading.Barrier(3, timeout=60)  # breaks, and raises, unless three work at a time
    assert len(list(in_order(lambda _: together.wait(), range(6), 3))) == 6


def test_stopping_early_leaves_no_thread_running(two_cores: None) -> None:
    results = load("digits").predict_each(DIGITS * 10)
    next(results)
    results.close()  # type: ignore[union-attr]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("npmobilenet-image")]


def test_arrays_and_single_images_use_no_thread(monkeypatch: pytest.MonkeyPatch, two_cores: None) -> None:
    used = []
    original = streaming.in_order

    def recorded(work: Any, items: Any, threads: int) -> Any:
        used.append(threads)
        return original(work, items, threads)

    monkeypatch.setattr(streaming, "in_order", recorded)
    model = load("digits")
    pixels = [decode(name) for name in DIGITS]
    several: tuple[Any, ...] = (pixels, DIGITS[:1], DIGITS)
    for sources in several:
        list(model.predict_each(sources))
    assert used == [1, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
def test_memory_is_constant_over_many_images() -> None:
    program = """
import io, resource, sys
from PIL import Image
import npmobilenet_kernels.runtime.thread_pool as threads
threads.available_cores = lambda: 2
import npmobilenet as nm

file = io.BytesIO()
Image.new("RGB", (640, 480), "teal").save(file, "BMP")  # 0.9 MB, as a file and decoded
pages = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
model = nm.load("digits")
highest = []
for count in (20, 600):
    sources = (bytes(bytearray(file.getvalue())) for _ in range(count))  # a copy each
    highest.append(max(pages() for source, result in model.predict_each(sources)))
print((highest[1] - highest[0]) / 2**20)
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert float(shown) < CONSTANT_MEMORY, "MB more with 600 images, which are 540 MB, than with 20"
