"""Many pictures: every answer in its place, the same bits as one by one, and memory that does not grow."""

import io
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.errors import ImageError, NpMobileNetError, ShapeError
from npmobilenet.hub.load import load
from npmobilenet.models import preprocessing, streaming
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import CROP, RESIZES, decode, prepare
from npmobilenet.models.streaming import AHEAD, in_order
from tests.helpers.networks import random_params
from tests.helpers.real_files import ROOT

pytestmark = pytest.mark.usefixtures("kernels_kept")

DIGITS = [str(ROOT / "examples" / "digits" / f"{digit}.png") for digit in range(10)]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, also where this process may use one core only."""
    monkeypatch.setattr("npmobilenet_kernels.runtime.thread_pool.available_cores", lambda: 2)


def photo(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth, as photographs are, so that JPEG keeps it."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


# ---------------------------------------------------------------- predict_each


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_the_rows_of_predict_in_order(backend: str, threads: int, two_cores: None) -> None:
    model, sources = load("digits"), DIGITS * 4
    answers = list(model.predict_each(iter(sources), backend=backend, threads=threads))

    assert [source for source, _ in answers] == sources
    np.testing.assert_array_equal([row for _, row in answers], model.predict(sources, backend=backend))
    assert [int(np.argmax(row)) for _, row in answers] == list(range(10)) * 4


def test_a_bad_picture_is_an_error_in_its_place_and_loses_nothing(tmp_path: Path, two_cores: None) -> None:
    bad = {3: tmp_path / "missing.png", 17: b"not a picture", 18: 3, 31: np.zeros((4, 4, 2), np.uint8)}
    sources = [bad.get(number, DIGITS[number % 10]) for number in range(40)]
    answers = [answer for _, answer in load("digits").predict_each(sources)]

    assert {n: type(answer) for n, answer in enumerate(answers) if isinstance(answer, NpMobileNetError)} == {
        3: ImageError, 17: ImageError, 18: ImageError, 31: ShapeError,
    }  # fmt: skip
    assert "missing.png: no such file" in str(answers[3])
    for number, answer in enumerate(answers):
        assert number in bad or np.argmax(answer) == number % 10


def test_a_batch_without_a_good_picture_has_errors_only(two_cores: None) -> None:
    answers = list(load("digits").predict_each([b"bad"] * 40))
    assert len(answers) == 40
    assert all(isinstance(answer, ImageError) for _, answer in answers)


def test_no_pictures_have_no_answers() -> None:
    assert list(load("digits").predict_each([])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": "squash"}, "needed is one of crop, keras"),
        ({"resize": "keras", "draft": True}, "goes with 'crop'"),
        ({"threads": 0}, "threads"),
    ],
    ids=str,
)
def test_wrong_use_is_refused_before_a_source_is_read(arguments: dict[str, Any], message: str) -> None:
    def sources() -> Iterator[str]:
        raise AssertionError("read")
        yield

    with pytest.raises(NpMobileNetError, match=message):
        load("digits").predict_each(sources(), **arguments)


def test_a_network_without_a_classifier_is_refused_at_once() -> None:
    graph = mobilenet_v1(alpha=0.25, resolution=32, include_top=False)
    with pytest.raises(ShapeError, match=r"use model\.features"):
        Model(graph, random_params(graph, seed=0)).predict_each([])


def test_predict_raises_the_error_of_the_first_bad_picture(two_cores: None) -> None:
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

    for handed_on, (item, result) in enumerate(in_order(lambda item: -item, items(), 3)):
        assert (item, result) == (handed_on + 1, -handed_on - 1)
        assert read - handed_on <= 3 * AHEAD
    assert handed_on == 99


def test_results_keep_the_order_of_items_that_take_longer() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item % 7 == 0 else 0)
        return item

    assert list(in_order(work, range(50), 4)) == [(item, item) for item in range(50)]


def test_as_many_threads_work_as_are_asked_for() -> None:
    together = threading.Barrier(3, timeout=60)  # breaks, and raises, unless three work at a time
    assert len(list(in_order(lambda _: together.wait(), range(6), 3))) == 6


def test_whoever_stops_early_leaves_no_thread_behind(two_cores: None) -> None:
    answers = load("digits").predict_each(DIGITS * 10)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("npmobilenet-picture")]


def test_arrays_and_single_pictures_take_no_thread(monkeypatch: pytest.MonkeyPatch, two_cores: None) -> None:
    used = []
    original = streaming.in_order
    monkeypatch.setattr(streaming, "in_order", lambda work, items, n: used.append(n) or original(work, items, n))
    model = load("digits")
    pixels = [decode(name) for name in DIGITS]
    for sources in (pixels, DIGITS[:1], DIGITS):
        list(model.predict_each(sources))
    assert used == [1, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_memory_is_flat_over_many_pictures() -> None:
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
    highest.append(max(pages() for source, answer in model.predict_each(sources)))
print((highest[1] - highest[0]) / 2**20)
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert float(shown) < 64, "MB more with 600 pictures, which are 540 MB, than with 20"


# ---------------------------------------------------------------- decoding without copies, and drafts


@given(
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    st.integers(1, 8), st.integers(1, 50), st.integers(1, 50), st.sampled_from(["crop", "keras"]),
)  # fmt: skip
def test_prepare_gives_the_bits_of_decode_and_resize(
    mode: str, turn: int, width: int, height: int, resize: str
) -> None:
    image = photo(width, height, "L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = turn
    file = saved(image, "PNG", exif=exif)

    np.testing.assert_array_equal(prepare(file, 9, 12, resize), RESIZES[resize](decode(file), 9, 12))


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([(24, 24), (16, 40), (40, 16)]), st.integers(1, 8))
def test_a_draft_is_never_smaller_than_what_is_wanted_and_near_the_exact(
    width: int, height: int, wanted: tuple[int, int], turn: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    jpeg = saved(photo(width, height), "JPEG", exif=exif, quality=95)
    sizes = []
    original = preprocessing._crop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocessing, "_crop", lambda image, *size: sizes.append(image.size) or original(image, *size))
        draft, exact = (prepare(jpeg, *wanted, draft=draft).astype(float) for draft in (True, False))
    small, whole = sizes

    def scale(size: tuple[int, int]) -> float:
        return CROP * min(size[0] / wanted[1], size[1] / wanted[0])

    assert small == whole or scale(small) >= 1
    assert max(wanted) > min(wanted) or scale(whole) < 2 or small[0] <= (whole[0] + 1) // 2
    assert np.abs(draft - exact).mean() < 8


def test_a_draft_is_another_picture_only_where_a_jpeg_is_much_larger() -> None:
    large, small = photo(640, 480), photo(60, 50)
    for image, format_, same in [(large, "JPEG", False), (small, "JPEG", True), (large, "PNG", True)]:
        file = saved(image, format_)
        assert np.array_equal(prepare(file, 32, 32, draft=True), prepare(file, 32, 32)) == same


def test_pillows_warnings_stay_ignored_until_the_last_thread_is_done_and_not_longer() -> None:
    def warn() -> None:
        warnings.warn_explicit("damaged", UserWarning, "PIL/TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")

    before = list(warnings.filters)
    first, second = preprocessing._pillow_warnings_ignored(), preprocessing._pillow_warnings_ignored()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warn()
    second.__exit__(None, None, None)
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="damaged"):
        warn()
