"""The command line as programs and people meet it: output, JSON, exit codes, and what happens to bad input."""

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

from npmobilenet import architectures
from npmobilenet.models.model import Model
from npmobilenet.output import json_text, print_json, print_json_list
from tests.helpers.command_line import Result, run
from tests.helpers.networks import random_params
from tests.helpers.real_files import ROOT, real_file

DIGITS = ROOT / "examples" / "digits"


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def on_a_terminal(*arguments: str) -> str:
    """What a person sees, without its colors."""
    pytest.importorskip("pty", reason="pseudo-terminals are a thing of Unix")
    command = [sys.executable, "-m", "npmobilenet", *arguments]
    program = f"import pty, sys\nsys.exit(pty.spawn({command!r}))"  # a person's terminal, seen from outside
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm"}
    shown = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, env=environment,
    ).stdout  # fmt: skip
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def refuses_numbers(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    graph = architectures.mobilenet_v1(alpha=0.25, resolution=32, classes=3)
    path = tmp_path / "small.safetensors"
    Model(graph, random_params(graph, seed=0), labels=["cat", "dog", "owl"]).save(path)
    return path


def test_classify_names_a_folder_of_digits_as_json() -> None:
    result = run("classify", DIGITS, "--model", "digits", "--top", 2, "--json")
    assert result.exit_code == 0
    answers = document(result)
    assert [Path(answer["image"]).stem for answer in answers] == list("0123456789")
    assert [answer["predictions"][0]["label"] for answer in answers] == list("0123456789")
    assert all(set(found) == {"wnid", "label", "probability"} for answer in answers for found in answer["predictions"])
    assert all(len(answer["predictions"]) == 2 for answer in answers)


def test_classify_answers_the_same_for_any_number_of_threads_and_notices_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, three = (
        run("classify", DIGITS, "--model", "digits", "--backend", "compiled", "--threads", n, "--json") for n in (1, 3)
    )
    assert one.exit_code == 0
    assert one.stdout == three.stdout
    monkeypatch.setenv("NPMOBILENET_THREADS", "two")
    result = run("classify", DIGITS, "--model", "digits", "--json")
    assert result.exit_code == 1
    assert document(result)["error"] == "NPMOBILENET_THREADS is 'two'; expected a whole number from 1 to 1024"


def test_classify_prints_plain_text_into_a_pipe() -> None:
    result = run("classify", DIGITS / "7.png", "--model", "digits", "--top", 1)
    title, line = result.stdout.splitlines()
    assert title == str(DIGITS / "7.png")
    assert line.split()[1] == "7"
    assert "\x1b" not in result.stdout


def test_classify_reads_an_image_from_standard_input() -> None:
    result = run("classify", "-", "--model", "digits", "--json", stdin=(DIGITS / "4.png").read_bytes())
    assert document(result)[0]["image"] == "-"
    assert document(result)[0]["predictions"][0]["label"] == "4"


def test_one_bad_image_in_fifty_does_not_lose_the_others(tmp_path: Path) -> None:
    paths = []
    for number in range(50):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes((DIGITS / f"{number % 10}.png").read_bytes())
    paths[17].write_bytes(b"not an image")
    result = run("classify", *paths, "--model", "digits", "--json")
    assert result.exit_code == 1
    answers = document(result)
    assert len(answers) == 50
    assert "17.png" in answers[17]["error"]
    assert "predictions" not in answers[17]
    right = [answer["predictions"][0]["label"] == str(n % 10) for n, answer in enumerate(answers) if n != 17]
    assert right == [True] * 49


def test_a_bad_image_is_told_on_standard_error_and_the_rest_on_standard_output(tmp_path: Path) -> None:
    result = run("classify", tmp_path / "missing.png", DIGITS / "1.png", "--model", "digits", "--top", 1)
    assert result.exit_code == 1
    assert "missing.png" in result.stderr
    assert "missing.png" not in result.stdout
    assert result.stdout.splitlines()[0].endswith("1.png")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["classify"], "IMAGE"),
        (["classify", "x.png", "--top", "0"], "top"),
        (["classify", "x.png", "--resize", "squash"], "resize"),
        (["classify", "x.png", "--backend", "gpu"], "backend"),
        (["classify", "x.png", "--threads", "0"], "threads"),
        (["cost", "mobilenet_v1", "--resolution", "big"], "mobilenet_v1"),
        (["cost", "mobilenet_v1", "--resolution", "16"], "32"),
        (["cost", "mobilenet_v1", "--minimalistic"], "minimalistic"),
        (["cost", "mobilenet_v1_1.0_224", "--alpha", "0.5"], "architecture"),
        (["convert", "x.h5", "--arch", "resnet"], "mobilenet_v2"),
        (["convert", "x.h5", "--alpha", "0.5"], "--arch"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_use_has_exit_code_2_and_says_what_is_wrong(arguments: list[str], word: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", DIGITS, "--model", "missing.h5"],
        ["classify", DIGITS, "--model", "mobilnet_v2"],
        ["classify", DIGITS, "--model", ROOT / "README.md"],
        ["convert", "missing.h5"],
        ["convert", ROOT / "README.md"],
        ["cost", "mobilenet_v9"],
    ],
    ids=str,
)
def test_what_could_not_be_done_has_exit_code_1_and_one_json_document(
    arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    assert set(document(result)) == {"error"}
    assert document(result)["error"] in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_near_miss_of_a_name_is_answered_with_the_name() -> None:
    assert "mobilenet_v2_1.0_224" in run("classify", DIGITS, "--model", "mobilenet_v2_1.0_225").stderr


def test_cost_of_mobilenet_v1_adds_up() -> None:
    answer = document(run("cost", "mobilenet_v1", "--json"))
    assert answer["model"] == "mobilenet_v1"
    assert answer["macs"] == 568_740_352 == sum(layer["macs"] for layer in answer["layers"])
    assert answer["params"] == 4_253_864 == sum(layer["params"] for layer in answer["layers"])
    assert answer["trainable_params"] == 4_231_976
    assert {"name", "type", "output_shape", "params", "macs"} <= set(answer["layers"][0])


def test_cost_per_layer_prints_a_row_for_every_layer_and_the_total() -> None:
    lines = run("cost", "mobilenet_v2", "--alpha", 0.5, "--resolution", "128x96", "--per-layer").stdout.splitlines()
    graph = architectures.mobilenet_v2(alpha=0.5, resolution=(128, 96))
    assert len(lines) == 1 + len(graph.layers) + 1
    assert lines[-1].split()[-1] == f"{graph.macs:,}"


@pytest.mark.parametrize("name", ["mobilenet_v3_small_1.0_224", "digits"])
def test_cost_takes_known_names_without_fetching_them_and_files(name: str, network: Path) -> None:
    assert document(run("cost", name, "--json"))["macs"] > 0
    assert document(run("cost", network, "--json"))["params"] == 219_315


def test_models_lists_all_44_with_their_costs() -> None:
    answers = document(run("models", "--json"))
    assert len(answers) == 44
    v2 = next(answer for answer in answers if answer["model"] == "mobilenet_v2_1.0_224")
    assert (v2["macs"], v2["params"]) == (300_774_272, 3_538_984)
    assert v2["url"].endswith("mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5")
    assert len(run("models").stdout.splitlines()) == 46


def test_models_needs_no_network_but_classify_names_the_ways_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://127.0.0.1:9")
    result = run("classify", DIGITS / "1.png")
    assert result.exit_code == 1
    for word in ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5", str(tmp_path), "--model"):
        assert word in result.stderr


@pytest.fixture
def keras_file(keras: Any, tmp_path: Path) -> Path:
    network = keras.applications.MobileNet((32, 32, 3), alpha=0.25, classes=3, weights=None)
    network.save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


def test_convert_writes_the_file_and_reports_what_it_found(
    keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nowl\n")
    result = run("convert", keras_file, "--labels", names, "--range", "0..1", "--json")
    assert result.exit_code == 0, result.stderr
    answer = document(result)
    assert answer["output"] == "mine.safetensors"
    assert answer["matched_by"]
    model = Model.open(tmp_path / "mine.safetensors")
    assert [label for _, label in model.labels] == ["cat", "dog", "owl"]
    assert model.scaling.scale == 1 / 255


def test_convert_does_not_overwrite_unless_told(
    keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").write_text("precious")
    result = run("convert", keras_file)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert (tmp_path / "mine.safetensors").read_text() == "precious"
    assert run("convert", keras_file, "--force").exit_code == 0
    assert Model.open(tmp_path / "mine.safetensors").graph.total_params == 219_315


def test_probabilities_that_are_not_numbers_become_null(network: Path, tmp_path: Path) -> None:
    model = Model.open(network)
    broken = dict(model.params) | {"conv_preds/bias": np.full(3, np.nan, np.float32)}
    Model(model.graph, broken, labels=model.labels).save(tmp_path / "nan.safetensors")
    result = run("classify", DIGITS / "1.png", "--model", tmp_path / "nan.safetensors", "--json")
    answers = json.loads(result.stdout, parse_constant=refuses_numbers)
    assert [found["probability"] for found in answers[0]["predictions"]] == [None] * 3


def test_real_photographs_with_real_weights_from_the_shell() -> None:
    weights = real_file("weights", "mobilenet_v2_1.0_224_imagenet.h5")
    photographs = [real_file("images", f"{name}.jpg") for name in ("panda", "parrot", "burger")]
    result = run("classify", *photographs, "--model", weights, "--json")
    labels = [answer["predictions"][0]["label"] for answer in document(result)]
    assert labels == ["giant_panda", "macaw", "cheeseburger"]


def test_warmup_that_can_keep_nothing_says_so_once_and_fails(tmp_path: Path) -> None:
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


def test_warmup_compiles_what_classify_then_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    command = [sys.executable, "-m", "npmobilenet"]
    warmup = subprocess.run([*command, "warmup"], capture_output=True, text=True, check=True)
    assert warmup.stdout == f"kernels: {tmp_path / 'kernels'}\n"
    assert "compiling" in warmup.stderr
    classify = subprocess.run(
        [*command, "classify", DIGITS / "5.png", "-m", "digits"], capture_output=True, text=True, check=True
    )
    assert classify.stderr == ""


def test_a_list_that_is_printed_in_parts_is_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    for document in ([], [{"image": "a\nb", "predictions": [{"label": "ü", "probability": 0.5}]}, {"error": "é"}, 3]):
        print_json(document)
        whole = capsys.readouterr().out
        print_json_list([json_text(part) for part in document])
        assert capsys.readouterr().out == whole


def test_a_draft_names_what_the_exact_resize_names_and_goes_with_crop_alone(tmp_path: Path) -> None:
    for digit in (2, 7):
        large = Image.open(DIGITS / f"{digit}.png").convert("RGB").resize((640, 640), Image.Resampling.BICUBIC)
        large.save(tmp_path / f"{digit}.jpg")
    exact, draft = (document(run("classify", tmp_path, "-m", "digits", "--json", *more)) for more in ((), ["--draft"]))
    assert [answer["predictions"][0]["label"] for answer in draft] == ["2", "7"]
    assert exact != draft
    refused = run("classify", tmp_path, "-m", "digits", "--draft", "--resize", "keras", "--json")
    assert refused.exit_code == 1
    assert "does not support drafts; use 'crop'" in document(refused)["error"]


def test_on_a_terminal_a_folder_shows_its_rate_and_the_time_left_below_the_answers() -> None:
    shown = on_a_terminal("classify", str(DIGITS), *[str(DIGITS / "0.png")] * 200, "--model", "digits", "--top", "1")
    assert re.search(r"classifying .*\d images/s \d:\d\d:\d\d", shown)
    assert shown.count("█") >= 210
    assert re.findall(r"(\d)\.png", shown)[:11] == [*"0123456789", "0"]


def test_on_a_terminal_the_answer_is_a_drawn_table() -> None:
    shown = on_a_terminal("classify", str(DIGITS / "3.png"), "--model", "digits", "--top", "1")
    assert "█" in shown
    assert "3.png" in shown
