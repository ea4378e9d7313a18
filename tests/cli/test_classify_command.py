"""The command classify: predictions as text and JSON, on a terminal and in a pipe, and images that cannot be read."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet.models.model import Model
from tests.helpers.command_line import document, run
from tests.helpers.real_files import ROOT, real_file

DIGITS = ROOT / "examples" / "digits"


def on_a_terminal(*arguments: str) -> str:
    """Output of `npmobilenet` on a terminal, without colors."""
    pytest.importorskip("pty", reason="pseudo-terminals exist only on Unix")
    command = [sys.executable, "-m", "npmobilenet", *arguments]
    program = f"import pty, sys\nsys.exit(pty.spawn({command!r}))"
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm"}
    shown = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, env=environment,
    ).stdout  # fmt: skip
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def refuses_numbers(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def test_a_directory_of_digits_is_classified_as_json() -> None:
    result = run("classify", DIGITS, "--model", "digits", "--top", 2, "--json")
    assert result.exit_code == 0
    results = document(result)
    assert [Path(result["image"]).stem for result in results] == list("0123456789")
    assert [result["predictions"][0]["label"] for result in results] == list("0123456789")
    assert all(set(found) == {"wnid", "label", "probability"} for result in results for found in result["predictions"])
    assert all(len(result["predictions"]) == 2 for result in results)


def test_results_are_bit_exact_for_any_number_of_threads_and_an_invalid_number_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, three = (
        run("classify", DIGITS, "--model", "digits", "--backend", "compiled", "--threads", n, "--json") for n in (1, 3)
    )
    assert one.exit_code == 0
    assert one.stdout == three.stdout
    monkeypatch.setenv("NPMOBILENET_THREADS", "two")
    result = run("classify", DIGITS, "--model", "digits", "--json")
    assert document(result, 1)["error"] == "NPMOBILENET_THREADS is 'two'; expected a whole number from 1 to 1024"


def test_a_pipe_gets_plain_text() -> None:
    result = run("classify", DIGITS / "7.png", "--model", "digits", "--top", 1)
    title, line = result.stdout.splitlines()
    assert title == str(DIGITS / "7.png")
    assert line.split()[1] == "7"
    assert "\x1b" not in result.stdout


def test_an_image_is_read_from_standard_input() -> None:
    result = run("classify", "-", "--model", "digits", "--json", stdin=(DIGITS / "4.png").read_bytes())
    assert document(result)[0]["image"] == "-"
    assert document(result)[0]["predictions"][0]["label"] == "4"


def test_one_bad_image_in_fifty_does_not_affect_the_others(tmp_path: Path) -> None:
    paths = []
    for number in range(50):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes((DIGITS / f"{number % 10}.png").read_bytes())
    paths[17].write_bytes(b"not an image")
    result = run("classify", *paths, "--model", "digits", "--json")
    results = document(result, 1)
    assert len(results) == 50
    assert "17.png" in results[17]["error"]
    assert "predictions" not in results[17]
    right = [result["predictions"][0]["label"] == str(n % 10) for n, result in enumerate(results) if n != 17]
    assert right == [True] * 49


def test_a_bad_image_is_reported_on_standard_error_and_the_others_on_standard_output(tmp_path: Path) -> None:
    result = run("classify", tmp_path / "missing.png", DIGITS / "1.png", "--model", "digits", "--top", 1)
    assert result.exit_code == 1
    assert "missing.png" in result.stderr
    assert "missing.png" not in result.stdout
    assert result.stdout.splitlines()[0].endswith("1.png")


def test_a_misspelled_model_is_answered_with_a_suggestion() -> None:
    assert "mobilenet_v2_1.0_224" in run("classify", DIGITS, "--model", "mobilenet_v2_1.0_225").stderr


def test_a_failed_download_names_the_file_the_cache_and_the_option_for_a_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://127.0.0.1:9")
    result = run("classify", DIGITS / "1.png")
    assert result.exit_code == 1
    for word in ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5", str(tmp_path), "--model"):
        assert word in result.stderr


def test_probabilities_that_are_nan_become_null(small_network: Path, tmp_path: Path) -> None:
    model = Model.open(small_network)
    broken = dict(model.params) | {"conv_preds/bias": np.full(3, np.nan, np.float32)}
    Model(model.graph, broken, labels=model.labels).save(tmp_path / "nan.safetensors")
    result = run("classify", DIGITS / "1.png", "--model", tmp_path / "nan.safetensors", "--json")
    results = json.loads(result.stdout, parse_constant=refuses_numbers)
    assert [found["probability"] for found in results[0]["predictions"]] == [None] * 3


def test_photos_are_classified_with_trained_weights() -> None:
    weights = real_file("weights", "mobilenet_v2_1.0_224_imagenet.h5")
    photographs = [real_file("images", f"{name}.jpg") for name in ("panda", "parrot", "burger")]
    result = run("classify", *photographs, "--model", weights, "--json")
    labels = [answer["predictions"][0]["label"] for answer in document(result)]
    assert labels == ["giant_panda", "macaw", "cheeseburger"]


def test_a_draft_gives_the_same_classes_and_requires_crop(tmp_path: Path) -> None:
    for digit in (2, 7):
        large = Image.open(DIGITS / f"{digit}.png").convert("RGB").resize((640, 640), Image.Resampling.BICUBIC)
        large.save(tmp_path / f"{digit}.jpg")
    exact, draft = (document(run("classify", tmp_path, "-m", "digits", "--json", *more)) for more in ([], ["--draft"]))
    assert [result["predictions"][0]["label"] for result in draft] == ["2", "7"]
    assert exact != draft
    refused = run("classify", tmp_path, "-m", "digits", "--draft", "--resize", "keras", "--json")
    assert "does not support drafts; use 'crop'" in document(refused, 1)["error"]


def test_a_terminal_shows_throughput_and_remaining_time_below_the_results() -> None:
    shown = on_a_terminal("classify", str(DIGITS), *[str(DIGITS / "0.png")] * 200, "--model", "digits", "--top", "1")
    assert re.search(r"classifying .*\d images/s \d:\d\d:\d\d", shown)
    assert shown.count("█") >= 210
    assert re.findall(r"(\d)\.png", shown)[:11] == [*"0123456789", "0"]


def test_a_terminal_shows_a_table_with_bars() -> None:
    shown = on_a_terminal("classify", str(DIGITS / "3.png"), "--model", "digits", "--top", "1")
    assert "█" in shown
    assert "3.png" in shown
