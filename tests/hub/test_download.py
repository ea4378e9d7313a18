"""Downloads: whatever the connection does, the file arrives complete or not at all."""

import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from npmobilenet.errors import DownloadError
from npmobilenet.hub import download
from npmobilenet.hub.cache import fetch_source, source_path
from tests.helpers.download_server import FETCH, V1, Server, files_of, ranges, weight_file

HALF = 18 * download.CHUNK  # bytes of a weight_file before the connection is cut


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_an_interrupted_download_resumes_where_it_stopped(server: Server, validator: str) -> None:
    server.files[V1.url_path] = weight_file()
    server.validator, server.cuts = validator, [HALF]

    assert fetch_source(V1).read_bytes() == weight_file()

    first, second = ranges(server)
    assert first is None
    assert second == f"bytes={HALF}-"
    assert files_of(V1) == {V1.file_name}


def test_a_broken_connection_is_detected_where_urllib3_takes_it_for_the_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_bad_connection_that_makes_progress_each_time_completes(server: Server) -> None:
    server.files[V1.url_path] = weight_file()
    step = 4 * download.CHUNK
    server.cuts = [step] * 9  # far more often than there are waits between tries

    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server) == [None, *(f"bytes={at}-" for at in range(step, len(weight_file()), step))]


def test_a_failed_download_is_resumed_by_the_next_call(server: Server) -> None:
    server.files[V1.url_path] = weight_file()
    server.cuts = [HALF, 0, 0]

    with pytest.raises(DownloadError, match=rf"interrupted; {HALF:,} bytes downloaded, the next attempt resumes"):
        fetch_source(V1)
    assert files_of(V1) == {f"{V1.file_name}.part", f"{V1.file_name}.part.from"}

    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server)[-1] == f"bytes={HALF}-"
    assert files_of(V1) == {V1.file_name}


def test_a_killed_process_leaves_a_part_that_the_next_one_resumes(server: Server) -> None:
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


@pytest.mark.parametrize("without", ["ranges", "validator"])
def test_a_server_that_cannot_resume_sends_the_whole_file_again(server: Server, without: str) -> None:
    server.files[V1.url_path] = weight_file()
    server.cuts = [HALF]
    if without == "ranges":
        server.ranges = False
    else:
        server.validator = None

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.requests) == 2


def test_parts_of_two_versions_are_never_joined(server: Server) -> None:
    server.files[V1.url_path] = weight_file(seed=0)
    server.cuts = [HALF, 0, 0]
    with pytest.raises(DownloadError):
        fetch_source(V1)
    server.files[V1.url_path] = weight_file(seed=1)

    assert fetch_source(V1).read_bytes() == weight_file(seed=1)
    assert ranges(server)[-1] == f"bytes={HALF}-"


def test_a_part_from_another_url_is_not_resumed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files[V1.url_path] = server.files[f"other/{V1.url_path}"] = weight_file()
    server.cuts = [HALF, 0, 0]
    with pytest.raises(DownloadError):
        fetch_source(V1)
    monkeypatch.setenv("NPMOBILENET_MIRROR", f"{server.address}/other/")

    assert fetch_source(V1).read_bytes() == weight_file()
    assert server.requests[-1] == (f"/other/{V1.url_path}", None)


def test_a_part_longer_than_the_file_is_discarded(server: Server) -> None:
    server.files[V1.url_path] = weight_file()
    server.cuts = [HALF, 0, 0]
    with pytest.raises(DownloadError):
        fetch_source(V1)
    part = source_path(V1).with_name(f"{V1.file_name}.part")
    part.write_bytes(bytes(400_000))

    assert fetch_source(V1).read_bytes() == weight_file()
    assert ranges(server)[-2:] == ["bytes=400000-", None]


def test_a_response_without_a_length_is_read_to_the_end(server: Server) -> None:
    server.files[V1.url_path] = weight_file()
    server.chunked, server.cuts = True, [HALF]

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.requests) == 2


def test_a_busy_server_is_retried(server: Server) -> None:
    server.files[V1.url_path] = weight_file()
    server.statuses = [503, 429]

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.requests) == 3


def test_404_is_reported_at_once_and_not_retried(server: Server) -> None:
    with pytest.raises(DownloadError, match=rf"{server.address}/{V1.url_path}: HTTP status 404 Not Found"):
        fetch_source(V1)
    assert len(server.requests) == 1


def test_a_stalled_server_times_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.1)
    server.files[V1.url_path] = weight_file()
    server.silence = 0.4

    with pytest.raises(DownloadError, match=r"timed out \(limits: 10 s to connect, 0\.1 s per read\)"):
        fetch_source(V1)
    assert len(server.requests) == 3


def test_a_slow_server_does_not_time_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 1.0)
    server.files[V1.url_path] = weight_file()
    server.pause = 0.1  # in all longer than the limit, which is on silence

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.requests) == 1


def test_an_endless_response_is_aborted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    server.files[V1.url_path] = weight_file()

    with pytest.raises(DownloadError, match=r"sends more than 100,000 bytes"):
        fetch_source(V1)
    assert files_of(V1) == set()


def test_a_server_without_a_trusted_certificate_is_reported_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPMOBILENET_MIRROR", server.address.replace("http:", "https:"))

    with pytest.raises(DownloadError, match=r"certificate is not trusted \(.*SSL"):
        fetch_source(V1)


def test_an_unreachable_proxy_is_reported(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://example.invalid")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("http_proxy", raising=False)

    with pytest.raises(DownloadError, match=r"the proxy in HTTP_PROXY or HTTPS_PROXY is not reachable"):
        fetch_source(V1)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_a_terminal_shows_a_progress_bar(server: Server) -> None:
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
