"""Known models: every address is Keras's, and whatever the network does, the cache holds whole files or none."""

import hashlib
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from npmobilenet.hub.registry import (
    KNOWN_MODELS,
    KnownModel,
    converted_path,
    fetch_source,
    find_model,
    locate,
    source_path,
    without_top,
)

from npmobilenet.errors import DownloadError, ModelNotFoundError, WeightsError
from npmobilenet.hub import download, registry
from npmobilenet.hub.load import load
from tests.helpers.real_files import real_file

ALL_MODELS = [*KNOWN_MODELS, *map(without_top, KNOWN_MODELS)]
HALF = 18 * download.CHUNK  # bytes of a weight_file before the line is cut
V1 = find_model("mobilenet_v1_0.25_128")
V3 = find_model("mobilenet_v3_small_1.0_224")


# ---------------------------------------------------------------- what is known


def test_the_published_configurations_are_known():
    count = {arch: sum(model.arch == arch for model in KNOWN_MODELS) for arch in {model.arch for model in KNOWN_MODELS}}

    assert count == {"mobilenet_v1": 16, "mobilenet_v2": 22, "mobilenet_v3_large": 3, "mobilenet_v3_small": 3}
    assert len({model.name for model in ALL_MODELS}) == 88


class _AnyTensor:
    """Passes through Keras's code for a network as a tensor would."""

    shape = (None, 56, 56, 16)

    def __add__(self, _: object) -> "_AnyTensor":
        return self

    __mul__ = __add__


class _AnyLayers:
    """In place of keras.layers: building 88 real networks would take a minute, and the address depends on none."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: lambda *_: _AnyTensor()


class _AskedError(Exception):
    """Carries what Keras asked `get_file` for."""


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.name)
def test_address_and_md5_are_those_that_keras_asks_for(model: KnownModel, keras: Any, monkeypatch: pytest.MonkeyPatch):
    family = model.arch.removesuffix("_large").removesuffix("_small").removesuffix("_v1")
    module = importlib.import_module(f"keras.src.applications.{family}")
    builder = {
        "mobilenet_v1": "MobileNet",
        "mobilenet_v2": "MobileNetV2",
        "mobilenet_v3_large": "MobileNetV3Large",
        "mobilenet_v3_small": "MobileNetV3Small",
    }[model.arch]

    def get_file(name: str, origin: str, cache_subdir: str, file_hash: str | None = None) -> str:
        raise _AskedError(name, origin, file_hash)

    monkeypatch.setattr(module, "layers", _AnyLayers())
    monkeypatch.setattr(module, "Functional", lambda *_, **__: None)
    monkeypatch.setattr(module.file_utils, "get_file", get_file)
    monkeypatch.delenv("NPMOBILENET_MIRROR", raising=False)

    with pytest.raises(_AskedError) as asked:
        getattr(keras.applications, builder)(
            input_shape=(model.resolution, model.resolution, 3),
            alpha=model.alpha,
            include_top=model.include_top,
            weights="imagenet",
            **({"minimalistic": True} if model.minimalistic else {}),
        )

    assert asked.value.args == (model.file_name, model.url, model.md5)


@pytest.mark.parametrize("model", KNOWN_MODELS, ids=lambda model: model.name)
def test_accuracy_is_the_published_one(model: KnownModel):
    table = json.loads(real_file("published-costs.json").read_text())
    network = {
        "mobilenet_v1": "MobileNetV1",
        "mobilenet_v2": "MobileNetV2",
        "mobilenet_v3_large": "MobileNetV3-Large",
        "mobilenet_v3_small": "MobileNetV3-Small",
    }[model.arch] + (" minimalistic" if model.minimalistic else "")
    if "keras.io" in model.accuracy_source:
        network = network.replace("V1", "")
    source = re.sub(r"^.*, ", "", model.accuracy_source)

    published = {
        row["metric"]: row["value"]
        for row in table["rows"]
        if row["source"].startswith(source)
        and (row["model"], row["alpha"], row["resolution"]) == (network, model.alpha, model.resolution)
        and row["metric"] in {"top1", "top5"}
    }

    assert published == {k: v for k, v in {"top1": model.top1, "top5": model.top5}.items() if v is not None}


def test_weights_without_classifier_have_no_accuracy():
    assert all(without_top(model).top1 is without_top(model).top5 is None for model in KNOWN_MODELS)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("mobilenet_v1_1.0_224", 4_253_864, 568_740_352),
        ("mobilenet_v1_1.0_224_no_top", 3_228_864, 567_716_352),
        ("mobilenet_v2_1.0_224", 3_538_984, 300_774_272),
    ],
)
def test_costs_are_counted_on_the_graph(name: str, params: int, macs: int):
    assert (find_model(name).params, find_model(name).macs) == (params, macs)


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.name)
def test_every_model_is_found_by_its_name_and_by_its_file(model: KnownModel):
    assert find_model(model.name) == find_model(model.file_name) == model


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("mobilenet_v2", "mobilenet_v2_1.0_224"),
        ("MobileNet", "mobilenet_v1_1.0_224"),
        ("MobileNetV1", "mobilenet_v1_1.0_224"),
        ("MobileNetV2", "mobilenet_v2_1.0_224"),
        ("MobileNetV3Small", "mobilenet_v3_small_1.0_224"),
        ("mobilenet-v3-large-minimalistic", "mobilenet_v3_large_minimalistic_1.0_224"),
        ("mobilenet_0.25_128", "mobilenet_v1_0.25_128"),
        ("mobilenetv2_0.35_96", "mobilenet_v2_0.35_96"),
        ("mobilenet_7_5_192_tf", "mobilenet_v1_0.75_192"),
        ("mobilenet_v2_no_top", "mobilenet_v2_1.0_224_no_top"),
    ],
)
def test_usual_spellings_are_found(spelling: str, name: str):
    assert find_model(spelling).name == name


def test_kerass_own_model_names_are_found(keras: Any):
    for builder, alpha, side in (("MobileNet", 0.25, 128), ("MobileNetV2", 0.35, 96)):
        network = getattr(keras.applications, builder)(input_shape=(side, side, 3), alpha=alpha, weights=None)
        assert (find_model(network.name).alpha, find_model(network.name).resolution) == (alpha, side)


def test_a_near_miss_is_told_the_nearest_names():
    with pytest.raises(
        ModelNotFoundError, match=r"mobilenet_v2_1\.0_225: no model .*did you mean mobilenet_v2_1\.0_224"
    ):
        find_model("mobilenet_v2_1.0_225")


def test_an_unknown_name_is_told_where_the_list_is():
    with pytest.raises(
        ModelNotFoundError, match=r"resnet50: no model of this name is known; `npmobilenet models` lists"
    ):
        find_model("resnet50")


def test_knowing_the_models_loads_nothing_heavy():
    code = (
        "import sys, npmobilenet.hub.registry as r; r.find_model('MobileNetV2').macs; "
        "sys.exit(bool({'pooch', 'requests', 'rich', 'h5py', 'numba', 'PIL', 'safetensors'} & set(sys.modules)))"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- a server on this machine


@dataclass
class Server:
    """Files over HTTP, served as badly as a test wants it."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range) of each request
    answers: list[int] = field(default_factory=list)  # statuses to answer with before it serves
    cuts: list[int] = field(default_factory=list)  # for each of the next answers: bytes of its body before it hangs up
    ranges: bool = True
    mark: str | None = "ETag"
    chunked: bool = False
    pause: float = 0.0  # seconds between pieces of PIECE bytes
    silence: float = 0.0  # seconds of it before the body

    PIECE = 20_000


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append((self.path, asked))
            status = server.answers.pop(0) if server.answers else 200
            contents = server.files.get(self.path.lstrip("/"))
            if contents is None or status != 200:
                self.send_error(404 if contents is None else status)
                return
            tag = f'"{hashlib.sha256(contents).hexdigest()[:16]}"'
            date = f"Sat, 01 Jan 2022 00:00:{len(contents) % 60:02} GMT"
            mark = {"ETag": tag, "Last-Modified": date, None: ""}[server.mark]
            start = 0
            if server.ranges and asked and self.headers.get("If-Range") == mark:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start > len(contents):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
            if server.mark:
                self.send_header(server.mark, mark)
            if server.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(contents) - start))
            self.end_headers()
            self._send(contents[start:])

        def _send(self, body: bytes) -> None:
            cut = server.cuts.pop(0) if server.cuts else None
            time.sleep(server.silence)
            try:
                for at in range(0, len(body[:cut]), server.PIECE):
                    piece = body[:cut][at : at + server.PIECE]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if server.chunked else piece)
                    self.wfile.flush()
                    time.sleep(server.pause)
                if server.chunked and cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass  # the client has gone
            self.close_connection = cut is not None or self.close_connection

    return Handler


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror on this machine, which the cache folder of the test fetches from, without waits between tries."""
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setenv("NPMOBILENET_MIRROR", state.address)
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "RETRY_WAITS", (0.0, 0.0))
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def weight_file(seed: int = 0, size: int = 300_000) -> bytes:
    """An HDF5 file; what it holds is for the converter to judge."""
    with h5py.File("weights.h5", "w", driver="core", backing_store=False) as file:
        file["kernel"] = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        file.flush()
        return bytes(file.id.get_file_image())


def files_of(model: KnownModel) -> set[str]:
    """What lies in the folder of the model's file, locks aside."""
    return {path.name for path in source_path(model).parent.iterdir() if path.suffix != ".lock"}


def ranges(server: Server) -> list[str | None]:
    return [asked for _, asked in server.asked]


# ---------------------------------------------------------------- fetching


def test_a_file_is_fetched_once_to_the_path_that_keras_has(server: Server, tmp_path: Path):
    server.files[V1.url_path] = weight_file()

    paths = {fetch_source(V1) for _ in range(3)}

    assert paths == {tmp_path / "cache" / "keras" / "mobilenet" / "mobilenet_2_5_128_tf.h5"}
    assert paths.pop().read_bytes() == server.files[V1.url_path]
    assert server.asked == [("/mobilenet/mobilenet_2_5_128_tf.h5", None)]
    assert files_of(V1) == {V1.file_name}


def test_the_sha256_of_a_file_without_published_hash_is_shown_and_remembered(server: Server, capsys, tmp_path: Path):
    server.files[V1.url_path] = weight_file()
    digest = hashlib.sha256(server.files[V1.url_path]).hexdigest()

    fetch_source(V1)

    output = capsys.readouterr()
    assert output.out == ""
    assert f"{V1.file_name}: SHA-256 {digest}; remembered in" in output.err
    assert json.loads((tmp_path / "cache" / "sha256.json").read_text()) == {f"keras/{V1.url_path}": digest}


def test_nothing_is_said_when_no_progress_is_wanted(server: Server, capsys):
    server.files[V1.url_path] = weight_file()

    fetch_source(V1, progress=False)

    assert capsys.readouterr() == ("", "")


def test_a_published_md5_is_checked(server: Server, monkeypatch: pytest.MonkeyPatch):
    server.files[V3.url_path] = weight_file()
    right = registry.replace(V3, md5=hashlib.md5(weight_file(), usedforsecurity=False).hexdigest())

    with pytest.raises(
        DownloadError, match=rf"does not match the known hash: expected md5:{V3.md5} but got {right.md5}"
    ):
        fetch_source(V3)
    assert files_of(V3) == set()

    assert fetch_source(right).read_bytes() == weight_file()


def test_a_file_that_changed_on_the_server_is_refused(server: Server, tmp_path: Path):
    server.files[V1.url_path] = weight_file(seed=0)
    fetch_source(V1).unlink()
    server.files[V1.url_path] = weight_file(seed=1)
    old, new = (hashlib.sha256(weight_file(seed)).hexdigest() for seed in (0, 1))

    with pytest.raises(DownloadError, match=rf"expected sha256:{old} but got {new}") as refusal:
        fetch_source(V1)

    assert f"remove keras/{V1.url_path} from {tmp_path / 'cache' / 'sha256.json'}" in str(refusal.value)
    assert files_of(V1) == set()


def test_a_file_damaged_in_the_cache_is_fetched_anew(server: Server):
    server.files[V1.url_path] = weight_file()
    path = fetch_source(V1)
    path.write_bytes(weight_file()[:-1])

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.asked) == 2


@pytest.mark.parametrize("mark", ["ETag", "Last-Modified"])
def test_a_download_cut_off_halfway_goes_on_where_it_stopped(server: Server, mark: str):
    server.files[V1.url_path] = weight_file()
    server.mark, server.cuts = mark, [HALF]

    assert fetch_source(V1).read_bytes() == weight_file()

    first, second = ranges(server)
    assert first is None
    assert second == f"bytes={HALF}-"
    assert files_of(V1) == {V1.file_name}


def test_a_cut_is_noticed_where_urllib3_takes_it_for_the_end(server: Server, monkeypatch: pytest.MonkeyPatch):
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def send_as_urllib3_1_does(*args: Any, **kwargs: Any) -> Any:
        response = send(*args, **kwargs)
        response.raw.enforce_content_length = False
        return response

    monkeypatch.setattr(HTTPAdapter, "send", send_as_urllib3_1_does)
    server.files[V1.url_path] = weight_file()
    server.cuts = [HALF]

    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server) == [None, f"bytes={HALF}-"]


def test_a_bad_line_that_brings_some_bytes_each_time_gets_there(server: Server):
    server.files[V1.url_path] = weight_file()
    step = 4 * download.CHUNK
    server.cuts = [step] * 9  # far more often than there are waits between tries

    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server) == [None, *(f"bytes={at}-" for at in range(step, len(weight_file()), step))]


def test_a_download_that_ends_in_vain_is_continued_by_the_next_call(server: Server):
    server.files[V1.url_path] = weight_file()
    server.cuts = [HALF, 0, 0]

    with pytest.raises(
        DownloadError, match=rf"cut off; {HALF:,} bytes of it are here, the next try goes on from there"
    ):
        fetch_source(V1)
    assert files_of(V1) == {f"{V1.file_name}.part", f"{V1.file_name}.part.from"}

    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server)[-1] == f"bytes={HALF}-"
    assert files_of(V1) == {V1.file_name}


def test_a_process_killed_in_the_middle_leaves_a_part_that_the_next_one_continues(server: Server):
    server.files[V1.url_path] = weight_file()
    server.pause = 0.1
    part = source_path(V1).with_name(f"{V1.file_name}.part")
    process = subprocess.Popen([sys.executable, "-c", FETCH, V1.name])
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.pause = 0.0
    kept = part.stat().st_size

    assert not source_path(V1).exists()
    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server) == [None, f"bytes={kept}-"]


FETCH = "import sys; from npmobilenet.hub.registry import *; print(fetch_source(find_model(sys.argv[1])))"


@pytest.mark.parametrize("without", ["ranges", "mark"])
def test_a_server_that_cannot_resume_is_asked_for_all_of_it_again(server: Server, without: str):
    server.files[V1.url_path] = weight_file()
    server.cuts = [HALF]
    if without == "ranges":
        server.ranges = False
    else:
        server.mark = None

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.asked) == 2


def test_halves_of_two_versions_are_never_joined(server: Server):
    server.files[V1.url_path] = weight_file(seed=0)
    server.cuts = [HALF, 0, 0]
    with pytest.raises(DownloadError):
        fetch_source(V1)
    server.files[V1.url_path] = weight_file(seed=1)

    assert fetch_source(V1).read_bytes() == weight_file(seed=1)
    assert ranges(server)[-1] == f"bytes={HALF}-"


def test_a_part_from_another_address_is_not_continued(server: Server, monkeypatch: pytest.MonkeyPatch):
    server.files[V1.url_path] = server.files[f"other/{V1.url_path}"] = weight_file()
    server.cuts = [HALF, 0, 0]
    with pytest.raises(DownloadError):
        fetch_source(V1)
    monkeypatch.setenv("NPMOBILENET_MIRROR", f"{server.address}/other/")

    assert fetch_source(V1).read_bytes() == weight_file()
    assert server.asked[-1] == (f"/other/{V1.url_path}", None)


def test_a_part_longer_than_the_file_is_dropped(server: Server):
    server.files[V1.url_path] = weight_file()
    server.cuts = [HALF, 0, 0]
    with pytest.raises(DownloadError):
        fetch_source(V1)
    part = source_path(V1).with_name(f"{V1.file_name}.part")
    part.write_bytes(bytes(400_000))

    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server)[-2:] == ["bytes=400000-", None]


def test_a_server_that_does_not_tell_the_length_is_heard_to_the_end(server: Server):
    server.files[V1.url_path] = weight_file()
    server.chunked, server.cuts = True, [HALF]

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.asked) == 2


def test_a_server_that_is_busy_is_asked_again(server: Server):
    server.files[V1.url_path] = weight_file()
    server.answers = [503, 429]

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.asked) == 3


def test_404_is_told_at_once_and_not_tried_again(server: Server):
    with pytest.raises(DownloadError, match=rf"{server.address}/{V1.url_path}: the server answers 404 Not Found"):
        fetch_source(V1)
    assert len(server.asked) == 1


def test_a_server_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.1)
    server.files[V1.url_path] = weight_file()
    server.silence = 0.4

    with pytest.raises(DownloadError, match=r"the server is silent \(waited 10 s to connect, 0\.1 s for each byte\)"):
        fetch_source(V1)
    assert len(server.asked) == 3


def test_a_slow_server_is_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 1.0)
    server.files[V1.url_path] = weight_file()
    server.pause = 0.1  # in all longer than the limit, which is on silence

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.asked) == 1


def test_a_server_that_sends_on_and_on_is_left(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    server.files[V1.url_path] = weight_file()

    with pytest.raises(DownloadError, match=r"sends more than 100,000 bytes"):
        fetch_source(V1)
    assert files_of(V1) == set()


def test_without_a_server_the_error_names_the_file_its_place_and_the_two_ways_on(server: Server, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("NPMOBILENET_MIRROR", f"http://127.0.0.1:{port}")

    with pytest.raises(DownloadError) as error:
        fetch_source(V1)

    text = str(error.value)
    assert text.startswith(f"{V1.name}: http://127.0.0.1:{port}/{V1.url_path}: there is no connection")
    assert str(source_path(V1)) in text
    assert V1.file_name in text
    assert "--model FILE" in text
    assert "--model digits" in text


def test_a_server_without_a_trusted_certificate_is_told_at_once(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPMOBILENET_MIRROR", server.address.replace("http:", "https:"))

    with pytest.raises(DownloadError, match=r"no connection that can be trusted \(.*SSL"):
        fetch_source(V1)


def test_a_proxy_that_does_not_answer_is_named(server: Server, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://example.invalid")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("http_proxy", raising=False)

    with pytest.raises(DownloadError, match=r"the proxy in HTTP_PROXY or HTTPS_PROXY does not answer"):
        fetch_source(V1)


def test_a_file_put_there_by_hand_is_taken_without_a_network(server: Server):
    source_path(V1).parent.mkdir(parents=True)
    source_path(V1).write_bytes(weight_file())

    assert fetch_source(V1).read_bytes() == weight_file()
    assert server.asked == []


def test_a_wrong_file_put_there_by_hand_is_named(server: Server):
    source_path(V1).parent.mkdir(parents=True)
    source_path(V1).write_bytes(b"<!DOCTYPE html>")

    with pytest.raises(DownloadError, match=r"no HDF5 file.*<!DOCTYPE(?s:.*)is there, but is not the file expected"):
        fetch_source(V1)
    assert source_path(V1).read_bytes() == b"<!DOCTYPE html>"


@pytest.mark.parametrize("contents", [b"<html>please log in</html>", b"", weight_file()[:1000]])
def test_what_is_no_weight_file_is_neither_kept_nor_remembered(server: Server, contents: bytes, tmp_path: Path):
    server.files[V1.url_path] = contents

    with pytest.raises(DownloadError, match=r"no HDF5 file, or only a part of one"):
        fetch_source(V1)

    assert files_of(V1) == set()
    assert not (tmp_path / "cache" / "sha256.json").exists()


def test_two_processes_that_ask_at_once_fetch_once(server: Server):
    server.files[V1.url_path] = weight_file()
    server.pause = 0.05

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, V1.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert [out.strip() for out, _ in outputs] == [str(source_path(V1))] * 2
    assert source_path(V1).read_bytes() == weight_file()
    assert len(server.asked) == 1
    assert files_of(V1) == {V1.file_name}


def test_different_files_fetched_at_once_are_all_remembered(server: Server, tmp_path: Path):
    models = [model for model in KNOWN_MODELS if model.md5 is None][:8]
    server.files |= {model.url_path: weight_file(seed) for seed, model in enumerate(models)}

    threads = [threading.Thread(target=fetch_source, args=[model]) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert json.loads((tmp_path / "cache" / "sha256.json").read_text()) == {
        f"keras/{model.url_path}": hashlib.sha256(server.files[model.url_path]).hexdigest() for model in models
    }


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_a_terminal_sees_a_bar(server: Server):
    import pty

    server.files[V1.url_path] = weight_file()
    server.pause = 0.05
    master, slave = pty.openpty()

    subprocess.run([sys.executable, "-c", FETCH, V1.name], stdout=subprocess.PIPE, stderr=slave, check=True)
    os.close(slave)
    screen = os.read(master, 100_000).decode()
    os.close(master)

    assert "━" in screen
    assert "kB" in screen


@pytest.mark.parametrize("mirror", ["ftp://example.org", "/some/folder", "https://"])
def test_a_mirror_that_is_no_address_is_refused(mirror: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPMOBILENET_MIRROR", mirror)

    with pytest.raises(DownloadError, match=r"NPMOBILENET_MIRROR is .*; needed is an address, as https://storage"):
        _ = V1.url


def test_a_cache_folder_that_cannot_be_written_is_named(server: Server, monkeypatch, tmp_path: Path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path / "file"))

    with pytest.raises(DownloadError, match=r"cannot be written .*NPMOBILENET_CACHE names another"):
        fetch_source(V1)


@pytest.mark.parametrize("contents", ["{", "[1]"])
def test_a_damaged_list_of_hashes_is_named(server: Server, contents: str, tmp_path: Path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "sha256.json").write_text(contents)

    with pytest.raises(DownloadError, match=r"sha256\.json: is damaged .*delete it to start over"):
        fetch_source(V1)


def test_the_cache_folder_is_the_systems_where_none_is_named(monkeypatch: pytest.MonkeyPatch):
    import platformdirs

    monkeypatch.delenv("NPMOBILENET_CACHE", raising=False)

    assert registry.cache_folder() == Path(platformdirs.user_cache_dir("npmobilenet"))


# ---------------------------------------------------------------- fetched and converted


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models converted, by a converter that only copies."""
    converted = []

    def convert(source: Path, destination: Path, model: KnownModel) -> None:
        converted.append(model.name)
        destination.write_bytes(source.read_bytes()[::-1])

    monkeypatch.setattr(registry, "_convert", convert)
    return converted


def test_a_model_is_converted_once(server: Server, conversions: list[str]):
    server.files[V1.url_path] = weight_file()

    paths = {locate(name) for name in (V1.name, V1.file_name, V1.name)}

    assert paths == {converted_path(V1)}
    assert paths.pop().read_bytes() == weight_file()[::-1]
    assert conversions == [V1.name]
    assert len(server.asked) == 1


def test_a_damaged_conversion_is_made_anew_from_the_file_that_is_here(server: Server, conversions: list[str]):
    server.files[V1.url_path] = weight_file()
    path = locate(V1.name)
    path.write_bytes(path.read_bytes()[:-1])

    assert locate(V1.name).read_bytes() == weight_file()[::-1]
    assert conversions == [V1.name] * 2
    assert len(server.asked) == 1


def test_a_converted_model_needs_no_network_and_no_right_to_write(server: Server, conversions: list[str], monkeypatch):
    server.files[V1.url_path] = weight_file()
    path = locate(V1.name)
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr(registry, "_lock", None)

    assert locate(V1.name) == path


def test_a_file_that_does_not_fit_its_network_is_not_kept(server: Server, monkeypatch, tmp_path: Path):
    server.files[V1.url_path] = weight_file(seed=0)

    def refuse(source: Path, destination: Path, model: KnownModel) -> None:
        raise WeightsError("these are other weights")

    monkeypatch.setattr(registry, "_convert", refuse)
    with pytest.raises(WeightsError, match="these are other weights"):
        locate(V1.name)
    server.files[V1.url_path] = weight_file(seed=1)

    assert json.loads((tmp_path / "cache" / "sha256.json").read_text()) == {}
    assert fetch_source(V1).read_bytes() == weight_file(seed=1)


def test_an_unknown_name_is_not_asked_for(server: Server):
    with pytest.raises(ModelNotFoundError):
        locate("resnet50")
    assert server.asked == []


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_224", "mobilenet_v2_1.0_224"])
def test_a_name_gives_the_network_that_its_file_gives(name: str, server: Server):
    file, panda = real_file("weights", f"{name}_imagenet.h5"), real_file("images", "panda.jpg")
    server.files[find_model(name).url_path] = file.read_bytes()

    by_name = load(name, backend="reference").classify(panda)

    assert by_name[0][0][:2] == ("n02510455", "giant_panda")
    assert by_name == load(file, backend="reference").classify(panda)


def test_weights_of_another_alpha_are_refused(server: Server):
    file = real_file("weights", "mobilenet_v1_0.25_224_imagenet.h5")
    server.files[find_model("mobilenet_v1_0.5_224").url_path] = file.read_bytes()

    with pytest.raises(WeightsError, match=r"0\.25"):
        locate("mobilenet_v1_0.5_224")
    assert not converted_path(find_model("mobilenet_v1_0.5_224")).exists()
